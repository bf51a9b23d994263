"""What a training step costs on devices that are not there, read off compiled programs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import pytest

from fgan import compile_check
from fgan.compile_check import CHIPS, Check, Collective, product_flops, step_collectives, weak_scaling
from fgan.config import Config, ConfigError, Critic, Data, Game, Generator, Log, Parallel
from fgan.data import load
from fgan.rundir import ResourceError

BASE = Config(
    batch=2048,
    data=Data(name="two_moons"),
    generator=Generator(features=(256, 256)),
    critic=Critic(features=(256, 256)),
    log=Log(every=10, evaluate=10, checkpoint=10),
)
CASES = {
    "js": BASE,
    "donsker_varadhan": dataclasses.replace(BASE, divergence="kl", critic=Critic(bound="donsker_varadhan")),
    "normalise": dataclasses.replace(BASE, game=Game(normalise=True)),
}
MOST = {"js": (1, 1), "donsker_varadhan": (3, 3), "normalise": (1, 2)}
"""All-reduces of a critic and of a generator update."""

PROGRAM = """
import dataclasses, json

import jax

from fgan.compile_check import compiled_chunk, step_collectives
from fgan.config import Generator, Parallel
from fgan.data import load
from tests.test_compile_check import BASE, CASES

def updates(config):
    compiled, _ = compiled_chunk(config, load(config.data), tuple(jax.devices()))
    return [c.update for c in step_collectives(compiled.as_text()) if c.kind == "all-reduce"]

small = {name: dataclasses.replace(config, batch=16, generator=Generator(features=(8,))) for name, config in CASES.items()}
print(json.dumps({
    engine: {name: updates(dataclasses.replace(config, parallel=Parallel(engine=engine)))
             for name, config in small.items()}
    for engine in ("pmap", "sharded")
}))
"""


@pytest.fixture(scope="module")
def on_cpus() -> dict:
    """The update that each all-reduce of a step belongs to, by engine and case, on 8 virtual CPU devices."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # compile quickly
    root = os.path.dirname(os.path.dirname(__file__))
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join([root, *sys.path])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("engine", ["pmap", "sharded"])
@pytest.mark.parametrize("name", CASES)
def test_all_reduces_on_cpus(on_cpus, engine, name):
    found = on_cpus[engine][name]
    assert (found.count("critic"), found.count("generator")) == MOST[name]

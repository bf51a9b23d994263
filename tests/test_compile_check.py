"""What a training step costs on devices that are not there, read off compiled programs."""

import dataclasses
import importlib.util
import itertools
import json
import os
import subprocess
import sys

import jax
import pytest

from fgan.cli.main import main
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Game, Generator, Log
from fgan.data.sources import load
from fgan.devices import compile_check
from fgan.devices.compile_check import (
    CHIP_COUNTS,
    CHIPS,
    Check,
    Collective,
    CompilerBusy,
    product_flops,
    step_collectives,
    weak_scaling,
)
from fgan.devices.engines import Layout
from fgan.run.program import described

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
"""All-reduces of a critic and of a generator update: gradients, and what they need of the whole batch before."""


def steps(config: Config, n: int, layout: Layout):
    """What `compile_check` is given: the steps of the f-GAN."""
    return described(config, load(config.data), n, layout)


PROGRAM = """
import dataclasses, json, sys

import jax
from test_compile_check import CASES, steps

from fgan.config.schema import Critic, Generator
from fgan.devices.compile_check import step_collectives
from fgan.devices.compile_check import compiled_chunk
from fgan.devices.engines import Layout


def updates(config, engine):
    critic = dataclasses.replace(config.critic, features=(8,))
    small = dataclasses.replace(config, batch=16, generator=Generator(features=(8,)), critic=critic)
    compiled = compiled_chunk(small, 10, Layout(tuple(jax.devices()), engine), steps)
    return [c.update for c in step_collectives(compiled.as_text()) if c.kind == "all-reduce"]


names = sys.argv[1:]
print(json.dumps({engine: {name: updates(CASES[name], engine) for name in names} for engine in ("pmap", "sharded")}))
"""


def on_cpus(*names: str) -> dict:
    """The update that each all-reduce of a step belongs to, by engine and case, on 8 virtual CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, *names]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("names", [["donsker_varadhan"], ["js", "normalise"]])
def test_an_update_takes_few_all_reduces_on_cpus(names):
    for cases in on_cpus(*names).values():
        for name, found in cases.items():
            assert (found.count("critic"), found.count("generator")) == MOST[name] and len(found) == sum(MOST[name])


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='libtpu is not installed: pip install "fgan[tpu]"'
)
def test_the_step_compiles_for_a_tpu_slice():
    found = compile_check.compile_check(BASE, "v5e:2x4", steps)
    assert (found.chips, found.devices, found.steps) == (8, 8, 10)
    assert (found.all_reduces("critic"), found.all_reduces("generator")) == MOST["js"] and found.all_reduces() == 2
    assert found.flops == pytest.approx(found.products, rel=0.05)
    gradients = sum(x.size for x in jax.tree.leaves(_parameters(BASE)))
    assert sum(c.bytes for c in found.collectives) == pytest.approx(4 * gradients, rel=0.01)
    assert 0 < found.memory < 0.1 * found.chip.memory
    assert found.seconds > found.compute_seconds >= found.flops / found.chip.flops
    assert found.steps and "all-reduces      2 a step" in compile_check.table(found)


def _parameters(config):
    _, (_, _, state, _) = steps(config, 1, Layout(tuple(jax.devices()[:1])))
    return state.generator, state.critic


def test_products_are_counted_from_the_shapes():
    n, d, wide = BASE.batch, 2, 256
    network, first = 2 * (d * wide + wide * wide + wide), 2 * d * wide
    generator = network + 2 * wide  # it has d outputs, the critic one
    critic_update = n * generator + 2 * n * (3 * network - first)
    generator_update = n * (3 * generator - first) + n * 2 * network
    assert product_flops(BASE, steps) == critic_update + generator_update


HLO = """HloModule step

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%inner (p: f32[8]) -> f32[8] {
  ROOT %g = f32[8]{0} all-gather(%p), dimensions={0}
}

%body (s: (f32[4,2], f32[])) -> (f32[4,2], f32[]) {
  %r.1 = (f32[4,2]{1,0:T(8,128)}, bf16[3]{0}) all-reduce(%x, %y), to_apply=%add, metadata={op_name="critic_update/psum"}
  %c = f32[8]{0} fusion(%z), kind=kLoop, calls=%inner
  %r.2 = f32[] all-reduce-start(%w), to_apply=%add, metadata={op_name="a/transpose(jvp(generator_update))/psum"}
  %p.1 = (f32[6]{0}, f32[6]{0}, u32[], u32[]) collective-permute-start(%v), source_target_pairs={{0,1}}
}

%condition (s: (f32[4,2], f32[])) -> pred[] {
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x: f32[4,2]) -> f32[4,2] {
  %once = f32[] all-reduce(%one), to_apply=%add
  %loop = (f32[4,2], f32[]) while(%t), condition=%condition, body=%body
}
"""


def test_collectives_of_a_step_are_those_in_its_loop():
    found = sorted(step_collectives(HLO))
    assert found == [
        Collective("all-gather", 32, ""),
        Collective("all-reduce", 4, "generator"),
        Collective("all-reduce", 38, "critic"),
        Collective("collective-permute", 24, ""),
    ]


def test_bytes_sent_are_those_of_the_best_algorithms():
    assert Collective("all-reduce", 800, "").sent(8) == 1400.0
    # an all-reduce is a reduce-scatter to an eighth, and an all-gather of it
    assert Collective("reduce-scatter", 100, "").sent(8) + Collective("all-gather", 800, "").sent(8) == 1400.0


def _check(**changes) -> Check:
    values = {"topology": "v5e:2x4", "engine": "pmap", "parameters": "replicated", "chips": 8, "devices": 8}
    values |= {"batch": 64, "steps": 10, "arguments": 1, "outputs": 1, "temporaries": 1, "code": 1, "flops": 1e9}
    values |= {"products": 1e9, "bytes": 1e8, "collectives": (Collective("all-reduce", 10**6, "critic"),)}
    return Check(**values | changes)


def test_weak_scaling_keeps_what_is_shared_and_repeats_what_is_not():
    one = _check()
    flat = weak_scaling(one, _check(chips=16, devices=16, batch=128))
    assert [r.chips for r in flat] == list(CHIP_COUNTS) and [r.batch for r in flat] == [8 * n for n in CHIP_COUNTS]
    assert {r.compute for r in flat} == {one.compute_seconds} and flat[0].seconds == pytest.approx(one.seconds)
    assert all(a.messages < b.messages for a, b in itertools.pairwise(flat))
    assert [r.pods for r in flat][-3:] == [1, 2, 4]
    growing = weak_scaling(one, _check(chips=16, devices=16, batch=128, bytes=1.5e8))
    assert growing[-1].compute == pytest.approx(one.compute_seconds * (0.5 + 0.5 * 1024 / 8))


def test_two_devices_share_a_chip():
    halved = _check(topology="v4:2x2x2", devices=16).chip
    assert halved.flops == CHIPS["v4"].flops / 2 and halved.pod == 2 * CHIPS["v4"].pod


@pytest.mark.parametrize("topology", ["hello", "v9:2x2", "v5e", "v5e:", "v5e:2x", "v5e:2x4x4x4", "v5e:2,4"])
def test_a_topology_is_chips_and_a_grid(topology):
    with pytest.raises(ConfigError, match=r"v5e:2x4, v5e:16x16"):
        compile_check.described(topology)


def _libtpu(monkeypatch, answer):
    def describe(**_):
        raise jax.errors.JaxRuntimeError(answer)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(compile_check.topologies, "get_topology_desc", describe)


def test_a_grid_that_libtpu_refuses_is_a_config_error(monkeypatch):
    _libtpu(monkeypatch, 'INVALID_ARGUMENT: Topology layout "v5e:3x5" is not divisible\n more')
    with pytest.raises(ConfigError, match=r"v5e:3x5.*not divisible.*try v5e:2x4"):
        compile_check.described("v5e:3x5")


def test_a_locked_libtpu_ends_with_the_code_of_resources(monkeypatch):
    _libtpu(monkeypatch, 'ABORTED: Internal error when accessing libtpu multi-process lockfile. Run "rm it".')
    with pytest.raises(CompilerBusy, match="ALLOW_MULTIPLE_LIBTPU_LOAD") as caught:
        compile_check.described("v5e:2x4")
    assert caught.value.exit_code == 7


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does(monkeypatch):
    monkeypatch.setattr(compile_check, "described", lambda _: (None,) * 8)
    with pytest.raises(ConfigError, match=r"batch = 12.*8 devices.*--batch 16"):
        compile_check.compile_check(dataclasses.replace(BASE, batch=12), "v5e:2x4", steps)


@pytest.mark.parametrize(
    "words, said",
    [
        (["configs/ring.toml", "--topology", "v5e:2x4"], 'pip install "fgan[tpu]"'),
        (["configs/ring.toml", "--topology", "v5e"], "v5e:16x16"),
        (["configs/ring.toml", "--batches", "3"], "did you mean --batch?"),
        (["nowhere.toml"], "no such config file"),
    ],
)
def test_refusals_are_one_line_and_exit_2(monkeypatch, capsys, words, said):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "libtpu" else found(name))
    for name in ("JAX_PLATFORMS", "TPU_SKIP_MDS_QUERY", "TPU_WORKER_HOSTNAMES", "TPU_ACCELERATOR_TYPE"):
        monkeypatch.setenv(name, os.environ.get(name, "cpu"))  # so that what the command sets is undone
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        main(["compile-check", *words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count("\n") == 1 and said in error

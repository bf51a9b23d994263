"""One device or eight, the same numbers: a batch spread over devices takes the step of the whole batch."""

import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from models_for_tests import NAME

from estimators.critics.kernel import ALONE, DRAWN, Replicas, steps
from fgan.devices import engines
from fgan.models.penalties import PENALTIES

PROGRAM = """
import dataclasses, functools, json, sys

import jax
import jax.numpy as jnp
import numpy as np

from models_for_tests import ABOUT, NAME, build

from fgan.devices import engines
from fgan.config.schema import Config, Critic, Data, Generator, Optimizer
from fgan.data.sources import load
from fgan.models.model import MODELS
from fgan.run.program import chunk, fresh, seed_numbers

MODELS.add(NAME, ABOUT, build)

SGD = Optimizer(name="sgd", b1=0.0, learning_rate=1e-2)
BASE = Config(
    batch=16,
    data=Data(name="mixture_1d"),
    generator=Generator(kind="location_scale", latent=1),
    critic=Critic(features=(8,)),
    generator_optimizer=SGD,
    critic_optimizer=SGD,
)
DATA = load(BASE.data)
HELD = dataclasses.replace(DATA, target=None, rows=np.random.default_rng(0).normal(size=(37, 1)).astype(np.float32))
SEEDS = seed_numbers(BASE)


def data_of(name):
    return HELD if "rows" in name else DATA


@functools.cache
def start(**fields):
    return fresh(dataclasses.replace(BASE, **fields), DATA)


def begun(config):
    # what the state is made of depends on nothing else that the cases change
    names = ("model", "generator", "instance_noise", "generator_optimizer", "critic_optimizer")
    return start(**{name: getattr(config, name) for name in names})


def changed(changes):
    groups = {k: dataclasses.replace(getattr(BASE, k), **v) for k, v in changes.items() if isinstance(v, dict)}
    return dataclasses.replace(BASE, **changes | groups)


def trained(configs, n, *how, steps=3):
    # two calls, the second on the arrays that the first returned; one program, to compile it once
    def on(replicas):
        runs = {name: chunk(config, data_of(name), steps)(replicas) for name, config in configs.items()}

        def run(held, states, start):
            return {name: run(held, SEEDS, states[name][0], start) for name, run in runs.items()}

        return run

    states = {name: (begun(config), None) for name, config in configs.items()}
    layout = engines.Layout(tuple(jax.devices()[:n]), *how)
    held = engines.slices(HELD.rows, layout)
    compiled = engines.compile_chunk(on, (held, {k: v[:1] for k, v in states.items()}, jnp.int32(0)), layout)
    for start in (0, steps):
        states = jax.block_until_ready(compiled(held, {k: v[:1] for k, v in states.items()}, jnp.int32(start)))
    return states


def difference(one, other):
    def relative(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return float(np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(a))))

    return max(map(relative, *(jax.tree.leaves(jax.device_get(tree)) for tree in (one, other))))


def numbers(state):
    # less the steps it counts
    return [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]


def refusal(config):
    try:
        trained({"refused": config}, 8)
    except ValueError as error:
        return str(error)


plans = json.loads(sys.argv[1])
cases = {}
one = {}
for label, plan in plans.items():
    configs = {name: changed(changes) for name, changes in plan["cases"].items()}
    steps = plan.get("steps", 3)
    one |= trained({name: config for name, config in configs.items() if name not in one}, 1, steps=steps)
    several = trained(configs, plan["devices"], *plan["how"], steps=steps)
    cases[label] = {
        name: {
            "state": difference(one[name][0], several[name][0]),
            "metrics": difference(one[name][1], several[name][1]),
            "moved": difference(*map(numbers, (begun(configs[name]), one[name][0]))),
            "skipped": float(one[name][1]["skipped"][0]),
            "divided": any(not x.is_fully_replicated for x in jax.tree.leaves(several[name][0])),
        }
        for name in configs
    }
devices = {"devices": jax.device_count(), "described": engines.describe()}
print(json.dumps(devices | {"cases": cases, "refused": refusal(dataclasses.replace(BASE, batch=12))}))
"""

WHOLE_RUN = """
import json, sys
from pathlib import Path

from fgan.config.schema import Config, Critic, Generator, Log
from fgan.run.members import restore
from fgan.run.loop import train

def config(steps):
    log = Log(every=10, evaluate=20, checkpoint=20, samples=16)
    return Config(steps=steps, batch=16, generator=Generator(features=(8,)), critic=Critic(features=(8,)), log=log)

root = Path(sys.argv[1])
train(config(40), root / "straight", quiet=True)
train(config(20), root / "resumed", quiet=True)
train(config(40), root / "resumed", quiet=True)
print(json.dumps(restore(root / "resumed").sample(3).tolist()))
"""


def run(program: str, argument: str, devices: int) -> dict | list:
    """What `program` prints as JSON, in a process of its own with that many virtual CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}
    if cache := jax.config.jax_compilation_cache_dir:
        env |= {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**28)}
    command = [sys.executable, "-c", program, argument]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


FURTHER = {name: {"divergence": name} for name in ("reverse_kl", "pearson", "gan")}
CASES = {
    "js": {"divergence": "js"},
    "total_variation": {"divergence": "total_variation"},
    "donsker_varadhan": {"divergence": "kl", "critic": {"bound": "donsker_varadhan"}},
    "r1 and r2, three critic steps": {"penalty": {"names": ["r1", "r2"]}, "game": {"critic_steps": 3}},
    "instance noise, normalised, penalty": {
        "instance_noise": {"start": 0.5},
        "critic": {"output_bound": 0.1, "out_of_bound_penalty": 1.0},
        "game": {"normalise": True},
        "penalty": {"names": ["dragan"], "weight": 0.1},
    },
    "every penalty": {
        "instance_noise": {"start": 0.5},
        "critic": {"output_bound": 0.1, "out_of_bound_penalty": 1.0},
        "game": {"normalise": True},
        "penalty": {"names": list(PENALTIES), "weight": 0.1},
    },
    "rows, two critic steps": {"game": {"critic_steps": 2}},
    "three generator batches": {
        "game": {"generator_batches": 3, "update": "simultaneous"},
        "instance_noise": {"start": 0.5},
    },
    "penalties on the generator": {
        "penalty": {"names": ["jsd", "wgan_gp"], "on": "generator"},
        "game": {"generator_batches": 2},
    },
    "another model": {"model": NAME},
    "relativistic": {"model": "relativistic", "penalty": {"names": ["r1", "r2"]}},
    "direct fit": {"model": "direct_fit", "generator": {"kind": "flow", "layers": 2}},
}
ADAM = {f"{player}_optimizer": {"name": "adam", "b1": 0.5, "learning_rate": 1e-3} for player in ("generator", "critic")}


def plan(devices: int, *how: str, cases: dict, **more) -> dict:
    return {"devices": devices, "how": how, "cases": cases} | more


def some(*names: str) -> dict:
    return {name: CASES[name] for name in names}


def adam(devices: int) -> dict:
    return plan(devices, "pmap", steps=50, cases={"js, Adam": {"divergence": "js"} | ADAM})


MEANS = some("js", "donsker_varadhan")
LONG = some(
    *("total_variation", "every penalty", "r1 and r2, three critic steps"),
    *("penalties on the generator", "three generator batches"),
)
PLANS = {
    "8 by pmap": plan(8, "pmap", cases={name: CASES[name] for name in CASES if name not in LONG}),
    "8 sharded": plan(8, "sharded", cases=some("rows, two critic steps", "another model")),
    "8 sharded, parameters too": plan(8, "sharded", "sharded", cases=some("donsker_varadhan")),
    "Adam on 8": adam(8),
}
SLOW = {
    "8 by pmap, further": plan(8, "pmap", cases=FURTHER | LONG),
    "8 sharded, further": plan(
        8, "sharded", cases=MEANS | some("total_variation", "every penalty", "three generator batches", "direct fit")
    ),
    "4 by pmap": plan(4, "pmap", cases=MEANS | some("rows, two critic steps")),
    "2 sharded, parameters too": plan(2, "sharded", "sharded", cases=MEANS),
    "Adam on 2": adam(2),
    "Adam on 4": adam(4),
}


@pytest.fixture(scope="module")
def found() -> dict:
    """What several devices make of each case, beside one: all in one process, for the time it takes."""
    return run(PROGRAM, json.dumps(PLANS), 8)


@pytest.fixture(scope="module")
def more() -> dict:
    return run(PROGRAM, json.dumps(SLOW), 8)


def assert_same_steps(found: dict, plan: str, name: str) -> None:
    """Six of SGD, whose gradients Adam could not hide, and a hundred of Adam."""
    case = found["cases"][plan][name]
    assert case["skipped"] == 0.0 and case["moved"] > 1e-4
    assert case["state"] < (1e-5 if "Adam" in name else 1e-6) and case["metrics"] < 1e-5
    assert case["divided"] == ("parameters" in plan)


@pytest.mark.parametrize("plan, name", [(plan, name) for plan in PLANS for name in PLANS[plan]["cases"]])
def test_several_devices_take_the_steps_of_one(found, plan, name):
    assert_same_steps(found, plan, name)


@pytest.mark.slow
@pytest.mark.parametrize("plan, name", [(plan, name) for plan in SLOW for name in SLOW[plan]["cases"]])
def test_more_divergences_and_devices_take_the_steps_of_one(more, plan, name):
    assert_same_steps(more, plan, name)


def test_devices_are_counted_and_described(found):
    assert found["devices"] == 8 and found["described"].startswith("8 × ")


@pytest.mark.parametrize("draws", [1, 8])
def test_what_a_device_draws_at_once_is_bounded_however_many_share_the_batch(draws):
    """In one program: the arrays of the global batch, of which a device keeps 1/draws, for many steps."""
    replicas = Replicas(shard=lambda rows: rows[: len(rows) // draws], draws=draws)

    def draw(key):
        return replicas.shard(jax.random.normal(key, (1024, 32)))

    def run(state):
        return steps(lambda _, s, x: (s + x.sum(), {}), draw, jax.random.key(0), state, 0, 1000, replicas=replicas)

    drawn = [shape for shape in map(tuple, shapes(jax.make_jaxpr(run)(0.0))) if shape[-2:] == (1024, 32)]
    most = 4 * max(map(math.prod, drawn))
    assert DRAWN // 4 < most <= DRAWN


def shapes(jaxpr) -> list:
    """Of every array in a program, those of the programs inside it too."""
    inner = [sub for e in jaxpr.eqns for sub in jaxprs_in_params(e.params)]
    own = [v.aval.shape for e in jaxpr.eqns for v in e.outvars]
    return own + [shape for sub in inner for shape in shapes(sub)]


def test_a_batch_that_does_not_divide_is_refused(found):
    assert "12" in found["refused"] and "8 devices" in found["refused"] and "multiple" in found["refused"]


@pytest.mark.parametrize("total, n", [(37, 8), (64, 8), (5, 8), (1, 2), (0, 4)])
def test_a_share_holds_the_rows_that_its_part_of_a_batch_is_drawn_from(total, n):
    begins, longest = engines._starts(total, n), engines.slices_shape((total, 2), SimpleNamespace(n=n))[1]
    for k in range(n if total else 0):
        for j in (2 * k, 2 * k + 1):  # of a batch of 2n, numbered as `stratified` does
            least, most = (j * total) // (2 * n), ((j + 1) * total - 1) // (2 * n)
            assert begins[k] <= least <= most < begins[k] + longest
    assert longest <= total // n + 2


def test_one_device_is_alone():
    assert engines.replicas(engines.Layout(tuple(jax.devices()[:1]))) is ALONE
    batch = jnp.arange(6.0).reshape(3, 2)
    assert ALONE.shard(batch) is batch
    assert (ALONE.expectation(batch) == batch.mean(axis=0)).all()


def test_a_chunk_is_compiled_before_it_is_called():
    traces = []

    def chunk(replicas):
        def run(x):
            traces.append(x)
            return replicas.mean(2.0 * x)

        return run

    x = jnp.arange(3.0)
    compiled = engines.compile_chunk(chunk, (x,), engines.Layout(tuple(jax.devices()[:1])))
    assert len(traces) == 1
    assert [float(v) for v in compiled(x)] == [0.0, 2.0, 4.0] and len(traces) == 1
    with pytest.raises(TypeError):
        compiled(jnp.arange(4.0))


@pytest.mark.slow
def test_a_whole_run_on_eight_devices_resumes_bit_for_bit_and_follows_one_device(tmp_path):
    samples = {n: run(WHOLE_RUN, str(tmp_path / str(n)), n) for n in (1, 8)}
    straight, resumed = (tmp_path / "8" / name / "metrics.jsonl" for name in ("straight", "resumed"))
    assert straight.read_bytes() == resumed.read_bytes()
    one, eight = (
        [json.loads(line) for line in (tmp_path / n / "straight/metrics.jsonl").read_text().splitlines()]
        for n in ("1", "8")
    )
    assert [r["step"] for r in one] == [r["step"] for r in eight]
    for a, b in zip(one, eight, strict=True):
        assert "scores" in a or a["bound"] == pytest.approx(b["bound"], abs=1e-4)
    np.testing.assert_allclose(samples[1], samples[8], atol=1e-3)

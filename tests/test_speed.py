"""The speed benchmark's counts and verdicts against the compiler's and by hand, and a smoke run without PyTorch."""

import dataclasses
import json
import sys
from contextlib import ExitStack

import jax
import jax.numpy as jnp
import pytest

from benchmarks import contestants, profile, speed
from benchmarks.contestants import Case
from benchmarks.speed import Settings
from fgan.models.model import build


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        Case(kind="step", features=(96, 96), batch=64, dim=40, latent=30),
        Case(kind="step", features=(96, 96), batch=64, dim=40, latent=30, penalty=True),
        Case(kind="step", features=(24, 16), batch=16, latent=32, side=16),
    ],
    ids=["plain", "penalty", "images"],
)
def test_operations_are_those_the_compiler_counts(case):
    """XLA also counts element by element: what it finds beyond the products is a few times their outputs."""
    gan = build(case.config(), case.data())
    state = jax.eval_shape(gan.init, jax.random.key(0))
    real = jnp.zeros((1, case.batch, gan.critic.inputs))
    noise = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gan.noise, jax.random.key(0)).z)
    update = jax.jit(
        lambda state, z: gan.advance(gan.noise(jax.random.key(0))._replace(z=z, fake=(z + 1.0,)), state, real)
    )
    counted = update.lower(state, noise).cost_analysis()["flops"]
    assert case.operations() < counted < 1.25 * case.operations()


def test_operations_grow_with_seeds():
    one = Case(kind="seeds")
    assert dataclasses.replace(one, seeds=8).operations() == 8 * one.operations()


def test_a_ratio_is_that_of_the_medians():
    assert speed.ratio([2.0, 4.0, 90.0], [1.0, 2.0, 3.0]) == {"ratio": 2.0, "low": 2.0, "high": 16.0}


@pytest.mark.parametrize(
    "kind, aim, ratios, expected",
    [
        ("step", 1.7, {"eager": 1.8, "compile": 1.9, "eager fused": 1.0}, True),
        ("step", 1.7, {"eager": 1.8, "compile": 1.6}, False),
        ("step", 1.7, {}, None),
        ("step", None, {"eager": 1.8}, None),
        ("penalty", 2.2, {"cost": 2.1}, True),
        ("penalty", 2.2, {"cost": 2.3}, False),
        ("seeds", 1.0, {"gain": 0.9}, False),
    ],
)
def test_aims_are_judged(kind, aim, ratios, expected):
    facts = {"ratios": {name: {"ratio": value} for name, value in ratios.items()}}
    assert speed.met(Case(kind=kind, aim=aim), facts) is expected


def test_seconds_are_judged_by_the_last():
    assert speed.met(Case(kind="restart", aim=2.0), {"seconds": {"first start": 9.0, "second start": 1.5}})


@pytest.mark.slow
def test_a_smoke_run_measures_each_kind_and_resumes(tmp_path, capsys):
    asked = Settings(cases=("step 64/128*", "penalty 64/128", "8 seeds*"), torch="none", quick=True, results=tmp_path)
    assert speed.main(asked) == 0
    found = json.loads((tmp_path / "quick" / "speed.json").read_text())
    assert [row["task"] for row in found["cases"]] == [
        "step 64/128",
        "step 64/128, jsd penalty",
        "penalty 64/128",
        "8 seeds 64/128",
    ]
    assert all(value > 0.0 for row in found["cases"] for value in row["seconds"].values())
    assert found["cases"][0]["share"] > 0.0 and "--torch none" in found["cases"][0]["failed"]["eager"]
    assert (tmp_path / "quick" / "speed.png").stat().st_size > 0
    assert "aim 6: –" in capsys.readouterr().out
    ledger = (tmp_path / "quick" / "speed.jsonl").read_bytes()
    assert speed.main(asked) == 0 and (tmp_path / "quick" / "speed.jsonl").read_bytes() == ledger


def test_no_such_case_is_a_usage_error(tmp_path):
    assert speed.main(Settings(cases=("nothing",), results=tmp_path)) == 2


def test_a_pytorch_that_cannot_start_is_recorded(tmp_path):
    python, reason = speed.torch_beside(Settings(torch=str(tmp_path / "no-python")))
    assert python is None and "no-python" in reason


def test_a_pytorch_that_does_not_answer_is_given_up_before_others_are_timed(monkeypatch, tmp_path):
    silent, started = tmp_path / "silent.py", []
    silent.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr(contestants, "SCRIPT", silent)
    monkeypatch.setattr(speed, "Torch", lambda python: started.append(contestants.Torch(python)) or started[-1])
    settings = Settings(contestants=("eager",), patience=1.0)
    with ExitStack() as processes:
        turns, failed = speed.torch_turns(Case(kind="step"), settings, sys.executable, "", 0, processes)
        assert [torch.process.poll() is not None for torch in started] == [True]
    assert turns == {} and failed["eager"] == "no answer within 1 s"


def test_every_instant_is_shared_among_what_runs_then():
    """Two products overlap for a second; then one thread copies alone, after a second of nothing."""
    events = [
        profile.Event(0.0, 3e9, "dot.1", "first"),
        profile.Event(2e9, 4e9, "dot.2", "second"),
        profile.Event(5e9, 7e9, "copy.3", "second"),
    ]
    total, alone = profile.shares(events, {"dot.1": "products", "dot.2": "products", "copy.3": "copies"})
    assert total == {"products": 4.0, "idle": 1.0, "copies": 2.0} and sum(total.values()) == 7.0
    assert alone == {"products": 3.0, "copies": 2.0}


def test_operations_are_told_apart_by_what_they_compute():
    compiled = jax.jit(lambda x: jnp.tanh(x) @ x).lower(jnp.ones((64, 64))).compile()
    assert "products" in profile.kinds(compiled.as_text()).values()

"""Numbers that are not finite: one bad step is left out, a bad seed is masked, a bad run ends with 4 and a report."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import PROGRAMS, TINY, forgotten, go, lines, replaced, shared, status  # noqa: F401

from estimators.critics.kernel import steps
from fgan.cli.main import main
from fgan.config.fields import ConfigError
from fgan.config.schema import Critic, Optimizer, replace
from fgan.data.sources import load as load_data
from fgan.models.gan import FGAN
from fgan.models.model import build
from fgan.run import loop, members, nan_report, pictures
from fgan.run.loop import Diverged, Loop
from fgan.run.members import restore
from fgan.run.program import batches

FEW = 15  # steps of patience


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Runs share their programs, draw nothing, and give up soon."""
    monkeypatch.setattr(loop, "Program", shared)
    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    monkeypatch.setattr(loop, "PATIENCE", FEW)
    monkeypatch.setattr(members, "PATIENCE", FEW)


def poisoned(monkeypatch, part: str, seeds: slice) -> None:
    """The state that training begins with has a NaN in a `part` of some seeds."""
    resume = Loop._resume

    def poison(self):
        resume(self)
        bad = jax.tree.map(
            lambda x: x.at[seeds].set(jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x,
            getattr(self.state, part),
        )
        self.state = self.state._replace(**{part: bad})

    monkeypatch.setattr(Loop, "_resume", poison)


@pytest.mark.parametrize("part", ["critic_optimizer", "generator"])
def test_nan_in_every_seed_ends_with_4_and_names_the_term(tmp_path, monkeypatch, part):
    poisoned(monkeypatch, part, slice(None))
    with pytest.raises(Diverged, match=f"{part} before first; see .*Lower the learning rates") as error:
        go(TINY, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "nan_report.json").read_text())
    assert error.value.exit_code == 4 and status(tmp_path / "run")["state"] == "failed"
    assert (report["first_bad_step"], report["term"]) == (0, f"{part} before")
    ranges = report["terms"]["critic on data"]
    assert ranges["not_finite"] == 0 and -10.0 < ranges["min"] < ranges["max"] < 10.0


def test_nan_in_one_seed_is_masked_and_the_other_trains_on(tmp_path, monkeypatch):
    poisoned(monkeypatch, "critic_optimizer", slice(1, 2))
    out = go(TINY, tmp_path / "run")
    assert status(out.run)["state"] == "finished"
    assert "high_quality" in out.scores[0] and out.scores[1] == {"seed": 1, "diverged": True}
    assert any("seed 1: diverged: no step since 0 was finite" in line for line in out.warnings)
    assert not any("seed 0: diverged" in line for line in out.warnings)
    assert restore(out.run, 0).step == TINY.steps
    with pytest.raises(ConfigError, match="member 1 diverged at step 0"):
        restore(out.run, 1)
    whole = [line["bound"][0] for line in lines(out.run) if "bound" in line]
    assert np.isfinite(whole).all()


@pytest.mark.slow
def test_one_bad_gradient_is_left_out_and_counted(monkeypatch):
    """The state after the bad step is the one before it."""
    update, bad = FGAN.generator_update, 7

    def spoil(self, key, state, *rest):
        new, metrics = update(self, key, state, *rest)
        factor = jnp.where(state.step == bad, jnp.nan, 1.0)
        return new._replace(generator=jax.tree.map(lambda x: factor * x, new.generator)), metrics

    monkeypatch.setattr(FGAN, "generator_update", spoil)
    data = load_data(TINY.data)
    model = build(TINY, data)
    state = model.init(jax.random.key(0))
    draw = batches(model.batches, TINY, data, data.rows)
    twelve = jax.jit(lambda s: steps(model.advance, draw, jax.random.key(0), s, 0, 12, noise=model.noise))
    state, metrics = twelve(state)
    assert metrics["skipped"].tolist() == [0.0] * bad + [1.0] + [0.0] * (11 - bad)
    assert int(state.step) == 12 and int(state.skipped) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_row_that_passed_the_door_is_named_as_the_term():
    data = load_data(TINY.data)
    model = build(TINY, data)
    state = model.init(jax.random.key(0))
    object.__setattr__(data, "scale", data.scale * np.nan)  # what every batch is divided by
    report = nan_report.explained(replace(TINY, {"seeds": 1}), data, state, 3)
    assert report["term"] == "data" and report["terms"]["data"]["not_finite"] == 2 * TINY.batch
    assert report["terms"]["generated samples"]["not_finite"] == 0


WILD = Optimizer(name="sgd", b1=0.0, learning_rate=1e30)


def test_the_replay_command_reaches_the_same_step(tmp_path, capsys):
    relu = Critic(features=(8,), nonlinearity="relu")
    config = replaced(divergence="kl", steps=200, critic=relu, generator_optimizer=WILD, critic_optimizer=WILD)
    with pytest.raises(Diverged):
        go(config, tmp_path / "a run")
    first = json.loads((tmp_path / "a run" / "nan_report.json").read_text())
    program, *words = shlex.split(first["replay"])
    assert program == "fgan" and str(tmp_path / "a run" / "config.toml") in words
    with pytest.raises(SystemExit) as left:
        main([*words, "--quiet"])
    again = json.loads((tmp_path / "a run-replay" / "nan_report.json").read_text())
    assert left.value.code == 4 and "nan_report.json" in capsys.readouterr().err
    assert {**again, "replay": ""} == {**first, "replay": ""}


def test_a_run_on_data_in_memory_is_replayed_from_python(tmp_path):
    config = replace(TINY, {"data.name": "samples", "data.path": "data in memory"})
    assert nan_report.replay(config, tmp_path).startswith("train again from Python")
    (tmp_path / "mine.csv").write_text("1\n")
    words = nan_report.replay(replace(config, {"data.path": str(tmp_path / "mine.csv")}), tmp_path / "run")
    assert words.endswith(f"--data.path {tmp_path / 'mine.csv'}")

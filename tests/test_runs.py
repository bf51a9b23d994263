"""Many training runs side by side: planned, stopped and gone on with, refused with a reason, measured as rows."""

import dataclasses
import json
import os
import signal

import pytest

from estimators.divergences.table import divergence
from fgan.config.checks import check
from fgan.config.schema import Config, Critic, Generator, Log
from fgan.config.toml import to_toml
from fgan.experiments import runs, tables
from fgan.experiments.runs import RunFailed, planned, train
from fgan.experiments.tables import NAMES
from fgan.run.directory import ConfigConflict
from fgan.run.loop import Stopped

COMPARED = {"plain": ("kl", "js"), "own": ("neyman",)}


def preset(name, *, variant="preset", steps=2000):
    """A ring under two tiny networks."""
    tiny = {"generator": Generator(features=(8,)), "critic": Critic(features=(8,), output_bound=5.0)}
    return Config(divergence=name, steps=steps, batch=16, log=Log(every=10, evaluate=2000, checkpoint=2000), **tiny)


def test_the_runs_are_every_divergence_and_the_compared_ones(tmp_path):
    made = planned(tmp_path, NAMES, preset, COMPARED)
    assert [(r.config.divergence, r.variant) for r in made[: len(NAMES)]] == [(name, "preset") for name in NAMES]
    rest = {(r.config.divergence, r.variant) for r in made[len(NAMES) :]}
    assert rest == {(name, variant) for variant, names in COMPARED.items() for name in names}
    assert len({r.directory for r in made}) == len(made) and not any(r.finished for r in made)
    assert all(divergence(name).name == name for name in NAMES)


@pytest.mark.slow
def test_asked_to_stop_it_saves_its_runs_and_goes_on(tmp_path, monkeypatch):
    """SIGTERM to the whole: every run preempted with its state, exit code 143, and the next call finishes them."""
    monkeypatch.setattr(runs, "POLL", 0.02)
    (run,) = planned(tmp_path, ("jeffreys",), preset, {})

    def stop(done, text):
        if run.step > 0 and run.status.get("state") == "running":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        train([run], progress=stop)
    assert stopped.value.exit_code == 143
    assert run.status["state"] == "preempted" and 0 < run.step < 2000 and not run.finished
    steps, ended = [], []
    train([run], progress=lambda done, text: steps.append((done, text)), finished=ended.append)
    assert run.finished and run.step == 2000 and steps[-1] == (2000, "") and ended == [run]
    found = runs.row(run, runs.of_samples(lambda sample: {"size": len(sample(7, 0))}), ("size",))
    assert found["size"] == {"mean": 7.0, "standard_error": None} and found["seeds"] == [{"seed": 0, "size": 7}]
    assert (found["steps"], found["diverged"], found["directory"]) == (2000, False, "runs/preset-jeffreys-seed0")


def test_a_run_is_scored_once(tmp_path):
    """And again only if it has trained on since."""
    (run,) = planned(tmp_path, ("jeffreys",), preset, {})
    run.directory.mkdir(parents=True)
    asked = []

    def score(run, member):
        asked.append(member)
        return {"value": float(len(asked))}

    for step, expected in ((10, 1.0), (10, 1.0), (20, 2.0)):
        (run.directory / "status.json").write_text(json.dumps({"state": "finished", "step": step}))
        assert runs.scores(run, 0, score) == {"value": expected}
    assert runs.scores(run, 1, score) == {"value": 3.0} and asked == [0, 0, 1]


def test_a_diverged_run_is_a_row_and_stops_no_other(tmp_path, monkeypatch):
    (run,) = planned(tmp_path, ("neyman",), preset, {})
    run.directory.mkdir(parents=True)
    (run.directory / "nan_report.json").write_text("{}")
    (run.directory / "metrics.jsonl").write_text(json.dumps({"step": 10, "skipped": [1.0]}) + "\n")
    (run.directory / "timings.jsonl").write_text("")
    monkeypatch.setattr(runs, "start", lambda *_: pytest.fail("a diverged run was started"))
    result = runs.fill(tmp_path / "t.json", {"task": "t"}, [run], lambda sample: {}, (), quiet=True)
    assert json.loads((tmp_path / "t.json").read_text()) == result
    (lost,) = result["rows"]
    assert lost["diverged"] and lost["seeds"] == [] and lost["skipped_steps"] == 10.0


def written(run, **changes):
    """A finished run of `run`'s directory, trained with some `changes`."""
    run.directory.mkdir(parents=True, exist_ok=True)
    config = check(dataclasses.replace(run.config, **changes))
    (run.directory / "config.toml").write_text(to_toml(config))
    (run.directory / "status.json").write_text(json.dumps({"state": "finished", "step": 2000}))
    for name in ("metrics.jsonl", "timings.jsonl"):
        (run.directory / name).write_text("")


def test_a_run_of_other_settings_is_no_row_of_this_table(tmp_path):
    (run,) = planned(tmp_path, ("kl",), preset, {})
    score = {"value": 1.0}
    written(run, batch=32)
    with pytest.raises(ConfigConflict, match="batch was 32, is 16"):
        runs.fill(tmp_path / "t.json", {}, [run], lambda *_: score, (), quiet=True)
    written(run)
    assert runs.fill(tmp_path / "t.json", {}, [run], lambda *_: score, ("value",), quiet=True)["rows"][0]["value"]


def test_a_run_that_means_nothing_is_said_to_be_void(tmp_path):
    (run,) = planned(tmp_path, ("kl",), preset, {})
    written(run)
    facts = {"state": "failed", "step": 2000, "exit_code": 4, "reason": "most samples lie far from the data"}
    (run.directory / "status.json").write_text(json.dumps(facts))
    result = runs.fill(tmp_path / "t.json", {"aims": {}}, [run], lambda *_: {"value": 1.0}, ("value",), quiet=True)
    assert "void: most samples" in "\n".join(tables.lines(result, (), 20))


def test_a_seed_that_diverged_is_counted_beside_the_others(tmp_path):
    (run,) = planned(tmp_path, ("kl",), preset, {})
    two = dataclasses.replace(run, config=dataclasses.replace(run.config, seeds=2))
    written(two)
    values = iter([{"value": None}, {"value": 1.0}])
    result = runs.fill(tmp_path / "t.json", {"aims": {}}, [two], lambda *_: next(values), ("value",), quiet=True)
    assert "1 of 2 seeds diverged" in "\n".join(tables.lines(result, (), 20))


def test_a_run_that_cannot_train_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "POLL", 0.1)
    (run,) = planned(tmp_path, ("jeffreys",), preset, {})
    broken = dataclasses.replace(run, config=dataclasses.replace(run.config, batch=0))
    with pytest.raises(RunFailed, match=r"jeffreys.*exit code 2.*batch"):
        train([broken])

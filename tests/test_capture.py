"""Rings and grids: one recipe for all rows, scores that a perfect sampler passes, cells that resume, real capture."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from fgan.experiments.capture import COMPARED, TASKS, VARIANTS, cells, judge, misses, recipe, summary

from estimators.divergences.table import divergence
from fgan.config import schema as config
from fgan.experiments import capture
from fgan.experiments.modes import NAMES
from fgan.run import loop as train
from fgan.run import pictures as plots

RING, GRID = TASKS["ring"], TASKS["grid"]
TINY = {"steps": 500, "seeds": 1}


def perfect(task):
    """The target itself as a sampler."""
    return lambda n, seed: np.asarray(task.target.sample(jax.random.key(seed), n))


def row(task, **changes):
    """A table row of two seeds that reach every aim, but for `changes` in the second."""
    good = {"modes": len(task.target.means), "high_quality": 0.989, "kl": 1e-4, "width_ratio": 1.0}
    good |= {"trial_modes": good["modes"], "trial_high_quality": 0.989, "trial_kl": 1e-3}
    return {"seeds": [good, good | changes], "skipped_steps": 0.0}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_has_the_same_recipe(task, variant):
    """But for its name; and each can be built and passes the checks at the door."""
    made = [recipe(task, name, variant=variant) for name in NAMES]
    assert len({config.to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
    assert [config.check(c).divergence for c in made] == list(NAMES)
    assert all(c.critic.divergence == "" and c.critic.bound == "fenchel" for c in made)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_shipped_config_is_the_recipe(task):
    shipped = config.load(Path(__file__).parents[1] / "configs" / f"{task.name}.toml")
    assert shipped == recipe(task, "js", seeds=1)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_perfect_sampler_reaches_every_aim(task):
    found = judge(task, perfect(task))
    k = len(task.target.means)
    assert misses({"seeds": [found], "skipped_steps": 0.0}, task) == []
    assert found["modes"] == found["trial_modes"] == k
    assert found["high_quality"] == pytest.approx(0.98889, abs=4 * (0.0111 * 0.9889 / capture.SAMPLES) ** 0.5)
    floor = (k - 1) / (2 * capture.TRIAL)  # 2n KL is χ² of k − 1 degrees of freedom; the mean of ten of them
    assert found["trial_kl"] == pytest.approx(floor, abs=4 * floor * (2 / (k - 1) / capture.TRIALS) ** 0.5)


@pytest.mark.parametrize(
    "changes, missed",
    [
        ({"modes": 7}, "modes"),
        ({"high_quality": 0.95}, "high quality"),
        ({"kl": 0.02}, "mode KL"),
        ({"kl": None}, "mode KL"),
        ({"width_ratio": 0.8}, "width"),
        ({"width_ratio": 1.2}, "width"),
        ({"width_ratio": None}, "width"),
    ],
)
def test_one_seed_short_of_an_aim_is_named(changes, missed):
    assert misses(row(RING), RING) == []
    assert misses(row(RING, **changes), RING) == [missed]
    assert misses(row(RING) | {"skipped_steps": 2.0}, RING) == ["skipped steps"]
    assert misses({"seeds": []}, RING) == ["diverged"]


def test_summaries_are_means_with_standard_errors():
    found = summary([{"modes": m, **dict.fromkeys(capture.SCORES[1:])} for m in (7, 8, 8, 5)])
    assert found["modes"] == {"mean": 7.0, "standard_error": pytest.approx(np.std([7, 8, 8, 5], ddof=1) / 2.0)}
    assert found["kl"] == {"mean": None, "standard_error": None}


def test_the_cells_are_every_row_and_the_compared_ones(tmp_path):
    made = cells(RING, tmp_path)
    assert [(c.config.divergence, c.variant) for c in made[: len(NAMES)]] == [(name, "recipe") for name in NAMES]
    rest = {(c.config.divergence, c.variant) for c in made[len(NAMES) :]}
    assert rest == {(name, variant) for variant, names in COMPARED.items() for name in names}
    assert len({c.directory for c in made}) == len(made) and not any(c.finished for c in made)
    assert all(divergence(name).name == name for name in NAMES)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A table of two cells, barely trained."""
    directory = tmp_path_factory.mktemp("ring")
    said = []
    result = capture.reproduce(
        directory, RING, names=("total_variation", "neyman"), progress=lambda *step: said.append(step), **TINY
    )
    return directory, result, said


def test_a_table_is_written_and_drawn(small):
    directory, result, said = small
    assert json.loads((directory / "ring.json").read_text()) == json.loads(json.dumps(result))
    wanted = [("total_variation", "recipe"), ("neyman", "recipe"), ("neyman", "own")]
    assert [(r["divergence"], r["variant"]) for r in result["rows"]] == wanted
    for r in result["rows"]:
        assert (r["steps"], r["diverged"], r["skipped_steps"], len(r["seeds"])) == (500, False, 0.0, 1)
        assert 0.0 <= r["high_quality"]["mean"] <= 1.0 and r["high_quality"]["standard_error"] is None
    assert said[-1][0] == 1500
    text = capture.table(result)
    assert all(word in text for word in ("neyman, own", "PacGAN2", "98.89", "js critic", *RING.published))
    for picture in (plots.capture(directory / "ring.json"), plots.film(directory / "ring.json")):
        assert picture.stat().st_size > 10_000


def test_a_finished_table_trains_nothing_again(small, monkeypatch):
    directory, result, _ = small
    monkeypatch.setattr(capture, "_start", lambda *_: pytest.fail("a finished cell was started"))
    assert capture.reproduce(directory, RING, names=("total_variation", "neyman"), **TINY) == result


def test_a_diverged_cell_is_a_row_and_stops_no_other(small):
    directory, result, _ = small
    cell = dataclasses.replace(cells(RING, directory, ("neyman",), **TINY)[0], directory=directory / "lost")
    cell.directory.mkdir()
    (cell.directory / "nan_report.json").write_text("{}")
    for name in ("metrics.jsonl", "timings.jsonl"):
        (cell.directory / name).write_text("")
    assert cell.finished
    lost = capture.measure(cell, RING)
    assert (
        lost["diverged"]
        and lost["seeds"] == []
        and "diverged" in capture.table(result | {"rows": [lost, *result["rows"]]})
    )


def test_asked_to_stop_it_saves_its_cells_and_goes_on(tmp_path):
    """SIGTERM to the whole: every cell preempted with its state, exit code 143, and the next call finishes them."""
    (cell,) = cells(RING, tmp_path, ("jeffreys",), steps=1500, seeds=1)

    def stop(done, text):
        if (cell.directory / "metrics.jsonl").exists() and cell.status.get("state") == "running":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(train.Stopped) as stopped:
        capture.run([cell], progress=stop)
    assert stopped.value.exit_code == 143
    assert cell.status["state"] == "preempted" and 0 < cell.step < 1500 and not cell.finished
    capture.run([cell])
    assert cell.finished and cell.step == 1500


def test_a_cell_that_cannot_run_says_why(tmp_path):
    (cell,) = cells(RING, tmp_path, ("jeffreys",), **TINY)
    broken = dataclasses.replace(cell, config=dataclasses.replace(cell.config, batch=0))
    with pytest.raises(capture.CellFailed, match=r"jeffreys.*exit code 2.*batch"):
        capture.run([broken])


def test_two_divergences_capture_every_mode_in_a_minute(tmp_path, monkeypatch):
    """kl, and neyman, which drops most modes without the cure: a short run of the recipe, scored on 50,000 samples."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # they do train
    names = ("kl", "neyman")
    made = [c for c in cells(RING, tmp_path, names, steps=2500, seeds=1) if c.variant == "recipe"]
    capture.run(made)
    for cell in made:
        found = capture.measure(cell, RING)
        assert found["modes"]["mean"] == 8.0 and found["skipped_steps"] == 0.0
        assert found["high_quality"]["mean"] > 0.7 and found["kl"]["mean"] < 0.3

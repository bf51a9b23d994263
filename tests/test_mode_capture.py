"""Rings and grids: one preset for all divergences, scores that a perfect sampler passes, and real capture."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from fgan.config.checks import check
from fgan.config.schema import replace
from fgan.config.toml import load, to_toml
from fgan.data.sources import load as load_data
from fgan.experiments import mode_capture, plots, runs
from fgan.experiments.mode_capture import COMPARED, TASKS, VARIANTS, preset, score
from fgan.experiments.runs import Run
from fgan.experiments.tables import NAMES, misses
from fgan.models.model import build

RING = TASKS["ring"]


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_divergence_has_the_same_preset(task, variant):
    """But for its name; and each can be built and passes the checks at the door."""
    made = [preset(task, name, variant=variant) for name in NAMES]
    assert len({to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
    assert [check(c).divergence for c in made] == list(NAMES)
    assert all(c.critic.divergence == "" and c.critic.bound == "fenchel" for c in made)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_shipped_config_is_the_preset(task):
    shipped = load(Path(__file__).parents[1] / "configs" / f"{task.name}.toml")
    assert shipped == preset(task, "js", seed=0, seeds=1)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_perfect_sampler_reaches_every_aim(task):
    found = score(task, lambda n, seed: np.asarray(task.target.sample(jax.random.key(seed), n)))
    k = len(task.target.means)
    assert misses({"seeds": [found], "skipped_steps": 0.0}, task.aims) == []
    assert found["modes"] == found["trial_modes"] == k
    assert found["high_quality"] == pytest.approx(0.98889, abs=4 * (0.0111 * 0.9889 / mode_capture.SAMPLES) ** 0.5)
    floor = (k - 1) / (2 * mode_capture.TRIAL)  # 2n KL is χ² of k − 1 degrees of freedom; the mean of ten of them
    assert found["trial_kl"] == pytest.approx(floor, abs=4 * floor * (2 / (k - 1) / mode_capture.TRIALS) ** 0.5)


def shrink(patch) -> None:
    """A table of one divergence by the preset and one variant, with networks of a few units."""
    few = {"generator.features": (8,), "critic.features": (8,), "critic.frequencies": 2}
    patch.setattr(mode_capture, "preset", lambda *task, **options: replace(preset(*task, **options), few))
    patch.setattr(mode_capture, "COMPARED", {"kl_gradient": ("neyman",)})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Such a table, barely trained."""
    directory = tmp_path_factory.mktemp("ring")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(runs, "POLL", 0.1)
        result = mode_capture.results(RING, directory, names=("neyman",), steps=20, seeds=1, quiet=True)
    return directory, result


@pytest.mark.slow
def test_a_table_is_written_and_drawn(small):
    directory, result = small
    assert json.loads((directory / "ring.json").read_text()) == json.loads(json.dumps(result))
    assert [(r["divergence"], r["variant"]) for r in result["rows"]] == [
        ("neyman", "preset"),
        ("neyman", "kl_gradient"),
    ]
    for r in result["rows"]:
        assert (r["steps"], r["diverged"], r["skipped_steps"], len(r["seeds"])) == (20, False, 0.0, 1)
        assert 0.0 <= r["high_quality"]["mean"] <= 1.0 and r["high_quality"]["standard_error"] is None
    text = mode_capture.table(result)
    assert all(word in text for word in ("neyman, kl_gradient", "PacGAN2", "98.89", "js critic", *RING.published))
    lost = result["rows"][0] | {"diverged": True, "seeds": []}
    assert "diverged" in mode_capture.table(result | {"rows": [result["rows"][0], lost]})
    for picture in (mode_capture.picture(directory / "ring.json"), plots.film(directory / "ring.json")):
        assert picture.stat().st_size > 10_000


def test_a_finished_table_trains_nothing_again(small, monkeypatch):
    directory, result = small
    shrink(monkeypatch)
    monkeypatch.setattr(runs, "start", lambda *_: pytest.fail("a finished run was started"))
    options = {"names": ("neyman",), "steps": 20, "seeds": 1, "quiet": True}
    assert mode_capture.results(RING, directory, **options) == result


def test_the_command_prints_the_table_and_returns_its_files(small, monkeypatch, capsys):
    directory, result = small
    monkeypatch.setattr(mode_capture, "results", lambda task, folder, *, quiet: result)
    made = mode_capture.reproduce("ring", directory, quiet=True)
    assert [path.name for path in made] == ["ring.png", "ring-film.png", "ring.json"] and all(p.exists() for p in made)
    assert mode_capture.table(result) in capsys.readouterr().out


def test_the_compared_divergences_are_in_the_table():
    assert set(COMPARED) | {"preset"} == set(VARIANTS) and all(set(names) <= set(NAMES) for names in COMPARED.values())


@pytest.mark.slow
def test_two_divergences_capture_every_mode_by_their_own_gradient_in_a_minute(optimised, tmp_path):
    """reverse_kl and neyman, which weigh samples between modes most: a short preset run, scored on 50,000 samples."""
    names, short = ("reverse_kl", "neyman"), partial(preset, RING, steps=1500, seeds=1)
    assert not any(build(short(name), load_data(short(name).data)).notes for name in names)
    made: list[Run] = runs.planned(tmp_path, names, short, {})
    runs.train(made)
    for run in made:
        found = runs.row(run, runs.of_samples(partial(score, RING)), mode_capture.SCORES)
        assert found["modes"]["mean"] == 8.0 and found["skipped_steps"] == 0.0
        assert found["high_quality"]["mean"] > 0.7 and found["kl"]["mean"] < 0.05

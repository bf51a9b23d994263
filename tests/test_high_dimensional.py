"""Gaussians in subspaces: one recipe, a perfect sampler that passes, and the whole way in a small space."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from fgan.config import checks, toml
from fgan.config import schema as config
from fgan.data import sources as data
from fgan.experiments import capture, high_dimensional
from fgan.experiments.high_dimensional import NAME, PUBLISHED, judge, misses, perfect, recipe
from fgan.run import pictures as plots
from fgan.run.loop import train

TINY = SubspaceMixture(modes=3, dim=12, rank=5, separation=6.0)


@pytest.fixture(scope="module")
def tiny():
    """The experiment in R^12, its rows fewer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUBSPACES, NAME, TINY)
        patch.setattr(data, "ROWS", 2000)
        patch.setattr(high_dimensional, "SAMPLES", 2000)
        yield TINY


def in_process(todo, *, progress):
    """`capture.run` without processes of their own, which would not know the small space."""
    for cell in todo:
        progress(train(cell.config, cell.directory, quiet=True).step, cell.config.divergence)


def test_every_row_has_the_same_recipe():
    """But for its name; and each passes the checks at the door."""
    for variant in high_dimensional.VARIANTS:
        made = [checks.check(recipe(name, variant=variant)) for name in high_dimensional.NAMES]
        assert len({toml.to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
        assert bool(made[0].instance_noise.start) == (variant == "recipe")


def test_the_cells_are_every_row_and_the_plain_one(tmp_path):
    made = high_dimensional.cells(tmp_path)
    wanted = [(name, "recipe") for name in high_dimensional.NAMES] + [("js", "plain")]
    assert [(c.config.divergence, c.variant) for c in made] == wanted
    assert len({c.directory for c in made}) == len(made) and not any(c.finished for c in made)


def test_the_literal_rule_of_veegan_passes_no_sample_of_the_target():
    """Within 10 standard deviations of the mean, of a Gaussian of dimension 700."""
    law = SUBSPACES[NAME]
    assert stats.chi(law.rank).cdf(10.0) < 1e-100
    assert high_dimensional.limits(law) == pytest.approx((29.4575, 22.3607), abs=1e-4)


def test_rows_are_drawn_from_the_law_in_units_of_its_deviation(tiny, monkeypatch):
    d = data.load(config.Data(name=NAME))
    assert d.rows.shape == (2000, 12) and d.law == tiny
    x = d.rows * d.scale + d.offset
    scores = judge(tiny, lambda n, seed: x)
    assert scores["modes"] == 3 and scores["high_quality"] > 0.99 and scores["off_ratio"] < 1e-5  # float32
    assert d.rows.std() == pytest.approx(1.0, abs=0.05)
    nudged = dataclasses.replace(d, rows=d.rows * np.float32(1 + 1e-7))
    monkeypatch.setitem(data.SUBSPACES, NAME, dataclasses.replace(tiny, seed=1))
    other = data.load(config.Data(name=NAME))
    assert d.fingerprint() == nudged.fingerprint() != other.fingerprint()


def test_a_perfect_sampler_reaches_every_aim(tiny):
    found = judge(tiny, perfect(tiny))
    result = {"aims": {"modes": 3, "high_quality": 0.9 * found["high_quality"]}}
    assert misses({"seeds": [found], "skipped_steps": 0.0}, result) == []
    short = found | {"modes": 2, "high_quality": 0.5}
    assert misses({"seeds": [found, short], "skipped_steps": 1.0}, result) == ["modes", "high quality", "skipped steps"]
    assert misses({"seeds": []}, result) == ["diverged"]
    again, other = perfect(tiny)(5, 0), perfect(tiny)(5, 1)
    assert np.array_equal(again, perfect(tiny)(5, 0)) and not np.allclose(again, other)


def test_the_whole_way_in_a_small_space(tiny, tmp_path, monkeypatch):
    """Trained, judged, written, printed and drawn; a second call trains nothing."""
    monkeypatch.setattr(capture, "run", in_process)
    monkeypatch.setattr(high_dimensional, "COMPARED", ())
    said = []
    options = {"names": ("js",), "steps": 1000, "seeds": 1}
    result = high_dimensional.reproduce(tmp_path, progress=lambda *step: said.append(step), **options)
    assert json.loads((tmp_path / f"{NAME}.json").read_text()) == json.loads(json.dumps(result))
    assert [(r["divergence"], r["variant"], r["steps"]) for r in result["rows"]] == [("js", "recipe", 1000)]
    assert said == [(1000, "js")] and result["rows"][0]["skipped_steps"] == 0.0
    assert result["rows"][0]["modes"]["mean"] == 3.0 and result["rows"][0]["high_quality"]["mean"] > 0.2
    text = high_dimensional.table(result)
    assert all(word in text for word in ("js", "perfect sampler", *PUBLISHED))
    assert plots.high_dimensional(tmp_path / f"{NAME}.json").stat().st_size > 10_000
    assert plots.film(tmp_path / f"{NAME}.json").stat().st_size > 10_000
    monkeypatch.setattr(capture, "run", lambda todo, **_: all(c.finished for c in todo) or pytest.fail("trained"))
    assert high_dimensional.reproduce(tmp_path, **options)["rows"] == result["rows"]

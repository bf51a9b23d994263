"""Gaussians in subspaces: one preset, a perfect sampler that passes, and the whole way in a small space."""

import dataclasses
import json

import numpy as np
import pytest
from scipy import stats

from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture
from fgan.config import schema as config
from fgan.config.checks import check
from fgan.config.toml import to_toml
from fgan.data import sources as data
from fgan.experiments import high_dimensional, runs
from fgan.experiments.high_dimensional import NAME, PUBLISHED, perfect, preset, score
from fgan.experiments.tables import NAMES, misses
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


def in_process(planned, *, progress, finished):
    """`runs.train` without processes of their own, which would not know the small space."""
    for run in planned:
        progress(train(run.config, run.directory, quiet=True).step, run.config.divergence)
        finished(run)


def test_every_divergence_has_the_same_preset():
    """But for its name; and each passes the checks at the door."""
    for variant in high_dimensional.VARIANTS:
        made = [check(preset(name, variant=variant)) for name in NAMES]
        assert len({to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
        assert bool(made[0].instance_noise.start) == (variant != "plain")


def test_the_literal_rule_of_veegan_passes_no_sample_of_the_target():
    """Within 10 standard deviations of the mean, of a Gaussian of dimension 700."""
    law = SUBSPACES[NAME]
    assert stats.chi(law.rank).cdf(10.0) < 1e-100
    assert high_dimensional.limits(law) == pytest.approx((29.4575, 22.3607), abs=1e-4)


def test_rows_are_drawn_from_the_law_in_units_of_its_deviation(tiny, monkeypatch):
    d = data.load(config.Data(name=NAME))
    assert d.rows.shape == (2000, 12) and d.law == tiny
    x = d.rows * d.scale + d.offset
    scores = score(tiny, lambda n, seed: x)
    assert scores["modes"] == 3 and scores["high_quality"] > 0.99 and scores["off_ratio"] < 1e-5  # float32
    assert d.rows.std() == pytest.approx(1.0, abs=0.05)
    nudged = dataclasses.replace(d, rows=d.rows * np.float32(1 + 1e-7))
    monkeypatch.setitem(data.SUBSPACES, NAME, dataclasses.replace(tiny, seed=1))
    other = data.load(config.Data(name=NAME))
    assert d.fingerprint() == nudged.fingerprint() != other.fingerprint()


def test_a_perfect_sampler_reaches_every_aim(tiny):
    found = score(tiny, perfect(tiny))
    aims = {"modes": 3, "high_quality": 0.9 * found["high_quality"]}
    assert misses({"seeds": [found], "skipped_steps": 0.0}, aims) == []
    short = found | {"modes": 2, "high_quality": 0.5}
    assert misses({"seeds": [found, short], "skipped_steps": 1.0}, aims) == ["modes", "high quality", "skipped steps"]
    again, other = perfect(tiny)(5, 0), perfect(tiny)(5, 1)
    assert np.array_equal(again, perfect(tiny)(5, 0)) and not np.allclose(again, other)


@pytest.mark.slow
def test_the_whole_way_in_a_small_space(tiny, tmp_path, monkeypatch, capsys):
    """Trained, scored, written, printed and drawn."""
    monkeypatch.setattr(runs, "train", in_process)
    monkeypatch.setattr(high_dimensional, "COMPARED", {"plain": ()})
    result = high_dimensional.results(tmp_path, names=("js",), steps=1000, seeds=1, quiet=True)
    assert json.loads((tmp_path / f"{NAME}.json").read_text()) == json.loads(json.dumps(result))
    assert [(r["divergence"], r["variant"], r["steps"]) for r in result["rows"]] == [("js", "preset", 1000)]
    assert result["rows"][0]["skipped_steps"] == 0.0
    assert result["rows"][0]["modes"]["mean"] == 3.0 and result["rows"][0]["high_quality"]["mean"] > 0.2
    text = high_dimensional.table(result)
    assert all(word in text for word in ("js", "perfect sampler", *PUBLISHED))
    monkeypatch.setattr(high_dimensional, "results", lambda folder, *, quiet: result)
    made = high_dimensional.reproduce(NAME, tmp_path, quiet=True)
    assert [path.name for path in made] == [f"{NAME}.png", f"{NAME}-film.png", f"{NAME}.json"]
    assert all(path.stat().st_size > 10_000 for path in made[:2]) and text in capsys.readouterr().out

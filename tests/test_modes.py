"""The experiment `modes`: what modes.json promises, and, slowly, the aims it is held to."""

import json
import math

import numpy as np
import pytest

from estimators.distributions.elliptical import Gaussian
from estimators.distributions.examples import FGAN_MIXTURE, RIDGE
from estimators.distributions.mixture import Mixture
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import PLANE, exact_divergence
from fgan.experiments import modes
from fgan.experiments.modes import measurement, table, training
from fgan.experiments.tables import NAMES

ROW_KEYS = {"divergence", "mu", "sigma", "bound", "exact", "excess", "optimum", "seeds"}


def strict(path):
    def refuse(constant):
        raise AssertionError(f"{constant} in {path}")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """(folder, result) of the experiment on two divergences and a few steps: not fits, but everything around them."""
    folder = tmp_path_factory.mktemp("modes")
    few = {"STEPS": 20, "PLANE_STEPS": 20, "BATCH": 64, "POLISH_STEPS": 5, "POLISH_BATCH": 64}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in few.items():
            patch.setattr(training, name, value)
        patch.setattr(measurement, "FRESH", 500)
        patch.setattr(modes, "PLANE_NAMES", ("kl", "reverse_kl"))
        result = modes.results(folder, names=("kl", "total_variation"), quiet=True)
    return folder, result


@pytest.mark.slow
def test_modes_json_holds_the_contract(smoke):
    stored = strict(smoke[0] / "modes.json")
    assert {"rows", "cross_table", "seconds"} <= set(stored) and stored["settings"]["steps"] == 20
    for row in stored["rows"]:
        assert set(row) >= ROW_KEYS and set(row["optimum"]) == {"mu", "sigma", "value"}
        assert row["sigma"] > 0.0 and len(row["seeds"]) == len(training.SEEDS)
        assert row["excess"] == pytest.approx(row["exact"] - row["optimum"]["value"])
        assert row["excess"] == sorted(seed["excess"] for seed in row["seeds"])[1], "the median seed's scalars"
        assert row["excess"] >= -1e-9, "nothing beats the exact optimum"
        assert row["bound"] <= row["exact"] + 1e-9, "a bound is a bound, however little the critic was trained"
    assert np.shape(stored["cross_table"]) == (2, 2)
    diagonal = [stored["cross_table"][i][i] for i in range(2)]
    assert diagonal == pytest.approx([row["exact"] for row in stored["rows"]])
    assert [(f["divergence"], f["start"]["mu"]) for f in stored["two_modes"]] == [
        ("kl", -1.5),
        ("kl", 1.5),
        ("reverse_kl", -1.5),
        ("reverse_kl", 1.5),
    ]
    assert "smoothed ratio" in stored["rows"][1]["generator_objective"]


@pytest.mark.slow
def test_the_plane_in_modes_json(smoke):
    rows = strict(smoke[0] / "modes.json")["plane"]
    assert [row["divergence"] for row in rows] == ["kl", "reverse_kl"]
    for row in rows:
        assert set(row) >= {"divergence", "mu", "covariance", "exact", "excess", "optimum", "seeds"}
        assert set(row["optimum"]) == {"mu", "covariance", "value"} and len(row["seeds"]) == len(training.SEEDS)
        for fit in (row, row["optimum"], *row["seeds"]):
            assert len(fit["mu"]) == 2 and np.linalg.eigvalsh(fit["covariance"]).min() > 0.0
        assert row["excess"] == sorted(seed["excess"] for seed in row["seeds"])[1], "the median seed's scalars"
        assert row["excess"] == pytest.approx(row["exact"] - row["optimum"]["value"])
        assert row["excess"] >= -1e-7, "nothing beats the exact optimum"


@pytest.mark.slow
def test_the_best_gaussian_in_the_plane_covers_under_kl_and_seeks_under_reverse_kl(smoke):
    """kl: the moments of the target. reverse_kl: along the ridge, no dearer than missing the round mode."""
    cover, seek = (row["optimum"] for row in smoke[1]["plane"])
    mean, covariance = RIDGE.mean_and_covariance()
    np.testing.assert_allclose(cover["mu"], mean, atol=1e-6)
    np.testing.assert_allclose(cover["covariance"], covariance, atol=1e-6)
    ridge = Mixture(weights=(1 / 3,) * 3, means=RIDGE.means[:3], sigmas=RIDGE.sigmas[:3])
    centre, spread = ridge.mean_and_covariance()
    np.testing.assert_allclose(seek["mu"], centre, atol=0.1)
    np.testing.assert_allclose(seek["covariance"], spread, atol=0.1)
    assert cover["covariance"][0][1] < 0.0 < seek["covariance"][0][1], "the ellipse turns"
    alone = exact_divergence(ridge.log_prob, Gaussian(location=centre, scatter=spread).log_prob, "reverse_kl", PLANE)
    assert seek["value"] <= alone - math.log(sum(RIDGE.weights[:3])) + 1e-6


@pytest.mark.slow
def test_a_diverged_fit_in_the_plane_is_counted_last_and_written_as_null(tmp_path, monkeypatch):
    best = {"mu": [0.0, 0.0], "covariance": np.eye(2).tolist(), "value": 0.1}
    monkeypatch.setattr(measurement, "best_gaussian_plane", lambda target, row: best)
    mu, covariance = np.zeros((3, 2)), np.stack([np.eye(2), np.full((2, 2), np.nan), 2.0 * np.eye(2)])
    row = modes.measure_plane(RIDGE, divergence("kl"), training.PlaneFit(mu, covariance, np.zeros(3)), (0, 1, 2))
    assert math.isnan(row["seeds"][1]["excess"]) and row["excess"] == max(row["seeds"][i]["excess"] for i in (0, 2))
    modes.write(tmp_path, {"plane": [row]})
    assert strict(tmp_path / "modes.json")["plane"][0]["seeds"][1]["exact"] is None


@pytest.mark.slow
def test_the_command_draws_the_file_and_prints_which_aims_were_missed(smoke, monkeypatch, capsys):
    folder, result = smoke
    monkeypatch.setattr(modes, "results", lambda folder, *, quiet: result)
    picture, data = modes.reproduce("modes", folder, quiet=True)
    assert picture.read_bytes()[:4] == b"\x89PNG" and data == folder / "modes.json"
    text = capsys.readouterr().out
    assert table.text(result) in text
    assert "missed by" in text and "smoothed ratio" in text and "in the plane" in text


def test_a_diverged_seed_is_counted_last_and_written_as_null(tmp_path):
    row = divergence("kl")
    fitted = training.Fit(np.array([1.0, math.nan, 1.1]), np.array([1.8, math.nan, 1.9]), None, np.zeros(3))
    measured = measurement._measure_one(FGAN_MIXTURE, row, fitted, 1, 0.283)
    assert set(measured) >= {"mu", "exact", "bound_standard_error"} and all(math.isnan(v) for v in measured.values())
    modes.write(tmp_path, {"rows": [measured]})
    assert strict(tmp_path / "modes.json")["rows"][0]["mu"] is None


@pytest.mark.parametrize(
    "excesses, middle",
    [([3.0, 1.0, 2.0], 2), ([1.0], 0), ([2.0, 1.0], 1), ([math.nan, 1.0, 2.0], 2), ([0.2, math.nan, 0.1], 0)],
)
def test_the_scalars_are_those_of_the_median_seed(monkeypatch, excesses, middle):
    keys = [name for name in measurement.NUMBERS if name != "excess"]

    def measured(target, row, fitted, i, best):
        return {key: i + k / 10 for k, key in enumerate(keys)} | {"excess": excesses[i]}

    monkeypatch.setattr(measurement, "_measure_one", measured)
    fitted = training.Fit(np.zeros(3), np.ones(3), None, np.arange(3.0))
    seeds = [10 + i for i in range(len(excesses))]
    row = modes.measure(FGAN_MIXTURE, divergence("kl"), fitted, seeds, {"mu": 0.0, "sigma": 1.0, "value": 0.0})
    assert [row[key] for key in keys] == [middle + k / 10 for k in range(len(keys))]
    assert row["excess"] == excesses[middle] and [seed["seed"] for seed in row["seeds"]] == seeds


@pytest.mark.slow
def test_every_divergence_meets_its_aims(optimised, tmp_path):
    result = modes.results(tmp_path)
    assert [row["divergence"] for row in result["rows"]] == list(NAMES)
    for row in result["rows"]:
        name = row["divergence"]
        assert all(math.isfinite(v) for seed in row["seeds"] for v in seed.values()), name
        assert row["excess"] <= (5e-3 if name == "total_variation" else 1e-3), name
        assert abs(row["bound"] / row["exact"] - 1.0) <= 0.01, name
        assert abs(row["bound_samples"] - row["bound"]) <= 4.0 * row["bound_standard_error"], name
    for fit in result["two_modes"]:
        assert fit["mu"] == pytest.approx(fit["optimum"]["mu"], abs=0.1), fit
        assert fit["sigma"] == pytest.approx(fit["optimum"]["sigma"], rel=0.1), fit
    assert [row["divergence"] for row in result["plane"]] == list(modes.PLANE_NAMES)
    for row in result["plane"]:
        assert row["excess"] <= table.AIM, row["divergence"]

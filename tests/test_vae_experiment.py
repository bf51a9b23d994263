"""The autoencoder experiment: distortions read off at equal rate, the order that is stated, and a short run."""

import json
import math

import matplotlib.image
import numpy as np
import pytest

from fgan.config.checks import check
from fgan.config.schema import get
from fgan.experiments import vae

FACTOR = {"kl": 1.0, "gjs": 1.1, "gjs_dual": 0.8}
"""Of the made-up squared errors, the same at every rate."""


def made_up(*, weights=(0.1, 0.3, 1.0, 3.0), alphas=(0.3, 0.5), spread: float = 1e-3) -> list[dict]:
    """Rows whose squared error is FACTOR·8·e^{−rate/8}, a fifth more for α = 0.3; rates differ by regulariser."""
    rows = []
    for number, name in enumerate(vae.NAMES):
        for annealing in vae.ANNEALING:
            for alpha in (None,) if name == "kl" else alphas if annealing == "none" else (0.5,):
                for weight in weights:
                    rate = 4.0 / weight**0.5 * (1.0 + 0.1 * number)
                    worse = 1.2 if alpha == 0.3 else 1.0
                    for seed in range(3):
                        error = FACTOR[name] * worse * (1.0 + spread * (seed - 1)) * 8.0 * math.exp(-rate / 8.0)
                        shared = {"regulariser": name, "annealing": annealing, "alpha": alpha, "weight": weight}
                        scores = {"rate": rate, "squared_error": error, "elbo": -90.0, "active_units": 10}
                        scores |= {"importance_weighted_64": -89.0, "seed": seed, "line": 0}
                        rows.append(shared | {"run": f"runs/{name}-{annealing}"} | scores)
    return [vae._setting(members) for members in vae._grouped(rows)]


def test_every_training_is_checked_and_groups_are_few():
    plans = vae.plans()
    assert list(plans) == [f"{name}-{annealing}" for name in vae.NAMES for annealing in vae.ANNEALING]
    for name, plan in plans.items():
        configs = [check(config) for config in plan.configs()]
        assert {config.vae.regulariser for config in configs} == {name.split("-")[0]}
        assert {config.vae.annealing for config in configs} == {name.split("-")[1]}
        assert configs[0].seed >= 101 and configs[0].seeds >= 3 and 1.0 in plan.grid["vae.weight"]
        differing = {field for field in ("vae.weight", "vae.alpha") if len({get(c, field) for c in configs}) > 1}
        assert differing == set(plan.grid)  # nothing else differs, so that one program trains all


def test_distortions_at_a_rate_are_those_of_the_curve():
    """Between the trainings, to a per cent; NaN where no training has such a rate."""
    curve = vae.curve(made_up(), "gjs", "none", 0.5)
    assert curve.shape == (3, 4, 2)
    for rate in (3.0, 5.0, 9.0):
        found = vae.interpolated(curve, rate)
        np.testing.assert_allclose(found, 1.1 * 8.0 * math.exp(-rate / 8.0) * np.array([0.999, 1.0, 1.001]), rtol=1e-6)
    assert np.isnan(vae.interpolated(curve, 1.0)).all() and np.isnan(vae.interpolated(curve, 99.0)).all()


def test_regularisers_are_compared_at_equal_rate_under_their_best_alpha():
    """At weight 1 the rates differ, so that the order there is another than at equal rate."""
    row = vae.at_rate(made_up(), 5.0, "none", (0.3, 0.5))
    assert row["met"] == {"KL > GJS": False, "GJS > dual GJS": True}
    assert row["gjs"]["alpha"] == 0.5 and row["kl"]["alpha"] is None
    for name, factor in FACTOR.items():
        value = row[name]["squared_error"]
        assert value["mean"] == pytest.approx(factor * 8.0 * math.exp(-5.0 / 8.0), rel=1e-3)
        assert value["standard_error"] == pytest.approx(1e-3 * value["mean"] / math.sqrt(3.0), rel=1e-2)
    over = row["over_kl"]["gjs"]
    assert over["mean"] == pytest.approx(0.1 * row["kl"]["squared_error"]["mean"], rel=1e-3)
    theirs = vae.their_setting(made_up())
    assert theirs["gjs"]["rate"] == pytest.approx(4.4) and theirs["kl"]["rate"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    "means, spread, met",
    [
        ((3.0, 2.0, 1.0), 0.01, (True, True)),
        ((3.0, 1.0, 2.0), 0.01, (True, False)),
        ((3.0, 2.9, 2.8), 1.0, (False, False)),  # in order, but by less than two standard errors
    ],
)
def test_a_pair_is_met_where_it_differs_by_two_standard_errors(means, spread, met):
    noise = spread * np.array([[-1.0, 0.0, 1.0], [1.0, -1.0, 0.0], [0.0, 1.0, -1.0]])
    values = {name: mean + n for name, mean, n in zip(vae.NAMES, means, noise, strict=True)}
    compared = vae._compared(values, {name: {"alpha": None} for name in vae.NAMES})
    assert tuple(compared["met"].values()) == met
    assert compared["differences"]["KL > GJS"]["mean"] == pytest.approx(means[0] - means[1])


@pytest.mark.slow
def test_it_runs_from_end_to_end(tmp_path, monkeypatch, capsys, optimised):
    """Few steps: every number is there and finite, the table and the picture are drawn, and a second call trains
    nothing."""
    monkeypatch.setattr(vae, "RATES", ())
    monkeypatch.setattr(vae, "ALPHAS", (0.5,))
    monkeypatch.setattr(vae, "WEIGHTS", dict.fromkeys(vae.NAMES, (0.1, 1.0)))
    result = vae.results(tmp_path, quiet=True, steps=40, seeds=2)
    assert len(result["rows"]) == 12 and all(len(row["seeds"]) == 2 for row in result["rows"])
    assert result == json.loads((tmp_path / "vae.json").read_text())
    for row in result["rows"]:
        for seed in row["seeds"]:
            assert 0.0 < seed["squared_error"] < 30.0 and seed["rate"] > 0.0
            assert seed["elbo"] < seed["importance_weighted_64"] < 0.0
    assert "their setting, weight 1" in vae.table(result)
    assert min(matplotlib.image.imread(vae.picture(tmp_path / "vae.json")).shape[:2]) > 600
    again = vae.results(tmp_path, quiet=True, steps=40, seeds=2)
    assert again["rows"] == result["rows"]

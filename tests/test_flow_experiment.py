"""The flow experiment: the same setting for every divergence, exact scores, its table with aims, its pictures."""

import dataclasses
import json

import numpy as np
import pytest

from estimators.distributions.examples import TARGETS as EXAMPLES
from fgan.config.checks import check
from fgan.config.toml import to_toml
from fgan.experiments import flow, runs
from fgan.experiments.flow import measurement
from fgan.experiments.flow.table import EXCESS
from fgan.experiments.flow.training import MODELS, NAMES, SETUPS, Setup, preset

SMALL = Setup("hazy_ring", "small")
OPTIONS = {"setups": (SMALL,), "names": ("kl", "total_variation"), "steps": 10, "seeds": 1, "quiet": True}


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.title)
@pytest.mark.parametrize("model", MODELS)
def test_every_divergence_has_the_same_setting(setup, model):
    made = [check(preset(setup, name, model)) for name in NAMES]
    assert len({to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1 and made[0].seed >= 101
    assert [c.divergence for c in made] == list(NAMES) == list(EXCESS)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    directory = tmp_path_factory.mktemp("flow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "POLL", 0.1)
        patch.setattr(measurement, "POLISH_STEPS", 200)
        result = flow.results(directory, **OPTIONS)
    return directory, result


@pytest.mark.slow
def test_scores_are_exact_and_the_bound_is_below(short):
    """After ten steps a flow is near N(0, I): both divergences are the same to a few percent, bounds near 0."""
    _, result = short
    assert [(r["divergence"], r["variant"]) for r in result["rows"]] == [
        (name, f"hazy_ring-small-{model}") for model in MODELS for name in OPTIONS["names"]
    ]
    for row in result["rows"]:
        (seed,) = row["seeds"]
        assert seed["own"] == seed[row["divergence"]] and all(seed[name] > 0.0 for name in NAMES)
        assert seed["total_variation"] ** 2 <= 0.5 * min(seed["kl"], seed["reverse_kl"])  # Pinsker
        assert (seed["bound"] is None) == ("direct_fit" in row["variant"])
        if seed["bound"] is not None:
            assert all(seed[b] - 4.0 * seed[f"{b}_error"] < seed["own"] for b in ("bound", "polished"))
            assert seed["gap"] == pytest.approx((seed["own"] - seed["polished"]) / seed["own"])
            assert seed["polished"] > seed["bound"]  # after ten steps, a critic has much to learn


def made_up(own: float, other: float | None, *, name: str, gap: float = 0.0, method: str = "quadrature") -> dict:
    """A row of flows trained under kl or js, whose divergences are `own` under that and `other` under the other."""
    mine = {"kl": own, "js": other} if name == "kl" else {"kl": other, "js": own}
    seed = mine | {"own": own, "gap": gap, "polished_error": 1e-4, "methods": dict.fromkeys(("kl", "js"), method)}
    mean = {score: {"mean": value} for score, value in (("bound", 0.9 * own), ("polished", own), ("gap", gap))}
    return {"divergence": name, "variant": "hazy_ring-small-fgan", "seeds": [seed]} | mean


def missed_aims(*rows: dict, best: float) -> list[str]:
    """The last column of the table of such rows, beside direct fits that reach `best`."""
    direct = [
        {"divergence": n, "variant": "hazy_ring-small-direct_fit", "seeds": [{"own": best}]} for n in ("kl", "js")
    ]
    aims = {"own_is_least": 2, "excess": EXCESS, "gap": 0.03}
    text = flow.table.text({"rows": [*rows, *direct], "cells": [SMALL], "names": ["kl", "js"], "aims": aims})
    return [line.split("  ")[-1].strip() for line in text.splitlines()[2:4]]


def test_the_table_says_which_aims_are_missed():
    good = [made_up(0.1, 0.2, name=name) for name in ("kl", "js")]
    assert missed_aims(*good, best=0.095) == ["none", "none"]
    assert missed_aims(*good, best=0.08) == ["none", "excess"]  # js may exceed by 0.01 alone
    wide = made_up(0.1, 0.2, name="kl", gap=0.04)
    assert missed_aims(wide, good[1], best=0.095) == ["gap", "none"]
    worse = made_up(0.3, 0.05, name="kl")
    assert missed_aims(worse, good[1], best=0.29) == ["own is not least", "own is not least"]
    infinite = made_up(0.1, None, name="js")
    assert missed_aims(good[0], infinite, best=0.095) == ["none", "none"]
    assert missed_aims(good[0] | {"seeds": []}, good[1], best=0.095) == ["diverged", "none"]


@pytest.mark.parametrize("method, mark", [("quadrature", " 0.1000*"), ("monte_carlo", "~0.1000*")])
def test_the_table_marks_what_is_drawn(method, mark):
    row = made_up(0.1, 0.2, name="kl", method=method)
    assert mark in flow.table.text(
        {
            "rows": [row],
            "cells": [SMALL],
            "names": ["kl", "js"],
            "aims": {"own_is_least": 1, "excess": EXCESS, "gap": 1},
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", flow.TARGETS)
def test_the_grid_of_a_picture_holds_the_target(target):
    """Its densities there add up to the mass of 1."""
    points, (left, right, bottom, top) = flow.picture._axes(target)
    area = (right - left) * (top - bottom) / (flow.picture.DOTS - 1) ** 2
    assert np.exp(EXAMPLES[target].log_prob(points)).sum() * area == pytest.approx(1.0, abs=0.02)
    assert (points.min(0) == (left, bottom)).all() and (points.max(0) == (right, top)).all()


@pytest.mark.slow
def test_pictures_are_drawn_and_nothing_is_trained_again(short, monkeypatch, capsys):
    directory, result = short
    monkeypatch.setattr(runs, "start", lambda *_: pytest.fail("a finished run was started"))
    assert json.loads(json.dumps(flow.results(directory, **OPTIONS))) == json.loads(
        (directory / "flow.json").read_text()
    )
    monkeypatch.setattr(flow, "TARGETS", ("hazy_ring",))
    monkeypatch.setattr(flow, "results", lambda directory, *, quiet: result)
    made = flow.reproduce("flow", directory, quiet=True)
    assert [path.name for path in made] == ["flow-hazy_ring.png", "flow-gap.png", "flow.json"]
    assert all(path.stat().st_size > 10_000 for path in made) and flow.table.text(result) in capsys.readouterr().out

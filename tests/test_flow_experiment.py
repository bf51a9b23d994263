"""The flow experiment: the same setting for every divergence, exact scores, its table with aims, its pictures."""

import dataclasses
import json

import numpy as np
import pytest

from fgan.config.checks import check
from fgan.config.toml import to_toml
from fgan.experiments import flow, runs
from fgan.experiments.flow import CELLS, EXCESS, MODELS, NAMES, Cell, preset

SMALL = Cell("wide_ring", "small")
OPTIONS = {"cells": (SMALL,), "names": ("kl", "total_variation"), "steps": 10, "seeds": 1, "quiet": True}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.title)
@pytest.mark.parametrize("model", MODELS)
def test_every_divergence_has_the_same_setting(cell, model):
    made = [check(preset(cell, name, model)) for name in NAMES]
    assert len({to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
    assert [c.divergence for c in made] == list(NAMES) == list(EXCESS)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    directory = tmp_path_factory.mktemp("flow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "POLL", 0.1)
        result = flow.results(directory, **OPTIONS)
    return directory, result


def test_scores_are_exact_and_the_bound_is_below(short):
    """After ten steps a flow is near N(0, I): both divergences are the same to a few percent, bounds near 0."""
    _, result = short
    assert [(r["divergence"], r["variant"]) for r in result["rows"]] == [
        (name, f"wide_ring-small-{model}") for model in MODELS for name in OPTIONS["names"]
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


def test_the_table_says_which_aims_are_missed(short):
    _, result = short
    text = flow.table(result)
    assert "wide ring, small flow" in text and "gap" in text and "aim 5" in text
    rows = {
        name: {"seeds": [dict.fromkeys(NAMES, 1.0) | {name: value, "own": value}]}
        for name, value in (("kl", 0.5), ("js", 2.0))
    }
    assert flow.least(rows) == ["kl"]
    rows["js"]["seeds"][0]["kl"] = None  # infinite, hence never the least
    assert flow.measured(rows["js"], "kl") == np.inf and flow.best({"seeds": [{"own": 0.3}, {"own": 0.2}]}) == 0.2


def test_pictures_are_drawn_and_nothing_is_trained_again(short, monkeypatch, capsys):
    directory, result = short
    monkeypatch.setattr(runs, "start", lambda *_: pytest.fail("a finished run was started"))
    assert json.loads(json.dumps(flow.results(directory, **OPTIONS))) == json.loads(
        (directory / "flow.json").read_text()
    )
    monkeypatch.setattr(flow, "TARGETS", ("wide_ring",))
    monkeypatch.setattr(flow, "results", lambda directory, *, quiet: result)
    made = flow.reproduce("flow", directory, quiet=True)
    assert [path.name for path in made] == ["flow-wide_ring.png", "flow-gap.png", "flow.json"]
    assert all(path.stat().st_size > 10_000 for path in made) and flow.table(result) in capsys.readouterr().out

"""Tables of experiments: means with standard errors, aims that every seed has to reach, and lines of text."""

import numpy as np
import pytest

from fgan.experiments.tables import Column, lines, misses, number, plus_minus, summary

AIMS = {"modes": 8, "high_quality": 0.96, "kl": 0.005, "width_ratio": [0.9, 1.1]}
GOOD = {"modes": 8, "high_quality": 0.989, "kl": 1e-4, "width_ratio": 1.0}


def row(**changes):
    """A table row of two seeds that reach every aim, but for `changes` in the second."""
    return {"divergence": "kl", "variant": "preset", "seeds": [GOOD, GOOD | changes], "skipped_steps": 0.0}


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
    assert misses(row(), AIMS) == []
    assert misses(row(**changes), AIMS) == [missed]
    assert misses(row() | {"skipped_steps": 2.0}, AIMS) == ["skipped steps"]
    assert misses({"seeds": []}, AIMS) == ["diverged"]


def test_summaries_are_means_with_standard_errors():
    found = summary([{"modes": m, "kl": None} for m in (7, 8, 8, 5)], ("modes", "kl"))
    assert found["modes"] == {"mean": 7.0, "standard_error": pytest.approx(np.std([7, 8, 8, 5], ddof=1) / 2.0)}
    assert found["kl"] == {"mean": None, "standard_error": None}


def test_rows_as_text():
    columns = [Column("modes", 12, plus_minus("modes")), Column("HQ %", 14, plus_minus("high_quality", 100, 2))]
    found = row(modes=6) | summary(row(modes=6)["seeds"], ("modes", "high_quality"))
    rows = [found, found | {"variant": "own"}, row() | {"seeds": []}]
    head, *text = lines({"rows": rows, "aims": AIMS}, columns, 12)
    assert head == "divergence         modes          HQ %  aims missed"
    assert text[0] == f"kl{'7.0 ±1.0':>22}{'98.90 ±0.00':>14}  modes"
    assert text[1].startswith("kl, own") and text[2] == f"kl{'diverged':>22}"
    assert number(None) == "–" and number(0.5, 100, 0) == "50"

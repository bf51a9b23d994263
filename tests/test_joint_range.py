"""Joint ranges: against those known in closed form, the theorem of two points, and random distributions."""

import itertools
import math

import numpy as np
import pytest

from estimators.divergences.table import DIVERGENCES, divergence
from estimators.geometry import joint_range
from estimators.geometry.categorical import between
from estimators.geometry.inequalities import INEQUALITIES
from estimators.geometry.joint_range import best_bounds, boundary, draw, exact_pair


def least_kl(t):
    """(TV, the least KL): the curve of Fedotov, Harremoës & Topsøe 2003, theorem 1, where the distance is 2 TV."""
    tv = 0.5 * t * (1.0 - (1.0 / math.tanh(t) - 1.0 / t) ** 2)
    return tv, math.log(t / math.sinh(t)) + t / math.tanh(t) - (t / math.sinh(t)) ** 2


@pytest.mark.parametrize("t", [0.05, 1.0, 4.0])
def test_kl_of_total_variation_is_the_published_curve(t):
    tv, kl = least_kl(t)
    low, high = best_bounds("total_variation", tv, "kl")
    assert low == pytest.approx(kl, rel=1e-8) and high == math.inf
    assert low >= 2.0 * tv**2  # Pinsker
    back = best_bounds("kl", kl, "total_variation")
    assert back.high == pytest.approx(tv, rel=1e-8) and back.low == 0.0


CLOSED = [
    ("squared_hellinger", "total_variation", ("Le Cam, lower", "Le Cam, upper")),
    ("total_variation", "js", ("Sason", "Lin")),
    ("total_variation", "triangular", ("Topsøe, lower", "Topsøe, upper")),
    ("total_variation", "pearson", ("χ² of TV", None)),
    ("pearson", "kl", (None, "KL below Rényi 2")),
    ("squared_hellinger", "kl", ("KL above Rényi ½", None)),
]


@pytest.mark.parametrize(("known", "bounded", "names"), CLOSED)
def test_ranges_known_in_closed_form(x64, known, bounded, names):
    """The best possible inequalities are the range's ends; where none is named, the end is 0 or ∞."""
    for value in (0.03, 0.9):
        found = best_bounds(known, value, bounded)
        expected = [INEQUALITIES[name].bound(value) if name else end for name, end in zip(names, (0.0, math.inf))]
        assert found == pytest.approx([float(end) for end in expected], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("value", [1e-6, 1e-3, 0.999, 1.0 - 1e-8])
def test_both_ends_of_the_range_are_resolved(x64, value):
    """Le Cam's pair is the range of H² by TV: squares at one end, complements at the other."""
    low, high = best_bounds("total_variation", value, "squared_hellinger")
    rest = math.sqrt((1.0 - value) * (1.0 + value))
    assert low == pytest.approx(2.0 * value**2 / (1.0 + rest), rel=1e-6) and high == pytest.approx(
        2.0 * value, rel=1e-7
    )


@pytest.mark.parametrize("name", INEQUALITIES)
def test_no_inequality_is_better_than_the_range(x64, name):
    row = INEQUALITIES[name]
    for value in (0.3,):
        low, high = best_bounds(row.known, value, row.bounded)
        bound = float(row.bound(value))
        assert bound >= high * (1.0 - 1e-6) if row.side == "at most" else bound <= low * (1.0 + 1e-6)


def test_the_range_is_the_convex_hull_of_that_over_two_points():
    """Harremoës & Vajda 2011: chords between two-point pairs touch the curves and never leave them."""
    logits = np.linspace(-9.0, 9.0, 73)
    a, b = (1.0 / (1.0 + np.exp(-grid.ravel())) for grid in np.meshgrid(logits, logits))
    pair = np.stack([a, 1.0 - a], axis=1), np.stack([b, 1.0 - b], axis=1)
    x, y = between(*pair, "js"), between(*pair, "squared_hellinger")
    for value in (0.1, 0.4):
        left, right = x <= value, x > value
        low, high = best_bounds("js", value, "squared_hellinger")
        slope = (best_bounds("js", value + 1e-4, "squared_hellinger").low - low) / 1e-4
        supporting = y - slope * (x - value) - low  # of a point of two, over the tangent of the lower curve
        assert supporting.min() == pytest.approx(0.0, abs=1e-3) and left.any() and right.any()
        slope = (best_bounds("js", value + 1e-4, "squared_hellinger").high - high) / 1e-4
        assert (y - slope * (x - value) - high).max() == pytest.approx(0.0, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("known", "bounded"), [("js", "squared_hellinger"), ("kl", "reverse_kl"), ("pearson", "js")])
def test_random_distributions_on_five_points_lie_inside(known, bounded):
    rng = np.random.default_rng(3)
    p, q = (rng.dirichlet(np.full(5, 0.7), 5) for _ in range(2))
    for x, y in zip(between(p, q, known), between(p, q, bounded)):
        low, high = best_bounds(known, float(x), bounded)
        assert low * (1.0 - 1e-6) <= y <= high * (1.0 + 1e-6)


@pytest.mark.parametrize(
    ("known", "value", "bounded", "expected"),
    [
        ("jeffreys", 1.0, "kl", (0.0, 1.0)),  # both ends only in the limit: one of the two directions may vanish
        ("pearson", 1.0, "alpha(2)", (0.5, 0.5)),
        ("kl", 0.3, "reverse_kl", (0.0, math.inf)),
        ("hockey_stick(2)", 0.0, "kl", (0.0, math.log(2.0))),
        ("hockey_stick(2)", 0.0, "pearson", (0.0, 1.0)),  # ratios from 0 to 2, one half each
        ("hockey_stick(2)", 0.0, "neyman", (0.0, math.inf)),
        ("js", math.log(2.0), "total_variation", (1.0, 1.0)),
        ("kl", 0.0, "pearson", (0.0, 0.0)),
    ],
)
def test_bounds_reached_in_a_limit(known, value, bounded, expected):
    assert best_bounds(known, value, bounded) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("total_variation", 1.2, "kl"), "total_variation = 1.2: give a finite number"),
        (("kl", math.inf, "js"), "kl = inf"),
        (("gan", 0.1, "kl"), "use js"),
    ],
)
def test_values_that_no_pair_has_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        best_bounds(*arguments)


@pytest.mark.slow
def test_no_pair_of_the_table_leaves_its_range():
    names = [name for name in DIVERGENCES if name != "gan"]
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    values = {name: float(between(p, q, name)) for name in names}
    for known, bounded in itertools.permutations(names, 2):
        low, high = best_bounds(known, values[known], bounded)
        assert low * (1.0 - 1e-6) <= values[bounded] <= high * (1.0 + 1e-6), (known, bounded)


@pytest.mark.slow
def test_the_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(joint_range, "PAIRS", {name: pairs[:1] for name, pairs in joint_range.PAIRS.items()})
    assert draw("total_variation", "triangular", tmp_path / "range.png", points=5).stat().st_size > 20_000
    edge = boundary("total_variation", "triangular", points=5)
    assert np.all(edge.low <= edge.high) and edge.x[-1] == divergence("total_variation").upper_limit()
    for pair in (((0.0, 1.0), (0.0, 2.0)), ((0.9,), (0.4,))):
        x, y = (exact_pair(*pair, name) for name in ("total_variation", "triangular"))
        assert best_bounds("total_variation", x, "triangular").low <= y <= 2.0 * x

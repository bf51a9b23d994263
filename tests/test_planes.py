"""Equations between columns: found where they hold, not where there is chance; sets of which one has one are apart."""

import numpy as np
import pytest

import estimators as est
from estimators import estimation
from estimators.contract import Fit, Interval
from estimators.samples import planes
from estimators.samples.planes import MORE, equations, reduced

RNG = np.random.default_rng(0)
N = 200
FULL = RNG.normal(size=(N, 3))
A, B = FULL[:, 0], FULL[:, 1]
SINGLE = RNG.uniform(size=(N, 10)).astype(np.float32)
PLANE = np.column_stack([A, B, A + B])
KINDS = {
    "sum": (PLANE, [(2, (0, 1))]),
    "far from the origin": (np.column_stack([A, 100.0 - A + 3.0 * B, B]), [(2, (0, 1))]),
    "twice": (np.column_stack([A, 1.0 - 2.0 * A, B, A - B]), [(1, (0,)), (3, (0, 2))]),
    "dummies": (np.column_stack([np.eye(4)[np.arange(N) % 4], A]), [(3, (0, 1, 2))]),
    "single precision": (np.column_stack([SINGLE, SINGLE.sum(axis=1)]), [(10, tuple(range(10)))]),
    "a small term": (np.column_stack([A, B, 1000.0 * A + 0.5 * B]), [(2, (0, 1))]),
    "twice what is nearly another": (np.column_stack([A, A + 1e-4 * B, 2.0 * A + 2e-4 * B]), [(2, (1,))]),
    "small numbers": (1e-30 * PLANE, [(2, (0, 1))]),
    "few rows": (PLANE[: 3 + MORE], [(2, (0, 1))]),
    "too few rows": (PLANE[: 2 + MORE], []),
    "no plane": (FULL, []),
    "a little noise": (PLANE + 1e-4 * FULL[:, [2]] * [0.0, 0.0, 1.0], []),
}


def found(rows) -> list[tuple[int, tuple[int, ...]]]:
    there = equations(np.asarray(rows, float), np.arange(rows.shape[1]))
    return [(equation.column, equation.of) for equation in there if equation.holds]


def apart(x, y) -> str:
    return planes.apart(x, y, np.arange(x.shape[1]))


@pytest.mark.parametrize("rows, expected", KINDS.values(), ids=KINDS)
def test_a_column_that_is_a_linear_function_of_others_is_found(rows, expected):
    assert found(rows) == expected


@pytest.mark.parametrize("kind", ["normal", "counts", "few rows"])
def test_ordinary_columns_fulfil_no_equation(kind):
    for seed in range(200):
        rng = np.random.default_rng(seed)
        d, n = int(rng.integers(2, 12)), int(rng.integers(40, 400))
        rows = {
            "normal": rng.normal(size=(n, d)) @ rng.normal(size=(d, d)),
            "counts": rng.poisson(3.0, size=(n, d)),
            "few rows": rng.normal(size=(d + MORE - 1, d)) @ np.ones((d, d)),
        }[kind]
        other = rng.normal(size=rows.shape)
        assert found(rows) == [] and apart(rows.astype(float), other) == ""


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("other", ["another plane", "a full law", "the same plane", "one row of it"])
def test_sets_of_which_one_alone_fulfils_an_equation_are_apart(other, scale):
    """Whatever the unit of the last column, and from either side."""
    c, d = np.random.default_rng(1).normal(size=(2, N))
    y = {
        "another plane": np.column_stack([c, d, c + 2.0 * d]),
        "a full law": FULL[::-1],
        "the same plane": 3.0 * np.column_stack([c, d, c + d]),
        "one row of it": np.concatenate([FULL, PLANE[:1]]),
    }[other]
    units = np.array([1.0, 1.0, scale])
    one, back = apart(PLANE * units, y * units), apart(y * units, PLANE * units)
    if other in ("the same plane", "one row of it"):
        assert one == back == ""
        return
    words = "disjoint support: in {} column 2 is a linear function of columns 0, 1, and no row of {}"
    assert one.startswith(words.format("x", "y"))
    assert back.startswith(words.format("x", "y") if other == "another plane" else words.format("y", "x"))


def test_a_column_that_nearly_is_one_gives_way_to_the_difference():
    rows, small = np.array(KINDS["a little noise"][0]), 1e-4 * FULL[:, 2]
    (equation,) = equations(rows, np.arange(3))
    assert (equation.column, equation.of, equation.holds) == (2, (0, 1), False)
    np.testing.assert_allclose(equation.slopes, 1.0, atol=1e-4)
    np.testing.assert_allclose(reduced(rows, [equation])[:, 2], small, atol=1e-4)
    np.testing.assert_array_equal(reduced(rows, [equation])[:, :2], rows[:, :2])
    assert reduced(PLANE, equations(PLANE, np.arange(3))) is PLANE


@pytest.fixture
def seen(monkeypatch):
    """The requests that reach a method which costs nothing."""
    requests = []

    def method(request):
        requests.append(request)
        interval = Interval(0.5, 0.4, 0.6, 0.05)
        return Fit("stub", [interval] * len(request.divergences), lambda points: points.sum(axis=1))

    monkeypatch.setattr(estimation, "METHODS", dict.fromkeys(estimation.METHODS, method))
    return requests


def test_a_column_that_others_decide_is_left_out_with_a_note(seen):
    """What reaches the method is what reaches it without that column, so every number is the same."""
    y = PLANE[::-1] + [1.0, 0.0, 1.0] + 0.1 * np.column_stack([FULL[:, 2], FULL[:, 2], 2.0 * FULL[:, 2]])
    e, plain = est.estimate(PLANE, y), est.estimate(PLANE[:, :2], y[:, :2])
    np.testing.assert_array_equal(seen[0].x, seen[1].x)
    np.testing.assert_array_equal(seen[0].y, seen[1].y)
    assert e.dim == 3 and (e.value, e.low, e.high) == (plain.value, plain.low, plain.high)
    (note,) = e.warnings
    assert note.startswith("column 2 is a linear function of columns 0, 1, in both sets: left out")
    np.testing.assert_allclose(e.log_ratio(PLANE), plain.log_ratio(PLANE[:, :2]))
    assert plain.warnings == ()


def test_planes_apart_have_the_greatest_divergence_and_say_why(seen):
    for e, most in zip(est.estimate(PLANE, FULL[::-1], ["kl", "js"]), (np.inf, np.log(2.0)), strict=True):
        assert e.value == e.low == e.high == pytest.approx(most) and e.method == "exact"
        assert any("column 2 is a linear function" in w for w in e.warnings)
    assert not seen


@pytest.mark.parametrize("place", [0.0, 5.0, 50.0])
def test_sums_in_single_precision_are_sums_wherever_the_other_set_lies(place):
    """What rounding does to the slopes grows with the distance at which the equation is asked."""
    for seed in range(20):
        terms = np.random.default_rng(seed).normal(size=(2, 100, 2)).astype(np.float32)
        terms[1] += np.float32(place)
        x, y = (np.column_stack([side, side.sum(axis=1)]).astype(float) for side in terms)
        assert apart(x, y) == "" and apart(y, x) == ""

"""Inequalities hold for random pairs, with equality on the pairs that are known to be extremal."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.divergences.table import divergence
from estimators.exact_values.partition import Partition, of_partition
from estimators.geometry.categorical import between, probabilities
from estimators.geometry.inequalities import INEQUALITIES, chord, reverse_pinsker

NAMES = sorted({name for row in INEQUALITIES.values() for name in (row.known, row.bounded)})
T = np.array([1e-3, 0.1, 0.5, 0.9])[:, None]
SYMMETRIC = np.hstack([0.5 + 0.5 * T, 0.5 - 0.5 * T]), np.hstack([0.5 - 0.5 * T, 0.5 + 0.5 * T])
DISJOINT = np.hstack([1.0 - T, T, 0.0 * T]), np.hstack([1.0 - T, 0.0 * T, T])
CONDITIONED = np.hstack([1.0 + 0.0 * T, 0.0 * T]), np.hstack([1.0 - T, T])  # Q given an event
FLAT = np.hstack([0.5 + 0.5 * T, 0.5 - 0.5 * T]), np.full((4, 2), 0.5)
EXTREMAL = {
    "Le Cam, lower": DISJOINT,
    "Le Cam, upper": SYMMETRIC,
    "KL above Rényi ½": CONDITIONED,
    "KL below Rényi 2": CONDITIONED,
    "χ² of TV": tuple(np.vstack([flat[:3], last[2:]]) for flat, last in zip(FLAT, CONDITIONED)),
    "Lin": DISJOINT,
    "Sason": SYMMETRIC,
    "Topsøe, lower": SYMMETRIC,
    "Topsøe, upper": DISJOINT,
}
"""Pairs where the inequality is an equality."""


@functools.cache
def random_pairs(n=400, k=5):
    """Categoricals from close to far, some with zeros."""
    rng = np.random.default_rng(7)
    p, q = (rng.dirichlet(np.full(k, 0.6), n) for _ in range(2))
    nearness = rng.choice([0.0, 0.9, 0.999], (n, 1))
    q = nearness * p + (1.0 - nearness) * q
    q[:40] = np.where(rng.random((40, k)) < 0.3, 0.0, q[:40])
    q[:40, 0] += 1e-3
    return p, q / q.sum(axis=1, keepdims=True)


def holds(row, known, bounded, slack):
    bound = np.asarray(row.bound(known))
    low, high = (bounded, bound) if row.side == "at most" else (bound, bounded)
    assert np.all(low <= high + slack * np.maximum(bounded, 1e-12)), row  # false for NaN


def test_every_inequality_holds_for_random_pairs(x64):
    values = {name: between(*random_pairs(), name) for name in NAMES}
    for row in INEQUALITIES.values():
        holds(row, values[row.known], values[row.bounded], 1e-9)


@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.1, 1.0, 30.0]), nearness=st.floats(0.0, 1.0))
@settings(max_examples=15)
def test_every_inequality_holds(seed, concentration, nearness):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(4, concentration), (2, 400))
    q = (1.0 - nearness) * q + nearness * p
    values = {name: between(p, q, name) for name in NAMES}
    with jax.enable_x64(True):
        for row in INEQUALITIES.values():
            holds(row, values[row.known], values[row.bounded], 1e-7)


@pytest.mark.parametrize("name", EXTREMAL)
def test_equality_on_the_extremal_pair(x64, name):
    row = INEQUALITIES[name]
    known, bounded = (between(*EXTREMAL[name], of) for of in (row.known, row.bounded))
    np.testing.assert_allclose(row.bound(known), bounded, rtol=1e-9)


def test_pinsker_and_gilardoni_are_tight_between_close_distributions(x64):
    t = np.array([[0.01]])
    p, q = np.hstack([0.5 + t, 0.5 - t]), np.full((1, 2), 0.5)
    kl = between(p, q, "kl")
    assert INEQUALITIES["Pinsker"].bound(kl) == pytest.approx(0.01, rel=1e-4)
    assert INEQUALITIES["Gilardoni"].bound(0.01) == pytest.approx(kl[0], rel=5e-3)
    assert INEQUALITIES["Bretagnolle–Huber"].bound(30.0) < 1.0 < INEQUALITIES["Pinsker"].bound(30.0)


@pytest.mark.parametrize("name", INEQUALITIES)
def test_float32_keeps_its_digits(name):
    """Down to a value of 1e-4: the same as in float64."""
    row = INEQUALITIES[name]
    values = np.append(0.0, np.geomspace(1e-4, 0.95 * min(divergence(row.known).upper_limit(), 5.0), 399))
    single = np.asarray(row.bound(jnp.asarray(values, jnp.float32)), float)
    with jax.enable_x64(True):
        double = np.asarray(row.bound(values))
    np.testing.assert_allclose(single, double, rtol=3e-6)


def test_the_largest_value_gives_the_largest_bound():
    assert float(INEQUALITIES["Sason"].bound(1.0)) == pytest.approx(math.log(2.0))
    assert float(INEQUALITIES["Gilardoni"].bound(1.0)) == math.inf
    assert float(INEQUALITIES["χ² of TV"].bound(1.0)) == math.inf
    assert float(INEQUALITIES["KL above Rényi ½"].bound(2.0)) == math.inf


# --- bounded ratios --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "pearson", "hockey_stick(2)"])
def test_reverse_pinsker_holds_with_equality_on_two_points(name):
    p, q = random_pairs()
    inside = np.all(q > 0.0, axis=1)
    p, q = p[inside], q[inside]
    ratio = p / q
    ends = ratio.min(axis=1), ratio.max(axis=1)
    value, tv = between(p, q, name), between(p, q, "total_variation")
    assert np.all(value <= reverse_pinsker(tv, *ends, name) * (1 + 1e-9) + 1e-12)
    p2, q2 = (np.stack([law[:, 0], 1.0 - law[:, 0]], axis=1) for law in (p, q))
    ends = (p2 / q2).min(axis=1), (p2 / q2).max(axis=1)
    tight = reverse_pinsker(between(p2, q2, "total_variation"), *ends, name)
    np.testing.assert_allclose(tight, between(p2, q2, name), rtol=1e-6, atol=1e-12)


def test_reverse_pinsker_of_kl_is_the_printed_formula():
    m, most = 0.2, 3.0
    phi = [u * math.log(u) / (u - 1.0) for u in (m, most)]
    assert reverse_pinsker(0.3, m, most) == pytest.approx(0.3 * (phi[1] - phi[0]), rel=1e-12)


def test_reverse_pinsker_without_bounds_is_the_range_of_the_divergence():
    assert reverse_pinsker(0.25, 0.0, math.inf, "js") == pytest.approx(0.25 * math.log(2.0))
    assert reverse_pinsker(0.25, 0.0, math.inf) == math.inf
    assert reverse_pinsker(0.0, 0.0, math.inf) == 0.0
    assert reverse_pinsker(0.0, 1.0, 1.0) == 0.0


def test_a_chord_close_to_ratio_one_is_half_the_curvature():
    assert chord(divergence("kl"), [-1e-6, 1e-6]) == pytest.approx([5e-7, 5e-7], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 0.5, 2.0), "total_variation = 1.5"),
        ((0.5, -0.1, 2.0), "smallest = -0.1"),
        ((0.5, 0.5, 0.9), "largest = 0.9"),
        ((0.5, 0.5, 2.0, "gan"), "use js"),
    ],
)
def test_reverse_pinsker_refuses_what_has_no_meaning(arguments, message):
    with pytest.raises(ValueError, match=message):
        reverse_pinsker(*arguments)


# --- categoricals ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["kl", "gan", "pearson", "total_variation"])
def test_between_categoricals_is_the_sum_over_a_partition(name):
    p, q = (law[:4] for law in random_pairs())
    expected = [of_partition(Partition(atoms_p=a, atoms_q=b), divergence(name)) for a, b in zip(p, q)]
    np.testing.assert_allclose(between(p, q, name), expected, rtol=1e-9)
    np.testing.assert_allclose(between(p[:, None], q, name)[2, 2], expected[2], rtol=1e-9)


@pytest.mark.parametrize(
    ("values", "message"),
    [([-0.1, 1.1], "-0.1: probabilities"), ([0.5, 0.4], "sums to 0.9"), (1.0, "single number"), ([np.nan, 1], "nan")],
)
def test_bad_probabilities_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        probabilities("p", values)

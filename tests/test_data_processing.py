"""No channel makes a divergence larger: for every divergence of the table, and for a learned critic's estimates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import estimators as est
from estimators.divergences.table import DIVERGENCES
from estimators.geometry.categorical import between
from estimators.geometry.data_processing import channel_of_map, chi_squared_coefficient, dobrushin, lost, push

RNG = np.random.default_rng(9)
PLAIN = [name for name in DIVERGENCES if name != "gan"]  # gan has f(1) ≠ 0: a coefficient says nothing of it


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.1, 1.0, 10.0]))
@settings(max_examples=8)
def test_every_divergence_shrinks_under_every_channel(seed, concentration):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4))
    channel = rng.dirichlet(np.full(3, concentration), 4)
    before = {name: float(between(p, q, name)) for name in DIVERGENCES}
    after = {name: float(between(push(p, channel), push(q, channel), name)) for name in DIVERGENCES}
    for name in DIVERGENCES:
        assert after[name] <= before[name] + 1e-9 * (1.0 + abs(before[name])), name
    for name in PLAIN:
        assert after[name] <= dobrushin(channel) * before[name] * (1.0 + 1e-9) + 1e-12, name


def test_a_map_that_merges_equal_ratios_loses_nothing_and_others_do():
    p, q = np.array([0.1, 0.2, 0.7]), np.array([0.2, 0.4, 0.4])
    for name in ("kl", "js", "total_variation"):
        assert lost(p, q, channel_of_map([0, 0, 1], 2), name) == pytest.approx(0.0, abs=1e-12)
        assert lost(p, q, channel_of_map([0, 1, 1], 2), name) > 1e-3
    assert lost(p, q, channel_of_map([0, 0, 0], 1), "kl") == pytest.approx(float(between(p, q, "kl")))


def test_pushing_is_that_of_a_batch():
    p = RNG.dirichlet(np.ones(3), (2, 5))
    channel = RNG.dirichlet(np.ones(4), 3)
    np.testing.assert_allclose(push(p, channel)[1, 2], p[1, 2] @ channel)
    assert push(p, channel).shape == (2, 5, 4)


def test_dobrushin_is_attained_by_two_inputs():
    channel = RNG.dirichlet(np.ones(4), 5)
    pairs = [
        between(push(np.eye(5)[i], channel), push(np.eye(5)[j], channel), "tv") for i in range(5) for j in range(5)
    ]
    assert dobrushin(channel) == pytest.approx(float(np.max(pairs)))
    assert dobrushin(np.eye(3)) == 1.0 and dobrushin(np.full((3, 2), 0.5)) == 0.0


def test_chi_squared_contracts_by_the_singular_value_at_most_and_locally_all_do():
    q, channel = RNG.dirichlet(np.ones(4)), RNG.dirichlet(np.ones(5), 4)
    most = chi_squared_coefficient(q, channel)
    assert 0.0 < most <= dobrushin(channel)
    p = RNG.dirichlet(np.ones(4), 200)
    ratios = between(push(p, channel), push(q, channel), "pearson") / between(p, q, "pearson")
    assert ratios.max() <= most * (1.0 + 1e-9)
    scaled = np.sqrt(q)[:, None] * channel / np.sqrt(push(q, channel))
    direction = np.linalg.svd(scaled)[0][:, 1]  # the input that contracts least
    near = q + 1e-4 * np.sqrt(q) * direction
    for name in ("pearson", "kl", "js"):
        ratio = between(push(near, channel), push(q, channel), name) / between(near, q, name)
        assert float(ratio) == pytest.approx(most, rel=1e-3), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: push([0.5, 0.5], np.eye(3)), "one row a value"),
        (lambda: push([0.5, 0.5], [[0.5, 0.6], [0.0, 1.0]]), "a row of the channel sums to 1.1"),
        (lambda: push([0.5, 0.5], [0.5, 0.5]), r"it must be \[k, m\]"),
        (lambda: channel_of_map([0, 3], 2), "from 0 to 1"),
        (lambda: channel_of_map([0.0, 1.0], 2), "integers"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
@pytest.mark.parametrize(
    "process",
    [
        lambda x, rng: x[:, :1],  # a projection
        lambda x, rng: np.abs(x),
        lambda x, rng: x + rng.normal(size=x.shape),
    ],
    ids=["one column", "absolute values", "noise"],
)
def test_a_learned_critic_obeys_it_within_its_errors(process):
    rng = np.random.default_rng(1)
    x, y = 0.7 + rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) * np.array([1.0, 1.4])
    before = est.estimate(x, y, ["kl", "js"], method="neural")
    after = est.estimate(process(x, rng), process(y, rng), ["kl", "js"], method="neural")
    for whole, part in zip(before, after):
        assert part.value <= whole.value + 3.0 * math.hypot(part.standard_error, whole.standard_error)
        assert part.low <= whole.high

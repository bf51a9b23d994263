"""What is stated to be a metric obeys the triangle inequality, and at larger powers it does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.geometry.categorical import between
from estimators.geometry.metric import METRICS, counterexample, detour, distance

SMOOTH = [name for name in METRICS if name != "total_variation"]


@given(seed=st.integers(0, 10**6), concentration=st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=8)
def test_triangles(seed, concentration):
    rng = np.random.default_rng(seed)
    p, q, r = rng.dirichlet(np.full(4, concentration), (3, 50))
    q[:25] = 0.5 * (p + r)[:25]  # on the way
    for name, metric in METRICS.items():
        for power in (metric.power, 0.6 * metric.power):
            assert np.all(detour(p, q, r, name, power) >= -1e-7), (name, power)
        np.testing.assert_allclose(distance(p, q, name), distance(q, p, name), rtol=1e-9)
        assert np.all(distance(p, q, name) > 0.0) and np.all(distance(p, p, name) == 0.0)


@pytest.mark.parametrize("name", ["kl", "pearson", *SMOOTH])
def test_no_larger_power_is_a_metric(name):
    """A little above ½ close points break it already; for those of METRICS the power stated is the largest."""
    for power, step in ((1.0, 0.1), (0.55, 0.02)):
        found = counterexample(name, power, step)
        assert found.direct > found.by_q
        assert detour(found.p, found.q, found.r, name, power) == pytest.approx(found.by_q - found.direct, rel=1e-9)


def test_where_the_triangle_inequality_holds_there_is_no_counterexample():
    assert counterexample("total_variation", 1.01).direct > 0.0
    with pytest.raises(ValueError, match="obeys the triangle inequality"):
        counterexample("total_variation")
    with pytest.raises(ValueError, match="obeys the triangle inequality"):
        counterexample("js", 0.5)


def test_kl_is_not_symmetric_and_has_no_distance():
    assert float(between([0.9, 0.1], [0.5, 0.5], "kl")) != pytest.approx(float(between([0.5, 0.5], [0.9, 0.1], "kl")))
    with pytest.raises(ValueError, match="no power of kl is known"):
        distance([0.5, 0.5], [0.9, 0.1], "kl")

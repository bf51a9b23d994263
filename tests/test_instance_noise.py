"""Instance noise follows the divergence that it leaves, within its limits."""

import jax.numpy as jnp
import numpy as np
import pytest

from fgan.config import schema
from fgan.models.instance_noise import MEMORY, InstanceNoise, NoiseState, instance_noise

NOISE = InstanceNoise(start=1.0, end=0.01, overlap=(0.1, 0.4), fall=100.0, steps=1000)


def changed(**changes) -> InstanceNoise:
    return InstanceNoise(**vars(NOISE) | changes)


def state(standard_deviation: float, bound: float) -> NoiseState:
    return NoiseState(jnp.float32(standard_deviation), jnp.float32(bound))


def followed(bounds, first=None, step=0, noise=NOISE) -> list[NoiseState]:
    """The noise after each bound."""
    states = [first or noise.init()]
    for i, bound in enumerate(bounds):
        states.append(noise.follow(states[-1], jnp.float32(bound), jnp.int32(step + i)))
    return states


def test_it_starts_at_the_start():
    assert NOISE.init() == (1.0, pytest.approx(0.1))


def test_matched_measures_let_it_fall_at_its_rate_and_no_further():
    deviations = np.array(
        [float(s.standard_deviation) for s in followed([0.0] * 200, state(1.0, -0.05))]
    )  # a bound below 0 pulls no harder than 0 does
    np.testing.assert_allclose(np.diff(np.log(deviations[:60])), -np.log(100.0) / 100.0, rtol=0.08)
    assert deviations[-1] == pytest.approx(0.01) and (np.diff(deviations) <= 0).all()


def test_parted_measures_raise_it_as_fast_as_it_falls():
    up = followed([10.0] * 30, state(0.1, 10.0))
    assert float(up[10].standard_deviation) == pytest.approx(0.1 * 100.0 ** (10 / 100), rel=1e-4)
    assert float(followed([10.0] * 200, up[-1])[-1].standard_deviation) == 1.0


def test_it_waits_where_the_bound_is_the_overlap():
    still = followed([0.1] * 50, state(0.3, 0.1), noise=changed(overlap=(0.1, 0.1)))
    assert float(still[-1].standard_deviation) == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize("step, overlap", [(0, 0.1), (500, 0.2), (1000, 0.4), (5000, 0.4)])
def test_the_overlap_relaxes_geometrically(step, overlap):
    for bound, direction in ((0.95 * overlap, -1), (1.05 * overlap, 1)):
        before, after = followed([bound], state(0.3, bound), step)
        assert np.sign(float(after.standard_deviation - before.standard_deviation)) == direction


def test_the_bound_is_smoothed():
    _, after = followed([1.0], state(0.3, 0.0))
    assert float(after.bound) == pytest.approx(1.0 - MEMORY)


def test_noise_wider_than_the_data_is_divided_out_of_the_critic_s_inputs():
    x, noise = jnp.array([[3.0, -1.0]]), state(0.75, 0.0)
    np.testing.assert_allclose(changed(start=1.5).rescaled(x, noise), x / 1.25, rtol=1e-6)
    assert NOISE.rescaled(x, noise) is x


def test_it_is_that_of_the_config_for_the_length_of_the_training():
    config = schema.InstanceNoise(start=0.5, end=0.1, overlap=(0.1, 0.3), fall=0.25)
    expected = InstanceNoise(start=0.5, end=0.1, overlap=(0.1, 0.3), fall=20.0, steps=80)
    assert instance_noise(config, 80) == expected
    assert instance_noise(schema.InstanceNoise(), 80) is None

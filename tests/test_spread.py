"""The noise of a spread divergence follows the divergence it leaves, within its limits."""

import jax.numpy as jnp
import numpy as np
import pytest

from fgan.models.instance_noise import MEMORY, Blur, Spread

SPREAD = Spread(start=1.0, end=0.01, overlap=(0.1, 0.4), fall=100.0, steps=1000)


def followed(bounds, blur=None, step=0, spread=SPREAD) -> list[Blur]:
    """The blur after each bound."""
    found = [blur or spread.init()]
    for i, bound in enumerate(bounds):
        found.append(spread.follow(found[-1], jnp.float32(bound), jnp.int32(step + i)))
    return found


def test_it_starts_at_the_start():
    assert SPREAD.init() == (1.0, pytest.approx(0.1))


def test_matched_measures_let_it_fall_at_its_rate_and_no_further():
    middle = Blur(jnp.float32(1.0), jnp.float32(-0.05))  # a bound below 0 pulls no harder than 0 does
    levels = np.array([float(b.level) for b in followed([0.0] * 200, middle)])
    np.testing.assert_allclose(np.diff(np.log(levels[:60])), -np.log(100.0) / 100.0, rtol=0.08)
    assert levels[-1] == pytest.approx(0.01) and (np.diff(levels) <= 0).all()


def test_parted_measures_raise_it_as_fast_as_it_falls():
    up = followed([10.0] * 30, Blur(jnp.float32(0.1), jnp.float32(10.0)))
    assert float(up[10].level) == pytest.approx(0.1 * 100.0 ** (10 / 100), rel=1e-4)
    assert float(followed([10.0] * 200, up[-1])[-1].level) == 1.0


def test_it_waits_where_the_bound_is_the_overlap():
    still = followed(
        [0.1] * 50, Blur(jnp.float32(0.3), jnp.float32(0.1)), spread=Spread(**vars(SPREAD) | {"overlap": (0.1, 0.1)})
    )
    assert float(still[-1].level) == pytest.approx(0.3, rel=1e-5)


@pytest.mark.parametrize("step, overlap", [(0, 0.1), (500, 0.2), (1000, 0.4), (5000, 0.4)])
def test_the_overlap_relaxes_geometrically(step, overlap):
    for bound, direction in ((0.95 * overlap, -1), (1.05 * overlap, 1)):
        (before, after) = followed([bound], Blur(jnp.float32(0.3), jnp.float32(bound)), step)
        assert np.sign(float(after.level - before.level)) == direction


def test_the_bound_is_smoothed():
    (_, after) = followed([1.0], Blur(jnp.float32(0.3), jnp.float32(0.0)))
    assert float(after.bound) == pytest.approx(1.0 - MEMORY)


def test_noise_wider_than_the_data_is_divided_out_of_what_the_critic_sees():
    x, blur = jnp.array([[3.0, -1.0]]), Blur(jnp.float32(0.75), jnp.float32(0.0))
    wide = Spread(**vars(SPREAD) | {"start": 1.5})
    np.testing.assert_allclose(wide.seen(x, blur), x / 1.25, rtol=1e-6)
    assert SPREAD.seen(x, blur) is x

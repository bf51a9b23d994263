"""Annealed weights: where they start, where they reach 1, and that they never leave [0, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.objectives.annealing import ANNEALING, cyclical, linear, sigmoid

STEPS = np.arange(1201)


def values(schedule) -> np.ndarray:
    return np.asarray(jax.vmap(schedule)(jnp.asarray(STEPS)))


@pytest.mark.parametrize("name", ANNEALING)
def test_weights_stay_between_0_and_1_and_end_at_1(name):
    weight = values(ANNEALING[name](1000, 0.5, 4))
    assert weight.min() >= 0.0 and weight.max() <= 1.0
    assert (weight[999:] > 0.9999).all()


@pytest.mark.parametrize("share", [0.5, 0.25, 1.0])
def test_linear_reaches_1_at_its_share(share):
    np.testing.assert_allclose(values(linear(1000, share=share)), np.minimum(1.0, STEPS / (1000 * share)), atol=1e-6)


def test_linear_reaches_1_at_half_by_default():
    weight = values(linear(1000))
    assert weight[0] == 0.0 and weight[499] < 1.0 and (weight[500:] == 1.0).all()


@pytest.mark.parametrize("cycles", [1, 4, 7])
def test_each_cycle_starts_at_0_and_is_as_the_paper_has_it(cycles):
    """Fu et al., eq. 7, but for the last of a step where the cycles are no whole numbers of steps."""
    weight = values(cyclical(1000, cycles=cycles))[:1000]
    starts = [round(k * 1000 / cycles) for k in range(cycles)]
    assert (weight[starts] == 0.0).all() and (np.delete(weight, starts) > 0.0).all()
    phase = (STEPS[:1000] % (1000 / cycles)) / (1000 / cycles)
    rising = np.minimum(1.0, phase / 0.5)
    assert np.abs(weight - rising)[np.minimum(phase, 1.0 - phase) > 2 * cycles / 1000].max() < 4 * cycles / 1000


def test_one_cycle_is_linear():
    np.testing.assert_array_equal(values(cyclical(1000, cycles=1, share=0.3)), values(linear(1000, share=0.3)))


def test_sigmoid_is_smooth_and_symmetric_about_the_middle_of_the_rise():
    weight = values(sigmoid(1000))
    np.testing.assert_allclose(weight[250 - 200 : 251] + weight[250:451][::-1], 1.0, atol=1e-6)
    assert (np.diff(weight[:700]) > 0.0).all() and np.abs(weight[:501] - STEPS[:501] / 500).max() < 0.2
    assert weight[0] < 0.01 and weight[500] > 0.99


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: linear(0), "steps = 0"),
        (lambda: linear(10, share=0.0), "share = 0.0"),
        (lambda: sigmoid(10, share=1.5), "share = 1.5"),
        (lambda: cyclical(10, cycles=11), "cycles = 11: choose between 1 and steps = 10"),
    ],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()

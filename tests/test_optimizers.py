"""Optimisers and their schedules by name."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgan.config.schema import Optimizer
from fgan.models.optimizers import OPTIMIZERS, SCHEDULES, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_steps_downhill(name):
    made = optimizer(Optimizer(name=name, learning_rate=0.1), 10)
    x = {"w": jnp.array([1.0, -2.0, 0.5])}
    gradient = jax.tree.map(lambda v: 2.0 * v, x)
    change, _ = made.update(gradient, made.init(x), x)
    assert np.all(np.sign(change["w"]) == -np.sign(x["w"]))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_goes_from_the_rate_to_its_final_share(name):
    rate = SCHEDULES[name](0.3, 0.25, 40)
    values = np.array([rate(i) for i in range(41)])
    end = 0.3 if name == "constant" else 0.25 * 0.3
    assert values[0] == pytest.approx(0.3) and values[-1] == pytest.approx(end)
    assert np.all(np.diff(values) <= 1e-9) and float(rate(100)) == pytest.approx(end)


def test_a_schedule_is_spread_over_the_steps():
    made = optimizer(Optimizer(name="sgd", b1=0.0, learning_rate=1.0, schedule="linear", final=0.5), 4)
    x, state = jnp.zeros(1), made.init(jnp.zeros(1))
    changes = []
    for _ in range(6):
        change, state = made.update(jnp.ones(1), state, x)
        changes.append(-float(change[0]))
    assert changes == pytest.approx([1.0, 0.875, 0.75, 0.625, 0.5, 0.5])


@pytest.mark.parametrize("clip, expected", [(0.0, 5.0), (2.0, 2.0), (100.0, 5.0)])
def test_clipping_limits_the_gradient_norm(clip, expected):
    made = optimizer(Optimizer(name="sgd", b1=0.0, learning_rate=1.0, clip=clip), 1)
    x = jnp.zeros(2)
    change, _ = made.update(jnp.array([3.0, 4.0]), made.init(x), x)
    assert math.isclose(float(jnp.linalg.norm(change)), expected, rel_tol=1e-6)


def test_momentum_of_sgd_is_b1():
    made = optimizer(Optimizer(name="sgd", b1=0.5, learning_rate=1.0), 1)
    x, state = jnp.zeros(1), made.init(jnp.zeros(1))
    changes = []
    for _ in range(3):
        change, state = made.update(jnp.ones(1), state, x)
        changes.append(float(change[0]))
    assert changes == pytest.approx([-1.0, -1.5, -1.75])

"""The two players: their optimisers, the moving average, the output bound and its penalty, the unit f''(1)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from estimators.critics.networks import MLP
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import divergence
from fgan.config.schema import Optimizer
from fgan.models.players import OPTIMIZERS, SCHEDULES, Critic, Generator, Player, optimizer

KEY = jax.random.key(0)
CURVATURES = {"kl": 1.0, "js": 0.25, "gan": 0.5, "pearson": 2.0, "total_variation": 1.0, "hockey_stick(2)": 1.0}


def critic(name: str = "js", **options) -> Critic:
    return Critic(network=MLP(()), inputs=1, optimizer=optax.sgd(1.0), divergence=divergence(name), **options)


def test_a_player_takes_points_of_its_inputs_and_descends():
    player = Player(network=MLP((4,), width_out=3), inputs=2, optimizer=optax.sgd(0.5, momentum=0.9))
    parameters, moments = player.init(KEY)
    assert player.network.apply(parameters, jnp.ones((5, 2))).shape == (5, 3)
    gradient = jax.tree.map(jnp.ones_like, parameters)
    once, moments = player.descend(gradient, parameters, moments)
    twice, _ = player.descend(gradient, once, moments)
    for before, first, second in zip(*map(jax.tree.leaves, (parameters, once, twice))):
        np.testing.assert_allclose(before - first, 0.5, rtol=1e-6)
        np.testing.assert_allclose(first - second, 0.5 * 1.9, rtol=1e-6)


def test_average_is_the_moving_average_with_its_warm_up():
    player = Generator(network=MLP(()), inputs=1, optimizer=optax.sgd(1.0), average=0.25)
    average = expected = 0.0
    for i in range(5):
        average = player.averaged({"w": jnp.float32(average)}, {"w": jnp.float32(i)}, jnp.int32(i))["w"]
        decay = min(0.25, (1 + i) / (10 + i))
        expected = decay * expected + (1 - decay) * i
        assert float(average) == pytest.approx(expected, rel=1e-5)


def test_the_output_bound_leaves_small_outputs_alone():
    v = jnp.array([-1e6, -0.01, 0.0, 0.02, 50.0])
    np.testing.assert_allclose(critic(output_bound=4.0).bounded(v), [-4.0, -0.01, 0.0, 0.02, 4.0], rtol=1e-4)
    assert critic().bounded(v) is v


def test_out_of_bound_is_the_square_of_what_exceeds_it():
    v = jnp.array([-5.0, -2.0, 0.3, 2.0, 50.0])
    np.testing.assert_allclose(critic(output_bound=2.0).out_of_bound(v), [9.0, 0.0, 0.0, 0.0, 48.0**2])


@pytest.mark.parametrize("name", CURVATURES)
def test_curvature_is_that_of_f_at_one(name):
    """By its formula, and 1 where f has a kink."""
    assert float(critic(name).curvature) == pytest.approx(CURVATURES[name], rel=1e-6)


def test_the_bound_is_that_of_the_critic_s_divergence_and_activation():
    v_p, v_q = jnp.array([0.5, 1.0]), jnp.array([-1.0, 0.25])
    for name, activation in (("pearson", "paper"), ("pearson", None), ("kl", None)):
        d = divergence(name)
        g = d.activation(activation)
        expected = float(np.mean(g.output(v_p)) - np.mean(d.conjugate(g.output(v_q))))
        assert float(critic(name, activation=activation).lower_bound(v_p, v_q)) == pytest.approx(expected, rel=1e-5)
    expected = float(np.mean(v_p) - np.log(np.mean(np.exp(v_q))))
    found = critic("kl", bound=BOUNDS["donsker_varadhan"]).lower_bound(v_p, v_q)
    assert float(found) == pytest.approx(expected, rel=1e-5)


# --- optimisers and their schedules, by name --------------------------------------------------------------------------


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

"""The f-GAN step is pure, follows the gradients of its formulas, counts, and never applies what is not finite."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy.stats import norm

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.distributions.examples import normal
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.generator import SMOOTHING, derivative
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values.quadrature import exact_bound, exact_divergence
from fgan.config.schema import Optimizer
from fgan.models.gan import FGAN
from fgan.models.instance_noise import Spread
from fgan.models.optimizers import OPTIMIZERS, SCHEDULES, optimizer
from fgan.models.penalties import PENALTIES, look
from fgan.networks.generators import (
    THIN,
    Affine,
    Bounded,
    Convolved,
    Doubling,
    Halving,
    ImageCritic,
    ImageGenerator,
    LocationScale,
    convolve,
    convolve_transposed,
    depth_to_space,
    factor,
    space_to_depth,
)

BATCH = 16
KEY = jax.random.key(0)


def toy(name: str = "js", **changes) -> FGAN:
    """A small f-GAN in the plane."""
    defaults = dict(
        generator=MLP((8,), "relu", 2),
        critic=MLP((8,), "tanh"),
        divergence=divergence(name),
        dim=2,
        latent=2,
        batch=BATCH,
        generator_optimizer=optax.sgd(0.01),
        critic_optimizer=optax.sgd(0.01),
    )
    return FGAN(**(defaults | changes))


def line(name: str = "js", **changes) -> FGAN:
    """The smallest one: generator μ + σz, critic w·x + b, plain gradient descent of rate 1."""
    defaults = dict(generator=LocationScale((0.5, 1.5)), critic=MLP((), "tanh"), dim=1, latent=1)
    return toy(name, **(defaults | dict(generator_optimizer=optax.sgd(1.0), critic_optimizer=optax.sgd(1.0)) | changes))


def real(gan: FGAN, seed: int = 1) -> jax.Array:
    """A batch for one step, P = N(1, ¼)."""
    return 1.0 + 0.5 * jax.random.normal(jax.random.key(seed), (gan.critic_steps, gan.batch, gan.dim))


def as_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


def close(one, other, **tolerance) -> None:
    for a, b in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_step_is_pure_and_compiled_once():
    gan, traces = toy(), []

    @jax.jit
    def chunk(key, state, start):
        traces.append(start)
        return steps(gan.step, lambda k: jax.random.normal(k, (1, BATCH, 2)), key, state, start, 3)

    before = jax.jit(gan.init)(KEY)
    copied = jax.tree.map(jnp.copy, before)
    first, metrics = chunk(KEY, before, 0)
    again, _ = chunk(KEY, before, 0)
    state = first
    for start in (3, 6):
        state, _ = chunk(KEY, state, start)
    assert len(traces) == 1
    assert same(before, copied) and same(first, again) and not same(first.generator, before.generator)
    assert int(state.step) == 9 and {m.shape for m in metrics.values()} == {(3,)}


ROWS = {name: name for name in DIVERGENCES} | {"total_variation by js": "total_variation"}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("name", ROWS)
def test_every_row_takes_steps_under_every_objective(name, update):
    other = {"critic_divergence": divergence("js")} if name not in DIVERGENCES else {}
    state = toy().init(KEY)
    for tried, objective in enumerate(("minimax", "alternative", "ratio", "kl_gradient"), 1):
        gan, before = toy(ROWS[name], objective=objective, update=update, **other), state
        state, metrics = gan.step(jax.random.key(tried), before, real(gan, tried))
        assert all(np.isfinite(x).all() for x in leaves((state, metrics)))
        assert (float(metrics["skipped"]), int(state.step)) == (0.0, tried)
        assert not same(state.critic, before.critic) and not same(state.generator, before.generator)
        assert float(metrics["bound"]) <= gan.divergence.upper_limit() + 1e-6


@pytest.mark.parametrize("name", [*(row for row in DIVERGENCES if row != "gan"), "donsker_varadhan"])
def test_critic_gradient_is_that_of_the_bound_less_the_penalty(x64, name):
    """Against T and f* composed by hand; a linear critic's r1 is ‖w‖² exactly."""
    bound = {"bound": BOUNDS["donsker_varadhan"]} if name in BOUNDS else {}
    gan = line("kl" if bound else name, penalty=lambda look: 0.3 * PENALTIES["r1"](look), **bound)
    state = as_float64(gan.init(KEY))
    x_p, x_q = real(gan)[0], jax.random.normal(jax.random.key(7), (BATCH, 1))

    def loss(critic):
        w, b = critic["params"]["Dense_0"]["kernel"], critic["params"]["Dense_0"]["bias"]
        v_p, v_q = (x[:, 0] * w[0, 0] + b[0] for x in (x_p, x_q))
        output = gan.divergence.activation().output
        if bound:
            value = jnp.mean(v_p) - jnp.log(jnp.mean(jnp.exp(v_q)))
        else:
            value = jnp.mean(output(v_p)) - jnp.mean(gan.divergence.conjugate(output(v_q)))
        return -value + 0.3 * jnp.sum(w**2)

    expected = jax.grad(loss)(state.critic)
    new, metrics = gan.critic_update(KEY, state, x_p, x_q)
    close(jax.tree.map(jnp.subtract, state.critic, new.critic), expected, atol=1e-9, rtol=1e-7)
    assert float(metrics["critic_gradient"]) == pytest.approx(float(optax.tree.norm(expected)), rel=1e-7)
    assert float(metrics["penalty"] - metrics["bound"]) == pytest.approx(float(loss(state.critic)), rel=1e-9)


def losses(gan: FGAN):
    """The generator's objectives by their definitions, from the outputs v [b] on its samples."""
    d, g = gan.divergence, gan.trained.activation()

    def ratio(v):  # f*(f'(u)) at the critic's ratio u
        return -np.mean(d.conjugate(d.prime(np.exp(g.log_ratio(v)))))

    return {
        "minimax": lambda v: -np.mean(gan.trained.conjugate(g.output(v))),
        "alternative": lambda v: -np.mean(g.output(v)),
        "ratio": ratio,
    }


GENERATORS = [
    (name, objective, None)
    for name in ("kl", "reverse_kl", "js", "pearson", "jeffreys", "triangular", "alpha(0.5)", "squared_hellinger")
    for objective in ("minimax", "alternative", "ratio")
]
GENERATORS += [("kl", "minimax", "js"), ("pearson", "alternative", "kl")]  # trained by another row: always the ratio


@pytest.mark.parametrize("name, objective, other", GENERATORS)
def test_generator_gradient_against_finite_differences(x64, name, objective, other):
    gan = line(name, objective=objective, critic_divergence=other and divergence(other))
    state = as_float64(gan.init(KEY))
    z = gan.normal(KEY, gan.latent)
    loss = losses(gan)["ratio" if other else objective]

    def at(mu, log_sigma):
        x = mu + jnp.exp(log_sigma) * z
        return float(loss(gan.critic.apply(state.critic, x)))

    mu, log_sigma = (float(state.generator["params"][k]) for k in ("mu", "log_sigma"))
    h = 1e-5
    expected = [
        (at(mu + h, log_sigma) - at(mu - h, log_sigma)) / (2 * h),
        (at(mu, log_sigma + h) - at(mu, log_sigma - h)) / (2 * h),
    ]
    new = gan.generator_update(KEY, state, state.critic, z, real(gan)[0])[0].generator["params"]
    np.testing.assert_allclose([mu - new["mu"], log_sigma - new["log_sigma"]], expected, rtol=1e-6, atol=1e-8)


KINKED = {  # f*(f'(e^ℓ)) with the step smoothed to a width s
    "total_variation": lambda ratio, s: 0.5 * jnp.tanh(ratio / s),
    "hockey_stick(2)": lambda ratio, s: 2.0 * jax.nn.sigmoid(2.0 * (ratio - math.log(2.0)) / s),
}


@pytest.mark.parametrize(
    "name, smoothing",
    [
        ("total_variation", SMOOTHING),
        ("total_variation", 1.0),
        ("hockey_stick(2)", SMOOTHING),
        ("hockey_stick(2)", 1.0),
    ],
)
def test_a_kinked_row_leads_by_a_step_of_the_given_width(x64, name, smoothing):
    gan = line(name, critic_divergence=divergence("js"), smoothing=smoothing)
    v = jnp.linspace(-3.0, 3.0, 13)
    expected = jax.grad(lambda v: -jnp.mean(KINKED[name](v, smoothing)))(v)
    np.testing.assert_allclose(jax.grad(gan.generator_loss)(v), expected, atol=1e-12)


def test_reach_bounds_the_outputs_and_leaves_small_ones_alone():
    free, held = line(), line(reach=4.0)
    x = jnp.linspace(-2.0, 2.0, 9)[:, None]
    small, large = ({"params": {"Dense_0": {"kernel": jnp.full((1, 1), w), "bias": jnp.zeros(1)}}} for w in (0.01, 1e6))
    np.testing.assert_allclose(held.outputs(small, x), free.outputs(small, x), rtol=1e-4)
    assert float(jnp.abs(held.outputs(large, x)).max()) <= 4.0 < float(jnp.abs(free.outputs(large, x)).max())


def test_reach_keeps_training_finite_on_disjoint_supports():
    """Under jeffreys a free critic of this rate soon overflows, and its steps are left out."""
    skipped = {}
    for reach in (0.0, 3.0):
        gan = line("jeffreys", generator=LocationScale((-50.0, 0.01)), reach=reach)
        state = gan.init(KEY)
        for i in range(3):
            state, metrics = gan.step(jax.random.key(i), state, real(gan, i))
        skipped[reach] = float(metrics["skipped"])
    assert skipped == {0.0: 1.0, 3.0: 0.0}
    assert float(metrics["bound"]) <= 2 * 3.0 * math.expm1(3.0) + 2 * 3.0  # E_P[T] − E_Q[f*(T)] at v = ±reach


def test_a_leash_leads_outputs_back_that_reach_holds_without_a_gradient():
    """The critic of this test calls both samples real, far beyond its reach; the bound alone cannot move it."""
    far = {"params": {"Dense_0": {"kernel": jnp.zeros((1, 1)), "bias": jnp.full(1, 50.0)}}}
    moved = {}
    for leash in (0.0, 0.5):
        gan = line("neyman", reach=2.0, leash=leash, critic_optimizer=optax.sgd(0.1))
        state = gan.init(KEY)._replace(critic=far)
        new = gan.critic_update(KEY, state, real(gan, 0)[0], real(gan, 1)[0])[0]
        moved[leash] = float(new.critic["params"]["Dense_0"]["bias"][0]) - 50.0
    assert moved[0.0] == 0.0 and moved[0.5] == pytest.approx(-0.1 * 0.5 * 2.0 * 48.0, rel=1e-6)
    near = jax.tree.map(lambda a: 0.02 * a, far)
    assert float(gan.excess(near, jnp.ones((3, 1)))) == 0.0 and float(gan.excess(far, jnp.ones((3, 1)))) == 48.0**2


def test_donsker_varadhan_leads_the_generator(x64):
    """The generator descends −log E_Q[e^ℓ]: the part of the bound on Q."""
    gan = line("kl", bound=BOUNDS["donsker_varadhan"])
    state = as_float64(gan.init(KEY))
    z = gan.normal(KEY, gan.latent)

    def loss(g):
        v = gan.critic.apply(state.critic, g["params"]["mu"] + jnp.exp(g["params"]["log_sigma"]) * z)
        return -jnp.log(jnp.mean(jnp.exp(v)))

    new = gan.generator_update(KEY, state, state.critic, z, real(gan)[0])[0].generator
    close(jax.tree.map(jnp.subtract, state.generator, new), jax.grad(loss)(state.generator), rtol=1e-9)


def with_critic_rate(update: str, rate: float) -> FGAN:
    return toy(update=update, critic_optimizer=optax.sgd(rate))


def test_simultaneous_updates_see_the_critic_from_before():
    quick, frozen = with_critic_rate("simultaneous", 0.5), with_critic_rate("simultaneous", 0.0)
    start = quick.init(KEY)
    moved, still = (gan.step(KEY, start, real(gan))[0] for gan in (quick, frozen))
    assert same(moved.generator, still.generator) and not same(moved.critic, still.critic)


def test_alternating_updates_see_the_updated_critic():
    gan, simultaneous = with_critic_rate("alternating", 0.5), with_critic_rate("simultaneous", 0.5)
    start = gan.init(KEY)
    new, _ = gan.step(KEY, start, real(gan))
    against_new, _ = simultaneous.step(KEY, start._replace(critic=new.critic), real(gan))
    against_old, _ = simultaneous.step(KEY, start, real(gan))
    close(new.generator, against_new.generator, rtol=1e-6, atol=1e-7)
    assert not same(new.generator, against_old.generator)


def test_critic_steps_counts_and_uses_every_batch():
    gan = toy(critic_steps=3, generator_optimizer=optax.adam(0.01), critic_optimizer=optax.adam(0.01))
    start, batch = gan.init(KEY), real(gan)
    state, _ = gan.step(KEY, start, batch)
    count = optax.tree_utils.tree_get
    assert int(count(state.critic_optimizer, "count")) == 3
    assert int(count(state.generator_optimizer, "count")) == int(state.step) == 1
    for k in range(3):
        other, _ = gan.step(KEY, start, batch.at[k].add(1.0))
        assert not same(other.critic, state.critic)
    with pytest.raises(ValueError, match="zip"):
        gan.step(KEY, start, batch[:2])


def test_each_critic_step_draws_its_own_noise():
    """Three updates on the same real batch from a critic that cannot move: the third bound differs from the first."""
    one, three = (toy(critic_steps=k, critic_optimizer=optax.sgd(0.0)) for k in (1, 3))
    start = one.init(KEY)
    seen = {float(gan.step(KEY, start, jnp.ones((gan.critic_steps, BATCH, 2)))[1]["bound"]) for gan in (one, three)}
    assert len(seen) == 2


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_non_finite_step_is_left_out_and_counted(update, poison):
    gan = toy("kl", update=update, average=0.9, generator=MLP((8,), "relu", 2), critic=MLP((8,), "relu"))
    start, _ = gan.step(KEY, gan.init(KEY), real(gan))
    state = start
    for tried in (1, 2):
        state, metrics = gan.step(KEY, state, real(gan).at[0, 3, 1].set(poison))
        assert (int(state.skipped), float(metrics["skipped"])) == (tried, 1.0)
    assert int(state.step) == 3
    assert same(state._replace(step=0, skipped=0), start._replace(step=0, skipped=0))
    state, metrics = gan.step(KEY, state, real(gan))
    assert (int(state.skipped), float(metrics["skipped"])) == (0, 0.0) and not same(state.critic, start.critic)


def test_average_is_the_moving_average_with_its_warm_up():
    gan = line(average=0.25, generator_optimizer=optax.sgd(0.5))
    state = gan.init(KEY)
    assert same(state.average, state.generator)
    expected = leaves(state.generator)
    for i in range(5):
        state, _ = gan.step(jax.random.key(i), state, real(gan, i))
        decay = min(0.25, (1 + i) / (10 + i))
        expected = [decay * a + (1 - decay) * g for a, g in zip(expected, leaves(state.generator), strict=True)]
    close(state.average, expected, rtol=1e-5)


def test_sample_uses_the_average():
    gan = line(average=0.9)
    far = {"params": {"mu": jnp.float32(9.0), "log_sigma": jnp.float32(-20.0)}}
    x = gan.sample(gan.init(KEY)._replace(average=far), KEY, 5)
    assert x.shape == (5, 1)
    np.testing.assert_allclose(x, 9.0, atol=1e-6)


def test_without_an_average_the_generator_itself_is_sampled():
    gan = line(average=0.0)
    state, _ = gan.step(KEY, gan.init(KEY), real(gan))
    assert same(state.average, state.generator)
    z = jax.random.normal(jax.random.key(4), (5, 1))
    np.testing.assert_allclose(
        gan.sample(state, jax.random.key(4), 5), gan.generator.apply(state.generator, z), rtol=1e-6
    )


# --- a critic trained by one divergence, read by another -------------------------------------------------------------


def test_a_js_critic_gives_a_valid_bound_on_total_variation():
    p, q = normal(0.0, 1.0), normal(1.5, 1.0)
    gan = line("total_variation", critic_divergence=divergence("js"), critic=MLP((8,), "tanh"))
    gan = dataclasses.replace(
        gan, generator=LocationScale((1.5, 1.0)), generator_optimizer=optax.sgd(0.0), critic_optimizer=optax.adam(0.03)
    )
    state = gan.init(KEY)
    exact = exact_divergence(p.log_prob, q.log_prob, "total_variation")

    def by_quadrature(critic):
        def v(x):
            return gan.critic.apply(critic, x[:, None])

        return exact_bound(p.log_prob, q.log_prob, v, "total_variation", activation="log_ratio", support=(-8.0, 10.0))

    def own(critic):  # own_bound, on as good as the whole of P and Q
        points = (np.arange(4000) + 0.5) / 4000
        x_p, x_q = (jnp.asarray(norm.ppf(points, m)[:, None], jnp.float32) for m in (0.0, 1.5))
        v_p, v_q = gan.critic.apply(critic, x_p), gan.critic.apply(critic, x_q)
        return float(gan.own_bound(v_p, v_q, jnp.nan))

    train = jax.jit(lambda s: steps(gan.step, lambda k: p.sample(k, BATCH)[None], KEY, s, 0, 400)[0])
    for s in (state, train(state)):
        assert own(s.critic) == pytest.approx(by_quadrature(s.critic), abs=2e-3)
        assert by_quadrature(s.critic) <= exact + 1e-9
    assert by_quadrature(s.critic) > 0.9 * exact  # and after training it is no empty one


def test_own_bound_is_the_trained_one_unless_another_trains():
    v = jnp.linspace(-1.0, 1.0, 5)
    assert float(toy("kl").own_bound(v, v, jnp.float32(0.7))) == pytest.approx(0.7)
    js_on_kl = toy("kl", critic_divergence=divergence("js"))
    expected = np.mean(1.0 + v) - np.mean(np.exp(v))
    assert float(js_on_kl.own_bound(v, v, jnp.nan)) == pytest.approx(float(expected), rel=1e-6)


# --- penalties, weights and noise of a step --------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["critic", "generator"])
def test_a_penalty_moves_the_player_that_pays_it(x64, on):
    """By its own gradient, weighted by the schedule at the step; the other player's update is as without it."""

    def penalty(look):
        return PENALTIES["jsd"](look)

    plain, paying = (line("kl", **options) for options in ({}, dict(penalty=penalty, penalty_on=on)))
    paying = dataclasses.replace(paying, penalty_weight=lambda step: 0.1 * (1.0 + step))
    state = as_float64(plain.init(KEY))._replace(step=jnp.int32(2))
    x_p, x_q, z = real(plain)[0], jax.random.normal(jax.random.key(7), (BATCH, 1)), plain.normal(KEY, 1)
    on_critic = [gan.critic_update(KEY, state, x_p, x_q) for gan in (plain, paying)]
    on_generator = [gan.generator_update(KEY, state, state.critic, z, x_p) for gan in (plain, paying)]
    critics, generators = [new.critic for new, _ in on_critic], [new.generator for new, _ in on_generator]

    def charged(critic, generator):
        fake = x_q if on == "critic" else plain.generate(generator, z)
        return 0.3 * penalty(look(lambda x: plain.critic.apply(critic, x), x_p, fake, divergence("kl")))

    gradients = jax.grad(charged, argnums=(0, 1))(state.critic, state.generator)
    moved, still = (critics, generators) if on == "critic" else (generators, critics)
    expected = gradients[0 if on == "critic" else 1]
    close(jax.tree.map(jnp.subtract, *moved), expected, rtol=1e-7, atol=1e-12)
    assert same(*still) and max(np.abs(x).max() for x in leaves(expected)) > 1e-3
    paid = (on_critic if on == "critic" else on_generator)[1][1]["penalty"]
    assert float(paid) == pytest.approx(float(charged(state.critic, state.generator)), rel=1e-9) and paid > 1e-3
    assert paying.step(KEY, state, real(plain))[1]["penalty"] > 1e-3


@pytest.mark.parametrize("objective", ["minimax", "alternative", "kl_gradient"])
@pytest.mark.parametrize("name", [row for row in DIVERGENCES if divergence(row).smooth])
def test_normalised_weights_are_those_of_the_objective_over_their_mean(x64, name, objective):
    """e^{2v} f''(e^v), e^v f''(e^v) or e^v at the outputs within reach; samples move along the outputs without it."""
    gan = toy(name, objective=objective, activation="log_ratio", normalise=True, reach=2.0)
    raw = jnp.linspace(-3.0, 3.0, 9)
    u = jnp.exp(gan.divergence.activation("log_ratio").log_ratio(2.0 * jnp.tanh(raw / 2.0)))
    bend = u * gan.divergence.second(u)
    weight = {"minimax": u * bend, "alternative": bend, "kl_gradient": u}[objective]
    weight = weight * derivative(gan.divergence.log_ratio.log_ratio)(2.0 * jnp.tanh(raw / 2.0))  # 1 but where derived
    np.testing.assert_allclose(jax.grad(gan.generator_loss)(raw), -weight / jnp.sum(weight), rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(jax.grad(gan.generator_loss)(raw)), -1.0, rtol=1e-9)


@pytest.mark.parametrize("name", ["js", "kl"])
def test_bfloat16_computes_the_steps_of_float32_to_its_eight_bits(name):
    """Networks in bfloat16; parameters, optimiser states, bound and samples in float32, close to those of float32."""
    wide, narrow = toy(name), toy(name, compute=jnp.bfloat16)
    state = wide.init(KEY)
    one, other = (jax.jit(gan.step)(KEY, state, real(gan)) for gan in (wide, narrow))
    assert {x.dtype for x in jax.tree.leaves(other) if jnp.issubdtype(x.dtype, jnp.inexact)} == {jnp.dtype("float32")}
    assert narrow.sample(state, KEY, 3).dtype == jnp.float32
    assert float(other[1]["bound"]) != float(one[1]["bound"])
    close(other[1]["bound"], one[1]["bound"], atol=0.02)
    for before, a, b in zip(*map(leaves, (state.critic, one[0].critic, other[0].critic))):
        scale = np.abs(a - before).max()
        np.testing.assert_allclose(b - before, a - before, atol=0.05 * scale + 1e-7)


@pytest.mark.parametrize("penalty", [None, PENALTIES["roth"]], ids=["bound", "less roth"])
def test_normalised_critics_of_one_divergence_in_two_scales_take_the_same_step(x64, penalty):
    """alpha(2) is half of pearson."""
    one, other = (
        line(name, normalise=True, activation="log_ratio", penalty=penalty) for name in ("alpha(2)", "pearson")
    )
    state = as_float64(one.init(KEY))
    x_q = jax.random.normal(jax.random.key(7), (BATCH, 1))
    moved = [gan.critic_update(KEY, state, real(gan)[0], x_q)[0].critic for gan in (one, other)]
    close(*moved, rtol=1e-9)
    assert not same(moved[0], state.critic)


SPREAD = Spread(start=0.5, end=0.1, overlap=(0.1, 0.1), fall=50.0, steps=100)


def test_noise_reaches_both_sides_and_follows_the_bound():
    gan = line("kl", spread=SPREAD, critic_optimizer=optax.sgd(0.01), generator_optimizer=optax.sgd(0.01))
    state = gan.init(KEY)
    levels = []
    for i in range(5):
        expected = SPREAD.follow(state.blur, jnp.nan, state.step)
        state, metrics = gan.step(jax.random.key(i), state, real(gan, i))
        levels.append(float(metrics["noise"]))
        assert not same(state.blur, expected)
    assert levels[0] == 0.5 and len(set(levels)) == 5
    x = jnp.zeros((BATCH, 1))
    noise = gan.blurred(KEY, state, x)
    assert float(jnp.std(noise)) == pytest.approx(float(state.blur.level), rel=4.0 / math.sqrt(2 * BATCH))
    assert same(line().blurred(KEY, line().init(KEY), x), x)


def test_the_bound_follows_f_at_its_bend(x64):
    """The blur is led by the bound over f''(1), so that pearson and its half, alpha(2), have the same noise."""
    gans = [
        line(name, spread=SPREAD, activation="log_ratio", normalise=True) for name in ("alpha(2)", "pearson", "gan")
    ]
    levels = []
    for gan in gans:
        state = gan.init(KEY)
        for i in range(3):
            state, _ = gan.step(jax.random.key(i), state, real(gan, i))
        levels.append(float(state.blur.level))
    assert levels[0] == pytest.approx(levels[1], rel=1e-6) and 0.0 < levels[2] < 0.5


def test_a_critic_with_frequencies_is_told_the_noise():
    gan = toy("js", critic=MLP((8,), "tanh", frequencies=4), spread=SPREAD)
    state, x = gan.init(KEY), jax.random.normal(KEY, (5, 2))
    told, sharp = (gan.outputs(state.critic, x, blur) for blur in (state.blur, None))
    assert not same(told, sharp) and same(sharp, gan.outputs(state.critic, x, state.blur._replace(level=0.0)))
    new, metrics = gan.step(KEY, state, real(gan))
    assert all(np.isfinite(v).all() for v in leaves((new, metrics)))


# --- networks ---------------------------------------------------------------------------------------------------------


def convolution(x, kernel, stride, pad, **dilated):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), **dilated
    )


def test_halving_is_the_convolution_of_four_by_four_windows():
    network, x = Halving(5), jax.random.normal(KEY, (2, 6, 8, 3))
    y, weights = network.init_with_output(KEY, x)
    blocks = weights["params"]["kernel"].reshape(2, 2, 2, 2, 3, 5)  # block, then pixel within it
    kernel = blocks.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    np.testing.assert_allclose(y, convolution(x, kernel, 2, 1), atol=1e-5)


def test_doubling_is_the_transposed_convolution_of_four_by_four_windows():
    network, x = Doubling(5), jax.random.normal(KEY, (2, 6, 7, 3))
    y, weights = network.init_with_output(KEY, x)
    blocks = weights["params"]["kernel"][::-1, ::-1].reshape(2, 2, 3, 2, 2, 5)[..., ::-1, ::-1, :]
    kernel = blocks.transpose(0, 3, 1, 4, 2, 5).reshape(4, 4, 3, 5)
    np.testing.assert_allclose(y, convolution(x, kernel, 1, 2, lhs_dilation=(2, 2)), atol=1e-5)


@pytest.mark.parametrize("network", [Halving(4), Doubling(4)], ids=["halving", "doubling"])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_platform_convolves_its_own_way(network, platform):
    x = jnp.ones((2, 8, 8, 3))
    lowered = jax.jit(network.apply).trace(network.init(KEY, x), x).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in lowered.as_text()) == (platform != "cpu")


@pytest.mark.parametrize("channels", [THIN - 1, THIN])
@pytest.mark.parametrize("function", [convolve, convolve_transposed])
def test_both_ways_to_convolve_agree(function, channels, monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in ((2, 5, 6, channels), (2, 2, channels, 4)))
    by_product = function(x, kernel)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    np.testing.assert_allclose(by_product, function(x, kernel), atol=1e-5)


def test_blocks_to_channels_and_back():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 5)))
    np.testing.assert_array_equal(depth_to_space(space_to_depth(x)), x)


def test_depth_to_space_makes_two_by_two_blocks():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 20))
    y = np.asarray(depth_to_space(jnp.asarray(x)))
    assert y.shape == (2, 6, 8, 5)
    for a in (0, 1):
        for b in (0, 1):
            np.testing.assert_array_equal(y[:, a::2, b::2], x[..., 5 * (2 * a + b) :][..., :5].astype(y.dtype))


@pytest.mark.parametrize("side", [4, 8, 28])
def test_image_networks_take_and_return_rows(side):
    generator, critic = ImageGenerator(side, (6, 4)), ImageCritic(side, (4, 6))
    x, _ = jax.eval_shape(generator.init_with_output, KEY, jnp.zeros((3, 5)))
    v, _ = jax.eval_shape(critic.init_with_output, KEY, x)
    assert (x.shape, v.shape) == ((3, side**2), (3,))


def test_generated_images_lie_between_minus_one_and_one():
    network, z = ImageGenerator(8, (6, 4)), 100.0 * jax.random.normal(KEY, (3, 5))
    x, _ = jax.jit(network.init_with_output)(KEY, z)
    assert float(jnp.abs(x).max()) <= 1.0 and float(jnp.ptp(x)) > 0.1 and not np.allclose(x[0], x[1])


def test_an_image_critic_sees_every_pixel_and_one_image_at_a_time():
    network, x = ImageCritic(8, (4, 6)), jax.random.normal(KEY, (3, 64))

    @jax.jit
    def second(x):
        weights = network.init(KEY, x)
        return jax.grad(lambda x: network.apply(weights, x)[1])(x)

    gradient = np.asarray(second(x))
    assert gradient[1].all() and not gradient[[0, 2]].any()


def test_bounded_rows_lie_between_minus_one_and_one():
    network = Bounded((8,), "relu", 3)
    x = network.apply(network.init(KEY, jnp.zeros((1, 2))), 50.0 * jax.random.normal(KEY, (100, 2)))
    assert x.shape == (100, 3) and float(jnp.abs(x).max()) <= 1.0


def test_location_scale_is_mu_plus_sigma_z():
    network = LocationScale((-2.0, 0.5))
    z = jnp.linspace(-3.0, 3.0, 7)[:, None]
    np.testing.assert_allclose(network.apply(network.init(KEY, z), z), -2.0 + 0.5 * z, rtol=1e-6)


def test_affine_generates_the_gaussian_of_its_parameters():
    """Mean μ and covariance LLᵀ, exactly on unit vectors and by the Wishart standard errors on samples."""
    covariance, mu = np.array([[2.0, -0.6, 0.1], [-0.6, 0.5, 0.2], [0.1, 0.2, 0.8]]), np.array([1.0, -2.0, 0.5])
    cholesky = np.linalg.cholesky(covariance)
    root = np.tril(cholesky, -1) + np.diag(np.log(np.diagonal(cholesky)))
    np.testing.assert_allclose(factor(jnp.asarray(root)), cholesky, rtol=1e-6)
    network, parameters = Affine(3), {"params": {"mu": jnp.asarray(mu), "root": jnp.asarray(root)}}
    assert jax.tree.map(jnp.shape, network.init(KEY, jnp.zeros((1, 3)))) == jax.tree.map(jnp.shape, parameters)
    np.testing.assert_allclose(network.apply(parameters, jnp.eye(3)), mu + cholesky.T, rtol=1e-5)
    n = 20_000
    x = np.asarray(network.apply(parameters, jax.random.normal(KEY, (n, 3))))
    variances = np.diagonal(covariance)
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert np.all(np.abs(np.cov(x.T) - covariance) <= 4.0 * error)
    assert np.all(np.abs(x.mean(0) - mu) <= 4.0 * np.sqrt(variances / n))


@pytest.mark.parametrize("scale", [-3.0, 0.0, 3.0])
def test_every_root_is_a_covariance(scale):
    lower = np.asarray(factor(scale * jax.random.normal(KEY, (4, 4))))
    assert np.all(np.diagonal(lower) > 0.0) and np.array_equal(lower, np.tril(lower))


def test_fourier_features_fade_as_the_noise_averages_them(x64):
    """E[wave(2^k (x + blur·ε))] = e^{−½(2^k blur)²} wave(2^k x), by Gauss–Hermite quadrature."""
    network = MLP((), "tanh", frequencies=3)
    x, blur = jnp.asarray([[0.3, -0.7], [1.1, 0.2]]), 0.4
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    def features(x, blur):
        return network.apply({}, x, blur, method="_with_waves")

    faded = features(x, blur)[:, 2 + 3 :]
    moved = jnp.stack([features(x + blur * node, 0.0)[:, 2 + 3 :] for node in nodes])
    np.testing.assert_allclose(faded, jnp.tensordot(weights / weights.sum(), moved, axes=1), atol=1e-12)
    np.testing.assert_allclose(features(x, 0.0)[:, 2:5], 1.0)


def test_a_gain_multiplies_what_enters_a_unit():
    x = jax.random.normal(KEY, (4, 2))
    steep = MLP((6,), "tanh", 2, gain=3.0)
    weights = steep.init(KEY, x)
    first, last = weights["params"]["Dense_0"], weights["params"]["Dense_1"]
    hidden = jnp.tanh(3.0 * (x @ first["kernel"] + first["bias"][None]))
    expected = hidden @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(steep.apply(weights, x), expected, rtol=1e-5, atol=1e-6)


def test_a_convolved_generator_is_its_network_plus_gaussian_noise():
    """x − m(z₁) = A z₂ whatever z₁ is: the noise has one covariance, AAᵀ, everywhere."""
    network = MLP((6,), "tanh", 3)
    convolved = Convolved(network, 2, 3)
    weights = convolved.init(KEY, jnp.zeros((1, 6)))
    a = np.asarray(weights["params"]["Dense_0"]["kernel"])
    inner = {"params": weights["params"]["network"]}
    noise = jax.random.normal(jax.random.fold_in(KEY, 1), (9, 2))
    for z in jax.random.normal(KEY, (2, 1, 4)):
        x = convolved.apply(weights, jnp.concatenate([jnp.tile(z, (9, 1)), noise], axis=1))
        np.testing.assert_allclose(x - network.apply(inner, z), noise @ a, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "network, shape", [(MLP((8,)), (4,)), (MLP((), "relu", 3), (4, 3)), (MLP((2, 2), "elu", 1), (4, 1))]
)
def test_mlp_shapes(network: nn.Module, shape):
    x = jnp.ones((4, 5))
    assert network.apply(network.init(KEY, x), x).shape == shape


# --- optimisers -------------------------------------------------------------------------------------------------------


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

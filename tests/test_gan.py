"""The f-GAN step is pure, follows the gradients of its formulas, counts, and never applies what is not finite."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.distributions.examples import normal
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.generator import derivative
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import exact_bound, exact_divergence
from fgan.models import players
from fgan.models.gan import FGAN
from fgan.models.instance_noise import InstanceNoise
from fgan.models.model import DrawsAhead
from fgan.models.objectives import OBJECTIVES, Outputs, objective
from fgan.models.penalties import PENALTIES, WeightedPenalty, critic_values
from fgan.models.players import InPrecision
from fgan.networks.generators import LocationScale

BATCH = 16
KEY = jax.random.key(0)


def plane(name="js", *, networks=None, dim=2, rates=(0.01, 0.01), trained="", chosen="minimax", average=0.0, **changes):
    """A small f-GAN in the plane: `rates` are learning rates or optimisers, `trained` is the critic's divergence."""
    d, trained = divergence(name), divergence(trained or name)
    generator, critic = networks or (MLP((8,), "relu", dim), MLP((8,), "tanh"))
    first, second = (optax.sgd(rate) if isinstance(rate, float) else rate for rate in rates)
    kept = {f.name for f in dataclasses.fields(players.Critic)} & set(changes)
    options = {field: changes.pop(field) for field in kept}
    return FGAN(
        divergence=d,
        generator=players.Generator(network=generator, inputs=dim, optimizer=first, average=average),
        critic=players.Critic(network=critic, inputs=dim, optimizer=second, divergence=trained, **options),
        batch=BATCH,
        objective=objective(chosen, d, trained),
        **changes,
    )


def line(name="js", **changes) -> FGAN:
    """The smallest one: generator μ + σz, critic w·x + b, plain gradient descent of rate 1."""
    smallest = {"networks": (LocationScale((0.5, 1.5)), MLP(())), "dim": 1, "rates": (1.0, 1.0)}
    return plane(name, **(smallest | changes))


def real(gan: FGAN, seed: int = 1) -> jax.Array:
    """A batch for one step, P = N(1, ¼)."""
    return 1.0 + 0.5 * jax.random.normal(jax.random.key(seed), (gan.critic_steps, gan.batch, gan.critic.inputs))


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
    gan, traces = plane(), []

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


@pytest.mark.slow
def test_it_is_a_model_that_draws_ahead():
    """Its step is `advance` on `noise`; its headline is among its metrics; it takes a batch a critic update."""
    gan = plane(critic_steps=2)
    state, metrics = gan.step(KEY, gan.init(KEY), real(gan))
    assert isinstance(gan, DrawsAhead) and gan.batches == 2 and gan.headline in metrics
    assert same((state, metrics), gan.advance(gan.noise(KEY), gan.init(KEY), real(gan)))


KINDS = {  # T any number, T < 0, T² in f*, a step, a step led by another critic, f(1) ≠ 0
    "kl": "",
    "reverse_kl": "",
    "pearson": "",
    "total_variation": "",
    "hockey_stick(2)": "js",
    "gan": "",
}


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_divergence_takes_steps_under_every_objective(name, update):
    state = plane().init(KEY)
    for tried, chosen in enumerate(OBJECTIVES, 1):
        gan, before = plane(name, trained=KINDS[name], chosen=chosen, update=update), state
        state, metrics = gan.step(jax.random.key(tried), before, real(gan, tried))
        assert all(np.isfinite(x).all() for x in leaves((state, metrics)))
        assert (float(metrics["skipped"]), int(state.step)) == (0.0, tried)
        assert not same(state.critic, before.critic) and not same(state.generator, before.generator)
        assert float(metrics["bound"]) <= gan.divergence.upper_limit() + 1e-6


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "pearson", "total_variation", "donsker_varadhan"])
def test_critic_gradient_is_that_of_the_bound_less_the_penalty(x64, name):
    """Against T and f* composed by hand; a linear critic's r1 is ‖w‖² exactly."""
    bound = {"bound": BOUNDS["donsker_varadhan"]} if name in BOUNDS else {}
    penalty = WeightedPenalty(penalties=(PENALTIES["r1"],), weight=lambda step: 0.3)
    gan = line("kl" if bound else name, penalty=penalty, **bound)
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


def after_descent(gan: FGAN, state, z: jax.Array) -> np.ndarray:
    """By how much a generator update of rate 1 lowers (μ, log σ)."""
    new = gan.generator_update(KEY, state, state.critic, z, real(gan)[0])[0].generator["params"]
    return np.array([state.generator["params"][k] - new[k] for k in ("mu", "log_sigma")])


@pytest.mark.parametrize(
    "name, chosen, trained",
    [("kl", "minimax", ""), ("pearson", "alternative", ""), ("js", "kl_gradient", ""), ("reverse_kl", "minimax", "js")],
)
def test_generator_gradient_against_finite_differences(x64, name, chosen, trained):
    """Of the mean cost of its samples, through the samples alone."""
    gan = line(name, chosen=chosen, trained=trained)
    state, z = as_float64(gan.init(KEY)), gan.normal(KEY, 1)

    def at(mu, log_sigma):
        v = gan.critic.network.apply(state.critic, mu + jnp.exp(log_sigma) * z)
        return float(
            jnp.mean(
                OBJECTIVES["ratio" if trained else chosen](Outputs(v, gan.critic.output_activation, gan.divergence))
            )
        )

    mu, log_sigma = (float(state.generator["params"][k]) for k in ("mu", "log_sigma"))
    h = 1e-5
    expected = [
        (at(mu + h, log_sigma) - at(mu - h, log_sigma)) / (2 * h),
        (at(mu, log_sigma + h) - at(mu, log_sigma - h)) / (2 * h),
    ]
    np.testing.assert_allclose(after_descent(gan, state, z), expected, rtol=1e-6, atol=1e-8)


def test_donsker_varadhan_leads_the_generator(x64):
    """The generator descends −log E_Q[e^ℓ]: the part of the bound on Q."""
    gan = line("kl", bound=BOUNDS["donsker_varadhan"])
    state, z = as_float64(gan.init(KEY)), gan.normal(KEY, 1)

    def loss(g):
        v = gan.critic.network.apply(state.critic, g["params"]["mu"] + jnp.exp(g["params"]["log_sigma"]) * z)
        return -jnp.log(jnp.mean(jnp.exp(v)))

    expected = jax.grad(loss)(state.generator)["params"]
    np.testing.assert_allclose(after_descent(gan, state, z), [expected["mu"], expected["log_sigma"]], rtol=1e-9)


def with_critic_rate(update: str, rate: float) -> FGAN:
    return plane(update=update, rates=(0.01, rate))


def test_simultaneous_updates_use_the_critic_from_before():
    quick, frozen = with_critic_rate("simultaneous", 0.5), with_critic_rate("simultaneous", 0.0)
    start = quick.init(KEY)
    moved, still = (gan.step(KEY, start, real(gan))[0] for gan in (quick, frozen))
    assert same(moved.generator, still.generator) and not same(moved.critic, still.critic)


def test_alternating_updates_use_the_updated_critic():
    gan, simultaneous = with_critic_rate("alternating", 0.5), with_critic_rate("simultaneous", 0.5)
    start = gan.init(KEY)
    new, _ = gan.step(KEY, start, real(gan))
    against_new, _ = simultaneous.step(KEY, start._replace(critic=new.critic), real(gan))
    against_old, _ = simultaneous.step(KEY, start, real(gan))
    close(new.generator, against_new.generator, rtol=1e-6, atol=1e-7)
    assert not same(new.generator, against_old.generator)


def test_critic_steps_counts_and_uses_every_batch():
    gan = plane(critic_steps=3, rates=(optax.adam(0.01), optax.adam(0.01)))
    start, batch, step = gan.init(KEY), real(gan), jax.jit(gan.step)
    state, _ = step(KEY, start, batch)
    count = optax.tree_utils.tree_get
    assert int(count(state.critic_optimizer, "count")) == 3
    assert int(count(state.generator_optimizer, "count")) == int(state.step) == 1
    for k in range(3):
        other, _ = step(KEY, start, batch.at[k].add(1.0))
        assert not same(other.critic, state.critic)
    with pytest.raises(ValueError, match="zip"):
        gan.step(KEY, start, batch[:2])


def test_each_critic_step_draws_its_own_noise():
    """Three updates on the same real batch from a critic that cannot move: the third bound differs from the first."""
    one, three = (plane(critic_steps=k, rates=(0.01, 0.0)) for k in (1, 3))
    start = one.init(KEY)
    bounds = {float(gan.step(KEY, start, jnp.ones((gan.critic_steps, BATCH, 2)))[1]["bound"]) for gan in (one, three)}
    assert len(bounds) == 2


def test_noise_is_another_in_each_generator_batch():
    gan = plane(generator_batches=3, instance_noise=NOISE)
    added = gan.noisy(KEY, gan.init(KEY), jnp.zeros((3 * BATCH, 2)), 3)
    first, second, third = jnp.split(added, 3)
    assert not same(first, second) and not same(second, third) and not same(first, third)
    assert float(added.std()) == pytest.approx(NOISE.start, rel=4 / (2 * added.size) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
def test_more_generator_batches_are_one_larger_batch_for_the_generator_alone(update):
    """Its step is the mean of those that each batch of z gives alone; a simultaneous critic sees the first of them."""
    noise = InstanceNoise(start=1e-9, end=1e-9, overlap=(1.0, 1.0), fall=1.0, steps=1)
    one, three = (plane(generator_batches=k, update=update, rates=(0.1, 0.1), instance_noise=noise) for k in (1, 3))
    start, batch, drawn = one.init(KEY), real(one), three.noise(KEY)
    assert drawn.z.shape == (3 * BATCH, one.generator.inputs)
    parts = jnp.split(drawn.z, 3)
    fake = drawn.fake or (parts[0],)
    alone = [one.advance(drawn._replace(z=z, fake=fake), start, batch)[0] for z in parts]
    together, _ = three.advance(drawn, start, batch)
    close(together.critic, alone[0].critic, rtol=1e-6)
    mean = jax.tree.map(lambda *x: sum(x) / 3, *(state.generator for state in alone))
    close(together.generator, mean, rtol=1e-4, atol=1e-6)
    assert not same(alone[0].generator, alone[1].generator)


@pytest.mark.parametrize("update", ["alternating", "simultaneous"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_non_finite_step_is_left_out_and_counted(update, poison):
    gan = plane("kl", update=update, average=0.9, networks=(MLP((8,), "relu", 2), MLP((8,), "relu")))
    start, _ = gan.step(KEY, gan.init(KEY), real(gan))
    state = start
    for tried in (1, 2):
        state, metrics = gan.step(KEY, state, real(gan).at[0, 3, 1].set(poison))
        assert (int(state.skipped), float(metrics["skipped"])) == (tried, 1.0)
    assert int(state.step) == 3
    assert same(state._replace(step=0, skipped=0), start._replace(step=0, skipped=0))
    state, metrics = gan.step(KEY, state, real(gan))
    assert (int(state.skipped), float(metrics["skipped"])) == (0, 0.0) and not same(state.critic, start.critic)


def test_samples_are_the_averaged_generator_s():
    """Of the averages the step keeps; without an average of the generator itself."""
    averaging, plain = line(average=0.9), line()
    far = {"params": {"mu": jnp.float32(9.0), "log_sigma": jnp.float32(-20.0)}}
    start = averaging.init(KEY)
    assert same(start.average, start.generator)
    x = averaging.sample(start._replace(average=far), KEY, 5)
    assert x.shape == (5, 1)
    np.testing.assert_allclose(x, 9.0, atol=1e-6)
    (kept, _), (state, _) = (gan.step(KEY, start, real(gan)) for gan in (averaging, plain))
    expected = jax.tree.map(lambda a, g: 0.1 * a + 0.9 * g, start.generator, kept.generator)  # the warm-up's decay
    close(kept.average, expected, rtol=1e-6)
    assert same(state.average, state.generator)


# --- a critic trained by one divergence, its outputs used for another -------------------------------------------------


@pytest.mark.slow
def test_a_js_critic_gives_a_valid_bound_on_total_variation():
    p, q = normal(0.0, 1.0), normal(1.5, 1.0)
    networks = LocationScale((1.5, 1.0)), MLP((8,), "tanh")
    gan = line("total_variation", trained="js", networks=networks, rates=(0.0, optax.adam(0.03)))
    state = gan.init(KEY)
    exact = exact_divergence(p.log_prob, q.log_prob, "total_variation")

    def by_quadrature(critic):
        def v(x):
            return gan.critic.network.apply(critic, x[:, None])

        return exact_bound(p.log_prob, q.log_prob, v, "total_variation", activation="log_ratio", support=(-8.0, 10.0))

    def reported(critic):  # the metric, on as good as the whole of P and Q
        points = (np.arange(4000) + 0.5) / 4000
        x_p, x_q = (jnp.asarray(norm.ppf(points, m)[:, None], jnp.float32) for m in (0.0, 1.5))
        v_p, v_q = gan.outputs(critic, x_p), gan.outputs(critic, x_q)
        return float(gan.lower_bound(v_p, v_q, jnp.nan))

    train = jax.jit(lambda s: steps(gan.step, lambda k: p.sample(k, BATCH)[None], KEY, s, 0, 400)[0])
    for s in (state, train(state)):
        assert reported(s.critic) == pytest.approx(by_quadrature(s.critic), abs=2e-3)
        assert by_quadrature(s.critic) <= exact + 1e-9
    assert by_quadrature(s.critic) > 0.9 * exact  # and after training it is no empty one


def test_the_reported_bound_is_the_trained_one_unless_another_trains():
    v = jnp.linspace(-1.0, 1.0, 5)
    assert float(plane("kl").lower_bound(v, v, jnp.float32(0.7))) == pytest.approx(0.7)
    expected = np.mean(1.0 + v) - np.mean(np.exp(v))
    assert float(plane("kl", trained="js").lower_bound(v, v, jnp.nan)) == pytest.approx(float(expected), rel=1e-6)


# --- output bound, penalties, weights, precision, noise ---------------------------------------------------------------


def test_an_output_bound_keeps_training_finite_on_disjoint_supports():
    """Under jeffreys a free critic of this rate soon overflows, and its steps are left out."""
    skipped = {}
    for bound in (0.0, 3.0):
        gan = line("jeffreys", networks=(LocationScale((-50.0, 0.01)), MLP(())), output_bound=bound)
        state = gan.init(KEY)
        for i in range(3):
            state, metrics = gan.step(jax.random.key(i), state, real(gan, i))
        skipped[bound] = float(metrics["skipped"])
    assert skipped == {0.0: 1.0, 3.0: 0.0}
    assert float(metrics["bound"]) <= 2 * 3.0 * math.expm1(3.0) + 2 * 3.0  # E_P[T] − E_Q[f*(T)] at v = ±3


def test_the_out_of_bound_penalty_leads_outputs_back_that_the_bound_holds_without_a_gradient():
    """The critic of this test calls both samples real, far out of its bound; the divergence's bound cannot move it."""
    far = {"params": {"Dense_0": {"kernel": jnp.zeros((1, 1)), "bias": jnp.full(1, 50.0)}}}
    moved = {}
    for weight in (0.0, 0.5):
        gan = line("neyman", output_bound=2.0, out_of_bound_penalty=weight, rates=(1.0, 0.1))
        state = gan.init(KEY)._replace(critic=far)
        new = gan.critic_update(KEY, state, real(gan, 0)[0], real(gan, 1)[0])[0]
        moved[weight] = float(new.critic["params"]["Dense_0"]["bias"][0]) - 50.0
    assert moved[0.0] == 0.0 and moved[0.5] == pytest.approx(-0.1 * 0.5 * 2.0 * 48.0, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("on", ["critic", "generator"])
def test_a_penalty_moves_the_player_that_pays_it(x64, on):
    """By its own gradient, weighted by the schedule at the step; the other player's update is as without it."""
    penalty = WeightedPenalty(penalties=(PENALTIES["jsd"],), weight=lambda step: 0.1 * (1.0 + step), on=on)
    plain, paying = line("kl"), line("kl", penalty=penalty)
    state = as_float64(plain.init(KEY))._replace(step=jnp.int32(2))
    x_p, x_q, z = real(plain)[0], jax.random.normal(jax.random.key(7), (BATCH, 1)), plain.normal(KEY, 1)
    on_critic = [gan.critic_update(KEY, state, x_p, x_q) for gan in (plain, paying)]
    on_generator = [gan.generator_update(KEY, state, state.critic, z, x_p) for gan in (plain, paying)]
    critics, generators = [new.critic for new, _ in on_critic], [new.generator for new, _ in on_generator]

    def charged(critic, generator):
        fake = x_q if on == "critic" else plain.generate(generator, z)
        values = critic_values(lambda x: plain.outputs(critic, x), x_p, fake, divergence("kl"))
        return 0.3 * PENALTIES["jsd"](values)

    gradients = jax.grad(charged, argnums=(0, 1))(state.critic, state.generator)
    moved, still = (critics, generators) if on == "critic" else (generators, critics)
    expected = gradients[0 if on == "critic" else 1]
    close(jax.tree.map(jnp.subtract, *moved), expected, rtol=1e-7, atol=1e-12)
    assert same(*still) and max(np.abs(x).max() for x in leaves(expected)) > 1e-3
    paid = (on_critic if on == "critic" else on_generator)[1][1]["penalty"]
    assert float(paid) == pytest.approx(float(charged(state.critic, state.generator)), rel=1e-9) and paid > 1e-3
    assert paying.step(KEY, state, real(plain))[1]["penalty"] > 1e-3


@pytest.mark.parametrize("chosen", ["minimax", "alternative", "kl_gradient"])
def test_normalised_weights_are_those_of_the_objective_over_their_mean(x64, chosen):
    """At the outputs within their bound; samples move along the outputs before it."""
    gan = plane("pearson", chosen=chosen, activation="log_ratio", normalise=True, output_bound=2.0)
    raw = jnp.linspace(-3.0, 3.0, 9)
    weight = derivative(gan.cost)(2.0 * jnp.tanh(raw / 2.0))
    gradient = jax.grad(gan.generator_loss)(raw)
    np.testing.assert_allclose(gradient, -weight / jnp.sum(weight), rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(gradient), -1.0, rtol=1e-9)


@pytest.mark.parametrize("penalties", [(), ("roth",)], ids=["bound", "less roth"])
def test_normalised_critics_of_one_divergence_in_two_scales_take_the_same_step(x64, penalties):
    """alpha(2) is half of pearson."""
    penalty = WeightedPenalty(penalties=tuple(PENALTIES[name] for name in penalties)) if penalties else None
    one, other = (
        line(name, normalise=True, activation="log_ratio", penalty=penalty) for name in ("alpha(2)", "pearson")
    )
    state = as_float64(one.init(KEY))
    x_q = jax.random.normal(jax.random.key(7), (BATCH, 1))
    moved = [gan.critic_update(KEY, state, real(gan)[0], x_q)[0].critic for gan in (one, other)]
    close(*moved, rtol=1e-9)
    assert not same(moved[0], state.critic)


@pytest.mark.parametrize("name", ["js", "kl"])
def test_bfloat16_computes_the_steps_of_float32_to_its_eight_bits(name):
    """Networks in bfloat16; parameters, optimiser states, bound and samples in float32, close to those of float32."""
    wide = MLP((8,), "relu", 2), MLP((8,), "tanh")
    gans = [plane(name, networks=pair) for pair in (wide, [InPrecision(n, jnp.dtype("bfloat16")) for n in wide])]
    state = gans[0].init(KEY)
    one, other = (jax.jit(gan.step)(KEY, state, real(gan)) for gan in gans)
    assert {x.dtype for x in jax.tree.leaves(other) if jnp.issubdtype(x.dtype, jnp.inexact)} == {jnp.dtype("float32")}
    assert gans[1].sample(state, KEY, 3).dtype == jnp.float32
    assert float(other[1]["bound"]) != float(one[1]["bound"])
    close(other[1]["bound"], one[1]["bound"], atol=0.02)
    for before, a, b in zip(*map(leaves, (state.critic, one[0].critic, other[0].critic))):
        scale = np.abs(a - before).max()
        np.testing.assert_allclose(b - before, a - before, atol=0.05 * scale + 1e-7)


NOISE = InstanceNoise(start=0.5, end=0.1, overlap=(0.1, 0.1), fall=50.0, steps=100)


def test_noise_comes_to_both_sides_and_follows_the_bound():
    gan = line("kl", instance_noise=NOISE, rates=(0.01, 0.01))
    state = gan.init(KEY)
    deviations = []
    for i in range(5):
        expected = NOISE.follow(state.instance_noise, jnp.nan, state.step)
        state, metrics = gan.step(jax.random.key(i), state, real(gan, i))
        deviations.append(float(metrics["noise"]))
        assert not same(state.instance_noise, expected)
    assert deviations[0] == 0.5 and len(set(deviations)) == 5
    x = jnp.zeros((BATCH, 1))
    deviation = float(state.instance_noise.standard_deviation)
    assert float(jnp.std(gan.noisy(KEY, state, x))) == pytest.approx(deviation, rel=4.0 / math.sqrt(2 * BATCH))
    assert same(line().noisy(KEY, line().init(KEY), x), x)


@pytest.mark.slow
def test_the_noise_follows_the_bound_over_the_curvature(x64):
    """So that pearson and its half, alpha(2), have the same noise; gan's f(1) ≠ 0 does not count."""
    deviations = []
    for name in ("alpha(2)", "pearson", "gan"):
        gan = line(name, instance_noise=NOISE, activation="log_ratio", normalise=True)
        state = gan.init(KEY)
        for i in range(3):
            state, _ = gan.step(jax.random.key(i), state, real(gan, i))
        deviations.append(float(state.instance_noise.standard_deviation))
    assert deviations[0] == pytest.approx(deviations[1], rel=1e-6) and 0.0 < deviations[2] < 0.5


@pytest.mark.slow
def test_a_critic_with_frequencies_takes_the_noise():
    networks = MLP((8,), "relu", 2), MLP((8,), "tanh", frequencies=4)
    gan = plane("js", networks=networks, takes_noise=True, instance_noise=NOISE)
    state, x = gan.init(KEY), jax.random.normal(KEY, (5, 2))
    noise = state.instance_noise
    noisy, sharp = (gan.outputs(state.critic, x, n) for n in (noise, None))
    assert not same(noisy, sharp) and same(sharp, gan.outputs(state.critic, x, noise._replace(standard_deviation=0.0)))
    new, metrics = gan.step(KEY, state, real(gan))
    assert all(np.isfinite(v).all() for v in leaves((new, metrics)))

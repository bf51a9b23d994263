"""Every penalty against quadrature on a pair of Gaussians with a known critic, its gradient against differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import divergence
from estimators.rooms import names
from fgan.config.schema import Config, Data, Penalty
from fgan.data.sources import load
from fgan.models.model import build
from fgan.models.penalties import PENALTIES, SCHEDULES, critic_values, r2, values_and_gradients, weighted

P, Q = (1.0, 1.0), (0.0, 1.3)  # (mean, standard deviation)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
KINDS = ["kl", "reverse_kl", "js", "pearson", "geometric_js"]
"""T any number, T < 0, T bounded, f* in two pieces, T derived from f."""
OMEGA_JS = 0.2911848  # Roth et al. 2017's regulariser for this pair at the exact log-ratio


def expectation(values):
    """E over N(0, 1) of values at the nodes: samples of P and of Q are the nodes, moved and scaled."""
    return jnp.tensordot(jnp.asarray(WEIGHTS / WEIGHTS.sum(), values.dtype), values, axes=1)


def nodes(law: tuple[float, float]) -> jax.Array:
    """The quadrature nodes of a Gaussian, as samples [n, 1]."""
    return jnp.asarray(law[0] + law[1] * NODES)[:, None]


def log_ratio(x):
    """log p/q of the pair."""
    return -0.5 * (x - P[0]) ** 2 / P[1] ** 2 + 0.5 * (x - Q[0]) ** 2 / Q[1] ** 2 + math.log(Q[1] / P[1])


def slope_of_log_ratio(x):
    return -(x - P[0]) / P[1] ** 2 + (x - Q[0]) / Q[1] ** 2


def gentle(x):
    """A critic that is not the optimum, bounded with all its derivatives."""
    return 0.7 * jnp.sin(x) - 0.6 * jnp.sin(0.5 * x)


def slope_of_gentle(x):
    return 0.7 * np.cos(x) - 0.3 * np.cos(0.5 * x)


CRITICS = {"the log-ratio": (log_ratio, slope_of_log_ratio), "another": (gentle, slope_of_gentle)}


def values(critic, trained: str, **options):
    return critic_values(
        lambda x: critic(x[:, 0]), nodes(P), nodes(Q), divergence(trained), expectation=expectation, **options
    )


def penalty(name: str, critic, trained: str, **options) -> float:
    """The penalty on the pair, in one compiled program."""
    return float(jax.jit(lambda: PENALTIES[name](values(critic, trained, **options)))())


def integral(function, law: tuple[float, float]) -> float:
    """E of `function` under a Gaussian, by the trapezoidal rule, which converges geometrically here."""
    mean, deviation = law
    x = np.linspace(mean - 12 * deviation, mean + 12 * deviation, 4001)
    return float(np.trapezoid(np.asarray(function(x)) * norm(mean, deviation).pdf(x), x))


def slope_in(function, v, step: float = 1e-5):
    """dfunction/dv by central differences."""
    return (np.asarray(function(v + step)) - np.asarray(function(v - step))) / (2 * step)


def variation(d: FDivergence, critic, slope, activation) -> float:
    """E_P‖∇T‖² + E_Q‖∇f*(T)‖², with (f*)'(T) = p/q at the critic's ratio: df*(T(v))/dv = e^ℓ dT/dv."""
    g = d.activation(activation)

    def on_p(x):
        return (slope_in(g.output, critic(x)) * slope(x)) ** 2

    def on_q(x):
        return np.exp(2.0 * np.asarray(g.log_ratio(critic(x)))) * on_p(x)

    return integral(on_p, P) + integral(on_q, Q)


@pytest.mark.parametrize("critic", CRITICS)
def test_jsd_is_a_quarter_of_the_js_regulariser(x64, critic):
    function, slope = CRITICS[critic]
    found = penalty("jsd", function, "js")

    def share(x):
        return 1.0 / (1.0 + np.exp(-np.asarray(function(x))))

    omega = integral(lambda x: ((1.0 - share(x)) * slope(x)) ** 2, P) + integral(
        lambda x: (share(x) * slope(x)) ** 2, Q
    )
    assert found == pytest.approx(0.25 * omega, rel=1e-8)
    if critic == "the log-ratio":
        assert 4.0 * found == pytest.approx(OMEGA_JS, abs=5e-8)


@pytest.mark.parametrize("activation", ["log_ratio", "paper"])
@pytest.mark.parametrize("name", KINDS)
def test_first_variation_is_its_integral(x64, name, activation):
    """With a bounded critic, whose integrals are finite for every divergence."""
    found = penalty("first_variation", gentle, name, activation=activation)
    assert found == pytest.approx(variation(divergence(name), gentle, slope_of_gentle, activation), rel=1e-6)


@pytest.mark.parametrize("name", [*KINDS, "total_variation"])
def test_jsd_and_geometric_jsd_go_through_the_log_ratio_of_any_divergence(x64, name):
    """Under log_ratio ℓ is v itself, whatever trains the critic."""
    plain = float(divergence(name).activation("log_ratio").log_ratio(0.5)) == 0.5  # not levelled off by tanh
    for chosen, other in (("jsd", "js"), ("geometric_jsd", "geometric_js")):
        found = penalty(chosen, gentle, name, activation="log_ratio")
        if plain:
            assert found == pytest.approx(variation(divergence(other), gentle, slope_of_gentle, "log_ratio"), rel=1e-6)
        assert found > 0.0


def test_jsd_and_first_variation_agree_where_js_trains(x64):
    one, other = (penalty(name, log_ratio, "js") for name in ("jsd", "first_variation"))
    assert one == pytest.approx(other, rel=1e-12)


@pytest.mark.parametrize("activation", ["log_ratio", "paper"])
@pytest.mark.parametrize("name", KINDS)
def test_roth_is_the_curvature_of_the_conjugate(x64, name, activation):
    """f*'' by differences of the table's own conjugate."""
    d = divergence(name)
    g = d.activation(activation)
    found = penalty("roth", gentle, name, activation=activation)

    def cost(x):
        v, h = gentle(x), 1e-4
        below, here, above = (np.asarray(d.conjugate(g.output(v) + i * h)) for i in (-1, 0, 1))
        return (below - 2 * here + above) / h**2 * (slope_in(g.output, v) * slope_of_gentle(x)) ** 2

    assert found == pytest.approx(integral(cost, Q), rel=1e-4)


def test_roth_is_twice_the_variation_at_the_optimum_of_js(x64):
    found = {name: penalty(name, log_ratio, "js") for name in ("roth", "first_variation")}
    assert found["roth"] == pytest.approx(2.0 * found["first_variation"], rel=1e-8)


def test_roth_is_what_noise_takes_off_the_divergence(x64):
    """d/dγ of D(P∗N(0, γ)‖Q∗N(0, γ)) at 0 is −½ roth at the optimum: by closed-form Gaussians under kl."""

    def with_noise(extra):
        (a, s), (b, t) = P, Q
        s2, t2 = s**2 + extra, t**2 + extra
        return 0.5 * (s2 / t2 - 1.0 + math.log(t2 / s2) + (a - b) ** 2 / t2)

    step = 1e-4
    slope = (with_noise(step) - with_noise(-step)) / (2 * step)
    assert penalty("roth", log_ratio, "kl") == pytest.approx(-2.0 * slope, rel=1e-6)


def test_roth_refuses_a_divergence_with_a_kink(x64):
    with pytest.raises(ValueError, match=r"total_variation.*r1"):
        PENALTIES["roth"](values(gentle, "total_variation"))


@pytest.mark.parametrize("critic", CRITICS)
def test_squared_slopes(x64, critic):
    function, slope = CRITICS[critic]
    found = {name: penalty(name, function, "kl") for name in ("r1", "r2", "r1_r2", "none")}
    on_p, on_q = (integral(lambda x: slope(x) ** 2, law) for law in (P, Q))
    assert [found["r1"], found["r2"], found["r1_r2"]] == pytest.approx([on_p, on_q, on_p + on_q], rel=1e-8)
    assert found["none"] == 0.0


@pytest.mark.parametrize(("name", "unit"), [("js", 0.25), ("pearson", 2.0), ("total_variation", 1.0)])
def test_scaled_slopes_are_in_the_unit_of_the_divergence(x64, name, unit):
    """f''(1)·(R1 + R2); f has a kink under total_variation."""
    function, _ = next(iter(CRITICS.values()))
    found, plain = (penalty(p, function, name) for p in ("scaled_r1_r2", "r1_r2"))
    assert found == pytest.approx(unit * plain, rel=1e-8)


def test_wgan_gp_and_dragan_have_points_of_their_own(x64):
    uniform, normal = jnp.linspace(0.1, 0.9, len(NODES)), jnp.sin(jnp.arange(len(NODES)))[:, None]
    at = values(gentle, "js", uniform=uniform, normal=normal)
    x_p, x_q, u = (np.asarray(a).ravel() for a in (nodes(P), nodes(Q), uniform))
    between = u * x_p + (1.0 - u) * x_q
    around = x_p + 0.5 * P[1] * np.asarray(normal).ravel()  # the nodes have the deviation of P
    for name, points in (("wgan_gp", between), ("dragan", around)):
        expected = WEIGHTS @ (np.abs(slope_of_gentle(points)) - 1.0) ** 2 / WEIGHTS.sum()
        assert float(PENALTIES[name](at)) == pytest.approx(expected, rel=1e-9)


# --- gradients --------------------------------------------------------------------------------------------------------


def small_critic(w, x):
    return jnp.tanh(x @ w["in"] + w["shift"][None]) @ w["out"]


def weights():
    rng = np.random.default_rng(0)
    return {"in": rng.normal(size=(2, 5)), "shift": rng.normal(size=5), "out": rng.normal(size=5)}


NAMES = tuple(PENALTIES)


def every(critic, x_p, x_q, trained: str = "js", **options) -> jax.Array:
    """All penalties, in the order of NAMES."""
    values = critic_values(critic, x_p, x_q, divergence(trained), **options)
    return jnp.stack([PENALTIES[name](values) for name in NAMES])


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_gradients_are_those_of_finite_differences(x64, player):
    """In the critic's weights, and in where the generator's samples lie."""
    rng = np.random.default_rng(1)
    x_p, x_q = (jnp.asarray(rng.normal(size=(6, 2))) for _ in range(2))
    options = {"uniform": jnp.asarray(rng.uniform(size=6)), "normal": jnp.asarray(rng.normal(size=(6, 2)))}
    w = jax.tree.map(jnp.asarray, weights())
    direction = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), w if player == "critic" else x_q)

    def moved(t):
        critic, points = w, x_q
        if player == "critic":
            critic = jax.tree.map(lambda a, d: a + t * d, w, direction)
        else:
            points = x_q + t * direction
        return every(lambda x: small_critic(critic, x), x_p, points, "jeffreys", **options)

    slopes, gradients = jax.jit(lambda: ((moved(1e-5) - moved(-1e-5)) / 2e-5, jax.jacrev(moved)(0.0)))()
    np.testing.assert_allclose(gradients, slopes, rtol=1e-6, atol=1e-9)
    unmoved = {name for name, slope in zip(NAMES, slopes) if slope == 0.0}
    assert unmoved == ({"none"} if player == "critic" else {"none", "r1", "dragan"})


def test_a_flat_critic_has_finite_gradients(dtype):
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 3)), dtype)
    gradients = jax.jit(jax.jacrev(lambda w: every(lambda x: x @ w, x, x + 1.0)))(jnp.zeros(3, dtype))
    assert gradients.dtype == dtype and np.isfinite(gradients).all()


def test_input_gradients_are_those_of_each_point_alone(dtype):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(5, 2)), dtype)
    w = jax.tree.map(lambda a: jnp.asarray(a, dtype), weights())
    v, gradient = values_and_gradients(lambda points: small_critic(w, points), x)
    alone = jax.vmap(jax.grad(lambda point: small_critic(w, point[None])[0]))(x)
    np.testing.assert_allclose(gradient, alone, rtol=100 * np.finfo(dtype).eps)
    np.testing.assert_allclose(v, small_critic(w, x), rtol=100 * np.finfo(dtype).eps)


def test_means_go_through_expectation(x64):
    """Half the batch on each of two devices, whose mean of means is the mean."""
    rng = np.random.default_rng(4)
    x_p, x_q = (jnp.asarray(rng.normal(size=(8, 2))) for _ in range(2))
    w = jax.tree.map(jnp.asarray, weights())

    def alone(x_p, x_q, **options):
        return every(lambda x: small_critic(w, x), x_p, x_q, "kl", normal=1.0, **options)

    def shared(values):
        return jax.lax.pmean(jnp.mean(values, axis=0), "devices")

    halves = (x.reshape(2, 4, 2) for x in (x_p, x_q))
    parallel = jax.jit(jax.vmap(lambda p, q: alone(p, q, expectation=shared), axis_name="devices"))(*halves)
    np.testing.assert_allclose(parallel, np.tile(jax.jit(alone)(x_p, x_q), (2, 1)), rtol=1e-12)


@pytest.mark.parametrize("name, end", [("constant", 1.0), ("annealed", 0.01), ("cosine", 0.0)])
def test_weights_go_from_one_to_their_end(name, end):
    values = [float(SCHEDULES[name](jnp.float32(t))) for t in np.linspace(0.0, 1.0, 11)]
    assert values[0] == 1.0 and values[-1] == pytest.approx(end, abs=1e-6) and sorted(values, reverse=True) == values


# --- from a config ----------------------------------------------------------------------------------------------------


def test_penalties_add_up_with_their_scheduled_weight():
    rng = np.random.default_rng(0)
    x_p, x_q = (jnp.asarray(rng.normal(size=(9, 2)), jnp.float32) for _ in range(2))
    at = critic_values(lambda x: jnp.sum(x**3, axis=-1), x_p, x_q, divergence("js"))
    exact = [np.mean(np.sum((3 * np.asarray(x) ** 2) ** 2, axis=1)) for x in (x_p, x_q)]

    def paid(*chosen, step=0, **options):
        return float(weighted(Penalty(names=chosen, **options), 40)(at, jnp.int32(step)))

    assert [paid("r1"), paid("r2"), paid("r1", "none", "r2")] == pytest.approx([*exact, sum(exact)], rel=1e-5)
    annealed = [paid("r1", weight=10.0, schedule="annealed", step=step) for step in (0, 40)]
    assert annealed == pytest.approx([10.0 * exact[0], 0.1 * exact[0]], rel=1e-5)
    assert weighted(Penalty(names=("r1",), on="generator"), 40).on == "generator"
    assert weighted(Penalty(), 40) is None and weighted(Penalty(names=("none",)), 40) is None


def test_a_penalty_is_one_entry_of_the_table(monkeypatch):
    """It is offered where configs are checked, and charged under its name."""
    monkeypatch.setitem(PENALTIES, "twice_r2", lambda values: 2.0 * r2(values))
    assert "twice_r2" in names("fgan.models.penalties:PENALTIES")
    config = Config(penalty=Penalty(names=("twice_r2",), weight=3.0), batch=8)
    gan = build(config, load(Data(name="ring")))
    at = critic_values(lambda x: 0.5 * x[:, 0], jnp.ones((8, 2)), jnp.zeros((8, 2)), divergence("js"))
    assert float(gan.penalty(at, jnp.int32(0))) == pytest.approx(3.0 * 2.0 * 0.25)
    metrics = jax.eval_shape(lambda key: gan.step(key, gan.init(key), jnp.ones((1, 8, 2)))[1], jax.random.key(0))
    assert "penalty" in metrics

"""Bounds on samples: means of a divergence's functions, however the batch is divided over devices."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from estimators.distributions.examples import normal
from estimators.divergences.bounds import BOUNDS, donsker_varadhan, fenchel, log_mean_exp, mean
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values.quadrature import exact_divergence

FURTHER = ("alpha(1.5)", "alpha(2)", "alpha(-1)", "js_weighted(0.7)", "hockey_stick(1)")
ALL = [divergence(name) for name in (*DIVERGENCES, *FURTHER)]
KL = divergence("kl")
DEVICES = 4
N, M = 48, 32  # not equal: P and Q need not come in batches of one size

every_activation = pytest.mark.parametrize("activation", ["log_ratio", "paper"])
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)


def outputs(seed=0, dtype=np.float32):
    """Raw critic outputs (v_p [N], v_q [M]), higher on P."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(0.8, 1.0, N), dtype), jnp.asarray(rng.normal(-0.5, 1.2, M), dtype)


def test_the_table_of_bounds():
    assert dict(BOUNDS) == {"fenchel": fenchel, "donsker_varadhan": donsker_varadhan}


# --- against NumPy ---------------------------------------------------------------------------------------------------
@every_activation
def test_fenchel_is_the_difference_of_means(activation, x64):
    v_p, v_q = outputs(dtype=np.float64)
    for d in ALL:
        g = d.activation(activation)
        expected = np.mean(np.asarray(g.output(v_p))) - np.mean(np.asarray(d.conjugate(g.output(v_q))))
        found = fenchel(d, v_p, v_q, activation=activation)
        assert found.shape == () and float(found) == pytest.approx(float(expected), rel=1e-10), d


def test_the_activation_left_out_is_the_default_of_the_divergence():
    for d in (divergence("js"), divergence("total_variation")):
        assert fenchel(d, *outputs()) == fenchel(d, *outputs(), activation=d.default)


@pytest.mark.parametrize(("activation", "shift"), [("log_ratio", 0.0), ("paper", 1.0)])
def test_donsker_varadhan_against_logsumexp(activation, shift, dtype):
    """The paper's output is T = v, of log-ratio v − 1."""
    v_p, v_q = outputs(dtype=dtype)
    log_p, log_q = np.asarray(v_p, np.float64) - shift, np.asarray(v_q, np.float64) - shift
    expected = log_p.mean() - (logsumexp(log_q) - math.log(M))
    found = donsker_varadhan(KL, v_p, v_q, activation=activation)
    assert found.dtype == dtype and float(found) == pytest.approx(expected, rel=8.0 * float(np.finfo(dtype).eps))


def test_donsker_varadhan_gradient_is_uniform_on_p_and_softmax_on_q(x64):
    v_p, v_q = outputs(dtype=np.float64)
    on_p, on_q = jax.grad(partial(donsker_varadhan, KL), argnums=(0, 1))(v_p, v_q)
    np.testing.assert_allclose(on_p, np.full(N, 1.0 / N), rtol=1e-13)
    np.testing.assert_allclose(on_q, -jax.nn.softmax(v_q), rtol=1e-13)


# --- theorems --------------------------------------------------------------------------------------------------------
@every_activation
@pytest.mark.parametrize("seed", range(5))
def test_donsker_varadhan_exceeds_nwj_at_the_same_critic(activation, seed):
    """−log x ≥ 1 − x, with equality where the mean of e^ℓ is one."""
    v_p, v_q = outputs(seed)
    tighter = donsker_varadhan(KL, v_p, v_q, activation=activation)
    assert tighter > fenchel(KL, v_p, v_q, activation=activation)
    log_mean = float(logsumexp(v_q)) - math.log(M)
    normalised = fenchel(KL, v_p - log_mean, v_q - log_mean, activation="log_ratio")
    assert float(donsker_varadhan(KL, v_p, v_q, activation="log_ratio")) == pytest.approx(float(normalised), abs=1e-6)


@pytest.mark.parametrize("constant", [-1e4, -90.0, 90.0, 1e4])
def test_donsker_varadhan_forgets_a_constant_and_does_not_overflow(constant, dtype):
    """At v = 10⁴ float32 itself rounds by 10⁻³."""
    v_p, v_q = outputs(dtype=dtype)
    value, (on_p, on_q) = jax.value_and_grad(lambda p, q: donsker_varadhan(KL, p, q), argnums=(0, 1))(
        v_p + constant, v_q + constant
    )
    rounding = 2.0 * float(np.finfo(dtype).eps) * abs(constant)
    assert float(value) == pytest.approx(float(donsker_varadhan(KL, v_p, v_q)), abs=rounding)
    assert np.all(np.isfinite(on_p)) and np.all(np.isfinite(on_q))


def test_donsker_varadhan_survives_one_outlier():
    v_p, v_q = outputs()
    value, gradient = jax.value_and_grad(lambda q: donsker_varadhan(KL, v_p, q))(v_q.at[0].set(1e4))
    assert float(value) == pytest.approx(float(v_p.mean()) - 1e4 + math.log(M), rel=1e-6)
    assert np.all(np.isfinite(gradient)) and float(gradient[0]) == pytest.approx(-1.0)


def test_donsker_varadhan_is_for_kl_alone():
    for d in ALL:
        if d is not KL:
            with pytest.raises(ValueError, match=r"kl only.*fenchel"):
                donsker_varadhan(d, *outputs())


@every_bound
def test_unknown_activations_are_refused(bound):
    with pytest.raises(ValueError, match="choose log_ratio or paper"):
        bound(KL, *outputs(), activation="tanh")


def test_bound_at_the_true_log_ratio_estimates_the_divergence():
    """Within five standard errors, which for a fixed critic are those of two means."""
    p, q = normal(0.3, 0.8), normal(0.0, 1.0)
    n = 20_000
    x, y = (target.sample(key, n)[:, 0] for target, key in zip((p, q), jax.random.split(jax.random.key(0))))
    v_p, v_q = (p.log_prob(z) - q.log_prob(z) for z in (x, y))
    for d in map(divergence, ("js", "jeffreys", "alpha(1.5)")):
        found = float(fenchel(d, v_p, v_q, activation="log_ratio"))
        error = math.hypot(np.std(d.log_ratio.output(v_p)), np.std(d.log_ratio.conjugate(v_q))) / math.sqrt(n)
        assert abs(found - exact_divergence(p.log_prob, q.log_prob, d)) < 5.0 * error, d


# --- the expectation -------------------------------------------------------------------------------------------------
@every_bound
def test_expectation_is_honoured(bound):
    """A mean over every other sample gives the bound of those; the default is the plain mean."""
    v_p, v_q = outputs()
    assert float(bound(KL, v_p, v_q, expectation=mean)) == float(bound(KL, v_p, v_q))
    halved = bound(KL, v_p, v_q, expectation=lambda values: mean(values[::2]))
    assert float(halved) == pytest.approx(float(bound(KL, v_p[::2], v_q[::2])), rel=1e-6)


@every_bound
def test_a_batch_divided_over_devices_gives_the_bound_of_the_whole(bound, x64):
    """And its gradient, the mean over devices being inside, under the log too."""

    def global_mean(values):
        return jax.lax.pmean(mean(values), "device")

    def divided(v_p, v_q):
        shares = v_p.reshape(DEVICES, -1), v_q.reshape(DEVICES, -1)
        return jax.vmap(partial(bound, KL, expectation=global_mean), axis_name="device")(*shares)

    batch = outputs(dtype=np.float64)
    values = divided(*batch)
    whole = float(bound(KL, *batch))
    assert np.asarray(values) == pytest.approx(np.full(DEVICES, whole), rel=1e-12)
    gradient = jax.grad(lambda *v: jnp.mean(divided(*v)), argnums=(0, 1))(*batch)
    expected = jax.grad(partial(bound, KL), argnums=(0, 1))(*batch)
    for found, truth in zip(gradient, expected):
        np.testing.assert_allclose(found, truth, rtol=1e-10, atol=1e-14)


def test_fenchel_of_two_halves_is_their_average(x64):
    """It is linear in the two distributions, as the Donsker–Varadhan bound is not."""
    v_p, v_q = outputs(dtype=np.float64)
    halves = [(v_p[half], v_q[half]) for half in (np.s_[::2], np.s_[1::2])]
    for d in ALL:
        average = float(sum(fenchel(d, *half) for half in halves)) / 2.0
        assert average == pytest.approx(float(fenchel(d, v_p, v_q)), rel=1e-12), d
    average = float(sum(donsker_varadhan(KL, *half) for half in halves)) / 2.0
    assert average > float(donsker_varadhan(KL, v_p, v_q)) + 1e-6  # Jensen: biased up


def test_log_mean_exp_has_the_derivatives_of_its_formula():
    values = jnp.array([-3.0, 0.5, 2.0, 1.0])

    def plain(v):
        return jax.nn.logsumexp(v) - jnp.log(float(v.size))

    for derivative in (lambda f: f, jax.grad, jax.hessian):
        found, expected = (jax.jit(derivative(f))(values) for f in (log_mean_exp, plain))
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-7)
    assert log_mean_exp(values + 1e4) == pytest.approx(1e4 + float(plain(values)), rel=1e-6)

"""Objectives of a latent-variable model p(z) p(x|z) with an approximate posterior q(z|x), per data point, in nats.

    distortion  D = −E_q log p(x|z)              rate  R = KL(q(z|x)‖p(z))           ELBO = −(D + R) ≤ log p(x)
    weights     w = p(x, z)/q(z|x) at z ~ q      E_q w = p(x)

The prior is p(z) = N(0, I), q is a Gaussian with independent coordinates, mean and variance [..., L]. Points of q are
`draws` from noise, so gradients flow through them (Kingma & Welling 2014). Rates are closed forms and come for each
coordinate, [..., L]; their sum is that of the whole. Weights come as logarithms [..., k], k points of q on the last
axis, and so do log-likelihoods. Everything is pure, batched over leading axes, and made for jit, vmap and grad.

The bounds on log p(x), from the loosest to the tightest:

    E log w        =  elbo(…)                    KL(q‖p(z|x)) below log p(x)
    f_bound(log w, d)                            tight at q = p(z|x), for every divergence d with f'(∞) < ∞
    log mean w     =  importance_weighted(…)     tighter with every further point
"""

import math
import re
from collections.abc import Callable
from contextlib import suppress

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from estimators.divergences.bounds import Expectation, mean
from estimators.divergences.generator import FDivergence, derivative
from estimators.divergences.table import UnknownDivergence, divergence
from estimators.exact_values import gaussian
from estimators.objectives.checks import share

ACTIVE = 0.01
"""Variance over data of a coordinate's posterior mean above which it counts as used. Source: Burda et al. 2016,
section 5.2, who found the histogram of these variances to have two far peaks, with this number between them."""
HALVINGS = 60  # of an interval of log-weights: more than float64 can tell apart
DEEPEST = 80.0
"""nats below the mean weight; lighter points count as this in bounds that have no closed form: e^80 fits float32."""
POWERS = {"reverse_kl": 0.0, "squared_hellinger": 0.5, "neyman": -1.0, "kl": 1.0, "pearson": 2.0}
"""Divergences that are an alpha(a) times a positive number, or its limit at 0 and 1: name → a. Their f_bound is closed
and depends on no scale."""


def draws(noise: jax.Array, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """z = mean + √variance · noise, points of q = N(mean, diag variance): [..., k, L].

    Args:
        noise: of N(0, I) [..., k, L].
        mean, variance: of q [..., L].

    >>> draws(jnp.array([[1.0], [-2.0]]), jnp.array([10.0]), jnp.array([4.0]))
    Array([[12.],
           [ 6.]], dtype=float32)
    """
    return mean[..., None, :] + jnp.sqrt(variance)[..., None, :] * noise


def kl_rate(mean: jax.Array, variance: jax.Array) -> jax.Array:
    """KL(N(m, v)‖N(0, 1)) = ½(m² + v − 1 − log v) of each coordinate: [..., L] → [..., L].

    >>> kl_rate(jnp.array([0.0, 2.0]), jnp.array([1.0, 1.0]))
    Array([0., 2.], dtype=float32)
    """
    return _each(gaussian.kl, mean, variance)


def geometric_js_rate(
    mean: jax.Array,
    variance: jax.Array,
    alpha: gaussian.Order = 0.5,
    *,
    convention: gaussian.Convention = "nielsen",
    dual: bool = False,
) -> jax.Array:
    """`gaussian.geometric_js` between N(m, v) and N(0, 1), of each coordinate: [..., L] → [..., L].

    In place of KL(q‖prior) it is the regulariser of Deasy, Simidjievski, Liò 2020, whose code has the convention
    "deasy": KL(q‖prior) at α = 0, KL(prior‖q) at 1. The sum over coordinates is that of the whole, since log ∫ p^{1−α}
    q^α is. Raises ValueError as `gaussian.geometric_js` does.

    >>> q = jnp.array([0.3]), jnp.array([0.5])
    >>> bool(jnp.isclose(geometric_js_rate(*q, 0.0, convention="deasy"), kl_rate(*q))[0])
    True
    """
    gaussian.geometric_weights(alpha, convention)  # what is wrong is said once, outside vmap

    def between(mean_p, cov_p, mean_q, cov_q):
        return gaussian.geometric_js(mean_p, cov_p, mean_q, cov_q, alpha, convention=convention, dual=dual)

    return _each(between, mean, variance)


def log_weights(
    log_likelihood: jax.Array, z: jax.Array, mean: jax.Array, variance: jax.Array, beta: jax.Array | float = 1.0
) -> jax.Array:
    """log w = log p(x|z) + β[log p(z) − log q(z|x)] at points z of q: [..., k].

    Args:
        log_likelihood: log p(x|z) [..., k].
        z: [..., k, L], as `draws` returns them.
        mean, variance: of q [..., L].
        beta: factor on the log-ratio of prior and q; at 1 the bounds below are bounds on log p(x).

    >>> z = jnp.array([[0.5], [1.0]])
    >>> log_weights(jnp.array([-1.0, -2.0]), z, jnp.array([0.0]), jnp.array([1.0]))  # q is the prior
    Array([-1., -2.], dtype=float32)
    """
    log_variance = jnp.log(variance)[..., None, :]
    square = (z - mean[..., None, :]) ** 2 / variance[..., None, :]
    return log_likelihood + beta * 0.5 * jnp.sum(square + log_variance - z**2, axis=-1)


def elbo(log_likelihood: jax.Array, rate: jax.Array, beta: jax.Array | float = 1.0) -> jax.Array:
    """E_q log p(x|z) − βR, the average over k points less the weighted rate: [...].

    Args:
        log_likelihood: log p(x|z) at points of q [..., k].
        rate: [...], the sum of `kl_rate`; or of another rate, and it is no bound on log p(x) any more.
        beta: its weight. Above 1 the value is a looser bound (Higgins et al. 2017), below 1 it is none; at 0, where
            annealing starts, an infinite rate counts 0.

    >>> elbo(jnp.array([-3.0, -5.0]), jnp.array(1.0))
    Array(-5., dtype=float32)
    """
    return jnp.mean(log_likelihood, axis=-1) - share(beta, rate)


def importance_weighted(log_weights: jax.Array) -> jax.Array:
    """log (1/k) Σ w, the importance-weighted bound on log p(x) from k points of q: [..., k] → [...].

    Its mean grows with k, from the ELBO at k = 1 to log p(x). Source: Burda, Grosse, Salakhutdinov 2016, eq. 8.

    >>> round(float(importance_weighted(jnp.log(jnp.array([1.0, 3.0])))), 4)  # log 2
    0.6931
    """
    return logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def f_bound(log_weights: jax.Array, d: FDivergence) -> jax.Array:
    """log of the f-mean of w: log c + log g⁻¹(mean g(w/c)), a bound on log p(x) by `d`: [..., k] → [...].

    D_f(p(z|x)‖q) is E_q f(w/p(x)), so f is applied to the weights: f convex and E_q w = p(x) give
    E_q g(w/c) ≥ g(p(x)/c), by Jensen, for every c > 0 and every g(u) = f(u) + const·(u − 1), which has the same D_f.

        f'(∞) < ∞     g(u) = f(u) − f'(∞)(u − 1) falls: a lower bound. reverse_kl has the ELBO, alpha(a), a < 1, the
                      Rényi bound log (mean w^a)^{1/a} (Li & Turner 2016); squared_hellinger is a = ½, neyman a = −1.
        kl, pearson, alpha(a), a > 1
                      an upper bound: (mean w²)^{1/2} (Dieng et al. 2017) and its like; for kl mean w log w / mean w.

    For every sample the lower ones are at most `importance_weighted`, the upper ones at least that, since an f-mean
    lies on one side of the mean. So the expected lower one never exceeds log p(x), whatever k is. The expected upper
    one may fall short of log p(x) at small k. All are equal where w is constant, that is where q is the posterior.

    A power mean does not depend on c; otherwise c is the mean weight, and a weight less than e^−80 c counts as that.

    Args:
        log_weights: [..., k], `log_weights` with β = 1.
        d: one with f'(∞) < ∞ or among kl, pearson, alpha(a).

    Raises:
        ValueError: another divergence.

    Source: Wan, Li, Hovakimyan 2020, f-divergence variational inference: the f-variational bound and its use as a
    sandwich of the evidence.

    >>> from estimators.divergences.table import divergence
    >>> w = jnp.array([1.0, 2.0, 6.0])
    >>> [round(float(jnp.exp(f_bound(jnp.log(w), divergence(name)))), 3) for name in ("reverse_kl", "js", "pearson")]
    [2.289, 2.489, 3.697]
    """
    if (power := _power(d)) is not None:
        return _power_mean(log_weights, power)
    if not bounds_from_below(d):
        raise ValueError(
            f"divergence {d.name}: f'(∞) is infinite, so it has no lower bound on log p(x); choose reverse_kl, js, "
            "squared_hellinger or alpha(a)"
        )
    scale = importance_weighted(log_weights)
    relative = jnp.maximum(log_weights - scale[..., None], -DEEPEST)
    return scale + _f_mean(lambda v: d.f(jnp.exp(v)) - d.slope_at_infinity * jnp.expm1(v), relative)


def bounds_from_below(d: FDivergence) -> bool:
    """Whether `f_bound` of `d` is a lower bound on log p(x), which a model may climb: f'(∞) < ∞.

    >>> from estimators.divergences.table import divergence
    >>> bounds_from_below(divergence("js")), bounds_from_below(divergence("pearson"))
    (True, False)
    """
    return math.isfinite(d.slope_at_infinity)


def free_bits(rates: jax.Array, least: float, expectation: Expectation = mean) -> jax.Array:
    """Σ_j max(λ, E R_j): a rate that costs nothing until coordinate j carries λ nats on average: [n, L] → [].

    Args:
        rates: of each data point and coordinate [n, L].
        least: λ ≥ 0, nats; at 0 it is the mean rate.
        expectation: the mean over data points.

    Raises:
        ValueError: λ below 0.

    Source: Kingma et al. 2016, Improving variational inference with inverse autoregressive flow, eq. 15.

    >>> free_bits(jnp.array([[0.0, 2.0], [0.2, 4.0]]), 0.5)
    Array(3.5, dtype=float32)
    """
    if least < 0.0:
        raise ValueError(f"least = {least}: the free nats of a coordinate are 0 or more")
    return jnp.sum(jnp.maximum(expectation(rates), least))


def active_units(means: jax.Array, threshold: float = ACTIVE) -> jax.Array:
    """How many coordinates of z the model uses: those with Var_x E_q[z_j] > 0.01: [n, L] → [].

    Args:
        means: posterior means of n data points [n, L].
        threshold: of the variance; the prior's is 1.

    Source: Burda, Grosse, Salakhutdinov 2016, section 5.2. A count of 0 is posterior collapse.

    >>> int(active_units(jnp.array([[1.0, 0.01, 3.0], [-1.0, 0.02, 3.0]])))
    1
    """
    return jnp.sum(jnp.var(means, axis=0) > threshold)


def _each(rate: Callable[..., jax.Array], mean: jax.Array, variance: jax.Array) -> jax.Array:
    """The rate between N(m, v) and N(0, 1) of each coordinate; no coordinates are coupled, and none is inverted."""
    mean, variance = jnp.broadcast_arrays(mean, variance)
    origin, one = jnp.zeros(1, mean.dtype), jnp.ones(1, mean.dtype)
    flat = jax.vmap(lambda m, v: rate(m[None], v[None], origin, one))(mean.ravel(), variance.ravel())
    return flat.reshape(mean.shape)


def _power(d: FDivergence) -> float | None:
    """a where f is that of alpha(a) up to a factor, None otherwise. A divergence of the user may share a name."""
    with suppress(UnknownDivergence):
        if divergence(d.name) is d:
            order = re.fullmatch(r"alpha\((.+)\)", d.name)
            return float(order[1]) if order else POWERS.get(d.name)
    return None


def _power_mean(logs: jax.Array, power: float) -> jax.Array:
    """log (mean w^a)^{1/a} from log w [..., k]; at a = 0 its limit, and at 1 that of the f-mean of kl as c → 0."""
    if power == 0.0:
        return jnp.mean(logs, axis=-1)
    if power == 1.0:
        return jnp.sum(jax.nn.softmax(logs, axis=-1) * logs, axis=-1)
    return importance_weighted(power * logs) / power


def _f_mean(g: Callable[[jax.Array], jax.Array], logs: jax.Array) -> jax.Array:
    """m with g(m) = mean g(log w), for a falling g of the logarithm, by bisection: [..., k] → [...].

    Its derivative is that of the implicit function: ∂m/∂log w_i = g'(log w_i)/(k g'(m)).
    """

    @jax.custom_jvp
    def root(logs):
        wanted = jnp.mean(g(logs), axis=-1)

        def halve(_, bracket):
            low, high = bracket
            middle = 0.5 * (low + high)
            below = g(middle) > wanted
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.min(logs, axis=-1), jnp.max(logs, axis=-1)))
        return 0.5 * (low + high)

    @root.defjvp
    def _(primals, tangents):
        (logs,), (change,) = primals, tangents
        m = root(logs)
        slope, slopes = derivative(g)(m), derivative(g)(logs)
        flat = slope == 0.0  # of a kink, beyond which every value is the mean
        share = jnp.where(flat[..., None], 1.0, slopes / jnp.where(flat, 1.0, slope)[..., None])
        return m, jnp.mean(share * change, axis=-1)

    return root(logs)

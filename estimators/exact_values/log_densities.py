"""Divergences from log-densities at samples: means with standard errors, and whether these can be believed.

Every D_f is one mean of the perspective, whatever law M the samples come from:

    D_f(P‖Q) = f(1) + E_M[(q/m) f̃(p/q)],    f̃(u) = f(u) − f(1) − f'(1)(u − 1) ≥ 0:

E_Q f̃(r) for samples of Q, E_P f̃(r)/r for samples of P, r = p/q. f̃ in place of f adds a term of mean 0 (a control
variate): for kl at samples of P it turns log r into k3. Samples of the mixture ½(P + Q) have weights p/m, q/m ≤ 2: the
terms of a bounded divergence are bounded there, and no mass is missed. Samples of Q say nothing of mass of P where
q = 0, nor samples of P of mass of Q where p = 0: it is left out of the value.

Samples lie along one axis, any other axes are a batch. Values are in nats, in the precision of the input, and
everything is made for `jit`, `vmap` and `grad`. Exact values of known pairs of distributions are `monte_carlo`'s.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence, as_float
from estimators.divergences.perspective import growth, integrand
from estimators.divergences.table import DIVERGENCES, functional
from estimators.exact_values.pareto import reliable_below, tail_shape
from estimators.exact_values.probabilities import is_traced, safe_log

Source = Literal["p", "q", "mixture"]
MASS_ERRORS = 5.0  # standard errors of a mean weight; by chance one mean in two million lies further from 1
LIKE_KL = 0.05
"""|α − 1| below which Rényi's divergence is estimated as kl is, at the same demand on the masses. There the plain mean
has errors of up to 20 times the spread of p/q − 1, which the missing mass would have to exceed. A judgement."""


class Average(NamedTuple):
    """A mean over samples, in nats, with what tells whether it can be believed; arrays [...] over a batch.

    `effective_sample_size`: (Σw)²/Σw² of the weights that carry the samples to P or to Q, the smaller one.
    `pareto_k`: shape of the tail of what the terms grow like, a (a/b)^κ and b (b/a)^κ₀ with a = p/m, b = q/m and the
    exponents of `perspective.growth`. Of the terms themselves, which vanish at p = q, it would need far more samples.
    `unbalanced`: whether a mean of p/m or q/m, which is 1 for normalised densities whose mass the samples can reach, is
    further than `MASS_ERRORS` of its standard errors from 1: then the value is of other measures than P and Q.
    """

    value: jax.Array
    standard_error: jax.Array
    effective_sample_size: jax.Array
    pareto_k: jax.Array
    samples: int
    unbalanced: jax.Array | bool = False

    @property
    def warnings(self) -> tuple[str, ...]:
        """Why not to believe the value, in words; empty where nothing speaks against it. Outside jit."""
        n, k, infinite = int(np.max(self.samples)), np.asarray(self.pareto_k), np.isinf(np.asarray(self.value))
        of = f" in {{}} of {k.size} rows" if k.ndim else ""
        limit, found = reliable_below(n), []
        if infinite.any():
            found.append(f"infinite{of.format(infinite.sum())}: a sample where one density is 0, or a term overflows")
        if n < 25:
            return (*found, f"few samples: the tail of {n} terms cannot be judged; take 25 or more")
        heavy = (k > limit) & ~infinite
        if heavy.any():
            found.append(
                f"heavy tail{of.format(heavy.sum())}: pareto k = {k[heavy].max():.2f} > {limit:.2f}, few terms carry "
                "the mean; take samples of the mixture, or of a law with heavier tails"
            )
        if np.any(self.unbalanced & ~heavy):  # of heavy weights the mean is small by chance
            found.append(
                "mass missing: a mean of p/m or q/m is not 1, so a density is not normalised, or has mass where no "
                "sample can lie; take samples of the mixture, or normalised=False"
            )
        return tuple(found)


def k1(log_p: ArrayLike, log_q: ArrayLike) -> jax.Array:
    """−log s, s = q/p at x ~ P, elementwise: unbiased for KL(P‖Q), of both signs, noisy where P is close to Q.

    Not a loss: differentiated through log p at fixed samples its mean gradient is E ∇log p = 0.
    """
    return _as_floats(log_p, log_q)[0] - _as_floats(log_p, log_q)[1]


def k2(log_p: ArrayLike, log_q: ArrayLike) -> jax.Array:
    """½ log² s, elementwise, x ~ P: of low variance and *biased*: it is E_P ½ log² s, an f-divergence of its own.

    It agrees with KL(P‖Q) to second order in P − Q, so it serves to watch policies that stay close; far apart its bias
    is of the order of the value. As a loss it is right where k1 and k3 are not: at fixed samples of P its gradient
    through log p is (log p/q) ∇log p, unbiased for ∇KL(P‖Q).
    """
    return 0.5 * k1(log_p, log_q) ** 2


def k3(log_p: ArrayLike, log_q: ArrayLike) -> jax.Array:
    """(s − 1) − log s ≥ 0, elementwise, x ~ P: unbiased for KL(P‖Q), less noisy than k1 where P is close to Q.

    It needs normalised densities and no mass of Q where p = 0, and its variance is infinite where E_P s² is. At fixed
    samples of P its gradient through log p is (1 − s) ∇log p, unbiased for the gradient of KL(Q‖P), not of KL(P‖Q).
    """
    log_p, log_q = _as_floats(log_p, log_q)
    log_s = log_q - log_p
    return integrand(DIVERGENCES["kl"])(jnp.zeros_like(log_s), log_s)  # keeps its digits near s = 1


KL_ESTIMATORS: dict[str, Callable[[ArrayLike, ArrayLike], jax.Array]] = {"k1": k1, "k2": k2, "k3": k3}
"""Terms of a mean over samples of P; of the ways to estimate KL from two log-densities."""


def kl(log_p: ArrayLike, log_q: ArrayLike, estimator: str = "k3", *, axis: int = -1) -> Average:
    """The mean of k1, k2 or k3 over samples of P, for KL(P‖Q).

    Args:
        log_p, log_q: normalised log-densities at samples of P [..., n], which lie along `axis`.
        estimator: a name in `KL_ESTIMATORS`.

    Raises:
        ValueError: an unknown estimator, or as `divergence`.

    Source: Schulman 2020, Approximating KL divergence; gradients: Tang & Munos 2025, On a few pitfalls in KL divergence
    gradient estimation for RL.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=4000)  # P = N(0, 1), Q = N(0.1, 1): KL = 0.005
    >>> for name in ("k1", "k3"):
    ...     found = kl(-0.5 * x**2, -0.5 * (x - 0.1) ** 2, name)
    ...     print(f"{name} {found.value:.4f} ± {found.standard_error:.4f}")
    k1 0.0065 ± 0.0016
    k3 0.0050 ± 0.0001
    """
    if estimator not in KL_ESTIMATORS:
        raise ValueError(f"unknown estimator {estimator!r}; choose from {', '.join(KL_ESTIMATORS)}")
    logs = _checked(log_p, log_q, "p", axis)
    return _mean_of_terms(*logs, estimator)


@partial(jax.jit, static_argnums=3)
def _mean_of_terms(log_p, log_q, log_m, estimator: str) -> Average:
    terms = KL_ESTIMATORS[estimator](log_p, log_q)
    log_s = log_q - log_m
    tail = log_s if estimator == "k3" else safe_log(jnp.abs(terms))
    return _average(jnp.mean(terms, axis=-1), terms, (tail,), (jnp.zeros_like(log_s), log_s))


def divergence(
    log_p: ArrayLike,
    log_q: ArrayLike,
    d: str | FDivergence = "kl",
    *,
    samples_of: Source | ArrayLike,
    normalised: bool = True,
    axis: int = -1,
) -> Average:
    """D_f(P‖Q) = f(1) + E_M[(q/m) f̃(p/q)], or Rényi's D_α = log E_M[p^α q^{1−α}/m] / (α − 1), from samples of M.

    Args:
        log_p, log_q: log-densities [..., n] at samples of M, which lie along `axis`; −∞ where there is no mass.
        d: a name of the table, a family with its parameter, "renyi(α)" with α > 0, or an FDivergence.
        samples_of: the law M: "p", "q", "mixture" for ½(P + Q) (as many of each, in any order), or the log-density of
            another one [..., n].
        normalised: False if constants are missing in log-densities: p/m and q/m are then divided by their means, which
            biases the value by an order of 1/n. For "mixture", p and q must miss the same constant.

    It needs normalised densities, and samples that reach all mass of P and Q, as k3 does: all of Q where M is P, all of
    P where M is Q. What they miss is left out, and warned of where it shows (`unbalanced`). Rényi's with |α − 1| >
    `LIKE_KL` needs of these only what makes D_α itself finite.

    Returns:
        an Average. The error allows for estimated constants; for "mixture" it is a little too large, since as many
        samples of P as of Q are steadier than ones drawn at random. Of Rényi's it is that of the logarithm.

    Raises:
        ValueError: NaN, shapes that differ, fewer than two samples, a sample that M cannot have made, or an unknown
            divergence. Outside jit; inside, such a term is NaN.

    Source: Owen 2013, Monte Carlo theory, methods and examples, §9 (importance sampling, its self-normalised form).

    >>> import numpy as np
    >>> from scipy.stats import norm
    >>> p, q = norm(0, 1), norm(1, 1)
    >>> x = q.rvs(size=5000, random_state=0)
    >>> found = divergence(p.logpdf(x), q.logpdf(x), "js", samples_of="q")
    >>> print(f"{found.value:.3f} ± {found.standard_error:.3f}; {found.warnings}")
    0.106 ± 0.003; ()
    """
    asked = functional(d)
    logs = _checked(log_p, log_q, samples_of, axis)
    reached = asked.order is not None and _reaches_all(samples_of, asked.order)
    return _importance_weighted(*logs, asked.divergence, asked.order, normalised, reached)


def _reaches_all(samples_of: Source | ArrayLike, order: float) -> bool:
    """Whether αp/m + (1 − α)q/m may be held to have mean 1: samples of M reach all of P and Q, or as kl they must.

    Samples of the mixture do. Those of Q reach all of P wherever D_α, α > 1, is finite. Those of P, or of Q for α < 1,
    may miss mass without which D_α is finite and their plain mean right.
    """
    by_name = samples_of if isinstance(samples_of, str) else ""
    return by_name == "mixture" or (by_name == "q" and order > 1.0) or abs(order - 1.0) < LIKE_KL


@partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _importance_weighted(
    log_p, log_q, log_m, d: FDivergence, order: float | None, normalised: bool, reached: bool
) -> Average:
    weights = log_p - log_m, log_q - log_m
    if not normalised:
        weights = tuple(w - _log_mean(w) for w in weights)
    log_a, log_b = weights
    if order is None:
        value, influence = _f_divergence(log_a, log_b, d, normalised)
    else:
        value, influence = _renyi(log_a, log_b, d, order, normalised, reached)
    return _average(value, influence, _tails(log_a, log_b, d), weights)


def _tails(log_a, log_b, d: FDivergence) -> tuple[jax.Array, jax.Array]:
    """log of what the terms of d grow like where a/b is large, and where it is small; −∞ where a or b is 0."""
    there = jnp.isfinite(log_a) & jnp.isfinite(log_b)
    ratio = jnp.where(there, log_a, 0.0) - jnp.where(there, log_b, 0.0)
    at_zero, at_infinity = growth(d)
    return log_a + at_infinity * ratio, log_b - at_zero * ratio


def _f_divergence(log_a, log_b, d: FDivergence, normalised: bool) -> tuple[jax.Array, jax.Array]:
    """(D_f, the influence of each sample on it), a = p/m, b = q/m."""
    term = integrand(d)
    terms = term(log_a, log_b)
    influence = terms
    if not normalised:  # dividing by the mean of a takes E[a ∂g/∂a] (a − 1) off the influence, and so for b
        slopes = jax.grad(lambda a, b: jnp.sum(term(a, b)), argnums=(0, 1))(log_a, log_b)
        for slope, log_w in zip(slopes, (log_a, log_b), strict=True):
            influence = influence - jnp.mean(slope, axis=-1, keepdims=True) * (jnp.exp(log_w) - 1.0)
    return d.value_at_one + jnp.mean(terms, axis=-1), influence


def _renyi(log_a, log_b, d: FDivergence, order: float, normalised: bool, reached: bool) -> tuple[jax.Array, jax.Array]:
    """As `_f_divergence`, of log E[a^α b^{1−α}] / (α − 1).

    The mean is 1 + α(α − 1) times that of the α-divergence, whose terms lack αa + (1 − α)b, of mean 1: the error then
    tends to that of kl as α → 1, where that of the plain mean grows as 1/(α − 1). The plain mean stands where it is far
    from 1, its logarithm reaching further, and where a or b misses mass, or might (not `reached`).
    """
    divergence, of_divergence = _f_divergence(log_a, log_b, d, normalised)
    excess = order * (order - 1.0) * divergence
    close = reached & (jnp.abs(excess) < 0.5) & ~_unbalanced((log_a, log_b))
    excess = jnp.where(close, excess, 0.0)
    log_terms = order * log_a + (1.0 - order) * log_b
    log_mean = _log_mean(log_terms)
    influence = jnp.exp(log_terms - log_mean)
    if not normalised:
        influence = influence - order * jnp.exp(log_a) - (1.0 - order) * jnp.exp(log_b)
    value = jnp.where(close, jnp.log1p(excess), log_mean[..., 0]) / (order - 1.0)
    near = order * of_divergence / (1.0 + excess[..., None])
    return value, jnp.where(close[..., None], near, influence / (order - 1.0))


def _average(value, influence, tails, weights) -> Average:
    """The average whose error is that of the mean influence; only the value has a gradient.

    An infinite value has error 0: a sample proves it, unless a term overflowed.
    """
    influence, tails, weights = jax.lax.stop_gradient((influence, tails, weights))
    n, finite = influence.shape[-1], jnp.isfinite(value)
    spread = jnp.std(jnp.where(finite[..., None], influence, 0.0), axis=-1, ddof=1)
    shapes = [tail_shape(jnp.where(finite[..., None], logs, 0.0)) for logs in tails]
    sizes = [jnp.exp(2.0 * _log_mean(w) - _log_mean(2.0 * w))[..., 0] * n for w in weights]
    k = jnp.where(finite, jnp.max(jnp.stack(shapes), axis=0), jnp.inf)
    return Average(value, spread / n**0.5, jnp.minimum(*sizes), k, n, _unbalanced(weights))


def _unbalanced(log_weights: tuple[jax.Array, ...]) -> jax.Array:
    """Whether the mean of any weights is far from 1, [...]."""
    far = []
    for logs in log_weights:
        w = jnp.exp(logs)
        error = jnp.std(w, axis=-1, ddof=1) / logs.shape[-1] ** 0.5
        rounding = 100.0 * jnp.finfo(w.dtype).eps
        far.append(jnp.abs(jnp.mean(w, axis=-1) - 1.0) > MASS_ERRORS * error + rounding)
    return far[0] | far[1]


def _log_mean(logs: jax.Array) -> jax.Array:
    """log of the mean of e^{logs} along the last axis, which stays."""
    return jax.scipy.special.logsumexp(logs, axis=-1, keepdims=True) - jnp.log(jnp.asarray(logs.shape[-1], logs.dtype))


def _as_floats(log_p: ArrayLike, log_q: ArrayLike) -> tuple[jax.Array, jax.Array]:
    p, q = (as_float(jnp.asarray(x)) for x in (log_p, log_q))
    if p.shape != q.shape:
        raise ValueError(f"log_p has shape {p.shape}, log_q {q.shape}: pass both at the same samples")
    return p, q


def _checked(log_p: ArrayLike, log_q: ArrayLike, samples_of: Source | ArrayLike, axis: int) -> tuple[jax.Array, ...]:
    """(log p, log q, log m) [..., n]."""
    log_p, log_q = _as_floats(log_p, log_q)
    if not -log_p.ndim <= axis < log_p.ndim or log_p.shape[axis] < 2:
        raise ValueError(f"log_p has shape {log_p.shape}: axis {axis} must hold two samples or more")
    if isinstance(samples_of, str):
        laws = {"p": log_p, "q": log_q, "mixture": jnp.logaddexp(log_p, log_q) - float(np.log(2.0))}
        if samples_of not in laws:
            raise ValueError(
                f"samples_of = {samples_of!r}: choose p, q, mixture, or pass the log-density they came from"
            )
        log_m = laws[samples_of]
    else:
        log_m = as_float(jnp.asarray(samples_of))
        if log_m.shape != log_p.shape:
            raise ValueError(f"samples_of has shape {log_m.shape}, log_p {log_p.shape}: pass both at the same samples")
    named = {"log_p": log_p, "log_q": log_q, "samples_of": log_m}
    if not is_traced(*named.values()):
        for name, logs in named.items():
            if bool(jnp.any(jnp.isnan(logs) | (logs == jnp.inf))):
                raise ValueError(f"{name} holds NaN or inf: leave those samples out, or mend the density")
        if bool(jnp.any(log_m == -jnp.inf)):
            raise ValueError(
                "samples_of: a sample lies where that law has density 0; name the law they were drawn from"
            )
    return tuple(jnp.moveaxis(logs, axis, -1) for logs in named.values())

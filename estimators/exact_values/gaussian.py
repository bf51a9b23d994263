"""Closed forms between two Gaussians, P = N(mean_p, cov_p) and Q = N(mean_q, cov_q), always in the order (P, Q).

A mean is [d]; a covariance is [d] (diagonal: the variances) or [d, d] (full, symmetric, positive definite), and the
two kinds mix; other shapes raise ValueError. Results are scalars in nats, in the precision of the input,
differentiable, and made for `jit` and `vmap`: batch by vmap, not by leading axes. Every formula starts from P in the
coordinates where Q is N(0, I),

    z = Lq⁻¹(μp − μq),    R = Lq⁻¹Lp − I    (Σ = LLᵀ by Cholesky, so R is lower triangular),

and is written in z and R, both small between close Gaussians, so that nothing of order 1 cancels: where covariances are
well conditioned, float32 resolves divergences below its epsilon. Nothing is inverted. A covariance that is not positive
definite gives NaN (shapes are checked, values cannot be under jit). With full covariances the integrals ∫ p^α q^{1−α}
hold in float32 while variances along a direction differ by less than 1e6 (to half a percent there, NaN far above).
Where such an integral diverges (α outside [0, 1]: αΣq + (1 − α)Σp is not positive definite) it is +inf and its gradient
0, so other entries of a batch keep theirs. An order α outside its range raises ValueError, but for a traced one.

`closed_form` finds that of an FDivergence, where `estimators.exact_values.moments` has one.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from estimators.divergences.generator import FDivergence
from estimators.exact_values import moments
from estimators.exact_values.moments import Moments

Order = float | jax.Array
Convention = Literal["nielsen", "deasy"]


def kl(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """KL(P‖Q) = ½[tr Σq⁻¹Σp − d − log |Σp|/|Σq| + (μp − μq)ᵀ Σq⁻¹ (μp − μq)].

    Summed as ½‖z‖² + ½‖R‖² + Σ (rᵢ − log(1 + rᵢ)) with r = diag R: no term is negative.
    """
    return _kl(*_relative(mean_p, cov_p, mean_q, cov_q))


def reverse_kl(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """KL(Q‖P)."""
    return kl(mean_q, cov_q, mean_p, cov_p)


def log_moment(mean_p, cov_p, mean_q, cov_q, alpha: Order) -> jax.Array:
    """log ∫ p^α q^{1−α} for any real α, which may be traced; +inf where it diverges.

    It is ½(α − 1)[α Δᵀ Σ_α⁻¹ Δ + log(|Σ_α| / |Σp|^{1−α}|Σq|^α) / (1 − α)], Δ = μp − μq, Σ_α = αΣq + (1 − α)Σp.
    Source: Gil, Alajaji, Linder 2013.
    """
    return _log_moment(*_relative(mean_p, cov_p, mean_q, cov_q), alpha)


def moments_between(mean_p, cov_p, mean_q, cov_q) -> Moments:
    """KL in both directions and log ∫ p^α q^{1−α}, from which `estimators.exact_values.moments` makes divergences."""
    pair = mean_p, cov_p, mean_q, cov_q
    swapped = mean_q, cov_q, mean_p, cov_p

    def log(order: Order) -> jax.Array:
        if not isinstance(order, jax.core.Tracer) and order < 0.0:  # seen from P, whose weight is the larger
            return log_moment(*swapped, 1.0 - order)
        return log_moment(*pair, order)

    return Moments(lambda: kl(*pair), lambda: kl(*swapped), log)


def jeffreys(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """J(P, Q) = KL(P‖Q) + KL(Q‖P), without a factor ½."""
    return moments.jeffreys(moments_between(mean_p, cov_p, mean_q, cov_q))


def renyi(mean_p, cov_p, mean_q, cov_q, alpha: Order) -> jax.Array:
    """D_α(P‖Q) = log ∫ p^α q^{1−α} / (α − 1); α > 0 is not 1, and may be as close to it as float64 gets.

    Source: Gil, Alajaji, Linder 2013; van Erven, Harremoës 2014.
    """
    order = _order(alpha, lambda a: 0.0 < a < math.inf and a != 1.0, "the order is positive and not 1; use kl for 1")
    return moments.renyi(moments_between(mean_p, cov_p, mean_q, cov_q), order)


def alpha(mean_p, cov_p, mean_q, cov_q, alpha: Order) -> jax.Array:
    """(∫ p^α q^{1−α} − 1) / (α(α − 1)), α ∉ {0, 1}: of f(u) = (u^α − 1 − α(u − 1)) / (α(α − 1))."""
    order = _order(alpha, lambda a: math.isfinite(a) and a not in (0.0, 1.0), "use kl for 1 and reverse_kl for 0")
    return moments.alpha(moments_between(mean_p, cov_p, mean_q, cov_q), order)


def bhattacharyya(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """The coefficient BC = ∫ √(pq) = exp(−½ D_½), between 0 and 1 (at P = Q)."""
    return moments.bhattacharyya(moments_between(mean_p, cov_p, mean_q, cov_q))


def geometric_js(
    mean_p, cov_p, mean_q, cov_q, alpha: Order = 0.5, *, convention: Convention = "nielsen", dual: bool = False
) -> jax.Array:
    """(1 − α) KL(P‖G) + α KL(Q‖G) with G the normalised geometric mean, 0 ≤ α ≤ 1; `dual` swaps to KL(G‖·).

    The conventions differ in the mean. With F(s) = log ∫ p^{1−s} q^s,

        nielsen   G ∝ p^{1−α} q^α,   0 at both ends; α(1−α) J + F(α); dual −F(α)
        deasy     G ∝ p^α q^{1−α},   from KL(P‖Q) at α = 0 to KL(Q‖P) at α = 1; dual from KL(Q‖P) to KL(P‖Q)

    and both are ¼ J + log BC at α = ½ (dual: −log BC).

    Source: Nielsen 2019, On the Jensen–Shannon symmetrization of distances relying on abstract means; Deasy,
    Simidjievski, Liò 2020, whose published code weights and inverts as "deasy" does.
    """
    weight, share = geometric_weights(alpha, convention)
    forward = _relative(mean_p, cov_p, mean_q, cov_q)
    if dual:  # (1 − w) KL(G‖P) + w KL(G‖Q): along G_s, KL(G‖P) = sF' − F and KL(G‖Q) = (s − 1)F' − F
        s = jnp.asarray(share, dtype=forward[0].dtype)
        value, slope = jax.jvp(lambda s: _log_moment(*forward, 1.0 - s), (s,), (jnp.ones_like(s),))
        return (share - weight) * slope - value
    backward = _relative(mean_q, cov_q, mean_p, cov_p)
    divergences = (1.0 - weight) * share * _kl(*forward) + weight * (1.0 - share) * _kl(*backward)
    return divergences + _log_moment(*forward, 1.0 - share)


def geometric_weights(alpha: Order, convention: Convention) -> tuple[Order, Order]:
    """(w, s) of (1 − w) KL(P‖G) + w KL(Q‖G), G ∝ p^{1−s} q^s, in a convention of `geometric_js`.

    Raises:
        ValueError: alpha outside [0, 1], or an unknown convention.
    """
    weight = _order(alpha, lambda a: 0.0 <= a <= 1.0, "a weight lies in [0, 1]")
    if convention not in ("nielsen", "deasy"):
        raise ValueError(f"unknown convention {convention!r}; choose nielsen or deasy")
    return weight, weight if convention == "nielsen" else 1.0 - weight


def closed_form(d: FDivergence) -> Callable[..., jax.Array] | None:
    """D_f of two Gaussians as a function of (mean_p, cov_p, mean_q, cov_q); None where no closed form is known."""
    formula = moments.of_moments(d)
    return None if formula is None else lambda *pair: formula(moments_between(*pair))


def total_variation_equal_covariance(mean_p, mean_q, cov) -> jax.Array:
    """½ ∫ |p − q| = 2Φ(δ/2) − 1, δ = ‖L⁻¹(μp − μq)‖; at equal means, where it has a kink, its gradient is set to 0."""
    return jax.scipy.special.erf(_separation(mean_p, mean_q, cov) / math.sqrt(8.0))


def js_equal_covariance(mean_p, mean_q, cov) -> jax.Array:
    """Jensen–Shannon divergence in [0, log 2], E[y tanh y − log cosh y] at y = ½δ(½δ + ε), ε ~ N(0, 1).

    2y is the log-ratio at a point of P; the integrand is log 2 minus the entropy of the label given that point, with P
    and Q folded into one by symmetry. First derivatives only (δ is a norm).

    Source: the trapezoidal rule converges geometrically here (Trefethen, Weideman 2014): below 1e-13 for every δ, since
    the singularities nearest the axis, at distance π/δ, carry the density e^{−δ²/8}.
    """
    delta = jnp.minimum(_separation(mean_p, mean_q, cov), 50.0)  # beyond, log 2 to the last digit
    noise = jnp.linspace(-9.0, 9.0, 181, dtype=delta.dtype)
    weights = jnp.exp(-0.5 * noise**2)
    half = 0.5 * delta * jnp.abs(0.5 * delta + noise)
    information = half * (jnp.tanh(half) - 1.0) - jnp.log1p(0.5 * jnp.expm1(-2.0 * half))  # no large terms cancel
    return jnp.sum(weights * information) / jnp.sum(weights)


def wasserstein2(mean_p, cov_p, mean_q, cov_q) -> jax.Array:
    """W₂², the *squared* 2-Wasserstein distance ‖μp − μq‖² + tr(Σp + Σq − 2(Σq^½ Σp Σq^½)^½), in squared data units.

    The Bures term is min ‖Lp O − Lq‖² over rotations O, so it is never negative. At the minimum the derivative through
    O vanishes, hence O is held constant: first derivatives are exact, second ones of the full case are not.
    Source: Dowson, Landau 1982; Bhatia, Jain, Lim 2019.
    """
    mean_p, factor_p, mean_q, factor_q = _factored(mean_p, cov_p, mean_q, cov_q)
    if factor_p.ndim == 2:
        left, _, right = jnp.linalg.svd(jax.lax.stop_gradient(_matmul(factor_q.T, factor_p)))
        factor_p = _matmul(factor_p, _matmul(left, right).T)
    return jnp.sum((mean_p - mean_q) ** 2) + jnp.sum((factor_p - factor_q) ** 2)


def _relative(mean_p, cov_p, mean_q, cov_q) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(z [d], R, log(1 + r) [d]), R lower triangular [d, d], its diagonal r [d] if both covariances are diagonal.

    Where P is much the narrower, 1 + r has no digits left, and its logarithm is that of the two factors.
    """
    mean_p, factor_p, mean_q, factor_q = _factored(mean_p, cov_p, mean_q, cov_q)
    z, r = _solve(factor_q, mean_p - mean_q, factor_p - factor_q)
    on, diagonal_p, diagonal_q = (_diagonal(triangle) for triangle in (r, factor_p, factor_q))
    close = on > -0.5
    logs = jnp.where(close, jnp.log1p(jnp.where(close, on, 0.0)), jnp.log(diagonal_p) - jnp.log(diagonal_q))
    return z, r, logs


def _factored(mean_p, cov_p, mean_q, cov_q) -> tuple[jax.Array, ...]:
    """(μp, Lp, μq, Lq) in one float type; both factors [d], or both [d, d].

    Both are factored in one call. On a CPU, two calls of one program over many matrices each fill jaxlib 0.10's pool
    of threads and wait for one another for ever: one for each thread is enough.
    """
    arrays = [jnp.asarray(a) for a in (mean_p, cov_p, mean_q, cov_q)]
    dtype = jnp.result_type(*arrays, jnp.float32)
    mean_p, cov_p, mean_q, cov_q = (a.astype(dtype) for a in arrays)
    d = mean_p.shape
    if mean_p.ndim != 1 or mean_q.shape != d:
        raise ValueError(f"means of shape {d} and {mean_q.shape}: both must be [d]; use jax.vmap for batches")
    for owner, cov in (("P", cov_p), ("Q", cov_q)):
        if cov.shape not in (d, d + d):
            raise ValueError(f"covariance of {owner} has shape {cov.shape}: with means {d} it is {d} or {d + d}")

    if cov_p.ndim == cov_q.ndim == 2:
        factor_p, factor_q = jnp.linalg.cholesky(jnp.stack([cov_p, cov_q]))
    elif cov_p.ndim == cov_q.ndim:
        factor_p, factor_q = jnp.sqrt(cov_p), jnp.sqrt(cov_q)
    else:
        factor_p, factor_q = (jnp.linalg.cholesky(c) if c.ndim == 2 else jnp.diag(jnp.sqrt(c)) for c in (cov_p, cov_q))
    return mean_p, factor_p, mean_q, factor_q


def _kl(z: jax.Array, r: jax.Array, logs: jax.Array) -> jax.Array:
    return 0.5 * (jnp.sum(z**2) + jnp.sum(r**2)) + jnp.sum(_diagonal(r) - logs)


def _log_moment(z: jax.Array, r: jax.Array, logs: jax.Array, alpha: Order) -> jax.Array:
    """log ∫ p^α q^{1−α} for any real α; +inf with gradient 0 where it diverges, exact to first order in 1 − α.

    It needs log |M| and zᵀM⁻¹z for M = I + (1 − α)(AAᵀ − I), A = I + R; it diverges where M has an eigenvalue ≤ 0.
    """
    outside = (alpha < 0.0) | (alpha > 1.0)  # inside, M is positive definite whatever rounding says
    log_det, square, diverges = (_blend_diagonal if r.ndim == 1 else _blend_full)(z, r, alpha, outside)
    finite = (1.0 - alpha) * (jnp.sum(logs) - 0.5 * alpha * square) - 0.5 * log_det
    return jnp.where(diverges, jnp.inf, finite)


def _blend_diagonal(z, r, alpha, outside) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(log |M|, zᵀM⁻¹z, whether M has an eigenvalue ≤ 0: then M = I)."""
    excess = (1.0 - alpha) * r * (2.0 + r)
    diverges = outside & jnp.any(excess <= -1.0)
    excess = jnp.where(diverges, 0.0, excess)
    return jnp.sum(jnp.log1p(excess)), jnp.sum(z**2 / (1.0 + excess)), diverges


def _blend_full(z, r, alpha, outside) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_blend_diagonal`, through the Cholesky factor of M."""
    eye = jnp.eye(z.size, dtype=z.dtype)
    excess = (1.0 - alpha) * (r + r.T + _matmul(r, r.T))
    trial = jnp.linalg.cholesky(jax.lax.stop_gradient(eye + excess))
    diverges = outside & jnp.all(jnp.isfinite(excess)) & ~jnp.all(jnp.isfinite(trial))
    excess = jnp.where(diverges, 0.0, excess)
    factor = jnp.linalg.cholesky(eye + excess)
    # a pivot is 1 + c; close to 1 its logarithm needs c itself, not the rounded pivot
    c = jnp.diagonal(excess) - jnp.sum(jnp.tril(factor, -1) ** 2, axis=1)
    close = jnp.abs(c) < 0.5
    logs = jnp.where(close, jnp.log1p(jnp.where(close, c, 0.0)), 2.0 * jnp.log(jnp.diagonal(factor)))
    return jnp.sum(logs), jnp.sum(solve_triangular(factor, z, lower=True) ** 2), diverges


def _separation(mean_p, mean_q, cov) -> jax.Array:
    """δ = ‖L⁻¹(μp − μq)‖, with gradient 0 instead of NaN at δ = 0."""
    square = jnp.sum(_relative(mean_p, cov, mean_q, cov)[0] ** 2)
    return jnp.where(square == 0.0, 0.0, jnp.sqrt(jnp.where(square == 0.0, 1.0, square)))


def _order(alpha: Order, accepts: Callable[[float], bool], remedy: str) -> Order:
    if isinstance(alpha, jax.core.Tracer):
        return alpha
    if not accepts(float(alpha)):
        raise ValueError(f"alpha = {alpha}: {remedy}")
    return float(alpha)


def _diagonal(triangle: jax.Array) -> jax.Array:
    return triangle if triangle.ndim == 1 else jnp.diagonal(triangle)


def _solve(factor: jax.Array, vector: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L⁻¹v and L⁻¹R of v [d] and R, [d] where L is, else [d, d]; one call, and one in the derivative."""
    if factor.ndim == 1:
        return vector / factor, right / factor
    both = jax.lax.custom_linear_solve(
        lambda x: _matmul(jnp.tril(factor), x),
        jnp.column_stack([vector, right]),
        solve=lambda _, b: solve_triangular(factor, b, lower=True),
        transpose_solve=lambda _, b: solve_triangular(factor, b, lower=True, trans="T"),
    )
    return both[:, 0], both[:, 1:]


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")  # accelerators round the inputs otherwise

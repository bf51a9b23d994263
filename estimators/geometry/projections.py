"""Projections of a distribution onto a family, under any f-divergence: the closest member, in either of two senses.

    M-projection of P    argmin_θ D(P‖Q_θ)    the family is the second argument, the model of the data P
    I-projection of P    argmin_θ D(Q_θ‖P)    the family is the first argument

Under KL the first matches moments (hence M): on an exponential family the expected statistics of Q_θ equal those of P,
and Q_θ covers P's modes; it is maximum likelihood. The second is Csiszár's I-projection (1975): it concentrates on
modes, and onto a *linear* family {R: E_R t = m} it is the exponential tilt of P, found here by Newton's method. Texts
differ in the names: some call both information projections, and the first the *reverse* I-projection, and some swap M
and I. What counts is which argument varies, so every function here states its divergence in that order.

Csiszár's Pythagorean identity joins the two: with P* the tilt of P that has moments m, and R any distribution with
these moments, KL(R‖P) = KL(R‖P*) + KL(P*‖P).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from estimators.distributions.exponential_family import ExponentialFamily
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.fits import BestFit, best_fit
from estimators.exact_values.quadrature import LogDensity, Support
from estimators.geometry.categorical import probabilities

STEPS = 100
"""Newton steps at most. From a sound start it takes less than ten; towards moments that no tilt has, θ runs away."""
CLOSE = 1e-10
"""Distance of moments, in deviations of their statistics, at which they count as matched, whatever their unit."""


def m_projection(
    log_p: LogDensity,
    family: Callable[[jax.Array, jax.Array], jax.Array],
    start: Sequence[float] | Sequence[Sequence[float]],
    d: str | FDivergence = "kl",
    *,
    support: Support,
    tol: float = 1e-11,
) -> BestFit:
    """argmin_θ D_f(P‖Q_θ) of a density on the line or plane, by quadrature; arguments as in `fits.best_fit`.

    >>> from estimators.distributions.examples import TWO_MODES
    >>> from estimators.exact_values.fits import log_gaussian
    >>> found = m_projection(TWO_MODES.log_prob, log_gaussian, (0.5, 0.5), support=(-14.0, 14.0))
    >>> mean, deviation = TWO_MODES.moments()
    >>> bool(abs(found.parameters[0] - mean) < 1e-5), bool(abs(np.exp(found.parameters[1]) - deviation) < 1e-5)
    (True, True)
    """
    return best_fit(log_p, family, start, d, support=support, tol=tol)


def i_projection(
    log_p: LogDensity,
    family: Callable[[jax.Array, jax.Array], jax.Array],
    start: Sequence[float] | Sequence[Sequence[float]],
    d: str | FDivergence = "kl",
    *,
    support: Support,
    tol: float = 1e-11,
) -> BestFit:
    """argmin_θ D_f(Q_θ‖P) of a density on the line or plane, by quadrature; arguments as in `fits.best_fit`.

    Give several starts: the divergence has a local minimum at each mode of P.

    >>> from estimators.distributions.examples import TWO_MODES
    >>> from estimators.exact_values.fits import log_gaussian
    >>> found = i_projection(TWO_MODES.log_prob, log_gaussian, (1.5, -0.5), support=(-14.0, 14.0))
    >>> bool(abs(found.parameters[0] - 2.0) < 0.1)      # one of the two modes
    True
    """
    return best_fit(log_p, family, start, d, support=support, swap=True, tol=tol)


def m_projection_categorical(
    p: ArrayLike, family: Callable[[jax.Array], jax.Array], start: ArrayLike, d: str | FDivergence = "kl"
) -> BestFit:
    """argmin_θ D_f(p‖q_θ) of probabilities p [k], by BFGS in float64 from `start` [m].

    Args:
        family: θ [m] → log q_θ [k], normalised, written with jax.numpy.

    Raises:
        ValueError: bad probabilities, or an infinite divergence at the start.
        RuntimeError: the search did not converge.

    >>> found = m_projection_categorical([0.1, 0.2, 0.7], lambda t: jax.nn.log_softmax(t[0] * jnp.arange(3.0)), [0.0])
    >>> expected = np.exp(found.parameters[0] * np.arange(3))
    >>> expected = expected / expected.sum()
    >>> round(float(expected @ np.arange(3)), 6)      # the mean of p
    1.6
    """
    return _project_categorical(p, family, start, d, swap=False)


def i_projection_categorical(
    p: ArrayLike, family: Callable[[jax.Array], jax.Array], start: ArrayLike, d: str | FDivergence = "kl"
) -> BestFit:
    """argmin_θ D_f(q_θ‖p) of probabilities p [k]; arguments and errors as in `m_projection_categorical`.

    >>> found = i_projection_categorical([0.1, 0.2, 0.7], lambda t: jax.nn.log_softmax(t[0] * jnp.arange(3.0)), [0.0])
    >>> round(found.value, 4)
    0.0051
    """
    return _project_categorical(p, family, start, d, swap=True)


def _project_categorical(p, family, start, d: str | FDivergence, *, swap: bool) -> BestFit:
    d = divergence(d)
    log_integrand = log_perspective(d)
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        target = jnp.asarray(np.log(probabilities("p", p)))

        @jax.jit
        @jax.value_and_grad
        def value(theta):
            pair = (target, family(theta))
            return jnp.sum(jnp.exp(log_integrand(*(pair[::-1] if swap else pair))))

        def evaluate(theta):
            loss, slope = value(jnp.asarray(theta))
            return float(loss), np.asarray(slope)

        begin = np.atleast_1d(np.asarray(start, np.float64))
        if not np.isfinite(evaluate(begin)[0]):
            raise ValueError(f"{d.name} is infinite at the start {begin}: start where both supports agree, or use js")
        end = minimize(evaluate, begin, method="BFGS", jac=True, options={"gtol": 1e-9, "maxiter": 1000})
    if not end.success and np.max(np.abs(end.jac)) > 1e-6:  # at rounding's level the line search gives up
        raise RuntimeError(f"the projection under {d.name} from {begin} did not converge: {end.message}")
    return BestFit(end.x, d.value_at_one + float(end.fun))


# --- moments ---------------------------------------------------------------------------------------------------------
def match_moments(moments: Any, log_partition: Callable[[Any], jax.Array], start: Any) -> Any:
    """θ with ∇F(θ) = m: the M-projection, under KL, of any distribution with E t(x) = m onto an exponential family.

    By Newton's method on the convex F(θ) − ⟨θ, m⟩, in float64. `with_moments` does it for named distributions.

    Args:
        moments: m = E_P t(x), of the structure of θ.
        log_partition: θ → F(θ), with jax.numpy; NaN or inf outside its domain.
        start: θ inside the domain: an array, or a pytree of arrays.

    Raises:
        ValueError: no member of the family has these moments.

    >>> theta = match_moments(3.0, jnp.exp, 0.0)      # Poisson: F = e^θ, mean 3
    >>> round(float(theta), 9) == round(float(np.log(3.0)), 9)
    True
    """
    with jax.enable_x64(True):
        begin, restore = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), start))
        target = ravel_pytree(jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), moments))[0]
        if begin.shape != target.shape:
            raise ValueError(f"moments hold {target.size} numbers and θ {begin.size}: give one moment a parameter")
        objective = jax.jit(lambda theta: log_partition(restore(theta)) - theta @ target)
        return jax.tree.map(np.asarray, restore(jnp.asarray(_newton(objective, np.asarray(begin), np.asarray(target)))))


def with_moments(member: ExponentialFamily, moments: Any) -> Any:
    """The member of an exponential family that has E T(X) = m: the M-projection under KL of whatever has these moments.

    Args:
        member: one of the family, from which the search starts.
        moments: m, a tuple with the parts of T, as `member.mean_parameters()` returns it.

    Raises:
        ValueError: no member has these moments.

    >>> from estimators import distributions as dist
    >>> round(float(with_moments(dist.Poisson(1.0), (3.0,)).rate), 6)
    3.0
    """

    def log_partition(theta):
        return jnp.where(member.in_domain(theta), member.log_partition(theta), jnp.inf)

    with jax.enable_x64(True):
        theta = match_moments(tuple(moments), log_partition, member.natural_parameters())
        return member.from_natural(jax.tree.map(jnp.asarray, theta))


def _newton(objective: Callable[[jax.Array], jax.Array], theta: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """argmin of a convex objective whose gradient is a distance of moments; steps are halved until it falls enough."""
    parts = jax.jit(lambda t: (objective(t), jax.grad(objective)(t), jax.hessian(objective)(t)))
    for _ in range(STEPS):
        value, slope, curvature = (np.asarray(part) for part in parts(jnp.asarray(theta)))
        scale = np.sqrt(np.maximum(np.diagonal(curvature), np.finfo(float).tiny))  # deviations of the statistics
        if np.all(np.abs(slope) <= CLOSE * scale):
            return theta
        scaled = curvature / (scale[:, None] * scale)
        step = -np.linalg.lstsq(scaled, slope / scale, rcond=1e-12)[0] / scale  # statistics may depend on one another
        size = 1.0
        rounding = 1e-15 * (1.0 + abs(float(value)))  # of the objective, below which no fall is seen
        while (
            not float(objective(jnp.asarray(theta + size * step)))
            <= value + 1e-4 * size * float(slope @ step) + rounding
        ):
            size *= 0.5
            if size < 1e-10:
                break
        theta = theta + size * step
    raise ValueError(
        f"no θ has moments {moments}: after {STEPS} steps they differ by {np.max(np.abs(slope)):.3g} at θ = {theta}; "
        "moments must lie inside the convex hull of the statistics"
    )


class Tilt(NamedTuple):
    """P* ∝ p e^{⟨θ, t⟩}: θ [m], and log P* [k] at the points of P."""

    theta: np.ndarray
    log_prob: np.ndarray


def tilt(log_p: ArrayLike, statistics: ArrayLike, moments: ArrayLike, weights: ArrayLike | None = None) -> Tilt:
    """argmin_R {KL(R‖P): E_R t = m}: the I-projection onto a linear family, the tilt of P with moments m; float64.

    Args:
        log_p: [k], log-probabilities, or log density on a grid.
        statistics: t at the k points, [k, m].
        moments: m wanted, [m].
        weights: of the quadrature on the k points, [k]; 1 if None.

    Raises:
        ValueError: shapes that do not fit, or moments that no distribution on P's support has.

    Source: Csiszár 1975, theorem 3.1.

    >>> found = tilt(np.log([1 / 6] * 6), np.arange(1.0, 7.0)[:, None], [4.5])      # Jaynes's dice
    >>> np.exp(found.log_prob).round(4).tolist()
    [0.0544, 0.0788, 0.1142, 0.1654, 0.2398, 0.3475]
    """
    base, t, m = (np.asarray(array, np.float64) for array in (log_p, statistics, moments))
    if base.ndim != 1 or t.shape != (base.size, m.size) or m.ndim != 1:
        raise ValueError(f"log_p {base.shape}, statistics {t.shape}, moments {m.shape}: they must be [k], [k, m], [m]")
    logs = base if weights is None else base + np.log(np.asarray(weights, np.float64))
    centred = t - m
    with jax.enable_x64(True):
        log_partition = lambda theta: logsumexp(jnp.asarray(logs) + jnp.asarray(centred) @ theta)  # noqa: E731
        theta = np.asarray(match_moments(np.zeros_like(m), log_partition, np.zeros_like(m)))
        total = float(log_partition(jnp.asarray(theta)))
    return Tilt(theta, base + centred @ theta - total)

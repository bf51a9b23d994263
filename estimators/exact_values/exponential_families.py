"""What follows from the log-partition F of an exponential family alone, for two members P = p_θ and Q = p_η of one.

    KL(P‖Q) = B(θ → η),    B(θ → η) = F(η) − F(θ) − ⟨η − θ, ∇F(θ)⟩ ≥ 0     (Bregman)
    log ∫ p^α q^{1−α} = F(αθ + (1 − α)η) − αF(θ) − (1 − α)F(η)

and from these Rényi, α, Hellinger, Bhattacharyya, χ² and Jeffreys (`estimators.exact_values.moments`).
Between close members both differences cancel in float32; so B is then integrated along the way, B = ∫₀¹ (1 − t) d²/dt²
F(θ + t(η − θ)) dt, whose terms are positive, and the second is written with B alone. All functions take batches, and
are made for jit, grad and vmap; where an integral diverges, since αθ + (1 − α)η is no parameter, it is +∞ with
gradient 0.

Source: Nielsen, Garcia 2009, Statistical exponential families: a digest; Nielsen, Nock 2011, for Rényi.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from estimators.distributions.exponential_family import ExponentialFamily, Natural

RULES = [tuple(0.5 * part for part in np.polynomial.legendre.leggauss(n)) for n in (12, 6)]
ROUNDING = 4.0
"""Rounding errors of a difference, in units of its largest term's last digit: what a Bregman divergence by subtraction
is wrong by. It is taken where that is less than what the rule along the way is wrong by, judged by six nodes of it."""


def kl(p: ExponentialFamily, q: ExponentialFamily) -> jax.Array:
    """KL(P‖Q) = F(η) − F(θ) − ⟨η − θ, ∇F(θ)⟩, [*batch], nats.

    >>> from estimators import distributions as dist
    >>> float(kl(dist.Poisson(2.0), dist.Poisson(3.0))).__round__(4)  # 2 log ⅔ + 1
    0.1891
    """
    theta, eta = _both(p, q)
    endless = _vanishes_alone(eta, theta, p)
    theta, eta = _finite(theta), _finite(eta)
    value = bregman(p, theta, jax.tree.map(jnp.subtract, eta, theta))
    return _valid(p, q, jnp.where(endless, jnp.inf, value))


def log_moment(p: ExponentialFamily, q: ExponentialFamily, alpha: float | jax.Array) -> jax.Array:
    """log ∫ p^α q^{1−α}, [*batch], for a real number α; +∞ where it diverges.

    With s = 1 − α and B₁ = B(θ → η) it is B(θ → θ + s(η − θ)) − s B₁, and the same from η with s = α: of the two the
    one that starts from the nearer end.

    >>> from estimators import distributions as dist
    >>> float(log_moment(dist.Exponential(1.0), dist.Exponential(2.0), 2.0)).__round__(6)  # ∫ p²/q = ∞
    inf
    """
    theta, eta = _both(p, q)
    alpha = jnp.asarray(alpha)
    endless = (_vanishes_alone(eta, theta, p) & (alpha > 1.0)) | (_vanishes_alone(theta, eta, p) & (alpha < 0.0))
    theta, eta = _finite(theta), _finite(eta)
    from_p = alpha >= 0.5

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(from_p, a, b)

    start, end = jax.tree.map(pick, theta, eta), jax.tree.map(pick, eta, theta)
    share = jnp.where(from_p, 1.0 - alpha, alpha)
    whole = jax.tree.map(jnp.subtract, end, start)
    part = jax.tree.map(lambda v: share * v, whole)
    inside = p.in_domain(jax.tree.map(jnp.add, start, part))
    safe = jax.tree.map(lambda v, n: jnp.where(_wide(inside, n), v, 0.0), part, p.natural_ndims)
    value = bregman(p, start, safe) - share * bregman(p, start, whole)
    return _valid(p, q, jnp.where(inside & ~endless, value, jnp.inf))


def bregman(family: ExponentialFamily, theta: Natural, step: Natural) -> jax.Array:
    """B(θ → θ + step) = F(θ + step) − F(θ) − ⟨step, ∇F(θ)⟩ ≥ 0, [*batch], to full relative precision."""

    def along(t):
        return family.log_partition(jax.tree.map(lambda a, b: a + t * b, theta, step))

    start, slope = jax.jvp(along, (0.0,), (1.0,))
    end = along(1.0)
    direct = end - start - slope
    largest = jnp.maximum(jnp.maximum(jnp.abs(start), jnp.abs(end)), jnp.abs(slope))
    curvature = jax.vmap(lambda t: jax.jvp(lambda s: jax.jvp(along, (s,), (1.0,))[1], (t,), (1.0,))[1])

    def along_the_way(nodes: np.ndarray, weights: np.ndarray) -> jax.Array:
        t = 0.5 + nodes
        shares = jnp.asarray(weights * (1.0 - t), start.dtype).reshape((-1,) + (1,) * start.ndim)
        return jnp.sum(shares * curvature(jnp.asarray(t, start.dtype)), axis=0)

    fine, rough = (along_the_way(*rule) for rule in RULES)
    rounding = ROUNDING * jnp.finfo(start.dtype).eps * largest
    return jnp.where(jnp.abs(fine - rough) < rounding, fine, direct)


def e_geodesic(p: ExponentialFamily, q: ExponentialFamily, t: float | jax.Array) -> Any:
    """The member of the family with density ∝ p^{1−t} q^t, at (1 − t)θ + tη: a straight line in θ."""
    theta, eta = _both(p, q)
    return p.from_natural(jax.tree.map(lambda a, b: (1.0 - t) * a + t * b, theta, eta))


def fisher_information(p: ExponentialFamily) -> jax.Array:
    """−E ∂² log p, [k, k], in the k numbers that are the parameters of one distribution, in the order of its fields.

    It is JᵀHJ, H = ∇²F(θ) = Cov T(X) and J = ∂θ/∂parameters. Batches by `jax.vmap`. Parameters that are tied, as
    probabilities that add up to 1, count as free ones.

    >>> from estimators import distributions as dist
    >>> fisher_information(dist.Normal(0.0, 2.0)).round(4).tolist()
    [[0.25, 0.0], [0.0, 0.5]]
    """
    carried = [name for name, value in p.parameters().items() if any(value is c for c in p.carrier())]
    free = {n: jnp.asarray(v, float) for n, v in p.parameters().items() if v is not None and n not in carried}
    flat, unflatten = ravel_pytree(free)

    def natural(numbers):
        rest = {name: value for name, value in p.parameters().items() if name not in free}
        return ravel_pytree(type(p)(**rest, **unflatten(numbers)).natural_parameters())[0]

    theta, back = ravel_pytree(p.natural_parameters())
    hessian = jax.hessian(lambda v: p.log_partition(back(v)))(theta)
    jacobian = jax.jacfwd(natural)(flat)
    return jacobian.T @ hessian @ jacobian


def _valid(p: ExponentialFamily, q: ExponentialFamily, value: jax.Array) -> jax.Array:
    """`value`, ∞ where a traced parameter is out of its domain."""
    return jnp.where(p._valid(value.ndim) & q._valid(value.ndim), value, jnp.inf)


def _both(p: ExponentialFamily, q: ExponentialFamily) -> tuple[Natural, Natural]:
    """(θ, η) with as many batch axes each. Raises ValueError unless p and q are of one family."""
    if not p.same_family(q):
        raise ValueError(
            f"{type(p).__name__} and {type(q).__name__} are of two exponential families (or differ in what must be "
            "equal, such as a number of tries); estimators.exact finds another way"
        )
    rank = max(len(p.batch_shape), len(q.batch_shape))
    sides = [
        tuple(
            jnp.expand_dims(v, tuple(range(rank + n - v.ndim))) for v, n in zip(d.natural_parameters(), d.natural_ndims)
        )
        for d in (p, q)
    ]
    return sides[0], sides[1]


def _vanishes_alone(first: Natural, second: Natural, family: ExponentialFamily) -> jax.Array:
    """Whether θ is infinite in the first where it is another number in the second, [*batch]: a probability is 0."""
    alone = [jnp.isinf(a) & (a != b) for a, b in zip(first, second)]
    each = [jnp.any(v, axis=tuple(range(-n, 0))) if n else v for v, n in zip(alone, family.natural_ndims)]
    return jnp.any(jnp.stack(jnp.broadcast_arrays(*each)), axis=0)


def _finite(theta: Natural) -> Natural:
    """θ with ∓∞, as the logarithm of a probability 0 is, replaced by a number where the probability underflows."""
    most = {"float32": 80.0, "float64": 700.0}

    def clipped(v: jax.Array) -> jax.Array:
        return jnp.where(jnp.isinf(v), jnp.sign(v) * most.get(v.dtype.name, 80.0), v)

    return jax.tree.map(clipped, theta)


def _wide(value: jax.Array, ndim: int) -> jax.Array:
    return value.reshape(value.shape + (1,) * ndim)

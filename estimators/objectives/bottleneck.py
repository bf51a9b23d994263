"""Bounds on the mutual information I(X;Z) that bottlenecks and contrastive learning train, in nats.

From above, through an encoder p(z|x) that is known: `bottleneck_bound`. From below, or by its log-ratio, through scores
s [n, n] of all pairs in a batch, s_ij of x_i with z_j: the pairs on the diagonal are drawn together, all others are as
good as drawn apart. `infonce` never exceeds log n, nor determines the log-ratio; with an anchor (`infonce_anchor`)
the scores that train best are the log-ratio itself, and their mean over pairs is I (`anchor_information`).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jax.typing import ArrayLike

from estimators.exact_values import gaussian
from estimators.exact_values.monte_carlo import MonteCarlo
from estimators.objectives.checks import floating, positive


def rates(mean: ArrayLike, covariance: ArrayLike, prior_mean: ArrayLike, prior_covariance: ArrayLike) -> jax.Array:
    """KL(p(z|x_i)‖r(z)) of a Gaussian encoder and a Gaussian r, a row each: → [n].

    Args:
        mean: of p(z|x_i), [n, d].
        covariance: [n, d] (variances) or [n, d, d].
        prior_mean, prior_covariance: of r: [d], and [d] (variances) or [d, d].

    Raises:
        ValueError: other shapes.

    >>> import jax.numpy as jnp
    >>> rates(jnp.array([[1.0], [0.0]]), jnp.ones((2, 1)), jnp.zeros(1), jnp.ones(1)).tolist()
    [0.5, 0.0]
    """
    mean, covariance, prior_mean, prior_covariance = map(floating, (mean, covariance, prior_mean, prior_covariance))
    n, *rest = mean.shape or (0,)
    if mean.ndim != 2 or covariance.shape not in ((n, *rest), (n, *rest, *rest)):
        raise ValueError(
            f"means of shape {mean.shape} and covariances {covariance.shape}: they are [n, d], and [n, d] or [n, d, d]"
        )
    return jax.vmap(gaussian.kl, in_axes=(0, 0, None, None))(mean, covariance, prior_mean, prior_covariance)


def bottleneck_bound(
    mean: ArrayLike, covariance: ArrayLike, prior_mean: ArrayLike, prior_covariance: ArrayLike
) -> MonteCarlo:
    """I(X;Z) ≤ E_x KL(p(z|x)‖r(z)) for any r, over rows x_i: the mean of `rates` and its standard error.

    What it exceeds I by is KL(p(z)‖r): nothing where r is the marginal of z.

    Source: Alemi, Fischer, Dillon, Murphy 2017, Deep variational information bottleneck, section 3.

    >>> import jax.numpy as jnp
    >>> float(bottleneck_bound(jnp.array([[1.0], [-1.0]]), jnp.ones((2, 1)), jnp.zeros(1), jnp.ones(1)).value)
    0.5
    """
    return _mean(rates(mean, covariance, prior_mean, prior_covariance))


class InfoNCE(NamedTuple):
    """InfoNCE of a batch, and the log n that no batch of n pairs exceeds."""

    value: jax.Array
    ceiling: float


def infonce(scores: ArrayLike) -> InfoNCE:
    """log n + mean_i (s_ii − log Σ_j e^{s_ij}) ≤ log n; in expectation ≤ I(X;Z), whatever the scores: [n, n] → scalar.

    A score that depends on x_i alone may be added to row i: the best scores are the log-ratio up to such a function.
    Even they leave it below I, for every n: it bounds a Jensen–Shannon divergence of n distributions.

    Source: van den Oord, Li, Vinyals 2018, Representation learning with contrastive predictive coding, eq. 4; Poole,
    Ozair, van den Oord, Alemi, Tucker 2019; Ryu, Yeddanapudi, Xu, Wornell 2025, theorem 2.

    >>> import jax.numpy as jnp
    >>> found = infonce(100.0 * jnp.eye(4))
    >>> round(float(found.value), 4), round(found.ceiling, 4)  # log 4
    (1.3863, 1.3863)
    """
    s = _square(scores)
    ceiling = math.log(s.shape[0])
    return InfoNCE(ceiling + jnp.mean(jnp.diagonal(s) - logsumexp(s, axis=1)), ceiling)


def infonce_anchor(scores: ArrayLike, weight: ArrayLike = 1.0) -> jax.Array:
    """The loss whose least scores are the log-ratio log p(x,z)/(p(x)p(z)) itself, [n, n] → scalar:

        −[K E log(r_1/(ν + Σ_k r_k)) + ν E log(ν/(ν + Σ_k r_k))] / (K + ν),    r = e^s,  K = n − 1.

    A classifier is shown K values of z for x_i and names the one that was drawn with it, or says that none was: that
    anchor fixes the scale of r, which `infonce` leaves open. Row i of the batch serves twice. With its pair come the
    K − 1 others but the next, in a cycle; the anchor has the K others. With K = ν = 1 it is the usual logistic loss.

    Args:
        weight: ν > 0, of the anchor.

    Source: Ryu, Yeddanapudi, Xu, Wornell 2025, Contrastive predictive coding done right for mutual information
    estimation (arXiv 2510.25983), the objective L_{K;ν} and theorem 3; K = n − 1 and ν = 1 are theirs.

    >>> import jax.numpy as jnp
    >>> round(float(infonce_anchor(jnp.zeros((2, 2)))), 4)  # log 2
    0.6931
    """
    s = _square(scores)
    positive("weight", weight, "without an anchor it is infonce, which leaves the scale open")
    n, nu = s.shape[0], jnp.asarray(weight, s.dtype)
    own = jnp.eye(n, dtype=bool)
    log_nu = jnp.log(nu)

    def log_total(hidden):  # log(ν + Σ_k r_k) over what is shown of each row
        return jnp.logaddexp(log_nu, logsumexp(jnp.where(hidden, -jnp.inf, s), axis=1))

    with_pair = jnp.mean(jnp.diagonal(s) - log_total(jnp.roll(own, 1, axis=1)))
    without = jnp.mean(log_nu - log_total(own))
    return -((n - 1.0) * with_pair + nu * without) / (n - 1.0 + nu)


def anchor_information(scores: ArrayLike) -> MonteCarlo:
    """Î = mean_i s_ii, with its standard error, for scores that estimate the log-ratio: [n, n] → scalar, or from [n].

    No bound: as good as the scores. Those of `infonce_anchor` have the right scale, those of `infonce` do not.

    >>> import jax.numpy as jnp
    >>> float(anchor_information(jnp.array([[1.0, 9.0], [9.0, 2.0]])).value)
    1.5
    """
    s = floating(scores)
    return _mean(s if s.ndim == 1 else jnp.diagonal(_square(s)))


def _mean(values: jax.Array) -> MonteCarlo:
    n = values.shape[0]
    if n < 2:
        raise ValueError(f"{n} rows: a standard error needs at least two")
    return MonteCarlo(jnp.mean(values), jnp.std(values, ddof=1) / math.sqrt(n))


def _square(scores: ArrayLike) -> jax.Array:
    s = floating(scores)
    if s.ndim != 2 or s.shape[0] != s.shape[1] or s.shape[0] < 2:
        raise ValueError(f"scores of shape {s.shape}: they are [n, n], of every x with every z, n at least 2")
    return s

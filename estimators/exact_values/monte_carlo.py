"""Divergences from values of the log-ratio ℓ = log p/q on samples, exact or a critic's, in nats.

The geometric Jensen–Shannon divergence is no f-divergence (its mean is normalised), so it has no row in the table; the
log-ratio is all it needs. With Z_s = ∫ p^{1−s} q^s = E_P[e^{−sℓ}] = E_Q[e^{(1−s)ℓ}] and G ∝ p^{1−s} q^s,

    KL(P‖G) = s E_P ℓ + log Z_s,      KL(Q‖G) = −(1 − s) E_Q ℓ + log Z_s.

Layer 0: imports jax only.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike


class MonteCarlo(NamedTuple):
    """A mean over samples and its standard error, both in nats, []."""

    value: jax.Array
    standard_error: jax.Array


def geometric_js(
    ratio_p: ArrayLike,
    ratio_q: ArrayLike,
    alpha: float = 0.5,
    *,
    convention: Literal["nielsen", "deasy"] = "nielsen",
    dual: bool = False,
) -> MonteCarlo:
    """(1 − α) KL(P‖G) + α KL(Q‖G) from log-ratios on samples; `dual` swaps to KL(G‖·). Conventions as in `gaussian`.

    At α = ½ it is the extended form, which `geometric_js` of the table bounds, + log BC − (BC − 1), BC = ∫√(pq): so the
    log-ratio of a critic trained under that row gives both. log Z is read off the side where e^{·ℓ} has finite
    variance, off both at s = ½; its logarithm biases the value by about the variance of Z over 2Z², of order 1/n.

    Args:
        ratio_p: log p/q at samples of P, [n], n ≥ 2.
        ratio_q: log p/q at samples of Q, [m], m ≥ 2.
        alpha: weight in [0, 1].
        convention: "nielsen", G ∝ p^{1−α} q^α, or "deasy", G ∝ p^α q^{1−α}.
        dual: whether G is the first argument of both divergences.

    Returns:
        The value, and its standard error by the delta method.

    Raises:
        ValueError: alpha outside [0, 1], an unknown convention, or fewer than two log-ratios on a side.

    Source: Nielsen 2019; Deasy, Simidjievski, Liò 2020; the extended form Nielsen 2025.
    """
    l_p, l_q = (jnp.asarray(r, dtype=jnp.promote_types(jnp.asarray(r).dtype, jnp.float32)) for r in (ratio_p, ratio_q))
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha = {alpha}: a weight lies in [0, 1]")
    if convention not in ("nielsen", "deasy"):
        raise ValueError(f"unknown convention {convention!r}; choose nielsen or deasy")
    if l_p.ndim != 1 or l_q.ndim != 1 or min(l_p.size, l_q.size) < 2:
        raise ValueError(f"log-ratios of shape {l_p.shape} and {l_q.shape}: both must be [n] with n at least 2")
    share = alpha if convention == "nielsen" else 1.0 - alpha
    if dual:
        return _dual(l_p, l_q, alpha, share)
    on_p, on_q = (1.0 - alpha) * share * l_p, -alpha * (1.0 - share) * l_q
    log_z, z_p, z_q = _log_normaliser(l_p, l_q, share)
    return MonteCarlo(jnp.mean(on_p) + jnp.mean(on_q) + log_z, _error(on_p + z_p, on_q + z_q))


def _log_normaliser(l_p, l_q, share):
    """(log Z, its influence on each sample of P, of Q): from P below s = ½, from Q above, half of each at ½."""
    logs_p, logs_q = -share * l_p, (1.0 - share) * l_q
    log_p, log_q = (logsumexp(logs) - jnp.log(logs.size) for logs in (logs_p, logs_q))
    weight = 0.5 if share == 0.5 else float(share < 0.5)
    influence_p, influence_q = weight * jnp.exp(logs_p - log_p), (1.0 - weight) * jnp.exp(logs_q - log_q)
    return weight * log_p + (1.0 - weight) * log_q, influence_p, influence_q


def _dual(l_p, l_q, weight, share):
    """(1 − w) KL(G‖P) + w KL(G‖Q) = (w − s) E_G ℓ − log Z, E_G by importance weights on the side that Z is read off."""
    log_z, z_p, z_q = _log_normaliser(l_p, l_q, share)
    tilt = weight - share  # 0 in Nielsen's convention
    mean = jnp.mean(z_p * l_p) + jnp.mean(z_q * l_q)
    on_p = tilt * z_p * (l_p - mean) - z_p
    on_q = tilt * z_q * (l_q - mean) - z_q
    return MonteCarlo(tilt * mean - log_z, _error(on_p, on_q))


def _error(on_p, on_q):
    return jnp.sqrt(jnp.var(on_p, ddof=1) / on_p.size + jnp.var(on_q, ddof=1) / on_q.size)

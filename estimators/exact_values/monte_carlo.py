"""Monte Carlo averages: divergences from values of the log-ratio ℓ = log p/q on samples, in nats.

Between distributions that can be sampled and evaluated the averages are exact up to a standard error: `defensive`.

The geometric Jensen–Shannon divergence is not an f-divergence, since its mean is normalised, but log-ratios determine
it, exact ones or a critic's. With Z_s = ∫ p^{1−s} q^s = E_P[e^{−sℓ}] = E_Q[e^{(1−s)ℓ}] and G ∝ p^{1−s} q^s,

    KL(P‖G) = s E_P ℓ + log Z_s,      KL(Q‖G) = −(1 − s) E_Q ℓ + log Z_s.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.distributions.elliptical import Distribution
from estimators.divergences.generator import FDivergence, as_float
from estimators.divergences.perspective import perspective
from estimators.exact_values import gaussian
from estimators.exact_values.quadrature import in_blocks

DRAWS = 2**20  # from each distribution, in up to four dimensions; 4/d times as many in d dimensions
CHUNK = 2**15  # draws in memory at once
HEAVY = 0.02
"""Share of a sum in one term above which the tail counts as heavy. Of n = 2^17 terms the largest has about n^{−1/2} =
0.003 at tail exponent 2, where the variance becomes infinite, and n^{−1/3} = 0.02 at 1.5. Tails between pass."""


class MonteCarlo(NamedTuple):
    """A mean over samples and its standard error, both in nats."""

    value: jax.Array | float
    standard_error: jax.Array | float
    heaviest: float = 0.0  # share of the sum that its largest term has

    @property
    def heavy_tailed(self) -> bool:
        """Whether so few terms carry the mean that its standard error, and the mean itself, are likely too small."""
        return self.heaviest > HEAVY


def defensive(p: Distribution, q: Distribution, d: FDivergence, draws: int | None = None) -> MonteCarlo:
    """D_f = f(1) + E_M[f̃(r)/(½r + ½)], M = ½(P + Q), r = p/q, from as many `draws` of P as of Q.

    The integrands of bounded divergences are bounded, and no weight p/m or q/m exceeds 2.
    """
    integrand = jax.jit(perspective(d))
    on_p, on_q = (in_blocks(integrand, ratios) for ratios in log_ratios(p, q, draws or draws_of(p)))
    value = d.value_at_one + 0.5 * float(on_p.mean() + on_q.mean())
    if math.isinf(value):  # mass of one outside the support of the other: infinite for certain
        return MonteCarlo(value, 0.0)
    total = float(on_p.sum() + on_q.sum())
    heaviest = float(max(on_p.max(), on_q.max())) / total if total > 0.0 else 0.0
    return MonteCarlo(value, 0.5 * math.hypot(_standard_error(on_p), _standard_error(on_q)), heaviest)


@lru_cache(maxsize=1)
def log_ratios(p: Distribution, q: Distribution, n: int) -> tuple[np.ndarray, np.ndarray]:
    """log p/q at n draws of P and at n of Q; those of the last pair are kept for the next divergence."""
    rng = np.random.default_rng(0)
    return _drawn(p, p, q, rng, n), _drawn(q, p, q, rng, n)


def _drawn(law: Distribution, p: Distribution, q: Distribution, rng: np.random.Generator, n: int) -> np.ndarray:
    """log p/q at n draws of `law`."""
    chunks = (law.sample(rng, min(CHUNK, n - start)) for start in range(0, n, CHUNK))
    return np.concatenate([p.log_prob(x) - q.log_prob(x) for x in chunks])


def draws_of(law: Distribution) -> int:
    """How many draws a mean takes of each: fewer where a point has many coordinates."""
    return min(DRAWS, 4 * DRAWS // law.dim)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std() / math.sqrt(len(values)))


def geometric_js(
    ratio_p: ArrayLike,
    ratio_q: ArrayLike,
    alpha: float = 0.5,
    *,
    convention: gaussian.Convention = "nielsen",
    dual: bool = False,
) -> MonteCarlo:
    """`gaussian.geometric_js`, (1 − α) KL(P‖G) + α KL(Q‖G), from log-ratios on samples; its error by the delta method.

    At α = ½ it is the extended form, the divergence `geometric_js`, + log BC − (BC − 1), BC = ∫√(pq): so the log-ratio
    of a critic trained under geometric_js gives both. log Z is estimated on the side where e^{·ℓ} has finite variance,
    on both at s = ½; the logarithm biases the value by about the variance of Z over 2Z², of order 1/n.

    Args:
        ratio_p, ratio_q: log p/q at samples of P [n] and of Q [m], n, m ≥ 2.

    Raises:
        ValueError: alpha outside [0, 1], an unknown convention, or fewer than two log-ratios on a side.

    Source: Nielsen 2019; Deasy, Simidjievski, Liò 2020; the extended form Nielsen 2025.
    """
    l_p, l_q = as_float(jnp.asarray(ratio_p)), as_float(jnp.asarray(ratio_q))
    weight, share = gaussian.geometric_weights(alpha, convention)
    if l_p.ndim != 1 or l_q.ndim != 1 or min(l_p.size, l_q.size) < 2:
        raise ValueError(f"log-ratios of shape {l_p.shape} and {l_q.shape}: both must be [n] with n at least 2")
    logs_p, logs_q = -share * l_p, (1.0 - share) * l_q
    log_p, log_q = (logsumexp(logs) - jnp.log(logs.size) for logs in (logs_p, logs_q))
    from_p = 0.5 if share == 0.5 else float(share < 0.5)
    log_z = from_p * log_p + (1.0 - from_p) * log_q
    z_p, z_q = from_p * jnp.exp(logs_p - log_p), (1.0 - from_p) * jnp.exp(logs_q - log_q)  # influence of each sample
    if dual:  # (1 − w) KL(G‖P) + w KL(G‖Q) = (w − s) E_G ℓ − log Z, E_G by importance weights where Z is estimated
        tilt = weight - share  # 0 in Nielsen's convention
        mean = jnp.mean(z_p * l_p) + jnp.mean(z_q * l_q)
        value, on_p, on_q = tilt * mean - log_z, tilt * z_p * (l_p - mean) - z_p, tilt * z_q * (l_q - mean) - z_q
    else:
        on_p, on_q = (1.0 - weight) * share * l_p, -weight * (1.0 - share) * l_q
        value, on_p, on_q = jnp.mean(on_p) + jnp.mean(on_q) + log_z, on_p + z_p, on_q + z_q
    return MonteCarlo(value, jnp.sqrt(jnp.var(on_p, ddof=1) / on_p.size + jnp.var(on_q, ddof=1) / on_q.size))

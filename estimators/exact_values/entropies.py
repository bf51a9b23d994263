"""The entropy of a named distribution, in closed form or integrated."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

from estimators.distributions.foreign import named_as
from estimators.exact_values.pairs import kind_of
from estimators.exact_values.quadrature import in_blocks, integrate

MOST = 2**22  # integers summed at most
SMALL = 1e-12  # of the probability that may be missing when a sum ends


def entropy(P: Any) -> float:
    """H(P) = −E log p, nats, in float64; of densities the differential entropy.

    Its own closed form if P has one; else −∫ p log p by quadrature, in the scale of P's mean and deviation where these
    are finite, or −Σ p log p over integers until all but 1e-12 of the probability is summed.

    Raises:
        ValueError: a batch, vectors without a closed form, or a sum over more than four million integers.

    >>> from estimators import distributions as dist
    >>> round(entropy(dist.Mixture([0.5, 0.5], [dist.Normal(-9.0, 1.0), dist.Normal(9.0, 1.0)])), 6)  # + log 2
    2.112086
    """
    p = named_as(P)
    if p.batch_shape:
        raise ValueError(f"P is a batch of shape {p.batch_shape}: give one distribution, such as P[0]")
    with jax.enable_x64(True):
        try:
            return float(p.entropy())
        except (NotImplementedError, AttributeError):
            if p.event_shape:
                raise ValueError(
                    f"{type(p).__name__} of points of shape {p.event_shape}: its entropy has no closed form here; "
                    "−log_prob(sample(key, n)).mean() estimates it"
                ) from None
        return _of_counts(p) if kind_of(p) == "integers" else _of_density(p)


def _of_density(p: Any) -> float:
    centre, scale = 0.0, 1.0
    try:
        moments = float(p.mean), math.sqrt(float(p.variance))
        if all(map(math.isfinite, moments)) and moments[1] > 0.0:
            centre, scale = moments
    except (NotImplementedError, AttributeError):  # without moments it is integrated as it is
        pass
    low, high = ((float(np.asarray(end)) - centre) / scale for end in (p.support.low, p.support.high))

    def integrand(z: jax.Array) -> jax.Array:
        return entr(jnp.exp(jnp.asarray(p.log_prob(centre + scale * z), jnp.float64) + math.log(scale)))

    return integrate(integrand, (low, high)) + math.log(scale)


def _of_counts(p: Any) -> float:
    low, high = (float(np.asarray(end)) for end in (p.support.low, p.support.high))
    total, mass, start, size = 0.0, 0.0, int(low), 2**12
    while start <= high and mass < 1.0 - SMALL:
        if start - low > MOST:
            raise ValueError(f"{mass:.6g} of the probability lies on the first {MOST:,} integers: too wide to sum")
        x = np.arange(start, int(min(start + size, high + 1.0)), dtype=np.float64)
        shares = in_blocks(lambda block: jnp.exp(jnp.asarray(p.log_prob(block), jnp.float64)), x)
        total, mass, start, size = (
            total + float(np.sum(entr(shares))),
            mass + float(shares.sum()),
            int(x[-1]) + 1,
            2 * size,
        )
    return total

"""log p(x|z) of a decoder's outputs, in the scale the networks see: a table of kinds, by name in a config.

A likelihood is a class with `log_prob(outputs, log_deviation, x)` and `mean(outputs)`, and its line in `LIKELIHOODS`.
"""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.nn import softplus


class Likelihood(Protocol):
    """p(x|z), its coordinates independent, from a decoder's outputs [..., d]."""

    learns_deviation: bool  # whether it uses the learned log σ

    def log_prob(self, outputs: jax.Array, log_deviation: jax.Array, x: jax.Array) -> jax.Array:
        """log p(x|z): outputs and x [..., d] → [...], nats."""

    def mean(self, outputs: jax.Array) -> jax.Array:
        """E[x|z]: [..., d] → [..., d]."""


class Gaussian:
    """N(outputs, σ²I), σ the same for all coordinates.

    >>> likelihood = Gaussian()
    >>> likelihood.log_prob(jnp.zeros(2), jnp.zeros(()), jnp.zeros(2))  # −log 2π
    Array(-1.837877, dtype=float32)
    """

    learns_deviation = True

    def log_prob(self, outputs: jax.Array, log_deviation: jax.Array, x: jax.Array) -> jax.Array:
        """−½‖(x − outputs)/σ‖² − d(log σ + ½ log 2π)."""
        square = jnp.sum((x - outputs) ** 2, axis=-1) * jnp.exp(-2.0 * log_deviation)
        return -0.5 * square - x.shape[-1] * (log_deviation + 0.5 * math.log(2.0 * math.pi))

    def mean(self, outputs: jax.Array) -> jax.Array:
        """The outputs themselves."""
        return outputs


class Bernoulli:
    """Black and white pixels, white with probability σ(output); x ∈ [−1, 1] holds the grey level t = ½(x + 1).

    The grey levels are read as probabilities: a grey image stands for the black and white ones that it makes pixel by
    pixel, and t log σ + (1 − t) log(1 − σ) is the average of their log-likelihoods. So the ELBO from a grey image is at
    most the average of log p over them, and so is the importance-weighted bound, which is convex in log p(x|z).

    >>> Bernoulli().log_prob(jnp.zeros(2), jnp.zeros(()), jnp.array([-1.0, 0.5]))  # −2 log 2 whatever x
    Array(-1.3862944, dtype=float32)
    """

    learns_deviation = False

    def log_prob(self, outputs: jax.Array, log_deviation: jax.Array, x: jax.Array) -> jax.Array:
        """Σ t·output − log(1 + e^output)."""
        return jnp.sum(0.5 * (x + 1.0) * outputs - softplus(outputs), axis=-1)

    def mean(self, outputs: jax.Array) -> jax.Array:
        """2σ(output) − 1: grey levels in (−1, 1)."""
        return jnp.tanh(0.5 * outputs)


LIKELIHOODS: dict[str, Likelihood] = {"gaussian": Gaussian(), "bernoulli": Bernoulli()}
"""Every likelihood by name."""

"""Images with classes: networks of the joint law of image and class, as rows [pixels, one-hot class].

The divergence that is trained is that of the joint laws, so its bounds hold as they stand. The class is drawn by fixed
shares; what is learnt is the image given the class.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class ClassConditional(nn.Module):
    """(network(z, e_c), e_c) with the class c drawn by fixed shares w and e_c its one-hot row: [n, d + classes].

    The input is (z, t) with t ~ N(0, 1): c is the class in whose share of (0, 1) Φ(t) falls. The shares are parameters
    that no gradient reaches, so that a checkpoint knows them.
    """

    network: nn.Module
    latent: int  # the dimension of the input, t included
    shares: Sequence[float]

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        shares = self.param("shares", lambda _: jnp.asarray(self.shares, jnp.float32))
        below = jnp.cumsum(normalised(jax.lax.stop_gradient(shares)))[:-1]
        chosen = jnp.sum(jax.scipy.stats.norm.cdf(inputs[:, -1:]) >= below[None], axis=1)
        one_hot = jax.nn.one_hot(chosen, len(self.shares), dtype=inputs.dtype)
        return jnp.concatenate([self.network(jnp.concatenate([inputs[:, :-1], one_hot], axis=1)), one_hot], axis=1)


def conditional(network: nn.Module, latent: int, data: Any) -> ClassConditional:
    """`network`, whose noise has `latent` dimensions, for the classes of a Dataset; shares are 0 without its rows."""
    return ClassConditional(network, latent + 1, data.shares)


def normalised(shares: jax.Array) -> jax.Array:
    """Shares that sum to 1: the decay of weights shrinks all of them alike. Zeros, of a restored run, stay zeros."""
    return shares / jnp.maximum(jnp.sum(shares), jnp.finfo(shares.dtype).tiny)


def middle_of(shares: jax.Array, chosen: int) -> jax.Array:
    """The t of `ClassConditional` in the middle of the share of a class: []."""
    shares = normalised(shares)
    return jax.scipy.stats.norm.ppf(jnp.sum(shares[:chosen]) + 0.5 * shares[chosen])


def split(rows: jax.Array, classes: int) -> tuple[jax.Array, jax.Array]:
    """(pixels [n, d], one-hot classes [n, classes]) of rows [n, d + classes].

    The class is the largest column, and no gradient leads to it: points between classes, as noise makes them, have no
    meaning.
    """
    pixels, columns = rows[:, : rows.shape[1] - classes], rows[:, rows.shape[1] - classes :]
    return pixels, jax.nn.one_hot(jnp.argmax(columns, axis=1), classes, dtype=rows.dtype)


class ClassTerm(nn.Module):
    """⟨e_c, φ⟩ from features φ [n, k] and one-hot classes [n, classes], added to a critic's ψ(φ): [n].

    log p(x, c)/q(x, c) = log p(x)/q(x) + log p(c|x)/q(c|x), and the second is linear in φ for each class where both are
    softmaxes of φ. Source: Miyato, Koyama 2018, 'cGANs with projection discriminator', eq. 8. e_c begins at 0.
    """

    @nn.compact
    def __call__(self, phi: jax.Array, one_hot: jax.Array) -> jax.Array:
        embedding = nn.Dense(phi.shape[-1], use_bias=False, kernel_init=nn.initializers.zeros)
        return jnp.sum(embedding(one_hot) * phi, axis=1)

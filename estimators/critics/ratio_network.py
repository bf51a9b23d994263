"""The network of a log-ratio: a parametric reference plus a perceptron that starts at zero."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from estimators.critics.networks import MLP


class RatioNetwork(nn.Module):
    """s · reference plus a linear function and a perceptron, which are zero at the start."""

    @nn.compact
    def __call__(self, inputs):
        """[n, 1 + points], the reference first → log p/q [n]."""
        reference, points = inputs[:, :1], inputs[:, 1:]
        features = jnp.concatenate([0.5 * jnp.clip(reference, -10.0, 10.0), points], axis=-1)
        hidden = nn.silu(MLP((64,), "silu", 64)(features))
        scale = self.param("scale", nn.initializers.ones, (1,))
        rest = nn.Dense(1, kernel_init=nn.initializers.zeros)(jnp.concatenate([features, hidden], axis=-1))
        return scale[0] * reference[:, 0] + rest[:, 0]


NETWORK = RatioNetwork()


def outputs(networks: Any, inputs: np.ndarray) -> np.ndarray:
    """Each network's log-ratios [rows, networks] in float64; `networks` are parameters stacked on a first axis."""
    return np.asarray(_apply(networks, inputs), np.float64)


_apply = jax.jit(jax.vmap(NETWORK.apply, in_axes=(0, None), out_axes=1))

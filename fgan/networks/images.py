"""Networks of square images, each a row of pixels [side²]: two convolutions that double the sides, or halve them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics.networks import NONLINEARITIES
from fgan.config.errors import ConfigError
from fgan.networks.convolutions import Doubling, Halving


class ImageGenerator(nn.Module):
    """z [n, latent] → images as rows [n, side²] in (−1, 1): dense to side/4, then two convolutions that double it.

    Attributes:
        side: height and width; a multiple of 4.
        features: channels at side/4 and at side/2.
        nonlinearity: a name in NONLINEARITIES.
    """

    side: int
    features: Sequence[int] = (128, 64)
    nonlinearity: str = "relu"

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        act, low = NONLINEARITIES[self.nonlinearity], self.side // 4
        first, second = self.features
        x = act(nn.LayerNorm()(nn.Dense(low * low * first)(z)))
        x = act(nn.LayerNorm()(Doubling(second, use_bias=False)(x.reshape(-1, low, low, first))))
        return jnp.tanh(Doubling(1)(x).reshape(x.shape[0], -1))


class ImageCritic(nn.Module):
    """Images as rows [n, side²] → v [n]: two 4 × 4 convolutions of stride 2, then a dense layer.

    Attributes:
        side: height and width; a multiple of 4.
        features: channels at side/2 and at side/4.
        nonlinearity: a name in NONLINEARITIES.
    """

    side: int
    features: Sequence[int] = (64, 128)
    nonlinearity: str = "leaky_relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        act = NONLINEARITIES[self.nonlinearity]
        x = x.reshape(-1, self.side, self.side, 1)
        for channels in self.features:
            x = act(Halving(channels)(x))
        return nn.Dense(1)(x.reshape(x.shape[0], -1))[:, 0]


def check_images(group: str, features: Sequence[int], data: Any) -> None:
    """Raise ConfigError unless `data` are images that such a network, of the config's `group`, fits."""
    if not data.side or data.side % 4:
        found = f"{data.name} has images of {data.side} × {data.side} pixels" if data.side else f"{data.name} has none"
        raise ConfigError(
            f"{group}.kind = image needs square images whose side is a multiple of 4; {found}: use --{group}.kind mlp"
        )
    if len(features) != 2:
        raise ConfigError(f"{group}.features = {list(features)}: an image network has two widths")

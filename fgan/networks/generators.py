"""Generators, networks from noise z [n, latent] to points x [n, d], and their kinds, as the config names them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics.networks import MLP
from fgan.config.fields import ConfigError
from fgan.config.schema import Generator
from fgan.networks.components import components
from fgan.networks.flows import Flow
from fgan.networks.images import ImageGenerator, check_images
from fgan.networks.one_hot import OneHot
from fgan.networks.residual import ResidualGenerator, check_groups


class LocationScale(nn.Module):
    """x = μ + σz on the line, the generator of the f-GAN paper's experiment with Gaussians; parameters μ and log σ."""

    start: tuple[float, float] = (0.0, 1.0)  # (μ, σ)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        mu = self.param("mu", lambda _: jnp.asarray(self.start[0], jnp.float32))
        log_sigma = self.param("log_sigma", lambda _: jnp.asarray(math.log(self.start[1]), jnp.float32))
        return mu + jnp.exp(log_sigma) * z


class Affine(nn.Module):
    """x = μ + Lz in d dimensions, the Gaussian N(μ, LLᵀ); parameters μ [d] and `root` [d, d], L = factor(root)."""

    dim: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        mu = self.param("mu", nn.initializers.zeros, (self.dim,))
        root = self.param("root", nn.initializers.zeros, (self.dim, self.dim))
        return mu[None] + jnp.matmul(z, factor(root).T, precision="highest")  # accelerators round z otherwise


def factor(root: jax.Array) -> jax.Array:
    """L, lower triangular with a positive diagonal: exp of root's diagonal, and what root has below it: [d, d].

    One root for every covariance LLᵀ. Source: Pinheiro, Bates 1996, the log-Cholesky parametrisation.
    """
    return jnp.tril(root, -1) + jnp.diag(jnp.exp(jnp.diagonal(root)))


class Convolved(nn.Module):
    """x = m(z₁) + A z₂ with z = (z₁, z₂): the law of m(z₁) convolved with N(0, AAᵀ), A learnt.

    Where m has steep steps, so that little falls between modes, it is flat within them; A gives them their width, one
    for all modes, on top of what m leaves. `network` is m, `width` the dimension of z₂, the last coordinates of z.

    The learnt numbers are A/√(2/width). Their initial size does not depend on the width, so one step of Adam changes
    them by the same fraction at every width. At the start A z₂ adds `start` to the deviation of each coordinate.
    """

    network: nn.Module
    width: int
    dim: int
    start: float = 0.1

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        initial = nn.initializers.variance_scaling(0.5 * self.width * self.start**2, "fan_in", "normal")
        linear = nn.Dense(self.dim, use_bias=False, kernel_init=initial)
        return self.network(z[:, : -self.width]) + math.sqrt(2.0 / self.width) * linear(z[:, -self.width :])


class Bounded(nn.Module):
    """tanh of an MLP: points in (−1, 1), for images scaled that way."""

    features: Sequence[int]
    nonlinearity: str
    dim: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        return jnp.tanh(MLP(self.features, self.nonlinearity, self.dim)(z))


MOST_DIMENSIONS = 8
"""Of a flow. In more, averages of a steep f have errors too large for the value to serve as exact."""


def mlp(generator: Generator, data: Any) -> nn.Module:
    """A multilayer perceptron, `Convolved` or begun as a mixture where `generator` asks for it, `Bounded` for images;
    `OneHot` where columns are categories."""
    if data.side:
        _refuse_linear(generator)
        return Bounded(generator.features, generator.nonlinearity, data.dim)
    network = MLP(generator.features, generator.nonlinearity, data.dim, gain=generator.gain)
    made: nn.Module = network
    latent = generator.latent + generator.linear
    if generator.components:
        _refuse_linear(generator)
        if data.target is not None:
            raise ConfigError(
                f"generator.components = {generator.components}: {data.name} has no rows to fit; set it to 0"
            )
        made = begun = components(network, generator.components, generator.latent, data)
        latent = begun.latent
    elif generator.linear:
        made = Convolved(network, generator.linear, data.dim, generator.linear_start)
    return OneHot(made, data.one_hot, latent) if data.one_hot else made


def location_scale(generator: Generator, data: Any) -> nn.Module:
    """μ + σz. Raises ConfigError unless z and the data are on the line."""
    _refuse_linear(generator)
    if data.dim != 1 or generator.latent != 1:
        raise ConfigError("generator.kind = location_scale needs data on the line and generator.latent = 1")
    return LocationScale(generator.start)


def image(generator: Generator, data: Any) -> nn.Module:
    """A convolution for each width, each of which doubles the sides. Raises ConfigError unless the data are images."""
    _refuse_linear(generator)
    check_images("generator", generator.features, data)
    return ImageGenerator(data.side, generator.features, generator.nonlinearity, data.channels)


def residual(generator: Generator, data: Any) -> nn.Module:
    """Residual blocks at a scale for each width. Raises ConfigError unless the data are images, or for the groups."""
    g = generator
    _refuse_linear(g)
    check_images("generator", g.features, data)
    check_groups("generator", g.features, g.group)
    return ResidualGenerator(data.side, g.features, g.nonlinearity, data.channels, g.blocks, g.group)


def flow(generator: Generator, data: Any) -> nn.Module:
    """An invertible map of as many coordinates as the data have, of known density. Raises ConfigError beyond 8."""
    if data.one_hot:
        raise ConfigError("generator.kind = flow: categories have no density; drop these columns or set kind = mlp")
    if data.side or data.dim > MOST_DIMENSIONS:
        what = "images" if data.side else f"data of {data.dim} dimensions"
        raise ConfigError(
            f"generator.kind = flow: its density is exact in 1 to {MOST_DIMENSIONS} dimensions, not for {what}; set "
            f"generator.kind = {'image' if data.side else 'mlp'}"
        )
    return Flow(generator.layers, generator.features, generator.nonlinearity, data.dim, generator.bins)


def _refuse_linear(generator: Generator) -> None:
    if generator.linear:
        where = "only an mlp without components, on data that are no images, takes it"
        raise ConfigError(f"generator.linear = {generator.linear}: {where}")


GENERATORS: dict[str, Callable[[Generator, Any], nn.Module]] = {
    "mlp": mlp,
    "location_scale": location_scale,
    "image": image,
    "residual": residual,
    "flow": flow,
}
"""kind → (the config's group, the Dataset) → network."""

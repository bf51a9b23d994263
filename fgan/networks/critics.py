"""Kinds of critic, as the config names them: networks from points [n, d] to raw outputs v [n], any real number."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from estimators.critics.networks import MLP
from fgan.config.schema import Critic
from fgan.networks.images import ImageCritic, check_images
from fgan.networks.residual import ResidualCritic, check_groups


def mlp(critic: Critic, data: Any) -> nn.Module:
    """A multilayer perceptron."""
    c = critic
    return MLP(c.features, c.nonlinearity, gain=c.gain, frequencies=c.frequencies, lipschitz=c.lipschitz)


def image(critic: Critic, data: Any) -> nn.Module:
    """A strided convolution for each width. Raises ConfigError unless the data are images of a fitting size."""
    check_images("critic", critic.features, data)
    return ImageCritic(data.side, critic.features, critic.nonlinearity, data.channels, data.classes)


def residual(critic: Critic, data: Any) -> nn.Module:
    """Residual blocks at a scale for each width. Raises ConfigError unless the data are images, or for the groups."""
    c = critic
    check_images("critic", c.features, data)
    check_groups("critic", c.features, c.group)
    return ResidualCritic(data.side, c.features, c.nonlinearity, data.channels, c.blocks, c.group, data.classes)


CRITICS: dict[str, Callable[[Critic, Any], nn.Module]] = {"mlp": mlp, "image": image, "residual": residual}
"""kind → (the config's group, the Dataset) → network."""

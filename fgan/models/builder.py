"""Config and data in, a model out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from estimators.critics.kernel import ALONE, Replicas
from estimators.critics.networks import MLP
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import divergence
from fgan.config.errors import ConfigError
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.models.gan import FGAN
from fgan.models.instance_noise import Spread
from fgan.models.optimizers import optimizer
from fgan.models.penalties import PENALTIES, SCHEDULES, Look
from fgan.networks import generators as networks

MODELS = {"fgan": "a generator against a critic under an f-divergence"}


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> FGAN:
    """The FGAN that `config` describes, for the dimension of `data`."""
    row = divergence(config.divergence)
    other = config.critic.divergence or ("" if row.smooth else "js")
    return FGAN(
        generator=_generator(config, data),
        critic=_critic(config, data),
        divergence=row,
        critic_divergence=divergence(other) if other and divergence(other) is not row else None,
        activation=None if config.critic.activation == "default" else config.critic.activation,
        bound=BOUNDS[config.critic.bound],
        objective=config.game.objective,
        update=config.game.update,
        critic_steps=config.game.critic_steps,
        generator_optimizer=optimizer(config.generator_optimizer, config.steps),
        critic_optimizer=optimizer(config.critic_optimizer, config.steps * config.game.critic_steps),
        penalty=_penalty(config.penalty.names),
        penalty_weight=partial(_penalty_weight, config),
        penalty_on=config.penalty.on,
        normalise=config.game.normalise,
        spread=_spread(config),
        average=config.generator.average,
        reach=config.critic.output_bound,
        leash=config.critic.out_of_bound_penalty,
        smoothing=config.game.smoothing,
        dim=data.dim,
        latent=config.generator.latent + config.generator.linear,
        batch=config.batch,
        compute=None if config.compute == "float32" else jnp.dtype(config.compute),
        replicas=replicas,
    )


def _penalty(names: tuple[str, ...]) -> Callable[[Look], jax.Array] | None:
    rows = [PENALTIES[name] for name in names if name != "none"]
    return (lambda look: jnp.sum(jnp.stack([row(look) for row in rows]))) if rows else None


def _penalty_weight(config: Config, step: jax.Array) -> jax.Array:
    return config.penalty.weight * SCHEDULES[config.penalty.schedule](step / config.steps)


def _spread(config: Config) -> Spread | None:
    s = config.instance_noise
    if not s.start:
        return None
    updates = config.steps * config.game.critic_steps
    return Spread(start=s.start, end=s.end, overlap=s.overlap, fall=s.fall * updates, steps=updates)


def _generator(config: Config, data: Dataset):
    g = config.generator
    if g.linear and (g.kind != "mlp" or data.side):
        raise ConfigError(f"generator.linear = {g.linear}: only an mlp on data that are no images takes it")
    if g.kind == "location_scale":
        if data.dim != 1 or g.latent != 1:
            raise ConfigError("generator.kind = location_scale needs data on the line and generator.latent = 1")
        return networks.LocationScale(g.start)
    if g.kind == "image":
        _check_image("generator", g.features, data)
        return networks.ImageGenerator(data.side, g.features, g.nonlinearity)
    if data.side:
        return networks.Bounded(g.features, g.nonlinearity, data.dim)
    network = MLP(g.features, g.nonlinearity, data.dim, gain=g.gain)
    return networks.Convolved(network, g.linear, data.dim) if g.linear else network


def _critic(config: Config, data: Dataset):
    c = config.critic
    if c.kind == "image":
        _check_image("critic", c.features, data)
        return networks.ImageCritic(data.side, c.features, c.nonlinearity)
    return MLP(c.features, c.nonlinearity, gain=c.gain, frequencies=c.frequencies, lipschitz=c.lipschitz)


def _check_image(group: str, features: tuple[int, ...], data: Dataset) -> None:
    if not data.side or data.side % 4:
        found = f"{data.name} has images of {data.side} × {data.side} pixels" if data.side else f"{data.name} has none"
        raise ConfigError(
            f"{group}.kind = image needs square images whose side is a multiple of 4; {found}: use --{group}.kind mlp"
        )
    if len(features) != 2:
        raise ConfigError(f"{group}.features = {list(features)}: an image network has two widths")

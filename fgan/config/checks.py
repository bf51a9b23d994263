"""Whether a config can be run: each field by its own annotation, then the rules that join several fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from estimators.divergences.table import FDivergence, divergence
from fgan.config.fields import ConfigError, check_fields
from fgan.config.schema import Config, Optimizer


def check(config: Config) -> Config:
    """`config` itself, if it can be run. Raises ConfigError or UnknownDivergence for the first reason why it cannot."""
    check_fields(config)
    divergence(config.divergence), _trained(config)
    for message, broken in RULES.items():
        if broken(config):
            raise ConfigError(message.format(c=config))
    return config


def _trained(c: Config) -> FDivergence:
    """The divergence that trains the critic, as far as it is named."""
    return divergence(c.critic.divergence or c.divergence)


def _log_ratio(c: Config) -> bool:
    """Whether the generator needs log p/q itself, not only up to a constant."""
    return c.game.objective in ("ratio", "kl_gradient") or divergence(c.divergence).name != "kl"


def _ends_at_zero(o: Optimizer) -> bool:
    return o.schedule == "exponential" and not o.final


RULES: dict[str, Callable[[Config], Any]] = {
    "critic.bound = donsker_varadhan bounds kl only; use fenchel, or divergence = kl": lambda c: (
        c.critic.bound == "donsker_varadhan" and _trained(c).name != "kl"
    ),
    "critic.bound = donsker_varadhan finds log p/q only up to a constant; use fenchel for a ratio": lambda c: (
        c.critic.bound == "donsker_varadhan" and _log_ratio(c)
    ),
    "critic.lipschitz = {c.critic.lipschitz}: bounds an mlp only; set critic.kind = mlp, or 0": lambda c: (
        c.critic.lipschitz and c.critic.kind != "mlp"
    ),
    "critic.lipschitz = {c.critic.lipschitz}: sines of frequencies have no common slope; "
    "set critic.frequencies = 0": lambda c: c.critic.lipschitz and c.critic.frequencies,
    # Where no divergence of the critic is named, js trains it in place of one with a kink.
    "penalty.names: roth is zero for {c.critic.divergence}, whose f has a kink; use r1 or r2": lambda c: (
        "roth" in c.penalty.names and c.critic.divergence and not _trained(c).smooth
    ),
    "instance_noise.start = {c.instance_noise.start}: must not be below instance_noise.end = "
    "{c.instance_noise.end}": lambda c: 0.0 < c.instance_noise.start < c.instance_noise.end,
    "data.path is empty: name your file of samples, as in --data.path samples.npy": lambda c: (
        c.data.name == "samples" and not c.data.path
    ),
    "data.path is empty: name the folder of your IDX files, as in --data.path ~/mnist": lambda c: (
        c.data.name == "images" and not c.data.path
    ),
    "parallel.parameters = sharded takes --parallel.engine sharded; pmap holds a copy a device": lambda c: (
        c.parallel.parameters == "sharded" and c.parallel.engine != "sharded"
    ),
    "game.critic_steps must be 1 when game.update = simultaneous": lambda c: (
        c.game.update == "simultaneous" and c.game.critic_steps != 1
    ),
    "generator_optimizer.schedule = exponential never ends at 0; set generator_optimizer.final, such as 0.01": (
        lambda c: _ends_at_zero(c.generator_optimizer)
    ),
    "critic_optimizer.schedule = exponential never ends at 0; set critic_optimizer.final, such as 0.01": (
        lambda c: _ends_at_zero(c.critic_optimizer)
    ),
    "critic.out_of_bound_penalty = {c.critic.out_of_bound_penalty}: leads back within critic.output_bound, "
    "which is 0; set both": lambda c: c.critic.out_of_bound_penalty and not c.critic.output_bound,
    "seed = {c.seed}, seeds = {c.seeds}: must stay below 2^32, as uint32": lambda c: c.seed + c.seeds >= 2**32,
    "log.evaluate = {c.log.evaluate} must be a multiple of log.every = {c.log.every}": lambda c: (
        c.log.evaluate % c.log.every
    ),
    "log.checkpoint = {c.log.checkpoint} must be a multiple of log.every = {c.log.every}": lambda c: (
        c.log.checkpoint % c.log.every
    ),
}
"""Message, filled in with the config `c` → whether it applies to `c`."""

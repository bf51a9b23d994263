"""What the schedules of a run do when it goes on with another number of steps."""

import math

import jax.numpy as jnp

from estimators.divergences.table import divergence
from estimators.objectives.annealing import ANNEALING
from fgan.config.checks import UNUSED
from fgan.config.schema import Config
from fgan.models import penalties, players


def scheduled(config: Config, step: int) -> dict[str, float]:
    """dotted name → its value in a step, of the fields that `config` and its model have a schedule for."""
    t = min(step / config.horizon, 1.0)
    values = {}
    for name, updates in (("generator_optimizer", 1), ("critic_optimizer", config.game.critic_steps)):
        o = getattr(config, name)
        rate = players.SCHEDULES[o.schedule](o.learning_rate, o.final, updates * config.horizon)
        values[f"{name}.learning_rate"] = float(rate(updates * step))
    if config.penalty.names:
        share = penalties.SCHEDULES[config.penalty.schedule](jnp.asarray(t))
        values["penalty.weight"] = config.penalty.weight * float(share)
    if not divergence(config.divergence).smooth:
        values["game.smoothing"] = _between(config.game.smoothing, t)
    if config.instance_noise.start:
        values["instance_noise.overlap"] = _between(config.instance_noise.overlap, t)
    rise = ANNEALING[config.vae.annealing](config.horizon, config.vae.rise, config.vae.cycles)
    values["vae.weight"] = config.vae.weight * float(rise(step))
    unused = {*UNUSED.get(config.model, ())}
    return {name: value for name, value in values.items() if not {name, name.split(".")[0]} & unused}


def moved(before: Config, now: Config, step: int) -> str:
    """One line on what changes in `step` of a run that has trained as `before` and goes on as `now`; "" for nothing."""
    old, new = scheduled(before, step), scheduled(now, step)
    changes = [
        f"{name} {old[name]:.3g} → {new[name]:.3g}"
        for name in new
        if not math.isclose(new[name], old[name], rel_tol=1e-6)
    ]
    if not changes:
        return ""
    return (
        f"schedules are spread over {now.horizon} steps now, over {before.horizon} before: at step {step} "
        f"{', '.join(changes)}. --schedule-steps {before.horizon} leaves them as they were, constant after their end"
    )


def _between(ends: tuple[float, float], t: float) -> float:
    """From the first to the last at a constant rate, a share t of the way."""
    first, last = ends
    return first * (last / first) ** t

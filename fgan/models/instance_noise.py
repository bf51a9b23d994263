"""Instance noise: D_f between both measures, each with one Gaussian noise added, whose deviation the game itself sets.

Between samples of disjoint supports every critic is either blind or unbounded. With noise N(0, s²I), data P and model Q
have densities on one support, and D_f(P∗N‖Q∗N) = 0 still holds exactly where P = Q (Zhang, Hayes, Bird, Habib,
Barber 2020, Spread divergence, section 2), so s needs no limit of 0.

The standard deviation s follows the divergence that remains: with b the running mean of the critic's bound over f''(1),
the unit in which all f-divergences agree near P = Q,

    log s ← log s + rate·clip(b/overlap − 1, −1, 1),      end ≤ s ≤ start.

While the two measures stay close, s falls; where the generator cannot follow, s waits or rises. Log-ratios thus stay
within some tenths of a nat while modes separate, one by one as the noise fades, instead of being captured or missed.
`overlap` relaxes over the training from its first to its second value: what remains at last, samples between modes,
must not keep the detail within them from being learned.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fgan.config import schema

MEMORY = 0.98
"""Of the running mean of the bound, a step: its last fifty bounds. `benchmarks.ablation` would show a change."""


class NoiseState(NamedTuple):
    """The noise of a step: s in the units of the networks' inputs, and b, the running mean of the bound over f''(1)."""

    standard_deviation: jax.Array
    bound: jax.Array


@dataclass(frozen=True, kw_only=True)
class InstanceNoise:
    """How the noise goes from its first to its last standard deviation."""

    start: float  # the largest standard deviation, where training begins
    end: float  # the smallest
    overlap: tuple[float, float]  # the bound, over f''(1), that the noise is held at, in the first and in the last step
    fall: float  # steps from start to end if nothing holds it up
    steps: int  # critic updates of the training

    def init(self) -> NoiseState:
        """The noise of the first step."""
        return NoiseState(jnp.asarray(self.start, jnp.float32), jnp.asarray(self.overlap[0], jnp.float32))

    def rescaled(self, x: jax.Array, noise: NoiseState) -> jax.Array:
        """Points with noise as the critic takes them, x/√(1 + s²) if `start` is above 1, else x: [b, d] → [b, d].

        In many dimensions only noise near the distance of modes joins them, √d times the deviation 1 of a coordinate.
        """
        return x / jnp.sqrt(1.0 + noise.standard_deviation**2) if self.start > 1.0 else x

    def follow(self, noise: NoiseState, bound: jax.Array, step: jax.Array) -> NoiseState:
        """The noise after the critic update `step`, whose bound over f''(1) was `bound`."""
        rate = math.log(self.start / self.end) / self.fall
        first, last = self.overlap
        overlap = first * (last / first) ** jnp.clip(step / self.steps, 0.0, 1.0)
        smooth = MEMORY * noise.bound + (1.0 - MEMORY) * bound
        pull = jnp.clip(smooth / overlap - 1.0, -1.0, 1.0)
        return NoiseState(jnp.clip(noise.standard_deviation * jnp.exp(rate * pull), self.end, self.start), smooth)


def instance_noise(config: schema.InstanceNoise, updates: int) -> InstanceNoise | None:
    """The noise that `config` describes in a training of so many critic updates; None for none."""
    if not config.start:
        return None
    fall = config.fall * updates
    return InstanceNoise(start=config.start, end=config.end, overlap=config.overlap, fall=fall, steps=updates)

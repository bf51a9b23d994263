"""Spread divergences: D_f between both measures blurred by one Gaussian noise, whose level the game leads by itself.

Between samples of disjoint supports every critic is either blind or unbounded. Blurred by N(0, s²I), data P and model
Q have densities on one support, and D_f(P∗N‖Q∗N) = 0 still holds exactly where P = Q (Zhang, Hayes, Bird,
Habib, Barber 2020, Spread divergence, section 2), so s needs no limit of 0.

The level follows the divergence it leaves: with b the running mean of the critic's bound over f''(1), in which unit all
f-divergences agree near P = Q,

    log s ← log s + rate·clip(b/overlap − 1, −1, 1),      end ≤ s ≤ start.

While the two stay close, s falls; where the generator cannot follow, s waits or rises. Log-ratios thus stay within
some tenths of a nat while modes part, one by one as the blur lifts, instead of being found or missed. `overlap` relaxes
over the training from its first to its second value: what remains at last, samples between modes, must not keep the
detail within them from being learned.

Layer 4: imports jax only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

MEMORY = 0.98  # of the running mean of the bound, a step


class Blur(NamedTuple):
    """The noise of a step.

    Attributes:
        level: s, its standard deviation along every axis, in the units the networks see.
        bound: the running mean of the critic's bound on D_f, over f''(1).
    """

    level: jax.Array
    bound: jax.Array


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the level of the noise is led.

    Attributes:
        start, end: the largest level, where training begins, and the smallest.
        overlap: the bound, over f''(1), that the level is held at, in the first and in the last step.
        fall: steps from start to end if nothing holds it up.
        steps: critic updates of the training.
    """

    start: float
    end: float
    overlap: tuple[float, float]
    fall: float
    steps: int

    def seen(self, x: jax.Array, blur: Blur) -> jax.Array:
        """Blurred points as the critic sees them, x/√(1 + s²) if `start` is above 1, else x: [b, d] → [b, d].

        In many dimensions only noise near the distance of modes joins them, √d times the deviation 1 of a coordinate.
        """
        return x / jnp.sqrt(1.0 + blur.level**2) if self.start > 1.0 else x

    def init(self) -> Blur:
        """The blur before the first step."""
        return Blur(jnp.asarray(self.start, jnp.float32), jnp.asarray(self.overlap[0], jnp.float32))

    def follow(self, blur: Blur, bound: jax.Array, step: jax.Array) -> Blur:
        """The blur after the critic update `step`, whose bound over f''(1) was `bound`."""
        rate = math.log(self.start / self.end) / self.fall
        first, last = self.overlap
        overlap = first * (last / first) ** jnp.clip(step / self.steps, 0.0, 1.0)
        smooth = MEMORY * blur.bound + (1.0 - MEMORY) * bound
        pull = jnp.clip(smooth / overlap - 1.0, -1.0, 1.0)
        return Blur(jnp.clip(blur.level * jnp.exp(rate * pull), self.end, self.start), smooth)

"""What every distribution of this room but `Mixture` and `Curve` offers: a sampler and an exact log density.

They take and return NumPy float64 arrays; log densities are in nats. SciPy's frozen distributions do the work. A
distribution that holds arrays compares by identity, so that one object is one entry of a cache.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Distribution(Protocol):
    """A distribution on ℝ^d that can be sampled and evaluated."""

    @property
    def dim(self) -> int:
        """d."""

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n independent points [n, d], float64."""

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log density [n] at x [n, d], nats; −inf outside the support."""

    def __hash__(self) -> int: ...

"""The Gaussian distribution with a full covariance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy

from estimators.distributions.elliptical import Elliptical


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Elliptical):
    """N(location, scatter) on ℝ^d in NumPy float64, the scatter being its covariance.

    `examples.normal` is its isotropic relative in jax, for training.
    """

    @cached_property
    def law(self) -> Any:
        return scipy.stats.multivariate_normal(self.location, scipy.stats.Covariance.from_cholesky(self.factor))

    def entropy(self) -> float:
        """½ log |2πe S|, nats."""
        return 0.5 * self.dim * (1.0 + math.log(2.0 * math.pi)) + float(np.log(np.diagonal(self.factor)).sum())

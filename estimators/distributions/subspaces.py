"""Mixtures of Gaussians, each in a subspace of its own: the high-dimensional target of mode capture.

Ten Gaussians of dimension 700 in R^1200 are the third synthetic set of Srivastava, Valkov, Russell, Gutmann, Sutton
2017 (VEEGAN, section 4.1). Neither the paper nor its authors' page and repository give their widths, means or
subspaces. Chosen here:

    subspaces   spanned by QR of Gaussian matrices: independent, uniformly distributed
    means       the corners of a regular simplex around 0 in a random orientation, `separation` radii σ√rank apart
    noise       none: a mode has no density in R^dim, and every sample lies in its subspace but for rounding

Only separation·√rank, the distance over σ, is free, since networks work in standardised units. At 10 radii that
distance is 347 times the standard deviation of a mode along a random direction, and the means have 5.1 σ a coordinate.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, kw_only=True)
class SubspaceMixture:
    """The law of x = m_k + σ z B_k with k uniform and z ~ N(0, I) of dimension `rank`.

    Equal fields make equal laws; everything else is generated from `seed` when it is first needed, and never stored.

    The separation is the distance between any two means, over σ√rank.
    """

    modes: int = 10  # K, at most `dim`
    dim: int = 1200
    rank: int = 700  # dimension of every mode, below `dim`
    sigma: float = 1.0  # standard deviation of every mode along every direction of its subspace
    separation: float = 10.0
    seed: int = 0  # of means and bases

    def __post_init__(self):
        if not (1 <= self.modes <= self.dim and 1 <= self.rank < self.dim):
            raise ValueError(f"modes = {self.modes}, rank = {self.rank}: must be positive, dim = {self.dim} above rank")
        if not (0 < self.sigma < math.inf and 0 <= self.separation < math.inf):
            raise ValueError(f"sigma = {self.sigma}, separation = {self.separation}: must be positive and finite")

    @property
    def radius(self) -> float:
        """σ√r, the root-mean-square distance of a sample from its mean."""
        return self.sigma * math.sqrt(self.rank)

    @property
    def deviation(self) -> float:
        """√(E‖x‖²/d), the standard deviation of x along the average axis; E x = 0."""
        of_means = 0.5 * self.separation**2 * (1.0 - 1.0 / self.modes)
        return self.radius * math.sqrt((1.0 + of_means) / self.dim)

    @cached_property
    def means(self) -> np.ndarray:
        """m: [K, d], a regular simplex around 0."""
        corners = _orthonormal([self.seed], self.modes, self.dim)
        return self.separation * self.radius / math.sqrt(2.0) * (corners - corners.mean(axis=0))

    @cached_property
    def bases(self) -> np.ndarray:
        """B: [K, r, d], the rows of each orthonormal."""
        return np.stack([_orthonormal([self.seed, 1 + k], self.rank, self.dim) for k in range(self.modes)])

    @cached_property
    def plane(self) -> np.ndarray:
        """[d, 2] orthonormal axes of a plane where the means lie on a circle, one after the other, K >= 3."""
        angles = 2.0 * np.pi * np.arange(self.modes) / self.modes
        axes = self.means.T @ np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return axes / np.linalg.norm(axes, axis=0)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        labels, z = rng.integers(self.modes, size=n), rng.standard_normal((n, self.rank))
        x = self.means[labels]
        for k, basis in enumerate(self.bases):
            x[labels == k] += self.sigma * z[labels == k] @ basis
        return x


def _orthonormal(seed: list[int], n: int, dim: int) -> np.ndarray:
    """[n, dim] with orthonormal rows, in uniformly random orientation: Q of a Gaussian's QR."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, n)))[0].T


SUBSPACES: dict[str, SubspaceMixture] = {"high_dimensional": SubspaceMixture()}
"""Every mixture in subspaces by the name that a config gives it."""

"""Density and coverage of two sets of samples: precision and recall that outliers do not move."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from fgan.scores.precision_recall import blocks, radii, same_dimension

NEIGHBOURS = 5
"""Of the paper, section 4.3: the least number with an expected coverage above .95 where both laws are equal."""


class DensityCoverage(NamedTuple):
    """How densely fakes lie among reals, and the share of reals with a fake near; see `density_coverage`."""

    density: float
    coverage: float


def density_coverage(
    features_real: ArrayLike, features_fake: ArrayLike, *, neighbours: int = NEIGHBOURS
) -> DensityCoverage:
    """Density Σ_ij 1[y_j ∈ B_i] / (k m) and coverage Σ_i 1[some y_j ∈ B_i] / n of fakes y [m, d] and reals x [n, d].

    The ball B_i around x_i reaches to its k-th nearest neighbour among the other reals, k = `neighbours`. Density is
    about 1 where both laws are equal, and may exceed 1; coverage is then `expected_coverage(n, m, k)`.

    Raises:
        ValueError: not finite, not of one dimension, or neighbours not in 1, …, n − 1.

    Source: Naeem, Oh, Uh, Choi, Yoo 2020, 'Reliable fidelity and diversity metrics for generative models', section 3.
    """
    real, fake = same_dimension(features_real=features_real, features_fake=features_fake)
    if not 1 <= neighbours < len(real):
        raise ValueError(f"neighbours must be at least 1 and below the {len(real)} real samples, got {neighbours}")
    radius = radii(real, neighbours)
    inside = np.concatenate([(cdist(real[b], fake) <= radius[b, None]).sum(axis=1) for b in blocks(len(real))])
    return DensityCoverage(float(inside.mean() / neighbours * len(real) / len(fake)), float((inside > 0).mean()))


def expected_coverage(n: int, m: int, neighbours: int = NEIGHBOURS) -> float:
    """1 − Π_{i<k} (n − 1 − i)/(n + m − 1 − i): the mean coverage of n reals by m fakes of the same continuous law.

    A real is not covered if its k nearest among the other n − 1 reals and the m fakes are all reals.

    Source: lemma 2 of the same paper, there for n = m.

    >>> round(expected_coverage(1000, 1000), 3)
    0.969
    """
    i = np.arange(neighbours)
    return float(1.0 - np.prod((n - 1 - i) / (n + m - 1 - i)))

"""Scores on noisy curves in the plane: how near samples are, how evenly they follow the curve, and how wide."""

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from estimators.distributions.curves import Curve
from fgan.scores.histograms import histogram_kl
from fgan.scores.modes import width_ratio
from fgan.scores.points import same_dimension

CURVE_BINS = 20
"""Pieces of a curve, equally likely under its law, over which its coverage is counted."""


class CurveScores(NamedTuple):
    """How samples follow a noisy curve; see `curve_scores`."""

    high_quality: float
    kl: float
    kl_floor: float
    width_ratio: float
    log_density: float


def curve_scores(samples: ArrayLike, curve: Curve, *, radius: float = 3.0) -> CurveScores:
    """Quality and coverage of samples from a noisy curve, each sample scored by the nearest point of the curve.

    Args:
        samples: [n, 2], n >= 1.
        curve: the law; its bends are wide on the scale of its sigma.
        radius: in units of sigma.

    Returns:
        high_quality: share within `radius` sigma of the curve. A perfect sampler reaches that of the noise across the
            curve, `perfect_high_quality(1, radius)`, less about 1e-4 for the bends and ends.
        kl, kl_floor: `histogram_kl` of the high-quality samples over `CURVE_BINS` pieces of the curve against uniform.
        width_ratio: as in `mode_scores`, across the curve; below 1 too narrow.
        log_density: mean of log p over the samples, nats; −H(p) for a perfect sampler. KL(samples‖p) is
            −H(samples) − log_density.

    Raises:
        ValueError: not finite, not in the plane, or radius not positive.
    """
    points, _ = same_dimension(samples=samples, plane=np.zeros((1, 2)))
    if not 0 < radius < np.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    distance, position = curve.nearest(points)
    good = distance <= radius * curve.sigma
    counts = np.histogram(position[good], CURVE_BINS, (0.0, 1.0))[0]
    kl, floor = histogram_kl(counts, np.ones(CURVE_BINS))
    with jax.enable_x64(True):
        log_density = float(np.mean(curve.log_prob(points)))
    width = width_ratio(distance / curve.sigma, np.zeros(len(points), int), 1, 1)
    return CurveScores(float(good.mean()), kl, floor, float(width[0]), log_density)

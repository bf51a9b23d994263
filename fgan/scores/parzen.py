"""The Parzen log-likelihood: that of test points under Gaussian kernels on samples, the bandwidth by validation points.

    log p(x) = log (1/n) Σ_j N(x | s_j, σ² I)

It measures how near samples come to test points rather than a density: in hundreds of dimensions even samples of the
very law are far from enough (Theis, van den Oord, Bethge 2016, section 3.3). It means something beside that of as many
real samples.
"""

from collections.abc import Iterator

import numpy as np
import scipy.optimize
from numpy.typing import ArrayLike

from fgan.scores.precision_recall import same_dimension

BLOCK = 256
"""Points whose distances to all samples are in memory at once: 34 MB for 16,384 samples."""
GRID = 16
"""Bandwidths that are tried before the best is refined: neighbours differ by less than a factor of 2 where the bounds
are within a factor of 10,000, and the log-likelihood of images has one maximum between its bounds."""
TOLERANCE = 1e-4
"""Of log σ. The log-likelihood is flat at its best: 784 dimensions lose 784 · 1e-8 nats."""


def log_density(points: ArrayLike, samples: ArrayLike, bandwidth: float) -> np.ndarray:
    """[k] log-density in nats at points [k, d] of the kernel density on samples [n, d], in float64.

    Args:
        bandwidth: σ, the standard deviation of the kernel in each coordinate, in units of the points.

    Raises:
        ValueError: not finite, not of one dimension, or a bandwidth that is not positive and finite.

    >>> log_density([[0.0]], [[0.0], [0.0]], 1.0).round(6)      # −½ log 2π
    array([-0.918939])
    """
    points, samples = same_dimension(points=points, samples=samples)
    if not 0.0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth = {bandwidth}: must be positive and finite")
    found = (_of_squares(squares, bandwidth, points.shape[1]) for squares in _squares(points, samples))
    return np.concatenate(list(found))


def best_bandwidth(validation: ArrayLike, samples: ArrayLike) -> float:
    """The σ that maximises the mean log-density of validation points [k, d] under the kernel density on samples [n, d].

    At a maximum σ² d is a weighted mean of squared distances between validation points and samples, so that it lies
    between the mean of the least and the mean of all of them: a grid between these bounds, then Brent's method.

    Raises:
        ValueError: as `log_density`, or every validation point is a sample, whose likelihood has no maximum.
    """
    validation, samples = same_dimension(validation=validation, samples=samples)
    dim = validation.shape[1]
    squares = np.concatenate(list(_squares(validation, samples)))
    low, high = (np.sqrt(of.mean() / dim) for of in (squares.min(axis=1), squares))
    if not low > 1e-6 * high:
        raise ValueError(
            "every validation point is one of the samples, so that the best bandwidth is 0: leave it out of them"
        )

    def loss(log_bandwidth: float) -> float:
        return -float(_of_squares(squares, float(np.exp(log_bandwidth)), dim).mean())

    grid = np.linspace(np.log(low), np.log(high), GRID) if high > low else np.array([np.log(low)])
    best = int(np.argmin([loss(value) for value in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    if bounds[0] == bounds[1]:
        return float(low)
    found = scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": TOLERANCE})
    return float(np.exp(found.x))


def _squares(points: np.ndarray, samples: np.ndarray) -> Iterator[np.ndarray]:
    """[b, n] squared distances of blocks of points [k, d] to samples [n, d]: ‖x‖² − 2 x·s + ‖s‖² about their mean.

    Right to 1e-15 of the norms, so that copies are apart by 1e-7 of a norm at most.
    """
    centre = samples.mean(axis=0)
    points, samples = points - centre, samples - centre
    norms = np.sum(samples**2, axis=1)
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        squares = block @ samples.T
        squares *= -2.0
        squares += norms
        squares += np.sum(block**2, axis=1)[:, None]
        yield np.maximum(squares, 0.0, out=squares)


def _of_squares(squares: np.ndarray, bandwidth: float, dim: int) -> np.ndarray:
    """[b] log-density at points of squared distances [b, n] to the samples."""
    precision = 0.5 / bandwidth**2
    least = squares.min(axis=1)
    kernels = least[:, None] - squares  # at most 0, and 0 at the nearest sample, so that the sum is 1 at least
    kernels *= precision
    np.exp(kernels, out=kernels)
    return np.log(kernels.mean(axis=1)) - precision * least - 0.5 * dim * np.log(2.0 * np.pi * bandwidth**2)

"""The Fréchet distance of two sets of samples: Wasserstein's between the Gaussians of their means and covariances."""

import numpy as np
from numpy.typing import ArrayLike

from fgan.scores.precision_recall import same_dimension


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """W₂² = ‖μx − μy‖² + tr Σx + tr Σy − 2 tr (Σx^½ Σy Σx^½)^½ of x [n, d] and y [m, d], in squared units of theirs.

    Means and covariances are those of the samples, which may be singular. The value of two sets of one law is positive,
    about 1/n + 1/m times a constant of that law: it means something only beside that of two sets of real samples, as
    large.

    Raises:
        ValueError: not finite, not of one dimension, or fewer than two samples in a set.

    Source: Dowson, Landau 1982; Heusel et al. 2017, with the features of another network.
    """
    x, y = same_dimension(x=x, y=y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"samples {x.shape} and {y.shape}: each set needs two samples or more for its covariance")
    factor_x, factor_y = _factor(x), _factor(y)
    # Singular values of a product of factors are the roots of the eigenvalues of Σx^½ Σy Σx^½, zeros aside.
    common = np.linalg.svd(factor_x @ factor_y.T, compute_uv=False).sum()
    apart = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2)
    return float(max(apart + np.sum(factor_x**2) + np.sum(factor_y**2) - 2.0 * common, 0.0))


def _factor(x: np.ndarray) -> np.ndarray:
    """F [min(n, d), d] with FᵀF the covariance of x [n, d]."""
    return np.asarray(np.linalg.qr((x - x.mean(axis=0)) / np.sqrt(len(x) - 1), mode="r"))

"""Kernel logistic regression: a cross-fitted log-ratio in seconds, without a network.

The model is log p/q = θ₀ + Σ_l θ_l exp(−‖z − c_l‖²/2σ²) with Gaussian kernels at rows of both sets, z whitened. Its
coefficients maximise the logistic likelihood, a concave problem that Newton's steps solve; width σ and ridge are those
under which the validation rows are most likely. Rows are cut as for the neural critic, and plugged in as its are.

Least squares of the ratio itself with these kernels (uLSIF: Kanamori, Hido & Sugiyama 2009) were not kept: they lose
half of every divergence in 5 dimensions (KL 0.29 for 0.63 at n = 2000, where this gives 0.62).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist, pdist

from estimators.contract import Fit, Request
from estimators.density_ratio.folds import CrossFit, HeldOut, blocks, cross_fits, subsample
from estimators.density_ratio.plug_in import plug_in
from estimators.density_ratio.references import logistic
from estimators.density_ratio.whitening import Whitening

METHODS = {"ratio": "kernel logistic regression: fast, without a network"}
CENTRES = 50  # kernels at rows of either set
WIDTHS = (0.5, 1.0, 2.0, 4.0)  # of a kernel, in median distances between centres
RIDGES = (1e-2, 1e-1, 1.0)  # weight of ½‖θ‖², in rows
MOST = 5000  # rows a side that train, or validate, one fit


@dataclass(frozen=True, eq=False)
class Kernels:
    """Rows [k, d] → features [k, 1 + centres]: 1, and exp(−‖z − c‖²/2σ²) of the whitened row z at each centre c."""

    space: Whitening
    centres: np.ndarray
    width: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        squares = cdist(self.space(rows), self.centres, "sqeuclidean")
        return np.concatenate([np.ones((len(rows), 1)), np.exp(-0.5 * squares / self.width**2)], axis=1)


@dataclass(frozen=True, eq=False)
class KernelRatio:
    """Rows [k, d] → log p/q [k], with the width in median distances and the ridge that validation chose."""

    kernels: Kernels
    theta: np.ndarray
    width: float
    ridge: float

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.kernels(rows) @ self.theta


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from one set of cross-fitted kernel log-ratios.

    Raises DataError: fewer than ten rows a side, or groups that do not spread.
    """
    request.require_numbers()
    return plug_in(request, cross_fit(request))


def cross_fit(request: Request) -> HeldOut:
    """Log-ratios of every row from two fits that never saw it."""
    parts = cross_fits(blocks(len(request.x), len(request.y), request.seed, request.groups))
    rng = np.random.default_rng(request.seed)
    fits = [fit(request.x, request.y, part, rng) for part in parts]
    chosen = {"widths": [f.width for f in fits], "ridges": [f.ridge for f in fits]}
    return HeldOut.of(request, parts, fits)._replace(diagnostics=chosen)


def fit(x: np.ndarray, y: np.ndarray, part: CrossFit, rng: np.random.Generator) -> KernelRatio:
    """The log-ratio trained on `part.train`, of the width and ridge that make `part.validation` likeliest."""
    sides = (x, part.train.p), (y, part.train.q), (x, part.validation.p), (y, part.validation.q)
    p, q, other_p, other_q = (rows[subsample(index, MOST, rng)] for rows, index in sides)
    offset = math.log(len(p) / len(q))
    space = Whitening.fit(p, q)
    centres = np.concatenate([rng.permutation(space(rows))[:CENTRES] for rows in (p, q)])
    unit = float(np.median(pdist(centres))) or 1.0  # mostly repeated rows: the unit of whitened rows
    best, chosen = math.inf, None
    for width in WIDTHS:
        kernels = Kernels(space, centres, width * unit)
        phi_p, phi_q, new_p, new_q = (kernels(rows) for rows in (p, q, other_p, other_q))
        origin = [0.0] * phi_p.shape[1]
        for ridge in RIDGES:
            theta = logistic(phi_p, phi_q, start=origin, ridge=[1e-6] + [ridge] * (len(origin) - 1)).theta
            surprise = np.logaddexp(0.0, -(new_p @ theta + offset)).sum()
            surprise += np.logaddexp(0.0, new_q @ theta + offset).sum()
            if surprise < best:
                best, chosen = surprise, KernelRatio(kernels, theta, width, ridge)
    assert chosen is not None
    return chosen

"""Mutual information by nearest neighbours, the classical estimate: of few columns, whatever their dependence.

    Î = ψ(k) + ψ(n) − mean_i [ψ(a_i + 1) + ψ(b_i + 1)],

a_i and b_i the rows whose x, or whose z, lies strictly within the distance of row i to its k-th neighbour in (x, z),
by the largest difference of a coordinate. It assumes columns without repeated values: with many of them it is far too
large. Of strong dependence it misses some, and is then too small.
Source: Kraskov, Stögbauer, Grassberger 2004, equation 8.
"""

import math

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import digamma

MOST = 20_000  # rows: of more, those near in one variable alone are too many to count
NEIGHBOURS = 3  # what the paper proposes, between bias and variance


def kraskov(x: np.ndarray, z: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """(I(X; Z) in nats from pairs x [n, d_x], z [n, d_z], not below 0; its standard error).

    Each column is scaled to deviation 1. The error is that of a mean of n terms, which depend on each other little. Of
    more than `MOST` rows so many are used, evenly.
    """
    x, z = (rows[:: -(-len(rows) // MOST)] for rows in (x, z))
    sides = [rows / np.maximum(rows.std(axis=0), np.finfo(float).tiny) for rows in (x, z)]
    joint = np.concatenate(sides, axis=1)
    n, k = len(joint), min(k, len(joint) - 1)
    radii = cKDTree(joint).query(joint, k + 1, p=np.inf)[0][:, -1]
    within = np.nextafter(radii, 0.0)  # strictly
    counts = [cKDTree(rows).query_ball_point(rows, within, p=np.inf, return_length=True) for rows in sides]
    terms = digamma(k) + digamma(n) - digamma(counts[0]) - digamma(counts[1])
    return max(float(terms.mean()), 0.0), float(terms.std(ddof=1)) / math.sqrt(n)

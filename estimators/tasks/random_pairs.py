"""Pairs (X, Z) drawn at random, with exact mutual information: for the average over laws rather than one law at a time.

A law is a family, its parameters, and a map of each coordinate, all drawn from a seed. Gaussian pairs have information
uniform on [0, 2] nats, the range of the forty tasks of Beyond Normal; heavy tails and shared scales add to it. In two
and four dimensions a third of the laws are from the forty. Families and maps are those of the setting for small
samples of Gritsai et al. 2025 (MIST: 10 to 500 rows, 2 to 32 dimensions), re-implemented. Nats, float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import special

from estimators.distributions.elliptical import Gaussian, StudentT
from estimators.distributions.product import AdditiveNoise
from estimators.divergences.generator import identity
from estimators.tasks.divergence_tasks import Points
from estimators.tasks.mutual_information_tasks import (
    MUTUAL_INFORMATION_TASKS,
    MutualInformationTask,
    half_cube,
    wiggly_x,
    wiggly_y,
)
from estimators.tasks.products_of_pairs import copies_of

MOST = 2.0  # nats between Gaussian pairs
FROM_THE_FORTY = 1.0 / 3.0  # share of the laws, in dimensions that they have
DEGREES = (2.0, 3.0, 5.0, 10.0)  # of freedom
NOISES = 0.1, 1.5  # least and most half-width of uniform noise: 1.7 and 0.17 nats a pair
LEAST_OF_MANY = 0.5  # half-width of the noise of more than two pairs: at most half a nat each


# --- families: (random numbers, k) → the joint law of k + k coordinates ----------------------------------------------
def of_cross_covariance(cross: np.ndarray) -> np.ndarray:
    """The covariance with unit blocks for X and for Z, and `cross` [k, k] between them."""
    alone = np.eye(len(cross))
    return np.block([[alone, cross], [cross.T, alone]])


def correlation(information: float) -> float:
    """The canonical correlation of so many nats, √(1 − e^{−2I})."""
    return math.sqrt(-math.expm1(-2.0 * information))


def dense(rng: np.random.Generator, k: int) -> np.ndarray:
    """One correlation ρ between all coordinates: the sums of X and of Z are the only canonical pair."""
    r = correlation(rng.uniform(0.0, MOST))
    rho = r / (k - (k - 1) * r)
    return (1.0 - rho) * np.eye(2 * k) + rho


def latent(rng: np.random.Generator, k: int) -> np.ndarray:
    """x = a u + e and z = b u + e', u one hidden factor, with a and b in random directions of one length; then each
    coordinate is scaled to variance 1."""
    r = correlation(rng.uniform(0.0, MOST))
    directions = rng.standard_normal((2, k))
    a, b = math.sqrt(r / (1.0 - r)) * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    loading = np.concatenate([a, b])
    scatter = np.eye(2 * k) + np.outer(loading, loading)
    deviations = np.sqrt(np.diag(scatter))
    return scatter / np.outer(deviations, deviations)


def sparse(rng: np.random.Generator, k: int) -> np.ndarray:
    """A random number of correlated pairs (x_j, z_j), which share the information at random."""
    return _in_pairs(rng, k, int(rng.integers(1, k + 1)))


def two_pairs(rng: np.random.Generator, k: int) -> np.ndarray:
    """Two correlated pairs (one, where there is one), the other coordinates noise."""
    return _in_pairs(rng, k, min(2, k))


def rotated(rng: np.random.Generator, k: int) -> np.ndarray:
    """`sparse`, X and Z each turned at random, so that no coordinate shows a pair."""
    turns = [np.linalg.qr(rng.standard_normal((k, k)))[0] for _ in "xz"]
    pairs = np.diag(_in_pairs(rng, k, int(rng.integers(1, k + 1)))[:k, k:])
    return of_cross_covariance(turns[0] @ (pairs[:, None] * turns[1].T))


def _in_pairs(rng: np.random.Generator, k: int, count: int) -> np.ndarray:
    shares = rng.dirichlet(np.ones(count)) * rng.uniform(0.0, MOST)
    return of_cross_covariance(np.diag([correlation(share) for share in shares] + [0.0] * (k - count)))


STRUCTURES: Mapping[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "dense": dense,
    "latent": latent,
    "sparse": sparse,
    "two_pairs": two_pairs,
    "rotated": rotated,
}
"""Name → how a covariance of k + k coordinates is drawn."""
MAPS: Mapping[str, tuple[Points, Points]] = {
    "plain": (identity, identity),
    "half_cube": (half_cube, half_cube),
    "asinh": (np.arcsinh, np.arcsinh),
    "wiggly": (wiggly_x, wiggly_y),
    "normal_cdf": (special.ndtr, special.ndtr),
}
"""Name → the maps of each coordinate of X, and of Z; the last for Gaussian ones only, since it is 1 to float64 at 8.3
deviations and more, where heavy tails have rows."""


def random_pair(d: int, seed: int) -> MutualInformationTask:
    """The law of X and Z, d/2 coordinates each, that belongs to the seed.

    >>> task = random_pair(8, 3)
    >>> x, z = task.sample(0, 50)
    >>> x.shape == z.shape == (50, 4)
    True

    Raises:
        ValueError: d is not an even number from 2 on.
    """
    if d < 2 or d % 2:
        raise ValueError(f"{d} dimensions: X and Z have d/2 each, so give an even number from 2 on")
    rng, k = np.random.default_rng([d, seed]), d // 2
    known = [task for task in MUTUAL_INFORMATION_TASKS.values() if task.dim_x == task.dim_y == k]
    if k <= 2 and rng.random() < FROM_THE_FORTY:
        return known[int(rng.integers(len(known)))]
    family = str(rng.choice(["normal", "student", "additive"], p=[0.55, 0.35, 0.1]))
    if family == "additive":
        noise = math.exp(rng.uniform(math.log(NOISES[0]), math.log(NOISES[1])))
        law = AdditiveNoise(epsilon=noise if k <= 2 else max(noise, LEAST_OF_MANY))
        return copies_of(f"additive-{k}-{k}-seed{seed}", law, k).under("wiggly", *MAPS["wiggly"])
    changes = str(rng.choice(list(MAPS)[: None if family == "normal" else -1]))
    name, joint = _elliptical(rng, family, k)
    plain = MutualInformationTask(name=f"{name}-{k}-{k}-seed{seed}", joint=joint, split=k, dim_x=k, dim_y=k)
    return plain if changes == "plain" else plain.under(changes, *MAPS[changes])


def _elliptical(rng: np.random.Generator, family: str, k: int) -> tuple[str, Gaussian | StudentT]:
    """(the family and structure in words, the law)."""
    structure = str(rng.choice(list(STRUCTURES)))
    scatter = STRUCTURES[structure](rng, k)
    if family == "normal":
        return f"normal-{structure}", Gaussian(location=np.zeros(2 * k), scatter=scatter)
    df = float(rng.choice(DEGREES))
    return f"student{df:g}-{structure}", StudentT(location=np.zeros(2 * k), scatter=scatter, df=df)

"""Tasks of independent scalar pairs: X = (X₁, …, X_k) and Z = (Z₁, …, Z_k), I(X; Z) = k I(X₁; Z₁).

Two groups, every truth in closed form:

products      copies of three pairs, as they are and after a fixed rotation of X and another of Z
convergence   2 nats a pair, shared over 4, 8 and 64 pairs, under four margins: the grid of mutinfo

Source of the pairs and of the grid: the package mutinfo (github.com/VanessB/mutinfo). Nats, float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import special

from estimators.distributions.elliptical import Distribution
from estimators.distributions.pairs import GammaExponential, Joint, Pairs
from estimators.distributions.product import AdditiveNoise
from estimators.exact_values.truth import Truth
from estimators.tasks.divergence_tasks import Points, equal_correlation, gaussian
from estimators.tasks.mutual_information_tasks import MutualInformationTask, half_cube

NATS_A_PAIR = 2.0  # of the grid of convergence
SIZES = (4, 8, 64)  # pairs of that grid


def copies(name: str, law: Distribution, k: int, of_one: Callable[[], Truth]) -> MutualInformationTask:
    """k independent copies of a scalar pair; `of_one` gives the information of one."""

    def known() -> Truth:
        one = of_one()
        return Truth(k * one.value, k * one.standard_error, one.how)

    joint = Pairs(law=law, copies=k)
    return MutualInformationTask(name=name, joint=joint, split=k, dim_x=k, dim_y=k, known=known)


def copies_of(name: str, law: Joint, k: int) -> MutualInformationTask:
    """k independent copies of a scalar pair that knows its own information."""
    return copies(name, law, k, lambda: Truth(law.mutual_information(1), 0.0, "closed form"))


def rotation(d: int, seed: int) -> Points:
    """x → x R with one fixed orthogonal R [d, d], uniformly distributed: it keeps every information.

    R is Q of a Gaussian matrix's QR, its columns signed as the diagonal of the triangular factor (Mezzadri 2007).
    """
    q, r = np.linalg.qr(np.random.default_rng([seed, d]).standard_normal((d, d)))
    turn = q * np.sign(np.diagonal(r))
    return lambda x: x @ turn


def rotated(task: MutualInformationTask) -> MutualInformationTask:
    """The same pair after one fixed rotation of X and another of Z."""
    return task.under("rotated", rotation(task.dim_x, 0), rotation(task.dim_y, 1))


# --- products --------------------------------------------------------------------------------------------------------
def _products() -> Iterator[MutualInformationTask]:
    plain = [
        copies_of("uniform-noise-4-0.25", AdditiveNoise(epsilon=0.25), 4),
        copies_of("uniform-noise-8-0.1", AdditiveNoise(epsilon=0.1), 8),
        copies_of("gamma-exponential-8-0.5", GammaExponential(shape=0.5), 8),
    ]
    yield from plain
    yield from map(rotated, plain)


PRODUCTS_OF_PAIRS: dict[str, MutualInformationTask] = {task.name: task for task in _products()}
"""Products of scalar pairs, as they are and rotated: kind, pairs, parameter of the pair."""


# --- convergence -----------------------------------------------------------------------------------------------------
def correlation(nats: float) -> float:
    """ρ of two Gaussian variables of that information: −½ log(1 − ρ²) = nats."""
    return math.sqrt(-math.expm1(-2.0 * nats))


def noise(nats: float) -> float:
    """ε of `AdditiveNoise` of that information, at least ½ nat: ε − log 2ε = nats, by Lambert's W."""
    return -float(np.real(special.lambertw(-0.5 * math.exp(-nats))))


def _convergence() -> Iterator[MutualInformationTask]:
    """The margins of a Gaussian pair: normal, uniform, heavier; and a uniform variable with uniform noise."""
    pair = gaussian(2, covariance=equal_correlation(2, correlation(NATS_A_PAIR)))
    smoothed = AdditiveNoise(epsilon=noise(NATS_A_PAIR))
    for k in SIZES:
        normal = copies_of(f"correlated-normal-{k}", pair, k)
        yield normal
        yield _named(normal, f"correlated-uniform-{k}", special.ndtr)
        yield _named(normal, f"correlated-half-cube-{k}", half_cube)
        yield copies_of(f"smoothed-uniform-{k}", smoothed, k)


def _named(task: MutualInformationTask, name: str, margin: Points) -> MutualInformationTask:
    """The same pairs with another margin, under a name of its own."""
    return replace(task.under("", margin, margin), name=name)


CONVERGENCE: dict[str, MutualInformationTask] = {task.name: task for task in _convergence()}
"""2k nats in k pairs: margins, then k. The names of the laws are those of mutinfo, but for the half-cubes."""

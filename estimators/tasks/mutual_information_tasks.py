"""Dependent pairs (X, Z) whose mutual information is known: forty tasks, and the staircase of Gaussian pairs.

The forty are those of Czyż, Grabowski, Vogt, Beerenwinkel, Marx 2023, Beyond Normal. A map of X alone and one of Z
alone change no truth. Nats, float64. `information_tasks` lists every such task.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy import special
from scipy.optimize import elementwise

from estimators.distributions.elliptical import Distribution, Gaussian
from estimators.distributions.pairs import Joint
from estimators.distributions.product import AdditiveNoise
from estimators.divergences.generator import identity
from estimators.exact_values.truth import Truth
from estimators.tasks.divergence_tasks import Points, equal_correlation, gaussian, spiral, student


@dataclass(frozen=True, kw_only=True, eq=False)
class MutualInformationTask:
    """Dependent X and Z, each perhaps under its own invertible map, and the known I(X; Z)."""

    name: str  # the benchmark's own identifier
    joint: Distribution  # of both before the maps: a `Joint`, unless `known` is given
    split: int  # how many of its coordinates are X's
    dim_x: int  # coordinates of x, and of z, in a sample, after the maps
    dim_y: int
    map_x: Points = identity
    map_y: Points = identity
    known: Callable[[], Truth] | None = None  # I(X; Z), where `joint` itself does not say it

    @property
    def truth(self) -> Truth:
        """I(X; Z) in nats, its standard error, and how it was computed; the maps leave it as it is."""
        if self.known is not None:
            return self.known()
        return Truth(cast(Joint, self.joint).mutual_information(self.split), 0.0, "closed form")

    @property
    def mutual_information(self) -> float:
        """I(X; Z), nats: the value of `truth`."""
        return self.truth.value

    def sample(self, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """n pairs (x [n, dim_x], z [n, dim_y]), float64."""
        stream = np.random.SeedSequence([seed, zlib.crc32(self.name.encode())])
        points = self.joint.sample(np.random.default_rng(stream), n)
        return self.map_x(points[:, : self.split]), self.map_y(points[:, self.split :])

    def under(self, prefix: str, map_x: Points, map_y: Points) -> MutualInformationTask:
        """The same pair under further maps, which keep its dimensions; its name after the prefix."""
        first_x, first_y = self.map_x, self.map_y
        return replace(
            self, name=f"{prefix}-{self.name}", map_x=lambda x: map_x(first_x(x)), map_y=lambda y: map_y(first_y(y))
        )


def staircase_pairs(
    rng: np.random.Generator, n: int, mutual_information: float, dim: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """(x, z), [n, dim] each: standard Gaussians correlated coordinate by coordinate, ρ² = 1 − e^{−2I/dim}.

    The mutual information I is in nats, of all coordinates together. Raises ValueError for a negative or infinite one.
    Source: Belghazi et al. 2018 (MINE), the staircase of Poole et al. 2019.
    """
    if not 0.0 <= mutual_information < math.inf:
        raise ValueError(f"mutual information {mutual_information} nats: give a finite number, at least 0")
    x, noise = rng.standard_normal((2, n, dim))
    rate = 2.0 * mutual_information / dim
    return x, math.sqrt(-math.expm1(-rate)) * x + math.exp(-0.5 * rate) * noise


# --- maps of X or of Z -----------------------------------------------------------------------------------------------
def half_cube(x: np.ndarray) -> np.ndarray:
    """sign(x) |x|^{3/2}."""
    return x * np.sqrt(np.abs(x))


def wiggly_x(x: np.ndarray) -> np.ndarray:
    """An increasing sum of x and sines; `wiggly_y` is another."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1.0) + 0.03 * np.sin(3.3 * x - 2.5)


def wiggly_y(x: np.ndarray) -> np.ndarray:
    """An increasing sum of x and sines."""
    return x - 0.4 * np.sin(0.4 * x) + 0.17 * np.sin(1.3 * x + 3.5) + 0.02 * np.sin(4.3 * x - 2.5)


def swiss_roll(u: np.ndarray) -> np.ndarray:
    """[0, 1] rolled up in the plane: [n, 1] → [n, 2]."""
    t = 1.5 * math.pi * (1.0 + 2.0 * u)
    return np.concatenate([t * np.cos(t), t * np.sin(t)], axis=1) / 21.0


def to_modes(weight: float, low: float, high: float) -> Points:
    """A standard normal coordinate → weight N(low, 1) + (1 − weight) N(high, 1), increasing, by bisection in Φ."""

    def excess(x, z):
        upper = weight * special.ndtr(low - x) + (1.0 - weight) * special.ndtr(high - x)
        lower = weight * special.ndtr(x - low) + (1.0 - weight) * special.ndtr(x - high)
        return np.where(z > 0.0, special.ndtr(-z) - upper, lower - special.ndtr(z))

    return lambda z: elementwise.find_root(excess, (z + low - 1e-9, z + high + 1e-9), args=(z,)).x


# --- the forty --------------------------------------------------------------------------------------------------------
def _two_pairs(d: int) -> np.ndarray:
    """Unit variances, correlation 0.8 between xᵢ and zᵢ for i = 1, 2 only."""
    scatter = np.eye(2 * d)
    for i in range(2):
        scatter[i, d + i] = scatter[d + i, i] = 0.8
    return scatter


def _jointly(name: str, joint: Joint) -> MutualInformationTask:
    half = joint.dim // 2
    return MutualInformationTask(name=name, joint=joint, split=half, dim_x=half, dim_y=half)


def _spiralled(task: MutualInformationTask) -> MutualInformationTask:
    speed = 1.0 / task.dim_x
    return task.under("spiral", spiral(speed, [(0, 1)]).forward, spiral(speed, [(1, 2)]).forward)


def _tasks() -> Iterator[MutualInformationTask]:
    """The forty of Czyż et al. 2023, re-implemented, in the order and under the identifiers of the published list."""
    binormal = _jointly("1v1-normal-0.75", Gaussian(location=np.zeros(2), scatter=equal_correlation(2, 0.75)))
    uniform = binormal.under("normal_cdf", special.ndtr, special.ndtr)
    cauchy = _jointly("student-identity-1-1-1", student(2, 1))
    yield from (binormal, uniform)
    yield from (_jointly(f"1v1-additive-{epsilon}", AdditiveNoise(epsilon=epsilon)) for epsilon in (0.1, 0.75))
    yield replace(binormal, name="1v1-bimodal-0.75", map_x=to_modes(0.3, 0.0, 5.0), map_y=to_modes(0.5, -1.0, 3.0))
    yield binormal.under("wiggly", wiggly_x, wiggly_y)
    yield binormal.under("half_cube", half_cube, half_cube)
    yield from (cauchy, cauchy.under("asinh", np.arcsinh, np.arcsinh))
    yield replace(uniform.under("swissroll_x", swiss_roll, identity), dim_x=2)
    for d in (2, 3, 5, 25, 50):
        yield _jointly(f"multinormal-dense-{d}-{d}-0.5", gaussian(2 * d, covariance=equal_correlation(2 * d, 0.5)))
    sparse = {
        d: _jointly(f"multinormal-sparse-{d}-{d}-2-2.0", gaussian(2 * d, covariance=_two_pairs(d)))
        for d in (2, 3, 5, 25)
    }
    yield from sparse.values()
    shapes = [(2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3)]
    students = {(d, df): _jointly(f"student-identity-{d}-{d}-{df}", student(2 * d, df)) for d, df in shapes}
    yield from students.values()
    bases = [sparse[d] for d in (3, 5, 25)]
    on_cubes = [base.under("normal_cdf", special.ndtr, special.ndtr) for base in bases]
    yield from on_cubes
    yield from (base.under("half_cube", half_cube, half_cube) for base in bases)
    yield from (_spiralled(base) for base in (*bases, *on_cubes))
    yield from (students[shape].under("asinh", np.arcsinh, np.arcsinh) for shape in [(2, 1), (3, 2), (5, 2)])


MUTUAL_INFORMATION_TASKS: dict[str, MutualInformationTask] = {task.name: task for task in _tasks()}
"""The forty tasks of Beyond Normal by the benchmark's own identifiers."""

"""Pairs (P, Q) of ten kinds of samples: unordered, counted, mixed, rounded, bounded, heavy-tailed, and dependent rows.

Some are estimated with arguments of `estimate` that say what kind they are: which columns are categories, which rows
belong together. Every truth is a closed form, a sum, or a quadrature on the line, so that intervals can be held to it.
No setting is chosen on these tasks. Nats, float64; P before Q.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import signal, special, stats

from estimators.distributions.elliptical import Distribution
from estimators.divergences.table import divergence
from estimators.exact_values.partition import Partition, of_partition
from estimators.exact_values.truth import Densities, Truth, true_divergence
from estimators.tasks.divergence_tasks import cube, equal_correlation, gaussian, independent, laplace, student

HELD_TO = ("kl", "js", "total_variation", "squared_hellinger", "pearson")
"""The divergences whose intervals are held to their level on every task."""
Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(random numbers, n) → n rows [n, d], float64."""


def no_options(n: int) -> Mapping[str, Any]:
    """No further argument of `estimate`."""
    return {}


@dataclass(frozen=True, kw_only=True, eq=False)
class KindTask:
    """Two laws of one kind of rows, and the arguments with which `estimate` is told of the kind.

    >>> task = KIND_TASKS["poisson"]
    >>> x, y = task.sample(0, 1000)
    >>> round(task.truth("kl").value, 9) == round(3.0 * math.log(3.0 / 4.0) + 1.0, 9)
    True
    """

    name: str
    draw_p: Draw
    draw_q: Draw
    exact: Callable[[str], Truth]  # by the name of a divergence
    options: Callable[[int], Mapping[str, Any]] = no_options  # n → further arguments of `estimate`

    def sample(self, seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(x [n, d], y [n, d]), x ~ P and y ~ Q independent of each other."""
        streams = np.random.SeedSequence([seed, zlib.crc32(self.name.encode())]).spawn(2)
        rng_p, rng_q = (np.random.default_rng(stream) for stream in streams)
        return self.draw_p(rng_p, n), self.draw_q(rng_q, n)

    def truth(self, name: str) -> Truth:
        """D_f(P‖Q), nats. Raises ValueError for a name that is not in `HELD_TO`."""
        if name not in HELD_TO:
            raise ValueError(f"no truth for {name!r}; choose from {', '.join(HELD_TO)}")
        return self.exact(name)


# --- how truths are had ----------------------------------------------------------------------------------------------
def by_pieces(pieces: Callable[[], Partition]) -> Callable[[str], Truth]:
    """Name → the divergence of a partition, which is made when it is first needed."""
    made = cache(pieces)

    @cache
    def exact(name: str) -> Truth:
        return Truth(of_partition(made(), divergence(name)), 0.0, "quadrature" if made().lines else "closed form")

    return exact


def between(p: Distribution, q: Distribution, **infinite: str) -> Callable[[str], Truth]:
    """Name → `true_divergence`; `infinite` says of divergences why they are."""
    return lambda name: Truth(math.inf, 0.0, "closed form") if name in infinite else true_divergence(p, q, name)


def weighted(law_p: Any, weight_p: float, law_q: Any, weight_q: float) -> Densities:
    """Two of SciPy's frozen laws on the whole line, each with a weight."""
    return Densities(
        lambda s: math.log(weight_p) + law_p.logpdf(np.asarray(s)),
        lambda s: math.log(weight_q) + law_q.logpdf(np.asarray(s)),
        (-math.inf, math.inf),
    )


def _drawn_from(law: Distribution) -> Draw:
    return lambda rng, n: law.sample(rng, n)


def _of_pair(name: str, p: Distribution, q: Distribution, **infinite: str) -> KindTask:
    return KindTask(name=name, draw_p=_drawn_from(p), draw_q=_drawn_from(q), exact=between(p, q, **infinite))


# --- values that repeat ----------------------------------------------------------------------------------------------
LEVELS = 30  # categories, of which the rarest has 0.8 % of the rows of P


def _level_shares() -> tuple[np.ndarray, np.ndarray]:
    """[30] shares ∝ 1/(k + 3), and in Q every other one larger by 1.6 and the rest smaller by as much."""
    p = 1.0 / np.arange(3.0, LEVELS + 3.0)
    q = p * np.where(np.arange(LEVELS) % 2, 1.6, 1.0 / 1.6)
    return p / p.sum(), q / q.sum()


def unordered() -> KindTask:
    """One column of 30 categories. Their codes are in no order: neither of shares nor of ratios."""
    p, q = _level_shares()
    codes = np.random.default_rng(0).permutation(LEVELS).astype(float)

    def draw(shares: np.ndarray) -> Draw:
        return lambda rng, n: codes[rng.choice(LEVELS, n, p=shares)][:, None]

    return KindTask(
        name="categories",
        draw_p=draw(p),
        draw_q=draw(q),
        exact=by_pieces(lambda: Partition(atoms_p=p, atoms_q=q)),
        options=lambda n: {"categorical": (0,)},
    )


MOST_COUNTED = 100  # the probability of more is below 1e-80


def counted() -> KindTask:
    """Poisson counts of mean 3 against mean 4."""

    def shares(mean: float) -> np.ndarray:
        return stats.poisson(mean).pmf(np.arange(MOST_COUNTED))

    def draw(mean: float) -> Draw:
        return lambda rng, n: rng.poisson(mean, (n, 1)).astype(float)

    exact = by_pieces(lambda: Partition(atoms_p=shares(3.0), atoms_q=shares(4.0)))
    return KindTask(name="poisson", draw_p=draw(3.0), draw_q=draw(4.0), exact=exact)


STEP = 0.1  # of the grid of rounded numbers


def rounded() -> KindTask:
    """N(0, 1) against N(0.3, 1.2²), both to one decimal: a measurement as it is written down."""
    laws = stats.norm(0.0, 1.0), stats.norm(0.3, 1.2)

    def shares(law: Any) -> np.ndarray:
        """Of the values −20, −19.9, …, 20, by the tail on their own side, which loses no digits."""
        k = np.arange(-200.0, 201.0)
        low, high = (k - 0.5) * STEP, (k + 0.5) * STEP
        return np.where(k < 0, law.cdf(high) - law.cdf(low), law.sf(low) - law.sf(high))

    def draw(law: Any) -> Draw:
        return lambda rng, n: np.round(law.rvs((n, 1), random_state=rng), 1)

    exact = by_pieces(lambda: Partition(atoms_p=shares(laws[0]), atoms_q=shares(laws[1])))
    return KindTask(name="rounded_normal", draw_p=draw(laws[0]), draw_q=draw(laws[1]), exact=exact)


# --- values that repeat beside numbers -------------------------------------------------------------------------------
def zero_inflated() -> KindTask:
    """0 with probability 0.4, else log-normal, as daily rain: exact for the atom and in log x beside it."""
    zeros, laws = (0.4, 0.3), (stats.norm(0.0, 1.0), stats.norm(0.5, 1.1))

    def draw(zero: float, law: Any) -> Draw:
        def rows(rng, n):
            wet = rng.random(n) >= zero
            return np.where(wet, np.exp(law.rvs(n, random_state=rng)), 0.0)[:, None]

        return rows

    def pieces() -> Partition:
        wet = weighted(laws[0], 1.0 - zeros[0], laws[1], 1.0 - zeros[1])
        return Partition(atoms_p=np.array(zeros[:1]), atoms_q=np.array(zeros[1:]), lines=(wet,))

    draws = [draw(*pair) for pair in zip(zeros, laws)]
    return KindTask(name="zero_inflated", draw_p=draws[0], draw_q=draws[1], exact=by_pieces(pieces))


SHARES = np.array([[0.5, 0.3, 0.15, 0.05], [0.4, 0.3, 0.2, 0.1]])  # of the four categories, in P and in Q
CENTRES = np.array([[0.0, 0.0], [1.0, -0.5], [-1.0, 0.5], [0.5, 1.5]])  # of the two numbers in each category, in P
SHIFTS = np.array([[0.4, 0.0], [0.0, 0.5], [-0.3, 0.3], [0.0, 0.0]])  # by which those of Q lie elsewhere
CORRELATION = 0.6  # of the two numbers, in both


def mixed() -> KindTask:
    """A table with one column of four categories and two correlated Gaussian numbers whose means depend on it.

    Within a category both laws have one covariance, so that the coordinate along the shift is sufficient.
    """
    factor = np.linalg.cholesky(equal_correlation(2, CORRELATION))

    def draw(side: int) -> Draw:
        centres = CENTRES + side * SHIFTS

        def rows(rng, n):
            code = rng.choice(len(centres), n, p=SHARES[side])
            return np.column_stack([code, centres[code] + rng.standard_normal((n, 2)) @ factor.T])

        return rows

    def pieces() -> Partition:
        distances = np.linalg.norm(np.linalg.solve(factor, SHIFTS.T), axis=0)
        lines = [weighted(stats.norm(delta), p, stats.norm(), q) for delta, p, q in zip(distances, *SHARES)]
        return Partition(lines=tuple(lines))

    options = {"categorical": (0,)}
    return KindTask(name="table", draw_p=draw(0), draw_q=draw(1), exact=by_pieces(pieces), options=lambda n: options)


# --- rows that depend on each other ----------------------------------------------------------------------------------
LAG = 0.7  # correlation of neighbouring rows of a series: 5.7 rows say as much as one
MEMBERS = 5  # rows of a group, with correlation ½ between them


def series() -> KindTask:
    """Two AR(1) columns with stationary laws N(0, I) and N(0.4·1, I), the rows in the order of time."""

    def draw(mean: float) -> Draw:
        def rows(rng, n):
            steps = rng.standard_normal((n, 2)) * math.sqrt(1.0 - LAG**2)
            steps[0] /= math.sqrt(1.0 - LAG**2)  # the first row has the stationary law
            return mean + signal.lfilter([1.0], [1.0, -LAG], steps, axis=0)

        return rows

    exact = between(gaussian(2), gaussian(2, 0.4))
    return KindTask(
        name="series", draw_p=draw(0.0), draw_q=draw(0.4), exact=exact, options=lambda n: {"dependence": "time"}
    )


def grouped() -> KindTask:
    """N(0, I) against N(0.4·1, I) in three columns; the five rows of a group share half of their variance."""

    def draw(mean: float) -> Draw:
        def rows(rng, n):
            of_group = rng.standard_normal((-(-n // MEMBERS), 3))
            return mean + math.sqrt(0.5) * (np.repeat(of_group, MEMBERS, axis=0)[:n] + rng.standard_normal((n, 3)))

        return rows

    def options(n: int) -> Mapping[str, Any]:
        labels = np.arange(n) // MEMBERS
        return {"groups": (labels, labels + n)}

    exact = between(gaussian(3), gaussian(3, 0.4))
    return KindTask(name="groups", draw_p=draw(0.0), draw_q=draw(0.4), exact=exact, options=options)


# --- five numbers ----------------------------------------------------------------------------------------------------
def sum_of_uniforms(m: int, s: np.ndarray) -> np.ndarray:
    """The density at s of the sum of m independent uniform variables on [0, 1] (Irwin–Hall), m ≥ 1."""
    k = np.arange(m + 1)
    signs = (-1.0) ** k * special.comb(m, k) / math.factorial(m - 1)
    beyond = np.asarray(s)[..., None] - k
    return np.where(beyond >= 0.0, np.maximum(beyond, 0.0) ** (m - 1), 0.0) @ signs


def laplace_pieces(d: int, a: float) -> Partition:
    """d independent Laplace coordinates of scale 1 about 0 (P) and about a > 0 (Q).

    A coordinate lies below 0, above a, or between; there the densities are e^{−x}/2 and e^{x−a}/2, elsewhere their
    ratio is constant. Given that j lie below, k above and m between, p/q depends on the sum s of these m alone, whose
    section of [0, a]^m has the volume a^{m−1} h_m(s/a), h_m the density of a sum of uniform variables.
    """
    atoms, lines = [], []
    for j in range(d + 1):
        for k in range(d + 1 - j):
            m = d - j - k
            ways = math.lgamma(d + 1) - math.lgamma(j + 1) - math.lgamma(k + 1) - math.lgamma(m + 1)
            constant = ways - d * math.log(2.0)
            if m:
                lines.append(_sections(m, a, constant - k * a, constant - (j + m) * a))
            else:
                atoms.append((math.exp(constant - k * a), math.exp(constant - j * a)))
    atoms_p, atoms_q = np.array(atoms).T
    return Partition(atoms_p=atoms_p, atoms_q=atoms_q, lines=tuple(lines))


def _sections(m: int, a: float, at_p: float, at_q: float) -> Densities:
    """log p = at_p − s and log q = at_q + s, with the volume of the section at s, 0 < s < m a."""

    def log_volume(s: np.ndarray) -> np.ndarray:
        volume = sum_of_uniforms(m, np.minimum(s, m * a - s) / a)  # symmetric, and exact at the lower end
        return (m - 1) * math.log(a) + np.log(np.maximum(volume, 1e-300))

    return Densities(
        lambda s: at_p - np.asarray(s) + log_volume(np.asarray(s)),
        lambda s: at_q + np.asarray(s) + log_volume(np.asarray(s)),
        (0.0, m * a),
    )


def shifted_laplace() -> KindTask:
    """Five independent Laplace coordinates against the same about 0.5."""
    p, q = independent(5, laplace()), independent(5, laplace(0.5))
    exact = by_pieces(lambda: laplace_pieces(5, 0.5))
    return KindTask(name="laplace", draw_p=_drawn_from(p), draw_q=_drawn_from(q), exact=exact)


def _tasks() -> Iterator[KindTask]:
    yield unordered()
    yield counted()
    yield zero_inflated()
    yield mixed()
    yield rounded()
    yield _of_pair("uniform", cube(5, 0.0, 1.0), cube(5, -0.05, 1.1))
    yield series()
    yield grouped()
    heavier = "p²/q grows without bound in the tails: polynomial ones of P over Gaussian ones of Q"
    yield _of_pair("student", student(5, 5.0, scale=0.9), gaussian(5), pearson=heavier)
    yield shifted_laplace()


KIND_TASKS: dict[str, KindTask] = {task.name: task for task in _tasks()}
"""The ten tasks by name."""

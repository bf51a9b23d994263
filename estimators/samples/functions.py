"""Relations between two variables x and z observed in pairs that make their mutual information infinite.

I(X; Z) = ∞ where a function of x equals a function of z on pairs of positive probability, among which it takes no
single value with positive probability. Three kinds of relations are looked for:

linear    a combination of columns of x and z is constant: infinite if exactly, up to rounding.
equal     many pairs hold one and the same number in a column of x and in one of z: infinite too.
smooth    neighbours in x predict a column of z (or the other way round) the better the nearer they are, down to the
          spacing of the rows. Noise below that spacing cannot be seen, so that the information may be finite.

Numbers with few decimals are values of a discrete law, with finite entropy: their relations prove nothing.
Where noise is visible, the same predictions bound the information from below: `predicted_information`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import differential_entropy, rankdata

from estimators.samples.arrays import REPEATS, row_hashes
from estimators.samples.columns import decimals
from estimators.samples.names import NUMBERED, Called
from estimators.samples.planes import MORE, equations, rounding_of, standard

LEAST_ROUNDING = 1e-12  # of a number: what decompositions, and what came before, leave of float64
VISIBLE = 1e3  # deviation of a term of a linear relation, in what rounding leaves of it: smaller ones cancelled
TWICE = 0.02  # values that occur twice for one that occurs once, up to which a law looks continuous beside its atoms
NEARLY = 1e-6  # standard deviations: below, covariances in float64 are singular, and no Gaussian can be fitted
EQUAL = 10  # pairs of equal numbers; by chance numbers that occur once in either column agree in about one pair
TOGETHER = 4  # most columns that predict together: neighbours in more dimensions are far away
EVALUATED = 2000  # rows at which predictions are compared: the mean log ratio is then known to about 0.02
ERRORS = 5.0  # standard errors above 0 from which residuals grow; at 4, 0.4 % of samples of 100 heavy-tailed rows do
STEP = 0.25  # of all rows: larger mean steps in rank are no function; independent columns have a third
MARGIN = 2.0  # standard errors of a predicted information, each about 1/√n: so scatter normal and two-mode samples
MOST = 50  # columns that are tried one by one, those with the smallest steps: each takes some 10 ms
UNEXPLAINED = 0.5  # standard deviations: larger median residuals are no prediction


BY_NUMBER = NUMBERED, NUMBERED


class Relation(NamedTuple):
    """A relation between x and z in words, and whether it makes their information infinite for certain."""

    words: str
    exact: bool


def relation(x: np.ndarray, z: np.ndarray, called: tuple[Called, Called] = BY_NUMBER) -> Relation | None:
    """A relation between the pairs x [n, d_x] and z [n, d_z], an exact one if there is any; None without any.

    Messages have `called` the columns of either so.

    Neither x nor z may hold columns that are constant or depend linearly on the others of their side.
    """
    first = np.sort(np.unique(row_hashes(np.concatenate([x, z], axis=1)), return_index=True)[1])
    if REPEATS * len(first) <= len(x):
        return None
    everywhere = Side.of("x", x, called[0]), Side.of("z", z, called[1])
    own = [side.rows(first) for side in everywhere]
    suspected = None
    for search, sides in ((_linear, everywhere), (_equal, own), (_smooth, own)):
        for found in search(*sides):
            if found.exact:
                return found
            suspected = suspected or found
    return suspected


def dependent_columns(values: np.ndarray) -> np.ndarray:
    """Indices of the columns of values [n, d], none constant, that follow linearly from the others, the last first."""
    found = equations(values, np.arange(values.shape[1]))
    return np.array([equation.column for equation in found if equation.holds], int)


class Side(NamedTuple):
    """One of two variables: columns [n, d], the same standardised, what rounding may leave of an exact relation, in
    standard deviations [n, d], which columns are of full precision [d], and which of them look continuous [d]."""

    name: str
    called: Called
    values: np.ndarray
    standard: np.ndarray
    rounding: np.ndarray
    full: np.ndarray
    continuous: np.ndarray

    @classmethod
    def of(cls, name: str, values: np.ndarray, called: Called = NUMBERED) -> Self:
        full = np.array([decimals(column) is None for column in values.T])
        continuous = full & np.apply_along_axis(_continuous, 0, values)
        return cls(name, called, values, standard(values), _rounding(values), full, continuous)

    def rows(self, index: np.ndarray) -> Self:
        return self._replace(values=self.values[index], standard=self.standard[index], rounding=self.rounding[index])

    def named(self, columns: np.ndarray) -> str:
        return f"{self.name} {self.called(columns.tolist())}"


def _once(column: np.ndarray) -> np.ndarray:
    """Which values occur once."""
    _, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
    return counts[inverse] == 1


def _continuous(column: np.ndarray) -> bool:
    """Whether most values occur once and hardly any twice; those that occur more often are atoms."""
    counts = np.unique(column, return_counts=True)[1]
    once, twice = np.sum(counts == 1), np.sum(counts == 2)
    return bool(REPEATS * once > len(column) and twice <= TWICE * once)


def _rounding(values: np.ndarray) -> np.ndarray:
    """What rounding may leave of a relation at each value, in standard deviations of its column [n, d]."""
    return np.maximum(rounding_of(values), LEAST_ROUNDING * np.abs(values)) / values.std(axis=0)


def _linear(x: Side, z: Side) -> Iterator[Relation]:
    """Combinations of the columns of x that equal combinations of those of z, if these take many values."""
    width = x.values.shape[1]
    values = np.concatenate([x.values, z.values], axis=1)
    for equation in equations(values, np.arange(values.shape[1]), NEARLY):
        slopes = np.zeros(values.shape[1])
        slopes[[equation.column, *equation.of]] = -1.0, *equation.slopes
        terms = np.abs(slopes) * values.std(axis=0)
        left = max(equation.error, LEAST_ROUNDING * terms.max())
        columns = [np.flatnonzero(side > VISIBLE * left) for side in np.split(terms, [width])]
        levels = np.round(x.values @ slopes[:width] / left)
        if all(map(len, columns)) and REPEATS * len(np.unique(levels)) > len(levels):
            continuous = [bool(side.continuous[c].any()) for side, c in zip((x, z), columns, strict=True)]
            named = " and ".join(side.named(c) for side, c in zip((x, z), columns, strict=True))
            exact = equation.holds and all(continuous) and _continuous(levels)
            yield Relation(f"{named} determine each other linearly", exact)


def _equal(x: Side, z: Side) -> Iterator[Relation]:
    """Columns of full precision with the same number in many pairs, and not only nearly the same in as many."""
    once = np.apply_along_axis(_once, 0, z.values)
    for j in np.flatnonzero(x.full):
        column = x.values[:, j, None]
        gap = np.abs(z.values - column)
        near = x.rounding[:, j, None] * column.std()
        single = once & _once(x.values[:, j])[:, None]
        equal, close = (np.sum(single & test, axis=0) for test in (gap == 0.0, (gap > 0.0) & (gap <= near)))
        for k in np.flatnonzero(z.full & (equal >= EQUAL + close)):
            named = (side.named(np.array([at])) for side, at in ((x, j), (z, k)))
            words = f"{' equals '.join(named)} in {equal[k]} of {len(gap)} pairs"
            yield Relation(words, bool(x.continuous[j] and z.continuous[k]))


def _smooth(x: Side, z: Side) -> Iterator[Relation]:
    """Columns that follow smoothly from one column of the other side, or from all where they are few."""
    for cause, effect in ((x, z), (z, x)):
        once = np.apply_along_axis(_once, 0, effect.values)
        for columns, targets in _searches(cause, effect, once):
            for k, exact in _predicted(cause.standard[:, columns], effect, targets, once):
                named = _follows(cause, columns, effect, k)
                yield Relation(named, bool(exact and effect.continuous[k] and cause.continuous[columns].any()))


def _follows(cause: Side, columns: np.ndarray, effect: Side, k: int) -> str:
    return f"{effect.named(np.array([k]))} follows from {cause.named(columns)}"


def predicted_information(x: np.ndarray, z: np.ndarray, called: tuple[Called, Called] = BY_NUMBER) -> tuple[float, str]:
    """The largest h(z_k) − h(z_k − ẑ_k) over columns and their local linear predictions ẑ_k, less `MARGIN` standard
    errors, in nats, and which it is.

    As ẑ_k rests on x and on other rows, I(X; Z) ≥ I(X; Z_k) = h(z_k) − h(z_k | x) is at least that; the same with x and
    z exchanged. Entropies are those of spacings (Vasicek 1976). More than log n is beyond what n rows can certify.
    """
    first = np.unique(row_hashes(np.concatenate([x, z], axis=1)), return_index=True)[1]
    sides = Side.of("x", x[first], called[0]), Side.of("z", z[first], called[1])
    n, best = len(first), (0.0, "")
    at = np.random.default_rng(0).permutation(n)[:EVALUATED]
    for cause, effect in (sides, sides[::-1]):
        once = np.apply_along_axis(_once, 0, effect.values)
        for columns, targets in _searches(cause, effect, once):
            points, values = cause.standard[:, columns], effect.standard[:, targets]
            if not len(targets):
                continue
            left = _residuals(points, values, at, np.arange(n), 2 * (len(columns) + 1))
            for k, target in enumerate(targets):
                rows = once[at, target]
                before, after = (differential_entropy(v[rows, k]) for v in (values[at], left))
                nats = min(before - after - MARGIN / math.sqrt(rows.sum()), math.log(n))
                if nats > best[0]:
                    best = float(nats), _follows(cause, columns, effect, int(target))
    return best


def _searches(cause: Side, effect: Side, once: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(columns of `cause`, columns of `effect` that may follow from them), each with enough rows to tell."""
    n, d = cause.values.shape
    many = REPEATS * once.sum(axis=0) > n
    ranks = rankdata(effect.values[:EVALUATED], axis=0) / min(n, EVALUATED)
    steps = np.array([_steps(column, ranks) for column in cause.values[:EVALUATED].T])
    for j in np.argsort(steps.min(axis=1))[:MOST]:
        yield np.array([j]), np.flatnonzero(many & (steps[j] < STEP) & (n >= 2 * (4 + MORE)))
    if 1 < d <= TOGETHER:
        yield np.arange(d), np.flatnonzero(many & (n >= 2 * (2 * (d + 1) + MORE)))


def _steps(column: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Mean steps of ranks [n, d], as shares of n, between rows sorted by `column` [n]: small for its functions
    (Chatterjee 2021)."""
    return np.mean(np.abs(np.diff(ranks[np.argsort(column)], axis=0)), axis=0)


def _predicted(points: np.ndarray, effect: Side, targets: np.ndarray, once: np.ndarray) -> Iterator[tuple[int, bool]]:
    """(index, whether up to rounding) of the `targets` that local linear functions of points [n, d] predict without
    visible noise, measured at values that occur once [n, columns].

    Without noise residuals grow as the square of the neighbours' distance, by 2^(2/d) where only half of the rows
    serve as neighbours; noise does not grow. The border is the geometric middle, 2^(1/d).
    """
    n, d = points.shape
    if not len(targets):
        return
    order = np.random.default_rng(0).permutation(n)
    at, pools = order[:EVALUATED], (np.arange(n), order[::2], order[1::2])
    values, rounding = effect.standard[:, targets], effect.rounding[np.ix_(at, targets)]
    residuals = [np.abs(_residuals(points, values, at, pool, 2 * (d + 1))) for pool in pools]
    whole, first, second = (np.log(r + rounding + 1e-300) for r in residuals)
    growth = 0.5 * (first + second) - whole
    for k, target in enumerate(targets):
        rows = once[at, target]
        size, grown = residuals[0][rows, k], growth[rows, k]
        exact = bool(np.mean(size <= rounding[rows, k]) > 0.5)
        limit = max(math.log(2.0) / d, ERRORS * float(np.std(grown)) / math.sqrt(len(grown)))
        if exact or (np.mean(grown) > limit and np.median(size) < UNEXPLAINED):
            yield int(target), exact


def _residuals(points: np.ndarray, values: np.ndarray, at: np.ndarray, pool: np.ndarray, count: int) -> np.ndarray:
    """values − their local linear predictions [rows, columns] at the rows `at`, from the `count` nearest other rows of
    `pool`."""
    found = pool[cKDTree(points[pool]).query(points[at], count + 1)[1]]
    left_out = found == at[:, None]
    left_out[~left_out.any(axis=1), -1] = True
    found = found[~left_out].reshape(len(at), count)
    offsets = points[found] - points[at, None]
    offsets /= np.maximum(np.abs(offsets).max(axis=(1, 2), keepdims=True), 1e-300)
    design = np.concatenate([np.ones((*found.shape, 1)), offsets], axis=2)
    gram = np.swapaxes(design, 1, 2) @ design + 1e-14 * np.eye(design.shape[2])
    weights = design @ np.linalg.solve(gram, np.eye(design.shape[2])[:, :1])
    return values[at] - np.einsum("nk,nkt->nt", weights[:, :, 0], values[found])

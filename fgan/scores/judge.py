"""Generated rows of a table judged beside rows that training never saw: by the project's own estimator, column by
column, and by the places that one set has and the other lacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from scipy.spatial import KDTree

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import divergence
from estimators.estimation import Estimate, estimate
from estimators.permutation import permutation_test
from estimators.samples.arrays import Samples
from estimators.samples.written import is_date
from fgan.data.dataset import Dataset, Rows
from fgan.data.tables import Form

MOST = 5000
"""Rows of a set that are judged at the end: some seconds an estimate."""
FEW = 500
"""The same on the way: a second."""
SHOWN, BINS = 12, 30  # histograms in the picture, and bins of one
NEIGHBOURS = 10
"""A place is the ball around a row that holds so many rows of one set. Of as many rows of the same law from another set
it holds none once in 2¹⁰ times."""


class Table(NamedTuple):
    """Rows in the user's own units [n, d], and in the coordinates of their columns [n, dim]."""

    rows: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, rows: Rows, n: int) -> "Table":
        """At most n of the rows, spread evenly over them."""
        chosen = np.unique(np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(int))
        return cls(rows.own(chosen), rows.coordinates.unmixed(rows[chosen]))

    def first(self, n: int) -> "Table":
        """At most n of these."""
        return Table(self.rows[:n], self.points[:n])


@dataclass(frozen=True)
class Judge:
    """(generated points [n, dim], whether it is the end) → scores by name, nested ones for the training rows."""

    data: Dataset
    named: FDivergence

    @property
    def divergences(self) -> list[FDivergence]:
        """The one that was trained under, js and total variation."""
        others = [divergence(name) for name in ("js", "total_variation")]
        return [self.named, *(d for d in others if d.name != self.named.name)]

    def __call__(self, points: np.ndarray, end: bool) -> dict[str, Any]:
        assert self.data.coordinates is not None
        rows = self.data.own_units(points)  # as they would be written: rounded, within their range
        return self.judged(Table(rows, self.data.coordinates.by_column(rows, np.arange(len(rows)))), end)

    def judged(self, made: Table, end: bool) -> dict[str, Any]:
        """The same of rows that may come from elsewhere."""
        assert self.data.own is not None
        n = MOST if end else FEW
        kept, held_out = (Table.of(rows, n) for rows in self.data.own)
        made = made.first(n)
        scores = self._compared(held_out, made) | shape(held_out, made, kept, self.data.form)
        if end:
            scores["columns"] = histograms(held_out, made, kept, scores["ks_by_column"], self.data.form)
            scores["p_value"] = self._p_value(held_out, made)
            scores["training_rows"] = self._compared(held_out, kept)
        return scores

    def _samples(self, table: Table, name: str) -> Samples:
        form = self.data.form
        return Samples(values=table.rows, name=name, columns=form.names, levels=form.levels)

    def _compared(self, held_out: Table, other: Table) -> dict[str, Any]:
        """Each divergence from held-out rows to others, with its 95 % interval; why there is none, if there is none."""
        try:
            pair = self._samples(held_out, "held-out rows"), self._samples(other, "rows")
            found = estimate(*pair, self.divergences)
        except ValueError as error:
            return {"not_estimated": str(error)}
        return {key: value for e in found for key, value in numbers(e).items()}

    def _p_value(self, held_out: Table, made: Table) -> float | None:
        """Of the test that generated rows have the law of held-out ones."""
        try:
            return permutation_test(
                self._samples(held_out, "held-out rows"), self._samples(made, "generated rows"), permutations=499
            ).p_value
        except ValueError:
            return None


def numbers(found: Estimate) -> dict[str, float | None]:
    """An estimate and its interval, by the name of the divergence; None where infinite."""
    facts, name = found.as_json(), found.divergence
    return {name: facts["value"], f"{name}_low": facts["low"], f"{name}_high": facts["high"]}


def shape(held_out: Table, made: Table, kept: Table, form: Form) -> dict[str, Any]:
    """Of generated rows: the Kolmogorov–Smirnov distance of each column to held-out and training rows together, the
    largest error of a correlation, and the mass that real rows have and generated ones lack, and the reverse."""
    real = Table(*(np.concatenate(pair) for pair in zip(held_out, kept, strict=True)))
    columns = enumerate(zip(real.rows.T, made.rows.T, strict=True))
    distances = [column_distance(a, b, j in form.levels) for j, (a, b) in columns]
    worst = int(np.argmax(distances))
    return {
        "ks": distances[worst],
        "ks_column": form.names[worst] if form.names else str(worst + 1),
        "ks_by_column": distances,
        "correlation_error": correlation_error(real.points, made.points),
        "lost_mass": missing(held_out.points, kept.points, made.points),
        "invented_mass": missing(made.points, made.points, kept.points),
    }


def histograms(
    held_out: Table, made: Table, kept: Table, distances: Sequence[float], form: Form
) -> list[dict[str, Any]]:
    """Of the columns that differ most: the shares of real and of generated rows in bins, or in categories."""
    shown = []
    for j in sorted(np.argsort(distances)[::-1][:SHOWN].tolist()):
        real, drawn = np.concatenate([held_out.rows[:, j], kept.rows[:, j]]), made.rows[:, j]
        found: dict[str, Any] = {"name": form.names[j] if form.names else str(j + 1), "ks": distances[j]}
        if j in form.levels:
            found["categories"] = form.levels[j]
            edges = np.arange(len(form.levels[j]) + 1) - 0.5
        else:
            low, high = np.quantile(real, (0.005, 0.995))  # what few rows of a heavy tail have would be all there is
            edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
            found |= {"edges": edges.tolist(), "dates": is_date(form.written.get(j, ""))}
        for name, column in (("real", real), ("generated", drawn)):
            found[name] = (np.histogram(column, edges)[0] / len(column)).tolist()
        shown.append(found)
    return shown


def lines(scores: dict[str, Any]) -> list[str]:
    """What a judge found, for people."""
    said = [f"judged     {intervals(scores)}"]
    if "training_rows" in scores:
        said.append(f"  training rows, as a perfect model: {intervals(scores['training_rows'])}")
    p_value = f"; two-sample test p = {scores['p_value']:.3f}" if scores.get("p_value") is not None else ""
    said.append(
        f"  KS at most {scores['ks']:.3f} ({scores['ks_column']}); correlations within "
        f"{scores['correlation_error']:.3f}; mass lost {100 * scores['lost_mass']:.1f} %, invented "
        f"{100 * scores['invented_mass']:.1f} %{p_value}"
    )
    return said


def intervals(scores: dict[str, Any]) -> str:
    """Each divergence with its interval."""
    if "not_estimated" in scores:
        return scores["not_estimated"]

    def number(value: float | None, otherwise: str) -> str:
        return otherwise if value is None else f"{value:.4f}"

    found = {name: (scores[f"{name}_low"], scores[f"{name}_high"]) for name in scores if f"{name}_low" in scores}
    return "  ".join(
        f"{name} {number(scores[name], '∞')} [{number(low, '−∞')}, {number(high, '∞')}]"
        for name, (low, high) in found.items()
    )


def column_distance(x: np.ndarray, y: np.ndarray, categories: bool) -> float:
    """The Kolmogorov–Smirnov distance of two columns [n], [m]; of categories the total variation of their shares."""
    if not categories:
        return float(scipy.stats.ks_2samp(x, y, method="asymp").statistic)
    k = int(max(x.max(), y.max())) + 1
    shares = [np.bincount(column.astype(int), minlength=k) / len(column) for column in (x, y)]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())


def correlation_error(x: np.ndarray, y: np.ndarray) -> float:
    """The largest difference of a correlation between two columns of x [n, d] and the same two of y [m, d]; a column
    that is constant in a set has none there."""
    if x.shape[1] < 2:
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.corrcoef(x.T) - np.corrcoef(y.T)
    return float(np.abs(np.nan_to_num(difference)).max())


def missing(points: np.ndarray, of: np.ndarray, others: np.ndarray) -> float:
    """The share of points [k, d] whose place, the ball that holds their `NEIGHBOURS` nearest of one set, holds none of
    as many rows of another; 0.1 % where both sets have one law. 0 for sets with too few rows for such places.

    A point of the set itself does not count among its neighbours.
    """
    n = min(len(of), len(others))
    if n <= NEIGHBOURS + 1:
        return 0.0
    itself = points is of
    of, others = of[:n], others[:n]
    points = of if itself else points
    radii = KDTree(of).query(points, NEIGHBOURS + itself)[0][:, -1]
    nearest = KDTree(others).query(points)[0]
    return float(np.mean(nearest > radii))

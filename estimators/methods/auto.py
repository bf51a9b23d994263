"""The method that chooses: `counts` for values of a discrete law; else `neural`, or `telescoping` where no classifier
can measure how far apart the sets are."""

import dataclasses
from typing import NamedTuple

from estimators.contract import Fit, Request
from estimators.divergences.table import DIVERGENCES
from estimators.methods import counts, neural, telescoping
from estimators.samples.arrays import discrete

METHODS = {"auto": "counts for discrete values, else neural, or telescoping for sets far apart; says which and why"}
FAR = 0.9
"""Share of its maximum, log 2, from which on the Jensen–Shannon divergence says only that the sets are far apart."""


class Choice(NamedTuple):
    """A method and the reason for it, in a sentence."""

    method: str
    why: str


def estimate(request: Request) -> Fit:
    """The fit of `counts`, of `neural`, or of `telescoping` where that finds the sets far apart; with the reason."""
    if discrete(request.x, request.y):
        fit = counts.estimate(dataclasses.replace(request, method="counts"))
        rows, values = len(request.x) + len(request.y), fit.diagnostics["values"]
        return fit._replace(diagnostics={**fit.diagnostics, "choice": counted(rows, values)})
    js = DIVERGENCES["js"]
    asked = [*request.divergences, js]
    fit = neural.estimate(dataclasses.replace(request, method="neural", divergences=asked))
    *intervals, overlap = fit.intervals
    choice = choose(overlap.value, min(len(request.x), len(request.y)), request.x.shape[1])
    if choice.method == "telescoping" and not request.categories:
        fit = telescoping.estimate(dataclasses.replace(request, method="telescoping"))
    else:
        fit = fit._replace(intervals=intervals)
    return fit._replace(diagnostics={**fit.diagnostics, "choice": choice.why})


def counted(rows: int, values: int) -> str:
    """Why `counts` was chosen."""
    return f"auto chose counts: {rows} rows have {values} values, so they are those of a discrete law"


def choose(js: float, n: int, dim: int, near: str = "neural") -> Choice:
    """Telescoping where the Jensen–Shannon divergence `js` is near its maximum, `near` elsewhere.

    Telescoping fits Gaussians to two fifths of each set: with n rows in the smaller it needs 2n/5 > dim + 3.
    """
    share = js / DIVERGENCES["js"].upper_limit()
    found = f"the held-out Jensen–Shannon divergence is {100.0 * share:.0f} % of its maximum"
    if share < FAR:
        return Choice(near, f"auto chose {near}: {found}, so the sets overlap")
    if 2 * n <= 5 * (dim + 3):
        return Choice(near, f"auto chose {near}: {found}, but telescoping needs more rows in {dim} dimensions")
    return Choice("telescoping", f"auto chose telescoping: {found}, more than a classifier can measure")

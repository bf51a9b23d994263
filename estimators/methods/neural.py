"""Cross-fitted neural critics: held-out log-ratios for every row, plugged into any divergence.

Two critics (see `density_ratio.critic`) are trained for each block of rows (see `samples.folds`), ten in all, side by
side in one compiled program.
"""

from __future__ import annotations

import numpy as np

from estimators.critics.early_stopping import Fold, Objective
from estimators.density_ratio.critic import JS, FitReferences, fit_critics, side_by_side
from estimators.density_ratio.plug_in import HeldOut, lower_bound, plug_in
from estimators.density_ratio.references import References
from estimators.divergences.table import DIVERGENCES
from estimators.request import Request
from estimators.result import Fit
from estimators.samples.folds import Rows, blocks, cross_fits, subsample

METHODS = {
    "neural": "critics trained with the logistic loss, the bound of the Jensen–Shannon divergence",
    "nwj": "critics trained with the bound of Nguyen, Wainwright & Jordan on kl",
    "dv": "critics trained with the bound of Donsker & Varadhan on kl, its gradient corrected as in MINE",
}
OBJECTIVES = {"neural": JS, "nwj": Objective("fenchel", "kl"), "dv": Objective("donsker_varadhan", "kl")}
MOST = 25_000
"""Rows a side that train, or validate, one critic."""


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from one set of cross-fitted critics.

    Raises:
        DataError: fewer than ten rows a side, or groups that do not spread.
    """
    cut = blocks(len(request.x), len(request.y), request.seed, request.groups)
    return plug_in(request, cross_fit(request, cut, OBJECTIVES[request.method]))


def cross_fit(
    request: Request, cut: list[Rows], objective: Objective = JS, fit_references: FitReferences = References.fit
) -> HeldOut:
    """Log-ratios of every row from the two critics of its block in `cut`, which never saw it."""
    x, y = request.x, request.y
    rng = np.random.default_rng(request.seed)
    parts = [part for pair in cross_fits(cut) for part in pair]
    halves = {
        id(part.train): (x[subsample(part.train.p, MOST, rng)], y[subsample(part.train.q, MOST, rng)])
        for part in parts[::2]
    }
    folds = [Fold(*halves[id(part.train)], *halves[id(part.validation)]) for part in parts]
    critics, diagnostics = fit_critics(folds, request.seed, objective, fit_references)
    longest = max(max(len(b.p), len(b.q)) for b in cut)
    log_p, log_q = np.empty((2, len(x))), np.empty((2, len(y)))

    def score(c: int) -> None:
        held_out = parts[c].held_out
        log_p[c % 2, held_out.p] = critics[c](x[held_out.p], pad=longest)
        log_q[c % 2, held_out.q] = critics[c](y[held_out.q], pad=longest)

    side_by_side(score, range(len(parts)), longest)
    held_out = HeldOut(log_p, log_q, lambda points: np.mean([f(points) for f in critics], axis=0))
    bounds = [lower_bound(DIVERGENCES[objective.divergence], scores)[0] for scores in held_out.each()]
    gap = float(np.mean(diagnostics["trained_bound"]) - np.mean(bounds))
    return held_out._replace(diagnostics={**diagnostics, "train_minus_held_out": gap})

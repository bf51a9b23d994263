"""Cross-fitted neural critics: held-out log-ratios for every row, plugged into any divergence.

Two critics (see `density_ratio.critic`) are trained for each block of rows (see `samples.folds`), ten in all, side by
side in one compiled program.
"""

from __future__ import annotations

import numpy as np

from estimators.contract import Fit, Request
from estimators.critics.early_stopping import Fold, Objective
from estimators.density_ratio.critic import JS, FitReferences, fit_critics
from estimators.density_ratio.plug_in import HeldOut, lower_bound, plug_in
from estimators.density_ratio.references import References
from estimators.divergences.table import DIVERGENCES
from estimators.samples.folds import Rows, blocks, cross_fits, subsample

METHODS = {
    "neural": "critics trained with the logistic loss, the bound of the Jensen–Shannon divergence",
    "nwj": "critics trained with the bound of Nguyen, Wainwright & Jordan on kl",
    "dv": "critics trained with the bound of Donsker & Varadhan on kl, its gradient corrected as in MINE",
}
OBJECTIVES = {"neural": JS, "nwj": Objective("fenchel", "kl"), "dv": Objective("donsker_varadhan", "kl")}
MOST = 25_000  # rows a side that train, or validate, one critic


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, from one set of cross-fitted critics.

    Raises DataError: fewer than ten rows a side, or groups that do not spread.
    """
    cut = blocks(len(request.x), len(request.y), request.seed, request.groups)
    return plug_in(request, cross_fit(request, cut, OBJECTIVES[request.method]))


def cross_fit(
    request: Request, cut: list[Rows], objective: Objective = JS, fit_references: FitReferences = References.fit
) -> HeldOut:
    """Log-ratios of every row from the two critics of its block in `cut`, which never saw it."""
    x, y = request.x, request.y
    rng = np.random.default_rng(request.seed)
    parts = cross_fits(cut)
    rows = {
        id(part.train): (x[subsample(part.train.p, MOST, rng)], y[subsample(part.train.q, MOST, rng)])
        for part in parts[::2]
    }
    folds = [Fold(*rows[id(part.train)], *rows[id(part.validation)]) for part in parts]
    critics, diagnostics = fit_critics(folds, request.seed, objective, fit_references)
    held_out = HeldOut.of(request, parts, critics, pad=max(max(map(len, block)) for block in cut))
    bounds = [lower_bound(DIVERGENCES[objective.divergence], scores)[0] for scores in held_out.each()]
    gap = float(np.mean(diagnostics["trained_bound"]) - np.mean(bounds))
    return held_out._replace(diagnostics={**diagnostics, "train_minus_held_out": gap})

"""Mutual information: I(X; Z) = KL between the joint law P of (x, z) and the product Q of its marginals, in nats.

Rows of Q come from the sample itself: within each block of cross-fitting, x_i meets z_j of other rows (a derangement),
so that a held-out critic has seen neither half of a held-out pair. One fit of the critics of `neural` then gives

    js        the calibrated plug-in of the ratio trained by the Jensen–Shannon bound: the value `auto` reports
    nwj       E_P[ℓ] − E_Q[e^ℓ] + 1                      ≤ I, critic trained by it (Nguyen et al. 2010)
    dv        E_P[ℓ] − log E_Q[e^ℓ]                      ≤ I, critic trained with MINE's corrected gradient (2018)
    smile     E_P[ℓ] − log E_Q[e^clip(ℓ, ±τ)], τ = 5     neither bound (Song & Ermon 2020)
    infonce   E[ℓ(x, z) − log mean_k e^ℓ(x, z_k)]        ≤ min(I, log K), K candidates (van den Oord et al. 2018)
    upper     E_P[ℓ] − E_Q[ℓ] = I + KL(Q‖P) at the ratio ≥ I (CLUB with the critic's own conditional, Cheng et al. 2020)

Layer 5: imports divergences, folds, functionals, neural, references, result, telescoping.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from estimators.density_ratio.copulas import of_pairs
from estimators.density_ratio.plug_in import read, standard_error
from estimators.divergences.table import DIVERGENCES
from estimators.methods import neural, telescoping
from estimators.result import Estimate, Scores
from estimators.samples.folds import Groups, Rows, blocks

PARTNERS = 4
"""Rows of Q that each x meets; for infonce one less than its candidates."""
CANDIDATES = 64
CLIP = 5.0
FAR = 0.9


class Pairs(NamedTuple):
    """Rows of the joint law and of the product, who is in them, and their blocks.

    Attributes:
        joint: [n, d_x + d_z].
        product: [n k, d_x + d_z]; rows i k … i k + k − 1 hold x_i.
        units: labels of the joint's rows [n], and of the product's [n k, 2]: of x and of z.
        cut: blocks of both.
    """

    joint: np.ndarray
    product: np.ndarray
    units: Groups
    cut: list[Rows]


def pairs(x: np.ndarray, z: np.ndarray, partners: int, seed: int, groups: np.ndarray | None = None) -> Pairs:
    """The joint rows (x_i, z_i), and x_i beside the z of `partners` other rows of its block."""
    n = len(x)
    rng = np.random.default_rng(seed)
    labels = np.arange(n) if groups is None else groups
    cut = [b.p for b in blocks(n, n, seed, None if groups is None else (labels, labels))]
    partner = np.empty((n, partners), np.intp)
    for rows in cut:
        order = rng.permutation(rows)
        shifts = 1 + rng.permutation(len(rows) - 1)[np.arange(partners) % (len(rows) - 1)]
        partner[order] = np.stack([np.roll(order, -s) for s in shifts], axis=1)
    first = np.repeat(np.arange(n), partners)
    product = np.concatenate([x[first], z[partner.ravel()]], axis=1)
    of_rows = [Rows(rows, (rows[:, None] * partners + np.arange(partners)).ravel()) for rows in cut]
    units = labels, np.stack([labels[first], labels[partner.ravel()]], axis=1)
    return Pairs(np.concatenate([x, z], axis=1), product, units, of_rows)


def mutual_information(
    x: np.ndarray,
    z: np.ndarray,
    *,
    method: str = "auto",
    seed: int = 0,
    confidence: float = 0.95,
    groups: np.ndarray | None = None,
) -> Estimate:
    """I(X; Z) in nats from n pairs, rows of x [n, d_x] and z [n, d_z]; arguments are checked by `estimation`.

    Args:
        method: a name in `INFORMATION`.
        seed: of the partners, the blocks, the initial weights and the batches.
        confidence: level of the interval.
        groups: labels of pairs that are not independent of each other [n].

    Raises:
        DataError: fewer than ten pairs.
    """
    made = pairs(x, z, CANDIDATES - 1 if method == "infonce" else PARTNERS, seed, groups)
    objective = method if method in neural.OBJECTIVES else "neural"
    held_out, ratio, course = neural.cross_fit(
        made.joint, made.product, made.cut, seed, objective, of_pairs(x.shape[1])
    )
    shown: dict[str, Any] = {"dim": made.joint.shape[1], "confidence": confidence, "groups": made.units}
    rows = [DIVERGENCES["kl"], DIVERGENCES["js"]]
    e, overlap = read(held_out, rows, method="js", ratio=ratio, diagnostics=course, **shown)
    figures = {name: bound(held_out.mean(), made.units) for name, bound in BOUNDS.items()}
    choice: dict[str, str] = {}
    if method == "auto":
        share = overlap.value / rows[1].upper_limit()
        seen = f"joint and product are {100.0 * share:.0f} % as far apart as can be"
        choice = {"choice": f"auto chose the plug-in of a js-trained ratio: {seen}"}
        if share >= FAR and 2 * len(x) > 5 * (made.joint.shape[1] + 3):
            choice = {"choice": f"auto chose telescoping: {seen}, more than a classifier can measure"}
            far, ratio, course = telescoping.cross_fit(made.joint, made.product, made.cut, seed)
            (e,) = read(
                far, rows[:1], method="telescoping", ratio=ratio, diagnostics=course, parametric=made.cut, **shown
            )
    elif method != "js":
        e = _replaced(e, method, figures[method])
    values = {name: {"value": f.value, "standard_error": f.error} for name, f in figures.items()}
    return dataclasses.replace(
        e, divergence="mutual_information", diagnostics={**e.diagnostics, "bounds": values, **choice}
    )


class Figure(NamedTuple):
    """A bound, its standard error, and what limits it."""

    value: float
    error: float
    caution: str


def _replaced(e: Estimate, method: str, figure: Figure) -> Estimate:
    """The estimate with a bound in place of the plug-in, and with the interval of that bound."""
    reach = float(norm.ppf(0.5 + 0.5 * e.confidence)) * figure.error
    return dataclasses.replace(
        e,
        value=figure.value,
        low=figure.value - reach,
        high=figure.value + reach,
        standard_error=figure.error,
        method=method,
        warnings=(*e.warnings, figure.caution),
    )


def _nwj(scores: Scores, units: Groups) -> Figure:
    on_q = np.exp(scores.log_q)
    value = float(scores.log_p.mean() - on_q.mean()) + 1.0
    return Figure(value, _error(scores.log_p, -on_q, units), "nwj: a lower bound; the interval is the bound's")


def _dv(scores: Scores, units: Groups, clip: float = math.inf, caution: str = "") -> Figure:
    clipped = np.clip(scores.log_q, -clip, clip)
    log_mean = float(logsumexp(clipped)) - math.log(len(clipped))
    error = _error(scores.log_p, -np.exp(clipped - log_mean), units)
    said = (
        caution or "dv: a lower bound but for a bias up of about the variance of e^ℓ over 2n; the interval is its own"
    )
    return Figure(float(scores.log_p.mean()) - log_mean, error, said)


def _smile(scores: Scores, units: Groups) -> Figure:
    return _dv(
        scores, units, CLIP, f"smile: log-ratios on the product clipped at ±{CLIP:g}; bounds I from neither side"
    )


def _infonce(scores: Scores, units: Groups) -> Figure:
    """Each x against its own z and the partners drawn for it."""
    others = scores.log_q.reshape(len(scores.log_p), -1)
    k = others.shape[1] + 1
    gains = scores.log_p - logsumexp(np.column_stack([scores.log_p, others]), axis=1) + math.log(k)
    error = _error(gains, np.zeros(others.size), units)
    return Figure(float(gains.mean()), error, f"infonce: a lower bound, at most log {k} = {math.log(k):.2f} candidates")


def _upper(scores: Scores, units: Groups) -> Figure:
    value = float(scores.log_p.mean() - scores.log_q.mean())
    return Figure(
        value, _error(scores.log_p, -scores.log_q, units), "upper: at least I where the critic is the log-ratio"
    )


def _error(on_p: np.ndarray, on_q: np.ndarray, units: Groups) -> float:
    """Standard error of E_P[a] + E_Q[b] over draws of pairs."""
    n, m = len(on_p), len(on_q)
    return standard_error(np.concatenate([on_p / n, on_q / m]) * (n + m), n, units)


BOUNDS: Mapping[str, Callable[[Scores, Groups], Figure]] = MappingProxyType(
    {"nwj": _nwj, "dv": _dv, "smile": _smile, "infonce": _infonce, "upper": _upper}
)
INFORMATION = ("auto", "js", *BOUNDS)
"""Ways of estimating mutual information; auto is js, or telescoping where joint and product hardly overlap."""

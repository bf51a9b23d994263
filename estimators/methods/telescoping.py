"""Large divergences in three steps: P to a Gaussian near P, to a Gaussian near Q, to Q.

A classifier that tells every row of P from every row of Q has no more to learn, however far apart they are: a critic
trained between them cannot say whether the divergence is 10 nats or 40. Telescoping (Rhodes, Xu & Gutmann 2020) sums
the log-ratios of nearer neighbours,

    log p/q = log p/p₀ + log p₀/q₀ − log q/q₀,

where the middle one is that of two fitted Gaussians, in the coordinates where they fit best, and the outer ones are
critics trained between each set and draws of its own Gaussian: nearly nothing to learn if it fits.

Layer 4: imports coordinates, folds, functionals, neural, references, result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from estimators.density_ratio.coordinates import NormalScores, Standard
from estimators.density_ratio.densities import GaussianDensity, GaussianFit
from estimators.density_ratio.plug_in import HeldOut, read
from estimators.divergences.table import FDivergence
from estimators.methods.neural import Fold, fit_critics
from estimators.result import Estimate
from estimators.samples.arrays import DataError
from estimators.samples.folds import Groups, Rows, blocks, cross_fits

MOST = 20_000  # rows a side that train, or judge, one critic


@dataclass(frozen=True, eq=False)
class Anchors:
    """Gaussians p₀ and q₀ near P and Q in common coordinates."""

    coordinates: Standard | NormalScores
    p: GaussianDensity
    q: GaussianDensity

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, judge_p: np.ndarray, judge_q: np.ndarray) -> Anchors:
        """The anchors of p [n, d] and q [m, d], in the coordinates whose Gaussians make the judging rows likelier."""
        best, best_value = None, -np.inf
        for kind in (Standard, NormalScores):
            made = kind.fit(p, q)
            anchors = cls(made, unbiased(made(p)), unbiased(made(q)))
            value = sum(
                float(np.mean(normal(made(rows)) + made.log_slope(rows)))
                for normal, rows in ((anchors.p, judge_p), (anchors.q, judge_q))
            )
            if best is None or value > best_value:
                best, best_value = anchors, value
        return best  # type: ignore[return-value]

    def log_ratio(self, rows: np.ndarray) -> np.ndarray:
        """log p₀/q₀ at rows [k, d]."""
        z = self.coordinates(rows)
        return self.p(z) - self.q(z)


def unbiased(rows: np.ndarray) -> GaussianDensity:
    """The Gaussian of rows [n, d], its log density unbiased (`GaussianFit.unbiased_density`).

    Raises:
        DataError: n ≤ d + 2, or rows on a plane.
    """
    n, d = rows.shape
    if n <= d + 2:
        raise DataError(f"{n} rows of dimension {d}: a Gaussian reference needs more than {d + 2} in each half")
    try:
        return GaussianFit.from_rows(rows).unbiased_density()
    except np.linalg.LinAlgError:
        raise DataError("columns that depend linearly on others: drop them, or project the samples") from None


def estimate(
    x: np.ndarray,
    y: np.ndarray,
    divergences: Sequence[FDivergence],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups | None = None,
) -> list[Estimate]:
    """D_f(P‖Q) for each of `divergences` through Gaussian anchors; arguments as for every method.

    Raises:
        DataError: fewer than ten rows a side, or fewer than d + 3 in two fifths of either.
    """
    cut = blocks(len(x), len(y), seed, groups)
    held_out, ratio, diagnostics = cross_fit(x, y, cut, seed)
    return [
        _with_caution(e)
        for e in read(
            held_out,
            divergences,
            method="telescoping",
            dim=x.shape[1],
            confidence=confidence,
            groups=groups,
            ratio=ratio,
            diagnostics=diagnostics,
            parametric=cut,
        )
    ]


def cross_fit(
    x: np.ndarray, y: np.ndarray, cut: list[Rows], seed: int
) -> tuple[HeldOut, Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Log-ratios of every row from two chains of anchors and critics that never saw it, their mean, and figures."""
    rng = np.random.default_rng(seed)
    parts = [part for pair in cross_fits(cut) for part in pair]
    anchors = [Anchors.fit(x[t.p], y[t.q], x[j.p], y[j.q]) for t, j, _ in parts]
    folds = []
    for made, part in zip(anchors, parts, strict=True):
        for normal, rows, train, judge in (
            (made.p, x, part.train.p, part.validation.p),
            (made.q, y, part.train.q, part.validation.q),
        ):
            real = [made.coordinates(rows[index[:MOST]]) for index in (train, judge)]
            folds.append(Fold(real[0], normal.sample(rng, len(real[0])), real[1], normal.sample(rng, len(real[1]))))
    residuals, course = fit_critics(folds, seed)
    longest = max(max(len(b.p), len(b.q)) for b in cut)
    chains = [
        _chain(made, residual_p, residual_q, longest)
        for made, residual_p, residual_q in zip(anchors, residuals[::2], residuals[1::2], strict=True)
    ]
    log_p, log_q = np.empty((2, len(x))), np.empty((2, len(y)))
    for c, (part, chain) in enumerate(zip(parts, chains, strict=True)):
        log_p[c % 2, part.held_out.p], log_q[c % 2, part.held_out.q] = (
            chain(x[part.held_out.p]),
            chain(y[part.held_out.q]),
        )
    coordinates = [type(a.coordinates).__name__ for a in anchors]
    return (
        HeldOut(log_p, log_q),
        lambda rows: np.mean([chain(rows) for chain in chains], axis=0),
        {**course, "coordinates": max(set(coordinates), key=coordinates.count)},
    )


def _chain(anchors: Anchors, residual_p, residual_q, longest: int) -> Callable[[np.ndarray], np.ndarray]:
    def log_ratio(rows: np.ndarray) -> np.ndarray:
        z = anchors.coordinates(rows)
        return residual_p(z, pad=longest) + anchors.p(z) - anchors.q(z) - residual_q(z, pad=longest)

    return log_ratio


def _with_caution(e: Estimate) -> Estimate:
    said = "telescoping: where the sets do not overlap the value rests on Gaussian references and their critics"
    return dataclasses.replace(e, warnings=(*e.warnings, said))

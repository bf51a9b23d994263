"""From held-out log-ratios to divergences with intervals: one fit, every functional.

Given ℓ̂(x) ≈ log p/q from critics that never saw x, three steps make an estimate of any D_f:

1. *Calibration.* ℓ_θ = θ·(1, ℓ̂, 2 log cosh ℓ̂/2), three numbers fitted by logistic regression to the held-out rows
   themselves. By data processing the divergence of ℓ̂'s two distributions on the line is at most D_f(P‖Q), and falls
   short of it by the *square* of ℓ̂'s error: what a critic gets wrong in first order, calibration takes away.
2. *Plug-in.* D_f = E_M[f(r)/(πr + 1 − π)] over the pooled rows, r = e^ℓ_θ, π = n/(n + m): bounded weights, where the
   variational bound would average r itself on Q. The error bars come from its influence function, calibration included.
   Where f has a kink (total variation), noise about ratio 1 would count as divergence: there the variational bound
   itself is used, which it leaves unbiased.
3. *Extrapolation.* Two critics with independent errors are averaged, which halves the variance of the log-ratio and so
   the loss it causes: D̂ = 2 D(mean of both) − mean of D(either) is free of that loss to second order.

What remains is what both critics miss alike. Beside the value stands the variational bound of the uncalibrated critics,

    E_P[T] − E_Q[f*(T)] ≤ D_f(P‖Q),     T = f'(e^ℓ̂),  whatever they learned,

which is valid but more variable (Nguyen, Wainwright & Jordan 2010).

Layer 2: imports calibration, divergences, folds, result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit
from scipy.stats import norm

from estimators.density_ratio.calibration import Logistic, basis, calibrate
from estimators.divergences.table import FDivergence
from estimators.result import Estimate, Scores
from estimators.samples.folds import Groups, Rows

STEEPEST = 25.0  # |log-ratio| up to which float64 holds f*(f'(u)) where no fused form is stated
STEP = 1e-4  # of a central difference in ℓ
DOUBT = 1.0  # share of the extrapolation's own size that is added to the standard error
UNCHECKED = 1.0  # the same of the part of an unbounded divergence that rests on the excess of ratios over n, or 1/n
CHUNK = 8192  # numbers to which a generator is applied at once
HEAVY = 0.1  # share of the value from which on that part is warned of


class HeldOut(NamedTuple):
    """Held-out log-ratios of the rows of P [critics, n] and of Q [critics, m]; critics have independent errors."""

    log_p: np.ndarray
    log_q: np.ndarray

    def mean(self) -> Scores:
        return Scores(self.log_p.mean(axis=0), self.log_q.mean(axis=0))

    def each(self) -> list[Scores]:
        return [Scores(p, q) for p, q in zip(self.log_p, self.log_q, strict=True)]


class _Calibrated(NamedTuple):
    """A log-ratio on all rows, P's first, with what its calibration adds to an influence function."""

    raw: Scores
    log_ratio: np.ndarray
    phi: np.ndarray
    scores: np.ndarray  # of the logistic likelihood, times the inverse information: [n + m, k]
    share: float  # of P's rows

    def log_n(self) -> float:
        """Of the smaller set: larger log-ratios cannot be told from each other by samples of this size."""
        return math.log(min(self.share, 1.0 - self.share) * len(self.log_ratio))

    @classmethod
    def of(cls, scores: Scores, fitted: Logistic) -> _Calibrated:
        raw = np.concatenate([scores.log_p, scores.log_q])
        n, m = len(scores.log_p), len(scores.log_q)
        phi = basis(raw)
        log_ratio = phi @ fitted.theta
        surprise = (np.arange(n + m) < n) - expit(log_ratio + math.log(n / m))
        return cls(scores, log_ratio, phi, (surprise[:, None] * phi) @ fitted.covariance * (n + m), n / (n + m))


def read(
    held_out: HeldOut,
    divergences: Sequence[FDivergence],
    *,
    method: str,
    dim: int,
    confidence: float = 0.95,
    groups: Groups | None = None,
    ratio: Callable[[np.ndarray], np.ndarray] | None = None,
    diagnostics: Mapping[str, Any] | None = None,
    parametric: list[Rows] | None = None,
) -> list[Estimate]:
    """An Estimate for each of `divergences` from held-out log-ratios.

    Args:
        held_out: of one critic, or of two whose errors are independent.
        method, dim: as reported.
        confidence: level of the intervals.
        groups: labels of rows that are not independent of each other, one a row or several; the standard error is
            that of group sums.
        ratio: points [k, d] → log p/q [k], before calibration.
        diagnostics: further figures of the fit.
        parametric: the blocks that were held out, to take the log-ratios as they are, where sets that hardly overlap
            could not calibrate them; the disagreement of a block's critics tells the error of their parameters.
    """
    raw = held_out.mean()
    n, m = len(raw.log_p), len(raw.log_q)
    separable = bool(raw.log_p.min() > raw.log_q.max())
    each = held_out.each() if len(held_out.log_p) > 1 else []
    fits = [_fit(s, separable or parametric is not None) for s in (raw, *each)]
    views = [_Calibrated.of(s, fit) for s, fit in zip((raw, *each), fits, strict=True)]
    theta = fits[0].theta
    scores = Scores(views[0].log_ratio[:n], views[0].log_ratio[n:])
    facts = {**_facts(raw, scores, theta), **(diagnostics or {})}
    warnings = _warnings(scores, facts, separable)
    z = float(norm.ppf(0.5 + 0.5 * confidence))
    made = []
    for row in divergences:
        if parametric is None:
            value, error = _extrapolated(row, views, n, dim, groups)
            beyond, part = _unchecked(row, views[0])
            error = math.hypot(error, UNCHECKED * part)
        else:
            value, error = _agreed(row, views, n, parametric, groups)
            beyond, part = 0, 0.0  # as ever where sets hardly overlap: telescoping says so itself
        bound, bound_error = lower_bound(row, raw, groups)
        value, low, high = _interval(row, value, z * error, math.log(min(n, m)), separable)
        made.append(
            Estimate(
                divergence=row.name,
                value=value,
                low=low,
                high=high,
                standard_error=error,
                confidence=confidence,
                method=method,
                n_p=n,
                n_q=m,
                dim=dim,
                warnings=(*warnings, *_about(row, value, error, min(n, m)), *_heavy(value, beyond, part)),
                diagnostics={**facts, "lower_bound": bound, "lower_bound_standard_error": bound_error},
                ratio=None if ratio is None else lambda points: basis(ratio(points)) @ theta,
                scores=scores,
            )
        )
    return made


def _fit(scores: Scores, separable: bool) -> Logistic:
    """The calibration; none where it has no finite optimum."""
    return Logistic(np.array([0.0, 1.0, 0.0]), np.zeros((3, 3))) if separable else calibrate(*scores)


def _extrapolated(row: FDivergence, views: list[_Calibrated], n: int, dim: int, groups: Groups | None):
    """(2 D(mean critic) − mean of D(either), its standard error), or D and its error of a single critic."""
    found = [_reading(row, view) for view in views]
    value, influence = found[0]
    doubt = 0.0
    if len(found) > 1:
        others, influences = zip(*found[1:], strict=True)
        gain = value - float(np.mean(others))
        if row.smooth:  # more than all there is says only that the expansion does not hold
            most = abs(value - row.value_at_one)
            gain = min(max(gain, -most), most)
        value, influence = value + gain, 2.0 * influence - np.mean(influences, axis=0)
        doubt = DOUBT * gain / math.sqrt(dim + 1.0)
    return value, math.hypot(standard_error(influence, n, groups), 2.0 * doubt)


def _agreed(row: FDivergence, views: list[_Calibrated], n: int, cut: list[Rows], groups: Groups | None):
    """(D of the mean critic, its standard error): that of the held-out rows, and that of the critics' parameters.

    A block's two critics have two fifths of the rows each, so the variance of their difference is five times that of a
    fit to all rows.
    """
    (value, influence), *others = [_reading(row, view) for view in views]
    error = standard_error(influence, n, groups)
    if len(others) == 2:
        apart = others[0][1] - others[1][1]
        by_block = [np.sum(apart[np.concatenate([b.p, n + b.q])]) * len(cut) / len(apart) for b in cut]
        error = math.hypot(error, math.sqrt(float(np.mean(np.square(by_block))) / 5.0))
    return value, error


def _reading(row: FDivergence, view: _Calibrated) -> tuple[float, np.ndarray]:
    """(D, its influence on each row) by plug-in, or by the variational bound where f has a kink."""
    return _plug_in(row, view) if row.smooth else _bound(row, view.raw)


def _bound(row: FDivergence, scores: Scores) -> tuple[float, np.ndarray]:
    """E_P[T] − E_Q[f*(T)] and its influence on each row, T = f'(e^ℓ)."""
    t_p, t_q = variational(row, *scores)
    n, m = len(t_p), len(t_q)
    with np.errstate(over="ignore", invalid="ignore"):  # a critic may be so wrong that its bound is −∞
        return float(t_p.mean() - t_q.mean()), np.concatenate([t_p / n, -t_q / m]) * (n + m)


def _plug_in(row: FDivergence, view: _Calibrated) -> tuple[float, np.ndarray]:
    """E_M[f(r)/(πr + 1 − π)] and its influence on each row, r = e^ℓ, M = πP + (1 − π)Q.

    Where that grows with a power of r (pearson), ratios beyond n count as n: n rows hold no evidence of larger ones.
    """
    around = np.stack([_within_reach(row, view) + s for s in (-STEP, 0.0, STEP)])
    low, here, high = _perspective(row, around, view.share)
    slope = (high - low) / (2.0 * STEP)
    gradient = slope @ view.phi / len(here)
    return row.value_at_one + float(here.mean()), here + view.scores @ gradient


def _within_reach(row: FDivergence, view: _Calibrated) -> np.ndarray:
    reach = view.log_n() if _steep(row) else math.inf
    return np.clip(view.log_ratio, -reach, reach)


def _unchecked(row: FDivergence, view: _Calibrated) -> tuple[int, float]:
    """(rows with a ratio beyond n or below 1/n, what D_f owes to their ratios' excess over n or 1/n).

    No sample of n says how large such ratios are. Nothing where D_f is bounded: it hardly matters there.
    """
    if math.isfinite(row.upper_limit()):
        return 0, 0.0
    log_ratio, reach = _within_reach(row, view), view.log_n()
    beyond = np.abs(log_ratio) >= reach
    ratios = np.stack([log_ratio, np.clip(log_ratio, -reach, reach)])[:, beyond]
    there, at_reach = _perspective(row, ratios, view.share)
    return int(beyond.sum()), float(np.abs(there - at_reach).sum()) / len(beyond)


def _steep(row: FDivergence) -> bool:
    """Whether f̃(r)/(r + 1) grows, towards either end, faster than any power of log r."""
    ends = _perspective(row, np.array([-40.0, -20.0, 20.0, 40.0]), 0.5)
    return bool(max(ends[0] / ends[1] if ends[1] > 0.0 else 0.0, ends[3] / ends[2] if ends[2] > 0.0 else 0.0) > 50.0)


def _perspective(row: FDivergence, log_ratio: np.ndarray, share: float) -> np.ndarray:
    """f̃(r)/(πr + 1 − π) ≥ 0 in float64, f̃(u) = f(u) − f(1) − f'(1)(u − 1); linear in ℓ beyond what float64 holds."""
    for reach in (300.0, 2.0 * STEEPEST):
        (found,) = elementwise(_perspective_within, row, log_ratio, share, reach)
        if np.isfinite(found).all():
            break
    return found


def _perspective_within(row: FDivergence, log_ratio: jax.Array, share: float, reach: float) -> tuple[jax.Array]:
    slope = row.prime(jnp.ones(()))

    def at(v):
        tangent = row.value_at_one + slope * jnp.expm1(v)
        return (row.f(jnp.exp(v)) - tangent) / (share * jnp.exp(v) + 1.0 - share)

    v = jnp.clip(log_ratio, -reach, reach)
    ends = at(jnp.asarray([-reach, 1.0 - reach, reach - 1.0, reach]))
    slope_beyond = jnp.where(v < 0.0, ends[1] - ends[0], ends[3] - ends[2])
    return (at(v) + jnp.where(v == log_ratio, 0.0, (log_ratio - v) * slope_beyond),)


def elementwise(function: Callable[..., tuple[jax.Array, ...]], row: FDivergence, values: np.ndarray, *scalars: float):
    """function(row, values, *scalars), a tuple of arrays like `values`, in float64 and in chunks of one size.

    So a row of the table is compiled once, however many samples there are.
    """
    flat = np.ravel(values)
    padding = np.zeros(max(-len(flat) % CHUNK, CHUNK - len(flat)))
    padded = np.concatenate([flat, padding]).reshape(-1, CHUNK)
    with jax.enable_x64(True):
        found = [[np.asarray(a) for a in _compiled(function, row, chunk, *scalars)] for chunk in padded]
    return [np.concatenate(parts)[: len(flat)].reshape(np.shape(values)) for parts in zip(*found, strict=True)]


_compiled = jax.jit(lambda function, row, *arguments: function(row, *arguments), static_argnums=(0, 1))


def standard_error(influence: np.ndarray, n: int, groups: Groups | None = None) -> float:
    """Of the mean of `influence` [n + m] over draws of both sets, n and m fixed; over draws of groups if given."""
    centred = influence - np.where(np.arange(len(influence)) < n, influence[:n].mean(), influence[n:].mean())
    if groups is not None:
        sums = _group_sums(centred, groups)
        return math.sqrt(len(sums) / max(len(sums) - 1.0, 1.0) * float(sums @ sums)) / len(influence)
    p, q = centred[:n], centred[n:]
    return math.sqrt(float(p @ p) * n / (n - 1.0) + float(q @ q) * len(q) / (len(q) - 1.0)) / len(influence)


def _group_sums(influence: np.ndarray, groups: Groups) -> np.ndarray:
    """Sums of influence over groups; a row that belongs to several, [rows, k] labels, counts in each."""
    columns = [labels.reshape(len(labels), -1) for labels in groups]
    _, inverse = np.unique(np.concatenate([c.ravel() for c in columns]), return_inverse=True)
    repeated = [
        np.repeat(part, c.shape[1]) for part, c in zip(np.split(influence, [len(columns[0])]), columns, strict=True)
    ]
    return np.bincount(inverse, np.concatenate(repeated))


def lower_bound(row: FDivergence, scores: Scores, groups: Groups | None = None) -> tuple[float, float]:
    """E_P[T] − E_Q[f*(T)] of held-out, uncalibrated log-ratios, and its standard error: at most D_f in expectation."""
    value, influence = _bound(row, scores)
    if not math.isfinite(value):
        return -math.inf, math.inf
    return value, standard_error(influence, len(scores.log_p), groups)


def variational(row: FDivergence, log_p: np.ndarray, log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T on P's samples, f*(T) on Q's) in float64, with T = f'(e^ℓ); the exact step where f has a kink."""
    log_ratio = np.concatenate([log_p, log_q])
    stands_for, t, conjugate = elementwise(_activated, row, log_ratio)
    if not row.smooth or np.any(stands_for != log_ratio):  # smoothed, or levelled off early for float32's sake
        t, conjugate = elementwise(_by_definition, row, log_ratio)
    return t[: len(log_p)], conjugate[len(log_p) :]


def _activated(row: FDivergence, v: jax.Array) -> tuple[jax.Array, ...]:
    return row.log_ratio.log_ratio(v), row.log_ratio.output(v), row.log_ratio.conjugate(v)


def _by_definition(row: FDivergence, v: jax.Array) -> tuple[jax.Array, ...]:
    t = row.prime(jnp.exp(jnp.clip(v, -STEEPEST, STEEPEST)))
    return t, row.conjugate(t)


def _interval(
    row: FDivergence, value: float, reach: float, log_n: float, separable: bool
) -> tuple[float, float, float]:
    """(value, low, high), none above the divergence's supremum; log n is the most that samples alone can certify."""
    limit = row.upper_limit()
    value = min(value, limit)
    if separable:
        return value, min(value - reach, log_n), limit
    return value, value - reach, min(value + reach, limit)


def _facts(raw: Scores, scores: Scores, theta: np.ndarray) -> dict[str, Any]:
    """Checks of the log-ratio: E_Q[r] and E_P[1/r], 1 for the truth, and how many rows carry the weights."""

    def size(log_weights):
        weights = np.exp(log_weights - log_weights.max())
        return float(weights.sum() ** 2 / (weights**2).sum())

    return {
        "mean_ratio_on_q": float(np.mean(np.exp(np.minimum(scores.log_q, 700.0)))),
        "mean_inverse_ratio_on_p": float(np.mean(np.exp(np.minimum(-scores.log_p, 700.0)))),
        "effective_sample_size_p": size(-scores.log_p),
        "effective_sample_size_q": size(scores.log_q),
        "calibration": theta.tolist(),
    }


def _warnings(scores: Scores, facts: Mapping[str, Any], separable: bool) -> list[str]:
    said = []
    if separable:
        said.append("separable: the critic tells every held-out sample of P from every one of Q, so high is unlimited")
    for side, key, rows, which in (
        ("Q", "effective_sample_size_q", len(scores.log_q), "p/q (kl, pearson, jeffreys)"),
        ("P", "effective_sample_size_p", len(scores.log_p), "q/p (reverse_kl, neyman, jeffreys)"),
    ):
        size = facts[key]
        if size < max(0.01 * rows, min(20.0, 0.5 * rows)):
            said.append(
                f"the ratio weights on {side} have an effective sample size of {size:.0f} of {rows}: divergences that "
                f"grow with {which} rest on few samples"
            )
    return said


def _about(row: FDivergence, value: float, error: float, n: int) -> list[str]:
    said = []
    if value < 0.0 <= row.value_at_one:
        said.append("negative: as chance allows when the divergence is small; the interval holds 0")
    if math.isinf(row.upper_limit()) and value > math.log(n):
        said.append(f"saturated: above log n = {math.log(n):.2f}, more than {n} samples can certify")
    if not math.isfinite(error):
        said.append("heavy tails: the standard error is not finite")
    return said


def _heavy(value: float, rows: int, part: float) -> list[str]:
    if part <= HEAVY * abs(value):
        return []
    share = f"{min(100.0 * part / value, 100.0):.0f} % of the value" if value > 0.0 else "much of the value"
    return [
        f"heavy tails: {share} rests on how far the ratios of {rows} rows lie beyond the number of samples, where no "
        "sample checks the critic; the interval allows for that part"
    ]

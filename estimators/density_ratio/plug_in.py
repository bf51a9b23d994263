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
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from estimators.contract import Fit, Interval, Request, Scores
from estimators.density_ratio.folds import HeldOut, Rows
from estimators.density_ratio.references import Logistic, logistic
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import perspective
from estimators.samples.arrays import Groups

STEEPEST = 25.0  # |log-ratio| up to which float64 holds f*(f'(u)) where no fused form is stated
STEP = 1e-4  # of a central difference in ℓ
EXTRAPOLATION_ERROR = 1.0
"""Share of the extrapolation's own size that is added to the standard error; `benchmarks.estimation` shows coverage."""
UNSUPPORTED_ERROR = 1.0
"""Share of the part of an unbounded divergence that rests on ratios beyond n, or 1/n, added to the standard error."""
REST = 2.5
"""Of what the second half of the rows added to a value, what more rows may add: 1/(√2 − 1) for an error like 1/√n."""
SLOW = 0.1  # share of a value that the second half of the rows added, from which on its limit cannot be foreseen
ROWS_A_COLUMN = 5
"""Rows that train a critic, for each column, from which on intervals have an upper end. Of the laws of
`tasks.random_pairs` with fewer, 0 to 5 of 6 intervals held the truth (benchmarks, suite `small`)."""
UNSEEN = 2.0
"""Nats, times √columns over the rows that train a critic, that a dependence may hide which no reference shows: chosen
on laws 1000 to 1010 of `tasks.random_pairs` with 50 to 500 rows."""
HEAVY = 0.1  # share of a value that may rest on ratios beyond n, or 1/n, before a warning says so
UNCHANGED = Logistic(np.array([0.0, 1.0, 0.0]), np.zeros((3, 3)))  # no calibration
SEPARABLE = "separable: the critic tells every held-out sample of P from every one of Q, so high is unlimited"
TELESCOPING = "telescoping: where the sets do not overlap the value rests on Gaussian references and their critics"
CHUNK = 8192  # numbers to which a generator is applied at once


class Calibrated(NamedTuple):
    """A log-ratio on all rows, P's first, with what its calibration adds to an influence function."""

    raw: Scores
    log_ratio: np.ndarray
    phi: np.ndarray
    scores: np.ndarray  # of the logistic likelihood, times the inverse information: [n + m, k]
    share: float  # of P's rows

    @property
    def log_n(self) -> float:
        """Of the smaller set: larger log-ratios cannot be told from each other by samples of this size."""
        return math.log(min(self.share, 1.0 - self.share) * len(self.log_ratio))

    @classmethod
    def of(cls, scores: Scores, fitted: Logistic) -> Calibrated:
        raw = np.concatenate([scores.log_p, scores.log_q])
        n, m = len(scores.log_p), len(scores.log_q)
        phi = basis(raw)
        log_ratio = phi @ fitted.theta
        surprise = (np.arange(n + m) < n) - expit(log_ratio + math.log(n / m))
        return cls(scores, log_ratio, phi, (surprise[:, None] * phi) @ fitted.covariance * (n + m), n / (n + m))


def basis(log_ratio: np.ndarray) -> np.ndarray:
    """(1, ℓ, 2 log cosh(ℓ/2)) [..., 3]: a shift, a slope, and different slopes where ℓ < 0 and where ℓ > 0.

    Source: beta calibration (Kull, Silva Filho & Flach 2017), its three parameters turned so that one means symmetric.
    """
    bend = np.logaddexp(0.0, log_ratio) + np.logaddexp(0.0, -log_ratio) - 2.0 * np.log(2.0)
    return np.stack([np.ones_like(log_ratio), log_ratio, bend], axis=-1)


def calibrate(log_p: np.ndarray, log_q: np.ndarray) -> Logistic:
    """The model of log p/q on `basis` of a given log-ratio; no change is θ = (0, 1, 0).

    The ridge's weight of one row keeps the bend at 0 where ℓ hardly varies.
    """
    return logistic(basis(log_p), basis(log_q), start=(0.0, 1.0, 0.0), ridge=(1e-6, 1e-2, 1.0))


def plug_in(request: Request, held_out: HeldOut) -> Fit:
    """D_f(P‖Q) with its interval for each divergence of `request`, from held-out log-ratios of its samples.

    The log-ratios are those of one critic, or of two whose errors are independent.
    """
    raw = held_out.mean()
    n, m = len(raw.log_p), len(raw.log_q)
    separable = raw.log_p.min() > raw.log_q.max()
    as_they_are = separable or held_out.parametric is not None  # calibration has no finite optimum, or is not wanted
    critics, theta = _calibrated(held_out, as_they_are)
    learning = None if as_they_are else held_out.learning
    stages = [] if learning is None else [_calibrated(stage, False)[0] for stage in learning[1:]]
    log_ratio = held_out.log_ratio
    scores = Scores(critics[0].log_ratio[:n], critics[0].log_ratio[n:])
    facts = _facts(scores, theta)
    common = (
        SEPARABLE if separable else "",
        _few_weights("Q", "p/q (kl, pearson, jeffreys)", facts["effective_sample_size_q"], m),
        _few_weights("P", "q/p (reverse_kl, neyman, jeffreys)", facts["effective_sample_size_p"], n),
    )
    intervals = [_interval(d, request, critics, held_out.parametric, common) for d in request.divergences]
    if learning is not None:
        pairs = zip(request.divergences, intervals, strict=True)
        intervals = [_followed(d, interval, learning.rows, stages, request) for d, interval in pairs]
    if held_out.fitted and not as_they_are:
        pairs, columns = zip(request.divergences, intervals, strict=True), request.x.shape[1]
        intervals = [_fallen_short(d, interval, held_out.fitted, columns, held_out.units) for d, interval in pairs]
    return Fit(
        request.method,
        intervals,
        None if log_ratio is None else lambda points: basis(log_ratio(points)) @ theta,
        scores,
        {**facts, **held_out.diagnostics},
    )


def _calibrated(held_out: HeldOut, as_they_are: bool) -> tuple[list[Calibrated], np.ndarray]:
    """The mean critic and those it is the mean of, calibrated unless `as_they_are`, and the mean's θ."""
    each = [held_out.mean(), *(held_out.each() if len(held_out.log_p) > 1 else [])]
    fits = [UNCHANGED if as_they_are else calibrate(*scores) for scores in each]
    return [Calibrated.of(scores, fit) for scores, fit in zip(each, fits, strict=True)], fits[0].theta


def _interval(
    d: FDivergence,
    request: Request,
    critics: list[Calibrated],
    parametric: list[Rows] | None,
    common: tuple[str, ...],
) -> Interval:
    """One divergence from the mean critic, the first of `critics`, and those it is the mean of."""
    raw, groups = critics[0].raw, request.groups
    n = min(len(raw.log_p), len(raw.log_q))
    if parametric is None:
        rows, part = _unsupported(d, critics[0])
        value, influence, gain = _extrapolated(d, critics)
        unknown = EXTRAPOLATION_ERROR * 2.0 * gain / math.sqrt(request.x.shape[1] + 1.0), UNSUPPORTED_ERROR * part
        error = math.hypot(standard_error(influence, len(raw.log_p), groups), *unknown)
    else:  # where sets hardly overlap no ratio is supported: there is a warning of its own
        rows, part = 0, 0.0
        value, error = _agreed(d, critics, parametric, groups)
    value = min(value, d.upper_limit())
    interval = Interval.around(value, error, request.quantile, -math.inf, d.upper_limit())
    if value < d.value_at_one:  # no divergence is: chance, or critics that learned nothing, in a bound
        interval = interval._replace(high=max(interval.high, d.value_at_one + request.quantile * error))
    if common[0]:  # separable: log n is the most that samples alone can certify
        interval = interval._replace(low=min(interval.low, math.log(n)), high=d.upper_limit())
    own = () if parametric is None else (TELESCOPING,)
    bound, bound_error = lower_bound(d, raw, groups)
    return interval._replace(
        warnings=(*filter(None, common), *_cautions(d, interval, n, rows, part), *own),
        diagnostics={
            "lower_bound": max(bound, d.value_at_one),
            "lower_bound_standard_error": bound_error,
            "beyond_samples": part,
        },
    )


def _cautions(d: FDivergence, interval: Interval, n: int, rows: int, part: float) -> Iterator[str]:
    """What limits the value: n samples, and a `part` of it that rests on the ratios of `rows` rows beyond n."""
    value = interval.value
    if value < 0.0 <= d.value_at_one:
        yield "negative: as chance allows when the divergence is small; the interval holds 0"
    if value > math.log(n) and math.isinf(d.upper_limit()):
        yield f"saturated: above log n = {math.log(n):.2f}, more than {n} samples can certify"
    if not math.isfinite(interval.standard_error):
        yield "heavy tails: the standard error is not finite"
    if part > HEAVY * abs(value):
        share = f"{min(100.0 * part / value, 100.0):.0f} % of the value" if value > 0.0 else "much of the value"
        yield (
            f"heavy tails: {share} rests on how far the ratios of {rows} rows lie beyond the number of samples, where "
            "no sample checks the critic"
        )


def _few_weights(side: str, ratio: str, effective: float, n: int) -> str:
    """A warning of weights `ratio` on the n samples of `side` with an effective sample size below 1 %, else ""."""
    text = (
        f"the ratio weights on {side} have an effective sample size of {effective:.0f} of {n}: divergences that "
        f"grow with {ratio} rest on few samples"
    )
    return text if effective < max(0.01 * n, min(20.0, 0.5 * n)) else ""


def _followed(
    d: FDivergence, interval: Interval, rows: Rows, stages: Sequence[list[Calibrated]], request: Request
) -> Interval:
    """The interval, wider towards where its value moved when critics got twice the rows, more so if it is no chance.

    Where they still learn much, no one knows where it ends: there is a lower bound only.
    """
    (before, earlier, _), (now, later, _), (alone, _, _) = (_extrapolated(d, critics) for critics in stages)
    groups = None if request.groups is None else (request.groups[0][rows.p], request.groups[1][rows.q])
    moved, error = now - before, standard_error(later - earlier, len(rows.p), groups)
    figures = {"learned_from_second_half": moved, "found_by_networks": now - alone}
    interval = interval._replace(diagnostics={**interval.diagnostics, **figures})
    if not abs(moved) > request.quantile * error:  # what chance may have done is one error more
        margin = math.hypot(interval.high - interval.value, REST * max(moved, 0.0))
        return interval._replace(high=min(max(interval.high, interval.value + margin), d.upper_limit()))
    if moved < 0.0:
        return interval._replace(low=max(interval.low + REST * moved, min(d.value_at_one, interval.low)))
    if moved <= max(SLOW * abs(interval.value), interval.high - interval.value):  # or within what chance does anyway
        return interval._replace(high=min(interval.high + REST * moved, d.upper_limit()))
    words = f"lower bound only: critics of twice the rows found {moved:.3g} more, so that more rows may find more still"
    return interval._replace(high=d.upper_limit(), warnings=(*interval.warnings, words))


def _fallen_short(
    d: FDivergence, interval: Interval, fitted: Sequence[tuple[Scores, Scores]], columns: int, units: int
) -> Interval:
    """The interval, its upper end farther by what critics lack for want of rows; none with very few rows.

    A fit of k parameters to n rows gains k/2n on these rows over the best of its kind, and lacks k/2n on others: what
    it lacks is half of the difference, measured on the references, whose k is not known. Beside it stands what no
    reference shows (`UNSEEN`), times f''(1), which is 1 for kl; as much as of kl where f has a kink. `units` are the
    rows, or groups of rows, of the smaller set that train a critic.
    """
    if units < ROWS_A_COLUMN * columns:
        words = f"lower bound only: {units} independent rows train each critic, too few for {columns} columns"
        return interval._replace(high=d.upper_limit(), warnings=(*interval.warnings, words))
    values = [[_value_and_influence(d, _calibrated_alone(scores))[0] for scores in pair] for pair in fitted]
    lacking = 0.5 * float(np.mean([on_own - on_others for on_own, on_others in values]))
    lacking = max(lacking, 0.0) if math.isfinite(lacking) else 0.0  # a bound may be −∞
    unseen = UNSEEN * math.sqrt(columns) / units * (_curvature(d) if d.smooth else 1.0)
    figures = {**interval.diagnostics, "lacking_of_references": lacking}
    return interval._replace(high=min(interval.high + lacking + unseen, d.upper_limit()), diagnostics=figures)


@lru_cache(maxsize=256)
def _curvature(d: FDivergence) -> float:
    """f''(1): D_f is about f''(1) times kl where P and Q are near each other."""
    with jax.enable_x64(True):
        return float(jax.jit(d.second)(jnp.float64(1.0)))


def _calibrated_alone(scores: Scores) -> Calibrated:
    return Calibrated.of(scores, calibrate(*scores))


def _extrapolated(d: FDivergence, critics: list[Calibrated]) -> tuple[float, np.ndarray, float]:
    """(2 D(mean critic) − mean of D(either), its influence, what that adds), or D and its own of a single critic."""
    (value, influence), *others = [_value_and_influence(d, critic) for critic in critics]
    left = 0.0
    if others:
        values, influences = zip(*others, strict=True)
        gain = value - float(np.mean(values))
        if d.smooth:  # more than all there is says only that the expansion does not hold
            most = abs(value - d.value_at_one)
            gain = min(max(gain, -most), most)
        value, influence, left = value + gain, 2.0 * influence - np.mean(influences, axis=0), gain
    return value, influence, left


def _agreed(
    d: FDivergence, critics: list[Calibrated], blocks: list[Rows], groups: Groups | None
) -> tuple[float, float]:
    """(D of the mean critic, its standard error): that of the held-out rows, and that of the critics' parameters.

    A block's two critics have two fifths of the rows each, so the variance of their difference is five times that of a
    fit to all rows.
    """
    n = len(critics[0].raw.log_p)
    (value, influence), *others = [_value_and_influence(d, critic) for critic in critics]
    error = standard_error(influence, n, groups)
    if len(others) == 2:
        apart = others[0][1] - others[1][1]
        by_block = [np.sum(apart[np.concatenate([b.p, n + b.q])]) * len(blocks) / len(apart) for b in blocks]
        error = math.hypot(error, math.sqrt(float(np.mean(np.square(by_block))) / 5.0))
    return value, error


def _value_and_influence(d: FDivergence, critic: Calibrated) -> tuple[float, np.ndarray]:
    """E_M[f(r)/(πr + 1 − π)] and its influence on each row, r = e^ℓ, M = πP + (1 − π)Q; the bound where f has a kink.

    Where that grows with a power of r (pearson), ratios beyond n count as n: n rows hold no evidence of larger ones.
    """
    if not d.smooth:
        return _bound(d, critic.raw)
    around = np.stack([_supported(d, critic) + s for s in (-STEP, 0.0, STEP)])
    low, here, high = mixture_integrand(d, around, critic.share)
    slope = (high - low) / (2.0 * STEP)
    gradient = slope @ critic.phi / len(here)
    return d.value_at_one + float(here.mean()), here + critic.scores @ gradient


def _supported(d: FDivergence, critic: Calibrated) -> np.ndarray:
    """The log-ratios; where the integrand is steep in them, none beyond ±log n."""
    limit = critic.log_n if is_steep(d) else math.inf
    return np.clip(critic.log_ratio, -limit, limit)


def _unsupported(d: FDivergence, critic: Calibrated) -> tuple[int, float]:
    """(rows with a ratio beyond n or below 1/n, what D_f owes to their ratios' excess over n or 1/n).

    No sample of n says how large such ratios are. Nothing where D_f is bounded: it hardly matters there.
    """
    if math.isfinite(d.upper_limit()):
        return 0, 0.0
    log_ratio, limit = _supported(d, critic), critic.log_n
    outside = np.abs(log_ratio) >= limit
    ratios = np.stack([log_ratio, np.clip(log_ratio, -limit, limit)])[:, outside]
    there, at_limit = mixture_integrand(d, ratios, critic.share)
    return int(outside.sum()), float(np.abs(there - at_limit).sum()) / len(outside)


def is_steep(d: FDivergence) -> bool:
    """Whether f̃(r)/(r + 1) grows, towards either end, faster than any power of log r."""
    ends = mixture_integrand(d, np.array([-40.0, -20.0, 20.0, 40.0]), 0.5)
    return bool(max(ends[0] / ends[1] if ends[1] > 0.0 else 0.0, ends[3] / ends[2] if ends[2] > 0.0 else 0.0) > 50.0)


def mixture_integrand(d: FDivergence, log_ratio: np.ndarray, share: float) -> np.ndarray:
    """f̃(r)/(πr + 1 − π) ≥ 0 in float64, whose mean under πP + (1 − π)Q is D_f − f(1)."""
    return elementwise(_integrand, d, log_ratio, share)[0]


def _integrand(d: FDivergence, log_ratio: jax.Array, share: float) -> tuple[jax.Array]:
    return (perspective(d)(log_ratio, share),)


def elementwise(function: Callable[..., tuple[jax.Array, ...]], d: FDivergence, values: np.ndarray, *scalars: float):
    """function(d, values, *scalars), a tuple of arrays like `values`, in float64 and in chunks of one size.

    So a divergence is compiled once, however many samples there are.
    """
    flat = np.ravel(values)
    padding = np.zeros(max(-len(flat) % CHUNK, CHUNK - len(flat)))
    padded = np.concatenate([flat, padding]).reshape(-1, CHUNK)
    with jax.enable_x64(True):
        found = [[np.asarray(a) for a in _compiled(function, d, chunk, *scalars)] for chunk in padded]
    return [np.concatenate(chunks)[: len(flat)].reshape(np.shape(values)) for chunks in zip(*found, strict=True)]


_compiled = jax.jit(lambda function, d, *arguments: function(d, *arguments), static_argnums=(0, 1))


def _bound(d: FDivergence, scores: Scores) -> tuple[float, np.ndarray]:
    """E_P[T] − E_Q[f*(T)] and its influence on each row, T = f'(e^ℓ)."""
    t_p, t_q = variational(d, *scores)
    with np.errstate(over="ignore", invalid="ignore"):  # a critic may be so wrong that its bound is −∞
        return float(t_p.mean() - t_q.mean()), influence_of_means(t_p, -t_q)


def lower_bound(d: FDivergence, scores: Scores, groups: Groups | None = None) -> tuple[float, float]:
    """E_P[T] − E_Q[f*(T)] of held-out, uncalibrated log-ratios, and its standard error: at most D_f in expectation."""
    value, influence = _bound(d, scores)
    if not math.isfinite(value):
        return -math.inf, math.inf
    return value, standard_error(influence, len(scores.log_p), groups)


def variational(d: FDivergence, log_p: np.ndarray, log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T on P's samples, f*(T) on Q's) in float64, with T = f'(e^ℓ); the exact step where f has a kink."""
    log_ratio = np.concatenate([log_p, log_q])
    stands_for, t, conjugate = elementwise(_activated, d, log_ratio)
    if not d.smooth or np.any(stands_for != log_ratio):  # smoothed, or levelled off early for float32's sake
        t, conjugate = elementwise(_by_definition, d, log_ratio)
    return t[: len(log_p)], conjugate[len(log_p) :]


def _activated(d: FDivergence, v: jax.Array) -> tuple[jax.Array, ...]:
    return d.log_ratio.log_ratio(v), d.log_ratio.output(v), d.log_ratio.conjugate(v)


def _by_definition(d: FDivergence, v: jax.Array) -> tuple[jax.Array, ...]:
    t = d.prime(jnp.exp(jnp.clip(v, -STEEPEST, STEEPEST)))
    return t, d.conjugate(t)


def _facts(scores: Scores, theta: np.ndarray) -> dict[str, Any]:
    """Checks of the log-ratio: E_Q[r] and E_P[1/r], 1 for the truth, and how many rows carry the weights."""
    sides = {"mean_ratio_on_q": scores.log_q, "mean_inverse_ratio_on_p": -scores.log_p}
    facts: dict[str, Any] = {name: float(np.mean(np.exp(np.minimum(logs, 700.0)))) for name, logs in sides.items()}
    for name, logs in (("effective_sample_size_p", -scores.log_p), ("effective_sample_size_q", scores.log_q)):
        weights = np.exp(logs - logs.max())
        facts[name] = float(weights.sum() ** 2 / (weights**2).sum())
    return facts | {"calibration": theta.tolist()}


def standard_error(influence: np.ndarray, n: int, groups: Groups | None = None) -> float:
    """Of the mean of `influence` [n + m] over draws of both sets, n and m fixed; over draws of groups if given.

    A row that belongs to several groups, [rows, k] labels, counts in the sum of each.
    """
    centred = influence - np.where(np.arange(len(influence)) < n, influence[:n].mean(), influence[n:].mean())
    if groups is not None:
        columns = [labels.reshape(len(labels), -1) for labels in groups]
        _, inverse = np.unique(np.concatenate([c.ravel() for c in columns]), return_inverse=True)
        sides = zip(np.split(centred, [n]), columns, strict=True)
        sums = np.bincount(inverse, np.concatenate([np.repeat(side, c.shape[1]) for side, c in sides]))
        return math.sqrt(len(sums) / max(len(sums) - 1.0, 1.0) * float(sums @ sums)) / len(influence)
    p, q = centred[:n], centred[n:]
    return math.sqrt(float(p @ p) * n / (n - 1.0) + float(q @ q) * len(q) / (len(q) - 1.0)) / len(influence)


def influence_of_means(on_p: np.ndarray, on_q: np.ndarray) -> np.ndarray:
    """The influence [n + m] of the samples on E_P[a] + E_Q[b], given a on P's samples [n] and b on Q's [m]."""
    n, m = len(on_p), len(on_q)
    return np.concatenate([on_p / n, on_q / m]) * (n + m)

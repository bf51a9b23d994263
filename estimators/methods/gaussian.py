"""Divergences between the Gaussians fitted to two sample sets: exact where the data are Gaussian, wrong elsewhere.

Mean and covariance of each set stand for it, and D_f is read off the fitted pair: by closed form where there is one,
else as an average over quasi-random draws of M = ½(P + Q), E_M[2 f(r) / (1 + r)], whose weights are bounded. What the
fit itself adds to D_f is taken off, for the Kullback–Leibler family exactly and for the rest by the jackknife, which
leaves out blocks of rows (whole groups where there are groups) and gives the standard error too. All is float64.

`whitening` serves every method that measures distances.

Layer 2: imports divergences, gaussian, quadrature, result, samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import digamma, ndtri
from scipy.stats import norm, qmc, t

from estimators.divergences.families import alpha
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values import gaussian
from estimators.result import Estimate
from estimators.samples.arrays import DataError

BLOCKS = 40  # left out in turn
SCRAMBLES, POINTS, FEW = 16, 1024, 2  # quasi-random sets of draws, their size, and how many serve the jackknife
FLAT = 1e-10
"""Variance, relative to the widest direction's or to the two sets' mean, below which a direction counts as flat."""
UNLIKELY = 1e-3  # p-value of Mardia's test below which a set is called not Gaussian

Groups = tuple[np.ndarray, np.ndarray] | None
Closed = Callable[..., jax.Array]


class Whitening(NamedTuple):
    """An affine map of rows [k, d] → [k, rank], common to both sets."""

    mean: np.ndarray
    map: np.ndarray

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) @ self.map

    @property
    def rank(self) -> int:
        return self.map.shape[1]


def whitening(x: np.ndarray, y: np.ndarray) -> Whitening:
    """The map of the sets [n, d] and [m, d] after which their mean covariance ½(Σx + Σy) is I; no D_f feels it.

    Directions that the pooled rows do not fill (variance at most `FLAT` of the widest, columns standardised) are left
    out. The pooled covariance would not do: it shrinks the very direction in which the sets lie apart.

    Raises:
        DataError: no column varies.
    """
    pooled = np.concatenate([x, y])
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0)
    if not np.any(spread > 0.0):
        raise DataError("every column is constant; give samples that vary")
    scale = np.where(spread > 0.0, spread, 1.0)
    variances, directions = np.linalg.eigh(_covariance((pooled - mean) / scale))
    kept = variances > FLAT * variances[-1]
    filled = Whitening(mean, directions[:, kept] / np.sqrt(variances[kept]) / scale[:, None])
    variances, directions = np.linalg.eigh(0.5 * (_covariance(filled(x)) + _covariance(filled(y))))
    return Whitening(mean, filled.map @ (directions / np.sqrt(np.maximum(variances, FLAT))))


def _covariance(rows: np.ndarray) -> np.ndarray:
    return _products(rows - rows.mean(axis=0)) / len(rows)


class Fit(NamedTuple):
    """A Gaussian fitted to n rows: mean [d], unbiased covariance [d, d] and its lower Cholesky factor."""

    n: int
    mean: np.ndarray
    cov: np.ndarray
    factor: np.ndarray


def estimate(
    x: np.ndarray,
    y: np.ndarray,
    divergences: Sequence[FDivergence],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Groups = None,
) -> list[Estimate]:
    """D_f(P‖Q) of each of `divergences` between the Gaussians fitted to x and y, less the bias of fitting, in nats.

    Args:
        x, y: samples of P [n, d] and Q [m, d], float64, finite.
        divergences: rows of the table, or the user's own.
        seed: of the blocks of the jackknife and of the draws.
        confidence: level of the interval, value ± Student's quantile × standard error.
        groups: labels [n] and [m] of rows that are left out together; the two sets are taken as independent.

    Raises:
        DataError: a set with no more rows than dimensions + 2, or flat in a direction in which the other varies.
    """
    space = whitening(x, y)
    u, v = space(x), space(y)
    p, q = fit(u, "P"), fit(v, "Q")
    labels = groups or (None, None)
    left_out = [
        list(_fits(rows, whole, blocks(rows, label, seed)))
        for rows, whole, label in zip((u, v), (p, q), labels, strict=True)
    ]
    pairs = [(p, q), *((b, q) for b in left_out[0]), *((p, b) for b in left_out[1])]
    values, noise = _table(pairs, (*divergences, DIVERGENCES["jeffreys"]), seed)
    steps = len(left_out[0])
    quantile = float(t.ppf(0.5 + 0.5 * confidence, min(map(len, left_out)) - 1))
    both_ways = _jackknife(values[:, -1], steps, correct=groups is not None)
    apart = both_ways.value > quantile * both_ways.error  # else no interval leaves 0 out, not even at a kink there
    normality = {"mardia_p": mardia(u, p), "mardia_q": mardia(v, q)}
    warnings = _warnings(x.shape[1], space.rank, normality)
    made = []
    for j, row in enumerate(divergences):
        found = _jackknife(values[:, j], steps, correct=groups is not None or not _unbiased(row))
        error = math.hypot(found.error, float(noise[j]))
        low, value, high = _interval(row, found.value, quantile * error)
        made.append(
            Estimate(
                divergence=row.name,
                value=value,
                low=low if apart else row.value_at_one,
                high=high,
                standard_error=error,
                confidence=confidence,
                method="gaussian",
                n_p=len(x),
                n_q=len(y),
                dim=x.shape[1],
                warnings=(*warnings, *_about(row, values[:, j], noise[j] > 0.0)),
                diagnostics={
                    **normality,
                    "rank": space.rank,
                    "plug_in": float(values[0, j]),
                    "draw_error": float(noise[j]),
                },
                ratio=lambda points: log_ratio(p, q, space(points)),
            )
        )
    return made


def fit(rows: np.ndarray, name: str) -> Fit:
    """The Gaussian of whitened `rows` [n, d]. Raises DataError where n ≤ d + 2, or where they are flat."""
    n, d = rows.shape
    if n <= d + 2:
        raise DataError(f"{n} rows of {name} in {d} dimensions: a Gaussian fit needs more than {d + 2}; give more rows")
    mean = rows.mean(axis=0)
    whole = _fit(n, np.zeros(d), _products(rows - mean), mean)
    if whole is None or np.linalg.eigvalsh(whole.cov)[0] <= FLAT:
        raise DataError(
            f"the rows of {name} do not vary in a direction in which those of the other set do: a Gaussian there is "
            "singular; drop the collinear columns, or use method='knn'"
        )
    return whole


def blocks(rows: np.ndarray, labels: np.ndarray | None, seed: int) -> list[np.ndarray]:
    """Row indices of at most `BLOCKS` random blocks that make up `rows`; rows with one label stay together.

    Raises DataError for fewer than two groups.
    """
    n, d = rows.shape
    _, label = np.unique(np.arange(n) if labels is None else labels, return_inverse=True)
    count = label.max() + 1
    if count < 2:
        raise DataError("one group only: nothing can be left out; give at least two groups a set, or none")
    number = min(max(BLOCKS, math.ceil(n / max(n - d - 3, 1))), count)  # what remains can still be fitted
    block = np.random.default_rng(seed).permutation(count) % number
    return [np.flatnonzero(block[label] == b) for b in range(number)]


def unbiased_kl(p: Fit, q: Fit) -> float:
    """KL(P‖Q) in nats from two Gaussian fits, unbiased for Gaussian data: E of the value is the truth.

    ½[g tr(Sq⁻¹Sp)(1 − 1/n) + g‖Lq⁻¹Δ‖² − d/m − d + log|Sq| − c(m) − log|Sp| + c(n)], with g = (m − d − 2)/(m − 1) for
    the inverse of a Wishart matrix and c(n) = Σᵢ ψ((n − i)/2) + d log(2/(n − 1)), i = 1…d, for its log-determinant.

    Source: Muirhead 1982, theorems 3.2.12 and 3.2.15.
    """
    d = len(p.mean)
    shrink = (q.n - d - 2) / (q.n - 1)
    trace = float(np.sum(solve_triangular(q.factor, p.factor, lower=True) ** 2))
    square = float(np.sum(solve_triangular(q.factor, p.mean - q.mean, lower=True) ** 2))
    quadratic = shrink * (trace * (1.0 - 1.0 / p.n) + square) - d / q.n - d
    return 0.5 * (quadratic + _log_det(q) - _log_det(p))


def _log_det(g: Fit) -> float:
    d = len(g.mean)
    bias = digamma(0.5 * (g.n - np.arange(1, d + 1))).sum() + d * math.log(2.0 / (g.n - 1))
    return float(2.0 * np.log(np.diagonal(g.factor)).sum() - bias)


def log_ratio(p: Fit, q: Fit, points: np.ndarray) -> np.ndarray:
    """log p/q [k] of two Gaussians at points [k, d]."""

    def log_density(g: Fit) -> np.ndarray:
        white = solve_triangular(g.factor, (points - g.mean).T, lower=True)
        return -0.5 * np.sum(white**2, axis=0) - np.log(np.diagonal(g.factor)).sum()

    return log_density(p) - log_density(q)


def mardia(rows: np.ndarray, g: Fit) -> float:
    """Two-sided p-value of Mardia's kurtosis, mean of ‖L⁻¹(z − μ)‖⁴ against d(d + 2) (Mardia 1970)."""
    n, d = rows.shape
    white = solve_triangular(g.factor, (rows - g.mean).T, lower=True)
    kurtosis = float(np.mean(np.sum(white**2, axis=0) ** 2))
    return float(2.0 * norm.sf(abs(kurtosis - d * (d + 2)) / math.sqrt(8.0 * d * (d + 2) / n)))


# --- the fits with a block left out ----------------------------------------------------------------------------------


def _fits(rows: np.ndarray, whole: Fit, parts: Sequence[np.ndarray]) -> Iterator[Fit]:
    """The fit without each of `parts`, from sums about the whole mean."""
    centred = rows - whole.mean
    products = _products(centred)
    for part in parts:
        rest = _fit(len(rows) - len(part), -centred[part].sum(axis=0), products - _products(centred[part]), whole.mean)
        if rest is None:
            raise DataError(f"without {len(part)} of {len(rows)} rows the rest are collinear; give more rows or groups")
        yield rest


def _products(centred: np.ndarray) -> np.ndarray:
    return centred.T @ centred


def _fit(n: int, total: np.ndarray, products: np.ndarray, origin: np.ndarray) -> Fit | None:
    """The fit from n rows' sum and products about `origin`; None where it is singular."""
    if n <= len(origin) + 2:
        return None
    shift = total / n
    cov = (products - n * np.outer(shift, shift)) / (n - 1)
    try:
        return Fit(n, origin + shift, cov, cholesky(cov, lower=True))
    except np.linalg.LinAlgError:
        return None


# --- D_f of pairs of fits --------------------------------------------------------------------------------------------

_KL: dict[str, Callable[[Fit, Fit], float]] = {
    "kl": unbiased_kl,
    "reverse_kl": lambda p, q: unbiased_kl(q, p),
    "jeffreys": lambda p, q: unbiased_kl(p, q) + unbiased_kl(q, p),
}
_CLOSED: dict[str, Closed] = {
    "pearson": gaussian.pearson,
    "neyman": gaussian.neyman,
    "squared_hellinger": gaussian.squared_hellinger,
    "geometric_js": gaussian.extended_geometric_js,
}


def _closed(row: FDivergence) -> Closed | None:
    """The closed form of `row` between Gaussians, None where there is none."""
    if row.name in _CLOSED and DIVERGENCES[row.name] is row:
        return _CLOSED[row.name]
    order = row.name.removeprefix("alpha(").removesuffix(")")
    if row.name == f"alpha({order})" and alpha(float(order)) is row:
        return lambda mp, cp, mq, cq: gaussian.alpha(mp, cp, mq, cq, float(order))
    return None


def _table(pairs: Sequence[tuple[Fit, Fit]], rows: Sequence[FDivergence], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(D_f of each pair [pairs, rows], standard error [rows] that the draws add to it).

    The first pair, the whole sets', is averaged over all draws; the others, whose differences alone count, over few.
    """
    values, noise = np.empty((len(pairs), len(rows))), np.zeros(len(rows))
    exact = {j: _KL[row.name] for j, row in enumerate(rows) if _unbiased(row)}
    closed = {j: row for j, row in enumerate(rows) if _closed(row)}
    for j, kl in exact.items():
        values[:, j] = [kl(*pair) for pair in pairs]
    if closed:
        values[:, list(closed)] = [_at_once(tuple(closed.values()), *pair) for pair in pairs]
    if drawn := sorted(set(range(len(rows))) - exact.keys() - closed.keys()):
        normal = _normal(len(pairs[0][0].mean), seed)
        whole = np.stack([log_ratios(*pairs[0], scramble) for scramble in normal])
        few = np.stack([log_ratios(*pair, np.concatenate(normal[:FEW])) for pair in pairs])
        for j in drawn:
            scrambles, values[:, j] = (mixture_average(rows[j], ratios) for ratios in (whole, few))
            values[:, j] += scrambles.mean() - values[0, j]
            noise[j] = scrambles.std(ddof=1) / math.sqrt(SCRAMBLES)
    return values, noise


def _unbiased(row: FDivergence) -> bool:
    return row.name in _KL and DIVERGENCES[row.name] is row


@lru_cache(maxsize=64)
def _jitted(rows: tuple[FDivergence, ...]) -> Callable[..., jax.Array]:
    forms = [form for row in rows if (form := _closed(row))]
    return jax.jit(lambda *fits: jnp.stack([form(*fits) for form in forms]))


def _at_once(rows: tuple[FDivergence, ...], p: Fit, q: Fit) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(_jitted(rows)(p.mean, p.cov, q.mean, q.cov))


def _normal(d: int, seed: int) -> list[np.ndarray]:
    """`SCRAMBLES` independently scrambled Sobol sets [`POINTS`, d], seen as standard normal draws."""
    sets = (qmc.Sobol(d, rng=rng).random(POINTS) for rng in np.random.default_rng(seed).spawn(SCRAMBLES))
    return [ndtri(np.clip(points, 1e-12, 1.0 - 1e-12)) for points in sets]


def log_ratios(p: Fit, q: Fit, normal: np.ndarray) -> np.ndarray:
    """log p/q at the points that `normal` [k, d] makes of P, then at those it makes of Q: [2k]."""

    def outward(g: Fit, h: Fit) -> np.ndarray:  # log g/h at draws of G
        shifted = normal @ g.factor.T + (g.mean - h.mean)
        white = solve_triangular(h.factor, shifted.T, lower=True)
        gain = np.log(np.diagonal(h.factor)).sum() - np.log(np.diagonal(g.factor)).sum()
        return 0.5 * (np.sum(white**2, axis=0) - np.sum(normal**2, axis=1)) + gain

    return np.concatenate([outward(p, q), -outward(q, p)])


@lru_cache(maxsize=256)
def _mixture_mean(row: FDivergence) -> Callable[[jax.Array], jax.Array]:
    log_integrand = log_perspective(row)

    def mean(ratios):
        log_p, log_q = (math.log(2.0) + jax.nn.log_sigmoid(sign * ratios) for sign in (1.0, -1.0))
        return row.value_at_one + jnp.mean(jnp.exp(log_integrand(log_p, log_q)), axis=-1)

    return jax.jit(mean)


def mixture_average(row: FDivergence, ratios: np.ndarray) -> np.ndarray:
    """D_f [...] as the mean over draws [..., k] of ½(P + Q) of 2 f(r)/(1 + r), given log r there.

    f less its tangent at 1, which integrates to nothing: every term is then ≥ 0.
    """
    with jax.enable_x64(True):
        return np.array(_mixture_mean(row)(jnp.asarray(ratios)))


# --- from D_f of the fits to an interval -----------------------------------------------------------------------------


class Jackknifed(NamedTuple):
    """A value less its bias, and its standard error."""

    value: float
    error: float


def _jackknife(values: np.ndarray, n_p: int, correct: bool) -> Jackknifed:
    """The two-sample block jackknife: D − Σ (B − 1)(mean D₋ − D) and the root of Σ (B − 1)/B Σ_b (D₋b − mean D₋)².

    `values` are those of all rows, then without each of n_p blocks of P, then without each of Q's. An infinite value
    stays what it is, with infinite error. Source: Arvesen 1969; Künsch 1989 for blocks.
    """
    whole, sides = float(values[0]), (values[1 : n_p + 1], values[n_p + 1 :])
    if not np.isfinite(values).all():
        return Jackknifed(whole, math.inf)
    bias = sum((len(side) - 1) * float(side.mean() - whole) for side in sides) if correct else 0.0
    square = sum((len(side) - 1) * float(side.var()) for side in sides)
    return Jackknifed(whole - bias, math.sqrt(square))


def _interval(row: FDivergence, value: float, reach: float) -> tuple[float, float, float]:
    """(low, value, high) inside [f(1), sup D_f], where every D_f lies."""
    least, most = row.value_at_one, row.upper_limit()
    if not math.isfinite(reach):
        return least, min(max(value, least), most), most
    low, value, high = (min(max(v, least), most) for v in (value - reach, value, value + reach))
    return low, value, high


def _warnings(dim: int, rank: int, normality: dict[str, float]) -> list[str]:
    said = ["assumes that both sets are Gaussian: the value is that of the fitted Gaussians, not a lower bound"]
    bad = [f"{name} = {p:.2g}" for name, p in normality.items() if p < UNLIKELY]
    if bad:
        said.append(f"not Gaussian: Mardia's kurtosis test has p-values {' and '.join(bad)}; use another method")
    if rank < dim:
        said.append(f"the two sets fill {rank} of {dim} dimensions; the divergence is taken there")
    return said


def _about(row: FDivergence, values: np.ndarray, drawn: bool) -> list[str]:
    if not math.isfinite(values[0]):
        return ["infinite between the fitted Gaussians, one too wide for the other; low is only the trivial bound"]
    if not np.isfinite(values).all():
        return ["infinite without some rows: the fitted Gaussians are at the edge where the divergence diverges"]
    if drawn and math.isinf(row.upper_limit()):
        return ["no closed form and no upper limit: an average over draws may miss tails, even infinite ones"]
    return []

"""Where one set's tails are heavier than the other's: divergences that rest on rows which the other set never sees.

KL of a t law from a normal law rests for the most part on rows of P so far out that Q has none there: between samples
no critic can measure log p/q, and a mean of references falls short of it. What samples can show is whether both sets
follow multivariate t laws (a normal law is one). If none is rejected, D_f of the fitted laws is the estimate, the
interval holds that of the laws and that of the critics, and the verdict says that it rests on them: tails are guessed
from the rows that there are. If one is rejected, the interval has no upper end.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import betainc, fdtr, fdtri, kolmogorov, stdtr, stdtrit

from estimators.contract import Fit, Interval, Request, Scores
from estimators.density_ratio.plug_in import HEAVY, is_steep, mixture_integrand
from estimators.density_ratio.references import WIDE, StudentDensity
from estimators.divergences.generator import FDivergence
from estimators.methods.neural import OBJECTIVES

NORMAL = 1e5  # degrees of freedom, as good as a normal law as far out as any row lies
ITERATIONS = 20  # of a fit, beyond those that start it: ν then changes by less than 1 % a step
FEWEST = 100  # rows a side: fewer cannot tell a t law from others
LEVEL = 0.01  # at which a law would be rejected, all of its tests together, if it were not fitted to the rows
MOST = 50_000  # rows a side to which laws are fitted, each of the twenty of the jackknife too
OUTSIDE = 0.25
"""Share of a value on rows that lie alone from which on critics are not believed: .5 to .9 for t₅ against a normal law
of 2,000 rows in five columns, where they found half of kl; .02 to .1 for shifted normal and Laplace laws."""
FAR = 0.25  # share of the rows, those of largest radius, whose directions are tested: tails show there
LEAST_FREEDOM = 2.5  # below, E r² may be infinite (ν ≤ 2), and so kl from a normal law
PARTS = 10  # of the jackknife: twenty fits, as long as one estimate of 5,000 rows
SETTLED = 1.0  # error of log D up to which laws say anything about it
POINTS = 8192  # at which a divergence of two laws is integrated: its error is then about 1 %


def allowed_for(fit: Fit, request: Request) -> Fit:
    """`fit`, whose intervals rest on t laws, or have no upper end, where critics had to guess much of the value."""
    endless = [k for k, d in enumerate(request.divergences) if math.isinf(d.upper_limit())]
    if not endless or fit.method not in OBJECTIVES or fit.scores is None or request.categories:
        return fit
    fewest, columns = min(len(request.x), len(request.y)), request.x.shape[1]
    if fewest < max(FEWEST, 10 * columns) or columns > WIDE:
        return fit
    some = _thinned(request)
    laws = [law_of(rows) for rows in (some.x, some.y)]
    alone = _alone(request, laws)
    heavy = [k for k in endless if _is_heavy(request.divergences[k], fit.intervals[k], fit.scores, alone)]
    by_laws = [k for k in heavy if not is_steep(request.divergences[k])]  # of t laws the others are mostly infinite
    found = dict(zip(by_laws, _of_laws([request.divergences[k] for k in by_laws], some, laws), strict=False))
    return fit._replace(intervals=[_opened(i, found.get(k)) if k in heavy else i for k, i in enumerate(fit.intervals)])


def _thinned(request: Request) -> Request:
    """The request with at most `MOST` rows a side, evenly, and their groups."""
    x, y = (slice(None, None, -(-len(rows) // MOST)) for rows in (request.x, request.y))
    groups = None if request.groups is None else (request.groups[0][x], request.groups[1][y])
    return dataclasses.replace(request, x=request.x[x], y=request.y[y], groups=groups)


def _alone(request: Request, laws: Sequence[StudentDensity]) -> np.ndarray:
    """Rows, x's first, that lie farther out than all of the other set, by the distance of the other's law [n + m]."""
    law_p, law_q = (law.gaussian.square_distance for law in laws)
    x, y = request.x, request.y
    return np.concatenate([law_q(x) > law_q(y).max(), law_p(y) > law_p(x).max()])


def _is_heavy(d: FDivergence, interval: Interval, scores: Scores, alone: np.ndarray) -> bool:
    """Whether an unbounded divergence rests on what no row of the other set can check.

    That is so of more than `HEAVY` of the value by ratios beyond the number of rows, or of more than `OUTSIDE` of it by
    rows that lie `alone`: a critic that falls short there does not see it by the first.
    """
    n, rows = len(scores.log_p), len(alone)
    of_p = np.arange(rows) < n
    counted = alone & np.where(of_p, math.isinf(d.slope_at_infinity), math.isinf(d.value_at_zero))
    outside = float(mixture_integrand(d, np.concatenate(scores)[counted], n / rows).sum()) / rows
    beyond = interval.diagnostics.get("beyond_samples", 0.0)
    return beyond > HEAVY * abs(interval.value) or outside > max(OUTSIDE * abs(interval.value), interval.standard_error)


def _opened(interval: Interval, of_laws: Interval | None) -> Interval:
    """The value of the fitted laws, and an interval that holds theirs and the critics'; without laws one that ends
    nowhere."""
    if of_laws is None:
        words = "lower bound only: much of the value rests on how large ratios are where no row checks them"
        return interval._replace(high=math.inf, warnings=(*interval.warnings, words))
    return of_laws._replace(
        low=min(interval.low, of_laws.low),
        high=max(interval.high, of_laws.high),
        warnings=(*interval.warnings, *of_laws.warnings),
        diagnostics={**interval.diagnostics, **of_laws.diagnostics},
    )


def _of_laws(
    divergences: Sequence[FDivergence], request: Request, laws: Sequence[StudentDensity]
) -> Iterator[Interval | None]:
    """D_f of the t laws that the two sets may follow, with jackknifed errors; nothing where a law is rejected, None
    where the laws do not settle a value."""
    sets = request.x, request.y
    if not divergences or min(law.df for law in laws) < LEAST_FREEDOM or not all(map(follows, sets, laws)):
        return
    values = divergences_of_laws(divergences, *laws)
    errors, parts = _jackknifed(divergences, request)
    quantile = float(stdtrit(parts - 1.0, 0.5 + 0.5 * request.confidence))
    freedom = " and ".join(f"{law.df:.3g}" for law in laws)
    words = f"heavy tails: the value rests on t laws of {freedom} degrees of freedom, which both sets may follow"
    figures = {"degrees_of_freedom": [law.df for law in laws]}
    for value, error in zip(values.tolist(), errors.tolist(), strict=True):
        if not (math.isfinite(value) and error < SETTLED):  # infinite for these laws, or nearly
            yield None
            continue
        margin = math.exp(quantile * error)
        yield Interval(value, value / margin, value * margin, value * error, (words,), figures)


def _jackknifed(divergences: Sequence[FDivergence], request: Request) -> tuple[np.ndarray, int]:
    """(The standard error of log D of the fitted laws, for each divergence; from how many parts).

    Of log D, since D grows fast as ν falls; infinite where a law has D infinite.
    """
    sets = request.x, request.y
    rng = np.random.default_rng(request.seed)
    if request.groups is None:
        parts, in_part = PARTS, [rng.permutation(len(rows)) % PARTS for rows in sets]
    else:
        labels = _numbers(request.groups)
        count = 1 + max(int(label.max()) for label in labels)
        parts = min(PARTS, count)
        in_part = [(rng.permutation(count) % parts)[label] for label in labels] if parts > 1 else []
    if parts < 2:
        return np.full(len(divergences), math.inf), 2
    without = [
        divergences_of_laws(divergences, *(law_of(rows[of != k]) for rows, of in zip(sets, in_part, strict=True)))
        for k in range(parts)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.sqrt((parts - 1.0) * np.var(np.log(without), axis=0))
    return np.where(np.isfinite(errors), errors, math.inf), parts


def _numbers(groups: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """The groups of the rows of either set, numbered from 0 in both together."""
    first = [labels.reshape(len(labels), -1)[:, 0] for labels in groups]
    numbers = np.unique(np.concatenate(first), return_inverse=True)[1]
    return np.split(numbers, [len(first[0])])


def law_of(rows: np.ndarray) -> StudentDensity:
    """The t law of maximum likelihood of rows [n, d], ν at most `NORMAL`."""
    return StudentDensity.fit(rows).refined(rows, NORMAL, ITERATIONS)


def follows(rows: np.ndarray, law: StudentDensity) -> bool:
    """Whether rows [n, d] may be draws of the law, by Kolmogorov's test of radius, coordinates and far directions.

    With z the whitened rows, ‖z‖²/d follows F(d, ν), each coordinate t_ν, and each z_j²/‖z‖² Beta(½, (d − 1)/2), also
    among the far rows. The law is fitted to the rows, so that a rejection is less likely than `LEVEL`.
    """
    d = rows.shape[1]
    z = (rows - law.gaussian.mean) @ law.gaussian.whiten.T
    square = np.sum(z**2, axis=1)
    far = square >= np.quantile(square, 1.0 - FAR)
    levels = [fdtr(d, law.df, square / d), *stdtr(law.df, z.T)]
    if d > 1:
        levels += list(betainc(0.5, 0.5 * (d - 1), (z[far] ** 2 / square[far, None]).T))
    return min(map(uniformity, levels)) > LEVEL / len(levels)


def uniformity(levels: np.ndarray) -> float:
    """The p-value of Kolmogorov's test that the levels [n] are uniform on [0, 1]."""
    n, u = len(levels), np.sort(levels)
    steps = np.arange(n + 1.0) / n
    return float(kolmogorov(math.sqrt(n) * max((steps[1:] - u).max(), (u - steps[:-1]).max())))


def divergences_of_laws(divergences: Sequence[FDivergence], p: StudentDensity, q: StudentDensity) -> np.ndarray:
    """D_f(P‖Q) of two t laws, for each divergence, as a weighted sum over quantiles of the radius in random directions.

    The levels 1 − v³, v even in (0, 1), reach far into the tail, where the ratio is large. Directions are the same for
    all laws, so that differences of laws hold no noise.
    """
    d = len(p.gaussian.mean)
    v = (np.arange(POINTS) + 0.5) / POINTS
    weight = 3.0 * v**2
    direction = np.random.default_rng(0).standard_normal((POINTS, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)

    def points(law: StudentDensity) -> np.ndarray:
        radius = np.sqrt(d * fdtri(d, law.df, 1.0 - v**3))
        return law.gaussian.mean + np.linalg.solve(law.gaussian.whiten, (radius[:, None] * direction).T).T

    log_ratio = np.concatenate([p(at) - q(at) for at in map(points, (p, q))])
    weights = np.tile(weight / (2.0 * weight.sum()), 2)
    return np.array([f.value_at_one + float(weights @ mixture_integrand(f, log_ratio, 0.5)) for f in divergences])

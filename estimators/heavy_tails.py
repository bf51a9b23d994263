"""Where one set's tails are heavier than the other's: divergences that rest on rows which the other set never sees.

KL of a t law from a normal law rests for the most part on rows of P so far out that Q has none there: between samples
no critic can measure log p/q, and a mean of references falls short of it. What samples can show is whether both sets
follow multivariate t laws (a normal law is one). If they do, D_f of the fitted laws is the estimate, with the error of
the fits. If they do not, the interval has no upper end.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import betainc, fdtr, fdtri, kolmogorov, stdtr, stdtrit

from estimators.contract import Fit, Interval, Request
from estimators.density_ratio.plug_in import HEAVY, is_steep, mixture_integrand
from estimators.density_ratio.references import StudentDensity
from estimators.divergences.generator import FDivergence
from estimators.methods.neural import OBJECTIVES

NORMAL = 1e5  # degrees of freedom, as good as a normal law as far out as any row lies
ITERATIONS = 20  # of a fit, beyond those that start it: ν then changes by less than 1 % a step
FEWEST = 100  # rows a side: fewer cannot tell a t law from others
LEVEL = 0.01  # at which a law is rejected, all of its tests together
FAR = 0.25  # share of the rows, those of largest radius, whose directions are tested
LEAST_FREEDOM = 2.5  # below, E r² may be infinite (ν ≤ 2), and so kl from a normal law
PARTS = 10  # of the jackknife
POINTS = 8192  # at which a divergence of two laws is integrated: its error is then below 0.5 %


def allowed_for(fit: Fit, request: Request) -> Fit:
    """`fit`, whose intervals rest on t laws, or have no upper end, where critics had to guess much of the value."""
    pairs = list(zip(request.divergences, fit.intervals, strict=True))
    heavy = [k for k, pair in enumerate(pairs) if _is_heavy(*pair)]
    if not heavy or fit.method not in OBJECTIVES:
        return fit
    by_laws = [k for k in heavy if not is_steep(request.divergences[k])]  # of t laws the others are mostly infinite
    found = dict(zip(by_laws, _of_laws([request.divergences[k] for k in by_laws], request), strict=False))
    return fit._replace(intervals=[_opened(i, found.get(k)) if k in heavy else i for k, i in enumerate(fit.intervals)])


def _is_heavy(d: FDivergence, interval: Interval) -> bool:
    """Whether more than `HEAVY` of the value of an unbounded divergence rests on ratios beyond the number of rows."""
    part = interval.diagnostics.get("beyond_samples", 0.0)
    return math.isinf(d.upper_limit()) and part > HEAVY * abs(interval.value)


def _opened(interval: Interval, of_laws: Interval | None) -> Interval:
    """The interval of the fitted laws, or without any the critics' own, which then ends nowhere."""
    if of_laws is not None:
        return of_laws._replace(
            warnings=(*interval.warnings, *of_laws.warnings),
            diagnostics={**interval.diagnostics, **of_laws.diagnostics},
        )
    words = "lower bound only: much of the value rests on how large ratios are where no row checks them"
    return interval._replace(high=math.inf, warnings=(*interval.warnings, words))


def _of_laws(divergences: Sequence[FDivergence], request: Request) -> Iterator[Interval]:
    """D_f of the t laws that the two sets follow, with jackknifed errors; nothing where one of them follows none."""
    sets = request.x, request.y
    if not divergences or request.categories or min(map(len, sets)) < FEWEST:
        return
    laws = [law_of(rows) for rows in sets]
    if min(law.df for law in laws) < LEAST_FREEDOM or not all(map(follows, sets, laws)):
        return
    values = divergences_of_laws(divergences, *laws)
    labels = [np.arange(len(rows)) for rows in sets] if request.groups is None else _numbers(request.groups)
    part = np.random.default_rng(request.seed).permutation(1 + max(label.max() for label in labels)) % PARTS
    without = []
    for k in range(PARTS):
        kept = (law_of(rows[part[label] != k]) for rows, label in zip(sets, labels, strict=True))
        without.append(divergences_of_laws(divergences, *kept))
    errors = np.sqrt((PARTS - 1.0) * np.var(np.log(without), axis=0))  # of log D: D grows fast as ν falls
    quantile = float(stdtrit(PARTS - 1.0, 0.5 + 0.5 * request.confidence))
    freedom = " and ".join(f"{law.df:.3g}" for law in laws)
    words = f"heavy tails: the value rests on t laws of {freedom} degrees of freedom, which both sets fit"
    figures = {"degrees_of_freedom": [law.df for law in laws]}
    for d, value, error in zip(divergences, values.tolist(), errors.tolist(), strict=True):
        low, high = (value * math.exp(sign * quantile * error) for sign in (-1.0, 1.0))
        yield Interval(value, max(low, d.value_at_one), high, value * error, (words,), figures)


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

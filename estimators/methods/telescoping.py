"""Large divergences in three steps: P to a Gaussian near P, to a Gaussian near Q, to Q.

A classifier that tells every row of P from every row of Q has no more to learn, however far apart they are: a critic
trained between them cannot say whether the divergence is 10 nats or 40. Telescoping (Rhodes, Xu & Gutmann 2020) sums
the log-ratios of nearer neighbours,

    log p/q = log p/p₀ + log p₀/q₀ − log q/q₀,

where the middle one is that of two fitted Gaussians, in the coordinates where they fit best, and the outer ones are
critics trained between each set and draws of its own Gaussian: nearly nothing to learn if it fits.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import numpy as np

from estimators.contract import Fit, Interval, Request
from estimators.density_ratio.folds import CrossFit, HeldOut, Rows, blocks, cross_fits
from estimators.density_ratio.plug_in import REST, TELESCOPING, is_steep, plug_in
from estimators.density_ratio.references import GaussianDensity, NormalScores, Standard
from estimators.divergences.generator import FDivergence
from estimators.methods.gaussian import GaussianFit
from estimators.methods.neural import Critic, Fold, fit_critics
from estimators.samples.arrays import DataError

METHODS = {"telescoping": "a sum of log-ratios through a Gaussian near each set, for sets that hardly overlap"}
MISFIT = 0.02
"""Share of a value that critics may find between samples and Gaussian references before these count as no fit. Of four
pairs with uniform noise, 8 nats, critics find 0.56 nats and miss 1.5; of four pairs with correlated half-cubes, whose
margins the references know up to 0.08 nats, they find 0.03."""
MOST = 20_000  # rows a side that train, or validate, one critic


class Anchored(NamedTuple):
    """How well Gaussians fit the sets that they stand for, nats: what critics found between each set and its own, with
    its standard error, and what the log-ratio of the Gaussians loses on rows that they were not fitted to."""

    found: tuple[float, float]  # on P, on Q
    errors: tuple[float, float]
    lost: float


@dataclass(frozen=True, eq=False)
class Anchors:
    """Gaussians p₀ and q₀ near P and Q in common coordinates."""

    coordinates: Standard | NormalScores
    p: GaussianDensity
    q: GaussianDensity

    @classmethod
    def fit(cls, p: np.ndarray, q: np.ndarray, validation_p: np.ndarray, validation_q: np.ndarray) -> Self:
        """The anchors of p [n, d] and q [m, d], in the coordinates whose Gaussians make validation rows likelier."""

        def likelihood(anchors: Anchors) -> float:
            return sum(
                float(np.mean(normal(anchors.coordinates(rows)) + anchors.coordinates.log_slope(rows)))
                for normal, rows in ((anchors.p, validation_p), (anchors.q, validation_q))
            )

        kinds = [kind.fit(p, q) for kind in (Standard, NormalScores)]
        return max((cls(to, unbiased(to(p)), unbiased(to(q))) for to in kinds), key=likelihood)


def unbiased(rows: np.ndarray) -> GaussianDensity:
    """The Gaussian of rows [n, d], its log density unbiased (`GaussianFit.unbiased_density`).

    Raises DataError: n ≤ d + 2, or rows on a plane.
    """
    n, d = rows.shape
    if n <= d + 2:
        raise DataError(f"{n} rows of dimension {d}: a Gaussian reference needs more than {d + 2} in each half")
    try:
        return GaussianFit.from_rows(rows).unbiased_density()
    except np.linalg.LinAlgError:
        raise DataError("columns that depend linearly on others: drop them, or project the samples") from None


def _chain(anchors: Anchors, to_p: Critic, to_q: Critic, pad: int, rows: np.ndarray) -> np.ndarray:
    """log p/p₀ + log p₀/q₀ − log q/q₀ at rows [k, d], the outer ones by critics in the anchors' coordinates."""
    z = anchors.coordinates(rows)
    return to_p(z, pad) + anchors.p(z) - anchors.q(z) - to_q(z, pad)


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, through Gaussian anchors.

    Raises DataError: fewer than ten rows a side, or fewer than d + 3 in two fifths of either.
    """
    request.require_numbers()
    return fit(request, blocks(len(request.x), len(request.y), request.seed, request.groups))


def fit(request: Request, cut: list[Rows]) -> Fit:
    """The same where the rows are cut into blocks already."""
    held_out, anchored = cross_fit(request, cut)
    found, nats = plug_in(request, held_out), abs(float(np.mean(held_out.log_p)))
    pairs = zip(request.divergences, found.intervals, strict=True)
    return found._replace(intervals=[_anchored(d, i, anchored, nats, request.quantile) for d, i in pairs])


def _anchored(d: FDivergence, interval: Interval, anchored: Anchored, nats: float, quantile: float) -> Interval:
    """The interval, its upper end farther by what Gaussians lose on rows that they were not fitted to, and by what
    critics may have missed between these and the sets, judged by what they found; none where they found much of the
    `nats` between the sets, or anything under a divergence that grows with a power of the ratio.

    What is missed of log p/p₀ on rows of P can only add to kl; what is missed of log q/q₀ there may count either way.
    Of reverse_kl the sets change their parts, and of others either may count either way.
    """
    found = [max(f - quantile * error, 0.0) for f, error in zip(anchored.found, anchored.errors)]
    margin = REST * sum(found) + 0.5 * max(anchored.lost, 0.0)  # half, as of a fit of any number of parameters
    interval = interval._replace(high=min(interval.high + margin, d.upper_limit()))
    much = MISFIT * nats
    if sum(found) <= (0.0 if is_steep(d) else much):
        return interval
    words = (
        f"lower bound only: critics found {sum(found):.3g} nats between the Gaussian references and the samples, which "
        "do not fit, and may not have found all"
    )
    low, either_way = interval.low, {"kl": found[1], "reverse_kl": found[0]}.get(d.name, max(found))
    if either_way > much:  # the bound alone is certain
        error = interval.diagnostics["lower_bound_standard_error"]
        low = min(low, max(interval.diagnostics["lower_bound"] - quantile * error, d.value_at_one))
    others = (warning for warning in interval.warnings if warning != TELESCOPING)  # which promises less than this
    return interval._replace(low=low, high=d.upper_limit(), warnings=(*others, words))


def cross_fit(request: Request, cut: list[Rows]) -> tuple[HeldOut, Anchored]:
    """Log-ratios of every row from the two chains of its block in `cut`, which never saw it; how well anchors fit."""
    x, y = request.x, request.y
    parts = cross_fits(cut)
    anchors = [Anchors.fit(x[t.p], y[t.q], x[v.p], y[v.q]) for t, v, _ in parts]
    rng = np.random.default_rng(request.seed)
    made = zip(anchors, parts, strict=True)
    folds = [fold for anchor, part in made for fold in _against_anchors(x, y, anchor, part, rng)]
    critics, course = fit_critics(folds, request.seed)
    longest = max(max(map(len, block)) for block in cut)
    chains = [partial(_chain, *links, longest) for links in zip(anchors, critics[::2], critics[1::2], strict=True)]
    coordinates = [type(a.coordinates).__name__ for a in anchors]
    anchored = _fitness(request, parts, anchors, critics, longest)
    diagnostics = {**course, "coordinates": max(set(coordinates), key=coordinates.count), **anchored._asdict()}
    held_out = HeldOut.of(request, parts, chains)
    return held_out._replace(diagnostics=diagnostics, parametric=cut), anchored


def _fitness(
    request: Request, parts: list[CrossFit], anchors: list[Anchors], critics: list[Critic], pad: int
) -> Anchored:
    """How well the anchors fit, by rows that neither they nor the critics saw."""

    def middle(a: Anchors, rows: np.ndarray) -> float:
        z = a.coordinates(rows)
        return float(np.mean(a.p(z) - a.q(z)))

    def outer(critics: list[Critic]) -> HeldOut:
        made = zip(anchors, critics, strict=True)
        return HeldOut.of(request, parts, [lambda rows, a=a, to=to: to(a.coordinates(rows), pad) for a, to in made])

    found = outer(critics[::2]).mean().log_p, outer(critics[1::2]).mean().log_q
    lost_p = [middle(a, request.x[t.p]) - middle(a, request.x[held.p]) for a, (t, _, held) in zip(anchors, parts)]
    lost_q = [middle(a, request.y[held.q]) - middle(a, request.y[t.q]) for a, (t, _, held) in zip(anchors, parts)]
    lost = max(float(np.mean(lost_p)), float(np.mean(lost_q)))
    means, errors = zip(*((float(np.mean(f)), float(np.std(f) / np.sqrt(len(f)))) for f in found), strict=True)
    return Anchored(means, errors, lost)


def _against_anchors(x: np.ndarray, y: np.ndarray, anchors: Anchors, part: CrossFit, rng: np.random.Generator):
    """Two folds: the samples of P against draws of p₀, those of Q against draws of q₀."""
    for normal, rows, *indices in (
        (anchors.p, x, part.train.p, part.validation.p),
        (anchors.q, y, part.train.q, part.validation.q),
    ):
        real = [anchors.coordinates(rows[index[:MOST]]) for index in indices]
        yield Fold(real[0], normal.sample(rng, len(real[0])), real[1], normal.sample(rng, len(real[1])))

"""Mutual information: I(X; Z) = KL between the joint law P of (x, z) and the product Q of its marginals, in nats.

Rows of Q come from the sample itself: within each block of cross-fitting, x_i meets z_j of other rows (a derangement),
so that a critic has seen neither x nor z of a held-out pair. One fit of the critics of `neural` then gives the
calibrated plug-in of the ratio trained by the Jensen–Shannon bound, `js`, which is the value `auto` reports, and every
bound of `BOUNDS`. For `nwj` and `dv` the critics are trained by that bound.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from estimators.contract import Fit, Interval, Request, Scores
from estimators.density_ratio import entropies
from estimators.density_ratio.copulas import of_pairs
from estimators.density_ratio.folds import Rows, blocks, unthreaded
from estimators.density_ratio.kraskov import kraskov
from estimators.density_ratio.plug_in import influence_of_means, lower_bound, plug_in, standard_error
from estimators.divergences.bounds import donsker_varadhan
from estimators.divergences.table import DIVERGENCES
from estimators.estimation import BadArgument, Estimate, check_settings
from estimators.methods import neural, telescoping
from estimators.methods.auto import choose
from estimators.samples.arrays import FEWEST_GROUPS, DataError, Groups, Samples, as_samples, discrete, row_hashes
from estimators.samples.columns import written
from estimators.samples.functions import Relation, dependent_columns, predicted_information, relation
from estimators.samples.names import Called
from estimators.samples.objects import names_of
from estimators.samples.raw import printable
from estimators.samples.series import block_length, caution, time_blocks

PARTNERS = 4  # rows of Q that each x meets
CANDIDATES = 64  # for infonce, one more than the rows of Q that each x meets: its own z is a candidate too
FEW = 8  # columns of x and z together in which neighbours are near
DIFFERENT = 0.99  # share of the values of a column that must differ: neighbours at distance 0 say nothing
MANY = 4  # columns of x and z in which a network cannot be expected to find all there is
BLIND = 32
"""Columns in which networks found nothing of laws that hid a fifth of their information (`products`, `bmi2`)."""
UNEXPLAINED, LEAST_UNEXPLAINED = 0.05, 0.02
"""Share of the information that networks add to the references, and nats of it, from which on it has no upper end.
Where references fit (normal and t laws, products of pairs) that was 4 % at most, where half was missed 5 % and more."""
CLIP = 5.0  # nats at which smile clips log-ratios on the product


class Bound(NamedTuple):
    """The formula of a bound in log-ratios ℓ of the joint law P and of the product Q, what limits it, and the function
    (scores, groups) → (the bound, its standard error over draws of pairs), in nats."""

    formula: str
    caution: str
    value: Callable[[Scores, Groups], tuple[float, float]]


def _dv(scores: Scores, groups: Groups) -> tuple[float, float]:
    with jax.enable_x64(True):
        value = float(donsker_varadhan(DIVERGENCES["kl"], *scores))
    log_mean = float(scores.log_p.mean()) - value
    return value, _difference_of_means(scores.log_p, np.exp(scores.log_q - log_mean), groups)[1]


def _infonce(scores: Scores, groups: Groups) -> tuple[float, float]:
    """Each x against its own z and the partners drawn for it."""
    others = scores.log_q.reshape(len(scores.log_p), -1)
    candidates = np.column_stack([scores.log_p, others])
    gains = scores.log_p - logsumexp(candidates, axis=1) + math.log(candidates.shape[1])
    return _difference_of_means(gains, np.zeros(others.size), groups)


def _difference_of_means(on_p: np.ndarray, on_q: np.ndarray, groups: Groups) -> tuple[float, float]:
    """(E_P[a] − E_Q[b], its standard error), given a on the joint rows and b on the product's."""
    error = standard_error(influence_of_means(on_p, -on_q), len(on_p), groups)
    return float(on_p.mean() - on_q.mean()), error


BOUNDS: dict[str, Bound] = {
    "nwj": Bound(  # Nguyen, Wainwright & Jordan 2010
        "E_P[ℓ] − E_Q[e^ℓ] + 1 ≤ I",
        "nwj: a lower bound; the interval is the bound's",
        partial(lower_bound, DIVERGENCES["kl"]),
    ),
    "dv": Bound(  # Donsker & Varadhan 1975; the critic trained with MINE's corrected gradient, Belghazi et al. 2018
        "E_P[ℓ] − log E_Q[e^ℓ] ≤ I",
        "dv: a lower bound but for a bias up of about the variance of e^ℓ over 2n; the interval is its own",
        _dv,
    ),
    "smile": Bound(  # Song & Ermon 2020
        "E_P[ℓ] − log E_Q[e^clip(ℓ, ±τ)], τ = 5",
        f"smile: log-ratios on the product clipped at ±{CLIP:g}; bounds I from neither side",
        lambda scores, groups: _dv(scores._replace(log_q=np.clip(scores.log_q, -CLIP, CLIP)), groups),
    ),
    "infonce": Bound(  # van den Oord et al. 2018
        "E[ℓ(x, z) − log mean_k e^ℓ(x, z_k)] ≤ min(I, log K), K candidates",
        f"infonce: a lower bound, at most log {CANDIDATES} = {math.log(CANDIDATES):.2f} candidates",
        _infonce,
    ),
    "upper": Bound(  # CLUB with the critic's own conditional, Cheng et al. 2020
        "E_P[ℓ] − E_Q[ℓ] = I + KL(Q‖P) ≥ I at the ratio",
        "upper: at least I where the critic is the log-ratio",
        lambda scores, groups: _difference_of_means(scores.log_p, scores.log_q, groups),
    ),
}
INFORMATION = ("auto", "js", *BOUNDS)
"""Ways of estimating mutual information; auto is counts for discrete x and z, else js, or telescoping where joint and
product hardly overlap."""


class Pairs(NamedTuple):
    """Rows of the joint law [n, d_x + d_z] and of the product [n k, d_x + d_z], of which i k … i k + k − 1 hold x_i.

    `units` are labels of the joint's rows [n] and of the product's [n k, 2], of x and of z; `cut` the blocks of both.
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


class Side(NamedTuple):
    """One of two variables, and which of its numbers and indicators vary and do not follow linearly from the others."""

    samples: Samples
    at: np.ndarray

    def of(self, values: np.ndarray) -> np.ndarray:
        """Those of rows that hold all columns of the samples."""
        return dataclasses.replace(self.samples, values=values).indicated()[:, self.at]

    def called(self, columns: int | Sequence[int]) -> str:
        """How messages call them: by the columns that they stand for."""
        return self.samples.called(np.unique(self.samples.indicators_of()[self.at][columns]).tolist())


class Checked(NamedTuple):
    """The sides of the pairs, their informative columns x [n, d_x] and z [n, d_z] in the pairs without missing values,
    with labels [n], and warnings."""

    x: np.ndarray
    z: np.ndarray
    labels: np.ndarray | None
    notes: list[str]
    sides: tuple[Side, Side]

    @property
    def called(self) -> tuple[Called, Called]:
        """How messages call the columns of x and of z."""
        return self.sides[0].called, self.sides[1].called

    def of(self, pairs: np.ndarray) -> np.ndarray:
        """The informative columns of pairs [k, columns of x and of z]."""
        parts = np.split(pairs, [self.sides[0].samples.values.shape[1]], axis=1)
        return np.concatenate([side.of(part) for side, part in zip(self.sides, parts, strict=True)], axis=1)


def _checked(x: Samples, z: Samples, groups: Any) -> Checked:
    """What the pairs of both sides hold. Raises DataError."""
    kept = [np.ones(len(s.values), bool) if s.kept is None else s.kept for s in (x, z)]
    if len(kept[0]) != len(kept[1]):
        raise DataError(f"x has {len(kept[0])} rows and z {len(kept[1])}: rows are pairs, so give as many of each")
    both = kept[0] & kept[1]
    if both.sum() < 2:
        raise DataError(f"{int(both.sum())} pairs without missing values; at least 2 are needed")
    labels = None
    if groups is not None:
        given = np.asarray(groups)
        if given.shape != both.shape:
            raise DataError(f"{len(both)} pairs, but labels of shape {given.shape}; give one label a pair")
        labels = np.unique(given[both], return_inverse=True)[1]
    first, second = x.values[both[kept[0]]], z.values[both[kept[1]]]
    (side_x, about_x), (side_z, about_z) = _informative(x, first), _informative(z, second)
    notes = [*x.notes, *z.notes, *about_x, *about_z]
    return Checked(side_x.of(first), side_z.of(second), labels, notes, (side_x, side_z))


def _informative(samples: Samples, rows: np.ndarray) -> tuple[Side, list[str]]:
    """What of the samples says something in these rows, and what was left out, in words."""
    width, of, notes = samples.values.shape[1], samples.indicators_of(), []
    everything = Side(samples, np.arange(len(of)))
    varying = np.flatnonzero(np.ptp(everything.of(rows), axis=0) > 0.0)
    if not len(varying):
        notes.append(f"{samples.name} is constant: nothing depends on it")
    elif len(constant := np.setdiff1d(np.arange(width), of[varying])):
        which = samples.called(constant.tolist(), counting=True)
        notes.append(f"{samples.name}: left out what is constant and carries no information: {which}")
    if len(dependent := dependent_columns(everything.of(rows)[:, varying])):
        which = samples.called(np.unique(of[varying[dependent]]).tolist(), counting=True)
        notes.append(f"{samples.name}: left out columns that follow linearly from others: {which}")
    return Side(samples, np.delete(varying, dependent)), notes


def _of_sides(wanted: Sequence[Any], names: Sequence[Sequence[str]], what: str) -> list[tuple[str, ...]]:
    """The columns of x and those of z that are `wanted`: a pair of lists, or one list of names found in either.

    Raises BadArgument: a name that neither x nor z knows, or a number that does not say whose column it is.
    """
    if len(wanted) == 2 and not any(isinstance(side, str) or not isinstance(side, Iterable) for side in wanted):
        return [tuple(map(str, side)) for side in wanted]
    for name in map(str, wanted):
        if not any(name in known for known in names):
            raise BadArgument(
                f"{what}: neither x nor z has a column named {printable(name)!r}; to name columns by number give a "
                f"pair, {what}=([columns of x], [columns of z])"
            )
    return [tuple(name for name in map(str, wanted) if name in known) for known in names]


def mutual_information(
    x: Any,
    z: Any,
    *,
    method: str = "auto",
    seed: int = 0,
    confidence: float = 0.95,
    nan_policy: str = "raise",
    groups: Any = None,
    dependence: str | None = None,
    drop: Sequence[Any] = (),
    categorical: Sequence[Any] = (),
) -> Estimate:
    """I(X; Z) in nats from n pairs: rows of x [n, d_x] and z [n, d_z], the divergence KL of joint from product.

    Args:
        method: a name in `INFORMATION`.
        confidence, nan_policy: as in `estimate`; a pair is omitted if its x or its z holds NaN or inf.
        groups: a label a pair; pairs of one label are not independent of each other.
        dependence: "time" where pairs are in the order of time: stretches of them are groups, as in `estimate`.
        drop, categorical: columns to leave out, and columns whose numbers are names of categories. A list of names
            holds for x and for z, whichever has them. A pair of lists has those of x and those of z, by name, or where
            they have none by number, from 0: drop=([0], []).

    Raises:
        DataError, ValueError: both ValueErrors, saying what to change.
    """
    check_settings(seed, confidence, method, INFORMATION)
    known = names_of(x), names_of(z)
    left_out, coded = _of_sides(drop, known, "drop"), _of_sides(categorical, known, "categorical")
    first, second = (
        as_samples(given, name=name, nan_policy=nan_policy, drop=left_out[i], categorical=coded[i])
        for i, (given, name) in enumerate(((x, "x"), (z, "z")))
    )
    checked = _checked(first, second, groups)
    x, z, labels, notes, _ = checked
    if dependence is not None:
        if dependence != "time" or groups is not None:
            raise BadArgument(f"dependence = {dependence!r}: choose 'time', without groups, or None")
        labels = time_blocks(len(x), block_length(np.concatenate([x, z], axis=1)))
    elif groups is None:  # where only one is a series, pairs of it with the other are as good as independent
        series = [caution(rows, name) for rows, name in ((x, "x"), (z, "z"))]
        notes += series if all(series) else []
        labels, repeated = _copies(x, z)
        notes += [repeated] if repeated else []
    divergences = [DIVERGENCES["kl"], DIVERGENCES["js"]]
    request = Request(x=x, y=z, divergences=divergences, method=method, seed=seed, confidence=confidence, groups=None)
    if not (x.shape[1] and z.shape[1]):
        fit = Fit("exact", [_of_a_constant(request)])
    elif method == "auto" and discrete(x) and discrete(z):
        fit = _counted(request, labels)
    elif (found := relation(x, z, checked.called)) and found.exact:
        reason = f"{found.words}: the information of continuous variables is then infinite"
        fit = Fit("exact", [Interval(math.inf, math.inf, math.inf, 0.0, (reason,))])
    else:
        with unthreaded(x.shape[1] + z.shape[1]):
            fit, request = _by_critics(request, labels, found, checked.called)
    if (narrow := fit.log_ratio) is not None:  # the user's points have all columns
        fit = fit._replace(log_ratio=lambda points: narrow(checked.of(points)))
    dim = first.values.shape[1] + second.values.shape[1]
    return Estimate.of("mutual_information", fit.intervals[0], fit, request, dim=dim, notes=notes)


def _copies(x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Labels of the pairs, the same for copies of one, and a warning that counts these; (None, "") without any.

    Equal pairs are copies if their x, or their z, occurs in no other pair; if for some both do, all are values of a
    law. Rows of few decimals repeat by chance.
    """
    joint = np.concatenate([x, z], axis=1)
    (_, labels, of_pair), *sides = (
        np.unique(row_hashes(v), return_inverse=True, return_counts=True) for v in (joint, x, z)
    )
    alone = written(joint).all(axis=1) | (of_pair[labels] == 1)
    elsewhere = of_pair[labels] < np.minimum(*(counts[inverse] for _, inverse, counts in sides))
    labels = np.where(alone, len(of_pair) + np.arange(len(x)), labels)
    own = len(np.unique(labels))
    if alone.all() or np.any(elsewhere & ~alone) or own < FEWEST_GROUPS:
        return None, ""
    return labels, f"{len(x) - own} of {len(x)} pairs repeat an earlier pair: copies count as one in the interval"


def _of_a_constant(request: Request) -> Interval:
    """0, and at most the entropy of what n rows need not have shown: h(s) + s log n, s = −log(1 − confidence)/n."""
    n = len(request.x)
    s = min(-math.log1p(-request.confidence) / n, 0.5)
    return Interval(0.0, 0.0, -s * math.log(s) - (1.0 - s) * math.log1p(-s) + s * math.log(n), 0.0)


def _counted(request: Request, labels: np.ndarray | None) -> Fit:
    """From the shares of the values of x and of z, both discrete."""
    if labels is not None and len(np.unique(labels)) < FEWEST_GROUPS:
        raise DataError(f"an interval needs {FEWEST_GROUPS} groups; use more, smaller groups")
    x, z = (np.unique(row_hashes(rows), return_inverse=True)[1] for rows in (request.x, request.y))
    interval = entropies.information(x, z, request.quantile, labels)
    words = " and ".join(map(str, interval.diagnostics["values"][:2]))
    why = f"auto chose counts: x and z have {words} values, so they are discrete"
    return Fit("counts", [interval], diagnostics={"choice": why})


def _by_critics(
    request: Request, labels: np.ndarray | None, suspected: Relation | None, called: tuple[Called, Called]
) -> tuple[Fit, Request]:
    """From critics between joint and product, and the request that these answered; x and z are those of `request`.

    The interval has no upper end where the rows cannot tell a relation `suspected` from an exact one, or where
    predictions from neighbours, which then are the value, show more information than the critics.
    """
    method, width, sides = request.method, request.x.shape[1], (request.x, request.y)
    made = pairs(request.x, request.y, CANDIDATES - 1 if method == "infonce" else PARTNERS, request.seed, labels)
    request = dataclasses.replace(request, x=made.joint, y=made.product, method="js", groups=made.units)
    objective = neural.OBJECTIVES.get(method, neural.JS)
    held_out = neural.cross_fit(request, made.cut, objective, of_pairs(width))
    fit = plug_in(request, held_out)
    interval, overlap = fit.intervals
    bounds = {name: bound.value(held_out.mean(), made.units) for name, bound in BOUNDS.items()}
    figures = {name: dict(zip(("value", "standard_error"), found)) for name, found in bounds.items()}
    diagnostics: dict[str, Any] = {"bounds": figures}
    if method in BOUNDS:
        cautions = (*interval.warnings, BOUNDS[method].caution)
        around = Interval.around(*bounds[method], request.quantile, -math.inf, math.inf)
        interval = around._replace(warnings=cautions, diagnostics=interval.diagnostics)
        fit = fit._replace(method=method)
    if suspected:
        n = len(made.joint)
        words = f"{suspected.words} as far as {n} rows can tell; if exactly, and these are continuous, I is infinite"
        interval = _open(interval, words, high=interval.high if method in BOUNDS else math.inf)
    elif method == "auto":
        choice = choose(overlap.value, len(made.joint), made.joint.shape[1], near="js")
        diagnostics["choice"] = choice.why
        if choice.method == "telescoping":
            asked = dataclasses.replace(request, method="telescoping", divergences=request.divergences[:1])
            try:
                fit = telescoping.fit(asked, made.cut)
                (interval,) = fit.intervals
            except DataError as error:  # no Gaussian fits columns that all but depend on each other
                interval = _open(interval, f"js where telescoping is needed, which failed: {error}")
    if method not in BOUNDS and labels is None:  # neighbours of one group would predict each other
        least, which = predicted_information(*sides, called)
        if least > (interval.value if suspected else interval.high):
            words = f"neighbours predict more than the critics found: {which} with at least {least:.2f} nats"
            interval = _open(interval, words)._replace(value=least)
        interval = _with_neighbours(interval, *sides, request.quantile)
    if method not in BOUNDS:
        interval = _unexplained(interval, made.joint.shape[1])
    return fit._replace(intervals=[interval], diagnostics={**fit.diagnostics, **diagnostics}), request


def _with_neighbours(interval: Interval, x: np.ndarray, z: np.ndarray, quantile: float) -> Interval:
    """The interval up to that of Kraskov's estimate, where that is larger: of few columns, edges and folds that critics
    learn slowly are plain to neighbours."""
    columns = [*x.T, *z.T]
    if len(columns) > FEW or any(len(np.unique(c)) < DIFFERENT * len(c) for c in columns):
        return interval
    value, error = kraskov(x, z)
    interval = interval._replace(diagnostics={**interval.diagnostics, "by_neighbours": value})
    if value <= interval.value or value + quantile * error <= interval.high:
        return interval
    words = f"neighbours show {value:.3g} nats (Kraskov et al. 2004), more than the critics: the interval reaches there"
    return interval._replace(high=value + quantile * error, warnings=(*interval.warnings, words))


def _unexplained(interval: Interval, columns: int) -> Interval:
    """The interval without an upper end where networks found what no reference shows, and in many columns may have
    missed as much: of products of pairs, mixed by a rotation, they found a quarter. In very many it says so anyway."""
    found = interval.diagnostics.get("found_by_networks", 0.0)
    if columns >= BLIND:
        words = f"{columns} columns: networks see little there, and dependence that no closed form shows may be missing"
        interval = interval._replace(warnings=(*interval.warnings, words))
    if columns < MANY or found <= max(UNEXPLAINED * interval.value, LEAST_UNEXPLAINED):
        return interval
    words = f"lower bound only: networks found {found:.2f} nats that no closed form shows, and may miss as many more"
    return _open(interval, words)


def _open(interval: Interval, caution: str, high: float = math.inf) -> Interval:
    """`interval` up to `high`, with a warning that says why."""
    return interval._replace(high=high, warnings=(*interval.warnings, caution))

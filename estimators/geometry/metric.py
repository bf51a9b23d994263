"""Which powers of divergences are metrics: the triangle inequality D(p, r) ≤ D(p, q) + D(q, r), where it holds.

`METRICS` states what is proved. For every divergence with a smooth generator, f''(1) > 0, no power above ½ is a metric:
three points in a row, δ apart, have D(p, r) ≈ 4 D(p, q) ∝ δ². KL is no metric at any power, since it is not symmetric.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import divergence
from estimators.geometry.categorical import between


class Metric(NamedTuple):
    """D^power is a metric, and so is every smaller positive power of it."""

    power: float
    source: str


METRICS: dict[str, Metric] = {
    "total_variation": Metric(1.0, "half the L¹ norm of p − q"),
    "squared_hellinger": Metric(0.5, "the L² norm of √p − √q (Hellinger 1909; Kakutani 1948)"),
    "js": Metric(0.5, "Endres & Schindelin 2003; Österreicher & Vajda 2003"),
    "triangular": Metric(0.5, "Kafka, Österreicher, Vincze 1991: Puri and Vincze's divergence of order 2"),
    "alpha(0.5)": Metric(0.5, "twice squared_hellinger"),
}
"""Name in `DIVERGENCES` → the largest power known to be a metric; every smaller one is, since u ↦ u^s is concave."""


def distance(p: ArrayLike, q: ArrayLike, name: str = "js") -> np.ndarray:
    """D(P‖Q)^s, [...], of probabilities [..., k], with the power s of `METRICS` that makes it a metric.

    Raises:
        ValueError: a divergence of which no power is known to be a metric, with the choices.

    >>> distance([1.0, 0.0], [0.0, 1.0]).round(6).item()      # √log 2
    0.832555
    """
    d = divergence(name)
    if d.name not in METRICS:
        raise ValueError(f"no power of {d.name} is known to be a metric; choose from {', '.join(METRICS)}")
    return between(p, q, d) ** METRICS[d.name].power


def detour(p: ArrayLike, q: ArrayLike, r: ArrayLike, d: str | FDivergence, power: float = 1.0) -> np.ndarray:
    """D(P, Q)^s + D(Q, R)^s − D(P, R)^s, [...], of probabilities [..., k]: what going by Q costs; < 0 for no metric.

    >>> p, q, r = [1.0, 0.0], [0.5, 0.5], [0.0, 1.0]
    >>> detour(p, q, r, "js", 0.5) > 0.0, detour(p, q, r, "js", 1.0) > 0.0
    (np.True_, np.False_)
    """
    with np.errstate(invalid="ignore"):
        return between(p, q, d) ** power + between(q, r, d) ** power - between(p, r, d) ** power


class Counterexample(NamedTuple):
    """Three distributions [k] for which D(p, r)^s > D(p, q)^s + D(q, r)^s."""

    p: np.ndarray
    q: np.ndarray
    r: np.ndarray
    direct: float
    by_q: float


def counterexample(d: str | FDivergence = "kl", power: float = 1.0, step: float = 0.1) -> Counterexample:
    """Three Bernoullis in a row, ½ − h, ½, ½ + h, for which D^power breaks the triangle inequality.

    Args:
        step: h in (0, ½); where D^power holds for it, a smaller h may break it, if power > ½ and f is smooth.

    Raises:
        ValueError: the triangle inequality holds for these three.

    >>> found = counterexample("kl")
    >>> round(found.direct, 4), round(found.by_q, 4)
    (0.0811, 0.0405)
    """
    p, q, r = (np.array([0.5 + s * step, 0.5 - s * step]) for s in (-1.0, 0.0, 1.0))
    direct, by_q = float(between(p, r, d) ** power), float(between(p, q, d) ** power + between(q, r, d) ** power)
    if not direct > by_q * (1.0 + 1e-12):
        raise ValueError(
            f"{divergence(d).name} to the power {power:g} obeys the triangle inequality at h = {step:g}: "
            f"{direct:.6g} ≤ {by_q:.6g}; powers up to ½ of it may be metrics"
        )
    return Counterexample(p, q, r, direct, by_q)

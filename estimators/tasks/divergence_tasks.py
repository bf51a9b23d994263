"""Pairs (P, Q) whose divergences are known, exact wherever the pair has a closed form or reduces to one dimension.

Both splits, "tuning" and "reporting", hold every kind of pair with different parameters: choose settings on the first,
quote the second. A map that P and Q share changes the samples and no truth. Nats, float64; P before Q.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from scipy import stats

from estimators.distributions.elliptical import Distribution
from estimators.distributions.examples import FGAN_MIXTURE, TWO_MODES, normal, ring
from estimators.distributions.mixture import MixtureOf, in_numpy
from estimators.exact_values.truth import Truth, true_divergence
from estimators.samples.arrays import DataError
from estimators.tasks.laws import (
    autoregressive,
    blocks,
    cube,
    cycled,
    equal_correlation,
    gaussian,
    iid,
    laplace,
    opposed_gaussians,
    student,
)
from estimators.tasks.maps import ASINH, CUBE, NORMAL_CDF, Bijection, embedding, spiral_of_pairs

BENCHMARKED = ("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson")
"""The divergences that are benchmarked on every task."""

Split = Literal["tuning", "reporting"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DivergenceTask:
    """Two distributions to be compared by samples, perhaps under a common invertible map.

    Attributes:
        name: kind, dimension, what else distinguishes it, and the map.
        kind: the family of pairs it belongs to.
        split: settings are chosen on "tuning", results are quoted on "reporting".
        p, q: the distributions before the map.
        map: applied to the samples of both, or None.
        infinite: name of a divergence → why it is infinite, where no closed form shows it.

    >>> task = DIVERGENCE_TASKS["shift_d5"]
    >>> x, y = task.sample(0, 1000)
    >>> task.truth("kl").how, round(task.truth("kl").value, 9)
    ('closed form', 0.625)
    """

    name: str
    kind: str
    split: Split
    p: Distribution
    q: Distribution
    map: Bijection | None = None
    infinite: Mapping[str, str] = field(default_factory=dict)

    @property
    def dim(self) -> int:
        """Coordinates of a sample, after the map."""
        return self.p.dim if self.map is None or self.map.dim is None else self.map.dim

    def under(self, common: Bijection) -> DivergenceTask:
        """The same pair under the map `common`; its samples are this task's, mapped."""
        return replace(self, name=f"{self.name}_{common.name}", map=common)

    def sample(self, seed: int, n: int, m: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(x [n, dim], y [m, dim]), x ~ P and y ~ Q independent, float64; m = n if None.

        The numbers depend on the seed, the pair and n alone, so that a mapped task has the samples of its pair.
        """
        pair = self.name if self.map is None else self.name.removesuffix(f"_{self.map.name}")
        streams = np.random.SeedSequence([seed, zlib.crc32(pair.encode())]).spawn(2)
        rng_p, rng_q = (np.random.default_rng(stream) for stream in streams)
        x, y = self.p.sample(rng_p, n), self.q.sample(rng_q, n if m is None else m)
        return (x, y) if self.map is None else (self.map.forward(x), self.map.forward(y))

    def log_ratio(self, points: np.ndarray) -> np.ndarray:
        """log p/q [k] at points [k, dim] of the mapped space: the map's Jacobian cancels.

        Raises:
            DataError: points of another shape.
        """
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != self.dim:
            raise DataError(f"points of shape {points.shape}: {self.name} takes [k, {self.dim}]")
        x = points if self.map is None else self.map.inverse(points)
        return self.p.log_prob(x) - self.q.log_prob(x)

    def truth(self, name: str) -> Truth:
        """D_f(P‖Q) in nats with its standard error, by `true_divergence`; inf where `infinite` says why.

        Raises:
            ValueError: a name that is not in `BENCHMARKED`.
        """
        if name not in BENCHMARKED:
            raise ValueError(f"no truth for {name!r}; choose from {', '.join(BENCHMARKED)}")
        if name in self.infinite:
            return Truth(math.inf, 0.0, "closed form")
        return true_divergence(self.p, self.q, name)


_HEAVIER = "p²/q grows without bound in the tails: polynomial or exponential ones of P over Gaussian ones of Q"
_WIDER = "p²/q grows without bound in the tails: some component of P has over twice every variance of Q"
_POLE = "p²/q has a pole at 0 that is not integrable"


_KINDS = {
    "chasm": "covariance",
    "exponential": "exponential_family",
    "gamma": "exponential_family",
    "beta": "exponential_family",
}

_TUNING_P = (stats.norm(), laplace(), stats.gamma(2.0), stats.beta(2.0, 2.0))
_TUNING_Q = (stats.norm(0.4), laplace(0.0, 1.3), stats.gamma(2.0, 0.0, 1.3), stats.beta(1.5, 2.0))
_REPORTING_P = (stats.norm(), stats.expon(), stats.beta(3.0, 2.0), stats.logistic())
_REPORTING_Q = (stats.norm(0.0, 1.3), stats.expon(0.0, 1.5), stats.beta(2.0, 2.0), stats.logistic(0.8))


def _task(split: Split, name: str, p: Distribution, q: Distribution, **infinite: str) -> DivergenceTask:
    word = name.split("_")[0]
    return DivergenceTask(name=name, kind=_KINDS.get(word, word), split=split, p=p, q=q, infinite=infinite)


def _tuning() -> Iterator[DivergenceTask]:
    """The pairs on which settings may be chosen."""
    task = partial(_task, "tuning")
    yield task("shift_d1", gaussian(1), gaussian(1, 1.0))
    yield task("shift_d2", gaussian(2), gaussian(2, 0.8))
    yield task("shift_d20_near", gaussian(20), gaussian(20, 0.3))
    yield task("shift_d50", gaussian(50), gaussian(50, 0.4))
    yield task("scale_d2_narrow", gaussian(2, covariance=0.6**2), gaussian(2))
    yield task("scale_d50", gaussian(50, covariance=0.8**2), gaussian(50))
    yield task("covariance_d2", gaussian(2, covariance=equal_correlation(2, 0.8)), gaussian(2))
    yield task("covariance_d5", gaussian(5, covariance=equal_correlation(5, 0.5)), gaussian(5, 0.3))
    yield task("covariance_d20_alternating", gaussian(20, covariance=autoregressive(20, -0.5)), gaussian(20))
    yield task("chasm_d100", gaussian(100, covariance=blocks(100, 0.795)), gaussian(100))
    yield task("mixture_d1_paper", in_numpy(FGAN_MIXTURE), in_numpy(normal(*FGAN_MIXTURE.moments())))
    yield task("mixture_d2_ring", in_numpy(ring(6, 2.0, 0.7)), gaussian(2, covariance=2.0 + 0.7**2))
    yield task("mixture_d20_halves", opposed_gaussians(20, 1.4, 1.0), gaussian(20, covariance=1.1**2))
    yield task("laplace_d1_shift", iid(laplace(), 1), iid(laplace(1.0), 1))
    yield task("laplace_d5_scale", iid(laplace(), 5), iid(laplace(0.0, 1.7), 5))
    yield task("student_d1_shift", student(1, 3.0), student(1, 3.0, 1.0))
    yield task("student_d2_shift", student(2, 3.0), student(2, 3.0, 1.2))
    yield task("student_d5_gaussian", student(5, 5.0), gaussian(5), pearson=_HEAVIER)
    yield task("student_d20_freedom", student(20, 4.0), student(20, 6.0, scale=1.2))
    yield task("uniform_d1", cube(1, 0.0, 1.0), cube(1, 0.3, 1.3))
    yield task("uniform_d2_nested", cube(2, 0.0, 1.0), cube(2, -0.25, 1.25))
    yield task("uniform_d20", cube(20, 0.0, 1.0), cube(20, 0.02, 1.02))
    yield task("exponential_d1", iid(stats.expon(), 1), iid(stats.expon(0.0, 1.4), 1))
    yield task("beta_d2", iid(stats.beta(2.0, 5.0), 2), iid(stats.beta(2.0, 3.0), 2))
    yield task("gamma_d5", iid(stats.gamma(3.0), 5), iid(stats.gamma(2.0), 5))
    yield task("product_d5_gamma", cycled(_TUNING_P, 5), cycled(_TUNING_Q, 5))
    yield task("product_d20_gamma", cycled(_TUNING_P, 20), cycled(_TUNING_Q, 20))
    same = gaussian(5, covariance=autoregressive(5, 0.5))
    yield task("null_d5_gaussian", same, same)


def _reporting() -> Iterator[DivergenceTask]:
    """The pairs on which results are quoted; no setting is chosen here."""
    task = partial(_task, "reporting")
    yield task("shift_d5", gaussian(5), gaussian(5, 0.5))
    yield task("shift_d20", gaussian(20), gaussian(20, 0.5))
    yield task("shift_d160", gaussian(160), gaussian(160, 0.25))
    yield task("scale_d2_wide", gaussian(2, covariance=1.5**2), gaussian(2))
    yield task("scale_d5", gaussian(5, covariance=1.3**2), gaussian(5))
    yield task("scale_d20", gaussian(20, covariance=0.75**2), gaussian(20))
    yield task("covariance_d20", gaussian(20, covariance=autoregressive(20, 0.4)), gaussian(20))
    yield task("covariance_d50", gaussian(50, covariance=autoregressive(50, 0.7)), gaussian(50))
    yield task("chasm_d40", gaussian(40, covariance=blocks(40, 0.795)), gaussian(40))
    yield task("chasm_d160", gaussian(160, covariance=blocks(160, 0.795)), gaussian(160))
    yield task("mixture_d1_modes", in_numpy(TWO_MODES), gaussian(1, covariance=2.0**2))
    yield task("mixture_d2_rings", in_numpy(ring(3, 1.5, 0.6)), in_numpy(ring(2, 1.0, 1.0)))
    narrow, wide = gaussian(5), gaussian(5, covariance=9.0)
    yield task("mixture_d5", MixtureOf(weights=(0.8, 0.2), components=(narrow, wide)), narrow, pearson=_WIDER)
    yield task("mixture_d20_wide", opposed_gaussians(20, 1.5, 1.0), gaussian(20, covariance=1.2**2))
    deviation = math.sqrt(2.0)
    yield task("laplace_d1_normal", iid(laplace(), 1), iid(stats.norm(0.0, deviation), 1), pearson=_HEAVIER)
    yield task("laplace_d5_shift", iid(laplace(), 5), iid(laplace(0.6), 5))
    yield task("student_d1_gaussian", student(1, 5.0), gaussian(1), pearson=_HEAVIER)
    yield task("student_d2_scale", student(2, 4.0), student(2, 4.0, scale=1.8))
    yield task("student_d5_shift", student(5, 4.0), student(5, 4.0, 0.6))
    yield task("student_d20_gaussian", gaussian(20), student(20, 3.0))
    yield task("uniform_d2", cube(2, 0.0, 1.0), cube(2, 0.2, 1.2))
    yield task("uniform_d5_nested", cube(5, 0.0, 1.0), cube(5, -0.1, 1.1))
    yield task("gamma_d1", iid(stats.gamma(2.0), 1), iid(stats.gamma(4.5), 1), pearson=_POLE)
    yield task("beta_d5", iid(stats.beta(2.0, 2.0), 5), iid(stats.beta(3.0, 2.0), 5))
    yield task("exponential_d5", iid(stats.expon(), 5), iid(stats.expon(0.0, 1.8), 5))
    yield task("product_d5_logistic", cycled(_REPORTING_P, 5), cycled(_REPORTING_Q, 5))
    yield task("product_d20_logistic", cycled(_REPORTING_P, 20), cycled(_REPORTING_Q, 20))
    same = student(5, 4.0)
    yield task("null_d5_student", same, same)


_MAPPED: tuple[tuple[str, Bijection], ...] = (
    ("shift_d2", CUBE),
    ("shift_d20_near", spiral_of_pairs(20)),
    ("scale_d2_narrow", NORMAL_CDF),
    ("covariance_d2", ASINH),
    ("covariance_d5", CUBE),
    ("chasm_d100", ASINH),
    ("mixture_d2_ring", ASINH),
    ("laplace_d5_scale", ASINH),
    ("student_d2_shift", ASINH),
    ("uniform_d2_nested", CUBE),
    ("gamma_d5", embedding(5, 20)),
    ("product_d5_gamma", spiral_of_pairs(5)),
    ("null_d5_gaussian", CUBE),
    ("shift_d5", embedding(5, 50)),
    ("shift_d20", NORMAL_CDF),
    ("scale_d20", spiral_of_pairs(20)),
    ("covariance_d20", CUBE),
    ("chasm_d40", ASINH),
    ("chasm_d40", CUBE),
    ("chasm_d160", ASINH),
    ("chasm_d160", CUBE),
    ("mixture_d2_rings", NORMAL_CDF),
    ("laplace_d5_shift", CUBE),
    ("student_d5_shift", ASINH),
    ("uniform_d5_nested", spiral_of_pairs(5, 4.0)),
    ("exponential_d5", ASINH),
    ("product_d5_logistic", embedding(5, 20)),
    ("null_d5_student", ASINH),
)


def _divergence_tasks() -> dict[str, DivergenceTask]:
    pairs = {task.name: task for task in (*_tuning(), *_reporting())}
    mapped = [pairs[name].under(common) for name, common in _MAPPED]
    return pairs | {task.name: task for task in mapped}


DIVERGENCE_TASKS: dict[str, DivergenceTask] = _divergence_tasks()
"""Every divergence task by name."""

"""What is not to be trusted of a trained member: facts from its metrics and its samples, each a line with its number.

`OF_METRICS` and `OF_SAMPLES` list the checks. A finding is `void` where the result has lost its meaning, rather than
become worse: a run of which every member has a void finding has diverged, however finite its numbers. None of them
judges quality, which scores do.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence

END, CHUNKS = 0.1, 3  # a run's last bound is the median of this share of its chunks, or so many: some have outliers
MOSTLY = 0.5  # share of steps or samples beyond which a result rests on the others
SOME = 0.05  # share of samples outside, a fact worth a line: a heavy-tailed generator has fewer that far out
MAXIMAL = 0.99  # share of a divergence's maximum that tells all but a hundredth of the mass apart
NEGATIVE = 0.5  # nats below a constant critic's bound, over f''(1): a log-ratio wrong by 1 everywhere has as much
KINKED = 0.1  # share of its maximum that stands for f''(1) of a divergence with a kink, so that a twentieth counts
CONSTANT = 1e-7  # nats from a constant critic's bound; one that learns has more by the noise of its batches alone
POINT = 0.01  # spread of the samples over that of the data below which they are one point for any use


class Finding(NamedTuple):
    """A fact in plain words, and whether it leaves the result without meaning."""

    text: str
    void: bool = False


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known of a member at the end of its training."""

    since: int  # the first of the steps left out until the end, if they are too many; −1 if it has not diverged
    records: Sequence[Mapping[str, Any]]  # step → metrics, means over the steps since the record before
    samples: np.ndarray  # generated [n, d], in the scale the networks see, as are
    data: np.ndarray  # real samples [m, d]
    divergence: FDivergence
    batch: int

    def bound(self) -> float:
        """The last bound on the divergence; NaN where there is none."""
        last = self.records[-max(CHUNKS, round(END * len(self.records))) :]
        bounds = [record["bound"] for record in last if record.get("bound") is not None]
        return float(np.median(bounds)) if bounds else math.nan


def findings(evidence: Evidence) -> list[Finding]:
    """All there are; of a member that has diverged only that, and no others of samples that are not finite."""
    if evidence.since >= 0:
        return [diverged(evidence.since)]
    checks = OF_METRICS + (OF_SAMPLES if np.isfinite(evidence.samples).all() else (samples_not_finite,))
    return [found for check in checks for found in [check(evidence)] if found]


def diverged(since: int) -> Finding:
    """That of a member which was left as it was before the step `since`."""
    return Finding(f"diverged: no step since {since} was finite, and all were left out", void=True)


def left_out(e: Evidence) -> Finding | None:
    """Steps left out because something in them was not finite."""
    before = [0, *(record["step"] for record in e.records)]
    taken = np.diff(before)
    skipped = sum(n * (record.get("skipped") or 0.0) for n, record in zip(taken, e.records, strict=True))
    if not round(skipped):
        return None
    share = skipped / before[-1]
    text = f"{skipped:.0f} of {before[-1]} steps ({100.0 * share:.3g} %) were left out: something was not finite"
    return Finding(text, void=share > MOSTLY)


def bound_too_large(e: Evidence) -> Finding | None:
    """A bound above the divergence's maximum, or, where it has none, above what batches of this size can show."""
    limit, why = e.divergence.upper_limit(), "its maximum"
    if math.isinf(limit):
        limit, why = largest_shown(e.divergence, e.batch), f"the most that batches of {e.batch} can show"
    if not e.bound() > limit + 1e-3 * (1.0 + abs(limit)):  # rounding, of means in float32
        return None
    return Finding(f"the bound, {e.bound():.3g} nats, means nothing: {e.divergence.name} has {limit:.3g} as {why}")


def bound_at_maximum(e: Evidence) -> Finding | None:
    """A critic that tells all real points from the generated ones."""
    most, least = e.divergence.upper_limit(), e.divergence.value_at_one
    if not (math.isfinite(most) and least + MAXIMAL * (most - least) <= e.bound() <= most + 1e-3 * (1.0 + abs(most))):
        return None
    return Finding(
        f"the bound, {e.bound():.3g} nats, is at the maximum of {e.divergence.name}: data and generated samples hardly "
        "overlap, and what lies between them is not seen"
    )


def bound_negative(e: Evidence) -> Finding | None:
    """A bound below that of a critic which knows nothing."""
    d = e.divergence
    unit = float(d.second(jnp.ones(()))) if d.smooth else KINKED * (d.upper_limit() - d.value_at_one)
    if not e.bound() < d.value_at_one - NEGATIVE * unit:
        return None
    return Finding(
        f"the bound, {e.bound():.3g} nats, means nothing: a constant critic has {d.value_at_one:.3g}, so this one has "
        "not learned"
    )


def critic_idle(e: Evidence) -> Finding | None:
    """A critic without a gradient, or one that tells nothing apart."""
    if e.records and e.records[-1].get("critic_gradient") == 0.0:
        return Finding("the critic's gradient is zero: it has stopped learning, and its bound says nothing")
    if abs(e.bound() - e.divergence.value_at_one) < CONSTANT:
        return Finding("the bound is that of a constant critic: it has stopped learning, and its bound says nothing")
    return None


def samples_not_finite(e: Evidence) -> Finding:
    """Samples that are no numbers."""
    bad = float(np.mean(~np.isfinite(e.samples).all(axis=1)))
    return Finding(f"{100.0 * bad:.3g} % of the generated samples are not finite", void=True)


def samples_outside(e: Evidence) -> Finding | None:
    """Samples farther out of the data's range, in some coordinate, than the widest range is wide."""
    low, high = e.data.min(axis=0), e.data.max(axis=0)
    width = np.max(high - low)
    outside = float(np.mean(((e.samples < low - width) | (e.samples > high + width)).any(axis=1)))
    if outside < SOME:
        return None
    text = f"{100.0 * outside:.3g} % of the generated samples lie outside of the data's range by more than its width"
    return Finding(text, void=outside > MOSTLY)


def one_point(e: Evidence) -> Finding | None:
    """Samples that hardly differ."""
    own, real = (np.sqrt(np.var(x, axis=0, dtype=np.float64).sum()) for x in (e.samples, e.data))
    if not own < POINT * real:
        return None
    return Finding(f"all generated samples are nearly one point: their spread is {own / real:.1g} of the data's", True)


Check = Callable[[Evidence], Finding | None]
OF_METRICS: tuple[Check, ...] = (left_out, bound_too_large, bound_at_maximum, bound_negative, critic_idle)
OF_SAMPLES: tuple[Check, ...] = (samples_outside, one_point)
"""Of finite ones."""


def largest_shown(d: FDivergence, n: int) -> float:
    """D_f between (1 − 1/n, 1/n) and (1/n, 1 − 1/n): what two disjoint samples of n points still allow; log n for kl.

    Source: McAllester & Stratos 2020, Formal limitations on the measurement of mutual information, theorem 1 for kl: no
    lower bound from n points that holds with high confidence exceeds O(log n).
    """
    if n < 2:
        return math.inf
    with_few, with_many = (float(d.f(jnp.asarray(u))) for u in (1.0 / (n - 1.0), n - 1.0))
    return (1.0 - 1.0 / n) * with_few + with_many / n

"""Weights of a divergence that rise from 0 to 1 while training, as optax schedules: step → weight in [0, 1].

A strong divergence early in training makes a variational autoencoder ignore its latent variables. A weight that begins
near 0 lets it use them first (Bowman et al. 2016). Multiply the schedule by the final weight.

`ANNEALING` lists them by name, for configs; an entry added there is a choice at once.
"""

from collections.abc import Callable

import optax
from jax.nn import sigmoid as logistic

STEEPNESS = 10.0
"""Log-odds that the sigmoid rises by: from 0.7 % at the first step to 99.3 % at the end of the rise. Chosen so that
both ends are within one percent of the linear schedule's."""


def linear(steps: int, *, share: float = 0.5) -> optax.Schedule:
    """min(1, step/(share·steps)): it rises in a straight line and reaches 1 at that share of the training.

    Args:
        steps: of the whole training, at least 1.
        share: of these steps that the rise takes, in (0, 1].

    Raises:
        ValueError: steps or share out of range.

    Source: Sønderby et al. 2016, Ladder variational autoencoders ("warm-up").

    >>> weight = linear(1000)
    >>> [float(weight(step)) for step in (0, 250, 500, 900)]
    [0.0, 0.5, 1.0, 1.0]
    """
    _check(steps, share)
    return optax.linear_schedule(0.0, 1.0, max(1, round(share * steps)))


def cyclical(steps: int, *, share: float = 0.5, cycles: int = 4) -> optax.Schedule:
    """min(1, τ/share) with τ ∈ [0, 1) the part of the present cycle that is over: each cycle starts at 0.

    After the last cycle the weight stays at 1.

    Args:
        steps: of the whole training, at least `cycles`.
        share: of each cycle that the rise takes, in (0, 1].
        cycles: of equal length, at least 1; one is the linear schedule.

    Raises:
        ValueError: an argument out of range.

    Source: Fu et al. 2019, Cyclical annealing schedule, eqs. 6 and 7.

    >>> weight = cyclical(1000, cycles=4)
    >>> [float(weight(step)) for step in (0, 125, 249, 250, 375, 2000)]
    [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    """
    _check(steps, share)
    if not 1 <= cycles <= steps:
        raise ValueError(f"cycles = {cycles}: choose between 1 and steps = {steps}")
    starts = [round(cycle * steps / cycles) for cycle in range(cycles)]
    return optax.join_schedules([linear(max(1, steps // cycles), share=share)] * cycles, starts[1:])


def sigmoid(steps: int, *, share: float = 0.5) -> optax.Schedule:
    """σ(10(step/(share·steps) − ½)): a smooth rise, from 0.007 to 0.993 at that share of the training.

    Args:
        steps: of the whole training, at least 1.
        share: of these steps that the rise takes, in (0, 1].

    Raises:
        ValueError: steps or share out of range.

    Source: Bowman et al. 2016, Generating sentences from a continuous space, section 3.1.

    >>> weight = sigmoid(1000)
    >>> [round(float(weight(step)), 3) for step in (0, 250, 500, 1000)]
    [0.007, 0.5, 0.993, 1.0]
    """
    _check(steps, share)
    return lambda step: logistic(STEEPNESS * (step / (share * steps) - 0.5))


def _check(steps: int, share: float) -> None:
    if steps < 1:
        raise ValueError(f"steps = {steps}: a training has at least one step")
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share = {share}: the rise takes a share in (0, 1]")


ANNEALING: dict[str, Callable[[int, float, int], optax.Schedule]] = {
    "none": lambda steps, share, cycles: optax.constant_schedule(1.0),
    "linear": lambda steps, share, cycles: linear(steps, share=share),
    "cyclical": lambda steps, share, cycles: cyclical(steps, share=share, cycles=cycles),
    "sigmoid": lambda steps, share, cycles: sigmoid(steps, share=share),
}
"""name → (steps of the training, share of them or of a cycle that the rise takes, cycles) → schedule."""

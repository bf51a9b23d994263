"""A picture of two distributions of numbers and of where their divergences come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from estimators.distributions.foreign import named_as
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import functional
from estimators.exact_values.between import exact
from estimators.exact_values.pairs import kind_of
from estimators.plot_style import PALETTE, STYLE, subplots, verbatim

POINTS = 801  # of a density
DRAWS = 4000  # of each, that say how wide the axis is


def drawable(P: Any, Q: Any) -> tuple[Any, Any]:
    """(P, Q) as distributions. Raises ValueError for vectors, batches, or two kinds."""
    p, q = named_as(P, "P"), named_as(Q, "Q")
    if p.event_shape or q.event_shape or p.batch_shape or q.batch_shape or kind_of(p) != kind_of(q):
        raise ValueError("a picture needs two single distributions of numbers, both with densities or both of counts")
    return p, q


def draw(P: Any, Q: Any, names: Sequence[str], titles: tuple[str, str] = ("P", "Q")) -> Figure:
    """Both densities (or probabilities) above, and below the share of each divergence that comes from each place.

    The lower curves are q f̃(p/q) divided by their integral, so that divergences of all sizes have one axis. Raises
    ValueError for what is not `drawable`.
    """
    p, q = drawable(P, Q)
    counts = kind_of(p) == "integers"
    with jax.enable_x64(True), rc_context(STYLE):
        x = _axis(p, q, counts)
        logs = [jnp.asarray(side.log_prob(jnp.asarray(x)), jnp.float64) for side in (p, q)]
        figure, (above, below) = subplots(2, 1, sharex=True, figsize=(6.4, 5.0))
        for log, title, colour in zip(logs, titles, PALETTE):
            _curve(above, x, np.exp(log), counts, colour, title)
        for name, colour in zip(names, PALETTE[2:] * len(names)):
            result = exact(p, q, name)
            terms = np.exp(log_perspective(functional(name).divergence)(*logs))
            total = terms.sum() * (1.0 if counts else x[1] - x[0])
            value = "∞" if math.isinf(result.value) else f"{result.value:.4f}"
            _curve(below, x, terms / total if total > 0.0 else terms, counts, colour, f"{name}: {value} nats")
        above.set(ylabel="probability" if counts else "density", ylim=(0.0, None))
        below.set(ylabel="share of the divergence", xlabel="x", ylim=(0.0, None))
        for axis in (above, below):
            axis.legend(frameon=False)
    return figure


def _curve(axis: Any, x: np.ndarray, y: np.ndarray, counts: bool, colour: str, name: str) -> None:
    label = verbatim(name)
    finite = np.where(np.isfinite(y), y, np.nan)
    if counts:
        axis.plot(x, finite, "o-", ms=3.0, lw=0.8, color=colour, label=label)
    else:
        axis.plot(x, finite, color=colour, label=label)
        axis.fill_between(x, finite, color=colour, alpha=0.12, lw=0.0)


def _axis(p: Any, q: Any, counts: bool) -> np.ndarray:
    """Where draws of either lie, with a margin, inside the supports."""
    draws = [np.asarray(side.sample(jax.random.key(0), DRAWS), float) for side in (p, q)]
    low, high = (edge([np.quantile(d, share) for d in draws]) for edge, share in ((min, 0.002), (max, 0.998)))
    margin = 0.25 * (high - low) + (1.0 if counts else 1e-9)
    ends = [[float(np.asarray(end)) for end in (side.support.low, side.support.high)] for side in (p, q)]
    low, high = max(low - margin, min(e[0] for e in ends)), min(high + margin, max(e[1] for e in ends))
    return np.arange(math.floor(low), math.ceil(high) + 1.0) if counts else np.linspace(low, high, POINTS)[1:-1]

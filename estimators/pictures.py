"""Pictures of an estimate: the critic on held-out samples, its calibration, and its training.

P is blue and Q is orange throughout. An `estimate` is any object with the attributes of `estimation.Estimate`.
Matplotlib is imported only when something is drawn.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from estimators.plot_style import DATA, PALETTE, STYLE, verbatim

P, Q = PALETTE[0], PALETTE[4]
BARS, SHARES = 50, 12  # bars of the histogram, and groups of the calibration curve


def plot(estimate: Any, ax: Any = None) -> Any:
    """A figure of three panels: held-out log-ratios, their calibration, and the bound in training.

    Args:
        estimate: one with held-out log-ratios, `scores.log_p` [n] and `scores.log_q` [m].
        ax: a matplotlib axis; only the log-ratios are drawn, on it, and it is returned.

    Raises ValueError: the estimate holds no log-ratios.
    """
    scores = estimate.scores
    if scores is None:
        raise ValueError(f"the {estimate.method} estimate holds no held-out log-ratios to draw; use method='neural'")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        if ax is not None:
            return log_ratios(ax, estimate, scores.log_p, scores.log_q)
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13.0, 4.0))
        log_ratios(left, estimate, scores.log_p, scores.log_q)
        calibration(middle, scores.log_p, scores.log_q)
        training(right, estimate.diagnostics.get("history"))
        return figure


def log_ratios(axis: Any, estimate: Any, log_p: np.ndarray, log_q: np.ndarray) -> Any:
    """`axis` with the densities of the held-out log p/q under P and under Q, and the estimate above them.

    The outermost bars hold all values beyond them, about one in a thousand on either side.
    """
    pooled = np.concatenate([log_p, log_q])
    low, high = np.quantile(pooled, [0.001, 0.999], method="nearest")
    edges = np.histogram_bin_edges(np.clip(pooled, low, high), BARS)
    for values, colour, name in ((log_p, P, "P"), (log_q, Q, "Q")):
        density, _ = np.histogram(np.clip(values, low, high), edges, density=True)
        axis.stairs(density, edges, color=colour, fill=True, alpha=0.25)
        axis.stairs(density, edges, color=colour, lw=1.6, label=f"under {name}, {len(values)} held out")
    axis.axvline(0.0, color=DATA, lw=1, ls=":")
    e, level = estimate, f"{100.0 * estimate.confidence:g} %"
    title = f"{verbatim(e.divergence.replace('_', ' '))} = {e.value:.4g} nats\n{level}: {e.low:.4g} to {e.high:.4g}"
    axis.set(xlabel="log p/q (nats)", ylabel="density", title=title)
    axis.margins(y=0.2)  # for the legend
    axis.legend(loc="upper left", fontsize=8)
    return axis


def calibration(axis: Any, log_p: np.ndarray, log_q: np.ndarray) -> None:
    """Draw the observed share of P's samples against the predicted one, σ(log p/q + log n/m), with 95 % intervals.

    Samples are ordered by prediction and cut into groups of equal size; a calibrated ratio lies on the diagonal.
    """
    predicted, share, low, high = reliability(log_p, log_q)
    axis.plot([0, 1], [0, 1], color=DATA, lw=1, ls=":", label="calibrated")
    margins = np.maximum([share - low, high - share], 0.0)
    axis.errorbar(predicted, share, margins, fmt="o-", ms=5, lw=1, capsize=2, color="black", label="held out, 95 %")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axis.set(xlabel="predicted probability of P", ylabel="observed share of P", title="Calibration of the ratio")
    axis.legend(loc="upper left", fontsize=8)


def reliability(log_p: np.ndarray, log_q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(mean prediction, observed share, its lower and upper 95 % limit) of each group, [at most `SHARES`] each.

    Source: the limits are Wilson's (1927), which lie within [0, 1] and have width where the share is 0 or 1.
    """
    n, m = len(log_p), len(log_q)
    predicted = expit(np.concatenate([log_p, log_q]) + math.log(n / m))
    from_p = np.arange(n + m) < n
    groups = np.array_split(np.argsort(predicted, kind="stable"), min(SHARES, n + m))
    mean, share = (np.array([values[group].mean() for group in groups]) for values in (predicted, from_p))
    z2, size = norm.ppf(0.975) ** 2, np.array([len(group) for group in groups])
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    margin = np.sqrt(z2 * (share * (1 - share) / size + z2 / (4 * size**2))) / (1 + z2 / size)
    return mean, share, centre - margin, centre + margin


def training(axis: Any, history: Mapping[str, Sequence[Any]] | None) -> None:
    """Draw the bounds on training and on held-out samples over the steps: the median, and each critic's, faint.

    A dot marks the step at which a critic's held-out bound is best; this critic is kept.
    """
    axis.set_title("Training")
    if not history:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "nothing was trained in rounds", ha="center", va="center", transform=axis.transAxes)
        return
    steps = np.asarray(history["steps"])
    curves = {key: np.asarray(history[key], float).reshape(len(steps), -1) for key in ("train", "held_out")}
    for key, colour, name in (("train", DATA, "training"), ("held_out", "black", "held out")):
        axis.plot(steps, curves[key], color=colour, lw=0.7, alpha=0.35)
        axis.plot(steps, np.median(curves[key], axis=1), color=colour, lw=2, label=f"{name}, median")
    held_out = curves["held_out"]
    best = np.nanargmax(held_out, axis=0)
    chosen = float(np.median(steps[best]))
    axis.plot(steps[best], np.nanmax(held_out, axis=0), "o", ms=5.5, color="black", mec="white")
    axis.axvline(chosen, color="black", lw=1, ls="--", label=f"kept (dots), median step {chosen:g}")
    axis.set(xlabel="step", ylabel="bound (nats)")
    axis.legend(loc="best", fontsize=8, frameon=True, edgecolor="none", framealpha=0.85)

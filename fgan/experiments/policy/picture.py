"""The picture of the policy experiment: how policies approach the optimum, or leave it."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.experiments.policy.training import NAMES


def draw(path: Path) -> Path:
    """Draw policy.png beside a policy.json: gap, KL to the prior and coefficient over the batches, a row a task."""
    result = json.loads(path.read_text(encoding="utf-8"))
    every = result["settings"]["record"]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(result["tasks"]), 3, figsize=(11.5, 3.2 * len(result["tasks"]) + 0.9), squeeze=False
        )
        for line, (name, task) in zip(axes, result["tasks"].items(), strict=True):
            for row in (row for row in result["rows"] if row["task"] == name):
                i = NAMES.index(row["method"])
                for axis, score in zip(line, ("gap", "kl_prior", "coefficient"), strict=True):
                    values = row["paths"][score]
                    style = {"color": PALETTE[i], "lw": 1.4, "label": row["method"].replace("_", " ")}
                    if score != "coefficient" or row["method"] in ("adaptive", "penalty"):
                        axis.plot(every * np.arange(len(values)), values, **style)
            line[0].axhline(task["prior_gap"], color="black", lw=0.8, ls=":", label="prior")
            for end in task["ends"].values():
                line[0].axhline(end, **EXACT, label="exact value")
            line[1].axhline(task["optimum_kl_prior"], **EXACT, label="exact value")
            line[0].set(yscale="log", ylabel=f"{name}: gap J(π*) − J(π), nats")
            line[1].set(ylabel="KL(π‖π₀), nats")
            line[2].set(yscale="log", ylabel="coefficient of the penalty")
            line[2].yaxis.set(
                major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator()
            )
            for axis in line:
                axis.set_xlabel("batches")
        figure.suptitle(
            "Policy gradients towards π* ∝ π₀ e^{r/β}: mean of "
            f"{len(result['settings']['seeds'])} seeds, every value exact\n"
            "dashed: the ends of none and k3 on the bandit, and the KL of π*; dotted: the prior",
            fontsize=11,
        )
        legend_below(figure, *axes.flat)
        return save(figure, path.with_suffix(".png"))

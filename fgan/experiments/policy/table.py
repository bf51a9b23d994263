"""The table of the policy experiment, and which of its aims were met."""

from collections.abc import Sequence
from typing import Any

from fgan.experiments.tables import Column, plus_minus

CLOSE, FAR = 0.02, 0.1
"""Aims: the gap as a share of that of the prior, for methods that lead to π* and for those that do not."""
LEADING = ("penalty", "k2", "trust_region")
"""The methods whose gradient is that of J on average."""


def aims(tasks: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What theory promises → whether every seed showed it."""

    def gaps(*methods):  # of each seed, as a share of the prior's
        return [
            seed["gap"] / tasks[row["task"]]["prior_gap"] for row in rows if row["method"] in methods
            for seed in row["seeds"]
        ]  # fmt: skip

    ended = [(row, tasks[row["task"]]["ends"].get("k3")) for row in rows if row["method"] == "k3"]
    held = [
        (row["kl_prior"]["mean"], tasks[row["task"]]["optimum_kl_prior"]) for row in rows if row["method"] == "adaptive"
    ]
    return {
        f"penalty, k2 and trust region end within {CLOSE:.0%} of the prior's gap": max(gaps(*LEADING)) <= CLOSE,
        f"without a penalty more than {FAR:.0%} of the gap is left": min(gaps("none")) >= FAR,
        "k3 as a loss ends where KL(π₀‖π) leads, to 10 % of that gap": all(
            abs(row["gap"]["mean"] - end) <= 0.1 * end for row, end in ended if end is not None
        ),
        "the adaptive coefficient holds its KL within a factor of 1.5": all(
            target / 1.5 <= kl <= 1.5 * target for kl, target in held
        ),
        "the gap is β KL(π‖π*) / (1 − γ), to 1e-8": max(task["identity_error"] for task in tasks.values()) <= 1e-8,
    }


COLUMNS = (
    Column("gap", 20, plus_minus("gap", digits=5)),
    Column("KL(π‖π*)", 20, plus_minus("kl_optimum", digits=5)),
    Column("KL(π‖π₀)", 18, plus_minus("kl_prior", digits=4)),
    Column("coefficient", 18, plus_minus("coefficient", digits=4)),
)


def text(result: dict[str, Any]) -> str:
    """The scores of every method on both tasks, and which aims were met, as text."""
    lines = [
        f"Policies after {result['settings']['iterations']} batches, {len(result['settings']['seeds'])} seeds, nats."
    ]
    for name, task in result["tasks"].items():
        ends = "".join(f"; {method} tends to {gap:.5f}" for method, gap in task["ends"].items())
        lines += [
            "",
            f"{name}: γ = {task['discount']:g}, β = {task['beta']:g}; gap of the prior {task['prior_gap']:.5f}{ends}; "
            f"KL(π*‖π₀) {task['optimum_kl_prior']:.4f}",
            f"{'method':<14}" + "".join(f"{c.heading:>{c.width}}" for c in COLUMNS),
        ]
        for row in result["rows"]:
            if row["task"] == name:
                label = row["method"].replace("_", " ")
                lines.append(f"{label:<14}" + "".join(f"{c.text(row):>{c.width}}" for c in COLUMNS))
    return "\n".join([*lines, "", *(f"{'met' if met else 'MISSED'}: {aim}" for aim, met in result["aims"].items())])

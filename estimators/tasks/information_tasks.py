"""Every task of mutual information: the groups that benchmarks measure, and one table of all by name.

A new file of tasks is one entry of `GROUPS`.
"""

from __future__ import annotations

from collections.abc import Mapping

from estimators.tasks.bend_and_mix_tasks import BEND_AND_MIX_TASKS
from estimators.tasks.copula_tasks import COPULA_TASKS
from estimators.tasks.mutual_information_tasks import MUTUAL_INFORMATION_TASKS, MutualInformationTask
from estimators.tasks.network_tasks import NETWORK_TASKS
from estimators.tasks.products_of_pairs import CONVERGENCE, PRODUCTS_OF_PAIRS

GROUPS: Mapping[str, Mapping[str, MutualInformationTask]] = {
    "mutual-information": MUTUAL_INFORMATION_TASKS,
    "products": PRODUCTS_OF_PAIRS | COPULA_TASKS | NETWORK_TASKS,
    "convergence": CONVERGENCE,
    "bmi2": BEND_AND_MIX_TASKS,
}
"""Group → name → task. Groups may share a task."""

INFORMATION_TASKS: dict[str, MutualInformationTask] = {
    name: task for group in GROUPS.values() for name, task in group.items()
}
"""Every task of mutual information by name."""

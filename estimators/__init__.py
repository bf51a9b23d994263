"""f-divergences between distributions given as samples, densities or parameters.

import estimators as est
    est.DIVERGENCES                       the table
    est.divergence("alpha(0.5)")          one of its divergences
    est.estimate(x, y, "kl")              from samples, with an interval
    est.estimate_many(pairs, "kl")        of many pairs of sample sets, side by side
    est.exact(P, Q, "kl")                 between two named distributions
    est.exact_divergence(log_p, log_q, d) from densities on the line or the plane

Importing does no work: names are loaded when they are first used.
"""

from typing import Any

from estimators.rooms import loaded

_HOMES = {
    "divergences.table": "DIVERGENCES UnknownDivergence divergence",
    "divergences.generator": "Activation FDivergence from_generator",
    "divergences.families": "FAMILIES alpha hockey_stick js_weighted",
    "divergences.bounds": "BOUNDS",
    "exact_values.quadrature": "PLANE exact_bound exact_divergence integrate",
    "exact_values.fits": "BestFit best_fit",
    "exact_values.between": "Exact exact",
    "tasks.divergence_tasks": "DIVERGENCE_TASKS",
    "tasks.mutual_information_tasks": "MUTUAL_INFORMATION_TASKS",
    "distributions.mixture": "Mixture",
    "distributions.examples": "TARGETS normal ring",
    "estimation": "Estimate METHODS estimate estimate_many",
    "information": "mutual_information",
    "permutation": "permutation_test",
    "samples.arrays": "DataError Samples as_samples check_pair",
    "samples.files": "read_samples",
    "critics.networks": "MLP",
}

__all__ = sorted(" ".join(_HOMES.values()).split())  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    globals()[name] = value = loaded(__name__, _HOMES, name)
    return value


def __dir__() -> list[str]:
    return list(__all__)

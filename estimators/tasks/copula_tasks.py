"""Tasks of pairs that depend through a copula or a mixture of two, one pair or four, with standard normal margins.

One copula has a closed form; a mixture has none, and its truth is an integral in the plane. In four pairs X and Z are
each N(0, I), so that after a rotation nothing about X alone or Z alone shows which directions belong together. Nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from estimators.distributions.copulas import Clayton, Gumbel
from estimators.distributions.elliptical import Distribution
from estimators.distributions.mixture import MixtureOf
from estimators.exact_values.planar import planar_information
from estimators.exact_values.truth import Truth
from estimators.tasks.divergence_tasks import equal_correlation, gaussian
from estimators.tasks.mutual_information_tasks import MutualInformationTask
from estimators.tasks.products_of_pairs import copies, copies_of, rotated

EDGE, STEP = 9.0, 0.05  # of the grid, in normal scores: on half the step the truths agree to 1e-9
COUNTS = (1, 4)  # pairs


def opposed_correlations(rho: float) -> MixtureOf:
    """½ N(0, correlation ρ) + ½ N(0, correlation −ρ): uncorrelated, and dependent."""
    signs = (1.0, -1.0)
    components = tuple(gaussian(2, covariance=equal_correlation(2, sign * rho)) for sign in signs)
    return MixtureOf(weights=(0.5, 0.5), components=components)


@cache
def of_normal_margins(law: Distribution) -> Truth:
    """I(X; Z) of a pair with standard normal margins and a smooth density, by quadrature."""
    ends = (-EDGE, EDGE)
    return Truth(planar_information(law.log_prob, ends, ends, (STEP, STEP)), 0.0, "quadrature")


def _mixed(name: str, law: Distribution, k: int) -> MutualInformationTask:
    """k copies of a pair whose information is an integral, computed when it is first asked for."""
    return copies(name, law, k, lambda: of_normal_margins(law))


def _tasks() -> Iterator[MutualInformationTask]:
    clayton, gumbel = Clayton(theta=4.0), Gumbel(theta=3.0)
    gaussians = opposed_correlations(0.8)
    both_tails = MixtureOf(weights=(0.5, 0.5), components=(clayton, gumbel))
    for k in COUNTS:
        yield copies_of(f"clayton-{k}-4.0", clayton, k)
        yield copies_of(f"gumbel-{k}-3.0", gumbel, k)
        yield _mixed(f"gaussian-mixture-{k}-0.8", gaussians, k)
        yield _mixed(f"clayton-gumbel-mixture-{k}-4.0-3.0", both_tails, k)
    yield rotated(copies_of("clayton-4-4.0", clayton, 4))
    yield rotated(_mixed("gaussian-mixture-4-0.8", gaussians, 4))


COPULA_TASKS: dict[str, MutualInformationTask] = {task.name: task for task in _tasks()}
"""Copulas and mixtures of two by name: kind, pairs, parameters."""

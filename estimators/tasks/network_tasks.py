"""Tasks X = f(Z) + noise through a fixed random network: d columns of X and of Z, which meet in one or two numbers.

X is the image of one or two linear combinations s of Z, on a curve or a surface in ℝ^d, with Gaussian noise. Its
density is an integral over s alone, which makes the truth computable: I(X; Z) = E[log p(x | z) − log p(x)], a Monte
Carlo mean of exact terms (`by_monte_carlo`). The means are stored here with their standard errors. Nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from estimators.distributions.networks import NoisyNetwork
from estimators.exact_values.truth import Truth
from estimators.tasks.mutual_information_tasks import MutualInformationTask

STEPS = {1: 0.05, 2: 0.1}
"""Latent numbers → the step of the rule for p(x). Half the step changes no mean of 1,000 terms by more than 2e-6."""
CHUNK = 50_000  # pairs drawn at once


def by_monte_carlo(law: NoisyNetwork, n: int, seed: int = 0) -> Truth:
    """I(X; Z) as the mean of n exact terms log p(x | z) − log p(x), with its standard error."""
    rng, terms = np.random.default_rng(seed), []
    for size in np.diff([*range(0, n, CHUNK), n]):
        x, z = np.split(law.sample(rng, int(size)), [law.dim_x], axis=1)
        terms.append(law.log_likelihood(x, z) - law.log_marginal(x, STEPS[law.latent]))
    values = np.concatenate(terms)
    return Truth(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n), "Monte Carlo")


class Stored(NamedTuple):
    """A task's parameters and its information, nats: the result of `by_monte_carlo(law, terms)`."""

    d: int  # columns of X and of Z
    latent: int
    sigma: float  # of the noise, chosen for an information of two to three and a half nats
    value: float
    standard_error: float
    terms: int


STORED = (
    Stored(2, 1, 0.1, 2.2974474802804057, 0.0007477375265737892, 1_000_000),
    Stored(8, 1, 0.2, 2.0823599713560657, 0.0008417104789585339, 1_000_000),
    Stored(32, 1, 0.4, 2.3137641186151936, 0.0007390598976762438, 1_000_000),
    Stored(8, 2, 0.3, 3.340258071242889, 0.0018024175241027813, 400_000),
    Stored(32, 2, 0.6, 3.109809084775294, 0.0018370342907789792, 400_000),
)


def _tasks() -> Iterator[MutualInformationTask]:
    for d, latent, sigma, value, error, _ in STORED:
        law = NoisyNetwork(dim_x=d, dim_z=d, latent=latent, sigma=sigma)
        truth = Truth(value, error, "Monte Carlo")
        name = f"network-{d}-{d}-{latent}-{sigma}"
        yield MutualInformationTask(name=name, joint=law, split=d, dim_x=d, dim_y=d, known=partial(Truth, *truth))


NETWORK_TASKS: dict[str, MutualInformationTask] = {task.name: task for task in _tasks()}
"""Noisy random networks by name: columns of X and of Z, latent numbers, standard deviation of the noise."""

"""Every data set by its name in a config, each a function of `config.Data`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from estimators.distributions.curves import Curve
from estimators.distributions.examples import TARGETS
from estimators.distributions.subspaces import SUBSPACES
from fgan.config.schema import Data
from fgan.data.dataset import Dataset
from fgan.data.digits import digits
from fgan.data.images import own_images
from fgan.data.own_samples import own_samples

ROWS = 20_000
"""Rows drawn once from a mixture in subspaces, whose every sample costs a product with a basis."""


def load(data: Data) -> Dataset:
    """The data set that `data` names. Raises DataError, one line with the remedy."""
    return DATASETS[data.name](data)


def example(data: Data) -> Dataset:
    """An example distribution; the networks see those in the plane centred, with mean variance 1 over the axes."""
    target = TARGETS[data.name]
    empty = np.zeros((0, target.dim), np.float32)
    offset, scale = np.zeros(target.dim), np.ones(target.dim)
    if target.dim > 1:
        law = target.mixture() if isinstance(target, Curve) else target
        weights, means = np.array(law.weights), np.array(law.means)
        offset = weights @ means
        scale = scale * np.sqrt(weights @ (np.array(law.sigmas) ** 2 + np.mean((means - offset) ** 2, axis=1)))
    return Dataset(
        name=data.name, dim=target.dim, target=target, rows=empty, held_out=empty, offset=offset, scale=scale
    )


def in_subspaces(data: Data) -> Dataset:
    """Rows of a mixture in subspaces; the networks see them with mean variance 1 over the axes."""
    law = SUBSPACES[data.name]
    rows = law.sample(np.random.default_rng(law.seed), ROWS) / law.deviation
    return Dataset(
        name=data.name,
        dim=law.dim,
        law=law,
        rows=rows.astype(np.float32),
        held_out=np.zeros((0, law.dim), np.float32),
        offset=np.zeros(law.dim),
        scale=np.full(law.dim, law.deviation),
        content=repr((law, rows.shape)),  # the last digits of the rows vary with the number of threads
    )


DATASETS: dict[str, Callable[[Data], Dataset]] = {
    "mixture_1d": example,
    "two_modes": example,
    "ring": example,
    "grid": example,
    "two_moons": example,
    "swiss_roll": example,
    "high_dimensional": in_subspaces,
    "digits": digits,
    "images": own_images,
    "samples": own_samples,
}

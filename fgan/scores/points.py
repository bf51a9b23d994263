"""The arrays that scores compare, checked."""

import numpy as np
from numpy.typing import ArrayLike

from estimators.samples.arrays import as_samples


def same_dimension(**arrays: ArrayLike) -> tuple[np.ndarray, ...]:
    """The named arrays as finite float64 [n, d] with one d; ValueError names those that disagree."""
    checked = {name: as_samples(array, name=name, minimum=1).values for name, array in arrays.items()}
    if len({values.shape[1] for values in checked.values()}) > 1:
        shapes = " and ".join(f"{name} {values.shape}" for name, values in checked.items())
        raise ValueError(f"{shapes} differ in dimension")
    return tuple(checked.values())

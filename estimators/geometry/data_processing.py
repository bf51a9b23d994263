"""What channels do to divergences: no processing of the data, random or not, makes D_f larger.

    D_f(PK‖QK) ≤ D_f(P‖Q)              for every channel K and every f (Csiszár 1963; Ali & Silvey 1966)
    D_f(PK‖QK) ≤ η_TV(K) D_f(P‖Q)      η_TV: Dobrushin's coefficient (Cohen, Kemperman, Zbăganu 1998)

Distributions on k values are rows of probabilities, p [..., k]; a channel is a matrix K [k, m] whose i-th row is the
distribution of the output for the input i, so that the output of P has the probabilities pK. A map is the channel with
a single 1 in each row. Everything is float64.
"""

import numpy as np
from numpy.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.geometry.categorical import between, probabilities


def push(p: ArrayLike, channel: ArrayLike) -> np.ndarray:
    """pK [..., m]: the distribution of the output of a channel K [k, m] for an input p [..., k].

    Raises:
        ValueError: p or rows of K that are no probabilities, or another number of rows than p has values.

    >>> push([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]]).round(9).tolist()
    [0.55, 0.45]
    """
    p, channel = probabilities("p", p), _channel(channel)
    if p.shape[-1] != channel.shape[0]:
        raise ValueError(f"p has {p.shape[-1]} values and the channel {channel.shape[0]} rows: give one row a value")
    return p @ channel


def channel_of_map(targets: ArrayLike, size: int) -> np.ndarray:
    """The channel [k, size] of a map that takes the value i to targets[i], [k] integers in [0, size).

    Raises:
        ValueError: a target outside the range, or no integer.

    >>> push([0.2, 0.3, 0.5], channel_of_map([0, 0, 1], 2)).tolist()
    [0.5, 0.5]
    """
    targets = np.asarray(targets)
    if targets.ndim != 1 or targets.dtype.kind not in "iu" or not np.all((targets >= 0) & (targets < size)):
        raise ValueError(f"targets = {targets}: they must be integers [k] from 0 to {size - 1}")
    return np.eye(size)[targets]


def _channel(channel: ArrayLike) -> np.ndarray:
    matrix = probabilities("a row of the channel", channel)
    if matrix.ndim != 2:
        raise ValueError(f"the channel has shape {matrix.shape}: it must be [k, m], a distribution a row")
    return matrix


def lost(p: ArrayLike, q: ArrayLike, channel: ArrayLike, d: str | FDivergence) -> np.ndarray:
    """D_f(P‖Q) − D_f(PK‖QK) ≥ 0, [...]: what the channel loses; 0 where it keeps p/q, as a sufficient statistic does.

    NaN where both are infinite.

    >>> merged = channel_of_map([0, 0, 1], 2)       # of two values with the same ratio
    >>> round(float(abs(lost([0.1, 0.2, 0.7], [0.2, 0.4, 0.4], merged, "kl"))), 12)
    0.0
    """
    with np.errstate(invalid="ignore"):
        return between(p, q, d) - between(push(p, channel), push(q, channel), d)


def dobrushin(channel: ArrayLike) -> float:
    """η_TV(K) = max_ij ½ Σ_m |K_im − K_jm|, in [0, 1]: the largest ratio of TV after the channel to TV before.

    It bounds that ratio for every f-divergence. 0 only where the output ignores the input.

    Source: Dobrushin 1956; Cohen, Kemperman, Zbăganu 1998; Raginsky 2016.

    >>> round(dobrushin([[0.9, 0.1], [0.2, 0.8]]), 9)
    0.7
    """
    matrix = _channel(channel)
    return float(0.5 * np.abs(matrix[:, None] - matrix[None]).sum(axis=-1).max())


def chi_squared_coefficient(q: ArrayLike, channel: ArrayLike) -> float:
    """max_P χ²(PK‖QK)/χ²(P‖Q) for a fixed Q: the squared second singular value of diag(q)^½ K diag(qK)^{−½}.

    The square of the maximal correlation of the input and the output. Every smooth divergence contracts by it between
    close P and Q, so it is at most η_TV(K). Values of Q with no mass are left out.

    Source: Raginsky 2016; Makur & Zheng 2020.

    >>> round(chi_squared_coefficient([0.5, 0.5], [[0.9, 0.1], [0.1, 0.9]]), 9)      # (1 − 2·0.1)²
    0.64
    """
    q, matrix = probabilities("q", q), _channel(channel)
    out = push(q, matrix)
    scaled = np.sqrt(q[q > 0.0])[:, None] * matrix[q > 0.0][:, out > 0.0] / np.sqrt(out[out > 0.0])
    values = np.linalg.svd(scaled, compute_uv=False)
    return float(values[1] ** 2) if len(values) > 1 else 0.0

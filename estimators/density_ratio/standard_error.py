"""Standard errors of means over two sample sets, from influences, with or without groups."""

from __future__ import annotations

import math

import numpy as np

from estimators.samples.folds import Groups


def standard_error(influence: np.ndarray, n: int, groups: Groups | None = None) -> float:
    """Of the mean of `influence` [n + m] over draws of both sets, n and m fixed; over draws of groups if given."""
    centred = influence - np.where(np.arange(len(influence)) < n, influence[:n].mean(), influence[n:].mean())
    if groups is not None:
        sums = _group_sums(centred, groups)
        return math.sqrt(len(sums) / max(len(sums) - 1.0, 1.0) * float(sums @ sums)) / len(influence)
    p, q = centred[:n], centred[n:]
    return math.sqrt(float(p @ p) * n / (n - 1.0) + float(q @ q) * len(q) / (len(q) - 1.0)) / len(influence)


def influence_of_means(on_p: np.ndarray, on_q: np.ndarray) -> np.ndarray:
    """The influence [n + m] of the samples on E_P[a] + E_Q[b], given a on P's samples [n] and b on Q's [m]."""
    n, m = len(on_p), len(on_q)
    return np.concatenate([on_p / n, on_q / m]) * (n + m)


def _group_sums(influence: np.ndarray, groups: Groups) -> np.ndarray:
    """Sums of influence over groups; a row that belongs to several, [rows, k] labels, counts in each."""
    columns = [labels.reshape(len(labels), -1) for labels in groups]
    _, inverse = np.unique(np.concatenate([c.ravel() for c in columns]), return_inverse=True)
    sides = zip(np.split(influence, [len(columns[0])]), columns, strict=True)
    return np.bincount(inverse, np.concatenate([np.repeat(side, c.shape[1]) for side, c in sides]))

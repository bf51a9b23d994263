"""Logistic regression on a few features of two sample sets, and the calibration of a log-ratio with it.

With n and m rows of the two classes, the model log p/q = φ·θ means P(from P | x) = σ(φ(x)·θ + log n/m).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit


class Logistic(NamedTuple):
    """A fitted model of log p/q: its coefficients, and the inverse of the penalised information matrix."""

    theta: np.ndarray
    covariance: np.ndarray


def logistic(
    phi_p: np.ndarray, phi_q: np.ndarray, *, start: Sequence[float], ridge: Sequence[float], iterations: int = 40
) -> Logistic:
    """argmin_θ of the logistic loss of log p/q = φ·θ, plus ½ Σ ridge (θ − start)², by damped Newton steps.

    Args:
        phi_p, phi_q: features of the rows of P [n, k] and of Q [m, k].
        start: where the iterations begin, and what the ridge draws θ to.
        ridge: weights of the penalty, in rows.
    """
    phi = np.concatenate([phi_p, phi_q])
    label = np.arange(len(phi)) < len(phi_p)
    offset = np.log(len(phi_p) / len(phi_q))
    origin, weight = np.asarray(start, np.float64), np.asarray(ridge, np.float64)

    def loss(theta):
        eta = phi @ theta + offset
        return np.logaddexp(0.0, eta).sum() - eta[label].sum() + 0.5 * weight @ (theta - origin) ** 2

    theta, value = origin, loss(origin)
    for _ in range(iterations):
        share = expit(phi @ theta + offset)
        gradient = phi.T @ (share - label) + weight * (theta - origin)
        hessian = (phi * (share * (1.0 - share))[:, None]).T @ phi + np.diag(weight)
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while (next_value := loss(theta - scale * step)) > value + 1e-9 * abs(value) and scale > 1e-6:
            scale *= 0.5
        theta, gain, value = theta - scale * step, value - next_value, next_value
        if gain < 1e-8 * (1.0 + abs(value)):
            break
    return Logistic(theta, np.linalg.inv(hessian))


def basis(log_ratio: np.ndarray) -> np.ndarray:
    """(1, ℓ, 2 log cosh(ℓ/2)) [..., 3]: a shift, a slope, and different slopes where ℓ < 0 and where ℓ > 0.

    Source: beta calibration (Kull, Silva Filho & Flach 2017), its three parameters turned so that one means symmetric.
    """
    bend = np.logaddexp(0.0, log_ratio) + np.logaddexp(0.0, -log_ratio) - 2.0 * np.log(2.0)
    return np.stack([np.ones_like(log_ratio), log_ratio, bend], axis=-1)


def calibrate(log_p: np.ndarray, log_q: np.ndarray) -> Logistic:
    """The model of log p/q on `basis` of a given log-ratio; no change is θ = (0, 1, 0).

    The ridge's weight of one row keeps the bend at 0 where ℓ hardly varies.
    """
    return logistic(basis(log_p), basis(log_q), start=(0.0, 1.0, 0.0), ridge=(1e-6, 1e-2, 1.0))

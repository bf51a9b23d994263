"""Archimedean copulas of two variables: dependence in one corner of the square more than in the others.

Each is a `Joint` of scalar pairs whose margins are uniform on (0, 1) or, with `normal_margins`, standard normal. Its
log density is a function of a = −log u and b = −log v, which keeps small tails exact. Nats, float64.
Source: Nelsen 2006, An Introduction to Copulas, families 4.2.1 and 4.2.4; the informations are derived here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special, stats


@dataclass(frozen=True, kw_only=True)
class Copula:
    """Two uniform or standard normal variables whose dependence has one parameter. A family gives the four methods."""

    theta: float
    normal_margins: bool = True
    dim = 2

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n pairs [n, 2], by a common frailty of two exponential variables (Marshall & Olkin 1988)."""
        a = self.minus_logs(rng.exponential(size=(n, 2)) / self.frailty(rng, n)[:, None])
        # Where u is close to 1 its normal score is that of 1 − u = −expm1(−a), with the other sign.
        scores = np.where(a > math.log(2.0), special.ndtri_exp(-a), -special.ndtri(-np.expm1(-a)))
        return scores if self.normal_margins else np.exp(-a)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log density [n] at x [n, 2], nats; −inf outside (0, 1)² where the margins are uniform."""
        if self.normal_margins:
            return self.log_density(*-special.log_ndtr(x).T) + stats.norm.logpdf(x).sum(axis=1)
        inside = np.all((x > 0.0) & (x < 1.0), axis=1)
        return np.where(inside, self.log_density(*-np.log(np.where(inside[:, None], x, 0.5)).T), -np.inf)

    def frailty(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n positive numbers whose Laplace transform is the generator's inverse."""
        raise NotImplementedError

    def minus_logs(self, t: np.ndarray) -> np.ndarray:
        """−log of the generator's inverse at t."""
        raise NotImplementedError

    def log_density(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """log c(e^{−a}, e^{−b}), nats."""
        raise NotImplementedError

    def mutual_information(self, k: int = 1) -> float:
        """I(U; V) = E log c, nats."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Clayton(Copula):
    """C(u, v) = (u^{−θ} + v^{−θ} − 1)^{−1/θ}, θ > 0: dependence near (0, 0)."""

    def frailty(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.gamma(1.0 / self.theta, size=n)

    def minus_logs(self, t: np.ndarray) -> np.ndarray:
        return np.log1p(t) / self.theta

    def log_density(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        theta, largest = self.theta, self.theta * np.maximum(a, b)
        rest = np.exp(theta * a - largest) + np.exp(theta * b - largest) - np.exp(-largest)
        return math.log1p(theta) + (theta + 1.0) * (a + b) - (2.0 + 1.0 / theta) * (largest + np.log(rest))

    def mutual_information(self, k: int = 1) -> float:
        """log(1 + θ) − θ/(1 + θ), nats: E[a] = E[b] = 1, and −log C has mean 1 + 1/(1 + θ) by Kendall's function."""
        return math.log1p(self.theta) - self.theta / (1.0 + self.theta)


@dataclass(frozen=True, kw_only=True)
class Gumbel(Copula):
    """C(u, v) = e^{−w}, w = (a^θ + b^θ)^{1/θ}, θ > 1: dependence near (1, 1)."""

    def frailty(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Positive stable of index α = 1/θ, by one angle and one exponential variable (Kanter 1975)."""
        index, angle, exponential = 1.0 / self.theta, rng.uniform(0.0, math.pi, n), rng.exponential(size=n)
        inner = np.sin((1.0 - index) * angle) / exponential
        return inner ** ((1.0 - index) / index) * np.sin(index * angle) / np.sin(angle) ** (1.0 / index)

    def minus_logs(self, t: np.ndarray) -> np.ndarray:
        return t ** (1.0 / self.theta)

    def log_density(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        theta, log_a, log_b = self.theta, np.log(a), np.log(b)
        log_w = np.logaddexp(theta * log_a, theta * log_b) / theta
        w = np.exp(log_w)
        powers = (theta - 1.0) * (log_a + log_b) - (2.0 * theta - 1.0) * log_w
        return -w + a + b + powers + np.log(w + theta - 1.0)

    def mutual_information(self, k: int = 1) -> float:
        """γ − 1 + 1/θ + log m + e^m E₁(m)/θ, nats, m = θ − 1 and γ Euler's constant.

        By Kendall's function w has the density e^{−w}(m + w)/θ, so that the mean of every term of log c is known.
        """
        m = self.theta - 1.0
        rest = math.log(m) + float(special.exp1(m)) * math.exp(m) / self.theta
        return float(np.euler_gamma) - 1.0 + 1.0 / self.theta + rest

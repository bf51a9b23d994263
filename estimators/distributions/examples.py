"""Toys: the known targets that generators are trained on. `TARGETS` names those a configuration may ask for.

Layer 1: imports estimators.distributions.curves and estimators.distributions.families.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from estimators.distributions.curves import Arc, Curve
from estimators.distributions.families import Mixture


def normal(mean: float | Sequence[float], sigma: float) -> Mixture:
    """The Gaussian N(mean, sigma² I)."""
    centre = tuple(float(m) for m in np.atleast_1d(mean))
    return Mixture(weights=(1.0,), means=(centre,), sigmas=(float(sigma),))


def ring(modes: int = 8, radius: float = 1.0, sigma: float = 0.01) -> Mixture:
    """Equal Gaussians on a circle. Protocol: Lin, Khetan, Fanti, Oh 2018 (PacGAN), section 4.1."""
    angles = 2.0 * np.pi * np.arange(modes) / modes
    means = tuple((radius * math.cos(a), radius * math.sin(a)) for a in angles)
    return Mixture(weights=(1.0 / modes,) * modes, means=means, sigmas=(sigma,) * modes)


def grid(side: int = 5, spacing: float = 2.0, sigma: float = 0.05) -> Mixture:
    """Equal Gaussians on a square lattice around 0. Protocol: Lin, Khetan, Fanti, Oh 2018 (PacGAN), section 4.1."""
    line = spacing * (np.arange(side) - (side - 1) / 2)
    means = tuple((float(a), float(b)) for a in line for b in line)
    return Mixture(weights=(1.0 / side**2,) * side**2, means=means, sigmas=(sigma,) * side**2)


FGAN_MIXTURE = Mixture(weights=(0.33, 0.67), means=((-1.0,), (2.0,)), sigmas=(0.255, math.sqrt(2.0)))
"""The target of Nowozin et al. 2016, table 4; not printed there, recovered from the fifteen numbers it reports."""

TWO_MODES = Mixture(weights=(0.5, 0.5), means=((-2.0,), (2.0,)), sigmas=(0.6, 0.6))
"""Two equal modes 4 apart: covering spreads over both, seeking settles on either."""

RIDGE = Mixture(
    weights=(0.2, 0.2, 0.2, 0.4),
    means=((-1.45, 0.25), (-0.85, 0.85), (-0.25, 1.45), (1.25, -1.25)),
    sigmas=(0.5,) * 4,
)
"""A ridge in the plane and a lighter, round mode beside it. Covering both turns a Gaussian across the ridge, seeking
along it; without a symmetry, the better mode to seek is one. No row of TARGETS: the ridge's parts are not modes."""

MIXTURES: Mapping[str, Mixture] = {"mixture_1d": FGAN_MIXTURE, "two_modes": TWO_MODES, "ring": ring(), "grid": grid()}


def two_moons(sigma: float = 0.05) -> Curve:
    """Two half circles that reach into each other: (cos t, sin t) and (1 − cos t, ½ − sin t), t uniform on [0, π].

    The geometry of scikit-learn's `make_moons`, whose `noise` is sigma. The default keeps the tubes of 3σ apart.
    """
    upper = Arc(start=0.0, end=math.pi, radius=1.0)
    lower = Arc(start=math.pi, end=2.0 * math.pi, radius=1.0, centre=(1.0, 0.5))
    return Curve(arcs=(upper, lower), sigma=sigma)


def swiss_roll(sigma: float = 0.5) -> Curve:
    """An Archimedean spiral (t cos t, t sin t), t uniform on [3π/2, 9π/2]: denser inside, turns 2π apart.

    The geometry of the first and last coordinate of scikit-learn's `make_swiss_roll`, whose `noise` is sigma. The
    default keeps the tubes of 3σ apart.
    """
    return Curve(arcs=(Arc(start=1.5 * math.pi, end=4.5 * math.pi, growth=1.0),), sigma=sigma)


TARGETS: Mapping[str, Mixture | Curve] = {**MIXTURES, "two_moons": two_moons(), "swiss_roll": swiss_roll()}

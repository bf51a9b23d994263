"""Example distributions: the known targets that generators are trained on. `TARGETS` holds those a config may name."""

import math
from collections.abc import Sequence

import numpy as np

from estimators.distributions.curves import Arc, Curve
from estimators.distributions.mixture import Mixture


def normal(mean: float | Sequence[float], sigma: float) -> Mixture:
    """The Gaussian N(mean, sigma² I) in jax, as a `Mixture` of one component; [d] coordinates, or one for a number.

    `gaussian.Gaussian` is its relative in NumPy float64, with any covariance.
    """
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
"""Two equal modes 4 apart: a mode-covering fit is wide enough for both, a mode-seeking fit is close to either."""

RIDGE = Mixture(
    weights=(0.2, 0.2, 0.2, 0.4),
    means=((-1.45, 0.25), (-0.85, 0.85), (-0.25, 1.45), (1.25, -1.25)),
    sigmas=(0.5,) * 4,
)
"""A ridge in the plane and a lighter, round mode beside it. The mode-covering Gaussian lies across the ridge, the
mode-seeking one along it. Nothing is symmetric, so one mode is the better to seek. It is not in TARGETS, since the
components of the ridge are not modes."""


def two_moons(sigma: float = 0.05) -> Curve:
    """Two interleaved half circles: (cos t, sin t) and (1 − cos t, ½ − sin t), t uniform on [0, π].

    The geometry of scikit-learn's `make_moons`, whose `noise` is sigma. The default keeps the tubes of 3σ apart.
    """
    upper = Arc(start=0.0, end=math.pi, radius=1.0)
    lower = Arc(start=math.pi, end=2.0 * math.pi, radius=1.0, centre=(1.0, 0.5))
    return Curve(arcs=(upper, lower), sigma=sigma)


def hazy(target: Mixture, share: float = 0.1, sigma: float = 0.5) -> Mixture:
    """`target` of which a `share` lies around the same means at a larger sigma.

    Far from a mixture of narrow parts its density vanishes, and a few samples of a model there carry its reverse KL.
    With a haze around, log-ratios of a few nats tell all divergences.
    """
    return Mixture(
        weights=(*((1.0 - share) * w for w in target.weights), *(share * w for w in target.weights)),
        means=target.means * 2,
        sigmas=(*target.sigmas, *(sigma,) * len(target.means)),
    )


def beads(curve: Curve, n: int) -> Mixture:
    """n equal Gaussians evenly along a curve, of its own sigma: the curve itself if they overlap, at a lower price."""
    means = tuple(map(tuple, curve.at((np.arange(n) + 0.5) / n).tolist()))
    return Mixture(weights=(1.0 / n,) * n, means=means, sigmas=(curve.sigma,) * n)


def swiss_roll(sigma: float = 0.5) -> Curve:
    """An Archimedean spiral (t cos t, t sin t), t uniform on [3π/2, 9π/2]: denser inside, turns 2π apart.

    The geometry of the first and last coordinate of scikit-learn's `make_swiss_roll`, whose `noise` is sigma. The
    default keeps the tubes of 3σ apart.
    """
    return Curve(arcs=(Arc(start=1.5 * math.pi, end=4.5 * math.pi, growth=1.0),), sigma=sigma)


TARGETS: dict[str, Mixture | Curve] = {
    "mixture_1d": FGAN_MIXTURE,
    "two_modes": TWO_MODES,
    "ring": ring(),
    "hazy_ring": hazy(ring(sigma=0.15)),
    "grid": grid(),
    "two_moons": two_moons(),
    "hazy_moons": hazy(beads(two_moons(sigma=0.15), 32)),
    "swiss_roll": swiss_roll(),
}
"""Every known target by the name that a config gives it."""

MIXTURES: dict[str, Mixture] = {name: target for name, target in TARGETS.items() if isinstance(target, Mixture)}
"""Those of TARGETS that have modes."""

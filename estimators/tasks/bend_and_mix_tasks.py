"""Version 2 of the benchmark of Czyż et al.: 26 tasks, half of them of Beyond Normal, half bent mixtures of Gaussians.

A mixture has no closed form. Each of these reduces to one or two dimensions, where quadrature is exact to 1e-8:

X, AI         in the plane as they are
waves         in the plane: the second column of X is independent of all else before the bend
galaxy        in the plane: only the direction of X between the two means depends on Z
concentric    on the line: Z tells the component to e^{-1250}, and only the radius of X depends on the component
inliers       on the line: the log-ratio of the two Gaussian pairs is a difference of two exponential variables

The published benchmark also scales each column of a sample to mean 0 and variance 1, which changes no truth and is left
out here. Source: Czyż, Grabowski, Vogt, Beerenwinkel, Marx 2025, On the Properties and Estimation of Pointwise Mutual
Information Profiles (TMLR), and github.com/cbg-ethz/bmi, workflows/benchmark/v2, for names and parameters. Nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from estimators.distributions.elliptical import Gaussian
from estimators.distributions.mixture import MixtureOf
from estimators.divergences.generator import identity
from estimators.exact_values.planar import planar_information
from estimators.exact_values.quadrature import integrate
from estimators.exact_values.truth import Truth
from estimators.tasks.divergence_tasks import Points, spiral
from estimators.tasks.mutual_information_tasks import MUTUAL_INFORMATION_TASKS, MutualInformationTask

MARGIN, STEP = 9.0, 0.25
"""The grid's margin beyond the means, and its spacing, in standard deviations; half the spacing changes no truth by
more than 2e-10."""


def equal_mixture(means: Sequence[Sequence[float]], covariances: Sequence[np.ndarray]) -> MixtureOf:
    """The mixture of Gaussians of equal weights."""
    components = tuple(Gaussian(location=np.array(m), scatter=s) for m, s in zip(means, covariances, strict=True))
    return MixtureOf(weights=(1.0 / len(components),) * len(components), components=components)


# --- truths ----------------------------------------------------------------------------------------------------------
def in_the_plane(mixture: MixtureOf) -> Truth:
    """I(X; Z) of a mixture of Gaussians of two numbers, by quadrature on a grid that resolves every component.

    The spacing along an axis is `STEP` conditional standard deviations, which are narrower than the marginal ones.
    """
    laws = [law for law in mixture.components if isinstance(law, Gaussian)]
    means, variances = np.array([law.location for law in laws]), np.array([np.diagonal(law.scatter) for law in laws])
    reach = MARGIN * np.sqrt(variances)
    conditional = 1.0 / np.sqrt([np.diagonal(np.linalg.inv(law.scatter)) for law in laws])
    x, z = zip((means - reach).min(axis=0), (means + reach).max(axis=0))
    steps = STEP * conditional.min(axis=0)
    value = planar_information(mixture.log_prob, x, z, (float(steps[0]), float(steps[1])))
    return Truth(value, 0.0, "quadrature")


def of_radii(d: int, scales: Sequence[float]) -> Truth:
    """I(X; i) with i uniform and X ~ N(0, scales[i]² I_d): the mean KL of the radius, given i, from the radius."""
    laws = [stats.chi(d, scale=scale) for scale in scales]

    def integrand(r):
        logs = np.stack([law.logpdf(np.asarray(r)) for law in laws])
        gaps = logs - (logsumexp(logs, axis=0) - math.log(len(laws)))
        return np.sum(np.exp(logs) * np.where(np.isfinite(logs), gaps, 0.0), axis=0) / len(laws)

    reach = max(scales) * (math.sqrt(d) + 2.0 * MARGIN)
    return Truth(integrate(integrand, (0.0, reach), tol=1e-10), 0.0, "quadrature")


def of_inliers(rho: float, share: float) -> Truth:
    """I(X; Z) of (1 − share) P + share Q: P two Gaussian pairs of correlation ρ, Q their independent margins.

    ℓ = log dP/dQ = −log(1 − ρ²) + ½ρ (A/(1 + ρ) − B/(1 − ρ)), A and B the squared norms of (x + z)/√2 and (x − z)/√2
    over the two pairs: each is its variance times an exponential variable of mean 2. So ℓ + log(1 − ρ²) is a difference
    of exponential variables of means ρ and ρ under P, ρ/(1 + ρ) and ρ/(1 − ρ) under Q. The value is
    E[log((1 − share) e^ℓ + share)] under the mixture.
    """
    constant = -math.log1p(-(rho**2))
    of_p, of_q = (rho, rho), (rho / (1.0 + rho), rho / (1.0 - rho))

    def density(t, means):
        above, below = means
        return np.exp(-np.where(t > 0.0, t / above, -t / below)) / (above + below)

    def integrand(t):
        t = np.asarray(t)
        weight = (1.0 - share) * density(t, of_p) + share * density(t, of_q)
        return weight * np.logaddexp(math.log1p(-share) + constant + t, math.log(share))

    below, above = (integrate(integrand, ends, tol=1e-10) for ends in ((-200.0, 0.0), (0.0, 200.0)))
    return Truth(below + above, 0.0, "quadrature")


# --- the thirteen mixtures -------------------------------------------------------------------------------------------
def _mixture(
    name: str, joint: MixtureOf, dim_x: int, known: Callable[[], Truth], map_x: Points = identity
) -> MutualInformationTask:
    """A task whose truth is computed once, when it is first asked for."""
    dim_y = joint.dim - dim_x
    return MutualInformationTask(
        name=name, joint=joint, split=dim_x, dim_x=dim_x, dim_y=dim_y, map_x=map_x, known=cache(known)
    )


def correlated(var_x: float, var_z: float, rho: float) -> np.ndarray:
    """The covariance [2, 2] of those variances and that correlation."""
    shared = rho * math.sqrt(var_x * var_z)
    return np.array([[var_x, shared], [shared, var_z]])


def letter_x(rho: float = 0.9) -> MutualInformationTask:
    """Two Gaussian pairs of opposite correlation."""
    mixture = equal_mixture([(0.0, 0.0)] * 2, [correlated(1.0, 1.0, sign * rho) for sign in (-1.0, 1.0)])
    return _mixture(f"1v1-X-{rho}", mixture, 1, partial(in_the_plane, mixture))


def letters_ai() -> MutualInformationTask:
    """The letters A and I: a stroke is a Gaussian."""
    strokes = [
        ((1.0, 0.0), correlated(0.01, 0.2, 0.0)),
        ((1.0, 1.0), correlated(0.05, 0.001, 0.0)),
        ((1.0, -1.0), correlated(0.05, 0.001, 0.0)),
        ((-0.8, -0.2), correlated(0.03, 0.001, 0.0)),
        ((-1.2, 0.0), correlated(0.04, 0.2, 0.95)),
        ((-0.4, 0.0), correlated(0.04, 0.2, -0.95)),
    ]
    mixture = equal_mixture(*zip(*strokes))
    return _mixture("1v1-AI", mixture, 1, partial(in_the_plane, mixture))


def waves(components: int = 12, amplitude: float = 5.0, frequency: float = 3.0) -> MutualInformationTask:
    """Columns of blobs (x₁, z) bent along x₂: x₁ + amplitude sin(frequency x₂), then scaled and shifted."""
    means = [(1.5 * i, 0.0, 1.5 * (i % 4)) for i in range(components)]
    mixture = equal_mixture(means, [np.diag([0.1, 1.0, 0.1])] * components)
    flat = equal_mixture([(first, z) for first, _, z in means], [np.diag([0.1, 0.1])] * components)

    def bend(x):
        bent = x[:, 0] + amplitude * np.sin(frequency * x[:, 1])
        return np.stack([0.1 * bent - 0.8, 0.5 * x[:, 1]], axis=1)

    name = f"2v1-waves-{components}-{amplitude}-{frequency}"
    return _mixture(name, mixture, 2, partial(in_the_plane, flat), bend)


def galaxy(speed: float = 0.5, distance: float = 3.0) -> MutualInformationTask:
    """Two Gaussian balls in (x₁, x₂, z), X turned by a spiral."""
    half = 0.5 * distance
    mixture = equal_mixture([(-half,) * 3, (half,) * 3], [np.eye(3)] * 2)
    along = math.sqrt(2.0) * half  # of the mean of x in the direction (1, 1)/√2; across it is independent noise
    flat = equal_mixture([(-along, -half), (along, half)], [np.eye(2)] * 2)
    name = f"2v1-galaxy-{speed}-{distance}"
    return _mixture(name, mixture, 2, partial(in_the_plane, flat), spiral(speed, [(0, 1)]).forward)


def concentric(d: int, components: int) -> MutualInformationTask:
    """X ~ N(0, i² I_d) and Z ~ N(i, 0.01²), i uniform on 1, …, components."""
    scales = [float(i) for i in range(1, components + 1)]
    covariances = [np.diag([scale**2] * d + [0.0001]) for scale in scales]
    mixture = equal_mixture([[0.0] * d + [scale] for scale in scales], covariances)
    return _mixture(f"{d}v1-concentric_gaussians-{components}", mixture, d, partial(of_radii, d, scales))


def inliers(d: int, share: float, strength: float = 2.0) -> MutualInformationTask:
    """The sparse Gaussian task of dimension d, a share of whose pairs is drawn from the product of its margins.

    The correlation of its two pairs is strength²/(1 + strength²).
    """
    signal = MUTUAL_INFORMATION_TASKS[f"multinormal-sparse-{d}-{d}-2-{strength}"].joint
    noise = Gaussian(location=np.zeros(2 * d), scatter=np.eye(2 * d))
    mixture = MixtureOf(weights=(1.0 - share, share), components=(signal, noise))
    rho = strength**2 / (1.0 + strength**2)
    name = f"mult-sparse-w-inliers-{d}-{d}-2-{strength}-{share}"
    return _mixture(name, mixture, d, partial(of_inliers, rho, share))


# --- the twenty-six --------------------------------------------------------------------------------------------------
def _tasks() -> Iterator[MutualInformationTask]:
    """In the order and under the identifiers of the published list."""
    of_the_forty = MUTUAL_INFORMATION_TASKS.__getitem__
    yield of_the_forty("1v1-additive-0.75")
    yield of_the_forty("asinh-student-identity-1-1-1")
    yield from (letter_x(), letters_ai())
    yield of_the_forty("swissroll_x-normal_cdf-1v1-normal-0.75")
    yield from (waves(), galaxy())
    yield from (concentric(d, components) for d, components in [(3, 5), (5, 5), (3, 10), (5, 10), (25, 5)])
    yield from (of_the_forty(f"multinormal-dense-{d}-{d}-0.5") for d in (5, 25, 50))
    yield from (of_the_forty(f"multinormal-sparse-{d}-{d}-2-2.0") for d in (5, 25))
    yield from (inliers(d, share) for share in (0.2, 0.5) for d in (5, 25))
    yield from (of_the_forty(f"asinh-student-identity-{d}-{d}-{df}") for d, df in [(2, 1), (3, 2), (5, 2)])
    yield from (of_the_forty(f"spiral-multinormal-sparse-{d}-{d}-2-2.0") for d in (3, 5))


BEND_AND_MIX_TASKS: dict[str, MutualInformationTask] = {task.name: task for task in _tasks()}
"""The 26 tasks of version 2 by the benchmark's own identifiers; 13 are those of `MUTUAL_INFORMATION_TASKS`."""

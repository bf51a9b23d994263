"""A bounded divergence from the law of the log-ratio L = log p/q alone, in any dimension, by one integral.

With the overlap h(t) = ∫ p^{½+it} q^{½−it}, the characteristic function of L under √(pq), and integration by parts,

    D_f = f(0) + f'(∞) − (1/2π) ∫ h(t) K(t) dt,    K(t) = ∫₀^∞ u^{½−it} df'(u) / (¼ + t²),

for every convex f with finite f(0) and f'(∞): the curvature df' of f says which overlaps matter. A kink of f at u adds
u^{½−it} times its jump. Overlaps of independent coordinates multiply and have closed forms for exponential families, so
js, total_variation, triangular and the like are exact between Gaussians of any covariances, between Dirichlets and
between products. For js the formula reads log 2 − JS = ¼ ∫ h(t) / (cosh πt (¼ + t²)) dt.

The trapezoidal rule converges geometrically here, whatever P and Q: its error is the mass of a kernel that falls as
e^{−|ℓ|/2} beyond |ℓ| = π/step (Trefethen, Weideman 2014).

Source: the representation by the curvature of f, Liese & Vajda 2006, theorem 11; by Fourier transforms, our derivation,
compared with quadrature in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence

STEP = 1.0 / 24.0  # of t: the rule's error is e^{−π/(2 STEP)} = 4e-17
LOG_RATIOS = np.linspace(-90.0, 90.0, 2401)  # the curvature e^{3ℓ/2} f''(e^ℓ) of js falls to 1e-20 at the ends
SMOOTH_END = 24.0  # largest t for smooth f, whose kernels fall exponentially: that of js to 1e-34
KINKED_END = 2.0**17  # largest t for f with a kink, whose kernels fall as 1/t²
CHUNK = 2**22  # complex numbers in memory at once
WORK = 2**28  # complex exponentials at most, of the order of ten seconds
ROUGH = 0.05  # share of a value that its fourth difference may be; see `_without_noise`
SMALL = 1e-7  # share of the largest curvature below which it may be cut off: what is lost is of that order
TOLERANCE = 1e-9  # what may be missing beyond the last t


class Overlap(NamedTuple):
    """h(t) = ∫ p^{½+it} q^{½−it}.

    Attributes:
        log: t [n] → log h(t) [n], complex.
        terms: how many terms each value sums.
        lattice: whether log-ratios may lie on a lattice, where h does not fall but returns.
    """

    log: Callable[[np.ndarray], np.ndarray]
    terms: int = 1
    lattice: bool = False


class NotThisWay(Exception):
    """A way to compute a divergence does not apply; its words say why."""


def gaussian_overlap(mean_p: np.ndarray, cov_p: np.ndarray, mean_q: np.ndarray, cov_q: np.ndarray) -> Overlap:
    """Of two Gaussians, covariances [d, d] or their diagonals [d]: a sum over the coordinates where Q is N(0, I).

    There P is N(z, diag λ), and log h(t) = Σ ½(1 − a) log λ − ½ log b − ½ a(1 − a) z²/b with a = ½ + it and
    b = a + (1 − a)λ, each logarithm on one branch since b has a positive real part.
    """
    if cov_p.ndim == cov_q.ndim == 1:
        z, spread = (mean_p - mean_q) / np.sqrt(cov_q), cov_p / cov_q
    else:
        whole_p, whole_q = (np.diag(c) if c.ndim == 1 else c for c in (cov_p, cov_q))
        factor = np.linalg.cholesky(whole_q)
        inner = np.linalg.solve(factor, np.linalg.solve(factor, whole_p).T)
        spread, turn = np.linalg.eigh(0.5 * (inner + inner.T))
        z = turn.T @ np.linalg.solve(factor, mean_p - mean_q)

    def log_h(t: np.ndarray) -> np.ndarray:
        a = 0.5 + 1j * t[:, None]
        b = a + (1.0 - a) * spread
        return np.sum(0.5 * (1.0 - a) * np.log(spread) - 0.5 * np.log(b) - 0.5 * a * (1.0 - a) * z**2 / b, axis=1)

    return Overlap(log_h, len(z))


def from_overlap(overlap: Overlap, d: FDivergence) -> float:
    """D_f(P‖Q), nats, of two distributions with this overlap.

    Raises:
        NotThisWay: D_f is not bounded, the curvature of f does not vanish fast enough, or h does not fall.
    """
    if not math.isfinite(d.upper_limit()):
        raise NotThisWay(f"{d.name} is not bounded")
    missing = _smooth(overlap, d) if d.smooth else _kinked(overlap, d)
    return d.upper_limit() - missing


def _smooth(overlap: Overlap, d: FDivergence) -> float:
    """(1/2π) ∫ h K dt where f is smooth."""
    t, kernel = _kernel(d)
    with np.errstate(over="ignore", invalid="ignore"):
        values = np.exp(overlap.log(t)) * kernel
    values[0] *= 0.5
    return float(values.real.sum() * STEP / math.pi)


@lru_cache(maxsize=64)
def _kernel(d: FDivergence) -> tuple[np.ndarray, np.ndarray]:
    """(t ≥ 0 [n], K(t) [n]) up to where K is negligible."""
    with jax.enable_x64(True):
        curvature = np.asarray(jnp.exp(1.5 * LOG_RATIOS) * jax.jit(d.second)(jnp.exp(jnp.asarray(LOG_RATIOS))))
    kept = _without_noise(np.nan_to_num(curvature, posinf=0.0, neginf=0.0))
    if kept is None:
        raise NotThisWay(f"the curvature of {d.name} does not vanish fast enough at 0 and ∞")
    t = np.arange(0.0, SMOOTH_END, STEP)
    transform = np.exp(-1j * t[:, None] * LOG_RATIOS) @ kept * (LOG_RATIOS[1] - LOG_RATIOS[0])
    kernel = transform / (0.25 + t**2)
    if np.abs(kernel[-24:]).max() > TOLERANCE * np.abs(kernel).max():
        raise NotThisWay(f"{d.name} is not smooth enough, or has a kink: state smooth=False")
    _check_kernel(t, kernel, d)
    last = int(np.flatnonzero(np.abs(kernel) > 1e-17 * np.abs(kernel).max())[-1]) + 1
    return t[:last], kernel[:last]


def _check_kernel(t: np.ndarray, kernel: np.ndarray, d: FDivergence) -> None:
    """Raise unless the kernel gives f back, where P and Q have one log-ratio ℓ: a kink that f'' hides does not."""
    for ratio in (-3.0, -1.0, 0.0, 0.5, 2.0):
        terms = (kernel * np.exp(1j * t * ratio)).real
        ours = (terms.sum() - 0.5 * terms[0]) * STEP / math.pi
        with jax.enable_x64(True):
            value = float(d.f(jnp.exp(jnp.float64(ratio))))
        true = math.exp(-0.5 * ratio) * (d.value_at_zero + d.slope_at_infinity * math.exp(ratio) - value)
        if abs(ours - true) > SMALL * np.abs(kernel).max():
            raise NotThisWay(f"{d.name} has a kink that its second derivative does not show: state smooth=False")


def _without_noise(curvature: np.ndarray) -> np.ndarray | None:
    """`curvature` set to 0 from where, on each side, rounding makes it rough; None if it is not small there.

    f'' by automatic differentiation loses its digits where f is nearly straight: rounding grows as e^{|ℓ|/2} while the
    curvature falls. A fourth difference of a twentieth of its values is rough: smooth curvature has 1e-5 of them.
    """
    rough = np.abs(np.diff(curvature, 4)) > ROUGH * (np.abs(curvature[2:-2]) + 1e-300)
    middle = int(np.argmax(np.abs(curvature) * (np.abs(LOG_RATIOS) < 15.0)))
    at = np.flatnonzero(rough) + 2
    low, high = max(at[at < middle], default=-1) + 1, min(at[at > middle], default=len(curvature))
    kept = np.where((np.arange(len(curvature)) >= low) & (np.arange(len(curvature)) < high), curvature, 0.0)
    ends = max(abs(kept[min(low, middle)]), abs(kept[max(high - 1, middle)]))
    return kept if ends <= SMALL * np.abs(kept).max() else None


def _kinked(overlap: Overlap, d: FDivergence) -> float:
    """(1/2π) ∫ h K dt where f is two straight lines that meet at u = e^kink."""
    if overlap.lattice:
        raise NotThisWay(f"the log-ratio takes single values, which {d.name} needs one by one")
    with jax.enable_x64(True):
        u = math.exp(d.kink)
        sides = [float(d.prime(jnp.float64(u * s))) for s in (0.25, 0.5, 1.0 - 1e-9, 1.0 + 1e-9, 2.0, 4.0)]
    if max(abs(sides[0] - sides[2]), abs(sides[5] - sides[3]), abs(sides[1] - sides[2])) > 1e-12:
        raise NotThisWay(f"{d.name} has more than one kink, or bends beside it")
    jump = (sides[3] - sides[2]) * math.sqrt(u)
    total, start, chunk = 0.0, 0.0, min(2**13, max(2**6, CHUNK // overlap.terms))
    end = min(KINKED_END, STEP * WORK / overlap.terms)
    while start < end:
        t = start + STEP * np.arange(chunk)
        h = np.exp(overlap.log(t) - 1j * t * d.kink)
        terms = h.real / (0.25 + t**2)
        total += float(terms.sum()) - (0.5 * float(terms[0]) if start == 0.0 else 0.0)
        start += STEP * chunk
        beyond = jump * float(np.abs(h[-(chunk // 2) :]).max()) / (math.pi * start)
        if beyond < 0.01 * TOLERANCE:
            break
    if beyond > TOLERANCE:
        raise NotThisWay(f"the law of the log-ratio has parts that leave {d.name} open by {beyond:.0e}")
    return jump * total * STEP / math.pi

"""The von Mises distribution of an angle."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import i0e, i1e

from estimators.distributions.exponential_family import ExponentialFamily, Natural
from estimators.distributions.parametric import NOT_NEGATIVE, REAL, Support, named, parameter, precision, within

LOG_2PI = math.log(2.0 * math.pi)
STRAIGHT = 1e-4  # ‖θ‖ below which log I₀ is taken as ‖θ‖²/4, right to ‖θ‖⁴/64 = 2e-18

SHARP = 1e5  # concentration above which draws are normal with variance 1/κ, right to 1/κ; cosines lose their digits


def log_i0(square: jax.Array) -> jax.Array:
    """log I₀(√s) of s ≥ 0, differentiable at 0."""
    small = square < STRAIGHT**2
    root = jnp.sqrt(jnp.where(small, 1.0, square))
    return jnp.where(small, 0.25 * square, jnp.log(i0e(root)) + root)


@named
class VonMises(ExponentialFamily):
    """The density e^{κ cos(x − μ)} / 2πI₀(κ) on −π ≤ x ≤ π, μ = loc, κ = concentration. T = (cos x, sin x), θ = κT(μ).

    Its mean is that of the direction, μ, and its variance the circular one, 1 − I₁(κ)/I₀(κ).
    """

    loc: Any = parameter(REAL)
    concentration: Any = parameter(NOT_NEGATIVE)
    natural_ndims = (0, 0)
    complex_ready = False  # jax has no Bessel function of complex numbers

    @property
    def support(self) -> Support:
        return Support("circle", -math.pi, math.pi)

    def _log_prob(self, x, loc, kappa):
        def inside(x):
            return -2.0 * kappa * jnp.sin(0.5 * (x - loc)) ** 2 - LOG_2PI - jnp.log(i0e(kappa))

        return within(x, jnp.abs(x) <= math.pi + 1e-6, inside, 0.0)

    def _sample(self, key, shape, loc, kappa):
        """Best and Fisher's rejection from a wrapped Cauchy (1979): at least two of three tries are accepted."""
        sharp = jnp.broadcast_to(jnp.maximum(kappa, 1e-6), shape).astype(precision())
        kappa = jnp.minimum(sharp, SHARP)
        tau = 1.0 + jnp.sqrt(1.0 + 4.0 * kappa**2)
        rho = (tau - jnp.sqrt(2.0 * tau)) / (2.0 * kappa)
        r = jnp.where(kappa < 1e-2, 1.0 / kappa, (1.0 + rho**2) / (2.0 * rho))  # ρ loses its digits near 0

        def body(carry):
            key, cosine, done = carry
            key, first, second = jax.random.split(key, 3)
            z = jnp.cos(math.pi * jax.random.uniform(first, shape, precision()))
            w = jnp.clip((1.0 + r * z) / (r + z), -1.0, 1.0)
            c = kappa * (r - w)
            u = jax.random.uniform(second, shape, precision(), minval=jnp.finfo(precision()).tiny)
            accepted = (c * (2.0 - c) > u) | (jnp.log(c / u) + 1.0 - c >= 0.0)
            return key, jnp.where(done, cosine, w), done | accepted

        first, sign = jax.random.split(key)
        start = first, jnp.ones(shape, precision()), jnp.zeros(shape, bool)
        _, cosine, _ = jax.lax.while_loop(lambda carry: ~jnp.all(carry[2]), body, start)
        angle = loc + jax.random.rademacher(sign, shape, precision()) * jnp.arccos(cosine)
        straight = loc + jax.random.normal(sign, shape, precision()) / jnp.sqrt(sharp)
        angle = jnp.where(sharp > SHARP, straight, angle)
        return jnp.mod(angle + math.pi, 2.0 * math.pi) - math.pi

    def _mean(self, loc, kappa):
        return jnp.mod(loc + math.pi, 2.0 * math.pi) - math.pi

    def _variance(self, loc, kappa):
        return 1.0 - i1e(kappa) / i0e(kappa)

    def _entropy(self, loc, kappa):
        return LOG_2PI + log_i0(kappa**2) - kappa * i1e(kappa) / i0e(kappa)

    def _natural(self, loc, kappa) -> Natural:
        return kappa * jnp.cos(loc), kappa * jnp.sin(loc)

    def _log_partition(self, a, b):
        return LOG_2PI + log_i0(a**2 + b**2)

    def _statistics(self, x):
        return jnp.cos(x), jnp.sin(x)

    def _from_natural(self, a, b):
        return VonMises(jnp.arctan2(b, a), jnp.hypot(a, b))

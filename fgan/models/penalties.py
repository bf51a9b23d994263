"""Gradient penalties: pure functions of the critic and the batch, added with a weight to the loss of either player.

With ℓ the log-ratio that the critic's output v stands for, D = σ(ℓ), T its variational function and λ the weight,

    jsd               ‖∇ₓJSD‖² = ¼{E_P[(1−D)²‖∇ℓ‖²] + E_Q[D²‖∇ℓ‖²]} = ¼Ω_JS, the squared Wasserstein gradient of JSD
    geometric_jsd     the same functional for the geometric Jensen–Shannon generator
    first_variation   E_P‖∇T‖² + E_Q‖∇f*(T)‖², the same for the divergence that trains the critic
    roth              E_Q[f*''(T)‖∇T‖²], the first-order effect of noise on that divergence's bound
    r1, r2, r1_r2     E_P‖∇v‖², E_Q‖∇v‖², and their sum
    wgan_gp, dragan   (‖∇v‖ − 1)² between data and samples, and around the data
    none              nothing

Input gradients are exact and per sample, from one pass that gives the loss its values too (`look`). Means go through
`expectation`. A row of `PENALTIES` is all that a new penalty needs.

Layer 4: imports estimators only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp

from estimators.divergences.bounds import Expectation, mean
from estimators.divergences.generator import Activation, ActivationName, FDivergence, derivative
from estimators.divergences.table import divergence

CriticFunction = Callable[[jax.Array], jax.Array]


class Look(NamedTuple):
    """All that a penalty may see: the critic, the batch, and what the critic says of it.

    Attributes:
        critic: x [n, d] → v [n].
        x_p, x_q: the batch, [n, d] each.
        v_p, v_q: the critic's outputs on it, [n].
        gradient_p, gradient_q: ∇ₓv there, [n, d].
        row: the divergence that trains the critic.
        activation: how its outputs are read; None for the row's default.
        expectation: the mean over the batch.
        uniform, normal: [n] of U(0, 1) and [n, d] of N(0, 1), for the penalties that look elsewhere.
    """

    critic: CriticFunction
    x_p: jax.Array
    x_q: jax.Array
    v_p: jax.Array
    v_q: jax.Array
    gradient_p: jax.Array
    gradient_q: jax.Array
    row: FDivergence
    activation: ActivationName | None
    expectation: Expectation
    uniform: jax.Array
    normal: jax.Array

    @property
    def read(self) -> Activation:
        """The activation that turns v into T, f*(T) and ℓ."""
        return self.row.activation(self.activation)


PenaltyFunction = Callable[[Look], jax.Array]


def look(
    critic: CriticFunction,
    x_p: jax.Array,
    x_q: jax.Array,
    row: FDivergence,
    *,
    activation: ActivationName | None = None,
    expectation: Expectation = mean,
    uniform: jax.Array | float = 0.5,
    normal: jax.Array | float = 0.0,
) -> Look:
    """What `critic` makes of a batch: values and exact per-sample input gradients, in one pass over both samples.

    Args:
        critic: x [n, d] → v [n], each row on its own.
        x_p, x_q: [n, d] each.
        row, activation, expectation, uniform, normal: as in `Look`.
    """
    v, gradient = values_and_gradients(critic, jnp.concatenate([x_p, x_q]))
    n = x_p.shape[0]
    return Look(
        critic=critic,
        x_p=x_p,
        x_q=x_q,
        v_p=v[:n],
        v_q=v[n:],
        gradient_p=gradient[:n],
        gradient_q=gradient[n:],
        row=row,
        activation=activation,
        expectation=expectation,
        uniform=jnp.broadcast_to(uniform, x_p.shape[:1]),
        normal=jnp.broadcast_to(normal, x_p.shape),
    )


def values_and_gradients(critic: CriticFunction, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(v(x), ∇ₓv(x)) for each row of x: [n, d] → [n], [n, d].

    Each v is of its own row alone, so one pass back from Σv finds every gradient: what vmap of grad finds, with the
    products of a whole batch instead of n small ones.
    """
    v, pull = jax.vjp(critic, x)
    return v, pull(jnp.ones_like(v))[0]


def square(gradient: jax.Array) -> jax.Array:
    """‖·‖² of each row: [n, d] → [n]."""
    return jnp.sum(gradient**2, axis=-1)


def norm(gradient: jax.Array) -> jax.Array:
    """‖·‖ of each row, with gradient 0 instead of NaN at 0: [n, d] → [n]."""
    squared = square(gradient)
    positive = squared > 0.0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)


# ---------------------------------------------------------------------------------------------------------------------


def _wasserstein_gradient(look: Look, row: FDivergence, activation: Activation, v_p, v_q, slope_p, slope_q):
    """E_P‖∇T‖² + E_Q‖∇f*(T)‖² of `row`, T read by `activation` off outputs v whose squared gradients are `slope`."""
    on_p = derivative(activation.output)(v_p) ** 2 * slope_p
    on_q = derivative(activation.conjugate)(v_q) ** 2 * slope_q
    return look.expectation(on_p) + look.expectation(on_q)


def first_variation(look: Look) -> jax.Array:
    """E_P‖∇ₓT‖² + E_Q‖∇ₓf*(T)‖²: the squared Wasserstein gradient of the divergence that trains the critic.

    T and −f*(T) are the first variations of D_f at P and at Q, so this is how fast D_f would fall if both measures
    flowed down it. Nats² per squared unit of x.
    """
    slopes = square(look.gradient_p), square(look.gradient_q)
    return _wasserstein_gradient(look, look.row, look.read, look.v_p, look.v_q, *slopes)


def _at_ratio(look: Look, row: FDivergence) -> jax.Array:
    """The squared Wasserstein gradient of another `row`, through the log-ratio ℓ that the critic stands for."""
    ratio = look.read.log_ratio if look.row.smooth else lambda v: v  # a step has no ratio to read back: ℓ is v
    slope = derivative(ratio)
    slope_p = slope(look.v_p) ** 2 * square(look.gradient_p)
    slope_q = slope(look.v_q) ** 2 * square(look.gradient_q)
    return _wasserstein_gradient(look, row, row.log_ratio, ratio(look.v_p), ratio(look.v_q), slope_p, slope_q)


def jsd(look: Look) -> jax.Array:
    """‖∇ₓJSD‖² = ¼{E_P[(1 − D)²‖∇ℓ‖²] + E_Q[D²‖∇ℓ‖²]}, D = σ(ℓ): a quarter of Ω_JS (Roth et al. 2017, eq. 17)."""
    return _at_ratio(look, divergence("js"))


def geometric_jsd(look: Look) -> jax.Array:
    """The squared Wasserstein gradient of the extended geometric Jensen–Shannon divergence, at the critic's ℓ."""
    return _at_ratio(look, divergence("geometric_js"))


def roth(look: Look) -> jax.Array:
    """E_Q[f*''(T)‖∇ₓT‖²] with f*''(T) = 1/f''(u), u = e^ℓ (Roth, Lucchi, Nowozin, Hofmann 2017, eq. 12).

    What convolving both measures with N(0, γI) takes off the bound, to first order, over γ/2.

    Raises:
        ValueError: the divergence has a kink, where f*'' is 0.
    """
    if not look.row.smooth:
        raise ValueError(f"roth is zero for {look.row.name}, whose f is straight on both sides of a kink; use r1 or r2")
    bend = 1.0 / look.row.second(jnp.exp(look.read.log_ratio(look.v_q)))
    return look.expectation(bend * derivative(look.read.output)(look.v_q) ** 2 * square(look.gradient_q))


def r1(look: Look) -> jax.Array:
    """E_P‖∇ₓv‖², on the data (Mescheder, Geiger, Nowozin 2018, eq. 9; the weight λ is half their γ)."""
    return look.expectation(square(look.gradient_p))


def r2(look: Look) -> jax.Array:
    """E_Q‖∇ₓv‖², on generated samples (Mescheder, Geiger, Nowozin 2018, eq. 10; the weight λ is half their γ)."""
    return look.expectation(square(look.gradient_q))


def r1_r2(look: Look) -> jax.Array:
    """E_P‖∇ₓv‖² + E_Q‖∇ₓv‖²."""
    return r1(look) + r2(look)


def _unit_slope(look: Look, x: jax.Array) -> jax.Array:
    return look.expectation((norm(values_and_gradients(look.critic, x)[1]) - 1.0) ** 2)


def wgan_gp(look: Look) -> jax.Array:
    """E(‖∇ₓv(x̂)‖ − 1)² at x̂ = εx_p + (1 − ε)x_q, ε ~ U(0, 1) (Gulrajani et al. 2017, eq. 3)."""
    mix = look.uniform[:, None]
    return _unit_slope(look, mix * look.x_p + (1.0 - mix) * look.x_q)


def dragan(look: Look) -> jax.Array:
    """E(‖∇ₓv(x̂)‖ − 1)² at x̂ = x_p + ½sε, ε ~ N(0, I), s the deviation of the data (Kodali et al. 2017, section 2.3).

    s² is the mean of the variances along the axes, over the whole batch.
    """
    centre = look.expectation(look.x_p)
    deviation = jnp.sqrt(jnp.mean(look.expectation((look.x_p - centre[None]) ** 2)))
    return _unit_slope(look, look.x_p + 0.5 * deviation * look.normal)


def none(look: Look) -> jax.Array:
    """0."""
    return jnp.zeros((), look.v_p.dtype)


PENALTIES: Mapping[str, PenaltyFunction] = MappingProxyType(
    {row.__name__: row for row in (jsd, geometric_jsd, first_variation, roth, r1, r2, r1_r2, wgan_gp, dragan, none)}
)

SCHEDULES: Mapping[str, Callable[[jax.Array], jax.Array]] = MappingProxyType(
    {
        "constant": jnp.ones_like,
        "annealed": lambda t: 0.01**t,
        "cosine": lambda t: 0.5 * (1.0 + jnp.cos(jnp.pi * t)),
    }
)
"""The weight at a share t ∈ [0, 1] of the training, over that at its start; `annealed` as Roth et al. 2017 have it."""

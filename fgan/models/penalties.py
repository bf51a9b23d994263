"""Gradient penalties: pure functions of a critic on a batch, added with a weight to the loss of either player.

The critic's output v stands for the log-ratio ℓ and for the variational function T. Means go through `expectation`. A
new penalty is a function and its entry in PENALTIES.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from estimators.divergences.bounds import Expectation, mean
from estimators.divergences.generator import Activation, ActivationName, FDivergence, derivative
from estimators.divergences.table import divergence
from fgan.config.schema import Penalty

CriticFunction = Callable[[jax.Array], jax.Array]


class CriticValues(NamedTuple):
    """All that a penalty may use: the critic, the batch, and the critic's outputs and input gradients on it."""

    critic: CriticFunction  # x [n, d] → v [n]
    x_p: jax.Array
    x_q: jax.Array
    v_p: jax.Array
    v_q: jax.Array
    gradient_p: jax.Array  # ∇ₓv [n, d]
    gradient_q: jax.Array
    divergence: FDivergence  # the one that trains the critic
    activation: Activation  # v → T, f*(T) and ℓ
    expectation: Expectation  # the mean over the batch
    uniform: jax.Array  # [n] of U(0, 1), and
    normal: jax.Array  # [n, d] of N(0, 1), for penalties at other points than the batch


def critic_values(
    critic: CriticFunction,
    x_p: jax.Array,
    x_q: jax.Array,
    divergence: FDivergence,
    *,
    activation: ActivationName | None = None,
    expectation: Expectation = mean,
    uniform: jax.Array | float = 0.5,
    normal: jax.Array | float = 0.0,
) -> CriticValues:
    """The CriticValues of a batch; `critic` treats every point on its own, `activation` None is the default one."""
    n = x_p.shape[0]
    v, gradient = values_and_gradients(critic, jnp.concatenate([x_p, x_q]))
    return CriticValues(
        critic=critic,
        x_p=x_p,
        x_q=x_q,
        v_p=v[:n],
        v_q=v[n:],
        gradient_p=gradient[:n],
        gradient_q=gradient[n:],
        divergence=divergence,
        activation=divergence.activation(activation),
        expectation=expectation,
        uniform=jnp.broadcast_to(uniform, x_p.shape[:1]),
        normal=jnp.broadcast_to(normal, x_p.shape),
    )


def values_and_gradients(critic: CriticFunction, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(v(x), ∇ₓv(x)) at each of the points x: [n, d] → [n], [n, d].

    Each v depends on its own point alone, so one pass back from Σv finds every gradient: what vmap of grad finds, with
    the products of a whole batch instead of n small ones.
    """
    v, pull = jax.vjp(critic, x)
    return v, pull(jnp.ones_like(v))[0]


PenaltyFunction = Callable[[CriticValues], jax.Array]


def first_variation(c: CriticValues) -> jax.Array:
    """E_P‖∇ₓT‖² + E_Q‖∇ₓf*(T)‖²: the squared Wasserstein gradient of the divergence that trains the critic.

    T and −f*(T) are the first variations of D_f at P and at Q, so this is how fast D_f would fall if both measures
    flowed down it. Nats² per squared unit of x.
    """
    return _wasserstein_gradient(c, c.activation, c.v_p, c.v_q, square(c.gradient_p), square(c.gradient_q))


def jsd(c: CriticValues) -> jax.Array:
    """‖∇ₓJSD‖² = ¼{E_P[(1 − D)²‖∇ℓ‖²] + E_Q[D²‖∇ℓ‖²]}, D = σ(ℓ): a quarter of Ω_JS (Roth et al. 2017, eq. 17)."""
    return _at_ratio(c, divergence("js"))


def geometric_jsd(c: CriticValues) -> jax.Array:
    """The squared Wasserstein gradient of the extended geometric Jensen–Shannon divergence, at the critic's ℓ."""
    return _at_ratio(c, divergence("geometric_js"))


def roth(c: CriticValues) -> jax.Array:
    """E_Q[f*''(T)‖∇ₓT‖²] with f*''(T) = 1/f''(u), u = e^ℓ (Roth, Lucchi, Nowozin, Hofmann 2017, eq. 12).

    Convolving both measures with N(0, γI) takes γ/2 times this off the bound, to first order.

    Raises:
        ValueError: the divergence has a kink, where f*'' is 0.
    """
    d = c.divergence
    if not d.smooth:
        raise ValueError(f"roth is zero for {d.name}, whose f is straight on both sides of a kink; use r1 or r2")
    curvature = 1.0 / d.second(jnp.exp(c.activation.log_ratio(c.v_q)))
    return c.expectation(curvature * derivative(c.activation.output)(c.v_q) ** 2 * square(c.gradient_q))


def r1(c: CriticValues) -> jax.Array:
    """E_P‖∇ₓv‖², on the data (Mescheder, Geiger, Nowozin 2018, eq. 9; the weight λ is half their γ)."""
    return c.expectation(square(c.gradient_p))


def r2(c: CriticValues) -> jax.Array:
    """E_Q‖∇ₓv‖², on generated samples (Mescheder, Geiger, Nowozin 2018, eq. 10; the weight λ is half their γ)."""
    return c.expectation(square(c.gradient_q))


def r1_r2(c: CriticValues) -> jax.Array:
    """E_P‖∇ₓv‖² + E_Q‖∇ₓv‖²."""
    return r1(c) + r2(c)


def scaled_r1_r2(c: CriticValues) -> jax.Array:
    """f''(1)·(E_P‖∇ₓv‖² + E_Q‖∇ₓv‖²), in the unit in which all bounds agree near P = Q.

    Where `game.normalise` divides the critic's loss by f''(1), one weight then regularises all divergences alike; that
    of r1_r2 would count eight times as much under js as under pearson. Where f has a kink the unit is 1. Near P = Q
    this is twice `roth`, the effect of noise on the bound, and unlike it does not vanish where Q has no samples of P.
    """
    d = c.divergence
    return r1_r2(c) * (d.second(jnp.ones(())) if d.smooth else 1.0)


def wgan_gp(c: CriticValues) -> jax.Array:
    """E(‖∇ₓv(x̂)‖ − 1)² at x̂ = εx_p + (1 − ε)x_q, ε ~ U(0, 1) (Gulrajani et al. 2017, eq. 3)."""
    mix = c.uniform[:, None]
    return _unit_slope(c, mix * c.x_p + (1.0 - mix) * c.x_q)


def dragan(c: CriticValues) -> jax.Array:
    """E(‖∇ₓv(x̂)‖ − 1)² at x̂ = x_p + ½sε, ε ~ N(0, I), s the deviation of the data (Kodali et al. 2017, section 2.3).

    s² is the mean of the variances along the axes, over the whole batch.
    """
    centre = c.expectation(c.x_p)
    deviation = jnp.sqrt(jnp.mean(c.expectation((c.x_p - centre[None]) ** 2)))
    return _unit_slope(c, c.x_p + 0.5 * deviation * c.normal)


PENALTIES: dict[str, PenaltyFunction] = {
    "jsd": jsd,
    "geometric_jsd": geometric_jsd,
    "first_variation": first_variation,
    "roth": roth,
    "r1": r1,
    "r2": r2,
    "r1_r2": r1_r2,
    "scaled_r1_r2": scaled_r1_r2,
    "wgan_gp": wgan_gp,
    "dragan": dragan,
    "none": lambda c: jnp.zeros((), c.v_p.dtype),
}

SCHEDULES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "constant": jnp.ones_like,
    "annealed": lambda t: 0.01**t,
    "cosine": lambda t: 0.5 * (1.0 + jnp.cos(jnp.pi * t)),
}
"""The weight at a share t ∈ [0, 1] of the training, over that at its start; `annealed` as Roth et al. 2017 have it."""


@dataclass(frozen=True, kw_only=True)
class WeightedPenalty:
    """λ(step)·ΣR over `penalties` R, with λ given by `weight`, in the loss of the player `on`."""

    penalties: tuple[PenaltyFunction, ...]
    weight: Callable[[jax.Array], jax.Array] = jnp.ones_like
    on: Literal["critic", "generator"] = "critic"

    def __call__(self, values: CriticValues, step: jax.Array) -> jax.Array:
        return self.weight(step) * jnp.sum(jnp.stack([penalty(values) for penalty in self.penalties]))


def weighted(config: Penalty, steps: int) -> WeightedPenalty | None:
    """The penalty that `config` describes over `steps`, after which its weight stays; None for none."""
    chosen = tuple(PENALTIES[name] for name in config.names if name != "none")

    def weight(step):
        return config.weight * SCHEDULES[config.schedule](jnp.minimum(step / steps, 1.0))

    return WeightedPenalty(penalties=chosen, weight=weight, on=config.on) if chosen else None


def square(gradient: jax.Array) -> jax.Array:
    """‖·‖² of each point's gradient: [n, d] → [n]."""
    return jnp.sum(gradient**2, axis=-1)


def _wasserstein_gradient(c: CriticValues, activation: Activation, v_p, v_q, slope_p, slope_q) -> jax.Array:
    """E_P‖∇T‖² + E_Q‖∇f*(T)‖², T by `activation` from outputs v [n] whose squared gradients are `slope` [n]."""
    on_p = derivative(activation.output)(v_p) ** 2 * slope_p
    on_q = derivative(activation.conjugate)(v_q) ** 2 * slope_q
    return c.expectation(on_p) + c.expectation(on_q)


def _at_ratio(c: CriticValues, d: FDivergence) -> jax.Array:
    """The squared Wasserstein gradient of another divergence `d`, through the critic's log-ratio ℓ."""
    ratio = c.activation.log_ratio if c.divergence.smooth else lambda v: v  # the T of a kink, a step, has no ratio
    slope = derivative(ratio)
    slope_p = slope(c.v_p) ** 2 * square(c.gradient_p)
    slope_q = slope(c.v_q) ** 2 * square(c.gradient_q)
    return _wasserstein_gradient(c, d.log_ratio, ratio(c.v_p), ratio(c.v_q), slope_p, slope_q)


def _unit_slope(c: CriticValues, x: jax.Array) -> jax.Array:
    """E(‖∇ₓv(x)‖ − 1)² at points x [n, d]; where ∇ₓv = 0 its own gradient is 0, not NaN."""
    slope = optax.safe_norm(values_and_gradients(c.critic, x)[1], 0.0, axis=-1)
    return c.expectation((slope - 1.0) ** 2)

"""Critic networks: flax modules taking points [n, d] to raw outputs v [n], any real number.

Layer 1: imports flax only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

NONLINEARITIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "elu": nn.elu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "softplus": nn.softplus,
}

STEEPEST: Mapping[str, float] = MappingProxyType({"silu": 1.09984, "gelu": 1.12900})
"""The largest slope of each nonlinearity, rounded up, where it is not 1."""

SQUARINGS = 7
"""Of the Gram matrix in `spectral_bound`: the bound is at most 1 % above the norm up to rank 163."""


def spectral_bound(kernel: jax.Array) -> jax.Array:
    """‖W‖_p ≥ σ₁(W), the Schatten norm (Σ σᵢ^p)^{1/p} with p = 2^{SQUARINGS + 2} = 512; [k, m] → [].

    An upper bound up to rounding, σ₁ ≤ ‖W‖_p ≤ r^{1/p}σ₁ for rank r, and differentiable, where power iteration gives a
    lower bound and singular values cost twelve times as much (128 × 128, CPU). The smaller Gram matrix is squared
    again and again, each time divided by its trace (Delattre, Barthélemy, Araujo, Allauzen 2023, algorithm 1).
    """
    rows = kernel if kernel.shape[0] <= kernel.shape[1] else kernel.T
    tiny = jnp.finfo(kernel.dtype).tiny
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    gram, logarithm, share = product(rows, rows.T), jnp.zeros((), kernel.dtype), 0.5
    for _ in range(SQUARINGS):
        trace = lax.stop_gradient(jnp.maximum(jnp.trace(gram), tiny))  # any factor cancels, and so does its gradient
        gram = gram / trace
        logarithm = logarithm + share * jnp.log(trace)
        gram, share = product(gram, gram), 0.5 * share
    return jnp.exp(logarithm + 0.5 * share * jnp.log(jnp.maximum(jnp.sum(gram**2), tiny)))


class Contraction(nn.Module):
    """x ↦ xW/max(1, ‖W‖_p) + b, a dense layer whose slope is at most 1 in the Euclidean norm: [n, d] → [n, width]."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.width,))
        return x @ (kernel / jnp.maximum(1.0, spectral_bound(kernel))) + bias[None]


class MLP(nn.Module):
    """A multilayer perceptron [n, d] → [n, width_out], or [n] if `width_out` is None.

    Attributes:
        features: widths of the hidden layers.
        nonlinearity: a name in `NONLINEARITIES`.
        width_out: outputs a point; None for a scalar critic.
        gain: a factor on what enters each nonlinearity; above 1 the network begins, and learns, steeper.
        frequencies: how many octaves of sin(2^k x), cos(2^k x) join the inputs x, so that fine detail is within reach
            (Tancik et al. 2020, Fourier features).
        lipschitz: L > 0 keeps |v(x) − v(y)| ≤ L‖x − y‖ for every value of the parameters; 0 does not.

    With L > 0 each layer is a `Contraction`, each nonlinearity is divided by its largest slope, and the output is
    multiplied by L, the largest slope of v per unit of x as the network sees it. `estimators.divergences.bounds` is then a lower
    bound on an (f,Γ)-divergence (Birrell, Dupuis, Katsoulakis, Pantazis, Rey-Bellet 2022, definition 2), sup over T ∈ Γ
    of E_P[T] − E_Q[f*(T)] ≤ D_f(P‖Q), with Γ = {T(v): v L-Lipschitz}:

        T is v plus a constant     kl, under both activations; jeffreys, pearson and alpha(α > 1) under paper. Γ is all
                                   L-Lipschitz functions, and the value at most L·W₁(P, Q), finite even where P and Q
                                   share no point.
        0 ≤ T'(v) ≤ s              such as js (s = ½), gan (1), total_variation under paper (½): each T is sL-Lipschitz,
                                   but not every such function is in Γ.
        T' unbounded               such as reverse_kl: no T need be Lipschitz; under log_ratio the log-ratio that T
                                   stands for is.

    A lower bound, since layers of norm 1 between elementwise nonlinearities cannot follow every L-Lipschitz v: they
    lose slope where it turns (Anil, Lucas, Grosse 2019, section 4.1). Along one direction slope L is reached.

    Called with the standard deviation `blur` of Gaussian noise in x, it weighs each octave by e^{−½(2^k blur)²}, what
    the noise leaves of it on average (Barron et al. 2021, mip-NeRF, eq. 14), and sees these weights: detail comes in
    as the noise fades.
    """

    features: Sequence[int] = (64, 64)
    nonlinearity: str = "tanh"
    width_out: int | None = None
    gain: float = 1.0
    frequencies: int = 0
    lipschitz: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, blur: jax.Array | float = 0.0) -> jax.Array:
        if self.lipschitz and self.frequencies:
            raise ValueError("lipschitz > 0 bounds no network with frequencies; leave these out")
        dense = Contraction if self.lipschitz else nn.Dense
        x = self._with_waves(x, blur) if self.frequencies else x
        for width in self.features:
            x = self._act(dense(width)(x))
        out = dense(1 if self.width_out is None else self.width_out)(x)
        out = self.lipschitz * out if self.lipschitz else out
        return out[:, 0] if self.width_out is None else out

    def _act(self, x: jax.Array) -> jax.Array:
        """The nonlinearity, of slope at most 1 where the network is `lipschitz`."""
        x = NONLINEARITIES[self.nonlinearity](self.gain * x)
        return x / (self.gain * STEEPEST.get(self.nonlinearity, 1.0)) if self.lipschitz else x

    def _with_waves(self, x: jax.Array, blur: jax.Array | float) -> jax.Array:
        """[n, d] → [n, d + k + 2dk]: x, the weight of each octave, and its weighted waves."""
        octaves = 2.0 ** jnp.arange(self.frequencies)
        weights = jnp.exp(-0.5 * (octaves * blur) ** 2)
        angles = octaves[None, None] * x[:, :, None]
        waves = weights[None, None] * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        seen = jnp.broadcast_to(weights, (x.shape[0], self.frequencies))
        return jnp.concatenate([x, seen, waves.reshape(x.shape[0], -1)], axis=-1)

"""Dense layers with a bounded slope, of which Lipschitz critics are made.

With L-Lipschitz critics, `estimators.divergences.bounds` are lower bounds on an (f,Γ)-divergence (Birrell, Dupuis,
Katsoulakis, Pantazis, Rey-Bellet 2022, definition 2), sup over T ∈ Γ of E_P[T] − E_Q[f*(T)] ≤ D_f(P‖Q), with
Γ = {T(v): v L-Lipschitz}:

    T is v plus a constant     kl, under both activations; jeffreys, pearson and alpha(α > 1) under paper. Γ is all
                               L-Lipschitz functions, and the value at most L·W₁(P, Q), finite even where P and Q
                               share no point.
    0 ≤ T'(v) ≤ s              such as js (s = ½), gan (1), total_variation under paper (½): each T is sL-Lipschitz,
                               but not every such function is in Γ.
    T' unbounded               such as reverse_kl: no T need be Lipschitz; under log_ratio the log-ratio that T
                               stands for is.

A lower bound, since layers of norm 1 between elementwise nonlinearities cannot follow every L-Lipschitz v: they lose
slope where it turns (Anil, Lucas, Grosse 2019, section 4.1). Along one direction slope L is reached.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

STEEPEST: dict[str, float] = {"silu": 1.09984, "gelu": 1.12900}
"""The largest slope of each nonlinearity of `networks.NONLINEARITIES`, rounded up, where it is not 1."""
SQUARINGS = 7  # of the Gram matrix in `spectral_bound`: the bound is at most 1 % above the norm up to rank 163


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

"""Variational bounds: pure functions of a critic's raw outputs on P and on Q, returning a scalar in nats.

    fenchel            D_f(P‖Q) ≥ E_P[T(v)] − E_Q[f*(T(v))]     (Nguyen et al. 2010; Nowozin et al. 2016; NWJ for kl)
    donsker_varadhan   KL(P‖Q) ≥ E_P[v] − log E_Q[e^v]          (Donsker & Varadhan 1975)

Means are taken through `expectation`, a plain mean by default and a mean over every device's share of the batch under
data parallelism, so that even the log-mean-exp is that of the global batch.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

Expectation = Callable[[jax.Array], jax.Array]
Bound = Callable[..., jax.Array]  # (d, v_p, v_q, *, activation=None, expectation=mean) → []


def mean(values: jax.Array) -> jax.Array:
    """The plain batch mean, over the first axis."""
    return jnp.mean(values, axis=0)


def fenchel(d, v_p, v_q, *, activation=None, expectation=mean):
    """E_P[T(v)] − E_Q[f*(T(v))] ≤ D_f(P‖Q), tight where v estimates log p/q. For kl this is the NWJ bound."""
    g = d.activation(activation)
    return expectation(g.output(v_p)) - expectation(g.conjugate(v_q))


def donsker_varadhan(d, v_p, v_q, *, activation=None, expectation=mean):
    """E_P[ℓ(v)] − log E_Q[e^{ℓ(v)}] ≤ KL(P‖Q); on samples the logarithm biases it up by about χ²/(2n).

    Raises:
        ValueError: for any divergence but kl.
    """
    if d.name != "kl":
        raise ValueError(f"donsker_varadhan bounds kl only, not {d.name}; use the fenchel bound")
    log_ratio = d.activation(activation).log_ratio
    return expectation(log_ratio(v_p)) - log_mean_exp(log_ratio(v_q), expectation)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def log_mean_exp(values: jax.Array, expectation: Expectation = mean) -> jax.Array:
    """log E[e^v] of values [n]; its gradient is the mean with weights e^v / E[e^v].

    The gradient is stated, since the derived one would send a mean back through every device's share: a round of
    messages for weights that all devices know already.
    """
    shift, _, total = _shifted_powers(values, expectation)
    return shift + jnp.log(total)


@log_mean_exp.defjvp
def _weighted_mean(expectation, primals, tangents):
    (values,), (change,) = primals, tangents
    shift, powers, total = _shifted_powers(values, expectation)
    return shift + jnp.log(total), expectation(powers / total * change)


def _shifted_powers(values: jax.Array, expectation: Expectation):
    """(s, e^{v − s}, E[e^{v − s}]) for a shift s; any shift is exact, and only v > s + 88 overflows float32."""
    shift = lax.stop_gradient(expectation(jnp.max(values, keepdims=True)))
    powers = jnp.exp(values - shift)
    return shift, powers, expectation(powers)


BOUNDS: dict[str, Bound] = {"fenchel": fenchel, "donsker_varadhan": donsker_varadhan}
"""Every variational bound by name."""

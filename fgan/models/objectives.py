"""What the generator minimises: E_Q of a cost of each sample, a pure function of the critic's outputs there.

The critic's output v stands for the variational function T(v) and the log-ratio ℓ(v). Under each cost a sample moves
along w(v)∇v with a weight of its own, such as e^{2v} f''(e^v) for minimax and e^v f''(e^v) for alternative under
log_ratio. Where w grows as v falls, samples between modes, far below, drown the differences that would balance the
modes. A new objective is a function and its entry in OBJECTIVES.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from estimators.divergences.generator import SMOOTHING, Activation, FDivergence


class Outputs(NamedTuple):
    """The critic's outputs on generated samples, and what an objective needs to give them a meaning."""

    v: jax.Array  # outputs within their bound, [b]
    activation: Activation  # v → T, f*(T) and ℓ, for the divergence that trains the critic
    divergence: FDivergence  # f_G, the divergence that the generator descends
    smoothing: jax.Array | float = SMOOTHING  # width in nats of the step that stands in for f_G' where f_G has a kink


Objective = Callable[[Outputs], jax.Array]


def minimax(q: Outputs) -> jax.Array:
    """−f*(T(v)), the generator's term of the bound itself (Nowozin, Cseke, Tomioka 2016, algorithm 1): [b]."""
    return -q.activation.conjugate(q.v)


def alternative(q: Outputs) -> jax.Array:
    """−T(v), a way past vanishing gradients (Nowozin, Cseke, Tomioka 2016, section 3.2): [b]."""
    return -q.activation.output(q.v)


def ratio(q: Outputs) -> jax.Array:
    """−f_G*(f_G'(e^ℓ)), any divergence through the log-ratio, whatever trained the critic: [b].

    Where f_G has a kink, a step `smoothing` wide stands in for f_G'.
    """
    d = q.divergence
    return -d.log_ratio.conjugate(stepped(d, q.activation.log_ratio(q.v), q.smoothing))


def stepped(d: FDivergence, log_ratio: jax.Array, width: jax.Array | float) -> jax.Array:
    """What `d.log_ratio` takes in place of ℓ for a step `width` nats wide at a kink of f; ℓ where there is no kink."""
    return log_ratio if d.smooth else d.kink + SMOOTHING / width * (log_ratio - d.kink)


def kl_gradient(q: Outputs) -> jax.Array:
    """−e^ℓ, at ℓ = log p/q the first variation −p/q of KL(P‖Q) at Q, whatever trained the critic: [b].

    Regions that the model lacks weigh most. The generator then descends another divergence than the critic's, so it is
    never a default.
    """
    return -jnp.exp(q.activation.log_ratio(q.v))


OBJECTIVES: dict[str, Objective] = {
    "minimax": minimax,
    "alternative": alternative,
    "ratio": ratio,
    "kl_gradient": kl_gradient,
}


def objective(name: str, divergence: FDivergence, critic: FDivergence) -> Objective:
    """The entry `name` of OBJECTIVES, or `ratio` where that one cannot lead to `divergence`.

    That is where another divergence trains the critic, whose own the first two descend, and where `kl_gradient` meets
    a kink.
    """
    chosen = OBJECTIVES[name]
    elsewhere = chosen in (minimax, alternative) and critic is not divergence
    return ratio if elsewhere or (chosen is kl_gradient and not divergence.smooth) else chosen


def descends(objective: Objective, divergence: FDivergence, critic: FDivergence) -> tuple[str, ...]:
    """A line on what trains what if the generator descends another divergence than that of its critic, else none."""
    generator = "kl" if objective is kl_gradient else divergence.name
    return (f"generator: gradient of {generator}, critic: {critic.name}",) * (generator != critic.name)

"""Published cures for mode collapse that `fgan` does without, as f-GANs to compare its preset with.

    packed         the critic takes m samples at once (Lin, Khetan, Fanti, Oh 2018, PacGAN, section 3)
    relativistic   it takes a real and a generated sample, by the difference of its outputs (Jolicoeur-Martineau 2019,
                   On relativistic f-divergences, section 3.2)

The bound of each lies below a divergence of its own, D_f(P^m‖Q^m) and D_f(P⊗Q‖Q⊗P). Near P = Q these are m D_f and
2 D_f, so the instance noise is held at m and 2 times its `overlap`: as much noise as without the cure.

The third cure, optimism (Daskalakis, Ilyas, Syrgkanis, Zeng 2018), is an optimiser: optimistic_adam of
fgan.models.optimizers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from estimators.critics.kernel import Metrics
from estimators.divergences.bounds import fenchel, mean
from fgan.models.gan import FGAN, GANState
from fgan.models.objectives import Outputs, alternative, kl_gradient


@dataclass(frozen=True)
class Packs:
    """A critic of `pack` points side by side: x [b, d] → v [b/m], m = pack; with 1 it is the network itself."""

    network: Any
    pack: int

    def init(self, key: jax.Array, x: jax.Array) -> Any:
        """The network's own parameters, for m·d inputs."""
        return self.network.init(key, jnp.tile(x, (1, self.pack)))

    def apply(self, parameters: Any, x: jax.Array, *noise: jax.Array) -> jax.Array:
        """v of each pack: [b, d] → [b/m]."""
        return self.network.apply(parameters, x.reshape(-1, self.pack * x.shape[1]), *noise)


def packed(gan: FGAN, pack: int = 2) -> FGAN:
    """`gan` with packs of `pack` samples.

    Raises:
        ValueError: the batch is no multiple of `pack`, or there is a penalty, which needs a gradient a sample.
    """
    if gan.batch % pack:
        raise ValueError(f"a batch of {gan.batch} does not fall into packs of {pack}")
    if gan.penalty is not None:
        raise ValueError("a packed critic has no gradient a sample: leave the penalty out")
    return replace(_held(gan, pack), critic=replace(gan.critic, network=Packs(gan.critic.network, pack)))


def pairs(d, v_p, v_q, *, activation=None, expectation=mean):
    """E[T(v_p − v_q)] − E[f*(T(v_q − v_p))] ≤ D_f(P⊗Q‖Q⊗P) over pairs [b], tight where v estimates log p/q.

    For js it is log 2 + E[log σ(v_p − v_q)], the relativistic paired loss of Jolicoeur-Martineau 2019; for kl it lies
    below Jeffreys' divergence KL(P‖Q) + KL(Q‖P).
    """
    return fenchel(d, v_p - v_q, v_q - v_p, activation=activation, expectation=expectation)


@dataclass(frozen=True, kw_only=True)
class Relativistic(FGAN):
    """An f-GAN on pairs: where the plain one has v_q, the generator pays for v_q − v_p."""

    def __post_init__(self):
        if self.critic.activation != "log_ratio" or self.objective not in (kl_gradient, alternative):
            raise ValueError("pairs need activation log_ratio, and the objective kl_gradient or alternative")

    def generator_update(
        self, key: jax.Array, state: GANState, critic: Any, z: jax.Array, x_p: jax.Array
    ) -> tuple[GANState, Metrics]:
        """As an f-GAN's, each sample paired with one of x_p."""
        key, p_key = jax.random.split(key)
        rivals = self.outputs(critic, self.noisy(p_key, state, x_p), state.instance_noise)

        def lead(q: Outputs) -> jax.Array:
            return self.objective(q._replace(v=q.v - rivals))

        plain = FGAN(**_fields(self) | {"objective": lead})
        return plain.generator_update(key, state, critic, z, x_p)


def relativistic(gan: FGAN) -> Relativistic:
    """`gan` on pairs."""
    paired = replace(_held(gan, 2), critic=replace(gan.critic, bound=pairs))
    return Relativistic(**_fields(paired))


def _held(gan: FGAN, factor: float) -> FGAN:
    """`gan` with its noise held at `factor` times its overlap."""
    if gan.instance_noise is None:
        return gan
    first, last = gan.instance_noise.overlap
    return replace(gan, instance_noise=replace(gan.instance_noise, overlap=(factor * first, factor * last)))


def _fields(gan: FGAN) -> dict[str, Any]:
    return {f.name: getattr(gan, f.name) for f in fields(FGAN)}

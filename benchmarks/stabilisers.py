"""Published cures for mode collapse that `fgan` does without, as f-GANs to compare its recipe with.

    packed         the critic judges m samples at once (Lin, Khetan, Fanti, Oh 2018, PacGAN, section 3)
    relativistic   it judges a real and a generated sample by the difference of its outputs (Jolicoeur-Martineau 2019,
                   On relativistic f-divergences, section 3.2)

The bound of each lies below a divergence of its own, D_f(P^m‖Q^m) and D_f(P⊗Q‖Q⊗P). Near P = Q these are m D_f and
2 D_f, so the noise of a spread divergence is held at m and 2 times its `overlap`: as blurred as without the cure.

The third cure, optimism (Daskalakis, Ilyas, Syrgkanis, Zeng 2018), is an optimiser: optimistic_adam of fgan.models.optimizers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp

from estimators.critics.kernel import Metrics
from estimators.divergences.bounds import fenchel, mean
from fgan.models.gan import FGAN, GANState
from fgan.models.instance_noise import Blur


@dataclass(frozen=True, kw_only=True)
class Packed(FGAN):
    """An f-GAN whose critic sees `pack` samples side by side: x [b, d] → v [b/m].

    A penalty, which needs a gradient a sample, cannot be added.

    Attributes:
        pack: m, a divisor of the batch; with 1 it is the f-GAN itself.
    """

    pack: int

    def __post_init__(self):
        if self.batch % self.pack:
            raise ValueError(f"a batch of {self.batch} does not fall into packs of {self.pack}")
        if self.penalty is not None:
            raise ValueError("a packed critic has no gradient a sample: leave the penalty out")

    def init(self, key: jax.Array) -> GANState:
        """Fresh parameters; the critic's take m·d inputs."""
        return FGAN.init(replace(self, dim=self.pack * self.dim), key)

    def unsquashed(self, parameters: Any, x: jax.Array, blur: Blur | None = None) -> jax.Array:
        """v of each pack before `reach`: [b, d] → [b/m]."""
        return super().unsquashed(parameters, x.reshape(-1, self.pack * self.dim), blur)

    def see(self, key: jax.Array, state: GANState, critic: Any, x_p: jax.Array, x_q: jax.Array, player: str):
        """(v_p [b/m], v_q [b/m], no penalty)."""
        return self.outputs(critic, x_p, state.blur), self.outputs(critic, x_q, state.blur), jnp.zeros(())


def packed(gan: FGAN, pack: int = 2) -> Packed:
    """`gan` with packs of `pack` samples."""
    return Packed(**_parts(gan, overlap=pack), pack=pack)


def pairs(d, v_p, v_q, *, activation=None, expectation=mean):
    """E[T(v_p − v_q)] − E[f*(T(v_q − v_p))] ≤ D_f(P⊗Q‖Q⊗P) over pairs [b], tight where v estimates log p/q.

    For js it is log 2 + E[log σ(v_p − v_q)], the relativistic paired loss of Jolicoeur-Martineau 2019; for kl it lies
    below Jeffreys' divergence KL(P‖Q) + KL(Q‖P).
    """
    return fenchel(d, v_p - v_q, v_q - v_p, activation=activation, expectation=expectation)


@dataclass(frozen=True, kw_only=True)
class Relativistic(FGAN):
    """An f-GAN on pairs: where the plain one has v_q, the generator pays for v_q − v_p.

    Attributes:
        rivals: v_p [b], the outputs on the real samples that an update compares with.
    """

    rivals: jax.Array | float = 0.0

    def __post_init__(self):
        if self.activation != "log_ratio" or self.objective not in ("kl_gradient", "alternative"):
            raise ValueError("pairs need activation log_ratio, and the objective covering or alternative")

    def cost(self, v: jax.Array) -> jax.Array:
        """What the generator pays for a sample, from the lead of its output over its rival's: [b] → [b]."""
        return super().cost(v - self.rivals)

    def generator_update(
        self, key: jax.Array, state: GANState, critic: Any, z: jax.Array, x_p: jax.Array
    ) -> tuple[GANState, Metrics]:
        """As an f-GAN's, each sample paired with a row of x_p."""
        key, p_key = jax.random.split(key)
        rivals = self.outputs(critic, self.blurred(p_key, state, x_p), state.blur)
        return FGAN.generator_update(replace(self, rivals=rivals), key, state, critic, z, x_p)


def relativistic(gan: FGAN) -> Relativistic:
    """`gan` on pairs."""
    return Relativistic(**_parts(gan, overlap=2) | {"bound": pairs})


def _parts(gan: FGAN, overlap: float) -> dict[str, Any]:
    """The fields of `gan`, the noise held at `overlap` times its bound."""
    parts = {f.name: getattr(gan, f.name) for f in fields(FGAN)}
    if gan.spread is None:
        return parts
    first, last = gan.spread.overlap
    return parts | {"spread": replace(gan.spread, overlap=(overlap * first, overlap * last))}

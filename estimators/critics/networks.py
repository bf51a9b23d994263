"""Critic networks: flax modules from points [n, d] to raw outputs v [n], any real number."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from estimators.critics.lipschitz import STEEPEST, Contraction

NONLINEARITIES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, 0.2),
    "elu": nn.elu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "softplus": nn.softplus,
}


class MLP(nn.Module):
    """A multilayer perceptron [n, d] → [n, width_out], or [n] if `width_out` is None.

    Attributes:
        features: widths of the hidden layers.
        nonlinearity: a name in `NONLINEARITIES`.
        width_out: outputs a point; None for a scalar critic.
        gain: a factor on the input of each nonlinearity; above 1 the network begins, and learns, steeper.
        frequencies: number of octaves of sin(2^k x), cos(2^k x) that are added to the inputs x, so that the network
            can fit fine detail (Tancik et al. 2020, Fourier features).
        lipschitz: L > 0 keeps |v(x) − v(y)| ≤ L‖x − y‖ for every value of the parameters; 0 does not. Each layer is a
            `Contraction`, each nonlinearity is divided by its largest slope, and the output is multiplied by L. What
            the bounds then mean: `estimators.critics.lipschitz`.

    Called with the standard deviation `noise` of Gaussian noise in x, it multiplies each octave by e^{−½(2^k noise)²},
    the factor by which the noise shrinks it on average (Barron et al. 2021, mip-NeRF, eq. 14), and these factors are
    inputs too: detail comes in as the noise fades.
    """

    features: Sequence[int] = (64, 64)
    nonlinearity: str = "tanh"
    width_out: int | None = None
    gain: float = 1.0
    frequencies: int = 0
    lipschitz: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, noise: jax.Array | float = 0.0) -> jax.Array:
        if self.lipschitz and self.frequencies:
            raise ValueError("lipschitz > 0 bounds no network with frequencies; leave these out")
        dense = Contraction if self.lipschitz else nn.Dense
        x = self._with_waves(x, noise) if self.frequencies else x
        for width in self.features:
            x = self._act(dense(width)(x))
        out = dense(1 if self.width_out is None else self.width_out)(x)
        out = self.lipschitz * out if self.lipschitz else out
        return out[:, 0] if self.width_out is None else out

    def _act(self, x: jax.Array) -> jax.Array:
        """The nonlinearity, of slope at most 1 where the network is `lipschitz`."""
        x = NONLINEARITIES[self.nonlinearity](self.gain * x)
        return x / (self.gain * STEEPEST.get(self.nonlinearity, 1.0)) if self.lipschitz else x

    def _with_waves(self, x: jax.Array, noise: jax.Array | float) -> jax.Array:
        """[n, d] → [n, d + k + 2dk]: x, the factor of each octave, and the waves times their factors."""
        octaves = 2.0 ** jnp.arange(self.frequencies)
        factors = jnp.exp(-0.5 * (octaves * noise) ** 2)
        angles = octaves[None, None] * x[:, :, None]
        waves = factors[None, None] * jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
        repeated = jnp.broadcast_to(factors, (x.shape[0], self.frequencies))
        return jnp.concatenate([x, repeated, waves.reshape(x.shape[0], -1)], axis=-1)

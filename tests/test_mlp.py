"""The MLP: Fourier features that fade with the noise, and the gain of its units."""

import jax
import numpy as np

from estimators.critics.networks import MLP

KEY = jax.random.key(0)


def test_fourier_features_fade_as_the_noise_averages_them(x64):
    """E[wave(2^k (x + blur·ε))] = e^{−½(2^k blur)²} wave(2^k x), by Gauss–Hermite quadrature."""
    network = MLP((), "tanh", frequencies=3)
    x, blur = np.array([[0.3, -0.7], [1.1, 0.2]]), 0.4
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)

    @jax.jit
    def features(x, blur):
        return network.apply({}, x, blur, method="_with_waves")

    faded = features(x, blur)[:, 2 + 3 :]
    moved = np.stack([features(x + blur * node, 0.0)[:, 2 + 3 :] for node in nodes])
    np.testing.assert_allclose(faded, np.tensordot(weights / weights.sum(), moved, axes=1), atol=1e-12)
    np.testing.assert_allclose(features(x, 0.0)[:, 2:5], 1.0)


def test_a_gain_multiplies_what_enters_a_unit():
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    steep = MLP((6,), "tanh", 2, gain=3.0)
    weights = jax.tree.map(np.asarray, jax.jit(steep.init)(KEY, x))
    first, last = weights["params"]["Dense_0"], weights["params"]["Dense_1"]
    hidden = np.tanh(3.0 * (x @ first["kernel"] + first["bias"][None]))
    expected = hidden @ last["kernel"] + last["bias"][None]
    np.testing.assert_allclose(jax.jit(steep.apply)(weights, x), expected, rtol=1e-5, atol=1e-6)

"""Critics: the shapes of an MLP, and that it treats each point alone."""

import jax
import numpy as np
import pytest

from estimators.critics.networks import MLP, NONLINEARITIES

KEY = jax.random.key(7)


@pytest.mark.parametrize(("width_out", "shape"), [(None, (11,)), (1, (11, 1)), (3, (11, 3))])
def test_mlp_shapes(width_out, shape):
    network = MLP(features=(5, 4), width_out=width_out)
    x = jax.random.normal(KEY, (11, 2))
    parameters = network.init(KEY, x)
    assert network.apply(parameters, x).shape == shape
    kernels = [layer["kernel"].shape for layer in parameters["params"].values()]
    assert kernels == [(2, 5), (5, 4), (4, width_out or 1)]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
def test_mlp_treats_each_point_alone_and_bends(nonlinearity):
    network = MLP(features=(8,), nonlinearity=nonlinearity)
    x = jax.random.normal(KEY, (6, 2))
    parameters = jax.jit(network.init)(KEY, x)

    @jax.jit
    def critic(x):
        return network.apply(parameters, x)

    np.testing.assert_allclose(critic(x[::-1])[::-1], critic(x), rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(critic(x + 1.0) + critic(x - 1.0) - 2.0 * critic(x))) > 1e-3

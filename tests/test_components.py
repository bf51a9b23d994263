"""The mixture of Gaussians that a generator may begin as: the fit, and the network around it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from estimators.critics.networks import MLP
from estimators.distributions.mixture_fit import MixtureFit, mixture_fit
from fgan.config.fields import ConfigError
from fgan.config.schema import Data, Generator
from fgan.data.sources import load
from fgan.networks.components import Components, Start
from fgan.networks.generators import GENERATORS
from fgan.networks.one_hot import OneHot

RNG = np.random.default_rng(3)


def clusters(n: int, share: float, d: int = 2) -> np.ndarray:
    few = int(share * n)
    return np.concatenate([RNG.normal(size=(n - few, d)), RNG.normal(8.0, 0.3, (few, d))])


def test_the_density_of_a_fit_is_that_of_scipy():
    root = np.array([[1.0, 0.0], [0.5, 2.0]])
    fit = MixtureFit(np.array([0.3, 0.7]), np.array([[0.0, 1.0], [2.0, -1.0]]), np.stack([root, np.eye(2)]))
    x = RNG.normal(size=(20, 2))
    for k, covariance in enumerate((root @ root.T, np.eye(2))):
        law = scipy.stats.multivariate_normal(fit.means[k], covariance)
        np.testing.assert_allclose(fit.log_joint(x)[:, k], law.logpdf(x) + np.log(fit.weights[k]), rtol=1e-12)


@pytest.mark.parametrize("n, share", [(1000, 0.05), (4000, 0.02)])
def test_a_rare_group_is_a_component_with_its_share(n, share):
    fit = mixture_fit(clusters(n, share), 8, 0.03)
    assert len(fit.weights) == 2 and fit.weights == pytest.approx([1.0 - share, share], abs=1e-6)
    np.testing.assert_allclose(fit.means, [[0.0, 0.0], [8.0, 8.0]], atol=5.0 / np.sqrt(share * n) * 0.6)
    np.testing.assert_allclose(fit.roots[1], 0.3 * np.eye(2), atol=0.09)


def test_gaussian_rows_are_one_component_with_their_moments():
    rows = RNG.normal(size=(2000, 4)) @ RNG.normal(size=(4, 4)) + 3.0
    fit = mixture_fit(rows, 8, 1e-3)
    (mean,), (root,) = fit.means, fit.roots
    np.testing.assert_allclose(mean, rows.mean(axis=0))
    np.testing.assert_allclose(root @ root.T, np.cov(rows.T, bias=True), rtol=0.01, atol=0.01)


def test_few_rows_are_one_component():
    assert len(mixture_fit(RNG.normal(size=(9, 4)), 8, 0.03).weights) == 1
    assert np.isfinite(mixture_fit(np.zeros((30, 2)), 8, 0.03).roots).all()  # rows that are all the same


def test_the_generator_begins_as_the_mixture():
    mixture = mixture_fit(clusters(4000, 0.05), 8, 0.03)
    network = Components(MLP((8,), "relu", 2), 2, 4, 3, Start(mixture))
    n = 40_000
    z = jax.random.normal(jax.random.key(0), (n, network.latent))
    parameters = network.init(jax.random.key(1), z[:1])
    x = np.asarray(network.apply(parameters, z))
    far = np.linalg.norm(x - 8.0, axis=1) < 2.0
    assert far.mean() == pytest.approx(0.05, abs=4.0 * np.sqrt(0.05 * 0.95 / n))
    for part, centre, deviation in ((x[far], 8.0, 0.3), (x[~far], 0.0, 1.0)):
        np.testing.assert_allclose(part.mean(axis=0), centre, atol=0.1)
        np.testing.assert_allclose(part.std(axis=0), deviation, rtol=0.1)
    slopes = jax.grad(lambda p: jnp.sum(network.apply(p, z[:50]) ** 2))(parameters)["params"]
    assert not slopes["weights"].any() and slopes["means"].any() and slopes["gate"].any()


def test_without_rows_the_parameters_have_the_same_shapes():
    one = Components(MLP((8,), "relu", 2), 2, 4, 3, Start(mixture_fit(clusters(500, 0.1), 4, 0.03)))
    other = Components(MLP((8,), "relu", 2), 2, 4, 3)
    z = jnp.zeros((1, one.latent))
    shapes = [jax.tree.map(jnp.shape, network.init(jax.random.key(0), z)) for network in (one, other)]
    assert shapes[0] == shapes[1]


@pytest.mark.slow
def test_categories_are_exact_and_have_the_slopes_of_a_softmax():
    network = OneHot(MLP((), width_out=5), ((1, 3),), 2)
    z = jax.random.normal(jax.random.key(0), (64, 2))
    parameters = network.init(jax.random.key(1), z)
    x = np.asarray(network.apply(parameters, z))
    np.testing.assert_allclose(np.sort(x[:, 1:4], axis=1), np.tile([0.0, 0.0, 1.0], (64, 1)), atol=1e-6)
    raw = MLP((), width_out=5).apply({"params": parameters["params"]["network"]}, z)
    np.testing.assert_array_equal(np.argmax(x[:, 1:4], axis=1), np.argmax(raw[:, 1:4], axis=1))

    def loss(function):
        return lambda p: jnp.sum(function(p)[:, 2] * z[:, 0])

    found = jax.grad(loss(lambda p: network.apply({"params": {"network": p}}, z)))(parameters["params"]["network"])
    assert found["Dense_0"]["kernel"].any()
    np.testing.assert_allclose(found["Dense_0"]["kernel"][:, 2], soft_column(z, raw), rtol=1e-4, atol=1e-4)


def soft_column(z, raw):
    """∂/∂w of Σ softmax(4·raw)₁ z₀ for the weights w of that output."""
    p = jax.nn.softmax(4.0 * raw[:, 1:4], axis=1)[:, 1]
    return jnp.sum((4.0 * p * (1.0 - p) * z[:, 0])[:, None] * z, axis=0)


@pytest.mark.parametrize(
    "generator, message",
    [
        (Generator(components=4, linear=2), "generator.linear = 2"),
        (Generator(components=4), "generator.components = 4: ring has no rows"),
    ],
)
def test_where_there_is_nothing_to_fit_components_are_refused(generator, message):
    with pytest.raises(ConfigError, match=message):
        GENERATORS["mlp"](generator, load(Data(name="ring")))


def test_a_flow_refuses_categories(tmp_path):
    (tmp_path / "mine.csv").write_text("a,site\n" + "1.5,x\n2.5,y\n3.5,x\n" * 5)
    data = load(Data(name="samples", path=str(tmp_path / "mine.csv")))
    with pytest.raises(ConfigError, match="categories have no density"):
        GENERATORS["flow"](Generator(kind="flow"), data)

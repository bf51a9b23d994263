"""Generators and image networks: the laws they generate, convolutions against the compiler's, kinds by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.critics.networks import MLP
from estimators.rooms import names
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator
from fgan.data.sources import load
from fgan.models.model import build
from fgan.models.players import InPrecision
from fgan.networks.critics import CRITICS
from fgan.networks.generators import GENERATORS, Affine, Bounded, Convolved, LocationScale, factor
from fgan.networks.images import (
    THIN,
    Doubling,
    Halving,
    ImageCritic,
    ImageGenerator,
    convolve,
    convolve_transposed,
    depth_to_space,
    space_to_depth,
)

KEY = jax.random.key(0)


def convolution(x, kernel, stride, pad, **dilated):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), **dilated
    )


def test_halving_is_the_convolution_of_four_by_four_windows():
    network, x = Halving(5), jax.random.normal(KEY, (2, 6, 8, 3))
    y, weights = network.init_with_output(KEY, x)
    blocks = weights["params"]["kernel"].reshape(2, 2, 2, 2, 3, 5)  # block, then pixel within it
    kernel = blocks.transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, 3, 5)
    np.testing.assert_allclose(y, convolution(x, kernel, 2, 1), atol=1e-5)


def test_doubling_is_the_transposed_convolution_of_four_by_four_windows():
    network, x = Doubling(5), jax.random.normal(KEY, (2, 6, 7, 3))
    y, weights = network.init_with_output(KEY, x)
    blocks = weights["params"]["kernel"][::-1, ::-1].reshape(2, 2, 3, 2, 2, 5)[..., ::-1, ::-1, :]
    kernel = blocks.transpose(0, 3, 1, 4, 2, 5).reshape(4, 4, 3, 5)
    np.testing.assert_allclose(y, convolution(x, kernel, 1, 2, lhs_dilation=(2, 2)), atol=1e-5)


@pytest.mark.parametrize("network", [Halving(4), Doubling(4)], ids=["halving", "doubling"])
@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_each_platform_convolves_its_own_way(network, platform):
    x = jnp.ones((2, 8, 8, 3))
    lowered = jax.jit(network.apply).trace(network.init(KEY, x), x).lower(lowering_platforms=(platform,))
    assert ("stablehlo.convolution" in lowered.as_text()) == (platform != "cpu")


@pytest.mark.parametrize("channels", [THIN - 1, THIN])
@pytest.mark.parametrize("function", [convolve, convolve_transposed])
def test_both_ways_to_convolve_agree(function, channels, monkeypatch):
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape)) for shape in ((2, 5, 6, channels), (2, 2, channels, 4)))
    by_product = function(x, kernel)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments))
    np.testing.assert_allclose(by_product, function(x, kernel), atol=1e-5)


def test_blocks_to_channels_and_back():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 8, 5)))
    np.testing.assert_array_equal(depth_to_space(space_to_depth(x)), x)


def test_depth_to_space_makes_two_by_two_blocks():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 20))
    y = np.asarray(depth_to_space(jnp.asarray(x)))
    assert y.shape == (2, 6, 8, 5)
    for a in (0, 1):
        for b in (0, 1):
            np.testing.assert_array_equal(y[:, a::2, b::2], x[..., 5 * (2 * a + b) :][..., :5].astype(y.dtype))


def test_image_networks_take_and_return_rows():
    for side in (4, 8, 28):
        generator, critic = ImageGenerator(side, (6, 4)), ImageCritic(side, (4, 6))
        x, _ = jax.eval_shape(generator.init_with_output, KEY, jnp.zeros((3, 5)))
        v, _ = jax.eval_shape(critic.init_with_output, KEY, x)
        assert (x.shape, v.shape) == ((3, side**2), (3,))


def test_generated_images_lie_between_minus_one_and_one():
    network, z = ImageGenerator(8, (6, 4)), 100.0 * jax.random.normal(KEY, (3, 5))
    x, _ = jax.jit(network.init_with_output)(KEY, z)
    assert float(jnp.abs(x).max()) <= 1.0 and float(jnp.ptp(x)) > 0.1 and not np.allclose(x[0], x[1])


def test_an_image_critic_sees_every_pixel_and_one_image_at_a_time():
    network, x = ImageCritic(8, (4, 6)), jax.random.normal(KEY, (3, 64))

    @jax.jit
    def second(x):
        weights = network.init(KEY, x)
        return jax.grad(lambda x: network.apply(weights, x)[1])(x)

    gradient = np.asarray(second(x))
    assert gradient[1].all() and not gradient[[0, 2]].any()


def test_bounded_rows_lie_between_minus_one_and_one():
    network = Bounded((8,), "relu", 3)
    x = network.apply(network.init(KEY, jnp.zeros((1, 2))), 50.0 * jax.random.normal(KEY, (100, 2)))
    assert x.shape == (100, 3) and float(jnp.abs(x).max()) <= 1.0


def test_location_scale_is_mu_plus_sigma_z():
    network = LocationScale((-2.0, 0.5))
    z = jnp.linspace(-3.0, 3.0, 7)[:, None]
    np.testing.assert_allclose(network.apply(network.init(KEY, z), z), -2.0 + 0.5 * z, rtol=1e-6)


def test_affine_generates_the_gaussian_of_its_parameters():
    """Mean μ and covariance LLᵀ, exactly on unit vectors and by the Wishart standard errors on samples."""
    covariance, mu = np.array([[2.0, -0.6, 0.1], [-0.6, 0.5, 0.2], [0.1, 0.2, 0.8]]), np.array([1.0, -2.0, 0.5])
    cholesky = np.linalg.cholesky(covariance)
    root = np.tril(cholesky, -1) + np.diag(np.log(np.diagonal(cholesky)))
    np.testing.assert_allclose(factor(jnp.asarray(root)), cholesky, rtol=1e-6)
    network, parameters = Affine(3), {"params": {"mu": jnp.asarray(mu), "root": jnp.asarray(root)}}
    assert jax.tree.map(jnp.shape, network.init(KEY, jnp.zeros((1, 3)))) == jax.tree.map(jnp.shape, parameters)
    np.testing.assert_allclose(network.apply(parameters, jnp.eye(3)), mu + cholesky.T, rtol=1e-5)
    n = 20_000
    x = np.asarray(network.apply(parameters, jax.random.normal(KEY, (n, 3))))
    variances = np.diagonal(covariance)
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert np.all(np.abs(np.cov(x.T) - covariance) <= 4.0 * error)
    assert np.all(np.abs(x.mean(0) - mu) <= 4.0 * np.sqrt(variances / n))


@pytest.mark.parametrize("scale", [-3.0, 0.0, 3.0])
def test_every_root_is_a_covariance(scale):
    lower = np.asarray(factor(scale * jax.random.normal(KEY, (4, 4))))
    assert np.all(np.diagonal(lower) > 0.0) and np.array_equal(lower, np.tril(lower))


def test_a_convolved_generator_is_its_network_plus_gaussian_noise():
    """x − m(z₁) = A z₂ whatever z₁ is: the noise has one covariance, AAᵀ, everywhere."""
    network = MLP((6,), "tanh", 3)
    convolved = Convolved(network, 2, 3)
    weights = convolved.init(KEY, jnp.zeros((1, 6)))
    a = np.asarray(weights["params"]["Dense_0"]["kernel"])
    inner = {"params": weights["params"]["network"]}
    noise = jax.random.normal(jax.random.fold_in(KEY, 1), (9, 2))
    for z in jax.random.normal(KEY, (2, 1, 4)):
        x = convolved.apply(weights, jnp.concatenate([jnp.tile(z, (9, 1)), noise], axis=1))
        np.testing.assert_allclose(x - network.apply(inner, z), noise @ a, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width, start", [(2, 0.1), (300, 0.1), (300, 0.4)])
def test_the_linear_part_starts_at_the_deviation_asked_for(width, start):
    """Its entries are draws, so the deviation over 600 coordinates is right to five standard errors, 1/√(2·600·w)."""
    generator = Generator(linear=width, linear_start=start)
    convolved = GENERATORS["mlp"](generator, dataclasses.replace(RING, dim=600))
    weights = convolved.init(KEY, jnp.zeros((1, generator.latent + width)))
    a = np.sqrt(2.0 / width) * weights["params"]["Dense_0"]["kernel"]
    assert np.sqrt(np.mean(np.sum(a**2, axis=0))) == pytest.approx(start, rel=5 / np.sqrt(1200 * width))


def test_in_precision_computes_in_its_type_and_answers_in_that_of_its_inputs():
    network = MLP((8,), "tanh", 3)
    narrow = InPrecision(network, jnp.dtype("bfloat16"))
    x = jax.random.normal(KEY, (5, 2))
    weights = narrow.init(KEY, x)
    for ours, plain in zip(*map(jax.tree.leaves, (weights, network.init(KEY, x)))):
        np.testing.assert_array_equal(ours, plain)
    y = narrow.apply(weights, x)
    rounded = network.apply(*jax.tree.map(lambda a: a.astype(jnp.bfloat16), (weights, x)))
    assert y.dtype == x.dtype and rounded.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, rounded.astype(x.dtype))


# --- kinds ------------------------------------------------------------------------------------------------------------

RING = load(Data(name="ring"))
SQUARES = dataclasses.replace(RING, dim=64, side=8)


@pytest.mark.parametrize(
    "generator, data, kind",
    [
        (Generator(), RING, MLP),
        (Generator(linear=2), RING, Convolved),
        (Generator(), SQUARES, Bounded),
        (Generator(kind="image", features=(6, 4)), SQUARES, ImageGenerator),
        (Generator(kind="location_scale", latent=1), dataclasses.replace(RING, dim=1), LocationScale),
    ],
)
def test_the_generator_of_a_kind_generates_points_of_the_data(generator, data, kind):
    network = GENERATORS[generator.kind](generator, data)
    z = jnp.zeros((3, generator.latent + generator.linear))
    assert isinstance(network, kind)
    assert jax.eval_shape(network.init_with_output, KEY, z)[0].shape == (3, data.dim)


@pytest.mark.parametrize("critic, kind", [(Critic(), MLP), (Critic(kind="image", features=(4, 6)), ImageCritic)])
def test_the_critic_of_a_kind_gives_each_point_a_number(critic, kind):
    network = CRITICS[critic.kind](critic, SQUARES)
    assert isinstance(network, kind)
    assert jax.eval_shape(network.init_with_output, KEY, jnp.zeros((3, 64)))[0].shape == (3,)


@pytest.mark.parametrize("kind, data", [("image", SQUARES), ("mlp", SQUARES), ("location_scale", RING)])
def test_a_linear_path_is_refused_where_nothing_takes_it(kind, data):
    with pytest.raises(ConfigError, match=r"generator.linear = 2: only an mlp"):
        GENERATORS[kind](Generator(kind=kind, latent=1, linear=2, features=(6, 4)), data)


def test_a_kind_of_network_is_one_entry_of_its_table(monkeypatch):
    """A linear generator and a linear critic, by name, in a model that takes a step."""
    monkeypatch.setitem(GENERATORS, "linear", lambda generator, data: MLP((), width_out=data.dim))
    monkeypatch.setitem(CRITICS, "linear", lambda critic, data: MLP(()))
    assert "linear" in names("fgan.networks.generators:GENERATORS") and "linear" in names(
        "fgan.networks.critics:CRITICS"
    )
    model = build(Config(batch=8, generator=Generator(kind="linear"), critic=Critic(kind="linear")), RING)
    state, metrics = jax.eval_shape(lambda key: model.step(key, model.init(key), jnp.zeros((1, 8, 2))), KEY)
    assert [x.shape for x in jax.tree.leaves(state.generator)] == [(2,), (2, 2)] and "bound" in metrics

"""Residual image networks: their convolutions, their resampling, how they begin, and that they train."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fgan.config.fields import ConfigError
from fgan.config.schema import Critic, Generator, replace
from fgan.config.toml import from_toml
from fgan.data.dataset import Dataset
from fgan.networks.convolutions import convolve_same, doubled, halved
from fgan.networks.critics import CRITICS
from fgan.networks.generators import GENERATORS
from fgan.networks.residual import ResidualBlock, ResidualCritic, ResidualGenerator
from fgan.run.loop import train

KEY = jax.random.key(11)
ROUNDING = 1e-5
"""float32: sums of some hundred products near 1 in another order."""


def normal(i: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def compiled(x, kernel, groups):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )


@pytest.mark.parametrize("groups", [1, 3])
def test_the_product_is_the_convolution_with_both_gradients(groups):
    x, kernel, weight = normal(0, 2, 5, 4, 6), normal(1, 3, 3, 6 // groups, 9), normal(2, 2, 5, 4, 9)

    @partial(jax.jit, static_argnums=2)
    def all_of(x, kernel, convolve):
        def loss(x, kernel):
            return jnp.sum(jnp.sin(convolve(x, kernel)) * weight)

        def slope(x, kernel):  # as gradient penalties have it
            return jnp.sum(jax.grad(loss)(x, kernel) ** 2)

        return convolve(x, kernel), jax.grad(loss, (0, 1))(x, kernel), jax.grad(slope, (0, 1))(x, kernel)

    ours, wanted = (all_of(x, kernel, f) for f in (convolve_same, partial(compiled, groups=groups)))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.0, atol=ROUNDING * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize("resample, size", [(doubled, 12), (halved, 3)])
def test_interpolation_partitions_unity_and_keeps_lines(resample, size):
    """Constants stay, edges included; a straight slope stays one away from the edges."""
    np.testing.assert_allclose(resample(jnp.ones((1, 6, 6, 2))), np.ones((1, size, size, 2)), rtol=1e-6)
    along = jnp.broadcast_to((jnp.arange(6.0) + 0.5)[None, :, None, None], (1, 6, 6, 1))
    wanted = (np.arange(size) + 0.5) * 6 / size
    np.testing.assert_allclose(resample(along)[0, 1:-1, 0, 0], wanted[1:-1], rtol=1e-6)
    np.testing.assert_allclose(resample(along.swapaxes(1, 2))[0, 0, 1:-1, 0], wanted[1:-1], rtol=1e-6)


def test_halving_is_the_transpose_of_doubling_inside():
    """⟨halved(y), x⟩ = ¼⟨y, doubled(x)⟩ for x that are 0 at the edges, up to what falls on them."""
    x = jnp.zeros((1, 6, 6, 1)).at[:, 1:-1, 1:-1].set(normal(3, 1, 4, 4, 1))
    y = jnp.zeros((1, 12, 12, 1)).at[:, 1:-1, 1:-1].set(normal(4, 1, 10, 10, 1))
    np.testing.assert_allclose(jnp.sum(halved(y) * x), 0.25 * jnp.sum(y * doubled(x)), rtol=1e-5)


@pytest.mark.parametrize("group", [0, 4])
def test_a_block_begins_as_the_identity_and_can_leave_it(group):
    block, x = ResidualBlock(depth=4, group=group), normal(5, 3, 4, 4, 8)
    parameters = block.init(KEY, x)
    np.testing.assert_array_equal(block.apply(parameters, x), x)
    slope = jax.grad(lambda p: jnp.sum(block.apply(p, x) ** 2))(parameters)
    assert float(jnp.abs(slope["params"]["Dense_1"]["kernel"]).max()) > 0.0
    assert parameters["params"]["kernel"].shape == ((3, 3, 4, 16) if group else (3, 3, 4, 4))


def test_deeper_networks_begin_with_smaller_blocks():
    """√(16/1) in depth is a factor of 16^(1/4) = 2 in the deviation of both layers."""
    x = normal(6, 1, 4, 4, 64)
    shallow, deep = (ResidualBlock(depth=d, group=16).init(KEY, x)["params"] for d in (1, 16))
    for a, b in ((shallow["kernel"], deep["kernel"]), (shallow["Dense_0"]["kernel"], deep["Dense_0"]["kernel"])):
        np.testing.assert_allclose(a, 2.0 * b, rtol=1e-5)


WIDTHS = {8: (6, 4), 28: (8, 6, 4), 33: (4,)}
"""Side → the generator's widths: to 2 × 2, by way of 32 to 4 × 4, and by way of 34 to 17 × 17."""


@pytest.mark.parametrize("side", WIDTHS)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_range(side, channels):
    widths, z = WIDTHS[side], 30.0 * normal(7, 3, 5)
    generator = ResidualGenerator(side, widths, channels=channels)
    images, _ = jax.jit(generator.init_with_output)(KEY, z)
    assert images.shape == (3, side * side * channels)
    assert np.isfinite(images).all() and np.abs(images).max() <= 1.0
    critic = ResidualCritic(side, widths[::-1], channels=channels)
    v, parameters = jax.jit(critic.init_with_output)(KEY, images)
    assert v.shape == (3,) and np.isfinite(v).all()
    low = -(-side // 2 ** len(widths))
    assert parameters["params"]["basis"].shape == (low, low, widths[0])


def test_the_critic_treats_each_point_alone_and_bends():
    critic, x = ResidualCritic(8, (4, 6), blocks=2, group=2), normal(8, 6, 64)
    parameters = jax.tree.map(lambda p: p + 0.1, critic.init(KEY, x))  # off the linear start
    apply = jax.jit(critic.apply)
    v = apply(parameters, x)
    np.testing.assert_allclose(apply(parameters, x[::-1])[::-1], v, rtol=1e-4, atol=1e-5)
    changed = apply(parameters, x.at[0].add(1.0))
    np.testing.assert_allclose(changed[1:], v[1:], rtol=1e-4, atol=1e-5)
    assert abs(float(changed[0] - v[0])) > 1e-3
    assert np.abs(changed[0] + apply(parameters, x.at[0].add(-1.0))[0] - 2 * v[0]) > 1e-4


def test_blocks_and_scales_count():
    """`blocks` a scale: each is one kernel of 3 × 3."""
    counted = {(2, (4, 4)): 4, (1, (4, 4, 4)): 3, (3, (4,)): 3}
    for (blocks, widths), wanted in counted.items():
        network = ResidualGenerator(8, widths, blocks=blocks)
        shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 3)))
        assert sum(name.startswith("ResidualBlock") for name in shapes["params"]) == wanted


SQUARES = Dataset(
    name="squares",
    dim=64,
    side=8,
    rows=np.zeros((0, 64), np.float32),
    held_out=np.zeros((0, 64), np.float32),
    offset=np.zeros(64),
    scale=np.ones(64),
)


def test_the_config_names_them():
    g = Generator(kind="residual", features=(8, 4), nonlinearity="silu", blocks=2, group=4)
    made = GENERATORS["residual"](g, SQUARES)
    assert made == ResidualGenerator(8, (8, 4), "silu", 1, 2, 4)
    c = Critic(kind="residual", features=(4, 8), nonlinearity="leaky_relu")
    assert CRITICS["residual"](c, SQUARES) == ResidualCritic(8, (4, 8), "leaky_relu", 1, 1, 0)


@pytest.mark.parametrize(
    ("changes", "data", "said"),
    [
        ({"group": 3}, SQUARES, "group = 3: must divide twice each width"),
        ({"features": (4, 4, 4, 4)}, SQUARES, "can be halved 3 times"),
        ({}, dataclasses.replace(SQUARES, side=0), "needs images"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, data, said):
    for group, table in ((Generator, GENERATORS), (Critic, CRITICS)):
        with pytest.raises(ConfigError, match=said):
            table["residual"](dataclasses.replace(group(kind="residual", features=(8, 4)), **changes), data)


CONFIG = from_toml(
    """
    steps = 2
    batch = 8
    divergence = "kl"
    data.name = "digits_8x8"
    log = {every = 2, evaluate = 2, checkpoint = 2, samples = 8}
    game.normalise = true
    penalty = {names = ["scaled_r1_r2"], weight = 0.5}
    generator = {kind = "residual", features = [8, 4], nonlinearity = "leaky_relu", latent = 4, average = 0.9}
    critic = {kind = "residual", features = [4, 8], nonlinearity = "leaky_relu", output_bound = 2.0}
    """
)


@pytest.mark.parametrize(
    ("compute", "widths"), [pytest.param("float32", (8, 4), marks=pytest.mark.slow), ("bfloat16", (4,))]
)
def test_two_steps_by_the_config(compute, widths, tmp_path, monkeypatch):
    from fgan.run import pictures
    from fgan.scores import evaluation

    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    monkeypatch.setattr(evaluation, "scorer_for", lambda *_: lambda samples, state: {"largest": float(samples.max())})
    changes = {"compute": compute, "generator.features": widths, "critic.features": widths[::-1]}
    outcome = train(replace(CONFIG, changes), tmp_path / "run", quiet=True)
    assert outcome.step == 2 and outcome.scores[0]["largest"] <= 1.0

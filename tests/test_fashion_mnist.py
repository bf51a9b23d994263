"""Fashion-MNIST by name: of Debian's package, of a folder, or a line that says how to get it."""

import gzip
import struct

import numpy as np
import pytest
from test_arrays import refusal

from fgan.config.schema import Data
from fgan.data import sources
from fgan.data.sources import load

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)


@pytest.fixture
def package(tmp_path):
    for subset, images in (("train", IMAGES[:15]), ("t10k", IMAGES[15:])):
        header = struct.pack(">BBBBiii", 0, 0, 8, 3, *images.shape)
        (tmp_path / f"{subset}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = np.arange(len(images), dtype=np.uint8) % 10
        header = struct.pack(">BBBBi", 0, 0, 8, 1, len(labels))
        (tmp_path / f"{subset}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes()))
    return tmp_path


@pytest.mark.parametrize("named", [True, False])
def test_it_is_read_where_it_lies(package, monkeypatch, named):
    monkeypatch.setattr(sources, "FASHION", package / "nothing" if named else package)
    data = load(Data(name="fashion_mnist", path=str(package) if named else ""))
    assert data.name == "fashion_mnist" and data.rows.shape == (15, 784) and data.held_out.shape == (5, 784)
    assert {row.tobytes() for row in data.rows.stored} == {image.tobytes() for image in IMAGES[:15]}


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FASHION", tmp_path / "nothing")
    refusal(lambda: load(Data(name="fashion_mnist")), "apt install dataset-fashion-mnist", "--data.path")

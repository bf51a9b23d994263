"""Many pictures are decoded once, by several processes, into a file that is whole or not there."""

import os
import shutil

import numpy as np
import pytest
from test_arrays import refusal
from test_picture_files import COLOUR, folder, read, truncated

from fgan.config.schema import Data
from fgan.data import decoding, picture_cache, squares
from fgan.data.images import own_images, read_stack
from fgan.data.stored_rows import StoredRows


@pytest.fixture
def few_are_many(monkeypatch, tmp_path):
    """700 bytes are large, four pictures are several, and decoded ones lie in a folder of their own: that folder."""
    monkeypatch.setattr(squares, "LARGE", 700)
    monkeypatch.setattr(decoding, "SEVERAL", 4)
    monkeypatch.setattr(decoding, "cores", lambda: 1)
    monkeypatch.setattr("fgan.data.picture_blocks.LENGTH", 5)
    monkeypatch.setenv("FGAN_PICTURE_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def undecoded(monkeypatch):
    """After this, nothing may be decoded."""

    def forbid():
        for name in ("look", "into_file", "in_memory"):
            monkeypatch.setattr(decoding, name, lambda *_: pytest.fail("decoded again"))

    return forbid


def rows(kept):
    return sorted(path.name for path in kept.iterdir() if path.suffix != ".lock")


def test_they_are_decoded_once(few_are_many, tmp_path, undecoded, monkeypatch):
    monkeypatch.setattr(decoding, "cores", lambda: 2)
    at = folder(tmp_path / "data")
    truncated("JPEG")(at / "05x.jpg")
    refusal(lambda: read(at, side=8), "05x.jpg", "damaged", "--data.broken skip")
    assert rows(few_are_many) == []  # neither a file nor a draft
    first = read(at, side=8, broken="skip")
    assert isinstance(first.train.images, StoredRows)
    (name,) = rows(few_are_many)
    assert any(name in note and "decoded once" in note for note in first.notes)
    undecoded()
    again = read(at, side=8, broken="skip")
    for found in (first, again):
        assert found.train.images.shape == (12, 8, 8, 3)
        assert any("1 of 13 pictures left out: 05x.jpg" in note for note in found.notes)
    np.testing.assert_array_equal(first.train.images[:], again.train.images[:])


def test_they_are_those_that_memory_would_hold(few_are_many, tmp_path, monkeypatch):
    folder(tmp_path / "data" / "train" / "a", COLOUR[:8])
    folder(tmp_path / "data" / "train" / "b", COLOUR[8:])
    folder(tmp_path / "data" / "test" / "a", 255 - COLOUR)
    data = Data(name="images", path=str(tmp_path / "data"))
    stored = own_images(data)
    monkeypatch.setattr(squares, "LARGE", 1 << 28)
    held = own_images(data)
    assert isinstance(stored.rows.stored, StoredRows) and isinstance(held.rows.stored, np.ndarray)
    assert stored.fingerprint() == held.fingerprint()
    np.testing.assert_array_equal(stored.labels, held.labels)
    np.testing.assert_array_equal(np.asarray(stored.held_out), np.asarray(held.held_out))
    for one, other in ((stored.reference(5), held.reference(5)), (stored.judges(5), held.judges(5))):
        np.testing.assert_array_equal(one, other)


def test_other_pictures_or_settings_are_decoded_anew(few_are_many, tmp_path):
    at = folder(tmp_path / "data")
    read(at)
    read(at, side=8)
    read(at, side=8, colour="grey")
    assert len(rows(few_are_many)) == 3
    folder(at, 255 - COLOUR)
    for path in at.iterdir():
        os.utime(path, (1, 1))
    np.testing.assert_array_equal(read(at).train.images[:], 255 - COLOUR)
    assert len(rows(few_are_many)) == 4


@pytest.mark.parametrize("damage", ["byte", "cut off", "longer", "empty", "garbage"])
def test_a_damaged_file_is_made_again(few_are_many, tmp_path, damage):
    at = folder(tmp_path / "data")
    read(at)
    (name,) = rows(few_are_many)
    whole = (few_are_many / name).read_bytes()
    changed = bytearray(whole)
    changed[100] ^= 1
    broken = {"byte": bytes(changed), "cut off": whole[:-1], "longer": whole + b"x", "empty": b"", "garbage": b"x" * 99}
    (few_are_many / name).write_bytes(broken[damage])
    np.testing.assert_array_equal(read(at).train.images[:], COLOUR)
    assert (few_are_many / name).read_bytes() == whole


def test_no_room_is_said_before_anything_is_decoded(few_are_many, tmp_path, monkeypatch):
    at = folder(tmp_path / "data")
    usage = shutil.disk_usage(tmp_path)._replace(free=picture_cache.ROOM)
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(decoding, "into_file", lambda *_: pytest.fail("decoded"))
    refusal(lambda: read(at), "kept", "do not fit", "FGAN_PICTURE_CACHE=DIR")


def test_a_file_in_the_way_is_said(few_are_many, tmp_path):
    few_are_many.write_text("")
    refusal(lambda: read(folder(tmp_path / "data")), "kept", "name a folder", "FGAN_PICTURE_CACHE=DIR")


def test_a_process_that_dies_is_said(few_are_many, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding.sys, "executable", "/bin/true")
    refusal(lambda: read(folder(tmp_path / "data")), "ended early (exit status 0)")
    assert not few_are_many.exists() or rows(few_are_many) == []


def test_parquet_is_decoded_by_processes_too(few_are_many, tmp_path):
    pytest.importorskip("pyarrow")
    from test_parquet_images import PICTURES, PIXELS, write
    from test_parquet_images import read as read_table

    path = write(tmp_path / "x.parquet", PICTURES, np.arange(30))
    found = read_table(path)
    assert isinstance(found.train.images, StoredRows)
    np.testing.assert_array_equal(found.train.images[:], PIXELS)
    path.write_bytes(bytes(2000) + path.read_bytes()[2000:])
    refusal(lambda: read_table(path), "x.parquet", "copy or save it again")


def test_large_stacks_stay_in_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr("fgan.data.images.LARGE", 1000)
    np.save(tmp_path / "x.npy", COLOUR)
    np.save(tmp_path / "small.npy", COLOUR[:10, :4, :4, 0])
    train, *_ = read_stack(tmp_path / "x.npy")
    assert isinstance(train.images, StoredRows)
    np.testing.assert_array_equal(train.images[:], COLOUR)
    assert type(read_stack(tmp_path / "small.npy").train.images) is np.ndarray


def test_few_are_held_out_of_very_many(tmp_path, monkeypatch):
    monkeypatch.setattr("fgan.data.images.MOST_HELD_OUT", 1)
    np.save(tmp_path / "x.npy", COLOUR)
    data = own_images(Data(name="images", path=str(tmp_path / "x.npy")))
    assert len(data.held_out) == 1 and len(data.rows) == 11 and any("1 of the training" in note for note in data.notes)


def test_a_link_to_nothing_is_a_broken_picture(few_are_many, tmp_path):
    at = folder(tmp_path / "data")
    (at / "gone.png").symlink_to(tmp_path / "nothing.png")
    refusal(lambda: read(at, side=8), "gone.png", "--data.broken skip")
    found = read(at, side=8, broken="skip")
    assert found.train.images.shape == (12, 8, 8, 3) and any("gone.png" in note for note in found.notes)

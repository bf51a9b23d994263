"""Pictures in Parquet: columns, shards, labels, held-out files, and what is refused or left out."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_arrays import refusal

from fgan.config.schema import Data
from fgan.data import picture_blocks
from fgan.data.images import own_images
from fgan.data.parquet_images import parquet_files, read_parquet_images

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 9, 9, 3), np.uint8)


def encoded(pixels: np.ndarray, format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


PICTURES = [encoded(pixels) for pixels in PIXELS]


def write(path: Path, pictures, labels=None, *, name: str = "image", structs: bool = True, group: int = 7) -> Path:
    """A table as Hugging Face writes it: structs {bytes, path}, or the bytes alone."""
    cells = [{"bytes": one, "path": f"{i}.png"} for i, one in enumerate(pictures)] if structs else list(pictures)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if structs else pa.binary()
    columns = {name: pa.array(cells, kind)} | ({} if labels is None else {"label": pa.array(labels, pa.int64())})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def read(at: Path, **options):
    return read_parquet_images(parquet_files(at), Data(name="images", path=str(at), **options))


@pytest.mark.parametrize("structs", [True, False], ids=["structs", "bytes"])
@pytest.mark.parametrize("length", [3, 256])
def test_pictures_and_labels_come_in_order(tmp_path, monkeypatch, structs, length):
    """Over row groups, and over blocks that end within one."""
    monkeypatch.setattr(picture_blocks, "LENGTH", length)
    monkeypatch.setattr("fgan.data.parquet_images.LENGTH", length)
    labels = np.arange(30) % 3 + 1
    train, test, notes = read(write(tmp_path / "x.parquet", PICTURES, labels, structs=structs))
    np.testing.assert_array_equal(train.images, PIXELS)
    np.testing.assert_array_equal(train.labels, labels)
    assert test is None and "30 pictures" in notes[0] and "9 × 9" in notes[0] and "3 classes" in notes[1]


def test_shards_are_one_set_and_test_shards_are_held_out(tmp_path):
    for k in range(2):
        rows = slice(10 * k, 10 * k + 10)
        write(tmp_path / "data" / f"train-0000{k}-of-00002.parquet", PICTURES[rows], np.arange(10))
    write(tmp_path / "data" / "test-00000-of-00001.parquet", PICTURES[20:], np.arange(10))
    data = own_images(Data(name="images", path=str(tmp_path)))
    assert data.rows.shape == (20, 243) and data.held_out.shape == (10, 243)
    known = {pixels.tobytes(): i % 10 for i, pixels in enumerate(PIXELS)}
    for rows, labels in ((data.rows, data.labels), (data.held_out, data.held_out_labels)):
        assert [known[row.tobytes()] for row in rows.stored] == labels.tolist()


def test_shards_beside_training_and_test_shards_are_refused(tmp_path):
    for name in ("train-0.parquet", "test-0.parquet", "other.parquet"):
        write(tmp_path / name, PICTURES)
    refusal(lambda: read(tmp_path), "other.parquet", "beside files of training and test pictures", "move it")


def test_without_labels(tmp_path):
    train, _, notes = read(write(tmp_path / "x.parquet", PICTURES))
    assert train.labels is None and any("no column of whole numbers" in note for note in notes)
    train, _, notes = read(write(tmp_path / "x.parquet", PICTURES, np.full(30, -1)))
    assert train.labels is None and any("negative" in note for note in notes)


def test_labels_of_some_shards_only_are_refused(tmp_path):
    write(tmp_path / "a.parquet", PICTURES[:15], np.arange(15))
    write(tmp_path / "b.parquet", PICTURES[15:])
    refusal(lambda: read(tmp_path), "b.parquet", "no labels", "drop that column")
    write(tmp_path / "b.parquet", PICTURES[15:], [None, *range(14)])
    refusal(lambda: read(tmp_path), "b.parquet", "1 empty cells in column label")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (PICTURES[0][:-40], "damaged"),
        (b"", "empty; remove it"),
        (b"no picture", "not in the format"),
        (None, "no bytes of a picture"),
        (encoded(PIXELS[0].astype(np.uint16)[..., 0] * 257), "8 bits"),
        (encoded(np.concatenate([PIXELS[0], PIXELS[0][..., :1]], axis=-1)), "transparent"),
    ],
    ids=["truncated", "empty", "text", "missing", "sixteen bits", "alpha"],
)
def test_what_cannot_be_used_is_named_or_left_out(tmp_path, cell, said):
    labels = np.arange(31)
    path = write(tmp_path / "x.parquet", [*PICTURES[:12], cell, *PICTURES[12:]], labels)
    refusal(lambda: read(path), "x.parquet, row 12", said, "--data.broken skip")
    train, _, notes = read(path, broken="skip")
    np.testing.assert_array_equal(train.images, PIXELS)
    np.testing.assert_array_equal(train.labels, np.delete(labels, 12))
    assert any("1 of 31 pictures left out: x.parquet, row 12" in note for note in notes)


def test_a_row_without_a_struct_is_one_without_bytes(tmp_path):
    kind = pa.struct([("path", pa.string()), ("bytes", pa.binary())])  # the other order, too
    cells = [{"bytes": one, "path": None} for one in PICTURES] + [None]
    pq.write_table(pa.table({"picture": pa.array(cells, kind)}), tmp_path / "x.parquet")
    refusal(lambda: read(tmp_path / "x.parquet"), "row 30", "no bytes of a picture")
    assert len(read(tmp_path / "x.parquet", broken="skip").train.images) == 30


def test_sizes_become_one(tmp_path):
    path = write(tmp_path / "x.parquet", [*PICTURES, encoded(PIXELS[0][:7, :7])])
    refusal(lambda: read(path), "2 sizes", "x.parquet, row 30", "--data.side")
    assert read(path, side=8).train.images.shape == (31, 8, 8, 3)


def test_several_columns_of_bytes_need_a_name(tmp_path):
    table = pa.table({"left": PICTURES, "right": [encoded(255 - pixels) for pixels in PIXELS], "size": [1.0] * 30})
    pq.write_table(table, tmp_path / "x.parquet")
    refusal(lambda: read(tmp_path), "2 columns of bytes", "--data.key left")
    refusal(lambda: read(tmp_path, key="middle"), "no column middle", "left (binary), right (binary), size (double)")
    np.testing.assert_array_equal(read(tmp_path, key="right").train.images, 255 - PIXELS)


def test_tables_without_pictures_are_refused(tmp_path):
    pq.write_table(pa.table({"x": [1.0] * 30}), tmp_path / "x.parquet")
    refusal(lambda: read(tmp_path), "x.parquet", "no column of pictures", "x (double)")
    refusal(lambda: read(write(tmp_path / "x.parquet", PICTURES[:9])), "only 9 pictures", "10")


@pytest.mark.parametrize("damage", ["no table", "cut off", "pages"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = write(tmp_path / "x.parquet", PICTURES, np.arange(30))
    whole = path.read_bytes()
    broken = {"no table": b"PAR1" + bytes(50), "cut off": whole[:-50], "pages": bytes(len(whole) // 2)}[damage]
    path.write_bytes(broken + whole[len(broken) :] if damage == "pages" else broken)
    refusal(lambda: read(path), "x.parquet", "copy or save it again")


def test_a_bomb_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    table = pa.table({"image": [bytes(1 << 20)] * 40})
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    refusal(lambda: read(path), "would unpack to", "save it unpacked")


def test_without_pyarrow(tmp_path, monkeypatch):
    path = write(tmp_path / "x.parquet", PICTURES)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    refusal(lambda: read(path), "Parquet needs pyarrow", "pip install")


def test_a_missing_file(tmp_path):
    refusal(lambda: read(tmp_path / "x.parquet"), "x.parquet", "No such file")


def test_a_table_beside_pictures_is_none_of_them(tmp_path):
    """As the metadata of a folder of pictures."""
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(encoded(np.full((8, 8), 20 * i, np.uint8)))
    pq.write_table(pa.table({"caption": ["a"] * 12}), tmp_path / "metadata.parquet")
    found = own_images(Data(name="images", path=str(tmp_path)))
    assert len(found.rows) + len(found.held_out) == 12

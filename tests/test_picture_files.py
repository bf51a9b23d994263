"""Folders of pictures: what becomes an image of how many pixels, in which class, and what is refused or left out."""

import io
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from test_arrays import refusal

from fgan.config.schema import Data
from fgan.data import picture
from fgan.data.dataset import Dataset, Pixels
from fgan.data.images import own_images, read_stack
from fgan.data.picture_files import read_pictures
from fgan.data.sources import load
from fgan.networks.images import ImageCritic, ImageGenerator

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 16, 16, 3), np.uint8)
GREY = COLOUR[..., 0]


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folder(at: Path, images: np.ndarray = COLOUR, end: str = "png", **options) -> Path:
    for i, pixels in enumerate(images):
        save(at / f"{i:02d}.{end}", pixels, **options)
    return at


def read(at: Path, **options):
    return read_pictures(Data(name="images", path=str(at), **options))


@pytest.mark.parametrize("images", [COLOUR, GREY], ids=["colour", "grey"])
@pytest.mark.parametrize(("end", "options"), [("png", {}), ("PNG", {}), ("webp", {"lossless": True})])
def test_lossless_pictures_come_as_they_are(tmp_path, images, end, options):
    train, test, notes = read(folder(tmp_path, images, end, **options), colour="as_is" if end != "webp" else "rgb")
    expected = images if end != "webp" or images.ndim == 4 else np.repeat(images[..., None], 3, axis=-1)
    np.testing.assert_array_equal(train.images, expected)
    assert test is None and train.labels is None and "12 pictures" in notes[0] and "16 × 16" in notes[0]


def test_jpegs_come_as_far_as_their_compression_lets_them(tmp_path):
    ramp = np.broadcast_to(np.linspace(0, 255, 16)[:, None, None], (16, 16, 3)).astype(np.uint8)
    train, *_ = read(folder(tmp_path, np.stack([ramp] * 10), "jpg", quality=95))
    assert np.abs(train.images.astype(int) - ramp).max() <= 8


def test_a_class_is_a_folder_and_hidden_files_are_none(tmp_path):
    for i, pixels in enumerate(COLOUR):
        save(tmp_path / ("cats", "dogs/black")[i % 2] / f"{i}.png", pixels)
    save(tmp_path / ".trash" / "x.png", COLOUR[0])
    save(tmp_path / "cats" / ".x.png", COLOUR[0])
    train, _, notes = read(tmp_path)
    assert len(train.images) == 12 and any("2 classes, by folder: cats, dogs" in note for note in notes)
    np.testing.assert_array_equal(
        train.images,
        np.concatenate([COLOUR[::2], COLOUR[1::2]])[
            np.argsort([f"{k}" for k in range(0, 12, 2)]).tolist()
            + (6 + np.argsort([f"{k}" for k in range(1, 12, 2)])).tolist()
        ],
    )
    np.testing.assert_array_equal(train.labels, np.repeat([0, 1], 6))


def test_pictures_of_a_test_folder_are_held_out(tmp_path):
    for i, pixels in enumerate(COLOUR):
        save(tmp_path / "train" / f"{'ab'[i % 2]}" / f"{i:02d}.png", pixels)
    for i, pixels in enumerate(COLOUR[:4]):
        save(tmp_path / "val" / f"{'ab'[i % 2]}" / f"{i:02d}.png", 255 - pixels)
    train, test, _ = read(tmp_path)
    assert len(train.images) == 12
    np.testing.assert_array_equal(test.images, 255 - COLOUR[[0, 2, 1, 3]])
    np.testing.assert_array_equal(test.labels, [0, 0, 1, 1])


def test_sizes_become_one(tmp_path):
    wide = np.zeros((20, 40, 3), np.uint8)
    wide[:, 10:30] = 255  # the middle square is white, the rest black
    save(folder(tmp_path) / "wide.png", wide)
    refusal(lambda: read(tmp_path), "2 sizes", "16 × 16 (00.png)", "40 × 20 (wide.png)", "--data.side")
    refusal(lambda: read(tmp_path, side=16), "wide.png", "not square", "--data.fit crop")
    assert read(tmp_path, side=16, fit="crop").train.images[-1].min() > 240  # the edge is filtered
    squeezed = read(tmp_path, side=16, fit="resize").train.images[-1]
    assert squeezed[:, :3].max() < 15 and squeezed[:, 6:10].min() > 240
    np.testing.assert_array_equal(read(tmp_path, side=16, fit="crop").train.images[:12], COLOUR)


def test_grey_and_coloured_pictures_become_one_mode(tmp_path):
    save(folder(tmp_path) / "grey.png", GREY[0])
    refusal(lambda: read(tmp_path), "1 grey pictures (grey.png", "12 in colour (00.png", "--data.colour grey or rgb")
    np.testing.assert_array_equal(read(tmp_path, colour="rgb").train.images[-1], np.repeat(GREY[0][..., None], 3, -1))
    np.testing.assert_array_equal(read(tmp_path, colour="grey").train.images[-1], GREY[0])


def test_pictures_are_turned_upright_and_palettes_resolved(tmp_path):
    folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    save(tmp_path / "x.png", COLOUR[0], exif=exif)
    Image.fromarray(GREY[1] // 64 * 64).convert("P").save(tmp_path / "y.png")
    images = read(tmp_path).train.images
    np.testing.assert_array_equal(images[-2], np.rot90(COLOUR[0], -1))
    np.testing.assert_array_equal(images[-1], np.repeat((GREY[1] // 64 * 64)[..., None], 3, axis=-1))


def test_transparency_that_is_not_used_is_none(tmp_path):
    opaque = np.concatenate([COLOUR, np.full((12, 16, 16, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(read(folder(tmp_path, opaque)).train.images, COLOUR)


def sixteen_bits(path: Path) -> None:
    Image.fromarray(GREY[0].astype(np.uint16) * 257).save(path)


def transparent(path: Path) -> None:
    save(path, np.concatenate([COLOUR[0], np.full((16, 16, 1), 128, np.uint8)], axis=-1))


def animated(path: Path) -> None:
    frames = [Image.fromarray(pixels) for pixels in COLOUR[:3]]
    frames[0].save(path, save_all=True, append_images=frames[1:])


LARGE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)


def stored(format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(LARGE).save(file, format)
    return file.getvalue()


def truncated(format: str):
    return lambda path: path.write_bytes(stored(format)[:-900])


def huge(path: Path) -> None:
    Image.new("L", (10_000, 6_000)).save(path)


FAULTS = {
    "sixteen bits": (sixteen_bits, "8 bits"),
    "transparent": (transparent, "transparent in part"),
    "animated": (animated, "animated, 3 pictures in one"),
    "truncated JPEG": (truncated("JPEG"), "damaged"),
    "truncated PNG": (truncated("PNG"), "damaged"),
    "truncated WebP": (truncated("WebP"), "damaged"),
    "a TIFF": (lambda path: path.write_bytes(stored("TIFF")), "not in the format"),
    "huge": (huge, "10000 × 6000 pixels are more than 50,000,000"),
    "empty": (lambda path: path.write_bytes(b""), "empty; remove it"),
    "text": (lambda path: path.write_text("no picture"), "not in the format of .png"),
    "damaged header": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "remove it"),
}


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WebP"])
def test_damage_anywhere_makes_a_picture_unusable_or_another(tmp_path, format):
    """A byte changed, or the end cut off, raises nothing that is not caught."""
    whole, rng, refused = stored(format), np.random.default_rng(0), 0
    for i in range(40):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if i % 2 else whole)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        (tmp_path / "x.png").write_bytes(damaged)
        try:
            facts = picture.facts(tmp_path / "x.png")
            assert picture.square(tmp_path / "x.png", 8, facts.colour, "crop").shape[:2] == (8, 8)
        except picture.Unusable as fault:
            refused += "remove it" in str(fault)
    assert refused >= 5


def test_odd_orientations_turn_nothing(tmp_path, monkeypatch):
    save(folder(tmp_path) / "x.png", LARGE[:, :32])
    monkeypatch.setattr(Image.Image, "getexif", lambda self: {0x0112: "sideways"})
    assert picture.facts(tmp_path / "x.png")[:2] == (32, 64)


def test_a_second_picture_in_a_camera_s_file_is_not_read(tmp_path):
    first, second = (Image.fromarray(pixels) for pixels in COLOUR[:2])
    first.save(folder(tmp_path) / "x.jpg", "MPO", save_all=True, append_images=[second])
    assert len(read(tmp_path).train.images) == 13


def test_folders_behind_links_are_read_once(tmp_path):
    folder(tmp_path / "elsewhere", COLOUR)
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    save(tmp_path / "data" / "a" / "x.png", COLOUR[0])
    train, *_ = read(tmp_path / "data")
    assert len(train.images) == 13 and train.labels.tolist() == [0] + [1] * 12


def test_what_is_not_read_is_counted(tmp_path):
    for name in ("a.bmp", "b.BMP", "c.heic", "notes.txt"):
        (folder(tmp_path) / name).write_bytes(b"x")
    assert "not read: 2 .bmp, 1 .heic" in read(tmp_path).notes


@pytest.mark.parametrize("stray", ["masks/x.png", "x.png"])
def test_pictures_beside_training_and_test_folders_are_refused(tmp_path, stray):
    folder(tmp_path / "training")
    folder(tmp_path / "testing")
    assert len(read(tmp_path).test.images) == 12
    save(tmp_path / stray, COLOUR[0])
    refusal(lambda: read(tmp_path), "beside folders of training and test pictures", "move it elsewhere")


def test_classes_that_are_not_used_are_said(tmp_path):
    folder(tmp_path / "a")
    folder(tmp_path / "b")
    save(tmp_path / "stray.png", COLOUR[0])
    train, _, notes = read(tmp_path)
    assert train.labels is None and any("no classes" in note and "stray.png" in note for note in notes)


def test_a_class_that_is_only_held_out_is_said(tmp_path):
    for place in ("train/a", "train/b", "test/a", "test/c"):
        folder(tmp_path / place)
    assert "held out, but never trained on: c" in read(tmp_path).notes


def test_some_held_out_pictures_are_of_every_class(tmp_path):
    for place, images in (("train/a", COLOUR), ("train/b", COLOUR), ("test/a", COLOUR), ("test/b", 255 - COLOUR)):
        folder(tmp_path / place, images)
    data = own_images(Data(name="images", path=str(tmp_path)))
    chosen = {row.tobytes() for row in data.judges(8)}
    each = [{row.tobytes() for row in data.held_out[data.held_out_labels == label]} for label in (0, 1)]
    assert len(chosen) == 8 and all(chosen & rows for rows in each)


@pytest.mark.parametrize("option", [{"side": 8}, {"fit": "crop"}, {"colour": "grey"}, {"broken": "skip"}])
def test_options_of_pictures_are_refused_for_stacks(tmp_path, option):
    np.save(tmp_path / "x.npy", COLOUR)
    data = Data(name="images", path=str(tmp_path / "x.npy"), **option)
    refusal(lambda: own_images(data), f"data.{next(iter(option))} = ", "only pictures")


def test_only_images_are_mirrored_or_moved():
    refusal(lambda: load(Data(name="ring", flip=True)), "ring has no images to mirror")
    assert load(Data(name="patches", shift=2)).shift == 2


@pytest.mark.parametrize(("make", "said"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_used_is_named_or_left_out(tmp_path, make, said):
    make(folder(tmp_path) / "05x.png")
    refusal(lambda: read(tmp_path, side=16), "05x.png", said, "--data.broken skip")
    train, _, notes = read(tmp_path, side=16, broken="skip")
    np.testing.assert_array_equal(train.images, COLOUR)
    assert any("1 of 13 pictures left out: 05x.png" in note and said.split(";")[0] in note for note in notes)


def test_many_faults_are_counted(tmp_path):
    folder(tmp_path, COLOUR[:6])
    for i in range(5):
        transparent(tmp_path / f"t{i}.png")
    refusal(lambda: read(tmp_path), "t0.png", "4 more like it")
    refusal(lambda: read(tmp_path, broken="skip"), "6 of 11 pictures can be used, at least 10")


def test_too_few_pictures_are_refused(tmp_path):
    refusal(lambda: own_images(Data(name="images", path=str(folder(tmp_path, COLOUR[:9])))), "only 9 pictures", "10")
    one = str(tmp_path / "00.png")
    refusal(lambda: own_images(Data(name="images", path=one)), "00.png", "one picture", "folder")


def test_an_empty_folder_is_refused(tmp_path):
    refusal(lambda: own_images(Data(name="images", path=str(tmp_path))), "no pictures", "nothing")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_without_permission(tmp_path, what):
    locked = folder(tmp_path / "a") if what == "folder" else folder(tmp_path) / "00.png"
    folder(tmp_path / "b")
    locked.chmod(0)
    refusal(lambda: read(tmp_path), locked.name, "ermission denied", "allow reading it")
    locked.chmod(0o700)


def test_without_permission_as_the_system_says_it(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    folder(tmp_path)
    monkeypatch.setattr(picture.Image, "open", refuse)
    refusal(lambda: read(tmp_path), "00.png", "Permission denied", "allow reading it")


@pytest.mark.parametrize("side", [8, 64, 128])
def test_sides_within_reach(tmp_path, side):
    found = read(folder(tmp_path), side=side)
    assert found.train.images.shape == (12, side, side, 3)
    assert str(side) in found.notes[0]


def test_a_folder_of_other_pictures_says_what_to_do(tmp_path):
    """Animated or not, a .gif is not read; nor is a .bmp."""
    for i in range(12):
        animated(tmp_path / f"{i}.gif")
    (tmp_path / "x.bmp").write_bytes(b"x")
    refusal(
        lambda: own_images(Data(name="images", path=str(tmp_path))), "1 .bmp, 12 .gif", "not read", "save them as .png"
    )


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    """A header that promises more pixels than Pillow itself lets pass, in a few bytes."""
    Image.new("1", (20_000, 20_000)).save(folder(tmp_path) / "05x.png")
    refusal(lambda: read(tmp_path, side=16), "05x.png", "more than", "make it smaller", "--data.broken skip")
    assert len(read(tmp_path, side=16, broken="skip").train.images) == 12


@pytest.mark.parametrize("side", [2, 300])
def test_sides_out_of_reach_are_refused(tmp_path, side):
    refusal(lambda: read(folder(tmp_path), side=side), f"{side} pixels a side", "4 to 256")


@pytest.mark.parametrize("images", [COLOUR, GREY, GREY[..., None]], ids=["colour", "grey", "one channel"])
def test_stacks_are_images(tmp_path, images):
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "x.npz", images=images)
    for name in ("x.npy", "x.npz"):
        train, test, _ = read_stack(tmp_path / name)
        np.testing.assert_array_equal(train.images, images.reshape(train.images.shape))
        assert test is None and train.images.ndim == (4 if images.shape[-1] == 3 else 3)


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (COLOUR.astype(np.float32), "float32"),
        (GREY[0], "shape (16, 16)"),
        (COLOUR[:, :8], "8 × 16 pixels"),
        (COLOUR[..., :2], "shape (12, 16, 16, 2)"),
        (GREY[:9], "only 9 images"),
    ],
)
def test_other_stacks_are_refused(tmp_path, stack, said):
    np.save(tmp_path / "x.npy", stack)
    refusal(lambda: read_stack(tmp_path / "x.npy"), "x.npy", said)


# --- networks of any number of scales, images of any size and mode --------------------------------------------------


@pytest.mark.parametrize(("side", "scales", "channels"), [(28, 3, 1), (13, 2, 3)])
def test_networks_fit_every_size(side, scales, channels):
    widths = (6, 5, 4, 3)[:scales]
    generator, critic = (kind(side, widths, "leaky_relu", channels) for kind in (ImageGenerator, ImageCritic))
    key = jax.random.key(0)
    z = jax.random.normal(key, (2, 7))
    images, _ = jax.jit(generator.init_with_output)(key, z)
    assert images.shape == (2, side * side * channels) and bool((jnp.abs(images) < 1).all())
    scores, parameters = jax.jit(critic.init_with_output)(key, images)
    assert scores.shape == (2,)
    gradients = jax.jit(jax.grad(lambda x: critic.apply(parameters, x).sum()))(jax.random.normal(key, images.shape))
    assert bool((gradients != 0).all())  # no pixel is out of sight, at the edges neither


# --- what training draws ---------------------------------------------------------------------------------------------


def dataset(images: np.ndarray, **options) -> Dataset:
    rows = Pixels(images.reshape(len(images), -1))
    dim = rows.shape[1]
    return Dataset(
        name="images", dim=dim, rows=rows, held_out=rows, side=images.shape[1], offset=np.zeros(dim),
        scale=np.ones(dim), **options,
    )  # fmt: skip


def drawn(data: Dataset, n: int = 48) -> np.ndarray:
    rows = data.draw(jax.random.key(0), jnp.asarray(data.kept), n)
    assert rows.dtype == jnp.float32
    return np.round((np.asarray(rows) + 1.0) * 127.5).astype(np.uint8).reshape(n, *COLOUR.shape[1:])


def test_bytes_are_drawn_as_numbers():
    known = {image.tobytes() for image in COLOUR}
    assert {image.tobytes() for image in drawn(dataset(COLOUR))} == known


def test_a_flip_mirrors_about_half():
    straight = {image.tobytes() for image in COLOUR}
    mirrored = {image[:, ::-1].tobytes() for image in COLOUR}
    seen = [image.tobytes() for image in drawn(dataset(COLOUR, flip=True), 240)]
    count = sum(image in mirrored for image in seen)
    assert all(image in straight | mirrored for image in seen)
    assert abs(count - 120) < 5 * np.sqrt(240) / 2


def test_a_shift_moves_within_its_bound():
    wider = np.pad(COLOUR, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    moves = {(i, j): wider[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)}
    known = {image.tobytes(): move for move, images in moves.items() for image in images}
    seen = [known[image.tobytes()] for image in drawn(dataset(COLOUR, shift=2), 480)]
    assert set(seen) == set(moves)


def test_a_run_on_coloured_pictures(tmp_path, monkeypatch):
    """Three scales, odd sizes, classes, mirrored: trains, evaluates, draws, and comes back as bytes."""
    from fgan.config.schema import replace
    from fgan.config.toml import load
    from fgan.run.loop import train
    from fgan.run.members import restore

    rng = np.random.default_rng(0)
    for i in range(40):
        save(tmp_path / "data" / "ab"[i % 2] / f"{i}.png", rng.integers(0, 256, (13, 13, 3), np.uint8))
    config = load(Path(__file__).parent.parent / "configs" / "images.toml")
    small = {"features": (4, 4)}
    config = replace(config, {f"{g}.{k}": v for g in ("generator", "critic") for k, v in small.items()})
    config = replace(config, {"data.path": str(tmp_path / "data"), "data.flip": True, "batch": 4, "steps": 2})
    config = replace(config, {"log.every": 2, "log.evaluate": 2, "log.samples": 8})
    outcome = train(config, tmp_path / "run", quiet=True)
    assert outcome.step == 2 and {"class_kl", "precision"} <= set(outcome.scores[0])
    assert (tmp_path / "run" / "figures" / "samples-00000002.png").exists()
    pixels = restore(tmp_path / "run").sample(3)
    assert pixels.shape == (3, 13 * 13 * 3) and pixels.min() >= 0 and pixels.max() <= 255

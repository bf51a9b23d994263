"""Rows kept on the host: the same run, bit for bit, as with rows on the devices."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from models_for_tests import ABOUT, NAME, build
from test_arrays import refusal

from estimators.critics.kernel import drawn_in
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Log, replace
from fgan.data import host_rows
from fgan.data.dataset import Dataset, Pixels
from fgan.data.host_rows import HostRows, on_host, refuse_long
from fgan.data.sources import load
from fgan.data.stored_rows import StoredRows
from fgan.devices import engines
from fgan.models.model import MODELS
from fgan.run.directory import RunDirectory
from fgan.run.loop import Loop, train
from fgan.run.members import newest
from fgan.run.program import Program, batches, row_numbers
from fgan.run.progress import Reporter

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 6, 6), np.uint8)
BASE = Config(
    batch=16,
    seeds=2,
    steps=8,
    data=Data(name="patches", keep="device"),
    generator=Generator(features=(8,)),
    critic=Critic(features=(8,)),
    log=Log(every=4, evaluate=8, checkpoint=4, samples=8),
)
HOST = replace(BASE, {"data.keep": "host"})
TINY = replace(BASE, {"model": NAME})  # which compiles in a fraction of the time


def dataset(rows, **options) -> Dataset:
    dim = rows.shape[1]
    units = {"offset": np.full(dim, 127.5), "scale": np.full(dim, 127.5)}
    return Dataset(name="images", dim=dim, rows=rows, held_out=rows, side=6, **units, **options)


@pytest.fixture
def stored(tmp_path) -> StoredRows:
    (tmp_path / "rows").write_bytes(b"header!" + IMAGES.tobytes())
    return StoredRows.of(tmp_path / "rows", 7, IMAGES.shape)


@pytest.fixture
def images(stored):
    return {"memory": dataset(Pixels(IMAGES.reshape(96, -1))), "file": dataset(Pixels(stored.flat()))}


@pytest.fixture
def tiny(monkeypatch):
    """The tiny model, and runs that nobody judges."""
    MODELS.add(NAME, ABOUT, build)
    monkeypatch.setattr(Loop, "_judge", lambda self: None)
    yield
    MODELS.remove(NAME)


def results(run) -> tuple:
    """The lines of metrics, the newest step, and the bytes of its state."""
    *_, step, state = newest(RunDirectory.find(run))
    lines = (run / "metrics.jsonl").read_text()
    return lines, step, [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


# --- rows in a file ---------------------------------------------------------------------------------------------------


def test_rows_in_a_file_are_those_in_memory(stored):
    order = np.random.default_rng(1).permutation(96)[:90]
    taken = stored.taken(order)
    assert taken.shape == (90, 6, 6) and taken.nbytes == 90 * 36 and len(taken) == 90
    np.testing.assert_array_equal(taken[:], IMAGES[order])  # by several threads
    np.testing.assert_array_equal(taken[np.array([3, 3, 89])], IMAGES[order[[3, 3, 89]]])
    np.testing.assert_array_equal(taken.flat()[2:4], IMAGES[order[2:4]].reshape(2, -1))
    np.testing.assert_array_equal(np.asarray(Pixels(taken.flat())), np.asarray(Pixels(IMAGES[order].reshape(90, -1))))


def test_the_fingerprint_is_that_of_rows_in_memory(images, monkeypatch):
    one, other = (data.fingerprint() for data in images.values())
    assert one == other != dataset(Pixels(255 - IMAGES.reshape(96, -1))).fingerprint()


def test_a_file_that_is_removed_is_read_on_and_one_cut_off_is_refused(stored):
    path = stored.file.path
    path.rename(path.with_name("elsewhere"))
    np.testing.assert_array_equal(stored[:], IMAGES)
    with open(path.with_name("elsewhere"), "r+b") as file:
        file.truncate(7 + 36 * 95)
    refusal(lambda: stored[90:], "become shorter", "put the whole file back")


def test_a_device_is_filled_from_a_file_by_blocks(stored, monkeypatch):
    monkeypatch.setattr(engines, "BLOCK", 36 * 40)
    layout = engines.Layout(tuple(jax.devices()[:1]))
    np.testing.assert_array_equal(engines.slices(stored, layout), IMAGES)


# --- which rows, and when ---------------------------------------------------------------------------------------------


def test_the_numbers_are_those_that_steps_draw(images):
    """Rows that are their own numbers are drawn as `row_numbers` says."""
    own = np.arange(96, dtype=np.float32)[:, None]
    data = Dataset(name="own", dim=1, rows=own, held_out=own, offset=np.zeros(1), scale=np.ones(1))
    numbers = row_numbers(3, BASE, data)(np.array([5, 9], np.uint32), 7, 4)
    assert numbers.shape == (2, 4, 3, 16)
    draw = batches(3, BASE, data, own)
    for seed, of_seed in zip((5, 9), numbers):
        for i, of_step in enumerate(of_seed):
            _, batch = drawn_in(jax.random.key(seed), 7 + i, draw, lambda key: ())
            np.testing.assert_array_equal(batch[..., 0], of_step)


def test_rows_are_gathered_while_others_are_used(images):
    """The next chunk's rows come without being asked for; others than announced are right as well."""
    asked, begun = [], threading.Event()

    class Noted:
        shape = (96, 36)

        def __getitem__(self, index):
            asked.append(len(index))
            begun.set()
            return IMAGES.reshape(96, -1)[index]

    numbers = row_numbers(1, BASE, images["memory"])
    layout = engines.Layout(tuple(jax.devices()[:1]))
    host, seeds = HostRows(Noted(), numbers, layout), np.array([1, 2])
    first = host.take(seeds, 0, 4, then=2)
    assert begun.wait(10) and first.shape == (2, 4, 1, 16, 36)
    deadline = time.monotonic() + 10
    while len(asked) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert asked == [128, 64]
    for start, n in ((4, 2), (20, 4)):  # announced, and not
        found = host.take(seeds, start, n)
        wanted = IMAGES.reshape(96, -1)[np.asarray(numbers(seeds, start, n))]
        np.testing.assert_array_equal(found, wanted)
    assert asked == [128, 64, 128]


@pytest.mark.parametrize("keep", ["device", "host", "auto"])
def test_where_rows_are_kept(images, keep, monkeypatch):
    expected = {"device": (False, False), "host": (True, True), "auto": (False, True)}[keep]
    assert tuple(on_host(data, keep) for data in images.values()) == expected
    monkeypatch.setattr(engines, "memory", lambda: host_rows.SHARE * 96 * 36 - 1)
    assert on_host(images["memory"], "auto")


def test_a_known_target_has_no_rows_to_keep():
    assert not on_host(load(Data(name="ring")), "host")


def test_chunks_of_too_many_rows_are_refused(images, monkeypatch):
    refuse_long(HOST, images["file"], 2)
    monkeypatch.setattr(host_rows, "MOST", 2 * 16 * 36 * 3 + 5)
    with pytest.raises(ConfigError, match=r"lower log\.every to 3 or less"):
        Program(dataclasses.replace(HOST, seeds=2), dataclasses.replace(images["file"], name="x"))


# --- the law ----------------------------------------------------------------------------------------------------------


def steps(config: Config, data: Dataset) -> list[bytes]:
    """Every array of the state and the metrics of two seeds after two chunks of three steps."""
    program, seeds = Program(config, data), np.array([0, 7], np.uint32)
    state = program.fresh(seeds)
    for start, then in ((0, 3), (3, 0)):
        arguments = (program.given(seeds, start, 3, then), seeds, state, np.int32(start), {})
        compiled, _ = program.compiled(3, arguments, Reporter(1, quiet=True))
        state, metrics = compiled(*arguments)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, metrics))]


@pytest.mark.parametrize("options", [{}, {"flip": True, "shift": 1}], ids=["plain", "varied"])
def test_steps_are_the_same_wherever_their_rows_are(tiny, images, options):
    memory, file = (dataclasses.replace(data, **options) for data in images.values())
    expected = steps(TINY, memory)
    assert steps(replace(TINY, {"data.keep": "host"}), memory) == expected
    assert steps(replace(TINY, {"data.keep": "auto"}), file) == expected


@pytest.mark.slow
def test_steps_of_an_fgan_are_the_same_wherever_their_rows_are(images):
    assert steps(HOST, images["file"]) == steps(BASE, images["memory"])


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_steps_are_the_same_compiled_with_all_optimisations(images):
    data = dataclasses.replace(images["file"], flip=True)
    assert steps(HOST, data) == steps(BASE, data)


@pytest.mark.usefixtures("undrawn", "tiny")
def test_a_run_goes_on_with_rows_elsewhere(tmp_path, images):
    """Stopped with rows on the host, resumed with rows on the device: the bytes of the uninterrupted run."""
    host = replace(TINY, {"data.keep": "host"})
    train(host, tmp_path / "whole", quiet=True, data=images["file"])
    train(replace(host, {"steps": 4}), tmp_path / "halves", quiet=True, data=images["file"])
    train(TINY, tmp_path / "halves", quiet=True, data=images["memory"])
    (one, *state), (other, *same) = results(tmp_path / "whole"), results(tmp_path / "halves")
    assert state == same and state[0] == 8
    assert trained(one) == trained(other) and len(trained(one)) == 2
    lines = [json.loads(line) for line in (tmp_path / "whole" / "timings.jsonl").read_text().splitlines()]
    assert all(line["rows_seconds"] >= 0 for line in lines if "seconds" in line)


def trained(metrics: str) -> list[str]:
    """Lines of training, without those of evaluations, of which a run that ended early has one more."""
    return [line for line in metrics.splitlines() if "scores" not in line]


PROGRAM = """
import sys
import jax
from models_for_tests import ABOUT, NAME, build
from test_host_rows import BASE, IMAGES, dataset, steps
from fgan.config.schema import replace
from fgan.data.dataset import Pixels
from fgan.models.model import MODELS

MODELS.add(NAME, ABOUT, build)
rows = Pixels(IMAGES[:93].reshape(93, -1))  # which 8 devices cannot share evenly
data = dataset(rows, flip=True)
for how in sys.argv[1].split():
    model, engine, parameters = how.split("-")
    base = replace(BASE, {"model": model, "parallel.engine": engine, "parallel.parameters": parameters})
    device, host = (steps(replace(base, {"data.keep": keep}), data) for keep in ("device", "host"))
    assert device == host, how
print("equal", jax.device_count())
"""


def of_devices(how: str, **environment: str) -> None:
    flags = f"--xla_force_host_platform_device_count=8 {os.environ.get('XLA_FLAGS', '')}"
    here = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": here, **environment}
    ran = subprocess.run([sys.executable, "-c", PROGRAM, how], env=environment, capture_output=True, text=True)
    assert ran.stdout.split() == ["equal", "8"], ran.stderr[-2000:]


def test_eight_devices_take_the_same_steps():
    """Two seeds, rows that do not divide evenly, mirrored at random."""
    of_devices(f"{NAME}-pmap-replicated")


@pytest.mark.slow
def test_eight_devices_of_one_mesh_take_the_same_steps():
    of_devices(f"{NAME}-sharded-replicated {NAME}-sharded-sharded")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["pmap-replicated", "sharded-replicated"])
def test_eight_devices_take_the_same_steps_of_an_fgan(how):
    of_devices(f"fgan-{how}")


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_eight_devices_take_the_same_steps_compiled_with_all_optimisations():
    of_devices(f"{NAME}-pmap-replicated {NAME}-sharded-replicated")

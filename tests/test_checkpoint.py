"""A checkpoint comes back bit for bit, or not at all: damage, crashes and wrong targets are found and named."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fgan.run import checkpoint, manifest
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import RunDirectory


class State(NamedTuple):
    params: Any
    optimiser: Any
    key: Any
    step: Any
    extra: Any


def make_state(seed: int = 0) -> State:
    key = jax.random.key(seed)
    params = {"w": jax.random.normal(key, (40, 30)), "b": jnp.linspace(-1, 1, 7, dtype=jnp.bfloat16)}
    extra = {
        "mask": jnp.array([True, False]),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 3),
        "nothing": None,
        "special": jnp.array([0.0, -0.0, jnp.nan, jnp.inf, -jnp.inf]),
        "host": np.float64(1 / 3) * np.arange(3),
    }
    return State(params, optax.adam(1e-3).init(params), key, jnp.int32(seed), extra)


def shapes(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)


def as_bytes(leaf: Any) -> tuple:
    data = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return str(leaf.dtype), leaf.shape, np.asarray(data).tobytes()


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert list(map(as_bytes, jax.tree.leaves(one))) == list(map(as_bytes, jax.tree.leaves(other)))


def opened(directory: Path, **options: Any) -> tuple[Checkpoints, list[str]]:
    """Checkpoints and the list of warnings they will fill."""
    warned: list[str] = []
    return Checkpoints(directory, fingerprint="f", warn=warned.append, **options), warned


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A directory with steps 1 and 2, to be copied; step k holds make_state(k) and k bytes of metrics."""
    directory = tmp_path_factory.mktemp("saved")
    for step in (1, 2):
        opened(directory)[0].save(step, make_state(step), metrics_bytes=step)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))


TREES = {
    "state": make_state(3),
    "bare array": jnp.arange(3.0),
    "scalar": jnp.float32(0.5),
    "no leaves": {"a": None, "b": ()},
    "no elements": {"a": jnp.zeros((0, 4)), "b": jnp.ones(2)},
    "names alike": {"a": {"b": jnp.ones(2)}, "a.b": jnp.zeros(3), "a/b": jnp.arange(4)},
    "over ten leaves": [jnp.full(2, k) for k in range(12)],
}


@pytest.mark.parametrize("form", [lambda tree: tree, shapes], ids=["arrays", "shapes"])
@pytest.mark.parametrize("name", TREES)
def test_round_trip_is_bitwise(tmp_path, name, form):
    checkpoints, warned = opened(tmp_path)
    checkpoints.save(5, TREES[name], metrics_bytes=17)
    restored = checkpoints.restore(form(TREES[name]))
    assert (restored.step, restored.metrics_bytes) == (5, 17)
    assert_same(restored.state, TREES[name])
    assert not warned


def test_round_trip_of_double_precision(tmp_path, x64):
    checkpoints, _ = opened(tmp_path)
    state = {"x": jnp.arange(3.0) / 3, "n": jnp.arange(3)}
    assert state["x"].dtype == jnp.float64
    checkpoints.save(0, state)
    assert_same(checkpoints.restore(shapes(state)).state, state)


@pytest.mark.parametrize("leftover", [None, ".", "tmp-1/state.orbax-checkpoint-tmp"])
def test_nothing_saved_restores_nothing(tmp_path, leftover):
    if leftover:
        (tmp_path / "checkpoints" / leftover).mkdir(parents=True)
    checkpoints, warned = opened(tmp_path / "checkpoints")
    assert checkpoints.restore(make_state()) is None
    assert checkpoints.steps() == [] and not warned


def test_the_newest_two_are_kept(tmp_path):
    checkpoints, _ = opened(tmp_path)
    for step in (0, 1, 2, 9, 10):
        checkpoints.save(step, {"x": jnp.float32(step)})
    assert checkpoints.steps() == [9, 10] and sorted(os.listdir(tmp_path)) == ["10", "9"]
    assert checkpoints.restore({"x": jnp.float32(0)}).state["x"] == 10


def test_a_step_that_is_a_link_to_nothing_is_unsound(directory):
    """It must neither be waited for nor left out of a list."""
    (directory / "3").symlink_to(directory / "gone")
    checkpoints, warned = opened(directory, writes=False)
    assert [(found.step, found.fault is None) for found in checkpoints.examined()] == [
        (1, True),
        (2, True),
        (3, False),
    ]
    assert checkpoints.restore(shapes(make_state())).step == 2 and len(warned) == 1 and "3" in warned[0]


def test_pruning_counts_only_sound_steps(directory):
    (directory / "2" / "manifest.json").write_text("{}")
    checkpoints, _ = opened(directory)
    checkpoints.save(3, make_state(3))
    assert checkpoints.steps() == [1, 2, 3]
    checkpoints.save(4, make_state(4))
    assert checkpoints.steps() == [3, 4]


def test_what_a_killed_save_had_yet_to_remove_goes_when_it_is_restored(directory):
    """After the last step of a run no other save comes."""
    shutil.copytree(directory / "1", directory / "keep")
    checkpoints, _ = opened(directory)
    checkpoints.save(3, make_state(3))
    (directory / "keep").rename(directory / "1")  # as if the kill came before it was pruned
    (directory / "tmp-0").mkdir()
    assert opened(directory, writes=False)[0].restore(shapes(make_state())).step == 3
    assert sorted(os.listdir(directory)) == ["1", "2", "3", "tmp-0"]
    assert opened(directory)[0].restore(shapes(make_state())).step == 3
    assert sorted(os.listdir(directory)) == ["2", "3"]


def test_a_step_saved_again_replaces_the_other(directory):
    next((directory / "2" / "state").rglob("manifest.ocdbt")).write_bytes(b"")
    checkpoints, warned = opened(directory)
    checkpoints.save(2, make_state(2), metrics_bytes=99)
    restored = checkpoints.restore(make_state())
    assert_same(restored.state, make_state(2))
    assert restored.metrics_bytes == 99 and not warned and (directory / "bad-2").is_dir()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "one bit flipped": flip,
    "last byte lost": lambda path: os.truncate(path, path.stat().st_size - 1),
    "removed": Path.unlink,
    "made a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_to_any_file_falls_back(saved, tmp_path, damage):
    files = [path.relative_to(saved) for path in (saved / "2").rglob("*") if path.is_file()]
    assert len(files) > 5
    for number, name in enumerate(files):
        copy = Path(shutil.copytree(saved, tmp_path / str(number)))
        DAMAGE[damage](copy / name)
        checkpoints, warned = opened(copy)
        restored = checkpoints.restore(make_state())
        if name.name == "manifest.json" and damage == "last byte lost":  # only the final line end
            assert restored.step == 2 and not warned
            continue
        assert (restored.step, restored.metrics_bytes) == (1, 1)
        assert_same(restored.state, make_state(1))
        [line] = warned
        assert name.name in line and str(copy / "2") in line and "\n" not in line
        assert damage != "last byte lost" or "bytes, not" in line
        assert (copy / "bad-2").is_dir() and checkpoints.steps() == [1]
        assert checkpoints.restore(make_state()).step == 1 and len(warned) == 1


@pytest.mark.parametrize(("old", "new"), [('"f"', '"g"'), ('"metrics_bytes": 2', '"metrics_bytes": 0')])
def test_a_plausible_manifest_is_still_checked(directory, old, new):
    manifest = directory / "2" / "manifest.json"
    text = manifest.read_text()
    assert text.count(old) == 1
    manifest.write_text(text.replace(old, new))
    checkpoints, warned = opened(directory)
    assert checkpoints.restore(make_state()).step == 1
    assert "does not match its own hash" in warned[0]


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["empty directory", "empty file"])
def test_something_else_with_the_name_of_a_step(directory, make):
    make(directory / "7")
    checkpoints, warned = opened(directory)
    assert checkpoints.restore(make_state()).step == 2 and checkpoints.steps() == [1, 2]
    assert len(warned) == 1 and "manifest.json" in warned[0]
    assert (directory / "bad-7").exists() and not (directory / "7").exists()


def test_a_step_under_another_number_is_refused(directory):
    (directory / "2").rename(directory / "8")
    checkpoints, warned = opened(directory)
    assert checkpoints.restore(make_state()).step == 1
    assert "step 2" in warned[0]


def test_names_already_taken_are_not_overwritten(directory):
    (directory / "7").mkdir()
    (directory / "bad-7").mkdir()
    opened(directory)[0].restore(make_state())
    assert (directory / "bad-7").is_dir() and (directory / "bad-7-2").is_dir()


GOOD = {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}
OTHER_TREES = {
    "dtype": (GOOD | {"a": jnp.ones(3, jnp.bfloat16)}, "['a'] bfloat16[3] where ['a'] float32[3]"),
    "shape": (GOOD | {"b": jnp.zeros((2, 3))}, "['b'] float32[2, 3] where ['b'] float32[2, 2]"),
    "name": ({"a": GOOD["a"], "c": GOOD["b"]}, "['c'] float32[2, 2] where ['b'] float32[2, 2]"),
    "one more": (GOOD | {"c": jnp.ones(1)}, "['c'] float32[1] where no further leaf"),
    "one fewer": ({"a": GOOD["a"]}, "no further leaf where ['b'] float32[2, 2]"),
}


@pytest.mark.parametrize("name", OTHER_TREES)
def test_a_state_of_another_kind_falls_back(tmp_path, name):
    state, reason = OTHER_TREES[name]
    checkpoints, warned = opened(tmp_path)
    checkpoints.save(1, GOOD)
    checkpoints.save(2, state)
    assert checkpoints.restore(GOOD).step == 1
    assert len(warned) == 1 and reason in warned[0]
    assert (tmp_path / "bad-2").is_dir()


def test_a_wrong_target_moves_nothing(directory):
    checkpoints, warned = opened(directory)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="is wanted"):
            checkpoints.restore({"x": jnp.ones(2)})
    assert checkpoints.steps() == [1, 2] and len(warned) == 4
    assert checkpoints.restore(make_state()).step == 2


@pytest.mark.parametrize("rename", [str, "bad-{}".format], ids=["in place", "set aside"])
def test_only_bad_steps_are_an_error_not_a_fresh_start(directory, rename):
    for step in (1, 2):
        (directory / str(step) / "manifest.json").write_text("no JSON")
        (directory / str(step)).rename(directory / rename(step))
    checkpoints, _ = opened(directory)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="no usable checkpoint") as error:
            checkpoints.restore(make_state())
        assert "\n" not in str(error.value)


def test_another_configuration_is_refused(directory):
    other = Checkpoints(directory, fingerprint="g")
    with pytest.raises(CheckpointError, match="another configuration"):
        other.restore(make_state())
    with pytest.raises(CheckpointError, match="another configuration"):
        other.save(3, make_state())
    assert sorted(os.listdir(directory)) == ["1", "2"]


def test_the_default_warning_is_a_warning(directory):
    flip(directory / "2" / "manifest.json")
    with pytest.warns(UserWarning, match="manifest"):
        assert Checkpoints(directory, fingerprint="f").restore(make_state()).step == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("RESOURCE_EXHAUSTED: write")])
@pytest.mark.parametrize(
    "home, target", [(checkpoint, "_write_payload"), (checkpoint, "write_atomic"), (manifest, "sync")]
)
def test_a_refused_write_leaves_earlier_steps(directory, monkeypatch, home, target, error):
    def refuse(*arguments):
        raise error

    checkpoints, warned = opened(directory)
    with monkeypatch.context() as patch:
        patch.setattr(home, target, refuse)
        with pytest.raises(OSError, match="step 3 could not be saved"):
            checkpoints.save(3, make_state(3))
    assert sorted(os.listdir(directory)) == ["1", "2"]
    assert checkpoints.restore(make_state()).step == 2 and not warned
    checkpoints.save(3, make_state(3))
    assert checkpoints.restore(make_state()).step == 3


class Killed(BaseException):
    """Stands for the end of the process."""


def die_at(patch: pytest.MonkeyPatch, count: int) -> None:
    """Let the process end before its `count`-th change of a name in the file system, or amid a removal."""
    calls = iter(range(count))

    def guard(original):
        def guarded(path, *arguments, **options):
            if next(calls, None) is None:
                if original is rmtree:
                    next(file for file in Path(path).rglob("*") if file.is_file()).unlink()
                raise Killed
            return original(path, *arguments, **options)

        return guarded

    rmtree = shutil.rmtree
    patch.setattr(checkpoint.shutil, "rmtree", guard(rmtree))
    patch.setattr(checkpoint, "_write_payload", guard(checkpoint._write_payload))
    for method in ("mkdir", "rename", "replace"):
        patch.setattr(Path, method, guard(getattr(Path, method)))


@pytest.mark.parametrize("damaged", [False, True], ids=["new step", "step replaced"])
def test_a_crash_at_any_point_loses_nothing(saved, tmp_path, monkeypatch, damaged):
    for count in range(40):
        copy = Path(shutil.copytree(saved, tmp_path / str(count)))
        if damaged:
            (copy / "3").mkdir()
        checkpoints, _ = opened(copy)
        with monkeypatch.context() as patch:
            die_at(patch, count)
            try:
                checkpoints.save(3, make_state(3))
                survived = True
            except Killed:
                survived = False
        restored = checkpoints.restore(make_state())
        assert restored.step in ((3,) if survived else (2, 3))
        assert_same(restored.state, make_state(restored.step))
        checkpoints.save(4, make_state(4))
        assert checkpoints.steps() == [restored.step, 4]
        assert not [name for name in os.listdir(copy) if name.startswith("tmp-")]
        if survived:
            break
    assert survived and count > 5


WRITER = """
import itertools, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from fgan.run.checkpoint import Checkpoints
from fgan.run.directory import RunDirectory
everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("devices",)), PartitionSpec())
assert len(jax.devices()) == 2
run = RunDirectory.open(sys.argv[1], "seed = 0")
checkpoints = Checkpoints(run.checkpoints, fingerprint=run.fingerprint)
state = {"w": jnp.zeros((50, 50)), "key": jax.random.key(0)}
restored = checkpoints.restore(state)
run.cut("metrics.jsonl", restored.metrics_bytes if restored else 0)
for step in itertools.count(restored.step + 1 if restored else 1):
    run.append({"step": step, "padding": "x" * 1000})
    state = {"w": jnp.full((50, 50), step, jnp.float32), "key": jax.random.fold_in(jax.random.key(0), step)}
    checkpoints.save(step, jax.device_put(state, everywhere), metrics_bytes=run.size())
    print(step, flush=True)
"""


@pytest.mark.slow
def test_kill_at_random_times(tmp_path):
    """Two virtual devices write, one reads; each process takes the dead one's lock and goes on where it was."""
    moments = random.Random(0)
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(Path(checkpoint.__file__).parents[1]),
    }
    reached = 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "run")]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            first = writer.stdout.readline()
            time.sleep(moments.uniform(0.0, 0.3))
            writer.send_signal(signal.SIGKILL)
            acknowledged = [int(line) for line in (first + writer.stdout.read()).splitlines()]
        assert acknowledged[0] == reached + 1
        with RunDirectory.open(tmp_path / "run", "seed = 0") as run:
            like = {"w": jnp.zeros((50, 50)), "key": jax.random.key(0)}
            restored = Checkpoints(run.checkpoints, fingerprint=run.fingerprint).restore(shapes(like))
            run.cut("metrics.jsonl", restored.metrics_bytes)
            lines = [json.loads(line)["step"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]
        reached = restored.step
        assert acknowledged[-1] <= reached <= acknowledged[-1] + 1
        assert lines == list(range(1, reached + 1))
        expected = jnp.full((50, 50), reached, jnp.float32), jax.random.fold_in(jax.random.key(0), reached)
        assert_same((restored.state["w"], restored.state["key"]), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda c: c.save(1, {"a": 3}), TypeError, r"\['a'\] is a int"),
        (lambda c: c.restore("text"), TypeError, "the state is a str"),
    ],
)
def test_refusals_at_the_door(tmp_path, call, error, message):
    (tmp_path / "1").mkdir()
    with pytest.raises(error, match=message):
        call(opened(tmp_path)[0])
    assert os.listdir(tmp_path) == ["1"]

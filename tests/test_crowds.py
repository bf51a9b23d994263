"""Many processes at once in one place: one works there, the others say who does, and readers never stand in its way."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.torture import crowds
from fgan.config.schema import Config
from fgan.config.toml import load, to_toml
from fgan.devices import interrupts
from fgan.experiments.runs import Run, _refuse_failure
from fgan.run import lock
from fgan.run.checkpoint import KEEP, Checkpoints
from fgan.run.directory import LOCK, METRICS, RunDirectory
from fgan.run.lock import GONE, Held, RunLocked, claim, process_table
from fgan.run.loop import train

STATE = {"x": jnp.zeros(2000), "y": jnp.zeros(2000)}


def saved(writer: Checkpoints, step: int) -> None:
    writer.save(step, {name: jnp.full_like(leaf, step) for name, leaf in STATE.items()})


def reads(directory: Path) -> Checkpoints:
    """Who reads there, and holds no lock; it warns of nothing."""
    return Checkpoints(directory, fingerprint="f", warn=lambda line: pytest.fail(line), writes=False)


def restored_step(reader: Checkpoints) -> int:
    """The step restored, all of whose numbers are its own."""
    restored = reader.restore(STATE)
    for leaf in restored.state.values():
        np.testing.assert_array_equal(leaf, restored.step)
    return restored.step


@pytest.mark.parametrize("moment", ["steps", "_verify"])
def test_a_step_pruned_while_it_is_read_gives_way_to_a_newer_one(tmp_path, monkeypatch, moment):
    """Saves remove it once it is chosen, or once it is verified; the reader warns of nothing and moves nothing."""
    writer, reader, steps, slow = Checkpoints(tmp_path, fingerprint="f"), reads(tmp_path), itertools.count(1), []
    real = getattr(reader, moment)

    def overtaken(*words):
        found = real(*words)
        while len(slow) < KEEP + 1:
            slow.append(saved(writer, next(steps)))
        return found

    saved(writer, next(steps))
    monkeypatch.setattr(reader, moment, overtaken)
    assert restored_step(reader) == 2 + KEEP
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_who_only_reads_sets_no_damaged_step_aside(tmp_path):
    writer, warned = Checkpoints(tmp_path, fingerprint="f"), []
    for step in (1, 2):
        saved(writer, step)
    (tmp_path / "2" / "manifest.json").write_text("{}")
    reader = Checkpoints(tmp_path, fingerprint="f", warn=warned.append, writes=False)
    assert restored_step(reader) == 1 and "checkpoint" in warned[0] and writer.steps() == [1, 2]


def test_restoring_while_another_saves_never_fails(tmp_path):
    """A loop of restores beside a loop of saves."""
    writer, reader, done = Checkpoints(tmp_path, fingerprint="f"), reads(tmp_path), threading.Event()

    def save_many():
        for step in itertools.count(2):
            saved(writer, step)
            if done.is_set():
                return

    saved(writer, 1)
    thread = threading.Thread(target=save_many)
    thread.start()
    steps = [restored_step(reader) for _ in range(20)]
    done.set()
    thread.join()
    assert steps == sorted(steps) and steps[-1] > steps[0]
    assert all(path.name.isdigit() for path in tmp_path.iterdir())


# --- real processes --------------------------------------------------------------------------------------------------
def test_of_two_that_train_in_one_directory_one_does(tmp_path):
    """It does what a process alone does, to the bit; the other names it."""
    file = crowds.config(tmp_path, steps=6_000)
    crowd = crowds.ended([crowds.start(tmp_path, "train", file, "--quiet", "--run", "run") for _ in range(2)])
    assert crowds.one_works(crowd) == {"worked": 1, "refused": 1}
    train(load(tmp_path / file), tmp_path / "alone", quiet=True)
    crowds.same_files(tmp_path / "run", tmp_path / "alone", "metrics.jsonl", "config.toml", "data.json")


@pytest.mark.slow
def test_of_ten_that_train_in_one_directory_one_does(tmp_path):
    """One of what `python -m benchmarks.torture crowds` tries."""
    assert crowds.case(list(crowds.SCENARIOS).index("ten train in one directory"), tmp_path)["verdict"] == "ok"


@pytest.mark.slow
def test_of_two_that_reproduce_one_experiment_one_does(tmp_path):
    words = ["reproduce", "dirac", "--quiet", "--run", "here"]
    crowd = crowds.ended([crowds.start(tmp_path, *words) for _ in range(2)])
    assert sorted(one.code for one in crowd) == [0, 6]
    assert "here is in use by process" in next(one.err for one in crowd if one.code == 6)
    assert (tmp_path / "here" / "dirac.png").exists() and not (tmp_path / "here" / LOCK).exists()


def ended(pid: int, code: int, err: str = "") -> crowds.Ended:
    return crowds.Ended(pid, code, "", err)


def test_a_crowd_is_judged():
    line = f"fgan: there is in use by process 1 on {socket.gethostname()} since yesterday: wait\n"
    assert crowds.one_works([ended(1, 0), ended(2, 6, line)]) == {"worked": 1, "refused": 1}
    for wrong in (
        [ended(1, 6, line), ended(2, 6, line)],
        [ended(3, 0), ended(2, 6, line)],
        [ended(1, 0), ended(2, 6, "fgan: no\n")],
        [ended(1, 0), ended(2, 7, "fgan: no\n")],
        [ended(1, 0, "a warning")],
    ):
        with pytest.raises(crowds.Wrong):
            crowds.one_works(wrong)


def test_files_are_compared_and_what_is_left_behind_is_seen(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("1\n")
    crowds.same_files(tmp_path / "one", tmp_path / "other", "metrics.jsonl")
    (tmp_path / "other" / "metrics.jsonl").write_text("2\n")
    with pytest.raises(crowds.Wrong, match="not that of a process alone"):
        crowds.same_files(tmp_path / "one", tmp_path / "other", "metrics.jsonl")
    (tmp_path / "one" / ".metrics.jsonl.tmp").touch()
    with pytest.raises(crowds.Wrong, match="left behind"):
        crowds.same_files(tmp_path / "one", tmp_path / "other")


# --- signs of life ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pids():
    """(of a process that lives, of one that is dead)"""
    with subprocess.Popen(["true"]) as dead, subprocess.Popen(["sleep", "600"]) as live:
        dead.wait()
        yield live.pid, dead.pid
        live.kill()


def held_elsewhere(path: Path, pid: int, silent: float, **more: str) -> None:
    """A lock of another host that was touched so many seconds ago."""
    path.write_text(json.dumps({"pid": pid, "host": "elsewhere.example", "started": "2020-01-01"} | more))
    then = time.time() - silent
    os.utime(path, (then, then))


def test_a_lock_of_another_host_is_taken_over_once_it_is_silent(tmp_path, pids):
    path = tmp_path / LOCK
    for pid in pids:  # whose number means nothing here
        held_elsewhere(path, pid, GONE - 60)
        with pytest.raises(RunLocked, match=r"on elsewhere.example since 2020-01-01 \(last sign of life 5\d\d s ago"):
            claim(path)
        held_elsewhere(path, pid, GONE + 5)
        lock.release(path, claim(path))
    assert not list(tmp_path.iterdir())


def test_the_clock_of_this_host_does_not_matter(tmp_path, pids, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    (tmp_path / "now").touch()
    now = (tmp_path / "now").stat().st_mtime
    for silent, taken in ((GONE - 60, False), (GONE + 5, True)):
        held_elsewhere(tmp_path / LOCK, pids[0], silent - now)
        with contextlib.nullcontext() if taken else pytest.raises(RunLocked):
            claim(tmp_path / LOCK)


@pytest.mark.skipif(process_table() is None, reason="only Linux tells process tables apart")
def test_a_host_that_was_renamed_is_still_this_one(tmp_path, pids):
    live, dead = pids
    held_elsewhere(tmp_path / LOCK, live, 2 * GONE, process_table=process_table())
    with pytest.raises(RunLocked, match="since 2020-01-01: wait"):
        claim(tmp_path / LOCK)
    held_elsewhere(tmp_path / LOCK, dead, 0.0, process_table=process_table())
    claim(tmp_path / LOCK)


def test_a_holder_gives_signs_of_life_until_it_releases(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    path = tmp_path / LOCK
    with Held(path):
        for _ in range(2):
            os.utime(path, (0, 0))
            deadline = time.monotonic() + 60
            while path.stat().st_mtime == 0:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        held_elsewhere(path, 1, 2 * GONE)
        before = path.stat().st_mtime
        time.sleep(0.1)
        assert path.stat().st_mtime == before  # another's is left alone
    assert path.exists()


@pytest.mark.parametrize("act", [lambda run: run.append({"step": 2}), lambda run: run.status("running", 2)])
def test_who_has_lost_its_lock_writes_nothing(tmp_path, act):
    """As a process that was stopped until another host took the run over."""
    run = RunDirectory.open(tmp_path / "run", to_toml(Config()))
    run.append({"step": 1})
    run.status("running", 1)
    held_elsewhere(run.path / LOCK, 17, 0.0)
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    taken = pytest.raises(RunLocked, match=r"was taken over by process 17 on elsewhere.example")
    with taken, run, run.recorded(lambda: {"step": 2}):
        act(run)
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_who_leaves_at_once_after_overwriting_says_so_and_releases(tmp_path):
    """As a signal makes it do, by what it has asked to be done before; but not where it has lost its lock."""
    for overwrite, lost in ((False, False), (True, False), (False, True)):
        run = RunDirectory.open(tmp_path / "run", to_toml(Config()), overwrite=overwrite)
        run.status("running", 7)
        if lost:
            held_elsewhere(run.path / LOCK, 17, 0.0)
        (action,) = interrupts._before_leaving
        action()
        state = json.loads((run.path / "status.json").read_text())["state"]
        assert (state, (run.path / LOCK).exists()) == (("running", True) if lost else ("preempted", False))
        run.close()


def test_who_finds_its_lock_deleted_writes_nothing(tmp_path):
    with RunDirectory.open(tmp_path / "run", to_toml(Config())) as run:
        (run.path / LOCK).unlink()
        with pytest.raises(RunLocked, match=r"run.lock was deleted"):
            run.append({"step": 1})
        assert not (run.path / METRICS).exists()


def test_a_directory_set_aside_while_another_waits_for_its_lock_is_made_anew(tmp_path, monkeypatch):
    path, real, moved = tmp_path / "run" / LOCK, lock._flock, []

    def flock(file):
        if not moved:
            moved.append((tmp_path / "run").rename(tmp_path / "run.old-1"))
        real(file)

    monkeypatch.setattr(lock, "_flock", flock)
    text = claim(path)
    assert path.read_bytes() == text and moved


def test_a_run_of_an_experiment_that_another_trains_is_named_as_such(tmp_path):
    run = Run(Config(), "preset", tmp_path / "run")
    run.beside(".log").write_text("resuming\nfgan: run is in use by process 3 on here since now: wait\n")
    with pytest.raises(RunLocked, match=r"^run is in use by process 3"):
        _refuse_failure(run, 6)


def test_a_line_that_another_is_writing_is_no_record(tmp_path):
    with RunDirectory.open(tmp_path / "run", to_toml(Config())) as run:
        run.append({"step": 1})
        with open(run.path / METRICS, "a") as file:
            file.write('{"step": 2, "bou')
        assert run.records() == [{"step": 1}]

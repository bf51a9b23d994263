"""Many processes at once in one place: one works there, the others say who does, and readers never stand in its way."""

import itertools
import threading
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fgan.run.checkpoint import KEEP, Checkpoints

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

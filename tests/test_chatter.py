"""What orbax says of an error that its caller knows is dropped; what others say is not."""

import sys
import warnings

import pytest

from fgan.run import chatter

TASK = """
import types

@types.coroutine
def wait():
    yield

async def task():
    try:
        await wait()
    finally:
        raise OSError("the step is gone")
"""


@pytest.mark.parametrize("file, said", [("/lib/orbax/checkpoint/reading.py", False), ("/home/reading.py", True)])
def test_a_collected_task_of_orbax_is_quiet(file, said, monkeypatch, capfd):
    """It awaits a part of a step while another part is found to be pruned."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    chatter.drop.__wrapped__()
    scope = {}
    exec(compile(TASK, file, "exec"), scope)
    task = scope["task"]()
    task.send(None)
    del task
    assert ("the step is gone" in capfd.readouterr().err) == said


@pytest.mark.parametrize("name, said", [("async_serialize_from_host", False), ("mine", True)])
def test_a_task_of_orbax_that_never_began_is_quiet(name, said, monkeypatch):
    """A disk that is full ends a save before all of its parts were begun."""
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    scope = {}
    exec(f"async def {name}(): pass", scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        chatter.drop.__wrapped__()
        scope[name]()
    assert bool(caught) == said

"""What orbax says of an error that its caller knows is dropped; what others say is not."""

import sys

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

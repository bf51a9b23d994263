"""The command line in this process, and the smallest run, for tests of several files."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from fgan.cli.main import main

TINY = """\
steps = 20
batch = 16
[generator]
features = [8]
[critic]
features = [8]
[log]
every = 10
evaluate = 20
checkpoint = 10
samples = 16
"""


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]


def command(capsys) -> Command:
    """Calls the command line with any words."""

    def run(*words) -> Said:
        with pytest.raises(SystemExit) as leaving:
            main([str(word) for word in words])
        return Said(leaving.value.code, *capsys.readouterr())

    return run

"""The standard streams of the command line, of which none can end a command.

A reader that leaves, as `| head` does and a terminal that closes, hears no more; the command goes on to its end, and
its exit code is that of its work: what is computed is worth more than what is said about it. A stream that was closed
from the start is the null device. Imports the standard library only.
"""

import errno
import io
import os
import stat
import sys


def settle() -> None:
    """Make stdin, stdout and stderr such streams; before any file is opened, which would take a closed one's number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name in ("stdout", "stderr"):
        setattr(sys, name, _settled(getattr(sys, name)))


class _Output(io.FileIO):
    """An open descriptor, from which on what is written goes nowhere once its reader has left."""

    def write(self, data, /):
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO) or stat.S_ISREG(os.fstat(self.fileno()).st_mode):
                raise
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.fileno())
            return super().write(data)


def _settled(stream: object) -> object:
    """`stream` upon an `_Output`, with symbols that its encoding lacks written as escapes."""
    if not isinstance(stream, io.TextIOWrapper):  # None where it was closed
        return stream
    stream.flush()
    output = _Output(stream.fileno(), "wb", closefd=False)
    buffer = output if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(output)  # raw: python -u
    return io.TextIOWrapper(
        buffer,
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )

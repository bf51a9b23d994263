"""The one error that unusable samples raise, and text made safe for its message."""

from __future__ import annotations


class DataError(ValueError):
    """Samples that cannot be used; the message is one line: what is wrong, where, how many, what to do."""


def printable(text: str) -> str:
    """`text`, with every character escaped that could control a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

"""Characters that may be shown, in lines and in errors: names and values from files must not steer a terminal.

Imports nothing.
"""


def printable(text: str) -> str:
    """`text`, with every character escaped that could control a terminal, or break a line.

    >>> printable("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class OneLine(Exception):
    """An error whose message is one line that can be shown, whatever names and values are in it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(" ".join(message.splitlines())))

"""A process that looks at pictures or decodes them for another: a line of JSON for each block in, a line out.

{"block": …}                                             → [[width, height, colour] or what is wrong, …]
{"block": …, "rows": [r, …], "side": …, "into": path …}  → [null or what is wrong, …]; the i-th picture becomes row
                                                           r of the file, those of r = null are left out
"""

import json
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from fgan.data import picture, picture_blocks


def work(task: Mapping[str, Any]) -> list[Any]:
    """The answer to one line. Raises OSError where the file cannot be read or written."""
    block = picture_blocks.from_json(task["block"])
    if "into" not in task:
        return picture_blocks.headers(block)
    wanted = (row is not None for row in task["rows"])
    made = picture_blocks.squares(block, wanted, task["side"], task["colour"], task["fit"])
    into = os.open(task["into"], os.O_WRONLY | os.O_CLOEXEC)
    try:
        for row, one in zip(task["rows"], made):
            if isinstance(one, np.ndarray):
                _write(into, one, row)
    finally:
        os.close(into)
    return [one if isinstance(one, str) else None for one in made]


def _write(into: int, pixels: np.ndarray, row: int) -> None:
    data, offset = pixels.tobytes(), row * pixels.nbytes
    while data:
        written = os.pwrite(into, data, offset)
        data, offset = data[written:], offset + written


def main() -> None:
    """Answer until standard input ends. What cannot be read is answered by one line of words."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal's whole group; who started this ends it
    picture.heedless()
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answer: Any
        try:
            answer = work(json.loads(line))
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

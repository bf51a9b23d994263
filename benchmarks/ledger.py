"""The ledger of a benchmark: one JSON line a measured run, appended at once, so that a run may stop anywhere.

A run is (suite, method, task, seed, n). What is in the ledger is not measured again, unless it failed. Several
processes may append to one ledger.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]


class Run(NamedTuple):
    """One measurement: a suite's method on a task's samples of size n, drawn with seed."""

    suite: str
    method: str
    task: str
    seed: int
    n: int


class Ledger:
    """The rows of one suite, in `folder/<suite>.jsonl`."""

    def __init__(self, folder: str | Path, suite: str):
        self.path = Path(folder) / f"{suite}.jsonl"

    def rows(self) -> list[Row]:
        """The last row of every run; lines that a killed process left half-written are passed over."""
        text = self.path.read_text() if self.path.exists() else ""
        return list({run_of(row): row for row in _parsed(text.splitlines())}.values())

    def missing(self, runs: Iterable[Run]) -> list[Run]:
        """The runs without a row, or whose row says only why there is no result."""
        done = {run_of(row) for row in self.rows() if "reason" not in row}
        return [run for run in runs if run not in done]

    def append(self, run: Run, facts: Mapping[str, Any]) -> None:
        """Write the run's row in one piece, on a line of its own even if the last one was cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({**run._asdict(), **plain(facts)}, allow_nan=False) + "\n"
        with open(self.path, "ab+", buffering=0) as file:
            if file.seek(0, 2) and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                line = "\n" + line
            file.write(line.encode())


def run_of(row: Row) -> Run:
    return Run(*(row[name] for name in Run._fields))


def plain(value: Any) -> Any:
    """`value` for strict JSON: mappings and sequences kept, ±inf as the strings float() reads, NaN as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None if math.isnan(number) else str(number)


def _parsed(lines: Iterable[str]) -> Iterator[Row]:
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and row.keys() >= set(Run._fields):
            yield row

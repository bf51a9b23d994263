"""The journal of a torture: one JSON line a case, on disk before the next begins, so that a run may stop anywhere."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ledger import plain

Row = dict[str, Any]


class Journal:
    """The rows of all sections, in `folder/cases.jsonl`; a row has at least a section, a case and a verdict."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "cases.jsonl"

    def rows(self) -> list[Row]:
        """The last row of every case, by section and number; a line that was cut off is passed over."""
        lines = self.path.read_bytes().split(b"\n")[:-1] if self.path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith(b"}")]
        found = {(row["section"], row["case"]): row for row in rows}
        return [found[key] for key in sorted(found)]

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row in one piece and force it to disk, on a line of its own even if the last one was cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(plain(row), allow_nan=False) + "\n").encode()
        with open(self.path, "ab+", buffering=0) as file:
            cut = file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n"
            file.write(b"\n" + line if cut else line)
            os.fsync(file.fileno())

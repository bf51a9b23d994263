"""Faults in great number, each of which must be detected or harmless.

    python -m benchmarks.torture                    every section: an hour or two
    python -m benchmarks.torture kills --cases 4    the first cases of a section
    python -m benchmarks.torture --report           the summary of what was run before

A section is a file of `benchmarks/torture` that defines ABOUT, one line; COUNT, the cases of a full run; and
`case(i, scratch)`, which runs case number i in an empty folder and returns at least what was done (`what`) and the
`verdict`, "ok" or what went wrong. Sections may keep what their cases share in a folder of their name beside `scratch`.

Each case is appended to `cases.jsonl` in `--out` once it has ended, and is never run again; the folder of a case that
went wrong is kept. Stop at any time, by Ctrl-C too: the same command goes on. Each run ends by writing the summary,
`benchmarks/results/torture.json`. The exit code is 1 if any verdict is not "ok".
"""

import datetime
import importlib
import json
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

import benchmarks.torture
from benchmarks.estimation import machine
from benchmarks.ledger import plain
from benchmarks.torture.journal import Journal
from benchmarks.torture.summary import summary, table
from fgan.config.fields import nearest
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    subprocess.SubprocessError,
)
"""What a case may raise: recorded as its verdict, so that the others are run."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Torture fgan.

    Attributes:
        sections: which; all if none is named.
        cases: only the first so many of each section.
        out: the folder of `cases.jsonl`, of the cases' own folders and of what they share.
        report: run nothing, sum up what `out` holds.
        results: where the summary is written.
    """

    sections: tyro.conf.Positional[tuple[str, ...]] = ()
    cases: int | None = None
    out: Path = Path("runs/torture")
    report: bool = False
    results: Path = Path(__file__).parents[1] / "results" / "torture.json"


def main(settings: Settings) -> int:
    """Run the cases that are missing, then sum up. The exit code."""
    if "JAX_PLATFORMS" not in os.environ:
        jax.config.update("jax_platforms", "cpu")  # the memory of other devices is for the processes that train
    known = sections()
    if unknown := [name for name in settings.sections if name not in known]:
        print(f"unknown section {unknown[0]!r}: {nearest(unknown[0], known)}", file=sys.stderr)
        return 2
    chosen = {name: known[name] for name in settings.sections or known}
    journal = Journal(settings.out.absolute())
    stopped = False
    try:
        for name, module in chosen.items() if not settings.report else ():
            fill(journal, name, module, range(module.COUNT)[: settings.cases])
    except KeyboardInterrupt:
        stopped = True
        print("stopped; the same command goes on from here", file=sys.stderr)
    rows = [row for row in journal.rows() if row["section"] in known]
    present = {name: module for name, module in known.items() if any(row["section"] == name for row in rows)}
    facts = summary(rows, present)
    settings.results.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(settings.results, json.dumps(plain(facts), indent=1, allow_nan=False) + "\n")
    print(table(facts))
    failed = any(row["verdict"] != "ok" for row in rows if row["section"] in chosen)
    return 130 if stopped else int(failed)


def sections() -> dict[str, Any]:
    """The modules of this package that are sections, by name."""
    names = [found.name for found in pkgutil.iter_modules(benchmarks.torture.__path__) if found.name != "__main__"]
    modules = {name: importlib.import_module(f"benchmarks.torture.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "case")}


def fill(journal: Journal, name: str, module: Any, cases: Sequence[int], *, quiet: bool = False) -> int:
    """How many cases of a section were run now; those in the journal are passed over."""
    done = {row["case"] for row in journal.rows() if row["section"] == name}
    missing = [i for i in cases if i not in done]
    with Reporter(len(missing), unit="case", quiet=quiet) as report:
        report.say(f"{name}: {len(cases) - len(missing)} of {len(cases)} cases done before")
        for k, i in enumerate(missing, start=1):
            row = run(module, i, journal.path.parent / f"{name}-{i:06d}")
            journal.append({"section": name, "case": i, **row, **_stamp()})
            if row["verdict"] != "ok":
                report.say(f"{name}, case {i}: {row['what']}: {row['verdict']}")
            report.advance(k, f"of {name}, last {row['what']}")
    return len(missing)


def run(module: Any, i: int, scratch: Path) -> Mapping[str, Any]:
    """What case i of a section returned, with its seconds; an error is its verdict. Its folder is kept if not ok."""
    shutil.rmtree(scratch, ignore_errors=True)  # of a case that was cut off
    scratch.mkdir(parents=True)
    begun = time.monotonic()
    try:
        facts = module.case(i, scratch)
    except FAULTS as fault:
        facts = {"what": "the case itself failed", "verdict": f"{type(fault).__name__}: {fault}"}
    if facts["verdict"] == "ok":
        shutil.rmtree(scratch, ignore_errors=True)
    return facts | {"seconds": round(time.monotonic() - begun, 3)}


def _stamp() -> dict[str, str]:
    return {"commit": _commit(), "machine": machine(), "date": datetime.date.today().isoformat()}


def _commit() -> str:
    """The commit of the code, with a + where files differ from it; unknown outside a repository."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(tyro.cli(Settings, description=__doc__)))

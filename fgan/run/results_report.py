"""The report of a folder of results, of a sweep or an experiment: its pictures, and its tables, as one page."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fgan.run import html
from fgan.run.directory import CONFIG, RunNotFound
from fgan.run.json_files import damaged, read_text

RESULTS = "results.csv"
MOST = 200  # lines of a table that are shown; the file beside the page has all
AGAIN = "make it anew by the same command"


def is_results(folder: Path) -> bool:
    """Whether a folder holds results of several runs: a sweep's table, or an experiment's data."""
    return (folder / RESULTS).is_file() or (not (folder / CONFIG).exists() and any(folder.glob("*.json")))


def of_results(folder: Path) -> str:
    """The page about a folder of results. Raises RunNotFound where it holds none, CheckpointError for damaged ones."""
    if not is_results(folder):
        raise RunNotFound(f"{folder} holds no results; name the directory of a run, a sweep or an experiment")
    pictures = [html.picture(path, path.stem.replace("_", " ")) for path in sorted(folder.glob("*.png"))]
    tables = [piece for path in sorted(folder.glob("*.json")) for piece in _of_json(path)]
    if (folder / RESULTS).is_file():
        tables.insert(0, _of_csv(folder / RESULTS))
    if not any((*pictures, *tables)):
        raise RunNotFound(f"{folder} holds no results; name the directory of a run, a sweep or an experiment")
    return html.page(
        folder.resolve().name,
        html.paragraph(folder, "lead"),
        html.section("What was found", *pictures, *tables),
    )


def _of_csv(path: Path) -> str:
    try:
        head, *rows = csv.reader(read_text(path, AGAIN).splitlines())
    except (ValueError, csv.Error) as error:
        raise damaged(str(path), str(error), AGAIN) from error
    filled = [k for k, name in enumerate(head) if any(k < len(row) and row[k] for row in rows)]
    return _table([head[k] for k in filled], [[row[k] if k < len(row) else "" for k in filled] for row in rows])


def _of_json(path: Path) -> Iterator[str]:
    """The aims and the rows of an experiment's JSON, as far as they are numbers and words."""
    try:
        found = json.loads(read_text(path, AGAIN))
    except (ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        return
    if isinstance(aims := found.get("aims"), dict) and all(isinstance(met, bool) for met in aims.values()):
        yield html.bullets(f"{'met' if met else 'MISSED'}: {aim}" for aim, met in aims.items())
    listed = found.get("rows")
    rows = [_flat(row) for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    head = list(dict.fromkeys(name for row in rows for name in row))
    yield _table([name.replace("_", " ") for name in head], [[row.get(name, "") for name in head] for row in rows])


def _flat(row: dict[str, Any], before: str = "") -> dict[str, str]:
    """Name → number or word of a row; means with their standard errors as one."""
    found: dict[str, str] = {}
    for name, value in row.items():
        if isinstance(value, dict) and value.get("mean") is not None:
            error = value.get("standard_error", value.get("error"))
            found[before + name] = html.number(value["mean"]) + (
                f" ± {html.number(error)}" if error is not None else ""
            )
        elif isinstance(value, dict):
            found |= _flat(value, f"{before}{name} ")
        elif not isinstance(value, list) and value is not None:
            found[before + name] = html.number(value)
    return found


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    more = f"{len(rows) - MOST:,} more rows are in the file" if len(rows) > MOST else ""
    return html.table(head, rows[:MOST]) + (html.paragraph(more) if more else "")

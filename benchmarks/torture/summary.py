"""What a torture has come to: counts of verdicts, sums of what the cases counted, the failures in their own words."""

import datetime
import importlib.metadata
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks import summaries
from benchmarks.torture.journal import Row

SHOWN = 10  # failures of a section that the summary holds whole
PACKAGES = ("jax", "jaxlib", "numpy", "optax", "orbax-checkpoint", "scipy", "matplotlib")
NAMES = ("section", "case", "seconds", "verdict")  # of a row, which are no counts


def summary(rows: Sequence[Row], sections: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of `rows` as JSON; `sections` has the module of each section by name."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "date": datetime.date.today().isoformat(),
        "machines": summaries.machines(rows),
        "versions": {"python": platform.python_version()} | versions,
        "commits": sorted({row["commit"] for row in rows}),
        "sections": {
            name: {"about": module.ABOUT, "of": module.COUNT} | of_section([r for r in rows if r["section"] == name])
            for name, module in sections.items()
        },
    }


def of_section(rows: Sequence[Row]) -> dict[str, Any]:
    """Cases, seconds, verdicts counted, the sums of whatever the cases counted, and the first failures."""
    failed = [row for row in rows if row["verdict"] != "ok"]
    verdicts = Counter("ok" if row["verdict"] == "ok" else "not ok" for row in rows)
    return {
        "cases": len(rows),
        "verdicts": {"ok": verdicts["ok"], "not ok": verdicts["not ok"]},
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        **sums(rows),
        "failures": failed[:SHOWN],
    }


def sums(rows: Iterable[Row]) -> dict[str, Any]:
    """The sum of each whole number that rows hold, and of those in a mapping by its keys."""
    single: Counter[str] = Counter()
    several: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        for name, value in row.items():
            if name in NAMES:
                continue
            if type(value) is int:
                single[name] += value
            elif isinstance(value, Mapping) and all(type(count) is int for count in value.values()):
                several[name].update(value)
    return dict(single) | {name: dict(counts.most_common()) for name, counts in several.items()}


def table(facts: Mapping[str, Any]) -> str:
    """The summary as lines of text, a section after the other."""
    lines = [f"{'section':<14}{'cases':>8}{'of':>8}{'ok':>8}{'not ok':>8}{'seconds':>10}"]
    for name, found in facts["sections"].items():
        verdicts = found["verdicts"]
        numbers = (found["cases"], found["of"], verdicts["ok"], verdicts["not ok"])
        lines.append(f"{name:<14}" + "".join(f"{n:>8}" for n in numbers) + f"{found['seconds']:>10.0f}")
        lines += [f"  {key}: {_counted(value)}" for key, value in found.items() if key not in SHOWN_APART]
        lines += [f"  case {row['case']}: {row['what']}: {row['verdict']}" for row in found["failures"]]
    return "\n".join(lines)


SHOWN_APART = ("about", "cases", "of", "verdicts", "seconds", "failures")


def _counted(value: int | Mapping[str, int]) -> str:
    return f"{value:,}" if isinstance(value, int) else ", ".join(f"{key} {count:,}" for key, count in value.items())

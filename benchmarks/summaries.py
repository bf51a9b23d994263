"""Aggregates of a ledger's rows: bias, root mean square error, coverage, time. Pure functions of rows.

A row is a run with, if it was measured, `estimates`: name → value, low, high, standard_error, trust, truth,
truth_error; rows measured before 30 November 2026 keep no `trust`.
A summary is a list of flat mappings, one a line of a table. Values and errors in nats.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmarks.ledger import Row

LEVEL = 0.95  # nominal, of the intervals
CLOSE = 0.1  # nats within which a mutual information counts as found
SIZE = 0.05  # nominal, of the tests
FLOOR = 0.88  # coverage below which a task is flagged, whatever the others' is
LOWER_BOUND = "lower bound only"  # how the verdict of an estimate begins that may be far below the truth
NO_FIGURES: Mapping[str, Mapping[str, float]] = MappingProxyType({})


def measured(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if "reason" not in row]


def failures(rows: Sequence[Row]) -> list[Row]:
    """One line a method and reason, with how many runs and on which tasks; parts that have come since left out."""
    worked = {row["method"] for row in measured(rows)}
    groups = _grouped(
        (r for r in rows if "reason" in r and not (r["task"].startswith("*") and r["method"] in worked)),
        "method",
        "reason",
    )
    return [
        {"method": method, "reason": reason, "runs": len(group), "tasks": sorted({r["task"] for r in group})}
        for (method, reason), group in groups.items()
    ]


def seconds(rows: Sequence[Row]) -> dict[str, float]:
    """Mean seconds of the calls that did not compile (of all, if each did), and of those that did."""
    first = [r["seconds"] for r in rows if r.get("first")]
    later = [r["seconds"] for r in rows if not r.get("first")]
    return {"seconds": _mean(later or first), "first_seconds": _mean(first)}


def errors(facts: Sequence[Row]) -> dict[str, float]:
    """Bias with its standard error, root mean square and mean absolute error, error in standard errors, coverage.

    Infinite truths have no error; intervals hold them if their upper end is infinite.
    """
    values, truths, ours, theirs = (_column(facts, k) for k in ("value", "truth", "standard_error", "truth_error"))
    finite = np.isfinite(truths) & np.isfinite(values)
    gaps, spread = (values - truths)[finite], np.hypot(ours, np.nan_to_num(theirs))[finite]
    scaled = gaps[spread > 0.0] / spread[spread > 0.0]
    return {
        "truth": _mean(truths),
        "bias": _mean(gaps),
        "bias_error": float(gaps.std(ddof=1) / math.sqrt(len(gaps))) if len(gaps) > 1 else math.nan,
        "rmse": math.sqrt(_mean(gaps**2)) if len(gaps) else math.nan,
        "absolute": _mean(np.abs(gaps)),
        "in_standard_errors": math.sqrt(_mean(scaled**2)) if len(scaled) else math.nan,
        "covered": _mean([covers(f) for f in facts if "low" in f]),
    }


def covers(facts: Row) -> bool:
    """Whether the interval holds the truth."""
    return float(facts["low"]) <= float(facts["truth"]) <= float(facts["high"])


def by_task(rows: Sequence[Row]) -> list[Row]:
    """One line a method, task, n and divergence: runs, `errors`, `seconds`."""
    return [
        {
            "method": method,
            "task": task,
            "n": n,
            "divergence": name,
            "runs": len(group),
            **errors([r["estimates"][name] for r in group]),
            **seconds(group),
        }
        for (method, task, n), group in _grouped(measured(rows), "method", "task", "n").items()
        for name in group[0].get("estimates", ())
    ]


def by_divergence(rows: Sequence[Row]) -> list[Row]:
    """One line a method, n and divergence: tasks, mean absolute error, median relative error, coverage, seconds."""
    lines = []
    for (method, n, name), group in _grouped(by_task(rows), "method", "n", "divergence").items():
        relative = [line["absolute"] / line["truth"] for line in group if 0.0 < line["truth"] < math.inf]
        lines.append(
            {
                "method": method,
                "n": n,
                "divergence": name,
                "tasks": len(group),
                "absolute": _mean([line["absolute"] for line in group]),
                "median_relative": float(np.nanmedian(relative)) if np.isfinite(relative).any() else math.nan,
                "in_standard_errors": _mean([line["in_standard_errors"] for line in group]),
                "covered": _mean([line["covered"] for line in group]),
                "seconds": _mean([line["seconds"] for line in group]),
            }
        )
    return lines


def coverage(rows: Sequence[Row]) -> list[Row]:
    """One line a method, n and divergence: the share of intervals that hold the truth, over all tasks and at worst.

    Tasks whose truth is infinite are counted apart, since samples cannot show it. The error is binomial,
    √(c(1 − c)/k) with c = (hits + 2)/(k + 4) (Agresti & Coull 1998), above 0 at c = 1 too.
    """
    lines = []
    for (method, n), group in _grouped((r for r in measured(rows) if "estimates" in r), "method", "n").items():
        for name in group[0]["estimates"]:
            finite, infinite = _hits(group, name)
            pooled, endless = ([hit for task in some.values() for hit in task] for some in (finite, infinite))
            worst = min(finite, key=lambda task: _mean(finite[task]), default="–")
            share = (sum(pooled) + 2.0) / (len(pooled) + 4.0)
            lines.append(
                {
                    "method": method,
                    "n": n,
                    "divergence": name,
                    "tasks": len(finite),
                    "intervals": len(pooled),
                    "covered": _mean(pooled),
                    "covered_error": math.sqrt(share * (1.0 - share) / max(len(pooled), 1)),
                    "worst": _mean(finite.get(worst, [])),
                    "worst_task": worst,
                    "infinite": len(infinite),
                    "infinite_covered": _mean(endless),
                }
            )
    return lines


def kinds(rows: Sequence[Row]) -> list[Row]:
    """One line a method, n, task and divergence: coverage, bias, width and verdicts of the intervals.

    An interval without an upper end holds any truth above its lower end, so it is `open`, and has no width;
    `closed_covered` is the share among the others. Lines of a finite truth with coverage below `FLOOR` are flagged.
    """
    lines = []
    for (method, n, task), group in _grouped(measured(rows), "method", "n", "task").items():
        for name in group[0]["estimates"]:
            facts = [row["estimates"][name] for row in group]
            closed = [f for f in facts if math.isfinite(float(f["high"]))]
            found = errors(facts)
            line = {
                "task": task,
                "method": method,
                "n": n,
                "divergence": name,
                "runs": len(facts),
                **{key: found[key] for key in ("truth", "bias", "bias_error", "rmse", "covered")},
                "below": sum(float(f["high"]) < float(f["truth"]) for f in facts),
                "above": sum(float(f["low"]) > float(f["truth"]) for f in facts),
                "width": _mean([float(f["high"]) - float(f["low"]) for f in closed]),
                "open": len(facts) - len(closed),
                "closed_covered": _mean([covers(f) for f in closed]),
                "trust": verdicts(facts),
                "flag": "LOW" if found["covered"] < FLOOR and math.isfinite(found["truth"]) else "",
                **seconds(group),
            }
            lines.append(line)
    return lines


def small(rows: Sequence[Row], *also: str) -> list[Row]:
    """One line a method and n (and whatever else is named): coverage and mean squared error, beside KSG's.

    Runs without a result are counted, and left out of the rest. Both errors are over the same samples, and `truth` is
    the mean; median squared errors are beside the means, which a few laws of much information decide.
    """
    lines = []
    for key, group in _grouped(rows, "method", "n", *also).items():
        done = measured(group)
        facts = [row["estimates"]["mutual_information"] for row in done]
        closed = [f for f in facts if math.isfinite(float(f["high"]))]
        found, truths = errors(facts), _column(facts, "truth")
        ours = (_column(facts, "value") - truths) ** 2
        theirs = (np.array([float(row["ksg"]) for row in done]) - truths) ** 2
        share = (sum(covers(f) for f in facts) + 2.0) / (len(facts) + 4.0)
        line = {
            **dict(zip(("method", "n", *also), key, strict=True)),
            "fits": len(done),
            "no_result": len(group) - len(done),
            "truth": found["truth"],
            "bias": found["bias"],
            "covered": found["covered"],
            "covered_error": math.sqrt(share * (1.0 - share) / max(len(facts), 1)),
            "below": sum(float(f["high"]) < float(f["truth"]) for f in facts),
            "above": sum(float(f["low"]) > float(f["truth"]) for f in facts),
            "open": len(facts) - len(closed),
            "closed_covered": _mean([covers(f) for f in closed]),
            "width": _mean([float(f["high"]) - float(f["low"]) for f in closed]),
            "mse": _mean(ours[np.isfinite(ours)]),
            "ksg_mse": _mean(theirs),
            "median_squared": float(np.median(ours)) if done else math.nan,
            "ksg_median_squared": float(np.median(theirs)) if done else math.nan,
            "trust": verdicts(facts),
            **seconds(done),
        }
        lines.append(line)
    return sorted(lines, key=lambda line: (line["method"], line["n"], *(line["task"] for _ in also)))


def squared(rows: Sequence[Row], bands: Mapping[str, tuple[int, int]]) -> list[Row]:
    """One line a method and band of n, and one for ksg: the mean squared error, with columns for published ones."""
    lines = []
    for band, (least, end) in bands.items():
        groups = _grouped((row for row in measured(rows) if least <= row["n"] < end), "method")
        of_methods = {
            method: [row["estimates"]["mutual_information"] for row in some] for (method,), some in groups.items()
        }
        everything = [row for some in groups.values() for row in some]
        neighbours = [{**row["estimates"]["mutual_information"], "value": row["ksg"]} for row in everything]
        for method, facts in (*of_methods.items(), *([("ksg", neighbours)] if everything else [])):
            gaps = (_column(facts, "value") - _column(facts, "truth")) ** 2
            unknown = dict.fromkeys(("inside", "outside", "seconds"))
            lines.append({"method": method, "n": band, "mse": _mean(gaps[np.isfinite(gaps)]), **unknown})
    return lines


def verdicts(facts: Sequence[Row]) -> str:
    """How often each verdict of `trust` was given, most often first, without its reason."""
    given = Counter(str(f["trust"]).partition(":")[0] for f in facts if f.get("trust"))
    return ", ".join(f"{verdict} {count}" for verdict, count in given.most_common())


def _hits(rows: Sequence[Row], name: str) -> tuple[dict[str, list[bool]], dict[str, list[bool]]]:
    """Task → whether each interval held the truth, for finite truths and for infinite ones."""
    finite: dict[str, list[bool]] = defaultdict(list)
    infinite: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        facts = row["estimates"][name]
        (infinite if math.isinf(float(facts["truth"])) else finite)[row["task"]].append(covers(facts))
    return dict(finite), dict(infinite)


def tests(rows: Sequence[Row]) -> list[Row]:
    """One line a test, task and n where P = Q: the share of p-values at most `SIZE`, with its binomial error."""
    groups = _grouped((r for r in measured(rows) if "p_value" in r), "method", "task", "n")
    lines = []
    for (method, task, n), group in groups.items():
        rejected = _mean([r["p_value"] <= SIZE for r in group])
        error = math.sqrt(SIZE * (1.0 - SIZE) / len(group))
        line = {
            "method": method,
            "task": task,
            "n": n,
            "runs": len(group),
            "rejected": rejected,
            "rejected_error": error,
        }
        lines.append(line | seconds(group))
    return lines


def information(rows: Sequence[Row]) -> list[Row]:
    """One line a method and n: mean absolute error over tasks, tasks found within `CLOSE`, coverage, seconds."""
    lines = []
    for (method, n), group in _grouped(by_task(rows), "method", "n").items():
        line = {
            "method": method,
            "n": n,
            "tasks": len(group),
            "absolute": _mean([task["absolute"] for task in group]),
            "close": sum(abs(task["bias"]) <= CLOSE for task in group),
            "worst": max(task["absolute"] for task in group),
            "worst_task": max(group, key=lambda task: task["absolute"])["task"],
            "covered": _mean([task["covered"] for task in group]),
            "seconds": _mean([task["seconds"] for task in group]),
        }
        lines.append(line)
    return lines


def by_information(rows: Sequence[Row], published: Mapping[str, Mapping[str, float]] = NO_FIGURES) -> list[Row]:
    """One line a method, task and n: the truth, mean estimate and interval, and how the estimates and intervals did.

    found        share of estimates within `CLOSE` of the truth, or whose closed interval holds it
    covered      share of intervals that hold the truth, those without an upper end among them
    open         intervals without an upper end
    lower_bound  estimates whose verdict is 'lower bound only'; not known of rows that keep no verdict

    `published` holds others' figures, task → estimator → nats; each estimator is one more column.
    """
    lines = []
    others = dict.fromkeys(name for figures in published.values() for name in figures)
    for (method, task, n), group in _grouped(measured(rows), "method", "task", "n").items():
        facts = [r["estimates"]["mutual_information"] for r in group]
        values, truths, low, high = (_column(facts, k) for k in ("value", "truth", "low", "high"))
        holds, verdicts = (low <= truths) & (truths <= high), [f["trust"] for f in facts if "trust" in f]
        line = {
            "method": method,
            "task": task,
            "n": n,
            "runs": len(group),
            "truth": _mean(truths),
            "truth_error": _mean(_column(facts, "truth_error")),
            "estimate": _mean(values),
            "low": _mean(low),
            "high": _mean(high),
            "found": _mean((np.abs(values - truths) <= CLOSE) | (holds & np.isfinite(high))),
            "covered": _mean(holds),
            "open": int(np.isposinf(high).sum()),
            "lower_bound": sum(v.startswith(LOWER_BOUND) for v in verdicts) if verdicts else None,
            **{name: published.get(task, {}).get(name, math.nan) for name in others},
            **seconds(group),
        }
        lines.append(line)
    return lines


def frontier(rows: Sequence[Row], divergence: str) -> list[Row]:
    """One line a method and n: mean absolute error and seconds over the tasks all share; `tasks` says on how many."""
    shared = [line for line in by_task(rows) if line["divergence"] == divergence]
    total = len({line["task"] for line in shared})
    lines = [
        {
            "method": method,
            "n": n,
            "tasks": sum(math.isfinite(line["absolute"]) for line in group),
            "of": total,
            "absolute": _mean([line["absolute"] for line in group]),
            "seconds": _mean([line["seconds"] for line in group]),
        }
        for (method, n), group in _grouped(shared, "method", "n").items()
    ]
    return sorted(lines, key=lambda line: line["absolute"])


def large(rows: Sequence[Row]) -> list[Row]:
    """One line a measured run of the scale suite: value, truth, seconds, GiB."""
    return [
        {
            **{name: row[name] for name in ("method", "task", "n", "value", "truth", "seconds")},
            "gibibytes": row["peak_bytes"] / 2**30,
            "before_gibibytes": row["before_bytes"] / 2**30,
        }
        for row in measured(rows)
    ]


def own_words(rows: Sequence[Row]) -> list[Row]:
    """One line a run that holds `steps`: what the library's own staircase returned."""
    return [
        {"method": r["method"], "seconds": r["seconds"], "steps": r["steps"]} for r in measured(rows) if "steps" in r
    ]


def machines(rows: Iterable[Row]) -> list[Row]:
    """One line a machine: how many runs it measured, and when."""
    return [
        {
            "machine": name,
            "runs": len(group),
            "from": min(r["date"] for r in group),
            "to": max(r["date"] for r in group),
        }
        for (name,), group in _grouped((r for r in rows if "machine" in r), "machine").items()
    ]


def _grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in names)].append(row)
    return dict(groups)


def _column(facts: Sequence[Row], name: str) -> np.ndarray:
    """One number of each; NaN where it is not known."""
    return np.array([math.nan if f.get(name) is None else float(f[name]) for f in facts])


def _mean(values) -> float:
    """The mean of those that are not NaN; NaN if none is."""
    kept = np.asarray(values, np.float64)
    kept = kept[~np.isnan(kept)]
    return float(kept.mean()) if len(kept) else math.nan

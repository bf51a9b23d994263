"""Where a step's time goes: the profile beside the aims that `benchmarks.speed` misses.

    python -m benchmarks.profile                            the cases that speed.json says are missed
    python -m benchmarks.profile --cases 'step images*'     shell patterns over the cases of benchmarks.speed

JAX's own profiler notes every operation that a worker thread runs. Each instant of the step is shared equally among the
operations that run then, so that the kinds of operation and `idle` add up to the step as profiled, which for steps of a
few hundred µs is longer than without the profiler. A product of matrices is counted at the speed it had here and beside
it that of a large product; an operation that keeps one thread busy while the other sleeps counts under `alone` too. A
restart is split into stages instead. On CPUs; written to `results/profile.json`.
"""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import jax
import tyro

from benchmarks import speed
from benchmarks.contestants import PRODUCT, ROOT, Case, CriticUpdates, Ours, keeping, products
from benchmarks.estimation import RESULTS, machine
from benchmarks.ledger import Ledger, plain


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Profile the speed of training.

    Attributes:
        cases: shell patterns; by default those that missed their aim.
        results: the folder of the report.
    """

    cases: tuple[str, ...] = ()
    results: Path = RESULTS


class Event(NamedTuple):
    """One operation on one thread, in nanoseconds."""

    start: float
    end: float
    name: str
    thread: str


NO_OPERATION = ("ThunkExecutor", "Threadpool", "Slinky", "while", "end:", "call")
"""Events that enclose or attend operations."""


def events(folder: Path) -> list[Event]:
    """The operations in the trace that jax.profiler left in `folder`."""
    (path,) = folder.rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    lines = [line for plane in planes for line in plane.lines if "Eigen" in line.name]
    return [
        Event(e.start_ns, e.start_ns + e.duration_ns, e.name, line.name)
        for line in lines
        for e in line.events
        if not e.name.startswith(NO_OPERATION)
    ]


def kinds(program: str) -> dict[str, str]:
    """The kind of every operation of a compiled program, from its text."""
    bodies, found = {}, {}
    for block in re.split(r"\n\n", program):
        if head := re.match(r"%?([\w.\-]+) ", block):
            bodies[head[1]] = block
    for name, rest in re.findall(r"^\s*(?:ROOT )?%([\w.\-]+) = (.*)$", program, flags=re.MULTILINE):
        called = re.search(r"calls=%([\w.\-]+)", rest)
        body = bodies.get(called[1], "") if called else f" {rest}"
        found[name] = _kind(name, body)
    return found


def _kind(name: str, body: str) -> str:
    if " dot(" in body:
        return "products"
    if " concatenate(" in body or "pad" in name or "slice" in name:
        return "windows and slices"
    if " transpose(" in body or name.startswith("copy"):
        return "copies"
    if " reduce(" in body:
        return "sums"
    return "elementwise"


def shares(found: Iterable[Event], kind: Mapping[str, str]) -> tuple[dict[str, float], dict[str, float]]:
    """(seconds of each kind, and `idle`; those that it ran alone): every instant shared among what runs then."""
    edges = sorted([(e.start, 1, e) for e in found] + [(e.end, -1, e) for e in found], key=lambda edge: edge[:2])
    total: defaultdict[str, float] = defaultdict(float)
    alone: defaultdict[str, float] = defaultdict(float)
    running: Counter[tuple[str, str]] = Counter()
    before = edges[0][0]
    for time, change, event in edges:
        span = 1e-9 * (time - before)
        now = [kind.get(name, "elementwise") for (name, _), n in running.items() if n > 0]
        for which in now or ["idle"]:
            total[which] += span / max(len(now), 1)
        if len(now) == 1:
            alone[now[0]] += span
        running[event.name, event.thread] += change
        before = time
    return total, alone


def of_chunk(case: Case, updates: bool = False) -> dict[str, Any]:
    """Seconds a step and their shares, of a whole step or of the critic's update alone."""
    ours = CriticUpdates(case) if updates else Ours(case)
    n, multiply = case.chunk, products(PRODUCT)
    multiply(1)
    peak = 2 * PRODUCT**3 / min(multiply(1) for _ in range(5))
    seconds = min(ours.run(n) for _ in range(5)) / n
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            ours.run(n)
        found = events(Path(folder))
    total, alone = shares(found, kinds(ours.compiled.as_text() or ""))
    facts: dict[str, Any] = {"seconds": seconds, "peak": peak, "profiled": sum(total.values()) / n}
    facts |= {"shares": _a_step(total, n), "alone": _a_step(alone, n)}
    if not updates:
        facts["product_rate"] = case.operations() * n / total["products"]
    return facts


def _a_step(seconds: Mapping[str, float], n: int) -> dict[str, float]:
    """Seconds of n steps as those of one, the longest first."""
    return {name: value / n for name, value in sorted(seconds.items(), key=lambda item: -item[1])}


STAGES = """
import gc, time
gc.set_threshold(50_000)  # as the command line does
begun = time.perf_counter()
laps = {}

def lap(name):
    global begun
    laps[name], begun = time.perf_counter() - begun, time.perf_counter()

import jax
lap("import jax")
import flax.linen, optax
lap("import flax and optax")
import json
import jax.numpy as jnp
from fgan.devices import engines
from fgan.run import compile_cache as programs
from fgan.run import loop, program
from fgan.config.toml import load
from fgan.data.sources import load as load_data
lap("import fgan")
programs.keep()
config = load("configs/ring.toml")
data = load_data(config.data)
layout = engines.layout(config.parallel)
lap("configuration, data, devices")
state = jax.block_until_ready(program.fresh(config, data, layout=layout))
lap("first state")
arguments = (jnp.asarray(data.rows), program.seed_numbers(config), state, jnp.asarray(0, jnp.int32))
traced = jax.jit(program.chunk(config, data, config.log.every)(engines.replicas(layout))).trace(*arguments)
lap("trace the chunk")
lowered = traced.lower()
lap("lower it")
lowered.compile()
lap("compile it, or read it back")
print(json.dumps(laps))
"""


def of_restart() -> dict[str, Any]:
    """Seconds of each stage of a start, the first and the fastest of three others."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", STAGES]
        starts = [
            json.loads(subprocess.run(command, cwd=ROOT, env=keeping(folder), check=True, capture_output=True).stdout)
            for _ in range(4)
        ]
    return {"first start": starts[0], "later start": min(starts[1:], key=lambda laps: sum(laps.values()))}


def profile(case: Case) -> dict[str, Any]:
    """The facts of one case."""
    if case.kind == "restart":
        return of_restart()
    if case.kind == "penalty":
        return {name: of_chunk(replace(case, penalty=name == "with"), updates=True) for name in ("without", "with")}
    return {"step": of_chunk(case)}


def table(found: Mapping[str, Any]) -> str:
    """The profiles as text."""
    lines = []
    for name, parts in found.items():
        for part, facts in parts.items():
            if "shares" not in facts:
                stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in facts.items())
                lines.append(f"{name}, {part}: {sum(facts.values()):.2f} s: {stages}")
                continue
            rate = facts.get("product_rate")
            speed = f"; products at {rate / 1e9:.0f} of {facts['peak'] / 1e9:.0f} GFLOP/s" if rate else ""
            slowed = f"{1e3 * facts['seconds']:.2f} ms, {1e3 * facts['profiled']:.2f} under the profiler"
            lines.append(f"{name}, {part}: {slowed}{speed}")
            lines += [
                f"    {kind:<20}{1e3 * seconds:9.2f} ms {100 * seconds / facts['profiled']:5.1f} %, "
                f"alone {1e3 * facts['alone'].get(kind, 0.0):.2f} ms"
                for kind, seconds in facts["shares"].items()
            ]
    return "\n".join(lines)


def main(settings: Settings) -> int:
    """Profile the cases, print the table, write the report. The exit code."""
    known = speed.cases()
    missed = tuple(row["task"] for row in Ledger(settings.results, "speed").rows() if row.get("met") is False)
    patterns = settings.cases or missed
    chosen = {name: case for name, case in known.items() if any(fnmatch(name, p) for p in patterns)}
    chosen = {name: case for name, case in chosen.items() if case.kind in ("step", "penalty", "restart")}
    if not chosen:
        print(f"no case to profile; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    settings.results.mkdir(parents=True, exist_ok=True)
    path = settings.results / "profile.json"
    before = json.loads(path.read_text())["cases"] if path.exists() else {}
    found = {}
    for name, case in chosen.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        found[name] = profile(case)
    print(table(found))
    stamp = {"machine": machine(), "date": datetime.date.today().isoformat()}
    cases = before | {name: facts | {"when": stamp} for name, facts in found.items()}
    ordered = {name: cases[name] for name in known if name in cases}
    path.write_text(json.dumps(plain({"cases": ordered}), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))

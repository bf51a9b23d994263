"""Speed of the training chunk: against PyTorch, against the machine's own matrix product, and from the first keypress.

    python -m benchmarks.speed                                  every case; about ten minutes on two cores
    python -m benchmarks.speed --cases 'step 64*' 'penalty *'   shell patterns
    python -m benchmarks.speed --quick                          a smoke run, whose numbers mean nothing
    python -m benchmarks.speed --torch none                     without PyTorch
    python -m benchmarks.speed --report-only                    tables and picture from the ledger

What is timed is `fgan.run.program.chunk`, many steps in one compiled call, with its draws and metrics. PyTorch runs
`torch_step.py` in an interpreter of its own: same networks (the numbers of parameters must agree), batch, Adam and
alternating updates, each network drawing its own noise. In every repetition all contestants and the matrix product
take a turn, so that a machine that slows down slows them all; a ratio is that of the medians, its spread the quartiles
of the ratios within repetitions.

Runs are kept in `results/speed.jsonl` as `benchmarks.ledger` does; the report is `speed.json` and `speed.png`.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.figure import Figure

from benchmarks import peers
from benchmarks.contestants import PRODUCT, ROOT, ROWS, Case, CriticUpdates, Ours, Torch, keeping, products, small
from benchmarks.estimation import RESULTS, machine
from benchmarks.ledger import Ledger, Row, Run, plain
from estimators.plot_style import PALETTE, STYLE, save

PAUSE = 0.25  # seconds between contestants, for the threads of the last one to fall asleep
AIMED = ("eager", "compile")
CONTESTANTS = ("eager", "compile", "eager fused")  # `fused`: Adam's fused kernels, which one has to ask for


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Benchmark the speed of training.

    Attributes:
        cases: shell patterns.
        torch: the Python that has PyTorch; auto makes the environment of the peer torch-mist, none leaves it out.
        contestants: which of PyTorch's ways to run; `compile` takes minutes a case before its first step.
        patience: seconds that each has for its first steps.
        repetitions: turns of every contestant.
        seconds: how long one turn lasts, about.
        quick: one short turn on small sizes, to see that it works; writes into a folder of its own.
        report_only: measure nothing, report what the ledger holds.
        results: the folder of ledger and report.
    """

    cases: tuple[str, ...] = ()
    torch: str = "auto"
    contestants: tuple[str, ...] = CONTESTANTS
    patience: float = 300.0
    repetitions: int = 5
    seconds: float = 1.0
    quick: bool = False
    report_only: bool = False
    results: Path = RESULTS


def cases() -> dict[str, Case]:
    """Every case by name; those of wide networks and narrow numbers only on an accelerator."""
    sizes = ((64, 128, 200, 6.0), (128, 512, 50, 1.7), (256, 512, 25, 1.45), (512, 512, 10, 1.22))
    image = Case(kind="step", features=(128, 64), batch=64, latent=64, side=28, chunk=10, aim=1.0)
    table = {}
    for w, b, n, aim in sizes:
        plain_step = Case(kind="step", features=(w, w), batch=b, chunk=n, aim=aim)
        table[f"step {w}/{b}"] = plain_step
        table[f"step {w}/{b}, jsd penalty"] = replace(plain_step, penalty=True)
    table["step images 28×28"] = image
    for w, b, n, _ in sizes:
        table[f"penalty {w}/{b}"] = Case(kind="penalty", features=(w, w), batch=b, chunk=n, penalty=True, aim=2.2)
    table["8 seeds 64/128"] = Case(kind="seeds", seeds=8, chunk=100, aim=1.0)
    table["help"], table["restart"] = Case(kind="help", aim=0.5), Case(kind="restart", aim=2.0)
    if jax.default_backend() == "cpu":
        return table
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        for w in (128, 256, 512, 1024, 2048, 4096):
            wide = Case(kind="step", features=(w, w), batch=4096, precision=precision, chunk=20)
            table[f"step {w}/4096, {precision}"] = wide
        table[f"step images 28×28, batch 1024, {precision}"] = replace(image, batch=1024, precision=precision, aim=None)
    return table


# --- a case ----------------------------------------------------------------------------------------------------------
Turn = Callable[[int], float]


def interleaved(turns: Mapping[str, Turn], settings: Settings) -> dict[str, list[float]]:
    """Seconds a step of every contestant, one for each repetition, in turns."""
    counts = {}
    for name, turn in turns.items():
        turn(1)
        counts[name] = max(1, int(settings.seconds / max(turn(3) / 3, 1e-7)))
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(settings.repetitions):
        for name, turn in turns.items():
            time.sleep(PAUSE if settings.seconds > PAUSE else 0.0)
            found[name].append(turn(counts[name]) / counts[name])
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """The ratio of the medians, and the quartiles of the ratios within repetitions."""
    low, high = np.quantile(np.divide(above, below), [0.25, 0.75])
    return {"ratio": median(above) / median(below), "low": float(low), "high": float(high)}


def time_steps(case: Case, settings: Settings, python: str | Path | None, absent: str) -> dict[str, Any]:
    """Ours and PyTorch's step in turns, ratios, and the share of the matrix product's speed."""
    ours, size = Ours(case), 64 if settings.quick else PRODUCT
    with ExitStack() as processes:
        theirs, failed = torch_turns(case, settings, python, absent, ours.parameters, processes)
        seconds = interleaved({"ours": ours.run, **theirs, "product": products(size)}, settings)
    peak = 2 * size**3 / min(seconds.pop("product"))
    rate = case.operations() / median(seconds["ours"])
    return {
        "seconds": {name: median(values) for name, values in seconds.items()},
        "ratios": {name: ratio(values, seconds["ours"]) for name, values in seconds.items() if name != "ours"},
        "failed": failed,
        "parameters": ours.parameters,
        "compile_seconds": ours.compile_seconds,
        "operations": case.operations(),
        "rate": rate,
        "peak": peak,
        "share": rate / peak,
    }


def torch_beside(settings: Settings) -> tuple[str | Path | None, str]:
    """(the Python that has PyTorch, its version), or (None, why there is none)."""
    if settings.torch == "none":
        return None, "left out by --torch none"
    try:
        python = peers.environment("torch-mist") if settings.torch == "auto" else settings.torch
        with Torch(python) as torch:
            return python, "{torch}, {threads} threads".format(**torch.ask(do="about"))
    except (peers.PeerFailure, OSError) as failure:
        return None, str(failure)


def torch_turns(
    case: Case, settings: Settings, python: str | Path | None, absent: str, parameters: int, processes: ExitStack
) -> tuple[dict[str, Turn], dict[str, str]]:
    """(PyTorch's ways to run that made their first steps, why the others did not), each in a process of its own."""
    turns: dict[str, Turn] = {}
    failed = {how: "left out by --contestants" for how in CONTESTANTS if how not in settings.contestants}
    if python is None:
        return turns, failed | dict.fromkeys(settings.contestants, absent)
    for how in settings.contestants:
        with ExitStack() as own:  # one that fails ends here, before the others are timed
            torch = own.enter_context(Torch(python))
            try:
                made = torch.ask(settings.patience, do="make", case={**asdict(case), "how": how, "rows": ROWS})
            except peers.PeerFailure as failure:
                failed[how] = str(failure)
                continue
            processes.push(own.pop_all())
        if made["parameters"] != parameters:
            raise AssertionError(f"PyTorch's networks have {made['parameters']} parameters, ours {parameters}")
        turns[how] = partial(torch.seconds, how)
    return turns, failed


def time_penalty(case: Case, settings: Settings) -> dict[str, Any]:
    """A critic update with the penalty over one without."""
    updates = {name: CriticUpdates(replace(case, penalty=name == "with")) for name in ("with", "without")}
    seconds = interleaved({name: update.run for name, update in updates.items()}, settings)
    return {"seconds": _medians(seconds), "ratios": {"cost": ratio(seconds["with"], seconds["without"])}}


def time_seeds(case: Case, settings: Settings) -> dict[str, Any]:
    """A step of one seed over that of many at once, a seed."""
    many, one = Ours(case), Ours(replace(case, seeds=1))
    seconds = interleaved({"one": one.run, "each of many": lambda n: many.run(n) / case.seeds}, settings)
    return {"seconds": _medians(seconds), "ratios": {"gain": ratio(seconds["one"], seconds["each of many"])}}


def _medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: median(values) for name, values in seconds.items()}


def _cli(*words: str) -> list[str]:
    return [sys.executable, "-m", "fgan", *words]


def time_help(settings: Settings) -> dict[str, Any]:
    """Seconds of `fgan --help`, from start to end of the process."""
    found = []
    for _ in range(settings.repetitions):
        begun = time.perf_counter()
        subprocess.run(_cli("--help"), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - begun)
    return {"seconds": {"help": median(found)}}


def time_restart(settings: Settings) -> dict[str, Any]:
    """Seconds from starting `fgan train configs/ring.toml` to its first step, with nothing kept and with all."""
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + min(settings.repetitions, 5)):
            found.append(_first_step(Path(folder), f"run{i}"))
    return {"seconds": {"first start": found[0], "second start": median(found[1:])}}


def _first_step(folder: Path, name: str) -> float:
    """Seconds until the run `name`, with its compiled programs kept in `folder`, has made a step."""
    timings = folder / name / "timings.jsonl"
    begun = time.perf_counter()
    process = subprocess.Popen(
        _cli("train", "configs/ring.toml", "--run", str(folder / name), "--quiet"),
        cwd=ROOT,
        env=keeping(folder / "caches"),
    )
    try:
        while not timings.exists() or len(lines := timings.read_text().splitlines()) < 2:
            if process.poll() is not None or time.perf_counter() - begun > 300.0:
                raise RuntimeError(f"fgan train made no step: exit code {process.poll()}")
            time.sleep(0.005)
        seen, first = time.perf_counter() - begun, json.loads(lines[1])
        return seen - first["seconds"] * (1.0 - 1.0 / first["steps"])
    finally:
        process.kill()
        process.wait()


def measure(case: Case, settings: Settings, python: str | Path | None, absent: str) -> dict[str, Any]:
    """The facts of one case's row, `met` among them where it has an aim."""
    if case.kind == "help":
        facts = time_help(settings)
    elif case.kind == "restart":
        facts = time_restart(settings)
    elif case.kind == "penalty":
        facts = time_penalty(case, settings)
    elif case.kind == "seeds":
        facts = time_seeds(case, settings)
    else:
        facts = time_steps(case, settings, python, absent)
    return facts | {"aim": case.aim, "met": met(case, facts)}


def met(case: Case, facts: Mapping[str, Any]) -> bool | None:
    """Whether the aim is reached; None where there is none, or nothing to compare with."""
    if case.aim is None:
        return None
    if case.kind in ("help", "restart"):
        return [*facts["seconds"].values()][-1] <= case.aim
    ratios = {k: v["ratio"] for k, v in facts["ratios"].items() if case.kind != "step" or k in AIMED}
    if not ratios:
        return None
    return max(ratios.values()) <= case.aim if case.kind == "penalty" else min(ratios.values()) >= case.aim


# --- the report ------------------------------------------------------------------------------------------------------
def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line a case: its seconds, ratios with their quartiles, the aim, and whether it is met."""
    for row in rows:
        seconds = ", ".join(f"{name} {_time(value)}" for name, value in row.get("seconds", {}).items())
        ratios = ", ".join(
            f"{name} {r['ratio']:.2f} ({r['low']:.2f}–{r['high']:.2f})" for name, r in row.get("ratios", {}).items()
        )
        share = f", {100 * row['share']:.0f} % of the matrix product" if "share" in row else ""
        verdict = {True: "met", False: "missed", None: "–"}[row.get("met")]
        aim = f"aim {row['aim']:g}: {verdict}" if row.get("aim") is not None else ""
        yield f"{row['task']:<28}{aim:<18}{ratios}"
        yield f"{'':<28}{seconds}{share}"
        for name, reason in {**row.get("failed", {}), **({"": row["reason"]} if "reason" in row else {})}.items():
            yield f"{'':<28}not run: {name} {reason}"


def _time(seconds: float) -> str:
    return (
        f"{seconds:.2f} s"
        if seconds > 0.5
        else f"{1e3 * seconds:.2f} ms"
        if seconds > 1e-3
        else f"{1e6 * seconds:.0f} µs"
    )


def picture(rows: Sequence[Row]) -> Figure:
    """Left, how many times faster than PyTorch beside the aim; right, the share of the matrix product's speed."""
    rows = [row for row in rows if "share" in row][::-1]
    height = 1.2 + 0.42 * max(len(rows), 3)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, height), sharey=True, width_ratios=(1.7, 1.0))
    at = np.arange(len(rows))
    for i, (how, marker) in enumerate(zip(CONTESTANTS, "osD")):
        found = [(y, row["ratios"][how]) for y, row in zip(at, rows) if how in row["ratios"]]
        if found:
            y = np.array([y for y, _ in found]) + 0.2 * (1 - i)
            value, low, high = (np.array([r[k] for _, r in found]) for k in ("ratio", "low", "high"))
            left.errorbar(
                value,
                y,
                xerr=[np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)],
                fmt=marker,
                color=PALETTE[i],
                ms=5,
                lw=1.2,
                label=f"PyTorch {how}",
            )
    aims = [(y, row["aim"]) for y, row in zip(at, rows) if row.get("aim") is not None]
    if aims:
        left.vlines(
            [a for _, a in aims], [y - 0.4 for y, _ in aims], [y + 0.4 for y, _ in aims], color="black", label="aim"
        )
    left.set(xscale="log", xlabel="PyTorch's seconds a step over ours", title="Times faster")
    left.axvline(1.0, color="#C0C0C0", lw=1, zorder=0)
    ticks = [t for t in (0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15) if left.get_xlim()[0] <= t <= left.get_xlim()[1]]
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.set_xticks([], minor=True)
    left.set_yticks(list(at), [row["task"].removeprefix("step ") for row in rows])
    right.barh(at, [100 * row["share"] for row in rows], height=0.6, color=PALETTE[5])
    for place, row in zip(at, rows):
        right.text(100 * row["share"] + 1, place, f"{row['rate'] / 1e9:.0f} GFLOP/s", va="center", fontsize=8.5)
    right.set(xlim=(0, 119), xlabel="% of a 2048 × 2048 float32 product's speed", title="Of the machine's peak")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write speed.json and speed.png; their paths."""
    paths = [folder / "speed.json", folder / "speed.png"]
    host = sorted({(row.get("machine", ""), row.get("torch") or "", row.get("date", "")) for row in rows})
    facts: dict[str, Any] = {"machines": [dict(zip(("machine", "torch", "date"), h)) for h in host], "cases": rows}
    if not any("NVIDIA" in row.get("machine", "") for row in rows):
        facts["gpu"] = "not run: these machines have none that JAX sees"
    folder.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(json.dumps(plain(facts), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    with plt.rc_context(STYLE):
        save(picture(rows), paths[1])
    return paths


def main(settings: Settings) -> int:
    """Measure what is missing, print the table, write the report. The exit code."""
    if settings.quick:
        settings = replace(settings, repetitions=1, seconds=0.0, results=settings.results / "quick")
    patterns = settings.cases or ("*",)
    chosen = {name: case for name, case in cases().items() if any(fnmatch(name, p) for p in patterns)}
    if unknown := set(settings.contestants) - set(CONTESTANTS):
        print(f"--contestants {' '.join(unknown)}: choose from {', '.join(CONTESTANTS)}", file=sys.stderr)
        return 2
    if not chosen:
        print(f"no case matches --cases {' '.join(patterns)}; there are: {', '.join(cases())}", file=sys.stderr)
        return 2
    ledger, order = Ledger(settings.results, "speed"), list(cases())
    if not settings.report_only:
        fill(ledger, chosen, settings)
    known = [row for row in ledger.rows() if row["task"] in order]
    rows = sorted(known, key=lambda row: order.index(row["task"]))
    print("\n".join(table(rows)))
    for path in write(rows, settings.results):
        print(path)
    return 0


def fill(ledger: Ledger, chosen: Mapping[str, Case], settings: Settings) -> None:
    """Measure the cases that the ledger lacks."""
    runs = {name: Run("speed", "chunk", name, 0, case.batch) for name, case in chosen.items()}
    missing = ledger.missing(runs.values())
    python, version = torch_beside(settings)
    if python is None:
        print(f"PyTorch is absent, steps are timed without it: {version}", file=sys.stderr)
    for name in (name for name, run in runs.items() if run in missing):
        case = small(chosen[name]) if settings.quick else chosen[name]
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            facts = measure(case, settings, python, version)
        except (peers.PeerFailure, RuntimeError, OSError, subprocess.CalledProcessError) as failure:
            facts = {"reason": f"{type(failure).__name__}: {' '.join(str(failure).split())[:300]}"}
        torch = version if python else None
        stamp = {"machine": machine(), "torch": torch, "date": datetime.date.today().isoformat()}
        ledger.append(runs[name], {**facts, **stamp})


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings, description=__doc__)))

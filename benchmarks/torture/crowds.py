"""Many processes started at once in one place: a run directory, a compile cache, a sweep, a run that is being trained.

In one directory one process works, and the others end with exit code 6 and name it; one that came after the end has
nothing left to do. What is there afterwards is, bit for bit, what a process alone makes. Readers are never refused.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ABOUT = "ten processes at once in one run directory, one compile cache, one sweep, or at one run that is being trained"
COUNT = 10  # each of SCENARIOS twice
CROWD = 10
PATIENCE = 900.0  # seconds for a crowd whose members alone take seconds, on a machine that does other things
CONFIG = """
batch = 16
steps = {steps}
[data]
name = "ring"
[generator]
features = [8]
latent = 2
[critic]
features = [8]
[log]
every = 100
evaluate = 1000
checkpoint = {checkpoint}
samples = 64
"""
GRID = """
[grid]
divergence = ["kl", "js"]
"""


class Wrong(Exception):
    """What was not as it must be, in a few words."""


class Ended(NamedTuple):
    """How a process ended."""

    pid: int
    code: int
    out: str
    err: str


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen:
    """`python -m fgan` with those words in `folder`, without a compile cache unless `variables` say so."""
    path = os.pathsep.join(filter(None, sys.path))
    env = {"FGAN_COMPILE_CACHE": "off", "JAX_PLATFORMS": "cpu", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", "fgan", *words]
    return subprocess.Popen(command, cwd=folder, env=os.environ | env | variables, **pipes)


def ended(processes: Sequence[subprocess.Popen]) -> list[Ended]:
    """How they ended, all of them, within PATIENCE seconds."""
    deadline, found = time.monotonic() + PATIENCE, []
    try:
        for process in processes:
            out, err = process.communicate(timeout=max(deadline - time.monotonic(), 1.0))
            found.append(Ended(process.pid, process.returncode, out, err))
    except subprocess.TimeoutExpired:
        raise Wrong(f"not ended within {PATIENCE:.0f} s") from None
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return found


def alone(folder: Path, *words: str) -> None:
    """One process does the same, and succeeds without a word on stderr."""
    (one,) = ended([start(folder, *words)])
    if one.code or one.err:
        raise Wrong(f"alone: exit code {one.code}: {one.err.strip()}")


def one_works(crowd: Sequence[Ended]) -> dict[str, Any]:
    """How many were refused, each with the name of another that works there; at least one did."""
    refused = [one for one in crowd if one.code == 6]
    if any(one.code or one.err for one in crowd if one not in refused):
        raise Wrong(f"exit codes {[one.code for one in crowd]}: {[one.err[-200:] for one in crowd if one.code != 6]}")
    if len(refused) == len(crowd):
        raise Wrong("none worked")
    working = {str(one.pid) for one in crowd if one.code == 0}
    for one in refused:
        named = re.fullmatch(r"fgan: .* is in use by process (\d+) on (\S+) since .*\n", one.err)
        if not (named and named[1] in working and named[2] == socket.gethostname()):
            raise Wrong(f"refused without the name of who works: {one.err!r}")
    return {"worked": len(working), "refused": len(refused)}


def same_files(one: Path, other: Path, *names: str) -> None:
    """Both folders hold the same bytes under those names, and nothing half done."""
    for name in names:
        if (one / name).read_bytes() != (other / name).read_bytes():
            raise Wrong(f"{name} is not that of a process alone")
    left = [
        path.name for path in one.rglob("*") if path.name.startswith((".", "tmp-", "bad-")) or path.suffix == ".lock"
    ]
    if left:
        raise Wrong(f"left behind: {left}")


def config(folder: Path, steps: int = 20_000, checkpoint: int = 5_000, more: str = "") -> str:
    """The name of a config file, made in `folder`; it trains for some seconds unless told otherwise."""
    (folder / "config.toml").write_text(CONFIG.format(steps=steps, checkpoint=checkpoint) + more)
    return "config.toml"


# --- where they meet ---------------------------------------------------------------------------------------------
def one_run(folder: Path, n: int = CROWD) -> dict[str, Any]:
    """All train in one directory: one does, once."""
    words = ["train", config(folder), "--quiet", "--run"]
    found = one_works(ended([start(folder, *words, "run") for _ in range(n)]))
    alone(folder, *words, "alone")
    compiled = (folder / "run" / "timings.jsonl").read_text().count("compile_seconds")
    if compiled != 1:
        raise Wrong(f"{compiled} processes have trained")
    same_files(folder / "run", folder / "alone", "metrics.jsonl", "config.toml", "data.json")
    return found


def one_cache(folder: Path, n: int = CROWD) -> dict[str, Any]:
    """All compile the same programs, each for a run of its own, and keep them in one folder."""
    words = ["train", config(folder, steps=100), "--quiet", "--run"]
    shared = {"FGAN_COMPILE_CACHE": "on", "XDG_CACHE_HOME": str(folder / "cache")}
    shared["MPLCONFIGDIR"] = str(Path.home() / ".cache" / "matplotlib")  # whose fonts are known already
    crowd = ended([start(folder, *words, f"run-{i}", **shared) for i in range(n)])
    again = ended([start(folder, *words, "again", **shared)])
    if wrong := [one for one in [*crowd, *again] if one.code or one.err]:
        raise Wrong(f"exit code {wrong[0].code}: {wrong[0].err}")
    alone(folder, *words, "alone")
    for name in [*(f"run-{i}" for i in range(n)), "again"]:
        same_files(folder / name, folder / "alone", "metrics.jsonl")
    kept = {path.name for path in (folder / "cache" / "fgan").rglob("*-*") if path.is_file()}
    whole = {name.rpartition("-")[0] for name in kept}
    if not whole or kept != {f"{name}-{part}" for name in whole for part in ("cache", "atime")}:
        raise Wrong(f"half entries in the cache: {sorted(kept)}")
    return {"kept": len(whole)}


def one_sweep(folder: Path, n: int = CROWD) -> dict[str, Any]:
    """All sweep in one directory: one does."""
    words = ["sweep", config(folder, steps=5_000, more=GRID), "--quiet", "--run"]
    found = one_works(ended([start(folder, *words, "run") for _ in range(n)]))
    alone(folder, *words, "alone")
    same_files(folder / "run", folder / "alone", "results.csv", "results.jsonl", "config.toml")
    return found


def overwriting(folder: Path, n: int = CROWD) -> dict[str, Any]:
    """All would set a finished run aside and start anew: who does leaves one whole run aside for each time."""
    words = ["train", config(folder), "--quiet", "--run"]
    alone(folder, *words, "run")
    found = one_works(ended([start(folder, *words, "run", "--overwrite") for _ in range(n)]))
    runs = sorted(path for path in folder.iterdir() if path.name.startswith("run"))
    if len(runs) != 1 + found["worked"]:
        raise Wrong(f"{found['worked']} worked, but there are {[path.name for path in runs]}")
    for run in runs[1:]:
        same_files(runs[0], run, "metrics.jsonl", "config.toml")
    return found


def readers(folder: Path, n: int = CROWD) -> dict[str, Any]:
    """Samples are drawn from a run that is being trained, which saves as often as it can, and compared."""
    words = ["train", config(folder, checkpoint=100), "--quiet", "--run"]
    writer = start(folder, *words, "run")
    deadline = time.monotonic() + PATIENCE
    while not any((folder / "run").glob("samples/*.npy")):
        if writer.poll() is not None or time.monotonic() > deadline:
            raise Wrong(f"no samples: {ended([writer])[0].err}")
        time.sleep(0.05)
    crowd = ended([start(folder, "sample", "run", "-n", "100", "--out", f"drawn-{i}.npy") for i in range(n - 1)])
    crowd += ended([start(folder, "estimate", "drawn-0.npy", "drawn-1.npy", "--method", "knn")])
    trained_on = writer.poll() is None
    (last,) = ended([writer])
    if wrong := [one for one in [*crowd, last] if one.code or one.err]:
        raise Wrong(f"exit code {wrong[0].code}: {wrong[0].err}")
    alone(folder, *words, "alone")
    same_files(folder / "run", folder / "alone", "metrics.jsonl")
    steps = sorted(int(re.findall(r"from step (\d+)", one.out)[0]) for one in crowd[:-1])
    return {"from_steps": steps, "trained_on": trained_on}


SCENARIOS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "ten train in one directory": one_run,
    "ten share one compile cache": one_cache,
    "ten sweep in one directory": one_sweep,
    "ten overwrite one run": overwriting,
    "ten read a run that is being trained": readers,
}


def case(i: int, scratch: Path) -> dict[str, Any]:
    """Case number i, the scenarios in turn."""
    what, scenario = list(SCENARIOS.items())[i % len(SCENARIOS)]
    try:
        return {"what": what, "verdict": "ok"} | scenario(scratch)
    except Wrong as wrong:
        return {"what": what, "verdict": str(wrong)}

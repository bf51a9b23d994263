"""One interrupt at a random moment of a command: imports, compilation, training, evaluation, files, exit.

The command must end by it, with exit code 130 and no traceback. Once all is done Python itself may end it, or nothing
is left to interrupt and it ends with 0.
"""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.torture import crowds
from benchmarks.torture.crowds import Wrong

ABOUT = "an interrupt at a random moment of train, sample, estimate, sweep and reproduce"
COUNT = 100
COMMANDS = {
    "train": ["train", "one.toml", "--run", "run"],
    "sample": ["sample", "trained", "--out", "x.npy"],
    "estimate": ["estimate", "p.npy", "q.npy"],
    "sweep": ["sweep", "grid.toml", "--run", "run"],
    "reproduce": ["reproduce", "ring", "--run", "run"],  # it takes minutes: its first seconds are tried
}
STEPS = 12_000


def case(i: int, scratch: Path) -> dict[str, Any]:
    """Case number i, the commands in turn."""
    name = list(COMMANDS)[i % len(COMMANDS)]
    shared = scratch.parent / "moments"
    lasts = _prepared(shared)[name]
    for path in shared.iterdir():
        if path.suffix in (".npy", ".toml"):
            shutil.copy(path, scratch / path.name)
    (scratch / "trained").symlink_to(shared / "trained")
    after = random.Random(i).uniform(0.0, lasts)
    what = f"{name}, {after:.2f} s of {lasts:.1f} s after it attends"
    try:
        return {"what": what, "verdict": "ok"} | _interrupted(scratch, name, after)
    except Wrong as wrong:
        return {"what": what, "verdict": str(wrong)}


def _interrupted(folder: Path, name: str, after: float) -> dict[str, Any]:
    """How the command ends that is interrupted `after` so many seconds."""
    process = _attending(folder, name)
    time.sleep(after)
    process.send_signal(signal.SIGINT)  # of no effect if it has ended
    sent = time.monotonic()
    (end,) = crowds.ended([process])
    seconds = time.monotonic() - sent
    if "Traceback" in end.err or end.code not in (130, -signal.SIGINT, 0):
        raise Wrong(f"exit code {end.code}, stderr ends with {end.err[-300:]!r}")
    if end.code == 0 and seconds > 1.0:
        raise Wrong(f"swallowed: it went on for {seconds:.1f} s and ended with 0")
    how = {130: "noted" if "stopping" in end.err else "at once", 0: "it had ended"}.get(end.code, "at exit")
    return {how: 1, "slowest end": round(seconds, 2)}


def _attending(folder: Path, name: str) -> subprocess.Popen:
    """The process of a command, once it receives SIGTERM, and with it all signals: from its first lines on."""
    process = crowds.start(
        folder, *COMMANDS[name], FGAN_COMPILE_CACHE="on", XDG_CACHE_HOME=str(folder.parent / "cache")
    )
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            caught = re.search(r"SigCgt:\s*(\w+)", status)
            if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
                break
        time.sleep(0.002)
    return process


def _prepared(shared: Path) -> dict[str, float]:
    """Seconds that each command takes from when it attends, measured once; what the commands read is made beside."""
    kept = shared / "seconds.json"
    if not kept.exists():
        shared.mkdir(exist_ok=True)
        for name, seed in (("p.npy", 0), ("q.npy", 1)):
            np.save(shared / name, np.random.default_rng(seed).normal(size=(1000, 2)))
        text = crowds.CONFIG.format(steps=STEPS, checkpoint=3000)
        (shared / "one.toml").write_text(text)
        (shared / "grid.toml").write_text(text + crowds.GRID)
        found = {name: _lasts(shared, name) for name in ("train", "sample", "estimate", "sweep")}
        kept.write_text(json.dumps(found | {"reproduce": found["train"]}))
    return json.loads(kept.read_text())


def _lasts(shared: Path, name: str) -> float:
    """Seconds that a command takes from when it attends."""
    shutil.rmtree(shared / "run", ignore_errors=True)
    process = _attending(shared, name)
    begun = time.monotonic()
    (end,) = crowds.ended([process])
    if end.code:
        raise Wrong(f"{name} alone ends with {end.code}: {end.err[-300:]}")
    if name == "train":
        (shared / "run").rename(shared / "trained")
    return time.monotonic() - begun

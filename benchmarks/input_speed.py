"""Whether a training waits for its rows, and what memory they take, where they stay on the host.

    python -m benchmarks.input_speed                              100,000 images of 64 × 64 in colour, 1.2 GB on disk
    python -m benchmarks.input_speed --images 1000000 --sparse    the memory of 10⁶, in a file that takes no disk

Two processes of their own. `turns` holds two programs, one with its rows on the device and one that takes them from
the host, and lets them train by turns, so that load from outside meets both: the median of the ratios of neighbouring
turns is what the host costs. `host` trains as a run does, and tells its peak of resident memory, the share of the time
in which the device had nothing to do but wait for rows, and how many rows a second the host gathers when nothing else
is asked of it. The network is far smaller than such images need, which makes waiting likelier. A sparse file is zeros
that no disk must read: it shows memory, and nothing about a disk. Written to `results/input_speed.json`.
"""

from __future__ import annotations

import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.contestants import ROOT
from benchmarks.estimation import RESULTS, machine
from fgan.config.schema import Config, Critic, Data, Generator, Log, replace
from fgan.data import sources
from fgan.data.dataset import Dataset
from fgan.run.program import Program
from fgan.run.progress import Reporter

BLOCK = 1000  # images that are made at once


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure the input of a training on many images.

    Attributes:
        images: how many, all together.
        side: height and width in pixels.
        batch: images of a step.
        chunk: steps of a compiled call.
        turns: compiled calls that are timed, of each kind.
        features: channels of the networks at each scale, the generator's first.
        sparse: zeros in a file without blocks on the disk, in place of random bytes.
        folder: where the file is made; a folder of its own in the system's temporary one by default.
        results: the folder of the report.
        part: measure this alone, in this process, and print it as JSON.
    """

    images: int = 100_000
    side: int = 64
    batch: int = 64
    chunk: int = 20
    turns: int = 5
    features: tuple[int, ...] = (16, 8, 8, 4)
    sparse: bool = False
    folder: Path | None = None
    results: Path = field(default=RESULTS)
    part: Literal["all", "host", "turns"] = "all"


def make(path: Path, settings: Settings) -> None:
    """An .npy of uint8 images, zeros that take no disk or random bytes; one that is there is used again."""
    shape = (settings.images, settings.side, settings.side, 3)
    if path.exists() and np.load(path, mmap_mode="r").shape == shape:
        return
    with open(path, "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        if settings.sparse:
            file.truncate(file.tell() + int(np.prod(shape)))
            return
        rng = np.random.default_rng(0)
        for begin in range(0, settings.images, BLOCK):
            n = min(BLOCK, settings.images - begin)
            file.write(rng.bytes(n * int(np.prod(shape[1:]))))


def config(settings: Settings, path: Path, keep: str) -> Config:
    """A small network for such images."""
    base = Config(
        batch=settings.batch,
        steps=10**6,
        data=Data(name="images", path=str(path)),
        generator=Generator(kind="image", features=settings.features, latent=16),
        critic=Critic(kind="image", features=settings.features[::-1], nonlinearity="leaky_relu"),
        log=Log(every=settings.chunk, evaluate=settings.chunk, checkpoint=settings.chunk),
    )
    return replace(base, {"data.keep": keep})


class Trained:
    """A program and how far it has trained."""

    def __init__(self, config: Config, data: Dataset):
        self.program, self.seeds, self.step = Program(config, data), jnp.array([0], jnp.uint32), 0
        self.state = self.program.fresh(self.seeds)

    def advance(self) -> float:
        """Seconds of one compiled call and of what it waited for before."""
        n, begun = self.program.config.log.every, time.monotonic()
        rows = self.program.given(self.seeds, self.step, n, n)
        arguments: tuple[Any, ...] = (rows, self.seeds, self.state, np.int32(self.step), {})
        compiled, compiling = self.program.compiled(n, arguments, Reporter(1, quiet=True))
        self.state, _ = jax.block_until_ready(compiled(*arguments))
        self.step += n
        return time.monotonic() - begun - compiling


def peak() -> int:
    """Bytes of resident memory that this process took at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measured_host(settings: Settings, path: Path) -> dict[str, Any]:
    """A run with rows on the host: seconds a step, share of waiting, peak memory, rows a second gathered alone."""
    begun = time.monotonic()
    chosen = config(settings, path, "host")
    data = sources.load(chosen.data)
    loading = time.monotonic() - begun
    data.fingerprint()
    reading = time.monotonic() - begun - loading
    trained = Trained(chosen, data)
    used = settings.chunk * settings.batch * trained.program.model.batches
    numbers = np.random.default_rng(1).integers(0, len(data.rows), used)
    begun = time.monotonic()
    data.kept[numbers]
    alone = time.monotonic() - begun
    trained.advance()  # compiles, and has nothing gathered yet
    host = trained.program.host
    assert host is not None
    host.waited = 0.0
    seconds = [trained.advance() for _ in range(settings.turns)]
    return {
        "seconds_to_load": loading,
        "seconds_to_fingerprint": reading,
        "step_seconds": statistics.median(seconds) / settings.chunk,
        "share_waited": host.waited / sum(seconds),
        "peak_bytes": peak(),
        "rows_bytes": data.kept.nbytes,
        "gathered_rows_per_second": len(numbers) / alone,
        "used_rows_per_second": used / statistics.median(seconds),
    }


def measured_turns(settings: Settings, path: Path) -> dict[str, Any]:
    """Rows on the device and on the host by turns: seconds a step of each, and the median ratio of neighbours."""
    data = sources.load(config(settings, path, "host").data)
    both = {keep: Trained(config(settings, path, keep), data) for keep in ("device", "host")}
    for one in both.values():
        one.advance()
    pairs = [{keep: one.advance() for keep, one in both.items()} for _ in range(settings.turns)]
    states = [jax.tree.leaves(both[keep].state) for keep in ("device", "host")]
    ratios = [pair["host"] / pair["device"] for pair in pairs]
    seconds = {f"{keep}_step_seconds": statistics.median(p[keep] for p in pairs) / settings.chunk for keep in both}
    equal = all(np.array_equal(a, b) for a, b in zip(*states, strict=True))
    return {**seconds, "ratio": statistics.median(ratios), "ratios": ratios, "bit_for_bit": equal, "peak_bytes": peak()}


PARTS = {"host": measured_host, "turns": measured_turns}


def told(settings: Settings, path: Path, part: str) -> dict[str, Any]:
    """What a process of its own measures."""
    own = {"images": settings.images, "side": settings.side, "batch": settings.batch, "chunk": settings.chunk}
    words = [word for name, value in (own | {"turns": settings.turns}).items() for word in (f"--{name}", str(value))]
    words += ["--features", *map(str, settings.features), "--folder", str(path.parent), "--part", part]
    command = [sys.executable, "-m", "benchmarks.input_speed", *words]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main(settings: Settings) -> dict[str, Any]:
    """Measure, print and write the report."""
    if settings.part != "all":
        assert settings.folder is not None
        found = PARTS[settings.part](settings, settings.folder / "images.npy")
        print(json.dumps(found))
        return found
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        path = Path(folder) / "images.npy"
        make(path, settings)
        parts = ["host"] if settings.sparse else ["host", "turns"]
        shown = {name: getattr(settings, name) for name in ("images", "side", "batch", "chunk", "features", "sparse")}
        report: dict[str, Any] = {"settings": shown, "machine": machine(), "day": str(datetime.date.today())}
        report |= {part: told(settings, path, part) for part in parts}
    settings.results.mkdir(parents=True, exist_ok=True)
    name = "input_memory.json" if settings.sparse else "input_speed.json"
    (settings.results / name).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    main(tyro.cli(Settings))

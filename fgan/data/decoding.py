"""Pictures of any source made squares of bytes: in memory by threads, or, where they are many, in a file by processes.

A file of decoded rows lies in the user's cache folder, so that later runs find it (`picture_cache`).
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from estimators.samples.arrays import DataError, printable
from fgan.data import picture, picture_blocks
from fgan.data.picture import Facts
from fgan.data.picture_blocks import Block, described

SEVERAL = 2_000
"""Pictures from which on processes are started to look at them, which takes each half a second."""
PROCESSES = 16  # at most: beyond so many, this process, which hands out the work, and the disk set the pace
PATIENCE = 10.0  # seconds between two lines that say how far it is


class Worker:
    """One process of `decode_worker`."""

    def __init__(self) -> None:
        found = os.pathsep.join(os.path.abspath(place) for place in sys.path)  # as here, with what was added
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fgan.data.decode_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": found},
        )

    def ask(self, task: dict[str, Any]) -> list[Any]:
        """Its answer. Raises DataError where it died, or a file failed it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps(task), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DataError(
                f"a process that decodes pictures ended early (exit status {self.process.wait()}), as where memory is "
                "short; try again with fewer programs beside it"
            )
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise DataError(f"{printable(_named(task))}: {printable(str(answer['error']))}")
        return answer

    def close(self) -> None:
        """End it, whatever it is at."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of what it had not read
                    pipe.close()


def _named(task: dict[str, Any]) -> str:
    block = task["block"]
    return str(block.get("path") or block["paths"][0])


class Workers:
    """Several of them, each given the next task when it has done its last."""

    def __init__(self, count: int):
        self.idle: queue.Queue[Worker] = queue.Queue()
        self.all = [Worker() for _ in range(count)]
        for worker in self.all:
            self.idle.put(worker)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        for worker in self.all:
            worker.close()

    def map(self, tasks: Iterable[dict[str, Any]]) -> Iterator[list[Any]]:
        """The answers, in order."""

        def ask(task):
            worker = self.idle.get()
            try:
                return worker.ask(task)
            finally:
                self.idle.put(worker)

        pool = ThreadPoolExecutor(len(self.all))
        try:
            yield from pool.map(ask, tasks)
        finally:
            pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many processes decode at once: those that may run here, PROCESSES at most."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, PROCESSES)


def look(blocks: Sequence[Block]) -> list[Facts | str]:
    """What the header of each picture says, or what is wrong with it. Raises DataError."""
    total = sum(map(len, blocks))
    if total < SEVERAL:
        return list(chain.from_iterable(_in_threads(picture_blocks.headers, blocks)))
    with Workers(min(cores(), len(blocks))) as workers:
        answers = workers.map({"block": described(block)} for block in blocks)
        found = chain.from_iterable(_shown(answers, "looking at pictures", total))
        return [one if isinstance(one, str) else Facts(*one) for one in found]


class Form(NamedTuple):
    """What pictures become: squares of `side` pixels, in `colour` or grey, fitted as `data.fit` says."""

    side: int
    colour: bool
    fit: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return (self.side, self.side, *(3,) * self.colour)


def in_memory(blocks: Sequence[Block], usable: np.ndarray, form: Form) -> tuple[np.ndarray, list[str | None]]:
    """(images [n, side, side(, 3)], what is wrong with each `usable` picture or None: n of them)."""
    images = np.empty((int(usable.sum()), *form.shape), np.uint8)
    faults: list[str | None] = []
    n = 0
    wanted = _each(blocks, usable)
    made = _in_threads(lambda pair: picture_blocks.squares(pair[0], pair[1], *form), list(zip(blocks, wanted)))
    for one in (one for one, use in zip(chain.from_iterable(made), usable) if use):
        faults.append(one if isinstance(one, str) else None)
        if not isinstance(one, str):
            images[n] = one
            n += 1
    return images[:n], faults


def into_file(blocks: Sequence[Block], usable: np.ndarray, form: Form, path: Path) -> list[str | None]:
    """Decode by several processes; the file has a row for each picture, of those that are not `usable` an empty one.

    Returns what is wrong with each usable picture, or None. Raises DataError.
    """
    rows = np.where(usable, np.arange(len(usable)), -1)

    def tasks():
        for block, own in zip(blocks, _each(blocks, rows)):
            numbers = [row if row >= 0 else None for row in own.tolist()]
            yield {"block": described(block), "rows": numbers, "into": os.fspath(path), **form._asdict()}

    with Workers(min(cores(), len(blocks))) as workers:
        answers = _shown(workers.map(tasks()), "decoding pictures", len(usable))
        return [fault for fault, use in zip(chain.from_iterable(answers), usable) if use]


def _each(blocks: Sequence[Block], values: np.ndarray) -> list[np.ndarray]:
    """The part of `values`, one for each picture, that belongs to each block."""
    return np.split(values, np.cumsum([len(block) for block in blocks])[:-1])


def _in_threads(work: Callable[[Any], list[Any]], blocks: Sequence[Any]) -> list[list[Any]]:
    """work(block) of each; decoding releases Python's lock."""
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        picture.heedless()
        return list(pool.map(work, blocks))


def _shown(answers: Iterable[list[Any]], what: str, total: int) -> Iterator[list[Any]]:
    """`answers` as they come; a line on stderr says now and then how many of the pictures are done."""
    done, said = 0, time.monotonic()
    for answer in answers:
        yield answer
        done += len(answer)
        if time.monotonic() - said > PATIENCE:
            print(f"{what}: {done:,} of {total:,}", file=sys.stderr, flush=True)
            said = time.monotonic()

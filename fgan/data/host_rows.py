"""Rows that the host keeps: those of the next steps are gathered and sent while the devices take the present ones.

    numbers of chunk 2 ──▶ a thread gathers its rows, sends them ─────────▶ taken by chunk 2
                           the devices run chunk 1 meanwhile

Which rows a step draws is a function of seed and step alone, so a chunk receives the very rows that it would have
picked out of all of them, and a run is the same bit for bit, wherever its rows are kept.
"""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from fgan.config.fields import ConfigError
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.data.stored_rows import StoredRows
from fgan.devices import engines
from fgan.devices.engines import Layout

SHARE = 4
"""Rows stay on the host where they would take more than this part of a device's memory: sending them takes twice their
bytes, and the networks need room beside them."""
COPIES = 3  # of rows with their classes: as they are read, joined, and on the device
MOST = 1 << 30
"""Bytes of rows of one chunk. Three chunks are in memory at once (taken, ready, and copied on the way), which is what
keeps a process below 4 GiB."""


def on_host(data: Dataset, keep: str) -> bool:
    """Whether the training rows of `data` stay on the host, where `data.keep` says or leaves it to their size.

    Raises ConfigError for stacks, whose samples take several rows each, and for images with their classes.
    """
    if data.stack > 1 or data.classes:
        if keep == "host":
            what = "stacks are" if data.stack > 1 else "images with their classes (data.condition) are"
            raise ConfigError(f"data.keep = host: {what} drawn from rows on the device; set data.keep = device")
        size = COPIES * math.prod(data.kept_shape) * data.kept_dtype.itemsize
        if size > engines.memory():
            raise ConfigError(
                f"data.name = {data.name}: {len(data.rows):,} images that stay on the device take "
                f"{engines.size_text(size)} while they are put there, and there are "
                f"{engines.size_text(engines.memory())}; take fewer or smaller ones, or leave out data.condition"
            )
        return False
    if keep != "auto" or not len(data.rows):
        return keep == "host" and len(data.rows) > 0
    kept = data.kept
    if isinstance(kept, StoredRows) and jax.default_backend() == "cpu":
        return True  # the device's memory is the host's
    return math.prod(kept.shape) * data.kept_dtype.itemsize > engines.memory() // SHARE


def chunk_bytes(config: Config, data: Dataset, batches: int, steps: int = 0) -> int:
    """Bytes of the rows of one seed in so many steps, those of a line of metrics by default."""
    row = data.kept_dtype.itemsize * data.dim
    return (steps or min(config.log.every, config.steps)) * batches * config.batch * row


def refuse_long(config: Config, data: Dataset, batches: int) -> None:
    """Raise ConfigError where the rows of one chunk take more than MOST bytes."""
    size, one = (config.seeds * chunk_bytes(config, data, batches, steps) for steps in (0, 1))
    if size > MOST:
        fewer = f"lower log.every to {MOST // one} or less, or " if one <= MOST else "lower "
        raise ConfigError(
            f"log.every = {config.log.every}: rows kept on the host are sent for so many steps at once, here "
            f"{engines.size_text(size)} of them, and at most {engines.size_text(MOST)} are; {fewer}batch or seeds, or "
            "set data.keep = device where all rows fit there"
        )


class HostRows:
    """Gathers the rows of chunk after chunk, one chunk ahead.

    Attributes:
        waited: seconds that the devices had nothing to do but wait for rows.
    """

    def __init__(self, rows: Any, numbers: Callable[[Any, Any, int], jax.Array], layout: Layout):
        """`rows` [total, d], an array or what loads rows by number; (seeds, start, n) → `numbers` [k, n, count, b]."""
        self.rows, self.numbers, self.layout, self.waited = rows, numbers, layout, 0.0
        self._pool = ThreadPoolExecutor(1, "rows")
        self._ahead: tuple[Any, Future[jax.Array]] | None = None

    def take(self, seeds: Any, start: int, n: int, then: int = 0) -> jax.Array:
        """The rows of n steps from `start` as `engines.gathered` lays them out; then begins those of the `then` next.

        Raises:
            DataError: rows can no longer be read.
        """
        begun, wanted = time.monotonic(), (tuple(np.asarray(seeds).tolist()), start, n)
        ahead, self._ahead = self._ahead, None
        future = ahead[1] if ahead and ahead[0] == wanted else self._begin(*wanted)
        del ahead  # of a chunk that is not wanted any more, its rows are released once they are there
        found = future.result()
        self.waited += time.monotonic() - begun
        if then:
            following = (wanted[0], start + n, then)
            self._ahead = following, self._begin(*following)
        return found

    def _begin(self, seeds: tuple[int, ...], start: int, n: int) -> Future[jax.Array]:
        """The numbers now, while no chunk is before them on the devices; the rows in the background."""
        numbers = np.asarray(self.numbers(np.asarray(seeds, np.uint32), np.int32(start), n))
        return self._pool.submit(self._gather, numbers)

    def _gather(self, numbers: np.ndarray) -> jax.Array:
        return jax.block_until_ready(engines.gathered(self.rows, numbers, self.layout))

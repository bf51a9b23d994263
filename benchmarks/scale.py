"""One estimate on many rows in a process of its own, for its time and its memory.

`python -m benchmarks.scale METHOD N DIM SEED` prints one JSON line: KL between N(0, I) and N(½·1, I), truth DIM/8
nats, from N rows a side; seconds (everything compiled anew) and the peak resident memory in bytes, before and after.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

import estimators as est

SHIFT = 0.5


def peak_memory() -> int:
    """Largest resident set of this process so far, bytes; Linux counts the parent's into getrusage's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    kibibytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    if kibibytes:
        return 1024 * kibibytes[0]
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else 1024 * used


def main(method: str, n: int, dim: int, seed: int) -> dict[str, float | str]:
    """The printed facts."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, dim)), rng.standard_normal((n, dim)) + SHIFT
    before, begun = peak_memory(), time.perf_counter()
    found = est.estimate(x, y, "kl", method=method, seed=seed)
    facts = {name: float(getattr(found, name)) for name in ("value", "low", "high", "standard_error")}
    timing = {"seconds": time.perf_counter() - begun, "peak_bytes": peak_memory(), "before_bytes": before}
    return {**facts, **timing, "chosen": found.method, "truth": dim * SHIFT**2 / 2.0}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:5]))))

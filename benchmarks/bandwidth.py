"""KL kernels against the memory: how much of the machine's bandwidth one pass over the data reaches.

    python -m benchmarks.bandwidth                    prints a table, writes results/bandwidth.json

Two kernels: row-wise KL of categoricals from logits [4096, 256], and patch-wise KL of Gaussians at [64, 56, 56, 13].
Each has to read its inputs once and to write one number a row or patch; those bytes over its time are its rate. The
machine's own rate is measured beside it by a copy and a triad a + 2b of large arrays, best of both. Inputs are cycled
through copies that exceed the caches together, so that every pass comes from memory. Where PyTorch is installed its
eager and compiled forms are measured on the same data. Times on a machine that does other work mean nothing.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.estimation import RESULTS, machine
from estimators.objectives.relevance import patchwise_kl

ROWS, PATCHES = (4096, 256), (64, 56, 56, 13)
COLD = 2**28  # bytes of all copies of an input together, several times the last cache of today's processors
BLOCK = 64  # rows a block: with both logits 128 KiB, which the cache of a core holds while it is passed over again
AIMS = {"share": 0.8, "over torch.compile": 1.0}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Measure the bandwidth that KL kernels reach.

    Attributes:
        seconds: to spend on each kernel.
        results: the folder of the report.
    """

    seconds: float = 2.0
    results: Path = RESULTS


def rowwise_kl(p: jax.Array, q: jax.Array) -> jax.Array:
    """KL(softmax p ‖ softmax q) of every row, Σ e^{p − max}(p − q)/Σ e^{p − max} − lse p + lse q: [n, k] → [n]."""
    top_p, top_q = (jnp.max(x, axis=1, keepdims=True) for x in (p, q))
    weights = jnp.exp(p - top_p)
    total = jnp.sum(weights, axis=1)
    mean = jnp.sum(weights * (p - q), axis=1) / total
    lse_q = top_q[:, 0] + jnp.log(jnp.sum(jnp.exp(q - top_q), axis=1))
    return mean - top_p[:, 0] - jnp.log(total) + lse_q


def in_blocks(kernel: Callable[..., jax.Array], rows: int = BLOCK) -> Callable[..., jax.Array]:
    """The same row-wise kernel, block after block: each is read from memory once and then from the cache."""

    def blocked(*arrays):
        split = [a.reshape(-1, rows, *a.shape[1:]) for a in arrays]
        return jax.lax.map(lambda block: kernel(*block), tuple(split)).reshape(-1)

    return blocked


def passes(call: Callable[..., Any], inputs: list[tuple], wait: Callable[[Any], Any], seconds: float) -> float:
    """The median time of a call, on inputs that are cycled through; compiled before."""
    wait(call(*inputs[0]))
    turns: Iterator[tuple] = cycle(inputs)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        arguments, begun = next(turns), time.perf_counter()
        wait(call(*arguments))
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def own_rate(seconds: float) -> dict[str, float]:
    """Bytes a second of a copy and of a triad, counted as read and written once, into memory that is there already."""
    n = COLD // 8
    kernels = {"copy": (2, lambda a, b: a + 1.0), "triad": (3, lambda a, b: a + 2.0 * b)}
    other, found = jnp.full(n, 2.0, jnp.float32), {}
    for name, (arrays, kernel) in kernels.items():
        compiled, kept = jax.jit(kernel, donate_argnums=0), [jnp.zeros(n, jnp.float32)]

        def call(compiled=compiled, kept=kept):
            kept[0] = compiled(kept[0], other)
            return kept[0]

        found[name] = arrays * 4 * n / passes(call, [()], jax.block_until_ready, seconds)
    return found


def copies(arrays: int, shape: tuple[int, ...]) -> list[tuple[np.ndarray, ...]]:
    """Sets of that many random inputs, as many sets as fill COLD bytes."""
    rng = np.random.default_rng(0)
    count = max(2, -(-COLD // (arrays * 4 * int(np.prod(shape)))))
    base = [rng.normal(size=shape).astype(np.float32) for _ in range(arrays)]
    return [tuple(a + np.float32(0.01 * i) for a in base) for i in range(count)]


KERNELS: dict[str, tuple[int, tuple[int, ...], dict[str, Callable[..., jax.Array]]]] = {
    "row-wise KL": (2, ROWS, {"jit": rowwise_kl, "jit, in blocks": in_blocks(rowwise_kl)}),
    "patch-wise KL": (4, PATCHES, {"jit": patchwise_kl}),
}
"""Name → (inputs, their shape, forms)."""


def torch_forms() -> dict[str, Callable[..., Any]]:
    """The two kernels as a PyTorch user would write them; empty where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    def rows(p, q):
        log_p, log_q = torch.log_softmax(p, 1), torch.log_softmax(q, 1)
        return torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1)

    def patchwise(mean, log_variance, prior_mean, prior):
        delta = log_variance - prior
        return 0.5 * ((mean - prior_mean) ** 2 * torch.exp(-prior) + torch.expm1(delta) - delta).sum(-1)

    return {"row-wise KL": rows, "patch-wise KL": patchwise}


def measure(name: str, seconds: float) -> dict[str, dict[str, float]]:
    """{form: seconds, bytes a second} of one kernel."""
    arrays, shape, forms = KERNELS[name]
    inputs = copies(arrays, shape)
    size = 4 * (arrays * int(np.prod(shape)) + int(np.prod(shape[:-1])))
    on_device = [tuple(map(jnp.asarray, one)) for one in inputs]
    waited = partial(passes, inputs=on_device, wait=jax.block_until_ready, seconds=seconds)
    found = {form: waited(jax.jit(kernel)) for form, kernel in forms.items()}
    if name in (torch := torch_forms()):
        found |= _torch_times(torch[name], inputs, seconds)
    return {form: {"seconds": took, "rate": size / took} for form, took in found.items()}


def _torch_times(function: Callable[..., Any], inputs: list[tuple], seconds: float) -> dict[str, float]:
    import torch

    device = "cuda" if jax.devices()[0].platform == "gpu" and torch.cuda.is_available() else "cpu"
    given = [tuple(torch.from_numpy(a).to(device) for a in one) for one in inputs]
    wait = (lambda _: torch.cuda.synchronize()) if device == "cuda" else (lambda _: None)
    forms = {"torch eager": function, "torch.compile": torch.compile(function)}
    with torch.no_grad():
        return {form: passes(call, given, wait, seconds) for form, call in forms.items()}


def table(result: dict[str, Any]) -> str:
    """The rates as text."""
    best = max(result["own"].values())
    lines = [
        result["machine"],
        "memory: " + ", ".join(f"{name} {rate / 1e9:.1f} GB/s" for name, rate in result["own"].items()),
        f"{'kernel':<16}{'form':<18}{'ms':>8}{'GB/s':>8}{'share %':>9}",
    ]
    for name, forms in result["kernels"].items():
        for form, found in forms.items():
            share = 100.0 * found["rate"] / best
            lines.append(f"{name:<16}{form:<18}{1e3 * found['seconds']:>8.2f}{found['rate'] / 1e9:>8.1f}{share:>9.0f}")
    if not any("torch eager" in forms for forms in result["kernels"].values()):
        lines.append("PyTorch is not installed here.")
    return "\n".join(lines)


def main(settings: Settings) -> int:
    """Measure, print and write results/bandwidth.json. The exit code."""
    own = own_rate(settings.seconds)
    kernels = {name: measure(name, settings.seconds) for name in KERNELS}
    result = {"machine": machine(), "aims": AIMS, "own": own, "kernels": kernels}
    settings.results.mkdir(parents=True, exist_ok=True)
    (settings.results / "bandwidth.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))

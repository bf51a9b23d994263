"""Weak scaling by the roofline: a model from two compile checks, no measurement."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from fgan.config.schema import Config
from fgan.devices.compile_check import Check, Steps, compile_check, seconds_text

CHIP_COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)


class Scaled(NamedTuple):
    """A step on `chips` chips in so many pods, with a global `batch`: seconds of compute and of messages."""

    chips: int
    pods: int
    batch: int
    compute: float
    messages: float

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.compute + self.messages


def doubled(config: Config, topology: str, steps: Steps) -> Check:
    """The check of twice the chips, each with the rows it has on `topology`. Args and errors as `compile_check`."""
    name, _, grid = topology.partition(":")
    sides = [int(side) for side in grid.split("x")]
    sides[sides.index(min(sides))] *= 2
    twice = f"{name}:{'x'.join(map(str, sides))}"
    return compile_check(replace(config, batch=2 * config.batch), twice, steps)


def weak_scaling(one: Check, two: Check) -> list[Scaled]:
    """A model, not a measurement: the step of `one` on CHIP_COUNTS chips, each with the rows it has there.

    FLOPs and bytes a device are a + b·n, through `one` and `two`, its double: b is what every device repeats of the
    global batch, such as its random numbers. An all-reduce sends 2(n − 1)/n times its bytes over the links of a pod,
    and with k > 1 pods 2(k − 1)/k times over the network between them, divided among a pod's chips.
    """
    chip, each = one.chip, one.devices // one.chips
    reduced = sum(c.bytes for c in one.collectives if c.kind == "all-reduce")
    other = sum(c.sent(one.devices) for c in one.collectives if c.kind != "all-reduce")

    def line(n: int, a: float, b: float) -> float:
        return max(0.0, a + (b - a) * (n - one.chips) / one.chips)

    def row(n: int) -> Scaled:
        flops, size = line(n, one.flops, two.flops), line(n, one.bytes, two.bytes)
        pods, inside = math.ceil(n * each / chip.pod), min(n * each, chip.pod)
        messages = (2.0 * (inside - 1) / inside * reduced + other) / chip.link
        if pods > 1:
            messages += 2.0 * (pods - 1) / pods * reduced / (chip.network * chip.pod)
        batch = one.batch // one.chips * n
        return Scaled(n, pods, batch, max(flops / chip.flops, size / chip.bandwidth), messages)

    return [row(n) for n in CHIP_COUNTS]


def model_table(one: Check, two: Check) -> str:
    """The weak-scaling model from two checks as a table; efficiency is the rate of samples a chip over the first's."""
    rows = weak_scaling(one, two)
    lines = [f"Weak scaling, {one.batch // one.chips} rows a chip: a model from the compile checks for {one.topology}"]
    lines[0] += f" and {two.topology}, no measurement"
    lines += [f"{'chips':>6}{'pods':>6}{'batch':>10}{'compute':>12}{'messages':>12}{'step':>12}{'efficiency':>12}"]
    for r in rows:
        times = "".join(f"{seconds_text(t):>12}" for t in (r.compute, r.messages, r.seconds))
        lines.append(f"{r.chips:>6}{r.pods:>6}{r.batch:>10}{times}{rows[0].seconds / r.seconds:>12.1%}")
    return "\n".join(lines)

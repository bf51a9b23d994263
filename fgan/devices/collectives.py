"""The operations between devices in a compiled program, parsed from its text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "s64": 8, "u64": 8}
"""Bytes of a number, by the name that HLO gives its type."""


class Collective(NamedTuple):
    """One operation of a step between devices.

    Attributes:
        kind: as in HLO, such as all-reduce.
        bytes: of its result, on one device.
        update: the named scope `<update>_update` it belongs to, such as critic; "" where there is none.
    """

    kind: str
    bytes: int
    update: str

    def sent(self, n: int) -> float:
        """The bytes that each of n devices sends, at the least."""
        factor = {"all-reduce": 2.0 * (n - 1) / n, "all-gather": (n - 1) / n, "reduce-scatter": n - 1.0}
        return factor.get(self.kind, 1.0) * self.bytes


def step_collectives(hlo: str) -> Iterator[Collective]:
    """The collectives in the loops of an optimised program: those of a step."""
    program = _computations(hlo)
    for name in _in_loops(program):
        for line in program[name]:
            if match := re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line):
                scope = re.search(r'op_name="[^"]*?\b([a-z]+)_update\b', line)
                sizes = [_bytes(*array) for array in re.findall(r"(\w+)\[([\d,]*)\]", match[1])]
                whole = match[2] == "all-reduce" or not match[3]  # other starts list their operands too
                yield Collective(match[2], sum(sizes) if whole else max(sizes), scope[1] if scope else "")


def _computations(hlo: str) -> dict[str, list[str]]:
    """The lines of each computation of a program, by name."""
    program: dict[str, list[str]] = {}
    for line in hlo.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.-]+) .*\{$", line):
            lines = program[header[1]] = []
        elif line.startswith("  "):
            lines.append(line)
    return program


def _in_loops(program: Mapping[str, list[str]]) -> list[str]:
    """The computations that the bodies of loops reach, each once."""
    bodies = [name for lines in program.values() for line in lines for name in re.findall(r"body=%?([\w.-]+)", line)]
    reached: dict[str, None] = {}
    while bodies:
        name = bodies.pop()
        if name not in reached:
            reached[name] = None
            bodies += [n for line in program[name] for n in re.findall(r"%?([\w.-]+)", line) if n in program]
    return list(reached)


def _bytes(kind: str, shape: str) -> int:
    return SIZES.get(kind, 4) * math.prod(int(side) for side in shape.split(",") if side)

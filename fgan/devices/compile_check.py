"""The training step compiled for a TPU that is not there: what it needs, and how long it would take at best.

libtpu compiles for a described topology on a machine without one; nothing is trained. Of the compiled program

    memory        per device, what the compiler set aside
    FLOPs, bytes  per device and step: the cost analysis of XLA, which counts a loop's body once, of a call of one step
    collectives   per step, read off the loop's body; those that XLA moved out of it run once a call and do not count

With the figures of a chip (`CHIPS`) follow the arithmetic intensity, FLOPs/bytes, and the time at the roofline

    max(FLOPs / peak, bytes / HBM bandwidth) + bytes sent / link bandwidth

in which a collective of V bytes over n devices sends 2(n − 1)/n · V bytes from each, for an all-reduce. It is a bound,
not a forecast: compute and messages do not overlap, messages have no latency, and every operand counts as read from
HBM though small programs stay in the memory of the core.

Source of the roofline: Williams, Waterman, Patterson 2009; of the bytes sent: Patarasuk, Yuan 2009.

Layer 8.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from estimators.critics.kernel import ALONE
from fgan.config.checks import check
from fgan.config.errors import ConfigError
from fgan.config.schema import Config
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines as parallel
from fgan.devices.engines import Layout
from fgan.run.directory import ResourceError
from fgan.run.program import chunk, fresh, seed_numbers

GIB = 2**30
EXAMPLES = "v5e:2x4, v5e:16x16, v6e:4x4, v5p:4x4x4 or v4:2x2x4"


class Chip(NamedTuple):
    """The published figures of a chip: decimal units a second.

    Attributes:
        flops: peak FLOP/s of matrix products in bfloat16, in which TPUs also multiply float32 by default.
        memory: HBM, bytes.
        bandwidth: of the HBM, bytes a second.
        link: bytes a second that a chip sends over all its links, one way.
        pod: how many chips such links can join.
        network: bytes a second a chip between pods, over the data centre; 0 where none is published.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    pod: int
    network: float = 0.0


CHIPS: Mapping[str, Chip] = MappingProxyType(
    {
        "v4": Chip(275e12, 32 * GIB, 1200e9, 6 * 50e9, 4096),
        "v5e": Chip(197e12, 16 * GIB, 819e9, 400e9 / 2, 256, 6.4e12 / 8 / 256),
        "v5p": Chip(459e12, 95 * GIB, 2765e9, 1200e9 / 2, 8960, 50e9 / 8),
        "v6e": Chip(918e12, 32 * GIB, 1600e9, 800e9 / 2, 256, 25.6e12 / 8 / 256),
    }
)
"""Each by the name that a topology begins with.

Source: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, which give links in both directions together, here halved, and the
network of a pod of 256, here a chip's share; v4's links from Jouppi et al. 2023, table 4: six of 50 GB/s.
"""


class Collective(NamedTuple):
    """One operation of a step between devices.

    Attributes:
        kind: as in HLO, such as all-reduce.
        bytes: of its result, on one device.
        update: whose it is: critic, generator, or "" where the compiler does not say.
    """

    kind: str
    bytes: int
    update: str

    def sent(self, n: int) -> float:
        """The bytes that each of n devices sends, at the least."""
        factor = {"all-reduce": 2.0 * (n - 1) / n, "all-gather": (n - 1) / n, "reduce-scatter": n - 1.0}
        return factor.get(self.kind, 1.0) * self.bytes


class Check(NamedTuple):
    """What a step takes on one device, under the layout named.

    Attributes:
        topology, engine, parameters, chips, devices, batch, steps: what was compiled; steps a call.
        arguments, outputs, temporaries, code: bytes.
        flops, bytes: a step, by XLA's count; `products` are the FLOPs of matrix products counted from their shapes.
        collectives: of a step.
    """

    topology: str
    engine: str
    parameters: str
    chips: int
    devices: int
    batch: int
    steps: int
    arguments: int
    outputs: int
    temporaries: int
    code: int
    flops: float
    products: float
    bytes: float
    collectives: tuple[Collective, ...]

    @property
    def chip(self) -> Chip:
        """The chip's figures as one device has them: some chips are two devices."""
        c, each = CHIPS[generation(self.topology)], self.devices // self.chips
        return Chip(c.flops / each, c.memory / each, c.bandwidth / each, c.link / each, c.pod * each, c.network / each)

    @property
    def memory(self) -> int:
        """Bytes on a device."""
        return self.arguments + self.outputs + self.temporaries + self.code

    def all_reduces(self, update: str | None = None) -> int:
        """How many a step, or in one of its updates."""
        return sum(c.kind == "all-reduce" and update in (None, c.update) for c in self.collectives)

    @property
    def sent(self) -> float:
        """Bytes a device sends in a step."""
        return sum(c.sent(self.devices) for c in self.collectives)

    @property
    def compute_seconds(self) -> float:
        """max(FLOPs / peak, bytes / HBM bandwidth)."""
        return max(self.flops / self.chip.flops, self.bytes / self.chip.bandwidth)

    @property
    def seconds(self) -> float:
        """A step at the roofline."""
        return self.compute_seconds + self.sent / self.chip.link


def compile_check(config: Config, topology: str) -> Check:
    """The step of `config`, compiled for the TPU `topology`, such as v5e:2x4.

    Raises:
        ConfigError: an unknown topology, a batch that does not divide, no libtpu (exit 2).
        ResourceError: libtpu is in use, or the step does not fit (exit 7).
    """
    check(config)
    devices = described(topology)
    if config.batch % len(devices):
        raise ConfigError(
            f"batch = {config.batch} must be a multiple of the {len(devices)} devices of {topology}: add --batch "
            f"{math.ceil(config.batch / len(devices)) * len(devices)}"
        )
    data = load_data(config.data)
    steps = max(2, min(config.log.every, config.steps))  # at least two, so that there is a loop
    compiled = compiled_chunk(config, data, devices, steps)
    memory, hlo = compiled.memory_analysis(), compiled.as_text()
    cost = compiled_chunk(config, data, devices, 1).cost_analysis()
    assert memory is not None and cost is not None and hlo is not None  # libtpu gives all three
    return Check(
        topology=topology,
        engine=config.parallel.engine,
        parameters=config.parallel.parameters,
        chips=len({tuple(d.coords) for d in devices}),
        devices=len(devices),
        batch=config.batch,
        steps=steps,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=cost["flops"],
        products=product_flops(config, data) / len(devices),
        bytes=cost["bytes accessed"],
        collectives=tuple(step_collectives(hlo)),
    )


def generation(topology: str) -> str:
    """The chip that a topology is made of."""
    return topology.partition(":")[0]


def described(topology: str) -> tuple[jax.Device, ...]:
    """The devices of a TPU topology, described by libtpu; none needs to be there. Errors as `compile_check`."""
    if generation(topology) not in CHIPS or not re.fullmatch(r"\w+:\d+(x\d+){1,2}", topology):
        raise ConfigError(f"--topology {topology}: must be chips and their grid, such as {EXAMPLES}")
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError('compile-check needs libtpu, which holds the compiler: pip install "fgan[tpu]"')
    try:
        return tuple(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" in str(error):
            raise ResourceError(
                "another process uses libtpu; wait for it to end, or set ALLOW_MULTIPLE_LIBTPU_LOAD=1 where no TPU is "
                "attached"
            ) from None
        reason = str(error).splitlines()[0].partition(": ")[2]
        raise ConfigError(f"--topology {topology}: libtpu knows no such grid ({reason}); try {EXAMPLES}") from None


def compiled_chunk(config: Config, data: Dataset, devices: tuple[jax.Device, ...], n: int) -> jax.stages.Compiled:
    """`train.chunk` of n steps compiled for `devices`."""
    where = Layout(devices, config.parallel.engine, config.parallel.parameters)
    return parallel.lower(chunk(config, data, n), arguments(config, data, where), where).compile()


def arguments(config: Config, data: Dataset, where: Layout | None = None) -> tuple:
    """The shapes and types of what a chunk is called with on the devices of `where`, on one if None."""
    shape = parallel.shared_shape(data.rows.shape, where) if where else data.rows.shape
    rows = jax.ShapeDtypeStruct(shape, jnp.float32)
    state = jax.eval_shape(lambda: fresh(config, data))
    return rows, jax.eval_shape(lambda: seed_numbers(config)), state, jax.ShapeDtypeStruct((), jnp.int32)


# ---------------------------------------------------------------------------------------------------------------------


def product_flops(config: Config, data: Dataset) -> float:
    """FLOPs of the matrix products of one step on the whole batch, 2·n·k·m each, counted from the traced shapes."""
    return _products(jax.make_jaxpr(chunk(config, data, 1)(ALONE))(*arguments(config, data)).jaxpr)


def _products(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2.0 * equation.outvars[0].aval.size * math.prod(shape[k] for k in contracted)
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        total += sum(_products(getattr(p, "jaxpr", p)) for p in inner if hasattr(p, "eqns"))
    return total


KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "s64": 8, "u64": 8}


def step_collectives(hlo: str) -> Iterator[Collective]:
    """The collectives in the loops of an optimised program: those of a step."""
    program = _computations(hlo)
    for name in _in_loops(program):
        for line in program[name]:
            if found := re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line):
                scope = re.search(r'op_name="[^"]*?(critic|generator)_update', line)
                parts = [_bytes(*part) for part in re.findall(r"(\w+)\[([\d,]*)\]", found[1])]
                size = (
                    sum(parts) if found[2] == "all-reduce" or not found[3] else max(parts)
                )  # a start repeats operands
                yield Collective(found[2], size, scope[1] if scope else "")


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


# ---------------------------------------------------------------------------------------------------------------------


class Scaled(NamedTuple):
    """A row of the weak-scaling model: seconds a step on n chips, compute and messages."""

    chips: int
    pods: int
    batch: int
    compute: float
    messages: float

    @property
    def seconds(self) -> float:
        """A step."""
        return self.compute + self.messages


def doubled(config: Config, topology: str) -> Check:
    """The check of twice the chips, each with the rows it has on `topology`. Errors as `compile_check`."""
    name, _, grid = topology.partition(":")
    sides = [int(side) for side in grid.split("x")]
    sides[sides.index(min(sides))] *= 2
    return compile_check(dataclasses.replace(config, batch=2 * config.batch), f"{name}:{'x'.join(map(str, sides))}")


CHIP_COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024)


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


def as_json(found: Check) -> dict[str, Any]:
    """`found` and what follows from it, in bytes and seconds."""
    derived = {
        "memory": found.memory,
        "all_reduces": {"step": found.all_reduces()}
        | {update: found.all_reduces(update) for update in ("critic", "generator")},
        "intensity": found.flops / found.bytes,
        "sent": found.sent,
        "seconds": found.seconds,
    }
    return found._asdict() | {"collectives": [c._asdict() for c in found.collectives]} | derived


def table(found: Check) -> str:
    """`found` as lines of a name and a number."""
    chip = found.chip
    reduced = sum(c.bytes for c in found.collectives if c.kind == "all-reduce")
    others = Counter(c.kind for c in found.collectives if c.kind != "all-reduce")
    split = ", ".join(f"{found.all_reduces(u)} {u or 'unnamed'}" for u in _updates(found))
    parts = f"arguments {_size(found.arguments)}, outputs {_size(found.outputs)}, temporaries "
    parts += f"{_size(found.temporaries)}, code {_size(found.code)}"
    rows = {
        "topology": f"{found.topology}, {found.chips} chips, {found.devices} devices",
        "engine": f"{found.engine}, parameters {found.parameters}",
        "batch": f"{found.batch}, {found.batch // found.devices} rows of P and of Q a device",
        "memory a device": f"{_size(found.memory)}, {found.memory / chip.memory:.2%} of its HBM: {parts}",
        "FLOPs a step": f"{found.flops:.4g} a device; matrix products, from their shapes, {found.products:.4g}",
        "bytes a step": f"{found.bytes:.4g} a device, each operand counted as read from HBM",
        "intensity": f"{found.flops / found.bytes:.1f} FLOPs a byte; the roofline bends at "
        f"{chip.flops / chip.bandwidth:.0f}",
        "all-reduces": f"{found.all_reduces()} a step ({split or 'none'}), {_size(reduced)}",
        "other messages": ", ".join(f"{n} {kind}" for kind, n in others.items()) or "none",
        "time a step": f"{_time(found.seconds)} at the roofline: compute {_time(found.flops / chip.flops)}, memory "
        f"{_time(found.bytes / chip.bandwidth)}, messages {_time(found.sent / chip.link)}",
    }
    return "\n".join(f"{name:<17}{text}" for name, text in rows.items())


def model_table(one: Check, two: Check) -> str:
    """The weak-scaling model from two checks as a table; efficiency is the rate of samples a chip over the first's."""
    rows = weak_scaling(one, two)
    lines = [f"Weak scaling, {one.batch // one.chips} rows a chip: a model from the compile checks for {one.topology}"]
    lines[0] += f" and {two.topology}, no measurement"
    lines += [f"{'chips':>6}{'pods':>6}{'batch':>10}{'compute':>12}{'messages':>12}{'step':>12}{'efficiency':>12}"]
    for r in rows:
        times = "".join(f"{_time(t):>12}" for t in (r.compute, r.messages, r.seconds))
        lines.append(f"{r.chips:>6}{r.pods:>6}{r.batch:>10}{times}{rows[0].seconds / r.seconds:>12.1%}")
    return "\n".join(lines)


def _updates(found: Check) -> list[str]:
    return [u for u in ("critic", "generator", "") if found.all_reduces(u)]


def _size(n: float) -> str:
    power = min(int(math.log(max(n, 1.0), 1024)), 3)
    return f"{n / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} µs"

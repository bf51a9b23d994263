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

What a step is comes from outside (`Steps`): this room knows no model.

Source of the roofline: Williams, Waterman, Patterson 2009; of the bytes sent: Patarasuk, Yuan 2009.
"""

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.extend.core import jaxprs_in_params

from estimators.critics.kernel import ALONE
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config
from fgan.devices import engines
from fgan.devices.engines import Chunk, Layout

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8, "s64": 8, "u64": 8}
"""Bytes of a number, by the name that HLO gives its type."""


class Collective(NamedTuple):
    """One operation of a step between devices."""

    kind: str  # as in HLO, such as all-reduce
    bytes: int  # of its result, on one device
    update: str  # the named scope `<update>_update` it belongs to, such as critic; "" where there is none

    def sent(self, n: int) -> float:
        """The bytes that each of n devices sends, at the least."""
        factor = {"all-reduce": 2.0 * (n - 1) / n, "all-gather": (n - 1) / n, "reduce-scatter": n - 1.0}
        return factor.get(self.kind, 1.0) * self.bytes


def step_collectives(hlo: str) -> Iterator[Collective]:
    """The collectives in the loops of an optimised program: those of a step."""
    program = dict(re.findall(r"^(?:ENTRY )?%?([\w.-]+) [^\n]*\{\n(.*?)^\}", hlo, re.MULTILINE | re.DOTALL))
    reached: set[str] = set()
    waiting = re.findall(r"body=%?([\w.-]+)", hlo)
    while waiting:  # the computations that the bodies of loops reach, each once
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += [word for word in re.findall(r"%?([\w.-]+)", program[name]) if word in program]
        for line in program[name].splitlines():
            if match := re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line):
                scope = re.search(r'op_name="[^"]*?\b([a-z]+)_update\b', line)
                sizes = [_bytes(*array) for array in re.findall(r"(\w+)\[([\d,]*)\]", match[1])]
                whole = match[2] == "all-reduce" or not match[3]  # other starts list their operands too
                yield Collective(match[2], sum(sizes) if whole else max(sizes), scope[1] if scope else "")


def _bytes(kind: str, shape: str) -> int:
    return SIZES.get(kind, 4) * math.prod(int(side) for side in shape.split(",") if side)


GIB = 2**30
EXAMPLES = "v5e:2x4, v5e:16x16, v6e:4x4, v5p:4x4x4 or v4:2x2x4"
Steps = Callable[[Config, int, Layout], tuple[Chunk, tuple]]
"""(config, n, layout) → (the chunk of n steps, the shapes of its arguments), as `engines.lower` takes them."""


class CompilerBusy(RuntimeError):
    """Another process uses libtpu."""

    exit_code = 7


class Chip(NamedTuple):
    """The published figures of a chip: decimal units a second."""

    flops: float  # peak of matrix products in bfloat16, in which TPUs also multiply float32 by default
    memory: float  # HBM, bytes
    bandwidth: float  # of the HBM, bytes a second
    link: float  # bytes a second that a chip sends over all its links, one way
    pod: int  # how many chips such links can join
    network: float = 0.0  # bytes a second a chip between pods, over the data centre; 0 where none is published


CHIPS: dict[str, Chip] = {
    "v4": Chip(275e12, 32 * GIB, 1200e9, 6 * 50e9, 4096),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 400e9 / 2, 256, 6.4e12 / 8 / 256),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 1200e9 / 2, 8960, 50e9 / 8),
    "v6e": Chip(918e12, 32 * GIB, 1600e9, 800e9 / 2, 256, 25.6e12 / 8 / 256),
}
"""Each by the name that a topology begins with.

Source: cloud.google.com/tpu/docs/v4, v5e, v5p, v6e, which give links in both directions together, here halved, and the
network of a pod of 256, here a chip's share; v4's links from Jouppi et al. 2023, table 4: six of 50 GB/s.
"""


class Check(NamedTuple):
    """What a step takes on one device, under the layout named; `steps` is that of a call.

    `arguments` to `code` are bytes; `flops` and `bytes` a step by XLA's count, `products` the FLOPs of matrix products
    counted from their shapes.
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
        c, each = CHIPS[self.topology.partition(":")[0]], self.devices // self.chips
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


def compile_check(config: Config, topology: str, steps: Steps) -> Check:
    """The step of `config`, compiled for the TPU `topology`, such as v5e:2x4.

    Raises:
        ConfigError: an unknown topology, a batch that does not divide, no libtpu (exit 2).
        CompilerBusy: libtpu is in use (exit 7). JaxRuntimeError: the step does not fit (exit 7).
    """
    config = check(config)
    devices = described(topology)
    if config.batch % len(devices):
        raise ConfigError(
            f"batch = {config.batch} must be a multiple of the {len(devices)} devices of {topology}: add --batch "
            f"{math.ceil(config.batch / len(devices)) * len(devices)}"
        )
    layout = Layout(devices, config.parallel.engine, config.parallel.parameters)
    n = max(2, min(config.log.every, config.steps))  # at least two, so that there is a loop
    compiled = compiled_chunk(config, n, layout, steps)
    memory, hlo = compiled.memory_analysis(), compiled.as_text()
    cost = compiled_chunk(config, 1, layout, steps).cost_analysis()
    assert memory is not None and cost is not None and hlo is not None  # libtpu gives all three
    return Check(
        topology=topology,
        engine=layout.engine,
        parameters=layout.parameters,
        chips=len({tuple(d.coords) for d in devices}),
        devices=len(devices),
        batch=config.batch,
        steps=n,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        flops=cost["flops"],
        products=product_flops(config, steps) / len(devices),
        bytes=cost["bytes accessed"],
        collectives=tuple(step_collectives(hlo)),
    )


def described(topology: str) -> tuple[jax.Device, ...]:
    """The devices of a TPU topology, described by libtpu; none needs to be there. Errors as `compile_check`."""
    if topology.partition(":")[0] not in CHIPS or not re.fullmatch(r"\w+:\d+(x\d+){1,2}", topology):
        raise ConfigError(f"--topology {topology}: must be chips and their grid, such as {EXAMPLES}")
    if importlib.util.find_spec("libtpu") is None:
        raise ConfigError('compile-check needs libtpu, which holds the compiler: pip install "fgan[tpu]"')
    try:
        return tuple(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except jax.errors.JaxRuntimeError as error:
        if "lockfile" in str(error):
            raise CompilerBusy(
                "another process uses libtpu; wait for it to end, or set ALLOW_MULTIPLE_LIBTPU_LOAD=1 where no TPU is "
                "attached"
            ) from None
        reason = str(error).splitlines()[0].partition(": ")[2]
        raise ConfigError(f"--topology {topology}: libtpu knows no such grid ({reason}); try {EXAMPLES}") from None


def compiled_chunk(config: Config, n: int, layout: Layout, steps: Steps) -> jax.stages.Compiled:
    """n steps compiled for the devices of `layout`."""
    return engines.lower(*steps(config, n, layout), layout).compile()


def product_flops(config: Config, steps: Steps) -> float:
    """FLOPs of the matrix products of one step on the whole batch, 2·n·k·m each, counted from the traced shapes."""
    chunk, arguments = steps(config, 1, Layout(tuple(jax.devices()[:1])))
    return _products(jax.make_jaxpr(chunk(ALONE))(*arguments).jaxpr)


def _products(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2.0 * equation.outvars[0].aval.size * math.prod(shape[k] for k in contracted)
        total += sum(_products(inner) for inner in jaxprs_in_params(equation.params))
    return total


def as_json(result: Check) -> dict[str, Any]:
    """`result` and what follows from it, in bytes and seconds."""
    updates = dict.fromkeys(["critic", "generator", *(c.update for c in result.collectives if c.update)])
    derived = {
        "memory": result.memory,
        "all_reduces": {"step": result.all_reduces()} | {u: result.all_reduces(u) for u in updates},
        "intensity": result.flops / result.bytes,
        "sent": result.sent,
        "seconds": result.seconds,
    }
    return result._asdict() | {"collectives": [c._asdict() for c in result.collectives]} | derived


def table(result: Check) -> str:
    """`result` as lines of a name and a number."""
    chip = result.chip
    reduced = sum(c.bytes for c in result.collectives if c.kind == "all-reduce")
    others = Counter(c.kind for c in result.collectives if c.kind != "all-reduce")
    updates = sorted({c.update for c in result.collectives if c.kind == "all-reduce"}, key=lambda u: (not u, u))
    split = ", ".join(f"{result.all_reduces(u)} {u or 'unnamed'}" for u in updates)
    compute, memory = (seconds_text(t) for t in (result.flops / chip.flops, result.bytes / chip.bandwidth))
    kinds = ("arguments", "outputs", "temporaries", "code")
    parts = ", ".join(f"{kind} {engines.size_text(getattr(result, kind))}" for kind in kinds)
    rows = {
        "topology": f"{result.topology}, {result.chips} chips, {result.devices} devices",
        "engine": f"{result.engine}, parameters {result.parameters}",
        "batch": f"{result.batch}, {result.batch // result.devices} rows of P and of Q a device",
        "memory a device": f"{engines.size_text(result.memory)}, {result.memory / chip.memory:.2%} of its HBM: {parts}",
        "FLOPs a step": f"{result.flops:.4g} a device; matrix products, from their shapes, {result.products:.4g}",
        "bytes a step": f"{result.bytes:.4g} a device, each operand counted as read from HBM",
        "intensity": f"{result.flops / result.bytes:.1f} FLOPs a byte; the roofline bends at "
        f"{chip.flops / chip.bandwidth:.0f}",
        "all-reduces": f"{result.all_reduces()} a step ({split or 'none'}), {engines.size_text(reduced)}",
        "other messages": ", ".join(f"{n} {kind}" for kind, n in others.items()) or "none",
        "time a step": f"{seconds_text(result.seconds)} at the roofline: compute {compute}, memory {memory}, messages "
        f"{seconds_text(result.sent / chip.link)}",
    }
    return "\n".join(f"{name:<17}{text}" for name, text in rows.items())


def seconds_text(seconds: float) -> str:
    """A short time with its unit, ms or µs."""
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} µs"


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

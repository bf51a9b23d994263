"""The compiled part of training: many steps a call, for all members at once."""

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

from estimators.critics.kernel import ALONE, Replicas, drawn_in, steps
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, replace
from fgan.data.dataset import Dataset
from fgan.data.host_rows import HostRows, chunk_bytes, on_host, refuse_long
from fgan.devices import engines
from fgan.devices.engines import Layout
from fgan.models.model import Model, build, in_two
from fgan.run.directory import ResourceError
from fgan.run.progress import Reporter
from fgan.scores.evaluation import Evaluation

WITHIN = 4  # the factor that `footprint` and `_peak` are right within, by a test

FIELDS = (
    "generator_optimizer.learning_rate",
    "critic_optimizer.learning_rate",
    "penalty.weight",
    "vae.weight",
    "vae.alpha",
)
"""Fields that a chunk takes as arrays, so that members which differ in them share a program."""


def chunk(
    config: Config, data: Dataset, n: int, *, ahead: bool = False
) -> Callable[[Replicas], Callable[..., tuple[Any, Any]]]:
    """replicas → (rows, seeds, state, start[, values]) → (state, metrics averaged over n steps), vmapped over seeds.

    Args of the function:
        rows: this device's slice of the data (`engines.slices`); the rows of all n steps where they come `ahead`
            (`HostRows`), the same ones that the chunk would have drawn.
        seeds: [k]; state: a leading axis k; start: the number of the first step.
        values: dotted field → [k], for fields of `config` that differ by seed. They are traced: one program serves all.
    """

    def on(replicas: Replicas):
        def run(rows, seeds, state, start, values: Mapping[str, jax.Array] = MappingProxyType({})):
            given = (replicas.gathered(rows),) if ahead else ()

            def one(seed, state, values, given):
                model = build(replace(config, values), data, replicas)
                noise, advance = in_two(model)

                draw = batches(model.batches, config, data, rows, replicas)
                key = jax.random.key(seed)
                state, metrics = steps(advance, draw, key, state, start, n, noise=noise, replicas=replicas, ahead=given)
                return state, jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)

            return jax.vmap(one)(seeds, state, dict(values), given)

        return run

    return on


def batches(count: int, config: Config, data: Dataset, rows: Any, replicas: Replicas = ALONE) -> Callable:
    """key → the real samples of a step [count, b, d], from `rows`, this device's share of the data.

    (key, its share of the batches' rows [count, b, d], as they are kept) → the same, where the host has picked them.
    """

    def draw(key: jax.Array, *ahead: jax.Array) -> jax.Array:
        keys = jax.random.split(key, count)
        if ahead:
            return jnp.stack([data.seen(k, ahead[0][i], config.batch, replicas) for i, k in enumerate(keys)])
        return jnp.stack([data.draw(k, rows, config.batch, replicas) for k in keys])

    return draw


def row_numbers(count: int, config: Config, data: Dataset) -> Callable[[Any, Any, int], jax.Array]:
    """(seeds [k], start, n) → which rows `batches` draws in n steps: [k, n, count, b], of the global batch."""

    def draw(key: jax.Array) -> jax.Array:
        return jnp.stack([data.numbers(k, config.batch) for k in jax.random.split(key, count)])

    def one(seed, start, n):
        step = partial(drawn_in, jax.random.key(seed), draw=draw, noise=lambda key: ())
        return jax.vmap(lambda i: step(i)[1])(start + jnp.arange(n))

    return jax.jit(jax.vmap(one, in_axes=(0, None, None)), static_argnums=2)


def seed_numbers(config: Config) -> jax.Array:
    """seed, seed + 1, …: the seeds of a run."""
    return jnp.arange(config.seed, config.seed + config.seeds, dtype=jnp.uint32)


def beginning(model: Model) -> Callable[[Any], Any]:
    """seeds → the state before the first step, vmapped over them."""

    def init(seeds):
        return jax.vmap(lambda seed: model.init(jax.random.fold_in(jax.random.key(seed), 2**32 - 1)))(seeds)

    return jax.jit(init)


def fresh(config: Config, data: Dataset, seeds: Any = None, *, layout: Layout | None = None) -> Any:
    """The state before the first step, vmapped over `seeds` (default: those of `config`), laid out as `layout` says."""
    return laid_out(beginning(build(config, data)), seed_numbers(config) if seeds is None else seeds, layout)


def laid_out(begin: Callable[[Any], Any], seeds: Any, layout: Layout | None) -> Any:
    """begin(seeds) on the devices of `layout`."""
    if layout is None or layout.n == 1:
        return begin(seeds)
    return jax.jit(begin, out_shardings=engines.shardings(jax.eval_shape(begin, seeds), layout))(np.asarray(seeds))


def described(config: Config, data: Dataset, n: int, layout: Layout) -> tuple[Callable[[Replicas], Callable], tuple]:
    """(the chunk of n steps, the shapes of its arguments on `layout`), as `engines.lower` takes them."""
    rows = jax.ShapeDtypeStruct(_rows_shape(data, layout), data.kept_dtype)
    state, seeds = jax.eval_shape(lambda: fresh(config, data)), jax.eval_shape(lambda: seed_numbers(config))
    return chunk(config, data, n), (rows, seeds, state, jax.ShapeDtypeStruct((), jnp.int32))


def _rows_shape(data: Dataset, layout: Layout) -> tuple[int, ...]:
    """The shape of the rows as the devices of `layout` hold them."""
    return engines.slices_shape(data.kept_shape, layout, whole=data.stack > 1)


def within_passes(config: Config, rows: int) -> Config:
    """`config` with no more steps than `data.passes` allows over so many rows, a multiple of log.every."""
    if not (config.data.passes and rows):
        return config
    most = -(-config.data.passes * rows // (config.batch * config.log.every)) * config.log.every
    return replace(config, {"steps": min(config.steps, most)})


class Program:
    """What members that share a config share: model, data on the devices, compiled steps, evaluation.

    Its `config` has no more steps than `data.passes` allows, of those `asked` for. Raises ConfigError where the config
    cannot be built, or its batch not be divided over the devices.
    """

    def __init__(self, config: Config, data: Dataset):
        self.asked, self.config = config.steps, within_passes(config, len(data.rows))
        self.data, self.layout = data, engines.layout(config.parallel)
        if config.batch % self.layout.n:
            raise ConfigError(f"batch = {config.batch} must be a multiple of the {self.layout.n} devices")
        self.model = build(self.config, data)
        self.host: HostRows | None = None
        if on_host(data, config.data.keep):
            refuse_long(self.config, data, self.model.batches)
            self.host = HostRows(data.kept, row_numbers(self.model.batches, self.config, data), self.layout)
        self.rows = None if self.host else engines.slices(data.kept, self.layout, whole=data.stack > 1)
        self._beginning = beginning(self.model)  # of all parts of a sweep, compiled once
        self._compiled: dict[tuple[int, int], Any] = {}
        self._evaluation: Evaluation | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know before it trains: of the model, of the data, and of steps left out."""
        steps: tuple[str, ...] = ()
        if self.config.steps < self.asked:
            passes = f"{self.config.data.passes} passes over {len(self.data.rows)} rows (data.passes)"
            steps = (f"steps: {self.config.steps} in place of {self.asked}, for {passes}",)
        if 0 < len(self.data.rows) < self.config.batch:
            few = f"{len(self.data.rows)} rows are fewer than a batch of {self.config.batch}: they repeat within one"
            steps = (*steps, f"{few}; lower --batch")
        return (*self.model.notes, *self.data.notes, *steps)

    def fresh(self, seeds: jax.Array) -> Any:
        """The state of `seeds` before the first step."""
        return laid_out(self._beginning, seeds, self.layout)

    def abstract(self, seeds: jax.Array) -> Any:
        """What to restore the state of `seeds` as: shape, type and sharding of each array."""
        return engines.abstract(jax.eval_shape(self._beginning, seeds), self.layout)

    def given(self, seeds: Any, start: int, n: int, then: int = 0) -> jax.Array:
        """The first argument of a chunk of n steps: the rows on the devices, or those of its batches from the host.

        `then` is how many steps the next chunk has; its rows are gathered meanwhile.
        """
        if self.host is not None:
            return self.host.take(seeds, start, n, then)
        assert self.rows is not None
        return self.rows

    def compiled(self, n: int, arguments: tuple, report: Reporter) -> tuple[Callable[..., Any], float]:
        """(the program of n steps for members as in `arguments`, the seconds it took to compile if it had to be)."""
        members, begun = len(arguments[1]), time.monotonic()
        if found := self._compiled.get((n, members)):
            return found, 0.0
        many = f" of {members} members" if members > 1 else ""
        with report.phase(f"compiling {n} steps{many} for {engines.describe()}"):
            function = cache(
                chunk(self.config, self.data, n, ahead=self.host is not None)
            )  # one for both, so that it is traced once
            if self.layout.n == 1:
                self._refuse(jax.jit(function(ALONE)).trace(*arguments).jaxpr.jaxpr, report)
            made = engines.compile_chunk(function, arguments, self.layout)
        self._compiled[n, members] = made
        return made, time.monotonic() - begun

    def evaluation(self, report: Reporter) -> Evaluation:
        """The scores for this kind of data; what they need is computed once."""
        if self._evaluation is None:
            with report.phase("preparing the evaluation"):
                self._evaluation = Evaluation(self.config, self.data, self.model)
        return self._evaluation

    def _refuse(self, traced: Any, report: Reporter) -> None:
        """Refuse a traced program that memory certainly cannot hold, and warn of one that it may not hold."""
        need, has = _peak(traced), engines.memory()
        if need > WITHIN * has:
            raise self.beyond_memory(need)
        if need > has:
            report.say(f"memory: {self._need(need)}; if it fails, {self._lower()}")

    def beyond_memory(self, need: int = 0, *, members: int = 1) -> ResourceError:
        """The refusal of a program that takes `need` bytes, or that of so many members."""
        return ResourceError(f"out of memory: {self._need(need or self._together(members))}; {self._lower()}")

    def _together(self, members: int) -> int:
        """About how many bytes `members` and the rows take."""
        own = chunk_bytes(self.config, self.data, self.model.batches) if self.rows is None else 0
        return members * (self.footprint() + own) + (0 if self.rows is None else self.rows.nbytes)

    def _need(self, need: int) -> str:
        return f"training takes about {engines.size_text(need)}, and there are {engines.size_text(engines.memory())}"

    def _lower(self) -> str:
        widths = ("vae.features",) if self.config.model == "vae" else ("generator.features", "critic.features")
        return f"lower {', '.join(('batch', 'seeds', 'log.samples', *widths))}"

    def footprint(self) -> int:
        """About how many bytes a member takes: the most that are alive at once in a chunk, or in a draw of samples.

        Counted from the traced shapes, line by line; the compiler fuses some lines, and pads some arrays.
        """
        log, one = self.config.log, Layout(self.layout.devices[:1])
        steps = min(log.every, self.config.steps)
        made, (rows, seeds, state, start) = described(replace(self.config, {"seeds": 1}), self.data, steps, one)
        training = jax.make_jaxpr(made(ALONE))(rows, seeds, state, start)
        member = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)
        sampling = jax.make_jaxpr(lambda state: self.model.sample(state, jax.random.key(0), log.samples))(member)
        return max(_peak(training.jaxpr) - rows.dtype.itemsize * rows.size, _peak(sampling.jaxpr))


def _peak(jaxpr: Any) -> int:
    """The most bytes alive at once when a program is executed line by line."""
    last = {v: i for i, line in enumerate(jaxpr.eqns) for v in line.invars if not isinstance(v, Literal)}
    last |= {v: len(jaxpr.eqns) for v in (*jaxpr.outvars, *jaxpr.invars) if not isinstance(v, Literal)}
    alive = most = _bytes(jaxpr.invars)
    for i, line in enumerate(jaxpr.eqns):
        inner = max((_peak(sub) - _bytes(sub.invars) for sub in jaxprs_in_params(line.params)), default=0)
        alive += _bytes(line.outvars)
        most = max(most, alive + inner)
        ended = {v for v in line.invars if not isinstance(v, Literal) and last[v] == i}
        alive -= _bytes([*ended, *(v for v in line.outvars if v not in last)])
    return most


def _bytes(variables: Any) -> int:
    return sum(v.aval.size * v.aval.dtype.itemsize for v in variables)

"""The training loop: many steps a compiled call, seeds at once, all devices, and everything a long run needs.

    build     config + data → FGAN
    train     the loop: chunk, metrics line, evaluation, checkpoint, until the steps are done or a signal asks to stop
    restore   a finished or interrupted run → its FGAN and state, to sample from

A resumed run equals an uninterrupted one bit for bit: step i draws from fold_in(key, i), the checkpoint holds
everything a step changes, and metrics.jsonl is cut back to it. Only timings.jsonl knows the clock.

Layer 7.
"""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import ALONE, Replicas, steps
from estimators.critics.networks import MLP
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import divergence
from fgan.config.schema import Config, ConfigError, check, from_toml, replace, to_toml
from fgan.data.sources import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines as parallel
from fgan.devices import processes
from fgan.devices.engines import Layout
from fgan.models.gan import FGAN, GANState
from fgan.models.instance_noise import Spread
from fgan.models.optimizers import optimizer
from fgan.models.penalties import PENALTIES, SCHEDULES, Look
from fgan.networks import generators as networks
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import ResourceError, RunDirectory
from fgan.run.progress import Reporter
from fgan.scores.evaluation import Evaluation

PATIENCE = 50  # consecutive steps left out for being non-finite before a seed is given up


class Diverged(RuntimeError):
    """Every seed went non-finite and stayed so."""

    exit_code = 4


class Stopped(RuntimeError):
    """A signal asked to stop; the state is saved."""

    def __init__(self, number: int, step: int):
        super().__init__(f"stopped by signal {number} at step {step}; the same command goes on from there")
        self.exit_code = 128 + number


class Outcome(NamedTuple):
    """What a training run left behind; `leads` tells whether this process wrote it."""

    run: Path
    step: int
    scores: list[dict[str, Any]]
    leads: bool = True


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> FGAN:
    """The FGAN that `config` describes, for the dimension of `data`."""
    row = divergence(config.divergence)
    other = config.critic.divergence or ("" if row.smooth else "js")
    return FGAN(
        generator=_generator(config, data),
        critic=_critic(config, data),
        divergence=row,
        critic_divergence=divergence(other) if other and divergence(other) is not row else None,
        activation=None if config.critic.activation == "default" else config.critic.activation,
        bound=BOUNDS[config.critic.bound],
        objective=config.game.objective,
        update=config.game.update,
        critic_steps=config.game.critic_steps,
        generator_optimizer=optimizer(config.generator_optimizer, config.steps),
        critic_optimizer=optimizer(config.critic_optimizer, config.steps * config.game.critic_steps),
        penalty=_penalty(config.penalty.names),
        penalty_weight=partial(_penalty_weight, config),
        penalty_on=config.penalty.on,
        normalise=config.game.normalise,
        spread=_spread(config),
        average=config.generator.average,
        reach=config.critic.reach,
        leash=config.critic.leash,
        smoothing=config.game.smoothing,
        dim=data.dim,
        latent=config.generator.latent + config.generator.linear,
        batch=config.batch,
        compute=None if config.compute == "float32" else jnp.dtype(config.compute),
        replicas=replicas,
    )


def _penalty(names: tuple[str, ...]) -> Callable[[Look], jax.Array] | None:
    rows = [PENALTIES[name] for name in names if name != "none"]
    return (lambda look: jnp.sum(jnp.stack([row(look) for row in rows]))) if rows else None


def _penalty_weight(config: Config, step: jax.Array) -> jax.Array:
    return config.penalty.weight * SCHEDULES[config.penalty.schedule](step / config.steps)


def _spread(config: Config) -> Spread | None:
    s = config.spread
    if not s.start:
        return None
    updates = config.steps * config.game.critic_steps
    return Spread(start=s.start, end=s.end, overlap=s.overlap, fall=s.fall * updates, steps=updates)


def _generator(config: Config, data: Dataset):
    g = config.generator
    if g.linear and (g.kind != "mlp" or data.side):
        raise ConfigError(f"generator.linear = {g.linear}: only an mlp on data that are no images takes it")
    if g.kind == "location_scale":
        if data.dim != 1 or g.latent != 1:
            raise ConfigError("generator.kind = location_scale needs data on the line and generator.latent = 1")
        return networks.LocationScale(g.start)
    if g.kind == "image":
        _check_image("generator", g.features, data)
        return networks.ImageGenerator(data.side, g.features, g.nonlinearity)
    if data.side:
        return networks.Bounded(g.features, g.nonlinearity, data.dim)
    network = MLP(g.features, g.nonlinearity, data.dim, gain=g.gain)
    return networks.Convolved(network, g.linear, data.dim) if g.linear else network


def _critic(config: Config, data: Dataset):
    c = config.critic
    if c.kind == "image":
        _check_image("critic", c.features, data)
        return networks.ImageCritic(data.side, c.features, c.nonlinearity)
    return MLP(c.features, c.nonlinearity, gain=c.gain, frequencies=c.frequencies, lipschitz=c.lipschitz)


def _check_image(group: str, features: tuple[int, ...], data: Dataset) -> None:
    if not data.side or data.side % 4:
        found = f"{data.name} has images of {data.side} × {data.side} pixels" if data.side else f"{data.name} has none"
        raise ConfigError(
            f"{group}.kind = image needs square images whose side is a multiple of 4; {found}: use --{group}.kind mlp"
        )
    if len(features) != 2:
        raise ConfigError(f"{group}.features = {list(features)}: an image network has two widths")


# ---------------------------------------------------------------------------------------------------------------------


def chunk(config: Config, data: Dataset, n: int):
    """(replicas) → (rows, seeds, state, start) → (state, metrics averaged over the n steps), vmapped over seeds.

    `rows` are this device's share of the data (`parallel.shares`). A further argument holds fields of `config` that
    differ from seed to seed: {dotted name: values [seeds]}. They are traced, so that one program serves all values; a
    sweep's ARRAYS can be.
    """

    def spread(replicas: Replicas):
        def run(rows, seeds, state, start, values: Mapping[str, jax.Array] = MappingProxyType({})):
            def draw(key):
                keys = jax.random.split(key, config.game.critic_steps)
                return jnp.stack([data.draw(k, rows, config.batch, replicas) for k in keys])

            def alone(seed, state, values):
                gan = build(replace(config, values), data, replicas)
                key = jax.random.key(seed)
                state, metrics = steps(gan.advance, draw, key, state, start, n, noise=gan.noise, replicas=replicas)
                return state, jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)

            return jax.vmap(alone)(seeds, state, dict(values))

        return run

    return spread


def seed_numbers(config: Config) -> jax.Array:
    """seed, seed + 1, …: the seeds trained at once."""
    return jnp.arange(config.seed, config.seed + config.seeds, dtype=jnp.uint32)


def fresh(config: Config, data: Dataset, seeds: jax.Array | None = None, *, where: Layout | None = None) -> GANState:
    """The state before the first step, vmapped over `seeds`, those of `config` if None, laid out as `where` has it."""
    gan = build(config, data)

    def init(seeds):
        return jax.vmap(lambda seed: gan.init(jax.random.fold_in(jax.random.key(seed), 2**32 - 1)))(seeds)

    seeds = seed_numbers(config) if seeds is None else seeds
    if where is None or where.n == 1:
        return jax.jit(init)(seeds)
    return jax.jit(init, out_shardings=parallel.shardings(jax.eval_shape(init, seeds), where))(np.asarray(seeds))


def train(config: Config, directory: str | Path, *, overwrite: bool = False, quiet: bool = False) -> Outcome:
    """Train, or go on training, the run in `directory`.

    A changed `steps` goes on too; a schedule then runs as if it had been the number from the start.

    Raises:
        ConfigError, ConfigConflict (exit 2), DataError (3), Diverged (4), CheckpointError (5), RunLocked (6),
        ResourceError (7), Stopped (128 + signal).
    """
    check(config)
    data = load_data(config.data)
    where = parallel.layout(config.parallel)
    if config.batch % where.n:
        raise ConfigError(f"batch = {config.batch} must be a multiple of the {where.n} devices")
    build(config, data)  # refuse what cannot be built before anything is written
    with (
        _directory(directory, to_toml(config), overwrite) as run,
        Reporter(config.steps, quiet=quiet or not processes.leader()) as report,
        signals() as stop,
    ):
        loop = _Loop(config, data, run, report, where)
        try:
            with processes.together():
                return loop.run(stop)
        except Stopped:
            run.status("preempted", loop.step)
            raise
        except (ValueError, RuntimeError, OSError) as error:
            run.status("failed", loop.step, reason=str(error).splitlines()[0] if str(error) else repr(error))
            raise


def _directory(path: str | Path, config_toml: str, overwrite: bool) -> RunDirectory:
    """The run's directory: the leader's to write, the others' to read once the leader has made it."""
    made = RunDirectory.open(path, config_toml, overwrite=overwrite) if processes.leader() else None
    processes.barrier("the run directory is there")
    return made or RunDirectory.find(path, writes=False)


def _identity(run: RunDirectory, data: str) -> str:
    """What must not change between a checkpoint and its resumption: the settings, and the data they were met with."""
    return hashlib.sha256((run.fingerprint + data).encode()).hexdigest()


class _Loop:
    """One training run in progress: the state of `train`."""

    def __init__(self, config: Config, data: Dataset, run: RunDirectory, report: Reporter, where: Layout):
        self.config, self.data, self.directory, self.report, self.where = config, data, run, report, where
        identity = _identity(run, data.fingerprint())
        self.checkpoints = Checkpoints(run.checkpoints, fingerprint=identity, warn=report.say)
        with report.phase("preparing the evaluation"):
            self.evaluation = Evaluation(config, data, build(config, data)) if run.writes else None
        self.rows, self.seeds = parallel.shares(data.rows, where), seed_numbers(config)
        self.state, self.step = fresh(config, data, where=where), 0
        self.scores: list[dict[str, Any]] = []
        self._compiled: dict[int, Any] = {}

    def run(self, stop: list[int]) -> Outcome:
        self._resume()
        for note in self.data.notes:
            self.report.say(note)
        while self.step < self.config.steps:
            self._advance()
            last = self.step >= self.config.steps
            if last or self.step % self.config.log.evaluate == 0:
                self._evaluate()
            asked = processes.any_of(stop)  # a signal from here on waits for the next call, which saves before it stops
            if last or asked or self.step % self.config.log.checkpoint == 0:
                self._save()
            self.directory.status("running", self.step)
            if asked and not last:
                raise Stopped(asked[0], self.step)
        if self.directory.writes:
            from fgan import plots  # after the first step: matplotlib takes a second to import

            plots.training(self.directory.path)
        self.directory.status("finished", self.step, devices=parallel.describe())
        scores = self.scores or self._last_scores()
        return Outcome(self.directory.path, self.step, scores, self.directory.writes)

    def _resume(self) -> None:
        restored = self.checkpoints.restore(parallel.abstract(self.state), finite=False)
        if restored is not None:
            self.step, self.state = restored.step, restored.state
            self.directory.cut("metrics.jsonl", restored.metrics_bytes)
            self.report.say(f"resuming {self.directory.path} at step {self.step}")
        elif self._was_finished():
            raise CheckpointError(
                f"{self.directory.path} finished once, but its checkpoints are gone; put them back, or start anew with "
                "--overwrite"
            )
        else:
            self.directory.cut("metrics.jsonl", 0)
            self.directory.cut("timings.jsonl", 0)
            if self.directory.writes:
                describe_data(self.directory, self.data)
        self.directory.status("running", self.step)

    def _was_finished(self) -> bool:
        status = self.directory.path / "status.json"
        return status.exists() and json.loads(status.read_text())["state"] == "finished"

    def _advance(self) -> None:
        """One compiled call, and its line of metrics."""
        every = self.config.log.every
        n = min(every - self.step % every, self.config.steps - self.step)  # back in step where a resumed run is not
        arguments = (self.rows, self.seeds, self.state, jnp.asarray(self.step, jnp.int32))
        if n not in self._compiled:
            begun = time.monotonic()
            with self.report.phase(f"compiling {n} steps for {parallel.describe()}"):
                program = chunk(self.config, self.data, n)
                self._compiled[n] = parallel.compile_chunk(program, arguments, self.where)
            self.directory.append({"step": self.step, "compile_seconds": time.monotonic() - begun}, "timings.jsonl")
        begun = time.monotonic()
        self.state, metrics = jax.block_until_ready(self._compiled[n](*arguments))
        self.step += n
        values = {name: np.asarray(value) for name, value in parallel.local(metrics).items()}
        self.directory.append({"step": self.step} | values)
        self.directory.append({"step": self.step, "seconds": time.monotonic() - begun, "steps": n}, "timings.jsonl")
        self._refuse_divergence(values)
        bound = float(np.nanmedian(values["bound"]))
        self.report.advance(self.step, f"{self.config.divergence} bound {bound:.4f}")

    def _refuse_divergence(self, values: dict[str, np.ndarray]) -> None:
        skipped = np.asarray(parallel.local(self.state.skipped))
        if not (skipped >= PATIENCE).all():
            return
        report = {
            "first_bad_step": int(self.step - skipped.max()),
            "skipped": skipped.tolist(),
            "metrics": {name: [repr(float(v)) for v in value] for name, value in values.items()},
            "replay": f"fgan train {self.directory.path / 'config.toml'} --run {self.directory.path}-replay",
        }
        if self.directory.writes:
            (self.directory.path / "nan_report.json").write_text(json.dumps(report, indent=1) + "\n")
        raise Diverged(
            f"every seed has been non-finite for {PATIENCE} steps or more since step {report['first_bad_step']}; see "
            f"{self.directory.path / 'nan_report.json'}. Lower the learning rates, or add --penalty r1"
        )

    def _evaluate(self) -> None:
        state = parallel.local(self.state)
        if self.evaluation is None:
            return
        samples, self.scores = self.evaluation(state, self.step)
        self.directory.append({"step": self.step, "scores": self.scores})
        folder = self.directory.path / "samples"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"{self.step:08d}.npy", samples)
        from fgan.run import pictures as plots

        plots.samples(self.directory.path, self.step)

    def _save(self) -> None:
        try:
            self.checkpoints.save(self.step, self.state, metrics_bytes=self.directory.size("metrics.jsonl"))
        except OSError as error:
            raise ResourceError(f"{error}; the previous checkpoint is kept: free some space and run again") from error

    def _last_scores(self) -> list[dict[str, Any]]:
        lines = (self.directory.path / "metrics.jsonl").read_text().splitlines()
        return next((r["scores"] for line in reversed(lines) if "scores" in (r := json.loads(line))), [])


@contextmanager
def signals():
    """A list that receives the number of the first SIGTERM or SIGINT; a second one ends the program at once."""
    caught: list[int] = []

    def note(number, _):
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread, as in a notebook's helper: the caller keeps its own handlers
        before = {}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------------------------------


class Restored(NamedTuple):
    """A trained run, to sample from."""

    gan: FGAN
    state: GANState
    step: int
    config: Config
    offset: np.ndarray
    scale: np.ndarray

    def sample(self, n: int, *, seed: int = 0, member: int = 0) -> np.ndarray:
        """n generated rows [n, d] in the data's own units, from the `member`-th of the run's seeds."""
        if not 0 <= member < self.config.seeds:
            raise ConfigError(f"member {member}: the run has seeds 0 to {self.config.seeds - 1}")
        state = jax.tree.map(lambda x: x[member], self.state)
        rows = jax.jit(self.gan.sample, static_argnums=2)(state, jax.random.key(seed), n)
        return np.asarray(rows, np.float64) * self.scale + self.offset


def restore(directory: str | Path) -> Restored:
    """The newest sound checkpoint of the run in `directory`, read only.

    Raises:
        RunNotFound, CheckpointError: exit 5.
    """
    run = RunDirectory.find(directory)
    config = from_toml(run.config_toml)
    data, fingerprint = described_data(run, config)
    like = jax.eval_shape(lambda: fresh(config, data))
    state, step = newest(run, _identity(run, fingerprint), like)
    return Restored(build(config, data), state, step, config, data.offset, data.scale)


def newest(run: RunDirectory, identity: str, like: Any) -> tuple[Any, int]:
    """(state, step) of the newest sound checkpoint of a run. Raises CheckpointError."""
    found = Checkpoints(run.path / "checkpoints", fingerprint=identity).restore(like, finite=False)
    if found is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet; let it train to its first one")
    return found.state, found.step


def describe_data(run: RunDirectory, data: Dataset) -> None:
    """Write what it takes to turn generated rows back into the user's units without the data."""
    facts = {"dim": data.dim, "side": data.side, "fingerprint": data.fingerprint()}
    affine = {"offset": data.offset.tolist(), "scale": data.scale.tolist()}
    (run.path / "data.json").write_text(json.dumps(facts | affine) + "\n")


def described_data(run: RunDirectory, config: Config) -> tuple[Dataset, str]:
    """(the data set of a run without its rows, its fingerprint), as `describe_data` wrote them."""
    try:
        facts = json.loads((run.path / "data.json").read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{run.path} has no data.json: the run never began; train it first") from None
    empty = np.zeros((0, facts["dim"]), np.float32)
    data = Dataset(
        name=config.data.name,
        dim=facts["dim"],
        rows=empty,
        held_out=empty,
        side=facts["side"],
        offset=np.asarray(facts["offset"]),
        scale=np.asarray(facts["scale"]),
    )
    return data, facts["fingerprint"]

"""What `benchmarks.speed` times: our chunk, the critic's updates alone, a matrix product, PyTorch in its own process.

Floating-point operations are counted from shapes, two a multiply–add, matrix products alone. With G and C those of one
sample's forward pass and G₁, C₁ those of the first layers, batch b:

    critic update      b·G + 2b·(3C − C₁)    samples; forward, weights, and inputs but for the first layer's
    with a penalty     b·G + 2b·(6C − C₁)    forward and input gradients, and both differentiated
    generator update   b·(3G − G₁) + b·2C    the critic's weights left out
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from estimators.critics.kernel import ALONE, steps
from fgan.config.schema import Config, Critic, Generator, Penalty
from fgan.data.dataset import Dataset
from fgan.models.model import build
from fgan.run import program

SCRIPT = Path(__file__).with_name("torch_step.py")
ROOT = Path(__file__).parents[1]
ROWS = 5000  # of the data set that both draw from
PRODUCT = 2048  # rows and columns of the matrix product that counts as the machine's peak


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        kind: step (ours against PyTorch), penalty (critic update with and without), seeds (many at once against one),
            help or restart (of the command line).
        features: widths of both networks' layers; channels of images (the critic's reversed).
        batch, dim, latent, side, seeds, penalty, precision: as in the configuration; side 0 is no image.
        chunk: steps a compiled call.
        aim: the ratio to reach, or the one not to exceed for penalty, or seconds.
    """

    kind: Literal["step", "penalty", "seeds", "help", "restart"]
    features: tuple[int, ...] = (64, 64)
    batch: int = 128
    dim: int = 2
    latent: int = 2
    side: int = 0
    seeds: int = 1
    penalty: bool = False
    precision: Literal["float32", "tensorfloat32", "bfloat16"] = "float32"
    chunk: int = 100
    aim: float | None = None

    def config(self) -> Config:
        """The configuration that is trained."""
        kind: Any = "image" if self.side else "mlp"
        return Config(
            batch=self.batch,
            seeds=self.seeds,
            compute="bfloat16" if self.precision == "bfloat16" else "float32",
            generator=Generator(kind=kind, features=self.features, nonlinearity="relu", latent=self.latent),
            critic=Critic(kind=kind, features=self.features[::-1], nonlinearity="leaky_relu" if self.side else "relu"),
            penalty=Penalty(names=("jsd",) if self.penalty else ()),
        )

    def data(self) -> Dataset:
        """Made-up rows: speed does not depend on them."""
        width = self.side**2 or self.dim
        rows = np.random.default_rng(0).uniform(-1.0, 1.0, (ROWS, width)).astype(np.float32)
        return Dataset(
            name="made up",
            dim=width,
            rows=rows,
            held_out=rows[:0],
            side=self.side,
            offset=np.zeros(width),
            scale=np.ones(width),
        )

    def layers(self) -> tuple[list[int], list[int]]:
        """Operations of one sample's forward pass, layer by layer: (generator's, critic's)."""
        if not self.side:
            widths = [self.latent, *self.features, self.dim]
            ends = [self.dim, *self.features[::-1], 1]
            return [2 * a * b for a, b in pairwise(widths)], [2 * a * b for a, b in pairwise(ends)]
        low, (first, second) = (self.side // 4) ** 2, self.features
        generator = [2 * self.latent * low * first, 2 * 4 * low * 4 * first * second, 2 * 16 * low * 4 * second]
        critic = [2 * 4 * low * 16 * second, 2 * low * 16 * second * first, 2 * low * first]
        return generator, critic

    def operations(self) -> int:
        """Of one step, for all seeds, counted as in the module's docstring."""
        generator, critic = self.layers()
        g, c, b = sum(generator), sum(critic), self.batch
        on_critic = (6 if self.penalty else 3) * c - critic[0]
        return self.seeds * b * (g + 2 * on_critic + 3 * g - generator[0] + 2 * c)


def small(case: Case) -> Case:
    """The case in a size that runs at once."""
    features = (8, 4) if case.side else (8, 8)
    return replace(case, features=features, batch=8, chunk=2, seeds=min(case.seeds, 2), side=8 if case.side else 0)


@dataclass
class Ours:
    """A compiled chunk and the state it goes on from."""

    case: Case
    compile_seconds: float = field(init=False)

    def __post_init__(self):
        config, data = self.case.config(), self.case.data()
        self.arguments = [jnp.asarray(data.rows), program.seed_numbers(config), program.fresh(config, data)]
        state = self.arguments[2]
        self.parameters = _count(state.generator, state.critic) // self.case.seeds  # type: ignore[attr-defined]
        begun = time.perf_counter()
        precision = None if self.case.precision == "bfloat16" else self.case.precision
        with jax.default_matmul_precision(precision):
            run = jax.jit(program.chunk(config, data, self.case.chunk)(ALONE))
            self.compiled = run.lower(*self.arguments, jnp.asarray(0, jnp.int32)).compile()
        self.compile_seconds = time.perf_counter() - begun
        self.start = 0
        self.run(1)

    def run(self, n: int) -> float:
        """Seconds of n steps, whole calls of them, as a share of what the calls took."""
        calls = -(-n // self.case.chunk)
        begun = time.perf_counter()
        for _ in range(calls):
            self.arguments[2], metrics = self.compiled(*self.arguments, jnp.asarray(self.start, jnp.int32))
            self.start += self.case.chunk
        jax.block_until_ready((self.arguments[2], metrics))
        return (time.perf_counter() - begun) * n / (calls * self.case.chunk)


def _count(*trees: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(trees))


class CriticUpdates:
    """A compiled scan of critic updates alone, with or without the penalty."""

    def __init__(self, case: Case):
        config, data = case.config(), case.data()
        gan, rows, self.chunk = build(config, data), jnp.asarray(data.rows), case.chunk

        def step(key, state, x):
            return gan.critic_update(key, state, *x)

        def draw(key):
            return [data.draw(k, rows, case.batch) for k in jax.random.split(key)]

        key, self.state = jax.random.key(0), gan.init(jax.random.key(1))
        run = jax.jit(lambda state: steps(step, draw, key, state, 0, case.chunk))
        self.compiled = run.lower(self.state).compile()
        self.run(1)

    def run(self, n: int) -> float:
        """Seconds of n updates, as `Ours.run`."""
        calls = -(-n // self.chunk)
        begun = time.perf_counter()
        for _ in range(calls):
            self.state, _ = jax.block_until_ready(self.compiled(self.state))
        return (time.perf_counter() - begun) * n / (calls * self.chunk)


def products(size: int) -> Callable[[int], float]:
    """n → seconds of n float32 products of two matrices of that size."""
    x = jnp.ones((size, size))

    def run(n: int) -> float:
        begun = time.perf_counter()
        for _ in range(n):
            _multiply(x).block_until_ready()
        return time.perf_counter() - begun

    return run


@jax.jit
def _multiply(x):
    return x @ x


class Torch:
    """PyTorch in a process of its own that answers commands, until the end of a `with`."""

    def __init__(self, python: str | Path):
        device = "cpu" if jax.default_backend() == "cpu" else "gpu"
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
        self.process = subprocess.Popen(
            [str(python), "-P", str(SCRIPT), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Torch:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the compiler's workers with it
        self.process.communicate()

    def ask(self, limit: float | None = None, **command: Any) -> dict[str, Any]:
        """Its answer. Raises PeerFailure with its reason, or where there is none within `limit` seconds."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            print(json.dumps(command), file=self.process.stdin, flush=True)
            ready, _, _ = select.select([self.process.stdout], [], [], limit)
            if not ready:
                raise peers.PeerFailure(f"no answer within {limit:.0f} s")
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise peers.PeerFailure(f"PyTorch's process ended with code {self.process.wait()}")
        reply = json.loads(line)
        if "reason" in reply:
            raise peers.PeerFailure(reply["reason"])
        return reply

    def seconds(self, how: str, steps: int) -> float:
        """What `steps` steps took."""
        return self.ask(do="run", how=how, steps=steps)["seconds"]


def keeping(folder: str | Path) -> dict[str, str]:
    """The environment of a process of ours that keeps its compiled programs in `folder`, and nothing elsewhere."""
    kept = ("FGAN_COMPILE_CACHE", "JAX_COMPILATION_CACHE_DIR")
    return {k: v for k, v in os.environ.items() if k not in kept} | {"XDG_CACHE_HOME": str(folder)}

"""A neural generator of known density under six divergences: what it is trained under, measured exactly under each.

A normalising flow plays against a critic as any other generator does (Grover, Dhar, Ermon 2018, Flow-GAN), on a ring of
overlapping Gaussians and on two moons. One flow has too little capacity for them, so that the divergences disagree on
what is best; one has more. Since the density is known, three things that a GAN hides are numbers here:

    trained × measured   each divergence of the model that each divergence trained, by quadrature or Monte Carlo
    gap                  what the critic's bound lacks to the exact value: while training, at its end, and after the
                         critic alone was trained on against the flow as it is
    excess               the exact value less that of the same flow fitted without a critic (`fgan.models.direct_fit`)
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from estimators.distributions.examples import TARGETS as EXAMPLES
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import in_blocks
from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.config.schema import Config, Critic, Data, Game, Generator, Log, Optimizer
from fgan.config.toml import to_toml
from fgan.data.sources import load
from fgan.experiments import runs, tables
from fgan.experiments.runs import Run
from fgan.models.gan import FGAN
from fgan.run.directory import RunDirectory
from fgan.run.members import Restored, restore
from fgan.scores import density

EXPERIMENTS = {"flow": "a flow of known density under six divergences, measured exactly, beside its best fit"}

NAMES = ("pearson", "kl", "squared_hellinger", "js", "total_variation", "reverse_kl")
"""The divergences, from covering to seeking."""

TARGETS = ("wide_ring", "wide_moons")

CAPACITIES: dict[str, dict[str, Any]] = {
    "small": {"layers": 2, "features": (4,)},
    "large": {"layers": 4, "features": (32, 32)},
}
"""Name → what differs in the generator's config. Two couplings whose splines four units steer leave gaps between modes
open to all divergences alike: they cannot make the targets of a Gaussian."""

MODELS = {"fgan": "f-GAN", "direct_fit": "direct fit"}
SEEDS, STEPS = 3, 5000
OUTPUT_BOUND = 6.0  # nats of log-ratio: beyond it a flow on these targets has hardly any mass
EVALUATIONS = 4  # of the exact divergence in a training
POLISH_STEPS, POLISH_BATCH = 500, 2048  # of the critic alone after the training: some ten seconds of a core
DRAWS, BLOCKS = 2**16, 16  # points of P and of Q that a critic's bound is measured on, and blocks for its error
CLOSE = 0.03  # aim of the gap, a share of the exact value
EXCESS = dict.fromkeys(NAMES, 0.03) | {"js": 0.01, "squared_hellinger": 0.01}  # aims, nats
OWN_IS_LEAST = 5  # aim: so many of the six columns have their smallest value on the diagonal


class Cell(NamedTuple):
    """A flow on a target."""

    target: str
    capacity: str

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.target.replace('_', ' ')}, {self.capacity} flow"


CELLS = tuple(Cell(target, capacity) for target in TARGETS for capacity in CAPACITIES)


def preset(cell: Cell, name: str, model: str, *, steps: int = STEPS, seeds: int = SEEDS) -> Config:
    """The training run of a flow under a divergence, as an f-GAN or as a direct fit.

    The critic is fast: five updates a step, at twice the rate. A flow that outruns its critic collapses onto curves too
    thin for the critic to see, and the exact divergence rises while the bound falls; octaves of frequencies let the
    critic see thin curves at all. Four batches of generated samples steady the flow's steps. Normalised weights and an
    output bound keep the steep divergences from bursting.
    """
    direct = model == "direct_fit"
    return Config(
        model=model,
        divergence=name,
        seeds=seeds,
        steps=steps,
        batch=256,
        data=Data(name=cell.target),
        generator=Generator(kind="flow", nonlinearity="silu", average=0.99, **CAPACITIES[cell.capacity]),
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            frequencies=4,
            activation="log_ratio",
            output_bound=OUTPUT_BOUND,
        ),
        game=Game(critic_steps=5, generator_batches=4, normalise=True),
        generator_optimizer=Optimizer(
            learning_rate=1e-3, b1=0.9 if direct else 0.0, b2=0.99, schedule="cosine", final=0.0
        ),
        critic_optimizer=Optimizer(learning_rate=2e-3, b1=0.0, b2=0.99, schedule="cosine", final=0.01),
        log=Log(every=max(1, steps // 50), evaluate=steps if direct else -(-steps // EVALUATIONS), checkpoint=steps),
    )


# --- scores -----------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=len(CELLS))
def _laws(target: str, network: Any) -> tuple[density.Law, density.OfModel]:
    """(the target, what makes a distribution of the network's parameters), compiled once."""
    data = load(Data(name=target))  # type: ignore[arg-type]
    return density.of_data(data), density.OfModel(network, data.dim)


def laws(restored: Restored) -> tuple[density.Law, density.Law]:
    """(P, Q) of a trained flow, in the scale that it was trained in."""
    p, of_model = _laws(restored.config.data.name, restored.model.generator.network)  # type: ignore[attr-defined]
    return p, of_model(restored.state.average)


def score(run: Run, member: int) -> dict[str, Any]:
    """Every divergence of a trained flow from its target, with standard errors, and the bound that its critic gives."""
    restored = restore(run.directory, member)
    p, q = laws(restored)
    found = dict(zip(NAMES, density.exact(p, q, *map(divergence, NAMES)), strict=True))
    scores = {name: e.value if math.isfinite(e.value) else None for name, e in found.items()}
    errors = {name: e.standard_error if math.isfinite(e.value) else None for name, e in found.items()}
    own = scores[run.config.divergence]
    bounds: dict[str, Any] = dict.fromkeys(("bound", "bound_error", "polished", "polished_error"))
    if isinstance(restored.model, FGAN):
        bounds["bound"], bounds["bound_error"] = critic_bound(restored, p, q)
        bounds["polished"], bounds["polished_error"] = critic_bound(polish(restored), p, q)
    gap = None if bounds["polished"] is None or own is None else (own - bounds["polished"]) / own
    return scores | bounds | {"errors": errors, "own": own, "gap": gap}


def polish(restored: Restored) -> Restored:
    """The same with a critic that trained on while the flow stood still: larger batches, a rate that falls to 0."""
    data, state = load(restored.config.data), restored.state
    descent = optax.adam(optax.cosine_decay_schedule(restored.config.critic_optimizer.learning_rate, POLISH_STEPS))
    critic = dataclasses.replace(restored.model.critic, optimizer=descent)  # type: ignore[attr-defined]
    gan = dataclasses.replace(restored.model, critic=critic, batch=POLISH_BATCH)  # type: ignore[type-var]
    rows = jnp.asarray(data.rows)

    def step(state, key):
        p_key, z_key, key = jax.random.split(key, 3)
        x_q = gan.generate(state.average, gan.normal(z_key, gan.generator.inputs))
        return gan.critic_update(key, state, data.draw(p_key, rows, POLISH_BATCH), x_q)[0], None

    keys = jax.random.split(jax.random.key(restored.config.seed), POLISH_STEPS)
    state = state._replace(critic_optimizer=descent.init(state.critic))
    return restored._replace(state=jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])(state))


def critic_bound(restored: Restored, p: density.Law, q: density.Law) -> tuple[float, float]:
    """The bound on the named divergence by the trained critic on fresh samples, and its standard error."""
    gan, state = restored.model, restored.state
    rng = np.random.default_rng(restored.config.seed)
    x_p, x_q = (jnp.asarray(law.sample(rng, DRAWS), jnp.float32) for law in (p, q))

    @jax.jit
    def on(x_p, x_q):
        v_p, v_q = gan.outputs(state.critic, x_p), gan.outputs(state.critic, x_q)
        return gan.lower_bound(v_p, v_q, gan.critic.lower_bound(v_p, v_q))

    values = [float(on(*pair)) for pair in zip(jnp.split(x_p, BLOCKS), jnp.split(x_q, BLOCKS), strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(BLOCKS))


SCORES = (*NAMES, "own", "bound", "polished", "gap")


def planned(directory: Path, cells: Sequence[Cell], names: Sequence[str], **options: Any) -> list[Run]:
    """Every run: each flow as an f-GAN, then by direct fit, under each divergence."""
    made = []
    for cell, model, name in product(cells, MODELS, names):
        config, variant = preset(cell, name, model, **options), "-".join((*cell, model))
        made.append(Run(config, variant, directory / RunDirectory.default_name(variant, name, config.seed)))
    return made


def results(
    directory: Path,
    *,
    cells: Sequence[Cell] = CELLS,
    names: Sequence[str] = NAMES,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train what is missing, write flow.json in `directory` after every run, return what it holds."""
    made: list[Run] = planned(directory, cells, names, **options)
    facts = {
        "names": names,
        "cells": cells,
        "models": MODELS,
        "draws": DRAWS,
        "aims": {"own_is_least": OWN_IS_LEAST, "excess": EXCESS, "gap": CLOSE},
        "settings": {model: to_toml(preset(cells[0], "js", model, **options)) for model in MODELS},
        "device": runs.device(),
    }
    return runs.fill(directory / "flow.json", facts, made, score, SCORES, quiet)


# --- table ------------------------------------------------------------------------------------------------------------


def rows_of(result: dict[str, Any], cell: Sequence[str], model: str) -> dict[str, dict[str, Any]]:
    """Divergence → the row of a flow trained under it."""
    variant = "-".join((*cell, model))
    return {row["divergence"]: row for row in result["rows"] if row["variant"] == variant and row["seeds"]}


def measured(row: dict[str, Any], name: str) -> float:
    """The mean over seeds of a divergence; infinite if it is for one of them."""
    values = [seed[name] for seed in row["seeds"]]
    return math.inf if None in values else float(np.mean(values))


def best(row: dict[str, Any]) -> float:
    """The least divergence that a seed of the direct fit ended at."""
    return min((seed["own"] for seed in row["seeds"] if seed["own"] is not None), default=math.inf)


def least(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The divergences that are least for the flow that was trained under them."""
    return [name for name in rows if measured(rows[name], name) == min(measured(row, name) for row in rows.values())]


def table(result: dict[str, Any]) -> str:
    """Trained × measured for each flow, with the bound, the best fit, and what misses its aim, as text."""
    return "\n\n".join("\n".join(_lines(result, cell)) for cell in result["cells"])


def _lines(result: dict[str, Any], cell: Sequence[str]) -> Iterator[str]:
    rows, direct = (rows_of(result, cell, model) for model in MODELS)
    names, aims = [name for name in result["names"] if name in rows], result["aims"]
    if not rows:
        return
    yield f"{Cell(*cell).title}: trained under a row, measured under a column, nats, mean of the seeds"
    heads = "".join(f"{name.replace('squared_', '')[:15]:>17}" for name in names)
    yield f"{'':<19}{heads}{'bound':>10}{'polished':>10}{'gap %':>7}{'best fit':>10}{'excess':>10}  aims missed"
    own_is_least = least(rows)
    for name in names:
        row, own = rows[name], measured(rows[name], name)
        values = "".join(f"{_number(measured(row, m)) + ('*' if m == name else ''):>17}" for m in names)
        gap, fit = row["gap"]["mean"], best(direct[name]) if name in direct else math.nan
        late = [seed["gap"] for seed in row["seeds"] if seed["gap"] is None or abs(seed["gap"]) > aims["gap"]]
        missed = ["gap"] * bool(late) + ["excess"] * (not own - fit <= aims["excess"][name])
        missed += ["own is not least"] * (name not in own_is_least)
        yield (
            f"{name:<19}{values}{tables.number(row['bound']['mean'], digits=4):>10}"
            f"{tables.number(row['polished']['mean'], digits=4):>10}{tables.number(gap, 100):>7}"
            f"{_number(fit):>10}{_number(own - fit):>10}  {', '.join(missed) or 'none'}"
        )
    yield f"least under their own training (*): {len(own_is_least)} of {len(names)}, aim {aims['own_is_least']}"


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.3g}"


# --- pictures ---------------------------------------------------------------------------------------------------------

DOTS = 200  # points along a side of a density's picture


def picture(path: Path, target: str) -> Path:
    """Draw flow-<target>.png beside flow.json: the target, and each run's first seed, one row a divergence."""
    result = json.loads(path.read_text(encoding="utf-8"))
    columns = [(Cell(*c), model) for c in result["cells"] if c[0] == target for model in result["models"]]
    names = [n for n in result["names"] if any(n in rows_of(result, *column) for column in columns)]
    side, box = _axes(target)
    with plt.rc_context(STYLE):
        size = (2.5 * (len(columns) + 1), 2.3 * len(names) + 0.8)
        figure, axes = plt.subplots(len(names), len(columns) + 1, figsize=size, squeeze=False)
        truth = np.exp(_on_grid(_target_density(target), side))
        for line, name in zip(axes, names, strict=True):
            _density(line[0], truth, truth.max(), box)
            line[0].set_ylabel(name.replace("_", " "), fontsize=10, weight="bold")
            for axis, (cell, model) in zip(line[1:], columns, strict=True):
                row = rows_of(result, cell, model).get(name)
                if row is None:
                    axis.axis("off")
                    continue
                _density(axis, np.exp(_model_density(path.parent / row["directory"], side)), truth.max(), box)
                own = row["seeds"][0]["own"]
                bound = row["seeds"][0]["bound"]
                words = "exact ∞" if own is None else f"exact {_number(own)}"
                axis.set_xlabel(words + ("" if bound is None else f", bound {_number(bound)}"), fontsize=8)
        axes[0, 0].set_title("data", fontsize=10, weight="bold")
        for axis, (cell, model) in zip(axes[0, 1:], columns, strict=True):
            axis.set_title(f"{cell.capacity} flow, {result['models'][model]}", fontsize=10, weight="bold")
        figure.suptitle(
            f"{target.replace('_', ' ')}: densities of flows trained under each divergence, covering above, seeking "
            "below\nfirst seed; exact: the named divergence of this density, nats; the same colours everywhere",
            fontsize=11,
        )
        return save(figure, path.with_name(f"{path.stem}-{target}.png"))


def _axes(target: str) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """(the grid [DOTS², 2] that a density is drawn on, its box), in the target's own units."""
    drawn = np.asarray(EXAMPLES[target].sample(jax.random.key(0), 4096))
    low, high = drawn.min(0), drawn.max(0)
    margin = 0.15 * (high - low).max()
    (a, b), (c, d) = zip(low - margin, high + margin, strict=True)
    x = np.stack(np.meshgrid(np.linspace(a, c, DOTS), np.linspace(b, d, DOTS)), axis=-1)
    return x.reshape(-1, 2), (a, c, b, d)


def _on_grid(log_density: Any, points: np.ndarray) -> np.ndarray:
    return in_blocks(log_density, points).reshape(DOTS, DOTS)


def _target_density(target: str) -> Any:
    return jax.jit(EXAMPLES[target].log_prob)


def _model_density(directory: Path, points: np.ndarray) -> np.ndarray:
    """log density [DOTS, DOTS] of a run's first seed at points in the target's own units."""
    restored = restore(directory, 0)
    own = (points - restored.offset) / restored.scale
    return _on_grid(laws(restored)[1].density, own) - np.log(restored.scale).sum()


def _density(axis, values: np.ndarray, top: float, box: tuple[float, float, float, float]) -> None:
    """An image of a density; the colour is its square root, so that what is faint shows, up to `top`."""
    shown = np.sqrt(np.minimum(values / top, 1.0))
    axis.imshow(shown, origin="lower", extent=box, cmap="magma_r", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set(xticks=[], yticks=[], aspect="equal")


def gap_picture(path: Path) -> Path:
    """Draw flow-gap.png beside flow.json: bound and exact value over training, one panel a divergence and flow."""
    result = json.loads(path.read_text(encoding="utf-8"))
    cells = [Cell(*c) for c in result["cells"] if rows_of(result, c, "fgan")]
    names = result["names"]
    with plt.rc_context(STYLE):
        size = (2.6 * len(names), 2.3 * len(cells) + 1.0)
        figure, axes = plt.subplots(len(cells), len(names), figsize=size, squeeze=False)
        for line, cell in zip(axes, cells, strict=True):
            rows, direct = (rows_of(result, cell, model) for model in MODELS)
            for axis, name in zip(line, names, strict=True):
                axis.set_title(name.replace("_", " "), fontsize=9, weight="bold")
                if name in rows:
                    _gap(axis, RunDirectory(path.parent / rows[name]["directory"]), direct.get(name))
            line[0].set_ylabel(f"{cell.title.replace(', ', chr(10))}\nnats", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("step", fontsize=8)
        legend_below(figure, axes[0, 0])
        figure.suptitle("The critic's bound and the exact divergence while flows train, first seed", fontsize=11)
        return save(figure, path.with_name(f"{path.stem}-gap.png"))


def _gap(axis, run: RunDirectory, direct: dict[str, Any] | None) -> None:
    records = run.records("metrics.jsonl")
    bounds = [(r["step"], r["bound"][0]) for r in records if "bound" in r]
    exact = [(r["step"], r["scores"][0].get("exact")) for r in records if "scores" in r]
    known = [(step, value) for step, value in exact if value is not None]
    axis.plot(*zip(*bounds, strict=True), color=PALETTE[0], lw=1.2, label="critic's bound")
    if known:
        axis.plot(*zip(*known, strict=True), "o", color=PALETTE[1], ms=4, label="exact divergence of the flow")
    if direct:
        axis.axhline(best(direct), **EXACT, label="best fit of this flow, without a critic")
    values = [value for _, value in bounds + known]
    axis.set_yscale("log" if min(values) > 0.0 else "linear")
    axis.tick_params(labelsize=7)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its tables, and return the files made, pictures first."""
    print(table(results(directory, quiet=quiet)))
    path = directory / "flow.json"
    return [*(picture(path, target) for target in TARGETS), gap_picture(path), path]

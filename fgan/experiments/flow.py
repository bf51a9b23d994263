"""A neural generator of known density under six divergences: what it is trained under, measured exactly under each.

A normalising flow plays against a critic as any other generator does (Grover, Dhar, Ermon 2018, Flow-GAN), on a ring of
overlapping Gaussians and on two moons. One flow has too little capacity for them, so that the divergences disagree on
what is best; one has more. Since the density is known, three things that a GAN hides are numbers here:

    trained × measured   each divergence of the model that each divergence trained, by quadrature or Monte Carlo
    gap                  what the critic's bound lacks to the exact value, after 500 more steps of the critic alone
    excess               the exact value less the least that the same flow reached by a direct fit, without a critic
                         (`fgan.models.direct_fit`)
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
from estimators.divergences.bounds import fenchel
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import in_blocks
from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.config.schema import Config, Critic, Data, Game, Generator, Log, Optimizer
from fgan.config.toml import to_toml
from fgan.data.sources import load
from fgan.experiments import runs, tables
from fgan.experiments.mode_capture import FIRST_SEED
from fgan.experiments.runs import Run
from fgan.models.direct_fit import STEP
from fgan.models.gan import FGAN
from fgan.models.model import keep_finite
from fgan.models.objectives import stepped
from fgan.run.checkpoint import write_atomic
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
"""Name → what differs in the generator's config. The small flow cannot represent the targets: under every divergence it
leaves some mass between their parts."""

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


def preset(
    cell: Cell, name: str, model: str, *, steps: int = STEPS, seed: int = FIRST_SEED, seeds: int = SEEDS
) -> Config:
    """The training run of a flow under a divergence, as an f-GAN or as a direct fit of twice as many steps.

    The critic is fast: five updates a step. A flow that outruns its critic collapses onto curves too thin for the
    critic to see, and the exact divergence rises while the bound falls; octaves of frequencies let the critic see thin
    curves at all. Four batches of generated samples steady the flow's steps. Normalised weights and an output bound
    keep the steep divergences from bursting.
    """
    every = max(1, steps // 50)
    shared: dict[str, Any] = {
        "model": model,
        "divergence": name,
        "seed": seed,
        "seeds": seeds,
        "batch": 256,
        "data": Data(name=cell.target),
        "generator": Generator(kind="flow", nonlinearity="silu", average=0.99, **CAPACITIES[cell.capacity]),
    }
    descent = Optimizer(learning_rate=2e-3, b1=0.0, b2=0.99, schedule="cosine")
    if model == "direct_fit":
        rate = dataclasses.replace(descent, learning_rate=3e-3)
        log = Log(every=every, evaluate=2 * every * (steps // every), checkpoint=2 * every * (steps // every))
        return Config(steps=2 * steps, generator_optimizer=rate, log=log, **shared)
    evaluate = every * max(1, steps // (EVALUATIONS * every))
    return Config(
        steps=steps,
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            frequencies=4,
            activation="log_ratio",
            output_bound=OUTPUT_BOUND,
        ),
        game=Game(critic_steps=5, generator_batches=4, normalise=True),
        generator_optimizer=descent,
        critic_optimizer=dataclasses.replace(descent, final=0.01),
        log=Log(every=every, evaluate=evaluate, checkpoint=evaluate),
        **shared,
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
    """`measure` of a seed of a finished run, kept in a file beside the run."""
    file = run.beside(f"-member{member}.json")
    if not file.exists():
        write_atomic(file, json.dumps(measure(restore(run.directory, member)), allow_nan=False) + "\n")
    return json.loads(file.read_text())


def measure(restored: Restored) -> dict[str, Any]:
    """Of a trained flow: every divergence from its target with its standard error and method, `own` the one that it
    was trained under; its critic's `bound` on that, the same `polished`, and the `gap` of the latter. Not finite: None.
    """
    p, q = laws(restored)
    found = dict(zip(NAMES, density.exact(p, q, *map(divergence, NAMES)), strict=True))
    scores = {name: finite(e.value) for name, e in found.items()}
    kept: dict[str, Any] = {
        "errors": {name: finite(e.standard_error) for name, e in found.items()},
        "methods": {name: e.method for name, e in found.items()},
        "own": scores[restored.config.divergence],
    }
    kept |= dict.fromkeys(("bound", "bound_error", "polished", "polished_error", "gap"))
    if isinstance(restored.model, FGAN):
        kept["bound"], kept["bound_error"] = map(finite, critic_bound(restored, p, q))
        kept["polished"], kept["polished_error"] = map(finite, critic_bound(polish(restored), p, q))
        if kept["own"] and kept["polished"] is not None:
            kept["gap"] = (kept["own"] - kept["polished"]) / kept["own"]
    return scores | kept


def finite(value: float) -> float | None:
    """`value`, None if it is infinite or NaN."""
    return value if math.isfinite(value) else None


def polish(restored: Restored) -> Restored:
    """The same with a critic that trained on while the flow stood still: larger batches, a rate that falls to 0."""
    data, state = load(restored.config.data), restored.state
    descent = optax.adam(optax.cosine_decay_schedule(restored.config.critic_optimizer.learning_rate, POLISH_STEPS))
    gan: Any = restored.model
    gan = dataclasses.replace(gan, critic=dataclasses.replace(gan.critic, optimizer=descent), batch=POLISH_BATCH)
    rows = jnp.asarray(data.rows)

    def step(state, key):
        p_key, z_key, key = jax.random.split(key, 3)
        x_q = gan.generate(state.average, gan.normal(z_key, gan.generator.inputs))
        new, metrics = gan.critic_update(key, state, data.draw(p_key, rows, POLISH_BATCH), x_q)
        return keep_finite(state, new, metrics)[0], None

    keys = jax.random.split(jax.random.key(restored.config.seed), POLISH_STEPS)
    state = state._replace(critic_optimizer=descent.init(state.critic))
    return restored._replace(state=jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])(state))


def critic_bound(restored: Restored, p: density.Law, q: density.Law) -> tuple[float, float]:
    """The bound on the named divergence by the trained critic on fresh samples, and its standard error.

    Where f has a kink, the step itself takes the place of the smoothed one that training needs.
    """
    gan: Any = restored.model
    state, d = restored.state, divergence(restored.config.divergence)
    rng = np.random.default_rng(restored.config.seed)
    x_p, x_q = (jnp.asarray(law.sample(rng, DRAWS), jnp.float32) for law in (p, q))

    @jax.jit
    def on(x_p, x_q):
        v_p, v_q = gan.outputs(state.critic, x_p), gan.outputs(state.critic, x_q)
        if gan.critic.divergence is d:
            return gan.critic.lower_bound(v_p, v_q)
        ratios = (stepped(d, gan.critic.output_activation.log_ratio(v), STEP) for v in (v_p, v_q))
        return fenchel(d, *ratios, activation="log_ratio")

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
    """Divergence → the row of a flow trained under it; a row that diverged has no seeds."""
    variant = "-".join((*cell, model))
    return {row["divergence"]: row for row in result["rows"] if row["variant"] == variant}


def measured(row: dict[str, Any], name: str) -> float:
    """The mean over seeds of a divergence; infinite if it is for one of them, or if none was trained."""
    values = [seed[name] for seed in row["seeds"]]
    return math.inf if None in values or not values else float(np.mean(values))


def best(row: dict[str, Any] | None) -> float:
    """The least divergence that a seed of the direct fit ended at; NaN before there is one."""
    return min((seed["own"] for seed in row["seeds"] if seed["own"] is not None), default=math.nan) if row else math.nan


def least(rows: dict[str, dict[str, Any]]) -> list[str]:
    """The divergences that are least for the flow that was trained under them."""
    own = {name: measured(rows[name], name) for name in rows}
    return [n for n in rows if math.isfinite(own[n]) and own[n] == min(measured(row, n) for row in rows.values())]


def missed(row: dict[str, Any], name: str, fit: float, own_is_least: bool, aims: dict[str, Any]) -> list[str]:
    """The aims that a row does not reach: a gap counts as too wide from two standard errors on."""
    if not row["seeds"]:
        return ["diverged"]
    wide = [
        seed["gap"] is None or seed["gap"] - 2.0 * seed["polished_error"] / seed["own"] > aims["gap"]
        for seed in row["seeds"]
    ]
    far = not measured(row, name) - fit <= aims["excess"][name]
    return ["gap"] * any(wide) + ["excess"] * far + ["own is not least"] * (not own_is_least)


def table(result: dict[str, Any]) -> str:
    """Trained × measured for each flow, with the bound, the best fit, and what misses its aim, as text."""
    return "\n\n".join("\n".join(_lines(result, cell)) for cell in result["cells"] if rows_of(result, cell, "fgan"))


def _lines(result: dict[str, Any], cell: Sequence[str]) -> Iterator[str]:
    rows, direct = (rows_of(result, cell, model) for model in MODELS)
    names = [name for name in result["names"] if name in rows]
    yield f"{Cell(*cell).title}: trained under a row, measured under a column, nats, mean of the seeds"
    heads = "".join(f"{name.replace('squared_', '')[:15]:>16}" for name in names)
    yield f"{'':<19}{heads}{'bound':>10}{'polished':>10}{'gap %':>7}{'best fit':>10}{'excess':>10}  aims missed"
    own_is_least = least(rows)
    for name in names:
        row, fit = rows[name], best(direct.get(name))
        short = ", ".join(missed(row, name, fit, name in own_is_least, result["aims"])) or "none"
        if not row["seeds"]:
            yield f"{name:<19}{short:>16}"
            continue
        values = "".join(f"{_cell(row, m) + ('*' if m == name else ' '):>16}" for m in names)
        yield (
            f"{name:<19}{values}{tables.number(row['bound']['mean'], digits=4):>10}"
            f"{tables.number(row['polished']['mean'], digits=4):>10}{tables.number(row['gap']['mean'], 100):>7}"
            f"{_number(fit):>10}{_number(measured(row, name) - fit):>10}  {short}"
        )
    yield (
        f"*: the divergence of the training; least of its column for {len(own_is_least)} of {len(names)}, aim "
        f"{result['aims']['own_is_least']}. ~: by Monte Carlo; ~~: by one that a few draws carry, likely too small."
    )
    yield "best fit: the least of the direct fit's seeds. polished, gap: after more steps of the critic alone."


def _cell(row: dict[str, Any], name: str) -> str:
    methods = {seed["methods"][name] for seed in row["seeds"]}
    mark = "" if methods == {"quadrature"} else "~~" if any("heavy" in method for method in methods) else "~"
    return mark + _number(measured(row, name))


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
                if row is None or not row["seeds"]:
                    axis.axis("off")
                    continue
                _density(axis, np.exp(_model_density(path.parent / row["directory"], side)), truth.max(), box)
                own, bound = (row["seeds"][0][score] for score in ("own", "polished"))
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
                    _gap(axis, RunDirectory(path.parent / rows[name]["directory"]), best(direct.get(name)))
            line[0].set_ylabel(f"{cell.title.replace(', ', chr(10))}\nnats", fontsize=8)
        for axis in axes[-1]:
            axis.set_xlabel("step", fontsize=8)
        legend_below(figure, *axes.flat)
        figure.suptitle(
            "The critic's bound (mean of the steps between two points) and the exact divergence of the averaged flow, "
            "while training, first seed",
            fontsize=11,
        )
        return save(figure, path.with_name(f"{path.stem}-gap.png"))


def _gap(axis, run: RunDirectory, fit: float) -> None:
    """One panel. A bound is missing where a step of its interval was left out, an exact value where it is infinite."""
    records = run.records("metrics.jsonl")
    bounds = [(r["step"], r["bound"][0]) for r in records if "bound" in r]
    exact = [(r["step"], r["scores"][0].get("exact")) for r in records if "scores" in r]
    styles = ({"color": PALETTE[0], "lw": 1.2}, {"color": PALETTE[1], "ls": "", "marker": "o", "ms": 4})
    labels = ("critic's bound", "exact divergence")
    values = []
    for points, style, label in zip((bounds, exact), styles, labels, strict=True):
        known = [(step, value) for step, value in points if value is not None]
        if known:
            axis.plot(*zip(*known, strict=True), label=label, **style)
            values += [value for _, value in known]
    if math.isfinite(fit):
        axis.axhline(fit, **EXACT, label="least of the direct fits")
    axis.set_yscale("log" if values and min(values) > 0.0 else "linear")
    axis.tick_params(labelsize=7)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its tables, and return the files made, pictures first."""
    print(table(results(directory, quiet=quiet)))
    path = directory / "flow.json"
    return [*(picture(path, target) for target in TARGETS), gap_picture(path), path]

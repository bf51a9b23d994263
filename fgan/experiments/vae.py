"""What a variational autoencoder pays for its rate: KL, the geometric Jensen–Shannon divergence and its dual compared.

Deasy, Simidjievski, Liò 2020 put a geometric Jensen–Shannon divergence between q(z|x) and the prior in the place of KL,
with the same weight, and report smaller reconstruction losses, smallest under the dual. But at the same weight these
divergences ask for less: at α = ½ the dual never exceeds half of KL. What a code costs is its rate, KL(q‖prior)
averaged over images, whatever it was trained by (Alemi et al. 2018). So the distortions are compared twice: in the
published setting, weight 1 and the best α, and at equal rate, between trainings of many weights.

    objective    ‖x − x̂‖² + weight·regulariser, grey levels in [0, 1]: a Gaussian likelihood with σ² = ½
    distortion   E_q ‖x − x̂‖² on held-out images, as published; rate in nats

Training minimises distortion + β·rate for KL itself, so where both are measured on the training images no regulariser
lies below KL's curve but by how well it is optimised.

Found on 2026-11-30: in the published setting both give far smaller losses than KL, as published, at ten times its rate;
at equal rate neither is clearly better than KL, and the best α is mostly the one nearest to it: GJS is KL(q‖prior) at
α = 0, the dual at α = 1 (convention "deasy"). What this cannot tell: the best α is the best of five on the images that
judge it, which favours GJS and its dual; and reading a curve of six weights at a rate is right to about half a per
cent (a cubic spline in place of the monotone one moves the values by so much), which the standard errors leave out.

All trainings of a regulariser that differ in seed, weight and α are one program. Distortions at a rate are read off a
monotone cubic through the trainings of one seed; errors are standard errors over seeds, of differences where two
regularisers are compared.
"""

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import PchipInterpolator

from estimators.plot_style import PALETTE, STYLE, save
from fgan.config.schema import Config, Data, Log, Optimizer, Vae
from fgan.data.sources import load as load_data
from fgan.experiments import runs
from fgan.experiments.plots import drawn
from fgan.experiments.tables import summary
from fgan.models.vae import VAE
from fgan.run import pictures
from fgan.run.members import restore
from fgan.run.sweep import Sweep, sweep
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"vae": "autoencoders under KL, geometric Jensen–Shannon and its dual: distortion at equal rate"}
PUBLISHED = {
    "source": "Deasy, Simidjievski, Liò 2020, outputs of their public code on MNIST: latent dimension 10, 30 epochs",
    "score": "test reconstruction loss, summed squared error",
    "kl": 8.46,
    "gjs": 7.523,
    "gjs_dual": 7.339,
}
NAMES = {"kl": "KL", "gjs": "GJS", "gjs_dual": "dual GJS"}
"""Regularisers in the published order of their losses, the largest first, and what they are called."""
PAIRS = {"KL > GJS": ("kl", "gjs"), "GJS > dual GJS": ("gjs", "gjs_dual")}
"""The published order, pair by pair."""
ANNEALING = ("none", "linear")
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9)
WEIGHTS = {
    "kl": (0.02, 0.05, 0.12, 0.3, 0.5, 1.0),
    "gjs": (0.02, 0.08, 0.3, 0.6, 1.0, 2.5),
    "gjs_dual": (0.04, 0.1, 0.25, 0.6, 1.0, 2.0),
}
"""Chosen on a training of one seed so that the rates at α = ½ overlap between 2 and 16 nats; 1 is the published one."""
RATES = (2.0, 4.0, 8.0, 12.0)  # nats, within the range that every regulariser reaches at α = ½
COMPARED = (("none", ALPHAS), ("none", (0.5,)), ("linear", (0.5,)))
"""(annealing, the α from which the best is taken at each rate)."""
SHOWN = 8.0  # nats, the rate of the trainings whose images are shown
SCORES = ("rate", "squared_error", "elbo", "importance_weighted_64", "active_units")
SEEDS, STEPS = 3, 1500
FIRST_SEED = 101
CLEAR = 2.0  # standard errors from which on a difference counts as one


def preset(regulariser: str, *, steps: int = STEPS, seeds: int = SEEDS) -> Config:
    """The training of a regulariser, before its weights: 10 latent dimensions as published, 67 passes."""
    return Config(
        model="vae",
        divergence="kl",
        seed=FIRST_SEED,
        seeds=seeds,
        steps=steps,
        batch=64,
        data=Data(name="digits_8x8"),
        vae=Vae(features=(64,), latent=10, deviation=math.sqrt(2.0), regulariser=regulariser),
        generator_optimizer=Optimizer(learning_rate=3e-3, b1=0.9, b2=0.999, schedule="cosine", final=0.02),
        log=Log(every=max(1, steps // 4), evaluate=steps, checkpoint=steps, samples=2),  # no scores of samples
    )


def plans(**options: int) -> dict[str, Sweep]:
    """Name → sweep: of each regulariser every weight at α = ½, with and without annealing, and without every α."""
    made = {}
    for name, weights in WEIGHTS.items():
        base, grid = preset(name, **options), {"vae.weight": weights}
        made[f"{name}-none"] = Sweep(base=base, grid=grid | ({} if name == "kl" else {"vae.alpha": ALPHAS}))
        annealed = dataclasses.replace(base, vae=dataclasses.replace(base.vae, annealing="linear"))
        made[f"{name}-linear"] = Sweep(base=annealed, grid=grid)
    return made


def results(directory: Path, *, quiet: bool = False, **options: int) -> dict[str, Any]:
    """Train what is missing, and write vae.json: its `rows`, and both comparisons."""
    began = time.monotonic()
    rows = []
    for name, plan in plans(**options).items():
        regulariser, annealing = name.split("-")
        folder = directory / "runs" / name
        for line in sweep(plan, folder, quiet=quiet).scores:
            rows.append(_member(line, regulariser, annealing, plan, f"runs/{name}"))
    grouped = [_setting(members) for members in _grouped(rows)]
    theirs = their_setting(grouped)
    compared = [at_rate(grouped, rate, *how) for how in COMPARED for rate in RATES]
    result = {
        "published": PUBLISHED,
        "setting": "squared error of grey levels in [0, 1] + weight · regulariser, 8 × 8 digits, latent dimension 10",
        "ordering": {
            pair: {"their_setting": theirs["met"][pair], "equal_rate": all(row["met"][pair] for row in compared)}
            for pair in theirs["met"]
        },
        "their_setting": theirs,
        "equal_rate": compared,
        "rows": grouped,
        "device": runs.device(),
        "seconds": time.monotonic() - began,
    }
    write_atomic(directory / "vae.json", json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    return result


def _member(line: Mapping[str, Any], regulariser: str, annealing: str, plan: Sweep, folder: str) -> dict[str, Any]:
    """A line of a sweep's results.csv as the scores of one seed."""
    if line["state"] != "finished":
        raise runs.RunFailed(f"{folder}: the training of line {line['line']} of results.csv diverged")
    found = {name: line[f"likelihood.{name}"] for name in (*SCORES, "distortion") if name != "squared_error"}
    pixels = load_data(plan.base.data).dim
    constant = 0.5 * pixels * math.log(2.0 * math.pi * plan.base.vae.deviation**2)  # of the Gaussian's logarithm
    return {
        "regulariser": regulariser,
        "annealing": annealing,
        "weight": line["vae.weight"],
        "alpha": None if regulariser == "kl" else line.get("vae.alpha", 0.5),
        "run": folder,
        "line": line["line"],
        "seed": line["seed"],
        "squared_error": found.pop("distortion") - constant,
        **found,
    }


def _grouped(rows: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The seeds of each setting."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("regulariser", "annealing", "alpha", "weight")), []).append(row)
    return iter(groups.values())


def _setting(members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: a setting, means with standard errors, and its seeds."""
    shared = ("regulariser", "annealing", "alpha", "weight", "run")
    seeds = [{name: value for name, value in m.items() if name not in shared} for m in members]
    return {name: members[0][name] for name in shared} | summary(seeds, SCORES) | {"seeds": seeds}


def their_setting(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The comparison as published: weight 1, the α of the least squared error, no annealing."""
    chosen = {}
    for name in NAMES:
        fitting = [r for r in rows if (r["regulariser"], r["annealing"], r["weight"]) == (name, "none", 1.0)]
        chosen[name] = min(fitting, key=lambda row: row["squared_error"]["mean"])
    values = {name: np.array([seed["squared_error"] for seed in row["seeds"]]) for name, row in chosen.items()}
    facts = {name: {"alpha": row["alpha"], "rate": row["rate"]["mean"]} for name, row in chosen.items()}
    return _compared(values, facts)


def at_rate(rows: Sequence[Mapping[str, Any]], rate: float, annealing: str, alphas: Sequence[float]) -> dict[str, Any]:
    """The comparison at one rate, each regulariser under that of the `alphas` which is best there."""
    values, facts = {}, {}
    for name in NAMES:
        tried: Sequence[float | None] = (None,) if name == "kl" else alphas
        found = {alpha: interpolated(curve(rows, name, annealing, alpha), rate) for alpha in tried}
        found = {alpha: distortions for alpha, distortions in found.items() if np.isfinite(distortions).all()}
        best = min(found, key=lambda alpha: found[alpha].mean())
        values[name], facts[name] = found[best], {"alpha": best}
    return {"rate": rate, "annealing": annealing, "alphas": list(alphas)} | _compared(values, facts)


def curve(rows: Sequence[Mapping[str, Any]], name: str, annealing: str, alpha: float | None) -> np.ndarray:
    """(rate, squared error) of each seed and weight: [seeds, weights, 2], by falling rate."""
    wanted = (name, annealing, alpha)
    fitting = [r for r in rows if (r["regulariser"], r["annealing"], r["alpha"]) == wanted]
    fitting.sort(key=lambda row: row["weight"])
    return np.array([[(seed["rate"], seed["squared_error"]) for seed in row["seeds"]] for row in fitting]).swapaxes(
        0, 1
    )


def interpolated(curves: np.ndarray, rate: float) -> np.ndarray:
    """The squared error of each seed at `rate` by a monotone cubic of its logarithm: [seeds]; NaN outside its rates."""
    found = []
    for points in curves:
        rates, errors = points[np.argsort(points[:, 0])].T
        found.append(float(np.exp(PchipInterpolator(rates, np.log(errors), extrapolate=False)(rate))))
    return np.array(found)


def _compared(values: Mapping[str, np.ndarray], facts: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Means of each regulariser, what it has over KL, and `differences` of neighbours in the published order.

    `met`: whether a difference is positive by two of its standard errors over seeds.
    """

    def stated(v: np.ndarray) -> dict[str, Any]:
        return summary([{"value": float(x)} for x in v], ["value"])["value"]

    scores = {name: {"squared_error": stated(values[name])} | facts[name] for name in NAMES}
    scores["over_kl"] = {name: stated(values[name] - values["kl"]) for name in NAMES if name != "kl"}
    scores["differences"] = {pair: stated(values[a] - values[b]) for pair, (a, b) in PAIRS.items()}
    clear = {
        pair: d["standard_error"] is not None and d["mean"] > CLEAR * d["standard_error"]
        for pair, d in scores["differences"].items()
    }
    return scores | {"met": clear}


def table(result: Mapping[str, Any]) -> str:
    """Both comparisons as text."""

    def cell(score, alpha=None):
        error = "" if score["standard_error"] is None else f" ±{score['standard_error']:.3f}"
        return f"{score['mean']:.3f}{error}" + ("" if alpha is None else f" (α {alpha:g})")

    def line(title, row):
        cells = "".join(f"{cell(row[name]['squared_error'], row[name]['alpha']):>23}" for name in NAMES)
        return f"{title:<27}{cells}  {', '.join(pair for pair in PAIRS if row['met'][pair]) or 'none'}"

    theirs = result["their_setting"]
    lines = [
        f"Squared error of held-out images, mean ± standard error over {len(result['rows'][0]['seeds'])} seeds.",
        f"Which of {' and '.join(PAIRS)} are met, by {CLEAR:g} standard errors of the difference:",
        f"{'':<27}" + "".join(f"{NAMES[name]:>23}" for name in NAMES) + "  met",
        f"{'published, MNIST':<27}" + "".join(f"{PUBLISHED[name]:>23.3f}" for name in NAMES),
        line("their setting, weight 1", theirs),
        f"{'  at rates of, nats':<27}" + "".join(f"{theirs[name]['rate']:>23.2f}" for name in NAMES),
    ]
    for row in result["equal_rate"]:
        kind = "best α" if len(row["alphas"]) > 1 else "α ½" + (", annealed" if row["annealing"] != "none" else "")
        lines.append(line(f"at {row['rate']:g} nats, {kind}", row))
    return "\n".join(lines)


def picture(path: Path) -> Path:
    """Draw vae.png beside a vae.json: rate–distortion curves, the published setting over α, images at equal rate."""
    result = json.loads(path.read_text(encoding="utf-8"))
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(13.0, 6.9))
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.7, 1.0))[:, 0]
        for axis, draw in zip(above.subplots(1, 3), (_curves, _excess, _alphas), strict=True):
            draw(axis, result)
        _shown(below, path.parent, result)
        above.suptitle("Autoencoders on the 8 × 8 digits: what a regulariser gives for its rate", fontsize=12)
        return save(figure, path.with_suffix(".png"))


def _curves(axis, result: Mapping[str, Any]) -> None:
    """Squared error against rate at α = ½, means over seeds with their standard errors."""
    for i, name in enumerate(NAMES):
        for annealing, style in zip(ANNEALING, ("-", ":"), strict=True):
            rows = [r for r in result["rows"] if (r["regulariser"], r["annealing"]) == (name, annealing)]
            rows = sorted((r for r in rows if r["alpha"] in (None, 0.5)), key=lambda row: row["weight"])
            (x, dx), (y, dy) = (_means(rows, score) for score in ("rate", "squared_error"))
            label = NAMES[name] + (", annealed" if annealing == "linear" else "")
            axis.errorbar(x, y, dy, dx, color=PALETTE[i], ls=style, marker="o", ms=3, lw=1.2, label=label)
        rows = [r for r in result["rows"] if (r["regulariser"], r["annealing"], r["weight"]) == (name, "none", 1.0)]
        row = next(r for r in rows if r["alpha"] in (None, 0.5))
        axis.plot(row["rate"]["mean"], row["squared_error"]["mean"], "s", ms=9, mfc="none", color=PALETTE[i])
    axis.plot([], [], "s", ms=9, mfc="none", color="black", label="weight 1")
    axis.set(xlabel="rate, nats", ylabel="squared error", title="held-out images, α = ½", yscale="log")
    axis.set_yticks([1, 2, 3, 4], ["1", "2", "3", "4"])
    axis.minorticks_off()
    axis.legend(fontsize=8)


def _excess(axis, result: Mapping[str, Any]) -> None:
    """What the others lose to KL at equal rate, in per cent, each under its best α."""
    rows = [row for row in result["equal_rate"] if len(row["alphas"]) > 1]
    kl = np.array([row["kl"]["squared_error"]["mean"] for row in rows])
    for i, name in list(enumerate(NAMES))[1:]:
        over = [row["over_kl"][name] for row in rows]
        y, dy = (100.0 * np.array([o[key] or 0.0 for o in over]) / kl for key in ("mean", "standard_error"))
        style = {"color": PALETTE[i], "marker": "o", "ms": 4, "capsize": 3}
        axis.errorbar([row["rate"] for row in rows], y, dy, label=f"{NAMES[name]}, best α", **style)
    axis.axhline(0.0, color=PALETTE[0], lw=1.2, label="KL")
    axis.set(xlabel="rate, nats", ylabel="squared error over KL's, %", title="at equal rate")
    axis.legend(fontsize=8)


def _alphas(axis, result: Mapping[str, Any]) -> None:
    """The published setting: squared error at weight 1 against α."""
    rows = [r for r in result["rows"] if (r["annealing"], r["weight"]) == ("none", 1.0)]
    for i, name in enumerate(NAMES):
        own = sorted((r for r in rows if r["regulariser"] == name), key=lambda row: row["alpha"] or 0.0)
        y, dy = _means(own, "squared_error")
        if name == "kl":
            axis.axhline(y[0], color=PALETTE[i], lw=1.2, label="KL")
        else:
            axis.errorbar([r["alpha"] for r in own], y, dy, color=PALETTE[i], marker="o", ms=4, label=NAMES[name])
        for row, value in zip(own, y, strict=True):
            axis.annotate(
                f"{row['rate']['mean']:.1f}",
                (row["alpha"] or 0.02, value),
                xytext=(0, 5),
                textcoords="offset points",
                fontsize=7,
                color=PALETTE[i],
                ha="center",
            )
    axis.set(xlabel="α", ylabel="squared error", title="weight 1, as published (numbers: rate)", xlim=(0, 1))
    axis.legend(fontsize=8)


def _means(rows: Sequence[Mapping[str, Any]], score: str) -> tuple[np.ndarray, np.ndarray]:
    """(mean, standard error) of a score in each row."""
    mean, error = (np.array([r[score][key] or 0.0 for r in rows], float) for key in ("mean", "standard_error"))
    return mean, error


def _shown(figure, directory: Path, result: Mapping[str, Any]) -> None:
    """Held-out images, what each regulariser makes of them at about the same rate, and samples."""
    for axis, name in zip(figure.subplots(1, len(NAMES)), NAMES, strict=True):
        rows = [r for r in result["rows"] if (r["regulariser"], r["annealing"]) == (name, "none")]
        own = (r for r in rows if r["alpha"] in (None, 0.5))
        row = min(own, key=lambda r: abs(r["rate"]["mean"] - SHOWN))
        member = restore(directory / row["run"], row["seeds"][0]["line"])
        held_out = load_data(member.config.data).held_out[: pictures.ACROSS]
        assert isinstance(member.model, VAE)
        made = jax.jit(member.model.reconstruct)(member.state, np.asarray(held_out))
        drawn = jax.jit(member.model.sample, static_argnums=2)(member.state, jax.random.key(0), 2 * pictures.ACROSS)
        pictures.images(axis, np.concatenate([held_out, made, drawn]), member.data.side)
        height = member.data.side + 1
        axis.set_yticks([0.5 * height, 1.5 * height, 3.0 * height], ["data", "model", "samples"], fontsize=8)
        facts = f"{row['rate']['mean']:.1f} nats, squared error {row['squared_error']['mean']:.2f}"
        axis.set_title(f"{NAMES[name]}, weight {row['weight']:g}: {facts}", fontsize=9)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "vae.json"
    return [*drawn(picture, path), path]

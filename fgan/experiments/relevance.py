"""Relevance maps of two photographs: from scores to a balanced map to tokens, beside an outline drawn by eye.

The images are those that scikit-learn ships. Three scores of 16 × 16 patches become maps (`estimators.objectives.
relevance`): information, salience, and match to a query, the patches around one point that was picked by hand. The
*ideal* map is uniform over an outline of the object (a pagoda; two flowers) drawn by eye on the image, without looking
at any score. It is one person's view of what matters in two pictures, no benchmark: it gives KL(ideal‖map) a meaning.

*Before* is the uniform map. *After* is the geometric barycentre of the three maps with the weights that serve the other
image best, so that the outline of an image never chose its own weights; those that serve it best are shown beside.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.scipy.special import rel_entr
from matplotlib.patches import Patch
from matplotlib.path import Path as Outline
from scipy.optimize import minimize

from estimators.objectives.relevance import (
    as_map,
    balanced,
    free_energy,
    information,
    patches,
    patchwise_kl,
    query_match,
    salience,
    sharpened,
    weighted_kl,
)
from estimators.objectives.token_budget import allocate
from estimators.plot_style import PALETTE, STYLE, save
from fgan.experiments.plots import drawn
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"relevance": "relevance maps and token budgets of two photographs, beside an outline drawn by eye"}
SIZE = 16  # pixels of a patch: 26 × 40 patches an image
SURROUND = 8  # patches, of salience: about half of the width of either object
SCORES = ("information", "salience", "query")
BUDGETS, SHOWN, CAP = (64, 144, 256, 400), 400, 4
"""Tokens, those of the picture, and the most of a patch: a patch cut in four."""


def _circle(x: float, y: float, across: float, down: float) -> tuple[tuple[float, float], ...]:
    angle = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    return tuple(zip((x + across * np.cos(angle)).tolist(), (y + down * np.sin(angle)).tolist()))


def _corners(text: str) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in (pair.split(",") for pair in text.split()))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a person says about an image, in pixels (x, y): outlines of what matters, and one point of it."""

    file: str
    outlines: tuple[tuple[tuple[float, float], ...], ...]
    point: tuple[int, int]


PAGODA = """
    196,30 214,30 220,66 262,96 322,124 296,138 300,164 330,176 318,192 322,240 352,256 341,270 346,314 372,338 330,375
    312,420 290,392 212,382 190,360 68,345 78,285 62,268 100,240 98,192 84,178 118,162 120,142 94,122 150,98 190,66
"""
SCENES = {
    "china": Scene(file="china.jpg", outlines=(_corners(PAGODA),), point=(205, 210)),
    "flower": Scene(
        file="flower.jpg", outlines=(_circle(308, 222, 138, 138), _circle(378, 428, 90, 54)), point=(308, 160)
    ),
}


def image(scene: Scene) -> np.ndarray:
    """The image [Y, X, 3] in [0, 1]."""
    from sklearn.datasets import load_sample_image

    return load_sample_image(scene.file).astype(np.float32) / 255.0


def ideal(scene: Scene, shape: Sequence[int]) -> np.ndarray:
    """The map [H, W] proportional to the share of each patch inside the outlines."""
    pixels = np.stack(np.meshgrid(np.arange(shape[1]), np.arange(shape[0])), axis=-1).reshape(-1, 2) + 0.5
    inside = np.any([Outline(corners).contains_points(pixels) for corners in scene.outlines], axis=0)
    share = np.asarray(patches(jnp.asarray(inside.reshape(1, *shape[:2], 1), jnp.float32), SIZE).mean(axis=(-2, -1)))[0]
    return share / share.sum()


def features(cut: jax.Array) -> jax.Array:
    """Mean and deviation of each colour in each patch, less their mean over the image, in its deviations: [H, W, 6]."""
    own = jnp.concatenate([cut.mean(axis=-2), cut.std(axis=-2)], axis=-1)
    mean, deviation = own.mean(axis=(0, 1), keepdims=True), own.std(axis=(0, 1), keepdims=True)
    return (own - mean) / deviation


def maps(picture: np.ndarray, point: tuple[int, int]) -> jax.Array:
    """The maps of SCORES at temperature 1, [3, H, W]."""
    cut = patches(jnp.asarray(picture)[None], SIZE)[0]
    seen, (x, y) = features(cut), (p // SIZE for p in point)
    query = seen[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1))
    scores = (
        information(cut.mean(axis=-1)),
        salience(cut.mean(axis=-2)[None], SURROUND)[0],
        query_match(seen[None], query)[0],
    )
    return jnp.stack([as_map(score) for score in scores])


def weighted(of_scores: jax.Array, weights: jax.Array) -> jax.Array:
    """The geometric barycentre with shares weights/Σ weights, at inverse temperature Σ weights: ∝ Π p_k^{w_k}."""
    total = jnp.sum(weights)
    return sharpened(balanced(of_scores, weights / total), total)


def best_weights(of_scores: jax.Array, target: np.ndarray) -> jax.Array:
    """argmin_w KL(target‖`weighted`) over w > 0: [3]."""

    @jax.jit
    @jax.value_and_grad
    def loss(logs):
        return rel_entr(target, weighted(of_scores, jnp.exp(logs))).sum()

    def evaluate(logs):
        value, gradient = loss(jnp.asarray(logs, jnp.float32))
        return float(value), np.asarray(gradient, np.float64)

    bounds = [(-9.0, 4.0)] * len(of_scores)  # e^{−9} is no weight; the loss is convex in w
    found = minimize(evaluate, np.zeros(len(of_scores)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return jnp.exp(jnp.asarray(found, jnp.float32))


def kl(target: Any, other: Any) -> float:
    """KL(target‖other) of two maps, nats."""
    return float(rel_entr(jnp.asarray(target), jnp.asarray(other)).sum())


def js(target: np.ndarray, other: np.ndarray) -> float:
    """The Jensen–Shannon divergence of two maps, finite also where a patch has no token, nats."""
    middle = 0.5 * (target + other)
    return 0.5 * kl(target, middle) + 0.5 * kl(other, middle)


def budgets(relevance: jax.Array, target: np.ndarray) -> list[dict[str, Any]]:
    """Every budget spent by forward and by reverse KL, and how close to the ideal map the tokens lie."""
    rows = []
    for tokens in BUDGETS:
        for name, d in (("forward", "kl"), ("reverse", "reverse_kl")):
            n = allocate(relevance, tokens, d, cap=CAP)
            inside = float((n * (target > 0.5 * target.max())).sum() / tokens)
            facts = {
                "patches": int((n > 0).sum()),
                "most": int(n.max()),
                "inside": inside,
                "js": js(target, n / tokens),
            }
            rows.append({"tokens": tokens, "by": name, **facts, "allocation": n.tolist()})
    return rows


def measure(name: str, weights: jax.Array, own: jax.Array, of_scores: jax.Array, target: np.ndarray) -> dict[str, Any]:
    """The facts of an image, its map balanced with `weights`, found on the other one."""
    even = jnp.full(target.shape, 1.0 / target.size)
    third = jnp.full(len(SCORES), 1.0 / len(SCORES))
    after = weighted(of_scores, weights)
    shown = {"uniform (before)": even} | dict(zip(SCORES, of_scores))
    shown |= {"arithmetic": balanced(of_scores, third, "arithmetic"), "geometric": balanced(of_scores, third)}
    shown |= {"weighted (after)": after, "own weights": weighted(of_scores, own)}
    cut = patches(jnp.asarray(image(SCENES[name]))[None], SIZE)
    whole = cut.reshape(-1, 3)
    variances = (
        cut.var(axis=-2) + 1e-4
    )  # an even patch has the variance of a camera's noise, one grey level in a hundred
    divergences = patchwise_kl(cut.mean(axis=-2), jnp.log(variances), whole.mean(axis=0), jnp.log(whole.var(axis=0)))
    energy = -jnp.tensordot(weights, jnp.log(of_scores), 1)  # its Gibbs map is `after`
    return {
        "image": name,
        "kl": {key: kl(target, value) for key, value in shown.items()},
        "weights": dict(zip(SCORES, weights.tolist())),
        "own_weights": dict(zip(SCORES, own.tolist())),
        "maps": {key: np.asarray(shown[key]).tolist() for key in (*SCORES, "weighted (after)")},
        "ideal": target.tolist(),
        "budgets": budgets(after, target),
        "patchwise_kl": {
            "mean": float(divergences.mean()),
            "weighted": float(weighted_kl(divergences, after[None])[0]),
        },
        "free_energy": {"uniform": float(free_energy(even, energy)), "after": float(free_energy(after, energy))}
        | {"kl": kl(even, after)},
    }


def results(directory: Path) -> dict[str, Any]:
    """Run the experiment, write relevance.json in `directory`, and return what it holds."""
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {name: image(scene) for name, scene in SCENES.items()}
    found = {name: maps(pictures[name], scene.point) for name, scene in SCENES.items()}
    targets = {name: ideal(scene, pictures[name].shape) for name, scene in SCENES.items()}
    weights = {name: best_weights(found[name], targets[name]) for name in SCENES}
    others = dict(zip(SCENES, reversed(SCENES)))
    rows = [measure(name, weights[others[name]], weights[name], found[name], targets[name]) for name in SCENES]
    settings = {"patch": SIZE, "surround": SURROUND, "cap": CAP, "budgets": BUDGETS}
    met = all(row["kl"]["weighted (after)"] < row["kl"]["uniform (before)"] for row in rows)
    aims = {"after is closer to the ideal than before": met}
    result = {"rows": rows, "settings": settings, "aims": aims, "seconds": time.monotonic() - begun}
    write_atomic(directory / "relevance.json", json.dumps(result, allow_nan=False, ensure_ascii=False) + "\n")
    return result


def table(result: dict[str, Any]) -> str:
    """KL to the ideal map, and the budgets, as text."""
    rows = result["rows"]
    lines = [
        "KL(ideal‖map), nats; the ideal is uniform over an outline drawn by eye; the weights of 'weighted (after)' "
        "come from the other image.",
        "",
        f"{'map':<20}" + "".join(f"{row['image']:>10}" for row in rows),
    ]
    lines += [f"{key:<20}" + "".join(f"{row['kl'][key]:>10.3f}" for row in rows) for key in rows[0]["kl"]]
    for row in rows:
        weights = ", ".join(f"{key} {value:.2f}" for key, value in row["own_weights"].items())
        patch, energy = row["patchwise_kl"], row["free_energy"]
        lines.append(
            f"{row['image']}: best weights {weights}; patch-wise KL to the whole image {patch['mean']:.2f} on average, "
            f"{patch['weighted']:.2f} weighted by relevance;\n  free energy: {energy['after']:.3f} of the map "
            f"after, its Gibbs map, {energy['uniform']:.3f} of the uniform map, which is KL = {energy['kl']:.3f} more"
        )
    lines += [f"Aim: {aim}: {'met' if met else 'missed'}." for aim, met in result["aims"].items()]
    lines += ["", f"Tokens by forward and reverse KL, at most {result['settings']['cap']} a patch:"]
    lines.append(f"{'image':<8}{'tokens':>7}  {'by':<8}{'patches':>8}{'most':>6}{'on object %':>13}{'JS to ideal':>13}")
    for row in rows:
        for b in row["budgets"]:
            lines.append(
                f"{row['image']:<8}{b['tokens']:>7}  {b['by']:<8}{b['patches']:>8}{b['most']:>6}"
                f"{100 * b['inside']:>13.1f}{b['js']:>13.4f}"
            )
    return "\n".join(lines)


def picture(path: Path) -> Path:
    """Draw relevance.png beside a relevance.json: maps and tokens over the images, and how close they are."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = result["rows"]
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(15.5, 3.1 * len(rows) + 3.4))
        parts: Any = figure.subfigures(2, 1, height_ratios=(3.1 * len(rows), 3.4))
        upper, lower = parts
        axes = upper.subplots(len(rows), 4, squeeze=False)
        for line, row in zip(axes, rows, strict=True):
            _overlays(line, row)
        shades = plt.get_cmap("inferno")(np.arange(1, CAP + 1) / CAP)
        handles = [Patch(color=shade, label=f"{n}") for n, shade in enumerate(shades, 1)]
        upper.legend(handles=handles, title="tokens a patch", loc="outside lower right", ncols=CAP, fontsize=8)
        _charts(lower.subplots(1, 3, width_ratios=(1.5, 1.0, 1.0)), rows)
        return save(figure, path.with_suffix(".png"))


def _overlays(line, row: dict[str, Any]) -> None:
    """The outline, the balanced map, and the tokens by forward and by reverse KL, over one image."""
    scene = SCENES[row["image"]]
    shown = image(scene)
    height, width = (SIZE * n for n in np.shape(row["ideal"]))
    tokens = {b["by"]: np.array(b["allocation"]) for b in row["budgets"] if b["tokens"] == SHOWN}
    after = np.array(row["maps"]["weighted (after)"])
    titles = (
        f"{row['image']}: the outline and the query's point",
        f"relevance: KL to ideal {row['kl']['uniform (before)']:.2f} → {row['kl']['weighted (after)']:.2f}",
        *(f"{SHOWN} tokens by {name} KL: {(n > 0).sum()} patches" for name, n in tokens.items()),
    )
    for axis, title, over in zip(line, titles, (None, after / after.max(), *(n / CAP for n in tokens.values()))):
        axis.imshow(shown[:height, :width] if over is None else _faded(shown[:height, :width]))
        if over is None:
            for corners in scene.outlines:
                axis.fill(*np.transpose(corners), fill=False, edgecolor="white", lw=2.6)
                axis.fill(*np.transpose(corners), fill=False, edgecolor=PALETTE[1], lw=1.3)
            axis.plot(*scene.point, "o", ms=8, color=PALETTE[5], mec="black")
        else:
            alpha = 0.85 * (over > 0.0) if title.startswith(str(SHOWN)) else 0.75
            extent = (0.0, float(width), float(height), 0.0)
            axis.imshow(over, cmap="inferno", vmin=0.0, vmax=1.0, alpha=alpha, extent=extent, interpolation="nearest")
        axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axis.set_title(title, fontsize=10)


def _faded(shown: np.ndarray) -> np.ndarray:
    grey = shown.mean(axis=-1, keepdims=True)
    return np.repeat(0.35 + 0.6 * grey, 3, axis=-1).clip(0.0, 1.0)


def _charts(axes, rows: list[dict[str, Any]]) -> None:
    """KL of every map to the ideal; patches that have a token, and the share of tokens on the object, over budgets."""
    first, *others = axes
    names = list(rows[0]["kl"])
    for colour, marker, row in zip(PALETTE, "os", rows, strict=False):
        first.plot(list(row["kl"].values()), range(len(names)), marker, ms=8, color=colour, label=row["image"])
        for by, style in (("forward", "-"), ("reverse", (0, (4, 2)))):
            chosen = [b for b in row["budgets"] if b["by"] == by]
            label = f"{row['image']}, {by} KL"
            for axis, key, factor in zip(others, ("patches", "inside"), (1.0, 100.0)):
                x, y = [b["tokens"] for b in chosen], [factor * b[key] for b in chosen]
                axis.plot(x, y, marker, ls=style, color=colour, ms=5, label=label)
    first.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
    first.set_xlabel("KL(ideal‖map), nats; weights of 'after' from the other image")
    first.set_xlim(left=0.0)
    first.grid(axis="y", lw=0.4)
    first.legend(loc="lower right", frameon=True, title="image")
    others[0].plot(BUDGETS, BUDGETS, color="black", lw=1, ls=(0, (1, 2)), label="a token each")
    others[0].set(xlabel="tokens", ylabel="patches with a token", xticks=BUDGETS)
    others[1].set(xlabel="tokens", ylabel="tokens on the object, %", xticks=BUDGETS, ylim=(0, 103))
    others[0].legend(fontsize=8)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory)
    print(f"{table(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "relevance.json"
    return [*drawn(picture, path), path]

"""The Dirac-GAN: how the game of each divergence and penalty moves near its goal, measured and predicted.

P = δ_0 is the data, Q = δ_θ the model, v(x) = ψx the critic (Mescheder, Geiger, Nowozin 2018, definition 2.1): the
smallest f-GAN, with its goal at θ = ψ = 0. Simultaneous descent of both losses moves it along the field

    θ' = c'(ψθ)ψ,    ψ' = −c'(ψθ)θ − λ∂R/∂ψ,    c(v) = f*(T(v)),    R the penalty,

of which nothing is written again here: the field is what one step of `fgan.models.gan.FGAN` with plain gradient
descent of rate 1 changes. Under the log-ratio activation c'(0) = f''(1) = κ. Each smooth penalty is a mean of w‖∇v‖²,
so that it is wψ² near the goal, with its weight w at ratio 1. The Jacobian there is [[0, κ], [−κ, −2λw]], and its
eigenvalues are

    −λw ± √(λ²w² − κ²),

which is −γ/2 ± √(γ²/4 − κ²) (appendix D.2) with an effective γ = 2λw: for r1, w = 1, λ is half of γ. Unregularised,
θ² + ψ² never changes.

wgan_gp and dragan are (|ψ| − 1)² at every point. Their slope jumps at ψ = 0, so the field has no Jacobian at the
goal and pushes away from it on both sides, with speed 2λ. The flow runs onto a cycle: two half-turns of the focuses
±(2λ/κ, 0), which cross ψ = 0 at |θ| = (2λ/κ)(1 + ρ)/(1 − ρ), ρ = e^{−πλ/√(κ² − λ²)}, where c' is the constant κ.

"Measured" stands for two numbers: the Jacobian by automatic differentiation, and what a flow solved from beside the
goal does from sample to sample. All in float64.
"""

import cmath
import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import linen as nn
from scipy.interpolate import CubicSpline
from scipy.linalg import expm
from scipy.optimize import brentq

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import DIVERGENCES
from estimators.plot_style import EXACT, PALETTE, STYLE, legend_below, save
from fgan.experiments.plots import drawn
from fgan.models.gan import FGAN
from fgan.models.penalties import PENALTIES, CriticValues, WeightedPenalty
from fgan.models.players import Critic, Generator
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {
    "dirac": "the smallest GAN near its goal: eigenvalues of every divergence and penalty, beside their formulas"
}
WEIGHT = 0.1  # λ, small enough for every smooth penalty to turn under every divergence
TURNS, SAMPLES, SUBSTEPS = 4, 96, 4  # of the unregularised game, points of a flow kept a turn, steps between two
START, NEAR = (1.0, 1.0), (1e-4, 0.0)  # (θ, ψ) where the flows begin
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiling outlasts running
SHOWN = ("kl", "js", "reverse_kl")
COLUMNS = ("none", "r1", "jsd", "first_variation", "roth", "wgan_gp")

STRENGTHS: dict[str, Callable[[float], float]] = {
    "none": lambda curvature: 0.0,
    "r1": lambda curvature: 1.0,
    "r2": lambda curvature: 1.0,
    "r1_r2": lambda curvature: 2.0,
    "jsd": lambda curvature: 0.125,
    "geometric_jsd": lambda curvature: 0.125,
    "first_variation": lambda curvature: 2.0 * curvature**2,
    "roth": lambda curvature: curvature,
}
"""κ → w of each smooth penalty at ratio 1. `first_variation` is T'² on P and c'² on Q, κ² each; `jsd` and
`geometric_jsd` are the same for their own f''(1) = ¼; `roth` is T'²/f''(1) = κ."""

KINKED = ("wgan_gp", "dragan")
NAMES = (*STRENGTHS, *KINKED)


class Point(nn.Module):
    """G(z) = θ whatever the noise, the generator of δ_θ: [n, latent] → [n, 1]."""

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        theta = self.param("theta", lambda _: jnp.zeros(()))
        return jnp.broadcast_to(theta, (z.shape[0], 1))


class Slope(nn.Module):
    """v(x) = ψx: [n, 1] → [n]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.param("psi", lambda _: jnp.zeros(())) * x[:, 0]


def game(d: FDivergence, penalty: Callable[[CriticValues], jax.Array], rate: float = 1.0) -> FGAN:
    """The Dirac-GAN under `d`: simultaneous gradient descent of `rate`, with the (weighted) penalty on the critic."""
    descent = optax.sgd(rate)
    return FGAN(
        divergence=d,
        generator=Generator(network=Point(), inputs=1, optimizer=descent),
        critic=Critic(network=Slope(), inputs=1, optimizer=descent, divergence=d, activation="log_ratio"),
        batch=1,
        update="simultaneous",
        penalty=WeightedPenalty(penalties=(penalty,)),
    )


def stepped(gan: FGAN, z: jax.Array) -> jax.Array:
    """(θ, ψ) after one step of `gan` from z = (θ, ψ): [2] → [2].

    The noise changes nothing: v is linear, so that its gradient is ψ wherever a penalty takes it.
    """
    key = jax.random.key(0)
    state = gan.init(key)
    state = state._replace(generator={"params": {"theta": z[0]}}, critic={"params": {"psi": z[1]}})
    new, _ = gan.step(key, state, jnp.zeros((1, 1, 1)))
    return jnp.stack([new.generator["params"]["theta"], new.critic["params"]["psi"]])


@partial(jax.jit, static_argnums=0)
def velocity(d: FDivergence, weights: jax.Array, z: jax.Array) -> jax.Array:
    """(θ', ψ') at z = (θ, ψ), [2] → [2]: what a step of rate 1 adds, with `weights` [penalties] on each of `NAMES`."""
    gan = game(d, lambda values: jnp.dot(weights, jnp.stack([PENALTIES[name](values) for name in NAMES])))
    return stepped(gan, z) - z


def predicted(curvature: float, damping: float) -> np.ndarray:
    """The two eigenvalues −λw ± √(λ²w² − κ²), from κ and λw."""
    root = cmath.sqrt(damping**2 - curvature**2)
    return ordered(np.array([-damping - root, -damping + root]))


def ordered(eigenvalues: np.ndarray) -> np.ndarray:
    """By imaginary part, then by real part."""
    return np.array(sorted(eigenvalues, key=lambda value: (value.imag, value.real)), complex)


def rates(path: np.ndarray, interval: float) -> np.ndarray:
    """The eigenvalues −decay ± i·angular frequency of a flow, from its samples `path` [n, 2] at equal intervals.

    Those of log M over the interval, M the least-squares solution of z_{i+1} = M z_i.
    """
    propagator = np.linalg.lstsq(path[:-1], path[1:], rcond=None)[0].T
    return ordered(np.log(np.linalg.eigvals(propagator).astype(complex)) / interval)


@partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def simulate(d: FDivergence, weights: jax.Array, starts: jax.Array, interval: jax.Array) -> tuple[Any, Any]:
    """(Jacobians at the goal [k, 2, 2], flows [k, n, 2] from `starts` [k, 2] at n times, one `interval` apart).

    Runge and Kutta's fourth order, `SUBSTEPS` an interval, under `weights` [k, penalties] as in `velocity`.
    """
    field = partial(velocity, d)
    jacobians = jax.vmap(lambda w: jax.jacfwd(partial(field, w))(jnp.zeros(2)))(weights)
    step = interval / SUBSTEPS
    stages = jnp.array([0.0, 0.5, 0.5, 1.0]), jnp.array([1.0, 2.0, 2.0, 1.0]) / 6.0

    def stage(z, carry, coefficients):
        (slope, change), (ahead, share) = carry, coefficients
        slope = jax.vmap(field)(weights, z + ahead * step * slope)
        return (slope, change + share * step * slope), None

    def advance(z, _):
        nothing = jnp.zeros_like(z), jnp.zeros_like(z)
        (_, change), _ = jax.lax.scan(partial(stage, z), nothing, stages)
        return z + change, None

    def sample(z, _):
        z = jax.lax.scan(advance, z, None, length=SUBSTEPS)[0]
        return z, z

    _, path = jax.lax.scan(sample, starts, None, length=TURNS * SAMPLES)
    return jacobians, jnp.concatenate([starts[None], path]).swapaxes(0, 1)


def half_turn(path: np.ndarray) -> float:
    """θ where the flow `path` [n, 2], begun in ψ > 0, first comes back to ψ = 0; NaN if it does not.

    By the cubic through the last four points before, since the slope of the field jumps at ψ = 0.
    """
    below = np.flatnonzero(path[1:, 1] < 0.0)
    if not len(below) or below[0] < 3:
        return math.nan
    theta, psi = path[below[0] - 3 : below[0] + 1].T
    return float(np.polyval(np.polyfit(psi, theta, 3), 0.0))


def closed(starts: np.ndarray, paths: np.ndarray) -> float:
    """|θ| of the cycle: the fixed point of the half-turns a → θ from (−a, 0), known for a in `starts`."""
    ends = np.array([half_turn(path) for path in paths])
    known = np.isfinite(ends)
    excess = CubicSpline(starts[known], (ends - starts)[known])
    return float(brentq(excess, starts[known][0], starts[known][-1]))


def crossing(curvature: float, weight: float) -> float:
    """|θ| = (2λ/κ)(1 + ρ)/(1 − ρ) at which the cycle of wgan_gp crosses ψ = 0 where c' is the constant κ > λ."""
    left = math.exp(-math.pi * weight / math.sqrt(curvature**2 - weight**2))
    return 2.0 * weight / curvature * (1.0 + left) / (1.0 - left)


def linear(curvature: float, damping: float, start: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The flow of the Jacobian [[0, κ], [−κ, −2λw]] from `start` at `times` [n]: [n, 2]."""
    jacobian = np.array([[0.0, curvature], [-curvature, -2.0 * damping]])
    return expm(jacobian * (times - times[0])[:, None, None]) @ np.asarray(start, float)


def cycle(curvature: float, weight: float) -> np.ndarray:
    """The closed curve [n, 2] of wgan_gp where c' is the constant κ: a half-turn in ψ ≥ 0 and its mirror image."""
    focus = np.array([2.0 * weight / curvature, 0.0])
    times = np.linspace(0.0, math.pi / math.sqrt(curvature**2 - weight**2), SAMPLES)
    upper = focus + linear(curvature, weight, [-crossing(curvature, weight), 0.0] - focus, times)
    return np.concatenate([upper, -upper])


def measure(d: FDivergence) -> dict[str, Any]:
    """One divergence under every penalty: a row of dirac.json."""
    with jax.enable_x64(True):
        curvature = float(d.second(jnp.ones(())))
        interval = 2.0 * math.pi / curvature / SAMPLES
        weights = WEIGHT * np.eye(len(NAMES))
        starts = np.repeat([START, NEAR], len(NAMES), axis=0)
        jacobians, paths = map(np.asarray, simulate(d, np.tile(weights, (2, 1)), starts, interval))
        cycles = _cycles_of(d, curvature, interval)
    far, near = np.split(paths, 2)
    found: list[dict[str, Any]] = []
    for i, name in enumerate(NAMES):
        if name in KINKED:
            line = cycle(curvature, WEIGHT)
            facts: dict[str, Any] = {
                "predicted": None,
                "cycle": {"predicted": crossing(curvature, WEIGHT), "measured": cycles[name]},
                "radius_from_near": float(np.linalg.norm(near[i, -1])),
            }
        else:
            damping = WEIGHT * STRENGTHS[name](curvature)
            line = linear(curvature, damping, np.asarray(START), interval * np.arange(paths.shape[1]))
            eigenvalues = {
                "predicted": predicted(curvature, damping),
                "jacobian": ordered(np.linalg.eigvals(jacobians[i])),
                "flow": rates(near[i], interval),
            }  # 1 / time
            facts = {"damping": damping} | {key: [[v.real, v.imag] for v in pair] for key, pair in eigenvalues.items()}
        if d.name in SHOWN and name in COLUMNS:
            shown = {"path": far[i], "predicted_path": line} | ({"path_from_near": near[i]} if name in KINKED else {})
            facts |= {key: np.round(path, 5).tolist() for key, path in shown.items()}
        found.append({"penalty": name} | facts)
    return {"divergence": d.name, "curvature": curvature, "penalties": found}


def _cycles_of(d: FDivergence, curvature: float, interval: float) -> dict[str, float]:
    """|θ| at which each kinked penalty's cycle crosses ψ = 0."""
    k = len(NAMES)
    guesses = crossing(curvature, WEIGHT) * np.linspace(0.6, 1.5, k)
    starts = np.stack([-guesses, np.full(k, 1e-12)], axis=1)  # at ψ = 0 itself the slope is neither of its two
    weights = WEIGHT * np.repeat([NAMES.index(name) == np.arange(k) for name in KINKED], k, axis=0)
    _, paths = simulate(d, weights, np.tile(starts, (len(KINKED), 1)), interval)
    return {name: closed(guesses, own) for name, own in zip(KINKED, np.split(np.asarray(paths), len(KINKED)))}


def results(directory: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Measure every smooth divergence, write dirac.json in `directory`, and return what it holds."""
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    with Reporter(len(smooth()), quiet=quiet, unit="divergence") as report, ThreadPoolExecutor() as pool:
        for row in pool.map(measure, smooth()):  # most of the time is compilation, which runs side by side
            rows.append(row)
            report.advance(len(rows), row["divergence"])
    result = {
        "weight": WEIGHT,
        "turns": TURNS,
        "start": START,
        "near": NEAR,
        "rows": rows,
        "left_out": [d.name for d in DIVERGENCES.values() if not d.smooth],
        "seconds": time.monotonic() - begun,
    }
    write_atomic(directory / "dirac.json", json.dumps(result, allow_nan=False, ensure_ascii=False) + "\n")
    return result


def smooth() -> list[FDivergence]:
    """The divergences that have a curvature f''(1), and a ratio for the critic to estimate."""
    return [d for d in DIVERGENCES.values() if d.smooth]


def deviation(row: dict[str, Any], key: str) -> float:
    """The largest |measured − predicted| eigenvalue of a row under `key`: jacobian or flow."""
    smooth = [facts for facts in row["penalties"] if facts["predicted"] is not None]
    return max(float(np.max(np.hypot(*np.subtract(facts[key], facts["predicted"]).T))) for facts in smooth)


def written(pair: list[list[float]]) -> str:
    """Two eigenvalues as text, −decay ± i·frequency."""
    (low, _), (high, turn) = pair
    if turn > 1e-12:
        real = f"{low:.4f}" if abs(low) > 5e-5 else "0"
        return f"{real}±{turn:.4f}i".replace("-", "−")
    return f"{low:.4f}, {high:.4f}".replace("-", "−")


def table(result: dict[str, Any]) -> str:
    """Eigenvalues, measured under predicted, and the cycles, as text."""
    lines = [
        f"Dirac-GAN, P = point at 0, Q = point at θ, critic ψx; λ = {result['weight']:g} (of r1: half of γ).",
        "Eigenvalues at the goal; predicted: −λw ± √(λ²w² − κ²), κ = f''(1); measured: by the flow from "
        f"{result['near'][0]:g} beside it.",
        "Errors: the largest |measured − predicted| of a row, by the Jacobian and by the flow.",
        "",
        f"{'divergence':<18}{'κ':>5}  {'':<10}" + "".join(f"{name:>17}" for name in STRENGTHS) + f"{'error':>17}",
    ]
    for row in result["rows"]:
        smooth = [facts for facts in row["penalties"] if facts["penalty"] in STRENGTHS]
        head = f"{row['divergence']:<18}{row['curvature']:>5.2f}  {'predicted':<10}"
        lines.append(head + "".join(f"{written(facts['predicted']):>17}" for facts in smooth))
        errors = f"{deviation(row, 'jacobian'):.0e}, {deviation(row, 'flow'):.0e}"
        measured = "".join(f"{written(facts['flow']):>17}" for facts in smooth)
        lines.append(f"{'':<25}{'measured':<10}{measured}{errors:>17}")
    return "\n".join([*lines, "", *_cycles(result)])


def _cycles(result: dict[str, Any]) -> list[str]:
    lines = [
        "wgan_gp and dragan, (|ψ| − 1)²: no eigenvalues, since the slope jumps at ψ = 0. The goal repels, with speed "
        "2λ, and a cycle attracts;",
        "|θ| where it crosses ψ = 0 (predicted with c' = κ throughout, which is exact for reverse_kl):",
    ]
    for row in result["rows"]:
        facts = next(facts for facts in row["penalties"] if facts["penalty"] == "wgan_gp")
        lines.append(
            f"{row['divergence']:<18}{row['curvature']:>5.2f}  predicted {facts['cycle']['predicted']:.4f}  measured "
            f"{facts['cycle']['measured']:.4f}  from {result['near'][0]:g} beside the goal to "
            f"{facts['radius_from_near']:.2f}"
        )
    left = ", ".join(result["left_out"])
    return [*lines, f"Left out: {left}: f has a kink at or beside u = 1, there is no f''(1), and T is a step."]


def picture(path: Path) -> Path:
    """Draw dirac.png beside a dirac.json: (θ, ψ) as they move, the linear prediction and its eigenvalues beside."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = [(row, shown) for row in result["rows"] if (shown := [p for p in row["penalties"] if "path" in p])]
    with plt.rc_context(STYLE):
        size = (2.35 * len(COLUMNS), 2.85 * len(rows) + 0.9)
        figure, axes = plt.subplots(len(rows), len(COLUMNS), figsize=size, squeeze=False, sharex=True, sharey=True)
        for line, (row, shown) in zip(axes, sorted(rows, key=lambda pair: -pair[0]["curvature"]), strict=True):
            for axis, facts in zip(line, shown, strict=True):
                _portrait(axis, facts, result["start"])
            line[0].set_ylabel(f"{row['divergence'].replace('_', ' ')}, κ = {row['curvature']:g}\nψ", weight="bold")
        for axis, facts in zip(axes[0], rows[0][1], strict=True):
            axis.set_title(facts["penalty"].replace("_", " "), fontsize=10, weight="bold")
        for axis in axes[-1]:
            axis.set_xlabel("θ\n" + axis.get_xlabel(), fontsize=8)
        figure.suptitle(
            "Dirac-GAN: data a point at 0, model a point at θ, critic ψx; eigenvalues at the goal, "
            f"predicted −λw ± √(λ²w² − κ²), λ = {result['weight']:g}\n"
            f"each panel lasts {result['turns']} turns of its unregularised game",
            fontsize=11,
        )
        legend_below(figure, *axes.flat)
        return save(figure, path.with_suffix(".png"))


def _portrait(axis, facts: dict[str, Any], start: list[float]) -> None:
    """One flow (θ, ψ) over its linear prediction."""
    axis.plot(*np.transpose(facts["path"]), color=PALETTE[0], lw=1.6, label="measured flow")
    if "path_from_near" in facts:
        axis.plot(*np.transpose(facts["path_from_near"]), color=PALETTE[4], lw=1.2, label="flow from beside the goal")
    axis.plot(*np.transpose(facts["predicted_path"]), **EXACT, label="predicted, linear")
    axis.plot(*start, "^", ms=7, color=PALETTE[1], mec="white", label="start", zorder=5, ls="none")
    axis.plot(0.0, 0.0, "+", ms=9, mew=2, color=PALETTE[2], label="goal", zorder=5, ls="none")
    axis.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
    axis.set_xlabel(_caption(facts), fontsize=8)


def _caption(facts: dict[str, Any]) -> str:
    """Measured over predicted numbers of a portrait, as text."""
    if facts["predicted"] is None:
        both = facts["cycle"]
        return f"cycle |θ|, measured {both['measured']:.3f}\npredicted (c' = κ) {both['predicted']:.3f}"
    lines = []
    for word, key in (("measured", "flow"), ("predicted", "predicted")):
        real, turn = facts[key][1]
        lines.append(f"{word} {real:.4f} ± {turn:.4f}i".replace("-", "−").replace("−0.0000", "0.0000"))
    return "\n".join(lines)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "dirac.json"
    return [*drawn(picture, path), path]

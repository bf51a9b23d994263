"""Mode covering against mode seeking: a Gaussian generator on mixtures, on the line and in the plane.

Reproduces and extends table 4 of Nowozin, Cseke, Tomioka 2016. The generator μ + σz, in the plane μ + Lz, and a critic
are trained against each other with the named divergence's own bound, never by quadrature; then, on the line, the critic
alone is polished at the fixed generator, and everything is measured against exact values: the minimiser, the divergence
at the fit, and the critic's bound, each by float64 quadrature.

total_variation is the exception, and says so: its optimal critic is a step that gives the generator no gradient. A
js-trained log-ratio ℓ leads the generator through the smoothed step −½ E_Q tanh(ℓ/τ), and a critic under the bound of
total variation itself is fitted afterwards.

Layer 7: imports gan, evaluation and estimators.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.distributions.examples import FGAN_MIXTURE, RIDGE, TWO_MODES, Mixture, normal
from estimators.distributions.families import Gaussian
from estimators.divergences.bounds import fenchel
from estimators.divergences.table import SMOOTHING, FDivergence, divergence
from estimators.exact_values.quadrature import PLANE, exact_bound, exact_divergence
from fgan.models.gan import FGAN
from fgan.models.objectives import objective
from fgan.models.players import Critic, Generator
from fgan.networks.generators import Affine, LocationScale, factor
from fgan.scores.evaluation import best_gaussian, best_gaussian_plane

NAMES = (
    "kl",
    "reverse_kl",
    "js",
    "jeffreys",
    "pearson",
    "neyman",
    "total_variation",
    "squared_hellinger",
    "triangular",
    "geometric_js",
    "alpha(0.5)",
)
SEEDS = (0, 1, 2)
STEPS, BATCH = 1500, 768
POLISH_STEPS, POLISH_BATCH = 500, 2048
FRESH = 200_000  # samples for the bound as a user without densities would measure it
START = (1.0, 1.5)  # (μ, σ) of the generator before training
SIDES = ((-1.5, 1.0), (1.5, 1.0))  # the same, for two equal modes
PLANE_NAMES = ("kl", "reverse_kl", "js", "jeffreys", "pearson")  # the paper's five
PLANE_AIM = 1e-3  # excess in nats, as on the line
PLANE_STEPS = 2500
PLANE_START = ((-0.5, 0.5), 1.15)  # (μ, σ); from 0 reverse_kl stays at a saddle, from narrower ones pearson can run off

PAPER: dict[str, Any] = {
    # Nowozin, Cseke, Tomioka 2016, table 4, in its own normalisation: its JS is twice the textbook one.
    "order": ["kl", "reverse_kl", "js", "jeffreys", "pearson"],
    "factor": [1.0, 1.0, 2.0, 1.0, 1.0],
    "mu": [1.0335, 1.5624, 1.2854, 1.2295, 0.6157],
    "sigma": [1.8236, 1.6403, 1.7659, 1.8087, 1.9031],
    "bound": [0.2801, 0.2415, 0.1226, 0.5151, 0.6379],
    "optimum": [0.2831, 0.2480, 0.1280, 0.5705, 0.6457],
    "cross_table": [
        [0.2808, 0.3423, 0.1314, 0.5447, 0.7345],
        [0.3518, 0.2414, 0.1228, 0.5794, 1.3974],
        [0.2871, 0.2760, 0.1210, 0.5260, 0.9216],
        [0.2869, 0.2975, 0.1247, 0.5236, 0.8849],
        [0.2970, 0.5466, 0.1665, 0.7085, 0.6480],
    ],
}


class Fit(NamedTuple):
    """Trained generators and polished critics, one a seed."""

    mu: np.ndarray
    sigma: np.ndarray
    critic: Any
    skipped: np.ndarray


class PlaneFit(NamedTuple):
    """Trained Gaussians in the plane, one a seed: mu [seeds, 2], covariance [seeds, 2, 2]."""

    mu: np.ndarray
    covariance: np.ndarray
    skipped: np.ndarray


def critic_for(row: FDivergence) -> MLP:
    """The critic network: silu units, whose linear tails can follow log p/q as far as the samples reach.

    neyman alone has tanh units: its T = 1 − (q/p)² is averaged over P, where it has no lower bound, and linear tails
    turn rare samples into steps that throw the pair off (seen: excess 1e-2 and more).
    """
    return MLP((64, 32), "tanh" if row.name == "neyman" else "silu")


def length(dim: int) -> int:
    """Steps of a training in that many dimensions."""
    return STEPS if dim == 1 else PLANE_STEPS


def fgan_for(row: FDivergence, dim: int = 1) -> FGAN:
    """The f-GAN of this experiment under `row`: one recipe, but for `critic_for` and the non-smooth rows."""
    steps = length(dim)
    trained = row if row.smooth else divergence("js")
    generator_optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps, 0.02), b1=0.5, b2=0.9)
    critic_optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, steps, 0.1), b1=0.5, b2=0.99)
    network = LocationScale() if dim == 1 else Affine(dim)
    return FGAN(
        divergence=row,
        generator=Generator(network=network, inputs=dim, optimizer=generator_optimizer, average=0.995),
        critic=Critic(network=critic_for(row), inputs=dim, optimizer=critic_optimizer, divergence=trained),
        batch=BATCH,
        objective=objective("minimax", row, trained),
    )


def training(target: Mixture, row: FDivergence, *, polished: bool = True) -> Callable[..., Any]:
    """(seeds, start) → (generators, critics, steps left out): generator parameters trained under `row` from `start`,
    the critic polished (on the line), all seeds at once."""
    gan, n = fgan_for(row, target.dim), length(target.dim)

    def draw(key):
        return target.sample(key, BATCH)[None]

    def alone(seed, start):
        key = jax.random.key(seed)
        state = gan.init(jax.random.fold_in(key, n))._replace(generator=start, average=start)
        state, metrics = steps(gan.advance, draw, key, state, 0, n, noise=gan.noise)
        critic = state.critic
        if polished:
            critic = polish(jax.random.fold_in(key, n + 1), critic, target, state.average["params"], row)
        return state.average["params"], critic, jnp.sum(metrics["skipped"])

    return jax.jit(jax.vmap(alone, in_axes=(0, None)))


def fit(
    target: Mixture, row: FDivergence, starts: Sequence[tuple[float, float]], seeds: Sequence[int] = SEEDS, **options
) -> list[Fit]:
    """A Fit from each start (μ, σ), one after the other in one compiled program."""
    program = training(target, row, **options)
    fits = []
    for mu, sigma in starts:
        start = {"params": {"mu": jnp.float32(mu), "log_sigma": jnp.log(jnp.float32(sigma))}}
        found, critic, skipped = jax.block_until_ready(program(jnp.asarray(seeds, jnp.uint32), start))
        sigmas = np.asarray(jnp.exp(found["log_sigma"]), float)
        fits.append(Fit(np.asarray(found["mu"], float), sigmas, critic, np.asarray(skipped)))
    return fits


def fit_plane(target: Mixture, row: FDivergence, seeds: Sequence[int] = SEEDS) -> PlaneFit:
    """Gaussians of any covariance trained on a target in the plane from N(μ, σ²I) of PLANE_START."""
    mu, sigma = PLANE_START
    start = {"params": {"mu": jnp.asarray(mu, jnp.float32), "root": math.log(sigma) * jnp.eye(2)}}
    program = training(target, row, polished=False)
    found, _, skipped = jax.block_until_ready(program(jnp.asarray(seeds, jnp.uint32), start))
    factors = np.asarray(jax.vmap(factor)(found["root"]), float)
    return PlaneFit(np.asarray(found["mu"], float), factors @ factors.swapaxes(1, 2), np.asarray(skipped))


def polish(key: jax.Array, critic: Any, target: Mixture, model: dict[str, jax.Array], row: FDivergence) -> Any:
    """Critic parameters trained on under `row`'s own bound, with the generator held at `model`, its parameters."""
    network = critic_for(row)
    if not row.smooth:  # a step in the js critic's ℓ, steeper than the generator's, starts the critic of the bound
        last = f"Dense_{len(network.features)}"
        steeper = jax.tree.map(lambda w: 4.0 * w / SMOOTHING, critic["params"][last])
        critic = {"params": critic["params"] | {last: steeper}}
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, POLISH_STEPS, 0.01), b1=0.9, b2=0.99)
    mu, sigma = model["mu"], jnp.exp(model["log_sigma"])

    def draw(key):
        p, q = jax.random.split(key)
        x_q = mu + sigma * jax.random.normal(q, (POLISH_BATCH, 1))
        return jnp.concatenate([target.sample(p, POLISH_BATCH), x_q])

    def step(_, state, x):
        def loss(parameters):
            v = network.apply(parameters, x)
            return -fenchel(row, v[:POLISH_BATCH], v[POLISH_BATCH:])

        parameters, moments = state
        change, moments = optimizer.update(jax.grad(loss)(parameters), moments, parameters)
        return (optax.apply_updates(parameters, change), moments), {}

    (critic, _), _ = steps(step, draw, key, (critic, optimizer.init(critic)), 0, POLISH_STEPS)
    return critic


# ---------------------------------------------------------------------------------------------------------------------


def measure(target: Mixture, row: FDivergence, fitted: Fit, seeds: Sequence[int], optimum: dict) -> dict[str, Any]:
    """The row of modes.json for one divergence: every seed measured exactly, the median seed's numbers on top."""
    measured = [
        {"seed": int(seed)} | _measure_one(target, row, fitted, i, optimum["value"]) for i, seed in enumerate(seeds)
    ]
    middle = _middle(measured)
    return {
        "divergence": row.name,
        "mu": middle["mu"],
        "sigma": middle["sigma"],
        "bound": middle["bound"],
        "exact": middle["exact"],
        "excess": middle["excess"],
        "bound_samples": middle["bound_samples"],
        "bound_standard_error": middle["bound_standard_error"],
        "optimum": optimum,
        "skipped_steps": float(fitted.skipped.sum()),
        "generator_objective": "minimax"
        if row.smooth
        else f"smoothed ratio of a js-trained critic, -1/2 E_Q tanh(l/{SMOOTHING})",
        "seeds": measured,
    }


def _middle(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The seed with the median excess; those without one, the diverged, count as the worst."""
    ranked = sorted(measured, key=lambda m: (math.isnan(m["excess"]), m["excess"]))
    return ranked[(len(ranked) - 1) // 2]


def _measure_one(target: Mixture, row: FDivergence, fitted: Fit, i: int, best: float) -> dict[str, float]:
    mu, sigma = float(fitted.mu[i]), float(fitted.sigma[i])
    if not (math.isfinite(mu) and math.isfinite(sigma)):
        return dict.fromkeys(
            ("mu", "sigma", "bound", "exact", "excess", "bound_samples", "bound_standard_error"), math.nan
        )
    model = normal(mu, sigma)
    network: Any = critic_for(row)
    wide = jax.tree.map(lambda w: np.asarray(w[i], np.float64), fitted.critic)
    exact = exact_divergence(target.log_prob, model.log_prob, row)
    bound = exact_bound(target.log_prob, model.log_prob, lambda x: network.apply(wide, x[:, None]), row)
    g = row.activation()
    p_key, q_key = jax.random.split(jax.random.key(10_000 + i))
    critic = jax.tree.map(lambda w: w[i], fitted.critic)
    t_p = np.asarray(g.output(network.apply(critic, target.sample(p_key, FRESH))), np.float64)
    t_q = np.asarray(g.conjugate(network.apply(critic, model.sample(q_key, FRESH))), np.float64)
    return {
        "mu": mu,
        "sigma": sigma,
        "bound": bound,
        "exact": exact,
        "excess": exact - best,
        "bound_samples": float(t_p.mean() - t_q.mean()),
        "bound_standard_error": float(math.sqrt((t_p.var() + t_q.var()) / FRESH)),
    }


def measure_plane(target: Mixture, row: FDivergence, fitted: PlaneFit, seeds: Sequence[int]) -> dict[str, Any]:
    """The row of `plane` for one divergence: every seed measured exactly, the median seed's numbers on top."""
    optimum = best_gaussian_plane(target, row)

    def one(seed, mu, covariance):
        exact = math.nan
        if np.isfinite(covariance).all() and np.isfinite(mu).all():
            model = Gaussian(location=mu, scatter=covariance)
            exact = exact_divergence(target.log_prob, model.log_prob, row, PLANE, tol=1e-7)  # type: ignore[arg-type]
        numbers = {"mu": mu.tolist(), "covariance": covariance.tolist()}
        return {"seed": int(seed)} | numbers | {"exact": exact, "excess": exact - optimum["value"]}

    measured = [one(*seed) for seed in zip(seeds, fitted.mu, fitted.covariance, strict=True)]
    middle = {key: value for key, value in _middle(measured).items() if key != "seed"}
    skipped = float(fitted.skipped.sum())
    start = dict(zip(("mu", "sigma"), PLANE_START, strict=True))
    facts = {"start": start, "optimum": optimum, "skipped_steps": skipped, "seeds": measured}
    return {"divergence": row.name} | middle | facts


def cross_table(target: Mixture, rows: Sequence[dict[str, Any]]) -> list[list[float]]:
    """[i][j]: the exact divergence j of the fit trained under divergence i; NaN where that fit diverged."""

    def exact(trained, tested):
        if not math.isfinite(trained["mu"]):
            return math.nan
        return exact_divergence(target.log_prob, normal(trained["mu"], trained["sigma"]).log_prob, tested["divergence"])

    return [[exact(trained, tested) for tested in rows] for trained in rows]


def two_modes_row(row: FDivergence, start: tuple[float, float], fitted: Fit) -> dict[str, Any]:
    """A fit to two equal modes from the start `mu`: the median seed, the exact local optimum beside it."""
    middle = int(np.argsort(fitted.mu)[len(fitted.mu) // 2])
    return {
        "divergence": row.name,
        "start": {"mu": start[0], "sigma": start[1]},
        "mu": float(fitted.mu[middle]),
        "sigma": float(fitted.sigma[middle]),
        "optimum": best_gaussian(TWO_MODES, row, start=start),
    }


def reproduce(
    directory: Path,
    *,
    names: Sequence[str] = NAMES,
    seeds: Sequence[int] = SEEDS,
    progress: Callable[[int, str], None] = lambda done, text: None,
) -> dict[str, Any]:
    """Run the experiment, write modes.json in `directory` row by row, and return what it holds.

    The fits run side by side, one a core, since a network this small keeps no more than one busy.
    """
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"rows": [], "cross_table": [], "two_modes": [], "plane": [], "seconds": None}
    result["target"] = {"weights": FGAN_MIXTURE.weights, "means": FGAN_MIXTURE.means, "sigmas": FGAN_MIXTURE.sigmas}
    result["settings"] = {"steps": STEPS, "plane_steps": PLANE_STEPS, "batch": BATCH}
    result["settings"] |= {"polish_steps": POLISH_STEPS, "polish_batch": POLISH_BATCH}
    result["paper"] = PAPER
    pair = [divergence(name) for name in ("kl", "reverse_kl")]
    with _side_by_side() as pool:
        fits = [pool.submit(fit, FGAN_MIXTURE, divergence(name), [START], seeds) for name in names]
        others = [pool.submit(fit, TWO_MODES, row, SIDES, seeds, polished=False) for row in pair]
        flat = [(row, pool.submit(fit_plane, RIDGE, row, seeds)) for row in map(divergence, PLANE_NAMES)]
        for done, (name, fitted) in enumerate(zip(names, fits, strict=True), 1):
            row = divergence(name)
            optimum = best_gaussian(FGAN_MIXTURE, row)
            result["rows"].append(measure(FGAN_MIXTURE, row, fitted.result()[0], seeds, optimum))
            _write(directory, result)
            progress(done, f"{name}: excess {result['rows'][-1]['excess']:.1e}")
        result["cross_table"] = cross_table(FGAN_MIXTURE, result["rows"])
        progress(len(names) + 1, "cross table")
        result["two_modes"] = [
            two_modes_row(row, start, fitted)
            for row, found in zip(pair, others, strict=True)
            for start, fitted in zip(SIDES, found.result(), strict=True)
        ]
        progress(len(names) + 2, "two modes")
        for done, (row, planar) in enumerate(flat, len(names) + 3):
            result["plane"].append(measure_plane(RIDGE, row, planar.result(), seeds))
            _write(directory, result)
            progress(done, f"{row.name} in the plane: excess {result['plane'][-1]['excess']:.1e}")
    result["seconds"] = time.monotonic() - begun
    _write(directory, result)
    return result


@contextmanager
def _side_by_side() -> Iterator[ThreadPoolExecutor]:
    """A pool with a thread for each core we may use; what still waits in it is dropped if we are interrupted."""
    pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write(directory: Path, result: dict[str, Any]) -> None:
    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    text = json.dumps(plain(result), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    partial = directory / "modes.json.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(directory / "modes.json")


def table(result: dict[str, Any]) -> str:
    """The fits, and the train/test cross table, as text."""
    lines = [
        "Gaussian fits to 0.33 N(-1, 0.255²) + 0.67 N(2, 2), in nats, textbook normalisation; median of "
        f"{len(result['rows'][0]['seeds'])} seeds.",
        "exact: divergence at the fit by quadrature.  bound: the critic's, by quadrature (±: on 2·10⁵ fresh samples).",
        "paper: Nowozin et al. 2016, its JS halved to the textbook normalisation.",
        "",
        f"{'divergence':<18}{'mu':>8}{'mu*':>8}{'sigma':>8}{'sigma*':>8}{'exact':>9}{'optimum':>9}{'excess':>10}"
        f"{'bound':>9}{'off %':>7}{'fresh samples':>18}{'paper mu, sigma, bound':>26}",
    ]
    for r in result["rows"]:
        off = 100.0 * (r["bound"] / r["exact"] - 1.0)
        lines.append(
            f"{r['divergence']:<18}{r['mu']:>8.4f}{r['optimum']['mu']:>8.4f}{r['sigma']:>8.4f}"
            f"{r['optimum']['sigma']:>8.4f}{r['exact']:>9.4f}{r['optimum']['value']:>9.4f}{r['excess']:>10.1e}"
            f"{r['bound']:>9.4f}{off:>7.2f}{r['bound_samples']:>9.4f} ±{r['bound_standard_error']:<7.4f}"
            f"{_paper(r['divergence']):>26}"
        )
    names = [r["divergence"] for r in result["rows"]]
    if "total_variation" in names:
        lines.append(
            "total_variation: generator trained through the smoothed ratio of a js critic; bound from its own."
        )
    if "neyman" in names:
        lines.append("neyman: tanh critic, the others' have silu units.")
    aims = {r["divergence"]: 5e-3 if r["divergence"] == "total_variation" else 1e-3 for r in result["rows"]}
    missed = [r["divergence"] for r in result["rows"] if not r["excess"] <= aims[r["divergence"]]]
    loose = [r["divergence"] for r in result["rows"] if not abs(r["bound"] / r["exact"] - 1.0) <= 0.01]
    lines.append(
        f"Aim, excess at most 1e-3 (total_variation 5e-3): {'missed by ' + ', '.join(missed) if missed else 'met'}."
    )
    lines += [f"Aim, bound within 1 % of exact: {'missed by ' + ', '.join(loose) if loose else 'met'}.", ""]
    lines.append("Trained under (row), measured exactly under (column); * the smallest of its column:")
    lines.append(" " * 18 + "".join(f"{_short(name):>10}" for name in names))
    columns = list(zip(*result["cross_table"], strict=True))
    for name, values in zip(names, result["cross_table"], strict=True):
        cells = (f"{v:>9.4f}{'*' if v == min(column) else ' '}" for v, column in zip(values, columns, strict=True))
        lines.append(f"{name:<18}" + "".join(cells))
    return "\n".join(lines + _plane_table(result["plane"]))


def _plane_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The fits in the plane: centres, deviations along the axes of their ellipses, and the long axis's direction."""
    if not rows:
        return []
    lines = [
        "",
        "Gaussians of any covariance fitted to a ridge and a round mode in the plane, in nats; median of "
        f"{len(rows[0]['seeds'])} seeds.",
        "long, short: standard deviations along the axes of the ellipse.  angle: of the long one.  *: exact optimum.",
        f"{'divergence':<18}{'mu':>15}{'long':>7}{'short':>7}{'angle':>7}{'mu*':>15}{'long*':>7}{'short*':>7}"
        f"{'angle*':>7}{'exact':>9}{'optimum':>9}{'excess':>10}",
    ]
    for r in rows:
        fits = [_ellipse(fitted) for fitted in (r, r["optimum"])]
        numbers = f"{r['exact']:>9.4f}{r['optimum']['value']:>9.4f}{r['excess']:>10.1e}"
        lines.append(f"{r['divergence']:<18}" + "".join(fits) + numbers)
    missed = [r["divergence"] for r in rows if not r["excess"] <= PLANE_AIM]
    return [*lines, f"Aim, excess at most {PLANE_AIM:.0e}: {'missed by ' + ', '.join(missed) if missed else 'met'}."]


def _ellipse(fitted: dict[str, Any]) -> str:
    """Centre, deviations along the long and the short axis, and the degrees in [0, 180) from x₁ to the long one."""
    if not np.isfinite(fitted["covariance"]).all():
        return f"{'diverged':>36}"
    variances, directions = np.linalg.eigh(np.array(fitted["covariance"]))
    short, long = np.sqrt(variances)
    angle = math.degrees(math.atan2(directions[1, 1], directions[0, 1])) % 180.0
    centre = " ".join(f"{m:.3f}" for m in fitted["mu"])
    return f"{centre:>15}{long:>7.3f}{short:>7.3f}{angle:>6.0f}°"


def _short(name: str) -> str:
    """A column head of at most nine letters."""
    words = {"reverse_kl": "rev. kl", "total_variation": "tot. var.", "squared_hellinger": "sq. hell."}
    return (words | {"triangular": "triang.", "geometric_js": "geom. js", "alpha(0.5)": "alpha .5"}).get(name, name)


def _paper(name: str) -> str:
    if name not in PAPER["order"]:
        return ""
    i = PAPER["order"].index(name)
    return f"{PAPER['mu'][i]:.4f} {PAPER['sigma'][i]:.4f} {PAPER['bound'][i] / PAPER['factor'][i]:.4f}"

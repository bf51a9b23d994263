"""What is measured of a trained flow: every divergence of its density, and what its critic says of one."""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from estimators.divergences.bounds import fenchel
from estimators.divergences.table import divergence
from fgan.config.schema import Data
from fgan.data.sources import load
from fgan.experiments.flow.training import NAMES, SETUPS
from fgan.experiments.runs import Run
from fgan.models.direct_fit import STEP
from fgan.models.gan import FGAN
from fgan.models.model import keep_finite
from fgan.models.objectives import stepped
from fgan.run.members import Restored, restore
from fgan.scores import density

POLISH_STEPS, POLISH_BATCH, POLISH_RATE, POLISH_AVERAGE = 1000, 2048, 1e-3, 0.99
"""Of the critic alone after the training, half a minute of a core. On a tuning seed under pearson a critic that is no
average, at the rate of the training, ends with a bound 5 % below the exact value; this one within its error, 2.5 %."""
DRAWS, BLOCKS = 2**16, 16  # points of P and of Q that a critic's bound is measured on, and blocks for its error
SCORES = (*NAMES, "own", "bound", "polished", "gap")


@lru_cache(maxsize=len(SETUPS))
def _laws(target: str, network: Any) -> tuple[density.Law, density.OfModel]:
    """(the target, what makes a distribution of the network's parameters), compiled once."""
    data = load(Data(name=target))  # type: ignore[arg-type]
    return density.of_data(data), density.OfModel(network, data.dim)


def laws(restored: Restored) -> tuple[density.Law, density.Law]:
    """(P, Q) of a trained flow, in the scale that it was trained in."""
    p, of_model = _laws(restored.config.data.name, restored.model.generator.network)  # type: ignore[attr-defined]
    return p, of_model(restored.state.average)


def score(run: Run, member: int) -> dict[str, Any]:
    """`measure` of a seed of a finished run."""
    return measure(restore(run.directory, member))


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
        kept["bound"], kept["bound_error"] = map(finite, critic_bound(restored, p, q, kept["own"]))
        kept["polished"], kept["polished_error"] = map(finite, critic_bound(polish(restored), p, q, kept["own"]))
        if kept["own"] and kept["polished"] is not None:
            kept["gap"] = (kept["own"] - kept["polished"]) / kept["own"]
    return scores | kept


def finite(value: float) -> float | None:
    """`value`, None if it is infinite or NaN."""
    return value if math.isfinite(value) else None


def polish(restored: Restored) -> Restored:
    """The same with a critic that trained on while the flow stood still, in larger batches, at a rate that falls to 0:
    the moving average of its parameters."""
    data, state = load(restored.config.data), restored.state
    descent = optax.adam(optax.cosine_decay_schedule(POLISH_RATE, POLISH_STEPS))
    gan: Any = restored.model
    gan = dataclasses.replace(gan, critic=dataclasses.replace(gan.critic, optimizer=descent), batch=POLISH_BATCH)
    rows = jnp.asarray(data.rows)

    def step(carry, key):
        state, average = carry
        p_key, z_key, key = jax.random.split(key, 3)
        x_q = gan.generate(state.average, gan.normal(z_key, gan.generator.inputs))
        new, metrics = gan.critic_update(key, state, data.draw(p_key, rows, POLISH_BATCH), x_q)
        state = keep_finite(state, new, metrics)[0]
        return (state, optax.incremental_update(state.critic, average, 1.0 - POLISH_AVERAGE)), None

    keys = jax.random.split(jax.random.key(restored.config.seed), POLISH_STEPS)
    state = state._replace(critic_optimizer=descent.init(state.critic))
    state, average = jax.jit(lambda state: jax.lax.scan(step, (state, state.critic), keys)[0])(state)
    return restored._replace(state=state._replace(critic=average))


def critic_bound(restored: Restored, p: density.Law, q: density.Law, exact: float | None) -> tuple[float, float]:
    """The bound on the named divergence by the trained critic on fresh samples, and its standard error.

    What the same samples give for the true log-ratio, whose mean is the `exact` value, serves as control variate where
    that makes the error smaller. Where f has a kink, the step itself takes the place of the smoothed one that training
    needs.
    """
    gan: Any = restored.model
    state, d = restored.state, divergence(restored.config.divergence)
    rng = np.random.default_rng(restored.config.seed)
    x_p, x_q = (law.sample(rng, DRAWS) for law in (p, q))
    true = [p.log_prob(x) - q.log_prob(x) for x in (x_p, x_q)]

    def bound(log_ratios):
        return fenchel(d, *(stepped(d, v, STEP) for v in log_ratios), activation="log_ratio")

    @jax.jit
    def on(x_p, x_q, *true):
        v_p, v_q = gan.outputs(state.critic, x_p), gan.outputs(state.critic, x_q)
        learnt = [gan.critic.output_activation.log_ratio(v) for v in (v_p, v_q)]
        return gan.critic.lower_bound(v_p, v_q) if gan.critic.divergence is d else bound(learnt), bound(true)

    blocks = (jnp.split(jnp.asarray(a, jnp.float32), BLOCKS) for a in (x_p, x_q, *true))
    values = np.array([on(*block) for block in zip(*blocks, strict=True)])
    ways = [values[:, 0]]
    if exact is not None and np.isfinite(values).all():
        ways.append(values[:, 0] - values[:, 1] + exact)
    best = min(ways, key=lambda way: float(np.std(way)))
    return float(np.mean(best)), float(np.std(best, ddof=1) / math.sqrt(BLOCKS))

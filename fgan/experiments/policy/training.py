"""Policies trained from samples: episodes, their surrogate, and steps that climb it, with and without a constraint."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.nn import log_softmax

from estimators.objectives.policies import (
    adapted_coefficient,
    categorical_kl,
    fisher_product,
    line_search,
    natural_step,
)
from fgan.experiments.policy.measurement import optimum
from fgan.experiments.policy.tasks import Task

SEEDS = (0, 1, 2, 3, 4)
ITERATIONS, RECORD = 600, 10  # batches of a training, and between two records
RATE = 0.1  # of Adam on the logits, falling to 0 along a cosine
LIMIT = 0.01  # δ in nats of the first trust region; it falls as the square of the same cosine, as a KL does
ADAPT = 20  # iterations between two changes of the adaptive coefficient, for the policy to follow
FIRST = 10.0  # what the adaptive coefficient starts from, in β
MEMORY = 0.1  # of a new batch in the baseline of each state
NOISE = 0.2  # standard deviation of a sampled reward

Method = tuple[int, float, bool]
METHODS: dict[str, Method] = {
    "none": (0, 0.0, False),
    "penalty": (0, 1.0, False),
    "k2": (1, 1.0, False),
    "k3": (2, 1.0, False),
    "adaptive": (0, FIRST, True),
}
"""Name → (which term of `penalties`, the first coefficient over β, whether it adapts). The trust region is apart."""
NAMES = (*METHODS, "trust_region")


class Batch(NamedTuple):
    """Episodes, time first: states, actions and rewards [h, b]."""

    states: jax.Array
    actions: jax.Array
    rewards: jax.Array


class State(NamedTuple):
    """What a training carries: logits [s, a], Adam's moments, the baseline [s], the coefficient of the penalty."""

    logits: jax.Array
    moments: Any
    baseline: jax.Array
    coefficient: jax.Array


def episodes(key: jax.Array, task: Task, logits: jax.Array) -> Batch:
    """`task.episodes` of them under the policy, with noise in the rewards."""

    def advance(states, key):
        act, move, noise = jax.random.split(key, 3)
        actions = jax.random.categorical(act, logits[states])
        rewards = jnp.asarray(task.rewards, jnp.float32)[states, actions]
        rewards = rewards + NOISE * jax.random.normal(noise, rewards.shape)
        arrive = jnp.log(jnp.asarray(task.transitions, jnp.float32))[states, actions]
        return jax.random.categorical(move, arrive), Batch(states, actions, rewards)

    first, rest = jax.random.split(key)
    states = jax.random.categorical(first, jnp.log(jnp.asarray(task.start, jnp.float32)), shape=(task.episodes,))
    return lax.scan(advance, states, jax.random.split(rest, task.horizon))[1]


def returns(rewards: jax.Array, costs: jax.Array, discount: float) -> jax.Array:
    """G_t = r_t + γ (G_{t+1} − cost_{t+1}), [h, b]: what follows an action, which its own state's cost does not."""

    def back(later, now):
        reward, cost = now
        here = reward + discount * later
        return here - cost, here

    return lax.scan(back, jnp.zeros_like(rewards[0]), (rewards, costs), reverse=True)[1]


def penalties(task: Task, logits: jax.Array, batch: Batch) -> tuple[jax.Array, ...]:
    """KL(π‖π₀) at the states of a batch, exact, and by k2 and k3 of its actions: three [h, b]."""
    from estimators.exact_values.log_densities import KL_ESTIMATORS

    prior = jnp.asarray(task.prior, jnp.float32)
    log_p, log_q = (log_softmax(table)[batch.states, batch.actions] for table in (logits, prior))
    exact = categorical_kl(logits, prior)[batch.states]
    return exact, KL_ESTIMATORS["k2"](log_p, log_q), KL_ESTIMATORS["k3"](log_p, log_q)


class Seen(NamedTuple):
    """A batch with what a step needs of it: advantages [h, b], the new baseline [s], the mean KL to the prior."""

    batch: Batch
    advantages: jax.Array
    baseline: jax.Array
    kl: jax.Array


def see(key: jax.Array, task: Task, state: State) -> Seen:
    """Episodes of the present policy, judged: returns less the coefficient times the KL of later states."""
    batch = episodes(key, task, state.logits)
    kl = categorical_kl(state.logits, jnp.asarray(task.prior, jnp.float32))[batch.states]
    gained = returns(batch.rewards, state.coefficient * kl, task.discount)
    member = jax.nn.one_hot(batch.states, len(task.start))
    counts, sums = jnp.sum(member, axis=(0, 1)), jnp.sum(member * gained[..., None], axis=(0, 1))
    mean = jnp.where(counts > 0.0, sums / jnp.maximum(counts, 1.0), state.baseline)
    baseline = state.baseline + MEMORY * (mean - state.baseline)
    return Seen(batch, gained - state.baseline[batch.states], baseline, averaged(task, kl))


def averaged(task: Task, values: jax.Array) -> jax.Array:
    """Σ_t γ^t x_t / Σ_t γ^t, a mean over the states visited: [h, b] → scalar."""
    weights = jnp.asarray(task.discount ** np.arange(task.horizon), jnp.float32)
    return jnp.sum(weights * jnp.mean(values, axis=1)) / jnp.sum(weights)


def surrogate(task: Task, logits: jax.Array, old: jax.Array, seen: Seen, cost: jax.Array) -> jax.Array:
    """E [π/π_old · A − cost]: its gradient at π_old is that of J, if the gradient of `cost` [h, b] is right."""
    at = seen.batch.states, seen.batch.actions
    ratio = jnp.exp(log_softmax(logits)[at] - log_softmax(old)[at])
    return averaged(task, ratio * seen.advantages - cost)


def adam() -> optax.GradientTransformation:
    """Of a rate that falls to 0 along a cosine over the training."""
    return optax.adam(optax.cosine_decay_schedule(RATE, ITERATIONS))


def gradient_step(task: Task, target: float, which, adapts, state: State, key, count) -> State:
    """One of Adam on the surrogate, the term `which` of `penalties` its cost; `target` is what an adaptive KL holds."""
    seen = see(key, task, state)

    def loss(logits):
        cost = lax.select_n(which, *penalties(task, logits, seen.batch))
        return -surrogate(task, logits, state.logits, seen, state.coefficient * cost)

    change, moments = adam().update(jax.grad(loss)(state.logits), state.moments)
    due = adapts & ((count + 1) % ADAPT == 0)
    coefficient = jnp.where(due, adapted_coefficient(state.coefficient, seen.kl, target), state.coefficient)
    return State(optax.apply_updates(state.logits, change), moments, seen.baseline, coefficient)


def trust_region_step(task: Task, state: State, key, count) -> State:
    """A natural-gradient step on the surrogate of J, as long as its KL(π_old‖π) and its gain allow."""
    seen = see(key, task, state)
    limit = LIMIT * (0.5 + 0.5 * jnp.cos(math.pi * count / ITERATIONS)) ** 2

    def objective(logits):
        cost = state.coefficient * penalties(task, logits, seen.batch)[0]
        return surrogate(task, logits, state.logits, seen, cost)

    def kl(logits):
        return averaged(task, categorical_kl(state.logits, logits)[seen.batch.states])

    product = fisher_product(kl, state.logits, damping=1e-3)
    step = natural_step(jax.grad(objective)(state.logits), product, limit=limit)
    found = line_search(objective, kl, state.logits, step, limit=limit)
    return state._replace(logits=found.parameters, baseline=seen.baseline)


def trained(task: Task, step: Callable[..., State], key: jax.Array, coefficient: jax.Array) -> tuple[Any, Any]:
    """(logits [records, s, a], coefficients [records]) of a training from the prior, first and last included; pure."""
    prior = jnp.asarray(task.prior, jnp.float32)
    start = State(prior, adam().init(prior), jnp.zeros(len(task.start)), jnp.asarray(coefficient, jnp.float32))

    def advance(state, count):
        return step(state, jax.random.fold_in(key, count), count), None

    def record(state, block):
        state, _ = lax.scan(advance, state, block * RECORD + jnp.arange(RECORD))
        return state, (state.logits, state.coefficient)

    _, kept = lax.scan(record, start, jnp.arange(ITERATIONS // RECORD))
    return jax.tree.map(lambda a, rest: jnp.concatenate([a[None], rest]), (start.logits, start.coefficient), kept)


def train(task: Task, seeds: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Logits [methods, seeds, records, s, a] and coefficients [methods, seeds, records], in the order of NAMES.

    Two programs a task: methods and seeds that take gradient steps are members of one, the trust regions of the other.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    target = optimum(task)["kl_prior"]
    which, factors, adapts = (jnp.asarray(column) for column in zip(*METHODS.values()))

    def descended(which, factor, adapts, key):
        return trained(task, partial(gradient_step, task, target, which, adapts), key, factor * task.beta)

    def constrained(key):
        return trained(task, partial(trust_region_step, task), key, jnp.float32(task.beta))

    over_seeds = jax.vmap(descended, in_axes=(None, None, None, 0))
    plain = jax.jit(jax.vmap(over_seeds, in_axes=(0, 0, 0, None)))(which, factors, adapts, keys)
    bounded = jax.jit(jax.vmap(constrained))(keys)
    logits, coefficients = (np.concatenate([a, b[None]]) for a, b in zip(plain, bounded, strict=True))
    return logits, coefficients

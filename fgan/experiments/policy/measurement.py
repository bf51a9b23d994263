"""What policies are measured by: their exact gap to the optimum and their KL to it and to the prior, in float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softmax
from scipy.optimize import brentq

from estimators.objectives.policies import categorical_kl, policy_value, soft_value_iteration, visits
from fgan.experiments.policy.tasks import Task

SCORES = ("gap", "kl_optimum", "kl_prior")


def optimum(task: Task) -> dict[str, Any]:
    """log π*, J(π*), J(π₀), and E_s KL(π*‖π₀) over the states that π* visits, in float64."""
    with jax.enable_x64(True):
        table = task.rewards, task.transitions, task.prior
        best = soft_value_iteration(*table, beta=task.beta, discount=task.discount, tolerance=1e-13)
        before = policy_value(task.prior, *table, beta=task.beta, discount=task.discount)
        seen = visits(best.log_policy, task.transitions, task.start, discount=task.discount)
        return {
            "log_policy": np.asarray(best.log_policy),
            "value": float(task.start @ best.value),
            "prior": float(task.start @ before),
            "kl_prior": float(seen @ categorical_kl(best.log_policy, task.prior)),
        }


def measured(task: Task, logits: np.ndarray) -> dict[str, np.ndarray]:
    """gap, kl_optimum and kl_prior of policies [..., s, a], each [...]; exact, in float64."""
    best = optimum(task)

    def one(policy):
        table = task.rewards, task.transitions, task.prior
        value = policy_value(policy, *table, beta=task.beta, discount=task.discount)
        seen = visits(policy, task.transitions, task.start, discount=task.discount)
        kl = (seen @ categorical_kl(policy, jnp.asarray(other)) for other in (best["log_policy"], task.prior))
        return best["value"] - jnp.asarray(task.start) @ value, *kl

    with jax.enable_x64(True):
        flat = jnp.asarray(logits.reshape(-1, *logits.shape[-2:]), jnp.float64)
        # One after another: the batched solvers of one program wait for one another for ever on few CPU threads.
        found = [np.asarray(part).reshape(logits.shape[:-2]) for part in jax.lax.map(one, flat)]
    return dict(zip(SCORES, found))


def ends(task: Task) -> dict[str, float]:
    """The gaps that `none` and `k3` tend to on a bandit: those of the best action, and of the maximum of E_π r −
    β KL(π₀‖π), π_a = β π₀_a/(ν − r_a) with ν > max r such that they sum to 1."""
    log_prior = np.log(softmax(task.prior, axis=-1))
    reverse = np.zeros_like(log_prior)
    for s, r in enumerate(task.rewards):
        share = task.beta * np.exp(log_prior[s])
        nu = brentq(lambda nu: np.sum(share / (nu - r)) - 1.0, r.max() + 1e-9, r.max() + 1e3, xtol=1e-13)  # noqa: B023
        reverse[s] = np.log(share / (nu - r))
    greedy = np.where(task.rewards == task.rewards.max(axis=-1, keepdims=True), 0.0, -500.0)
    return {name: float(measured(task, table)["gap"]) for name, table in (("none", greedy), ("k3", reverse))}

"""The tabular problems of the policy experiment, each with a prior policy and a price for leaving it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Task(NamedTuple):
    """A tabular problem: rewards [s, a], transitions [s, a, s'], logits of the prior [s, a], the law of s_0 [s]."""

    rewards: np.ndarray
    transitions: np.ndarray
    prior: np.ndarray
    start: np.ndarray
    discount: float
    beta: float
    horizon: int  # steps of an episode; γ^horizon < 0.5 %
    episodes: int  # in a batch


def bandit() -> Task:
    """Eight contexts, six actions, rewards and prior logits from N(0, 1)."""
    rewards, prior = np.random.default_rng(0).normal(size=(2, 8, 6))
    law = np.full(8, 1 / 8)
    return Task(rewards, np.broadcast_to(law, (8, 6, 8)).copy(), prior, law, 0.0, 0.3, 1, 256)


def grid() -> Task:
    """A 4 × 4 grid: four moves, one in five slips to a random one; a corner pays 1 and sends back to the start, the
    cell beside it costs 1. The prior drifts away from the corner."""
    side, moves = 4, ((-1, 0), (1, 0), (0, -1), (0, 1))
    cells = [(i, j) for i in range(side) for j in range(side)]
    goal, pit, first = 15, 14, 0
    arrive = np.zeros((16, 4, 16))
    for s, (i, j) in enumerate(cells):
        for a, (di, dj) in enumerate(moves):
            i2, j2 = min(max(i + di, 0), side - 1), min(max(j + dj, 0), side - 1)
            arrive[s, a, side * i2 + j2] = 1.0
    transitions = 0.8 * arrive + 0.2 * arrive.mean(axis=1, keepdims=True)
    transitions[goal] = np.eye(16)[first]
    rewards = np.zeros((16, 4))
    rewards[goal], rewards[pit] = 1.0, -1.0
    prior = np.tile([0.5, 0.0, 0.5, 0.0], (16, 1))
    return Task(rewards, transitions, prior, np.full(16, 1 / 16), 0.8, 0.05, 24, 192)


TASKS: dict[str, Callable[[], Task]] = {"bandit": bandit, "grid": grid}

"""Critics trained side by side: each as it was in its best round, until none of them gains; compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.critics import early_stopping
from estimators.critics.early_stopping import (
    GAIN,
    QUICK,
    Fold,
    Objective,
    Schedule,
    fit_folds,
    outputs,
    quick_options,
)
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.table import DIVERGENCES

CRITICS, ROWS, POINTS = 3, 40, 2
SCHEDULE = Schedule(rounds=30, round_steps=5, batch=16, patience=2)
OBJECTIVES = [Objective("fenchel", "js"), Objective("fenchel", "kl"), Objective("donsker_varadhan", "kl")]


@pytest.fixture(autouse=True, scope="module")
def short(short_training):
    """A hundred steps need no optimised program."""


def folds(seed: int = 0, shift: float = 1.0) -> Fold:
    """A reference of 0 and two coordinates, the first of which tells P from Q."""
    rng = np.random.default_rng(seed)
    sides = rng.normal(size=(4, CRITICS, ROWS, 1 + POINTS)).astype(np.float32)
    sides[..., 0] = 0.0
    sides[::2, ..., 1] += shift
    return Fold(*map(jnp.asarray, sides))


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.bound} {o.divergence}")
def test_each_network_is_kept_as_it_was_when_its_validation_bound_was_highest(objective):
    best, course = fit_folds(jax.random.key(0), folds(), objective, SCHEDULE)
    history = np.asarray(course.validation[: 1 + int(course.rounds)])
    bound, d = BOUNDS[objective.bound], DIVERGENCES[objective.divergence]
    bounds = jax.jit(jax.vmap(lambda p, q: bound(d, p, q), in_axes=1))
    for c in range(CRITICS):
        networks = jax.tree.map(lambda w, c=c: w[:, c], best)
        on_p, on_q = (outputs(networks, rows[c]) for rows in (folds().validation_p, folds().validation_q))
        np.testing.assert_allclose(bounds(on_p, on_q), history[:, :, c].max(axis=0), atol=1e-5)
    assert (history.max(axis=0) > history[0] + GAIN).all()


def test_training_ends_when_no_network_has_gained_for_as_long_as_patience_lasts():
    _, course = fit_folds(jax.random.key(0), folds(), OBJECTIVES[0], SCHEDULE)
    done = int(course.rounds)
    bounds = np.asarray(course.validation[: 1 + done])
    gains = bounds[1:] > np.maximum.accumulate(bounds)[:-1] + GAIN
    assert SCHEDULE.patience < done < SCHEDULE.rounds
    assert not gains[done - SCHEDULE.patience :].any()
    assert all(gains[i - SCHEDULE.patience : i].any() for i in range(SCHEDULE.patience, done))
    assert np.isnan(course.validation[1 + done :]).all() and np.isfinite(course.train[1 : 1 + done]).all()


def test_a_shape_is_compiled_once():
    fit_folds(jax.random.key(0), folds(), OBJECTIVES[0], SCHEDULE)
    before = early_stopping.compiled_training()._cache_size()
    fit_folds(jax.random.key(1), folds(1, shift=3.0), OBJECTIVES[0], SCHEDULE)
    assert early_stopping.compiled_training()._cache_size() == before


def test_options_of_the_compiler_that_are_not_known_are_left_out(monkeypatch):
    assert quick_options.__wrapped__() == QUICK
    monkeypatch.setattr(early_stopping, "QUICK", {"xla_no_such_option": True})
    assert quick_options.__wrapped__() == {}

"""Neural log-ratios of one fold: no worse than their reference, within what validation rows get, padded at will."""

import numpy as np
import pytest

from estimators.critics.early_stopping import Fold, Schedule
from estimators.density_ratio.folds import blocks, cross_fits
from estimators.methods import neural
from estimators.methods.neural import Critic, fit_critics

SIZE = 60


def normals(seed: int):
    """x ~ N(0, I) and y ~ N(e₁, I) in the plane."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, SIZE, 2))
    return x, y + np.eye(2)[0]


@pytest.fixture(scope="module")
def folds() -> list[Fold]:
    x, y = normals(0)
    return [Fold(x[t.p], y[t.q], x[v.p], y[v.q]) for t, v, _ in cross_fits(blocks(SIZE, SIZE, 0))]


@pytest.fixture(scope="module")
def trained(folds, short_training) -> tuple[list[Critic], dict]:
    """A fortieth of the training: these laws hold whatever a critic learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", Schedule(rounds=3, round_steps=10, batch=32))
        return fit_critics(folds, 0)


@pytest.mark.slow
def test_a_critic_is_at_least_as_good_on_its_validation_rows_as_the_reference_it_starts_from(trained):
    held_out = np.array(trained[1]["history"]["held_out"])
    assert (held_out.max(axis=0) >= held_out[0]).all() and (held_out.max(axis=0) > held_out[0]).any()


def test_outside_the_validation_rows_a_critic_goes_no_further(folds, trained):
    far = np.array([[1e9, 0.0], [-1e9, 1e9], [0.0, -1e30]])
    for one, fold in zip(trained[0], folds, strict=True):
        inside = one(np.concatenate([fold.validation_p, fold.validation_q]))
        assert inside.min() <= one(far).min() and one(far).max() <= inside.max()


def test_padding_changes_nothing(trained):
    rows = normals(8)[0][:7]
    np.testing.assert_allclose(trained[0][0](rows, pad=50), trained[0][0](rows), atol=1e-6)

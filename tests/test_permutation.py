"""The permutation test: exact size whatever the critic, power where P and Q differ, groups kept whole."""

import numpy as np
import pytest

import estimators as est
from estimators import permutation
from estimators.estimation import BadArgument
from estimators.methods import neural
from estimators.samples.arrays import DataError


@pytest.fixture
def fixed(monkeypatch):
    """A critic that learns nothing: three times the first coordinate."""
    monkeypatch.setattr(permutation, "fit_critics", lambda *_, **__: ([lambda rows: 3.0 * rows[:, 0]] * 2, {}))


def sets(seed: int, n: int = 60, m: int = 60, shift: float = 0.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + shift, rng.normal(size=(m, 2))


@pytest.mark.slow
@pytest.mark.parametrize("divergence, m", [("js", 60), ("kl", 25), ("total_variation", 60)])
def test_the_size_is_exact(fixed, divergence, m):
    """P(p ≤ α) = α for equal laws and 39 relabellings of a continuous statistic; `total_variation` has ties, so ≤."""
    draws = 200
    p = np.array(
        [est.permutation_test(*sets(s, m=m), divergence, seed=s, permutations=39).p_value for s in range(draws)]
    )
    for level in (0.05, 0.25):
        share, error = np.mean(p <= level + 1e-12), np.sqrt(level * (1 - level) / draws)
        assert share < level + 3.5 * error
        assert divergence == "total_variation" or share > level - 3.5 * error


def test_p_values_count_the_statistic_itself(fixed):
    found = est.permutation_test(*sets(0, shift=3.0), permutations=19)
    assert found.p_value == pytest.approx(1 / 20)
    assert len(found.null) == 19 and found.statistic > found.null.max()
    assert found.n_p == found.n_q == 24  # two fifths of the rows test


def test_a_critic_without_opinion_rejects_nothing(monkeypatch):
    monkeypatch.setattr(permutation, "fit_critics", lambda *_, **__: ([lambda rows: 0.0 * rows[:, 0]] * 2, {}))
    assert est.permutation_test(*sets(0, shift=3.0)).p_value == 1.0


def test_rows_that_test_train_no_critic(monkeypatch):
    seen = []

    def fit(folds, seed, **_):
        seen.extend(folds)
        return [lambda rows: (tested.append(rows), rows[:, 0])[1]] * 2, {}

    tested: list[np.ndarray] = []
    monkeypatch.setattr(permutation, "fit_critics", fit)
    x, y = sets(1)
    est.permutation_test(x, y, permutations=1)
    trained = np.concatenate([rows for fold in seen for rows in fold[:4]])
    fresh = np.concatenate(tested)
    assert len(seen) == 2 and not set(map(bytes, fresh)) & set(map(bytes, trained))
    np.testing.assert_array_equal(seen[0].train_p, seen[1].validation_p)


def test_different_laws_are_told_apart(monkeypatch):
    monkeypatch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=2))
    found = est.permutation_test(*sets(0, 300, 300, shift=0.7), permutations=199)
    assert found.p_value == 1 / 200 and found.statistic > 0.0


@pytest.mark.slow
def test_groups_are_relabelled_whole(fixed):
    """Rows measured eight times are no more evidence than once: with groups the size holds, without it is lost."""
    draws, copies = 120, 8
    labels = np.repeat(np.arange(15), copies), 100 + np.repeat(np.arange(15), copies)

    def share(groups):
        p = [
            est.permutation_test(
                *(
                    np.repeat(rows, copies, axis=0) + 1e-6 * np.random.default_rng(s).normal(size=(120, 2))
                    for rows in sets(s, 15, 15)
                ),
                seed=s,
                permutations=39,
                groups=groups,
            ).p_value
            for s in range(draws)
        ]
        return np.mean(np.array(p) <= 0.05 + 1e-12)

    assert share(labels) < 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / draws)
    assert share(None) > 0.05 + 3.5 * np.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize(
    "options, error, reason",
    [
        ({"permutations": 0}, BadArgument, "at least 1"),
        ({"groups": (np.arange(60), np.arange(60))}, BadArgument, "both sets"),
        ({"seed": -1}, BadArgument, "from 0 to"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, error, reason):
    with pytest.raises(error, match=reason):
        est.permutation_test(*sets(0), **options)


def test_constant_columns_leave_nothing_to_test():
    with pytest.raises(DataError, match="nothing to test"):
        est.permutation_test(np.ones((20, 2)), np.ones((25, 2)))


def test_the_same_sets_are_no_evidence_and_both_say_so():
    x, _ = sets(2)
    for other in (x.copy(), x[::-1]):
        found = est.permutation_test(x, other, permutations=19)
        assert (found.p_value, found.statistic, len(found.null)) == (1.0, 0.0, 19)
        assert any("same content" in w for w in found.warnings) and "array" not in repr(found)


@pytest.mark.slow
def test_rows_of_both_sets_and_repeated_rows_are_left_out(fixed):
    """The size is that of the rows left, whatever was shared; without it every test rejects from some share on."""
    draws, p = 200, []
    for seed in range(draws):
        x, y = sets(seed, 80, 80)
        y[:40] = x[:40]
        y[70:] = y[69]
        p.append(est.permutation_test(x, y, seed=seed, permutations=39))
    share, error = np.mean([t.p_value <= 0.05 + 1e-12 for t in p]), np.sqrt(0.05 * 0.95 / draws)
    assert abs(share - 0.05) < 3.5 * error
    assert p[0].n_p == 16 and p[0].n_q == 12  # two fifths of 40 and of 30
    assert any("50 of 80 rows left out" in w for w in p[0].warnings)


@pytest.mark.slow
def test_atoms_and_rounded_numbers_stay_in_the_test(fixed):
    """Equal values of independent draws are no copies: nothing is left out, and the size holds with unequal sets."""
    draws, p = 200, []
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        x, y = (np.where(rng.random((k, 1)) < 0.3, 0.0, np.round(rng.normal(size=(k, 1)), 2)) for k in (60, 300))
        p.append(est.permutation_test(x, y, seed=seed, permutations=39))
    error = np.sqrt(0.05 * 0.95 / draws)
    assert np.mean([t.p_value <= 0.05 + 1e-12 for t in p]) < 0.05 + 3.5 * error
    assert not any("left out" in w for t in p for w in t.warnings)


def test_too_few_rows_beside_copies_are_refused():
    x, y = sets(3)
    with pytest.raises(DataError, match="60 of 60 rows left out"):
        est.permutation_test(x, np.concatenate([x, y]))


def test_codes_keep_their_repetitions(fixed):
    rng = np.random.default_rng(0)
    found = est.permutation_test(rng.integers(0, 4, (60, 1)), rng.integers(0, 4, (60, 1)), permutations=19)
    assert found.n_p == 24 and not any("left out" in w or "independent" in w for w in found.warnings)

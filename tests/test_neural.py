"""The cross-fitted critic: blind to its held-out rows, the same for a seed, compiled once, chosen by the judging rows.

Training is cut short throughout: these laws hold whatever a critic learned. How well it learns is in test_estimation.
"""

import math

import jax
import numpy as np
import pytest

import estimators as est
from estimators.density_ratio.plug_in import lower_bound
from estimators.methods import neural
from estimators.samples.arrays import DataError
from estimators.samples.folds import BLOCKS, blocks, cross_fits

SIZE, DIM = 60, 2
ROUNDS = 3  # fewer than PATIENCE: every critic is trained as long, whatever the others do
CRITICS = 2 * BLOCKS
full = neural.fit_folds.__wrapped__
quick = jax.jit(lambda key, folds, objective: full(key, folds, objective), static_argnames="objective")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A fortieth of the training."""
    monkeypatch.setattr(neural, "ROUNDS", ROUNDS)
    monkeypatch.setattr(neural, "ROUND_STEPS", 10)
    monkeypatch.setattr(neural, "BATCH", 32)
    monkeypatch.setattr(neural, "fit_folds", quick)


def normals(seed: int, shift: float = 1.0, n: int = SIZE, d: int = DIM):
    """x ~ N(0, I) and y ~ N(shift·e₁, I)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, d))
    return x, y + shift * np.eye(d)[0]


CUT = blocks(SIZE, SIZE, 0)
FITS: dict[int, tuple] = {}


def fit(seed: int = 0):
    """(held-out log-ratios, the mean critic, figures) of one pair of sample sets."""
    if seed not in FITS:
        FITS[seed] = neural.cross_fit(*normals(0), CUT, seed)
    return FITS[seed]


# --- what critics see -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", "pq")
@pytest.mark.parametrize("block", [0, 3])
def test_a_critic_never_sees_its_held_out_rows(side, block):
    """Absurd values in half of a block move every critic but the two that are reported on it."""
    x, y = normals(0)
    held = getattr(CUT[block], side)
    poisoned, clean = held[: len(held) // 2], held[len(held) // 2 :]
    (x if side == "p" else y)[poisoned] = [50.0, -70.0]
    found, plain = neural.cross_fit(x, y, CUT, 0)[0], fit()[0]
    names = {"p": "log_p", "q": "log_q"}
    same = {"p": CUT[block].p, "q": CUT[block].q} | {side: clean}
    for s, rows in same.items():
        a, b = getattr(found, names[s]), getattr(plain, names[s])
        np.testing.assert_array_equal(a[:, rows], b[:, rows])
        others = np.setdiff1d(np.arange(SIZE), getattr(CUT[block], s))
        assert np.mean(a[:, others] != b[:, others]) > 0.9


def test_the_two_critics_of_a_row_come_from_different_training():
    log_p, log_q = fit()[0]
    assert np.mean(log_p[0] != log_p[1]) == np.mean(log_q[0] != log_q[1]) == 1.0
    assert np.corrcoef(*log_p)[0, 1] > 0.3


def test_between_samples_of_one_distribution_nothing_is_found():
    """Rows that trained the critic they are scored by would show."""
    fits = [neural.estimate(*normals(seed, shift=0.0), [est.divergence("js")])[0] for seed in range(6)]
    bounds = [e.diagnostics["lower_bound"] for e in fits]
    assert np.mean(bounds) <= 3.0 * np.std(bounds, ddof=1) / math.sqrt(len(fits))
    assert all(abs(e.value) < 3.3 * e.standard_error for e in fits)


def test_held_out_rows_of_the_two_sets_are_told_apart():
    """Enough rows that the median of n log-ratios, ±0.5 for the truth, has a standard error below 0.1."""
    log_p, log_q = neural.cross_fit(*normals(0, n=300), blocks(300, 300, 0), 0)[0]
    for c in range(2):
        assert np.median(log_p[c]) > 0.2 > -0.2 > np.median(log_q[c])


# --- seeds and shapes -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    again = neural.cross_fit(*normals(0), CUT, 0)
    np.testing.assert_array_equal(again[0].log_p, fit()[0].log_p)
    np.testing.assert_array_equal(again[1](normals(1)[0]), fit()[1](normals(1)[0]))
    assert (fit(1)[0].log_p != fit()[0].log_p).any()


def test_a_shape_is_compiled_once():
    fit()
    before = quick._cache_size()
    for seed in (5, 6):
        neural.estimate(*normals(seed), [est.divergence("kl")], seed=seed)
        neural.estimate(*normals(seed, shift=9.0), [est.divergence("pearson")], seed=seed)
    assert quick._cache_size() == before


def test_blocks_that_differ_by_a_row_lose_one_at_most():
    """61 and 63 rows: blocks of 12 and 13; every row has its two log-ratios."""
    x, y = (rows[:k] for rows, k in zip(normals(2, n=63), (61, 63), strict=True))
    held_out, _, _ = neural.cross_fit(x, y, blocks(61, 63, 0), 0)
    assert held_out.log_p.shape == (2, 61) and held_out.log_q.shape == (2, 63)
    assert np.isfinite(held_out.log_p).all() and np.isfinite(held_out.log_q).all()


def test_groups_reach_the_blocks():
    """Every row twice: a critic must not be trained on the twin of a row it is reported on."""
    x, y = (np.repeat(rows, 2, axis=0) for rows in normals(4, shift=0.0, n=SIZE // 2))
    labels = np.repeat(np.arange(SIZE // 2), 2), 100 + np.repeat(np.arange(SIZE // 2), 2)
    kl = [est.divergence("kl")]
    (whole,) = neural.estimate(x, y, kl, groups=labels)
    log_p = whole.scores.log_p
    np.testing.assert_array_equal(log_p[::2], log_p[1::2])
    assert (np.diff(neural.estimate(x, y, kl)[0].scores.log_p.reshape(-1, 2)) != 0.0).mean() > 0.5


# --- the course of training -------------------------------------------------------------------------------------------


def test_history_is_the_bound_of_each_network_round_by_round():
    figures = fit()[2]
    history, networks = figures["history"], len(neural.DECAYS) * CRITICS
    assert history["steps"] == [10 * i for i in range(ROUNDS + 1)]
    train, held_out = np.array(history["train"]), np.array(history["held_out"])
    assert train.shape == held_out.shape == (ROUNDS + 1, networks)
    assert np.isnan(train[0]).all() and np.isfinite(train[1:]).all() and np.isfinite(held_out).all()
    np.testing.assert_array_equal(figures["best_round"], held_out.argmax(axis=0))


def test_the_gap_is_the_bound_on_rows_that_trained_less_that_on_rows_held_out():
    held_out, _, figures = fit()
    reached = [lower_bound(est.divergence("js"), scores)[0] for scores in held_out.each()]
    assert len(figures["trained_bound"]) == CRITICS
    assert figures["train_minus_held_out"] == pytest.approx(np.mean(figures["trained_bound"]) - np.mean(reached))


def folds_of(x, y) -> list[neural.Fold]:
    parts = [part for pair in cross_fits(CUT) for part in pair]
    return [neural.Fold(x[t.p], y[t.q], x[j.p], y[j.q]) for t, j, _ in parts]


def test_a_critic_is_at_least_as_good_on_its_judging_rows_as_the_reference_it_starts_from():
    folds = folds_of(*normals(0))
    held_out = np.array(neural.fit_critics(folds, 0)[1]["history"]["held_out"])
    assert (held_out.max(axis=0) >= held_out[0]).all() and (held_out.max(axis=0) > held_out[0]).any()


def test_beyond_the_judging_rows_a_critic_goes_no_further():
    folds = folds_of(*normals(0))
    critics, _ = neural.fit_critics(folds, 0)
    far = np.array([[1e9, 0.0], [-1e9, 1e9], [0.0, -1e30]])
    for critic, fold in zip(critics, folds, strict=True):
        judged = critic(np.concatenate([fold.judge_p, fold.judge_q]))
        assert judged.min() <= critic(far).min() and critic(far).max() <= judged.max()


def test_padding_changes_nothing():
    folds = folds_of(*normals(0))
    critics, _ = neural.fit_critics(folds, 0)
    rows = normals(8)[0][:7]
    np.testing.assert_allclose(critics[0](rows, pad=50), critics[0](rows), atol=1e-6)


def test_more_rows_than_are_used_are_cut_to_as_many(monkeypatch):
    monkeypatch.setattr(neural, "MOST", 20)

    def fit_critics(folds, *_):
        return [lambda rows, pad: rows[:, 0]] * len(folds), {"folds": folds, "trained_bound": [0.0]}

    monkeypatch.setattr(neural, "fit_critics", fit_critics)
    _, _, figures = neural.cross_fit(*normals(0), CUT, 0)
    assert {len(rows) for fold in figures["folds"] for rows in fold} == {20}


# --- what is returned -------------------------------------------------------------------------------------------------


def test_an_estimate_says_what_it_is():
    (e,) = neural.estimate(*normals(0), [est.divergence("kl")], confidence=0.9)
    assert (e.divergence, e.method, e.n_p, e.n_q, e.dim, e.confidence) == ("kl", "neural", SIZE, SIZE, DIM, 0.9)
    assert {"history", "best_round", "lower_bound", "train_minus_held_out", "calibration"} <= set(e.diagnostics)
    assert math.isfinite(e.value) and e.log_ratio(normals(9)[0]).shape == (SIZE,)


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="10 a side"):
        neural.estimate(*normals(0, n=9), [est.divergence("kl")])

"""Cross-fitted critics: blind to their held-out rows, the same for a seed, compiled once.

Training is cut short throughout: these laws hold whatever a critic learned. How well it learns is in test_estimation.
"""

import math

import numpy as np
import pytest

import estimators as est
from estimators.contract import Fit, Request
from estimators.critics import early_stopping
from estimators.critics.early_stopping import DECAYS, Schedule
from estimators.density_ratio.folds import BLOCKS, HeldOut, Rows, blocks
from estimators.density_ratio.plug_in import lower_bound
from estimators.methods import neural
from estimators.samples.arrays import DataError

SIZE, DIM = 60, 2
ROUNDS = 3  # fewer than the patience: every critic is trained as long, whatever the others do
CRITICS = 2 * BLOCKS


@pytest.fixture(autouse=True)
def short(monkeypatch, short_training):
    """A fortieth of the training."""
    monkeypatch.setattr(neural, "SCHEDULE", Schedule(rounds=ROUNDS, round_steps=10, batch=32))


def normals(seed: int, shift: float = 1.0, n: int = SIZE, d: int = DIM):
    """x ~ N(0, I) and y ~ N(shift·e₁, I)."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, n, d))
    return x, y + shift * np.eye(d)[0]


CUT = blocks(SIZE, SIZE, 0)
FITS: dict[int, HeldOut] = {}


def request(x, y, name: str = "kl", **options) -> Request:
    return Request(x=x, y=y, divergences=[est.divergence(name)], method="neural", **options)


def fit(seed: int = 0) -> HeldOut:
    """What critics make of one pair of sample sets, without training them again."""
    if seed not in FITS:
        FITS[seed] = neural.cross_fit(request(*normals(0), seed=seed), CUT)
    return FITS[seed]


# --- what critics see -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("side", "pq")
@pytest.mark.parametrize("block", [0, 3])
def test_a_critic_never_sees_its_held_out_rows(side, block):
    """Absurd values in half of a block move every critic but the two that are reported on it."""
    x, y = normals(0)
    held = getattr(CUT[block], side)
    poisoned, clean = held[: len(held) // 2], held[len(held) // 2 :]
    (x if side == "p" else y)[poisoned] = [50.0, -70.0]
    found, plain = neural.cross_fit(request(x, y), CUT), fit()
    names = {"p": "log_p", "q": "log_q"}
    same = {"p": CUT[block].p, "q": CUT[block].q} | {side: clean}
    for s, rows in same.items():
        a, b = getattr(found, names[s]), getattr(plain, names[s])
        np.testing.assert_array_equal(a[:, rows], b[:, rows])
        others = np.setdiff1d(np.arange(SIZE), getattr(CUT[block], s))
        assert np.mean(a[:, others] != b[:, others]) > 0.9


def test_the_two_critics_of_a_row_come_from_different_training():
    log_p, log_q = fit()[:2]
    assert np.mean(log_p[0] != log_p[1]) == np.mean(log_q[0] != log_q[1]) == 1.0
    assert np.corrcoef(*log_p)[0, 1] > 0.3


@pytest.mark.slow
def test_between_samples_of_one_distribution_nothing_is_found():
    """Rows that trained the critic they are scored by would show."""
    found = [neural.estimate(request(*normals(seed, shift=0.0), "js")).intervals[0] for seed in range(6)]
    bounds = [e.diagnostics["lower_bound"] for e in found]
    assert np.mean(bounds) <= 3.0 * np.std(bounds, ddof=1) / math.sqrt(len(found))
    assert all(abs(e.value) < 3.3 * e.standard_error for e in found)


@pytest.mark.slow
def test_held_out_rows_of_the_two_sets_are_told_apart():
    """Enough rows that the median of n log-ratios, ±0.5 for the truth, has a standard error below 0.1."""
    log_p, log_q = neural.cross_fit(request(*normals(0, n=300)), blocks(300, 300, 0))[:2]
    for c in range(2):
        assert np.median(log_p[c]) > 0.2 > -0.2 > np.median(log_q[c])


# --- seeds and shapes -------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    again = neural.cross_fit(request(*normals(0)), CUT)
    np.testing.assert_array_equal(again.log_p, fit().log_p)
    np.testing.assert_array_equal(again.log_ratio(normals(1)[0]), fit().log_ratio(normals(1)[0]))
    assert (fit(1).log_p != fit().log_p).any()


def test_a_shape_is_compiled_once():
    fit()
    before = early_stopping.compiled_training()._cache_size()
    for seed in (5, 6):
        neural.estimate(request(*normals(seed), seed=seed))
        neural.estimate(request(*normals(seed, shift=9.0), "pearson", seed=seed))
    assert early_stopping.compiled_training()._cache_size() == before


def test_blocks_that_differ_by_a_row_lose_one_at_most():
    """61 and 63 rows: blocks of 12 and 13; every row has its two log-ratios."""
    x, y = (rows[:k] for rows, k in zip(normals(2, n=63), (61, 63), strict=True))
    held_out = neural.cross_fit(request(x, y), blocks(61, 63, 0))
    assert held_out.log_p.shape == (2, 61) and held_out.log_q.shape == (2, 63)
    assert np.isfinite(held_out.log_p).all() and np.isfinite(held_out.log_q).all()


def test_groups_reach_the_blocks():
    """Every row twice: a critic must not be trained on the twin of a row it is reported on."""
    x, y = (np.repeat(rows, 2, axis=0) for rows in normals(4, shift=0.0, n=SIZE // 2))
    labels = np.repeat(np.arange(SIZE // 2), 2), 100 + np.repeat(np.arange(SIZE // 2), 2)
    grouped, naive = (neural.estimate(request(x, y, groups=g)).scores.log_p for g in (labels, None))
    np.testing.assert_array_equal(grouped[::2], grouped[1::2])
    assert (np.diff(naive.reshape(-1, 2)) != 0.0).mean() > 0.5


# --- the course of training -------------------------------------------------------------------------------------------


def test_history_is_the_bound_of_each_network_round_by_round():
    figures = fit().diagnostics
    history, networks = figures["history"], len(DECAYS) * CRITICS
    assert history["steps"] == [10 * i for i in range(ROUNDS + 1)]
    train, held_out = np.array(history["train"]), np.array(history["held_out"])
    assert train.shape == held_out.shape == (ROUNDS + 1, networks)
    assert np.isnan(train[0]).all() and np.isfinite(train[1:]).all() and np.isfinite(held_out).all()
    np.testing.assert_array_equal(figures["best_round"], held_out.argmax(axis=0))


def test_the_gap_is_the_bound_on_rows_that_trained_less_that_on_rows_held_out():
    held_out, figures = fit(), fit().diagnostics
    reached = [lower_bound(est.divergence("js"), scores)[0] for scores in held_out.each()]
    assert len(figures["trained_bound"]) == CRITICS
    assert figures["train_minus_held_out"] == pytest.approx(np.mean(figures["trained_bound"]) - np.mean(reached))


def test_more_rows_than_are_used_are_cut_to_as_many(monkeypatch):
    monkeypatch.setattr(neural, "MOST", 20)

    def fit_critics(folds, *_):
        return [Numbered(0)] * len(folds), {"folds": folds, "trained_bound": [0.0]}

    monkeypatch.setattr(neural, "fit_critics", fit_critics)
    figures = neural.cross_fit(request(*normals(0)), CUT).diagnostics
    assert {len(rows) for fold in figures["folds"] for rows in fold[:4]} == {20}


# --- what is returned -------------------------------------------------------------------------------------------------


def test_a_fit_holds_what_critics_found():
    found: Fit = neural.estimate(request(*normals(0)))
    assert found.method == "neural" and math.isfinite(found.intervals[0].value)
    assert {"history", "best_round", "train_minus_held_out", "calibration"} <= set(found.diagnostics)
    assert found.log_ratio(normals(9)[0]).shape == found.scores.log_p.shape == (SIZE,)


def test_too_few_rows_are_refused():
    with pytest.raises(DataError, match="10 a side"):
        neural.estimate(request(*normals(0, n=9)))


# --- half of the rows -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_half_of_the_rows_are_every_second_one_or_those_of_every_second_group(columns):
    """Whole groups, whichever set their rows are in; a row of several groups goes with its first."""
    rng = np.random.default_rng(0)
    rows = Rows(rng.permutation(100)[:60], rng.permutation(90)[:50])
    labels = [rng.integers(0, 30, k) for k in (100, 90)]
    groups = [k if columns == 1 else np.column_stack([k, rng.integers(0, 30, len(k))]) for k in labels]
    half = neural.halved(rows, tuple(groups) if columns else None)
    if not columns:
        np.testing.assert_array_equal(half.p, rows.p[::2])
        np.testing.assert_array_equal(half.q, rows.q[::2])
        return
    for all_rows, kept, of in zip(rows, half, labels, strict=True):
        np.testing.assert_array_equal(kept, all_rows[of[all_rows] % 2 == 0])


class Numbered:
    """A critic whose log-ratios are its number, and its references' the opposite of that."""

    def __init__(self, number: int):
        self.number, self.features = float(number), self

    def __call__(self, rows, pad=0):
        return np.full(len(rows), self.number)

    def reference(self, rows):
        return -self(rows)


@pytest.mark.parametrize("n", [600, SIZE])
def test_the_rows_of_two_blocks_are_followed_from_half_of_the_rows_to_all(monkeypatch, n):
    def fit_critics(folds, *_):
        return list(map(Numbered, range(len(folds)))), {"trained_bound": [0.0]}

    monkeypatch.setattr(neural, "fit_critics", fit_critics)
    cut = blocks(n, n, 0)
    learning = neural.cross_fit(request(*normals(0, n=n)), cut).learning
    if n == SIZE:
        assert learning is None  # too few
        return
    followed = np.concatenate([cut[0].p, cut[1].p])
    np.testing.assert_array_equal(learning.rows.p, followed)
    critics = np.repeat([[0.0, 2.0], [1.0, 3.0]], n // BLOCKS, axis=1)
    np.testing.assert_array_equal(learning.now.log_p, critics)
    np.testing.assert_array_equal(learning.before.log_q, CRITICS + critics)
    np.testing.assert_array_equal(learning.references.log_p, -critics)

"""Mutual information: pairs that share no block, bounds on the right side, one truth by six ways."""

import math

import numpy as np
import pandas as pd
import pytest

import estimators as est
from estimators import information
from estimators.contract import Scores
from estimators.density_ratio.folds import HeldOut
from estimators.distributions.product import AdditiveNoise
from estimators.estimation import BadArgument
from estimators.information import INFORMATION, pairs
from estimators.methods import neural
from estimators.methods.auto import Choice
from estimators.samples.arrays import DataError, as_samples

RHO = 0.8
TRUTH = -math.log(1.0 - RHO**2)  # two pairs of coordinates, −½ log(1 − ρ²) each
N = 1500


def correlated(seed: int, n: int = N, rho: float = RHO) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    return x, rho * x + math.sqrt(1.0 - rho**2) * rng.normal(size=(n, 2))


def untrained(request, *_) -> HeldOut:
    """In place of critics: log-ratios of Gaussian noise."""
    rng = np.random.default_rng(0)
    log_p, log_q = (rng.normal(shift, 1.0, (2, len(rows))) for shift, rows in ((0.5, request.x), (-0.5, request.y)))
    return HeldOut(log_p, log_q, lambda points: points.sum(axis=1), {})


@pytest.fixture(scope="module", autouse=True)
def short(short_training):
    """A twelfth of the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=4, round_steps=20, batch=64))
        yield


@pytest.fixture(scope="module")
def found(short) -> dict[str, est.Estimate]:
    """Each method on the same pairs, trained a fifth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=4, batch=64))
        return {m: est.mutual_information(*correlated(0), method=m, seed=1) for m in INFORMATION}


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partners", [1, 4, 30])
def test_no_row_of_the_product_is_a_pair_and_none_leaves_its_block(partners):
    x = np.arange(60.0)[:, None]
    made = pairs(x, x + 1000.0, partners, seed=0)
    first, second = made.product[:, 0].astype(int), made.product[:, 1].astype(int) - 1000
    assert len(first) == 60 * partners
    np.testing.assert_array_equal(first, np.repeat(np.arange(60), partners))
    np.testing.assert_array_equal(np.stack([first, second], axis=1), made.units[1])
    block = np.empty(60, int)
    for k, rows in enumerate(made.cut):
        block[rows.p] = k
        np.testing.assert_array_equal(np.unique(first[rows.q]), np.sort(rows.p))
    np.testing.assert_array_equal(block[first], block[second])
    assert not np.any(first == second)


def test_each_half_appears_equally_often_in_the_product():
    x = np.arange(50.0)[:, None]
    made = pairs(x, x, 4, seed=0)
    assert set(np.bincount(made.product[:, 1].astype(int))) == {4}


# --- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("method", ["auto", "js", "nwj", "dv"])
def test_the_truth_lies_near_the_estimate(found, method):
    e = found[method]
    assert abs(e.value - TRUTH) < 4 * e.standard_error < 0.3 * TRUTH
    assert e.low < e.value < e.high and e.divergence == "mutual_information"
    assert (e.n_p, e.dim) == (N, 4)


@pytest.mark.slow
def test_bounds_keep_to_their_side(found):
    below, above = found["infonce"], found["upper"]
    assert below.value - 3 * below.standard_error < TRUTH < above.value + 3 * above.standard_error
    assert above.value > TRUTH + RHO**2  # I + KL(Q‖P), which is at least as large for Gaussians
    assert any(f"log {information.CANDIDATES}" in w for w in below.warnings)


@pytest.mark.slow
def test_auto_gives_its_reason_and_every_bound(found):
    e = found["auto"]
    assert e.method == "js" and "auto chose" in e.diagnostics["choice"]
    assert set(e.diagnostics["bounds"]) == set(information.BOUNDS)
    assert e.value == found["js"].value


@pytest.mark.slow
def test_the_ratio_is_that_of_joint_and_product(found):
    x, z = correlated(7)
    exact = sum(
        (RHO * x[:, j] * z[:, j] - 0.5 * RHO**2 * (x[:, j] ** 2 + z[:, j] ** 2)) / (1 - RHO**2) for j in range(2)
    )
    assert np.corrcoef(found["js"].log_ratio(np.concatenate([x, z], axis=1)), exact)[0, 1] > 0.95


def test_independent_pairs_have_none():
    x, z = correlated(3, rho=0.0)
    e = est.mutual_information(x, z)
    assert e.low <= 0.0 <= e.high and abs(e.value) < 0.02


# --- functions and copies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "nwj"])
def test_functions_of_each_other_have_infinite_information(method):
    x, z = correlated(0, 100)
    e = est.mutual_information(x, np.column_stack([z, x.sum(axis=1)]), method=method)
    assert (e.value, e.low, e.high, e.method) == (math.inf, math.inf, math.inf, "exact")
    assert any("x columns 0, 1 and z column 2" in w for w in e.warnings)


@pytest.mark.parametrize("method, high", [("auto", math.inf), ("js", math.inf), ("nwj", None)])
def test_what_looks_like_a_function_leaves_the_upper_end_open(monkeypatch, method, high):
    monkeypatch.setattr(neural, "cross_fit", untrained)
    x, _ = correlated(0, 300)
    e = est.mutual_information(x[:, :1], x[:, :1] ** 3, method=method)
    assert e.low < e.value < math.inf and (e.high == high or (high is None and e.high < math.inf))
    assert any("as far as 300 rows can tell" in w for w in e.warnings)


def test_predictions_correct_critics_that_found_too_little(monkeypatch):
    monkeypatch.setattr(neural, "cross_fit", untrained)
    x, z = correlated(0, 300)
    e = est.mutual_information(x[:, :1], np.sin(x[:, :1]) + 0.003 * z[:, 1:])
    assert 4.0 < e.value < e.high == math.inf
    assert any("z column 0 follows from x column 0 with at least" in w for w in e.warnings)


def test_where_no_gaussian_fits_the_upper_end_is_open(monkeypatch):
    monkeypatch.setattr(neural, "cross_fit", untrained)
    monkeypatch.setattr(information, "choose", lambda *_, **__: Choice("telescoping", "the sets are far apart"))
    x, z = correlated(0, 60)
    e = est.mutual_information(np.column_stack([x, x[:, 0] + 1e-10 * z[:, 1]]), z)
    assert e.high == math.inf and any("columns that depend linearly" in w for w in e.warnings)


FRAMES = (
    pd.DataFrame({"id": [f"n{i}" for i in range(60)], "zip": np.arange(60) % 3, "x": correlated(0, 60)[0][:, 0]}),
    pd.DataFrame({"day": 1.0, "z": correlated(0, 60)[1][:, 0], "w": np.where(np.arange(60) % 2, "u", "v")}),
)


@pytest.mark.parametrize(
    "drop, categorical", [(["id", "day"], ["zip"]), ((["id"], ["day"]), (["zip"], [])), (["id", "day"], (["zip"], []))]
)
def test_columns_of_either_side_are_dropped_or_categories(monkeypatch, drop, categorical):
    """By a name that either has, or as a pair of lists; words are categories anyway."""
    seen = []
    monkeypatch.setattr(information, "pairs", lambda x, z, *rest: seen.append((x, z)) or pairs(x, z, *rest))
    monkeypatch.setattr(neural, "cross_fit", untrained)
    est.mutual_information(*FRAMES, drop=drop, categorical=categorical)
    ((x, z),) = seen
    np.testing.assert_array_equal(x, np.column_stack([FRAMES[0].zip == 1, FRAMES[0].zip == 2, FRAMES[0].x]))
    np.testing.assert_array_equal(z, np.column_stack([FRAMES[1].z, FRAMES[1].w == "v"]))


def test_columns_by_number_say_on_which_side_they_are(monkeypatch):
    x, z = correlated(0, 60)
    seen = []
    monkeypatch.setattr(information, "pairs", lambda x, z, *rest: seen.append((x, z)) or pairs(x, z, *rest))
    monkeypatch.setattr(neural, "cross_fit", untrained)
    est.mutual_information(x, z, drop=([1], [0]))
    np.testing.assert_array_equal(np.concatenate(seen[0], axis=1), np.column_stack([x[:, 0], z[:, 1]]))
    for drop in ([0], ["id"], [0, 1]):
        with pytest.raises(BadArgument, match=r"neither x nor z.*drop=\(\[columns of x\], \[columns of z\]\)"):
            est.mutual_information(x, z, drop=drop)
    with pytest.raises(DataError, match="z: no column '2'; the columns are 0, 1"):
        est.mutual_information(x, z, drop=([], [2]))


def test_messages_name_the_columns_of_the_input(monkeypatch):
    """Not those that are left when constants, dropped and dependent columns are gone and categories are indicators."""
    monkeypatch.setattr(neural, "cross_fit", untrained)
    x, z = correlated(0, 300)
    frame = pd.DataFrame({"w": np.where(z[:, 1] > 0, "u", "v"), "c": 1.0, "g": "only", "a": x[:, 0], "b": 2 * x[:, 0]})
    e = est.mutual_information(frame.assign(w=np.resize(list("uvw"), 300)), np.column_stack([z, x[:, 0]]))
    said = "\n".join(e.warnings)
    kept, left = ("4 (b)", "3 (a)") if "others: column 3" in said else ("3 (a)", "4 (b)")  # either will do
    assert e.value == math.inf and f"x column {kept} and z column 2 determine each other linearly" in said
    assert "x: left out what is constant and carries no information: columns 1 (c), 2 (g)" in said
    assert f"x: left out columns that follow linearly from others: column {left}" in said
    e = est.mutual_information(frame, np.column_stack([x[:, 1], x[:, 0] ** 3]), drop=["g"])
    assert any("z column 1 follows from x column 3 (a)" in w for w in e.warnings)


def test_the_ratio_takes_all_columns_of_the_input(monkeypatch):
    monkeypatch.setattr(neural, "cross_fit", untrained)
    x, z = correlated(0, 60)
    e, plain = (est.mutual_information(side, z) for side in (np.column_stack([np.ones(60), x[:, 0]]), x[:, 0]))
    points = np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    assert (e.dim, plain.dim) == (4, 3)
    np.testing.assert_array_equal(e.log_ratio(points), plain.log_ratio(points[:, 1:]))


def test_columns_that_follow_from_others_of_their_side_are_left_out():
    x, z = correlated(0, 60)
    sides = as_samples(x), as_samples(np.column_stack([z, z[:, 0] - z[:, 1]]), name="z")
    kept, other, _, notes, _ = information._checked(*sides, None)
    assert kept.shape == other.shape == (60, 2)
    assert notes == ["z: left out columns that follow linearly from others: column 2 (counting from 0)"]


def test_copies_of_pairs_share_a_group():
    x, z = correlated(0, 60)
    labels, words = information._copies(np.repeat(x, 2, axis=0), np.repeat(z, 2, axis=0))
    assert labels is not None
    np.testing.assert_array_equal(labels[::2], labels[1::2])
    assert len(np.unique(labels)) == 60 and words.startswith("60 of 120 pairs")
    levels = np.round(x), np.round(z)
    for sides in ((x, z), levels, tuple(side / 3.0 for side in levels)):  # values of a law repeat; they are no copies
        assert information._copies(*sides) == (None, "")


# --- bounds from known scores -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", information.BOUNDS)
def test_bounds_of_the_true_ratio(name):
    rng = np.random.default_rng(0)
    n, k = 20_000, 40
    sigma = 1.0  # of a Gaussian log-ratio: mean ±σ²/2 under P and Q, so I = ½
    log_p, log_q = rng.normal(0.5, sigma, n), rng.normal(-0.5, sigma, n * k)
    units = np.arange(n), np.repeat(np.arange(n), k)
    value, error = information.BOUNDS[name].value(Scores(log_p, log_q), units)
    expected = {"upper": 1.0, "infonce": None}.get(name, 0.5)
    if expected is None:
        assert 0.45 < value < 0.5
    else:
        assert abs(value - expected) < 4 * error < 0.1


def test_infonce_cannot_pass_its_ceiling():
    scores = Scores(np.full(10, 50.0), np.zeros(30))
    value, _ = information.BOUNDS["infonce"].value(scores, (np.arange(10), np.repeat(np.arange(10), 3)))
    assert value == pytest.approx(math.log(4.0))


def test_smile_clips_only_the_product():
    scores = Scores(np.full(10, 9.0), np.full(10, -9.0))
    units = np.arange(10), np.arange(10)
    assert information.BOUNDS["smile"].value(scores, units)[0] == pytest.approx(9.0 + information.CLIP)
    assert information.BOUNDS["dv"].value(scores, units)[0] == pytest.approx(18.0)


@pytest.mark.slow
def test_nwj_is_the_lower_bound_of_kl_at_the_same_scores(found):
    """So its formula stands once: with the critics of `auto` both are one number."""
    diagnostics = found["auto"].diagnostics
    assert diagnostics["bounds"]["nwj"]["value"] == diagnostics["lower_bound"]


# --- at the door ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, z, options, error, reason",
    [
        (np.zeros((20, 1)), np.zeros((19, 1)), {}, DataError, "20 rows and z 19"),
        (np.arange(20.0), np.arange(20.0), {"method": "mine"}, BadArgument, "auto, js, nwj"),
        (np.arange(20.0), np.arange(20.0), {"confidence": 2.0}, BadArgument, "between 0 and 1"),
        (np.arange(20.0), np.arange(20.0), {"groups": np.zeros(3)}, DataError, "one label a pair"),
        (np.arange(6.0), np.arange(6.0) ** 2, {}, DataError, "10 a side"),
    ],
)
def test_what_cannot_be_asked_is_refused(x, z, options, error, reason):
    with pytest.raises(error, match=reason):
        est.mutual_information(x, z, **options)


def test_a_pair_with_nan_is_dropped_whole(monkeypatch):
    seen = []

    def record(x, z, *rest):
        seen.append((x, z))
        return pairs(x, z, *rest)

    monkeypatch.setattr(information, "pairs", record)
    monkeypatch.setattr(neural, "cross_fit", untrained)
    x, z = correlated(0, 30)
    x[3, 0], z[7, 1] = math.nan, math.nan
    e = est.mutual_information(x, z, nan_policy="omit")
    kept = np.setdiff1d(np.arange(30), [3, 7])
    np.testing.assert_array_equal(seen[0][0], x[kept])
    np.testing.assert_array_equal(seen[0][1], z[kept])
    assert any("dropped 1 of 30" in w for w in e.warnings)


# --- few rows, sharp edges --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_neighbours_reach_where_critics_of_few_rows_do_not():
    """X and X + uniform noise: the edges are plain to neighbours, where critics of a few hundred rows miss them."""
    joint = AdditiveNoise(epsilon=0.4)
    x, z = np.split(joint.sample(np.random.default_rng(11), 300), 2, axis=1)
    truth = joint.mutual_information()
    found = est.mutual_information(x, z)
    assert found.low < truth < found.high
    assert found.diagnostics["by_neighbours"] == pytest.approx(truth, abs=0.2)
    assert "by_neighbours" not in est.mutual_information(np.round(x, 1), z).diagnostics


@pytest.mark.slow
def test_few_rows_of_many_columns_have_no_upper_end():
    rng = np.random.default_rng(12)
    x = rng.normal(size=(60, 8))
    found = est.mutual_information(x, x @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + rng.normal(size=(60, 8)))
    assert found.high == math.inf and found.trust == "lower bound only"


@pytest.mark.slow
def test_in_very_many_columns_the_verdict_says_that_other_dependence_may_be_missing():
    rng = np.random.default_rng(13)
    x, z = rng.normal(size=(2, 400, 16))
    assert est.mutual_information(x, 0.5 * x + z).trust == "interval may be too narrow"
    assert est.mutual_information(x[:, :3], 0.5 * x[:, :3] + z[:, :3]).trust == "interval covers"

"""What `estimate` promises: methods that agree with the truth, the same numbers for a seed, reasons for infinities."""

import dataclasses
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import estimators as est
from estimators import estimation
from estimators.contract import Fit, Interval, Request
from estimators.critics import early_stopping
from estimators.critics.early_stopping import compiled_training
from estimators.divergences.table import UnknownDivergence, functional
from estimators.estimation import BadArgument
from estimators.methods import neural, telescoping
from estimators.methods.neural import Schedule
from estimators.rooms import names
from estimators.samples.arrays import DataError


@pytest.fixture(autouse=True, scope="module")
def short(short_training):
    """A thirtieth of the training, for what holds whatever the critic learned."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", Schedule(rounds=3, round_steps=10, batch=32))
        yield


def stub(request: Request) -> Fit:
    """A method that costs no training."""
    intervals = [Interval(0.5, 0.3, 0.7, 0.1) for _ in request.divergences]
    return Fit("stub", intervals, lambda points: points.sum(axis=1))


@pytest.fixture
def asked(monkeypatch) -> list[Request]:
    """The requests that reach a method, all of which are stubs here."""
    requests = []
    monkeypatch.setattr(
        estimation, "METHODS", dict.fromkeys(est.METHODS, lambda request: (requests.append(request), stub(request))[1])
    )
    return requests


def normals(seed: int, n: int, d: int = 1, shift: float = 0.5, m: int | None = None):
    """x ~ N(0, I) and y ~ N(shift·e₁, I): only the first coordinate tells them apart."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m or n, d))
    y[:, 0] += shift
    return x, y


MEAN, SPREAD = 0.5, 1.5
NAMES = (
    *("kl", "reverse_kl", "jeffreys", "js", "total_variation", "squared_hellinger", "triangular", "pearson"),
    "renyi(2)",
)


def wider(n: int):
    """x ~ N(0, 1) and y ~ N(MEAN, SPREAD²) beside a column that is the same: kl 0.18, reverse_kl 0.34."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n, 2))
    return x, y * [SPREAD, 1.0] + [MEAN, 0.0]


@functools.cache
def truth(name: str) -> float:
    f = functional(name)
    exact = est.exact_divergence(
        jax.scipy.stats.norm.logpdf,
        lambda x: jax.scipy.stats.norm.logpdf(x, MEAN, SPREAD),
        f.divergence,
        support=(-14.0, 14.0),
    )
    return f.transform(exact) if f.transform else exact


UNBOUNDED = ("kl", "reverse_kl", "jeffreys", "pearson", "neyman", "renyi(2)")
FAR = normals(0, 60, 2, shift=2.0)
BOUNDED = {"js": math.log(2.0), "total_variation": 1.0, "squared_hellinger": 2.0, "triangular": 2.0}
FITTED = [name for name in est.METHODS if name not in ("auto", "counts")]  # counts has samples and tests of its own


def warned(e: est.Estimate, word: str) -> bool:
    return any(word in w for w in e.warnings)


@pytest.fixture(scope="module")
def fits(short) -> dict[tuple[str, str], est.Estimate]:
    """Every method on 2000 samples a side in the plane, by method and divergence; critics trained a fifth.

    `auto` asks for the critics of `neural`, which are not trained again.
    """
    samples, trained, cross_fit = wider(2000), {}, neural.cross_fit

    def once(request, cut, objective):
        if objective not in trained:
            trained[objective] = cross_fit(request, cut, objective)
        return trained[objective]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural, "SCHEDULE", Schedule(rounds=6, batch=64))
        patch.setattr(early_stopping, "compiled_training", compiled_training)
        patch.setattr(neural, "cross_fit", once)
        found = {m: est.estimate(*samples, NAMES, method=m, confidence=0.999) for m in ("auto", *FITTED)}
    return {(m, e.divergence): e for m, estimates in found.items() for e in estimates}


@pytest.fixture(scope="module")
def plain(short) -> dict[str, est.Estimate]:
    """The usual method on FAR, by divergence."""
    return {e.divergence: e for e in est.estimate(*FAR, [*NAMES, "alpha(2)"])}


# --- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", FITTED)
def test_every_method_agrees_with_the_truth_within_its_own_interval(fits, method, name):
    """At 99.9 %, the least sure being knn of pearson, whose ratio enters squared."""
    e = fits[method, name]
    assert e.low <= truth(name) <= e.high and e.method == method
    assert e.standard_error < 0.6 * truth(name) and e.low <= e.value <= e.high


@pytest.mark.parametrize("method", FITTED)
def test_every_method_finds_the_reverse_divergence_the_larger(fits, method):
    """0.34 against 0.18 nats, on the same rows: not with x and y exchanged."""
    assert fits[method, "reverse_kl"].value > 1.25 * fits[method, "kl"].value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objective", ["nwj", "dv"])
def test_what_the_critic_maximised_hardly_matters(fits, objective, name):
    e, usual = fits[objective, name], fits["neural", name]
    assert abs(e.value - usual.value) < e.standard_error


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["neural", "nwj", "dv", "ratio"])
def test_the_bound_is_valid_and_below_the_value_or_near_it(fits, method, name):
    """It is that of the divergence underneath: for Rényi's, of the α-divergence."""
    e = fits[method, name]
    bound, error = (e.diagnostics[key] for key in ("lower_bound", "lower_bound_standard_error"))
    below = est.divergence("alpha(2)") if name == "renyi(2)" else None
    limit = math.expm1(truth(name)) / 2.0 if below else truth(name)
    assert 0.25 * limit < bound < limit + 4.0 * error


def test_auto_is_neural_where_the_sets_overlap(fits):
    for name in NAMES:
        auto, chosen = fits["auto", name], fits["neural", name]
        assert auto.method == "neural" and (auto.value, auto.low, auto.high) == (chosen.value, chosen.low, chosen.high)
        assert "auto chose neural" in auto.diagnostics["choice"] and "overlap" in auto.diagnostics["choice"]


@pytest.mark.parametrize("method", ["neural", "nwj", "dv", "ratio", "telescoping"])
def test_the_log_ratio_is_that_of_the_densities(fits, method):
    points = np.random.default_rng(1).normal(size=(500, 2))
    found = fits[method, "kl"].log_ratio(points)
    assert found.shape == (500,)
    exact = stats.norm.logpdf(points[:, 0]) - stats.norm.logpdf(points[:, 0], MEAN, SPREAD)
    assert np.sqrt(np.mean((found - exact) ** 2)) < 0.4 * np.std(exact)


@pytest.mark.parametrize("points", [np.zeros(2), np.zeros((3, 1)), np.zeros((3, 2, 2))])
def test_points_of_another_dimension_are_refused(fits, points):
    with pytest.raises(ValueError, match="dimension 2"):
        fits["neural", "kl"].log_ratio(points)


# --- auto -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def overlap(monkeypatch):
    """Give `auto` a share of the maximum of js, and record what it requests."""
    requests: list[Request] = []

    def give(share):
        def estimate(request: Request) -> Fit:
            requests.append(request)
            values = {"js": share * math.log(2.0)}
            intervals = [Interval(values.get(d.name, 1.0), 0.0, 1.0, 0.1) for d in request.divergences]
            return Fit(request.method, intervals)

        monkeypatch.setattr(neural, "estimate", estimate)
        monkeypatch.setattr(telescoping, "estimate", estimate)
        return requests

    return give


@pytest.mark.parametrize(
    "share, dim, chosen, why",
    [
        (0.5, 2, "neural", "50 % of its maximum, so the sets overlap"),
        (0.89, 2, "neural", "overlap"),
        (0.91, 2, "telescoping", "more than a classifier can measure"),
        (0.99, 30, "neural", "telescoping needs more rows in 30 dimensions"),
    ],
)
def test_auto_chooses_by_overlap_and_gives_its_reason(overlap, share, dim, chosen, why):
    requests = overlap(share)
    for e in est.estimate(*normals(0, 60, dim), ["kl", "pearson"], seed=3, confidence=0.9):
        assert e.method == chosen and why in e.diagnostics["choice"] and chosen in e.diagnostics["choice"]
    assert [r.method for r in requests] == ["neural"] + ["telescoping"] * (chosen == "telescoping")
    assert all((r.seed, r.confidence, r.groups) == (3, 0.9, None) for r in requests)
    assert [[d.name for d in r.divergences] for r in requests] == [["kl", "pearson", "js"], ["kl", "pearson"]][
        : len(requests)
    ]


# --- the table of methods ---------------------------------------------------------------------------------------------


def test_a_method_added_at_run_time_is_found_where_users_look():
    """In the table, in what help reads, in the message about unknown methods; and it estimates."""
    est.METHODS.add("stub", "a method of one's own", lambda request: stub(dataclasses.replace(request, seed=0)))
    try:
        assert "stub" in est.METHODS and est.METHODS.about["stub"] == "a method of one's own"
        assert "stub" in names("estimators.contract:METHODS")
        with pytest.raises(BadArgument, match="stub"):
            est.estimate(*FAR, "kl", method="nearest")
        e = est.estimate(*FAR, "renyi(2)", method="stub")
        assert (e.method, e.standard_error, e.n_p) == ("stub", pytest.approx(0.1), 60)
        assert e.value == pytest.approx(math.log1p(2.0 * 0.5))
    finally:
        est.METHODS.remove("stub")
    assert "stub" not in est.METHODS


def test_every_file_of_the_room_offers_what_it_says():
    assert list(est.METHODS) == ["auto", "counts", "gaussian", "knn", "neural", "nwj", "dv", "ratio", "telescoping"]
    assert all(callable(method) and est.METHODS.about[name] for name, method in est.METHODS.items())


# --- groups -----------------------------------------------------------------------------------------------------------


def twice(rows):
    return np.repeat(rows, 2, axis=0)


@pytest.mark.parametrize("method", ["ratio", "gaussian"])
def test_repeated_rows_count_once(method):
    """Every row twice: the standard error stays, whether the groups are given or found."""
    x, y = wider(400)
    options = {"method": method, "divergence": ["kl", "js"]}
    labels = twice(np.arange(400)), twice(1000 + np.arange(400))
    plain, grouped, found = (
        est.estimate(x, y, **options),
        est.estimate(twice(x), twice(y), **options, groups=labels),
        est.estimate(twice(x), twice(y), **options),
    )
    for a, b, c in zip(plain, grouped, found, strict=True):
        assert b.standard_error == pytest.approx(a.standard_error, rel=0.15)
        assert c.standard_error == pytest.approx(a.standard_error, rel=0.15)
        assert max(abs(b.value - a.value), abs(c.value - a.value)) < a.standard_error


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted({*FITTED} - {"nwj", "dv"}))
def test_every_method_takes_groups(method):
    labels = twice(np.arange(30)), 100 + twice(np.arange(30))
    e = est.estimate(*FAR, "kl", method=method, groups=labels)
    assert math.isfinite(e.value) and e.standard_error > 0.0


@pytest.mark.parametrize("kind", [lambda a: a, lambda a: a.astype(str), lambda a: a.tolist(), lambda a: a > 5])
def test_labels_become_whole_numbers_alike_in_both_sets(asked, kind):
    given = np.arange(60) // 2, np.arange(60) // 3
    est.estimate(*FAR, "kl", groups=tuple(kind(g) for g in given))
    labels = np.concatenate(asked[0].groups)
    expected = np.concatenate([np.asarray(kind(g)) for g in given])
    np.testing.assert_array_equal(labels[:, None] == labels, expected[:, None] == expected)
    assert labels.dtype.kind == "i"


def test_labels_of_rows_left_out_are_left_out(asked):
    x, y = (rows.copy() for rows in FAR)
    x[4] = math.nan
    est.estimate(x, y, "kl", nan_policy="omit", groups=(np.arange(60), 60 + np.arange(60)))
    assert [len(g) for g in asked[0].groups] == [59, 60]
    assert len(np.unique(np.concatenate(asked[0].groups))) == 119


@pytest.mark.parametrize(
    "groups, error, reason",
    [
        (np.arange(60), BadArgument, "pair"),
        ("ab", BadArgument, "pair"),
        ((np.arange(60),), BadArgument, "pair"),
        ((np.arange(59), np.arange(60)), DataError, r"60 rows, but labels of shape \(59,\)"),
        ((np.arange(60), np.arange(60)[:, None]), DataError, "one label a row"),
        ((np.arange(60.0), np.arange(60.0)), BadArgument, "whole numbers or text"),
        ((np.array([None] * 60), np.arange(60)), BadArgument, "whole numbers or text"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(asked, groups, error, reason):
    with pytest.raises(error, match=reason) as caught:
        est.estimate(*FAR, "kl", groups=groups)
    assert isinstance(caught.value, ValueError) and asked == []


def test_groups_too_few_for_the_blocks_are_refused():
    with pytest.raises(DataError, match="groups do not spread"):
        est.estimate(*FAR, "kl", groups=(np.arange(60) % 3, np.arange(60) % 3))


# --- what is returned -------------------------------------------------------------------------------------------------


def test_an_estimate_holds_what_it_is_of():
    e = est.estimate(*FAR, "kl", confidence=0.9)
    assert (e.divergence, e.method, e.n_p, e.n_q, e.dim, e.confidence) == ("kl", "neural", 60, 60, 2, 0.9)
    assert e.standard_error > 0.0 and e.low < e.value < e.high
    assert e.log_ratio(FAR[0]).shape == (60,) and "auto chose neural" in e.diagnostics["choice"]
    assert all(1.0 <= e.diagnostics[f"effective_sample_size_{side}"] <= 60 for side in "pq")
    assert e.as_json() == {
        "divergence": "kl",
        "value": e.value,
        "low": e.low,
        "high": e.high,
        "standard_error": e.standard_error,
        "method": "neural",
        "units": "nats",
        "trust": "interval covers",
        "confidence": 0.9,
        "lower_bound": e.diagnostics["lower_bound"],
        "warnings": list(e.warnings),
    }


def test_the_same_seed_gives_the_same_numbers():
    one, again, other = (est.estimate(*FAR, "js", seed=s).as_json() for s in (1, 1, 2))
    assert one == again and one["value"] != other["value"]


def test_a_list_gives_a_list_from_one_fit():
    found = est.estimate(*FAR, ["js", est.divergence("kl"), "renyi(2)"])
    assert [e.divergence for e in found] == ["js", "kl", "renyi(2)"]
    alone = est.estimate(*FAR, "kl")
    assert isinstance(alone, est.Estimate) and alone.as_json() == found[1].as_json()


@pytest.mark.parametrize("divergences", [["js"], ("js",)])
def test_a_list_of_one_gives_a_list_of_one(asked, divergences):
    assert [e.divergence for e in est.estimate(*FAR, divergences)] == ["js"]


def test_all_is_every_divergence_but_gan_and_renyi(asked):
    found = est.estimate(*normals(0, 20), "all")
    assert [e.divergence for e in found] == [n for n in est.DIVERGENCES if n != "gan"] + ["renyi(2)"]
    assert len(asked) == 1


def test_a_generator_of_ones_own_is_estimated_under_its_name():
    e = est.estimate(*FAR, est.from_generator("mine", lambda u: (u - 1.0) ** 2))
    assert e.divergence == "mine" and e.value > 0.1


def test_renyi_is_the_transformed_alpha_divergence(plain):
    renyi, alpha = plain["renyi(2)"], plain["alpha(2)"]
    assert alpha.value > 0.1
    assert renyi.value == pytest.approx(math.log1p(2.0 * alpha.value))
    assert renyi.standard_error == pytest.approx(2.0 * alpha.standard_error / (1.0 + 2.0 * alpha.value))
    assert renyi.low < renyi.value < renyi.high


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "divergence, options, error, reason",
    [
        ("kll", {}, UnknownDivergence, "did you mean kl"),
        ("renyi(-1)", {}, UnknownDivergence, "positive"),
        ("renyi(1e999)", {}, UnknownDivergence, "finite"),
        ("renyi(1-)", {}, UnknownDivergence, "1-"),
        ([], {}, BadArgument, "no divergence"),
        ("kl", {"method": "nearest"}, BadArgument, "auto, counts, gaussian, knn, neural, nwj, dv, ratio, telescoping"),
        ("kl", {"confidence": 0.0}, BadArgument, "between 0 and 1"),
        ("kl", {"confidence": 95}, BadArgument, "between 0 and 1"),
        ("kl", {"confidence": math.nan}, BadArgument, "between 0 and 1"),
        ("kl", {"seed": -1}, BadArgument, "from 0 to"),
        ("kl", {"seed": 2**32}, BadArgument, "from 0 to"),
        ("kl", {"nan_policy": "drop"}, ValueError, "omit"),
    ],
)
def test_what_cannot_be_asked_is_refused(asked, divergence, options, error, reason):
    with pytest.raises(error, match=reason) as caught:
        est.estimate(*normals(0, 20), divergence, **options)
    assert isinstance(caught.value, ValueError) and asked == []


@pytest.mark.parametrize("n, m", [(9, 500), (500, 9), (2, 2)])
def test_too_few_rows_are_refused_with_the_number_needed(n, m):
    with pytest.raises(DataError, match=f"{n} and {m} rows.* 10 a side"):
        est.estimate(*normals(0, n, m=m), "kl")


def test_ten_rows_are_enough():
    e = est.estimate(*normals(0, 10), "js")
    assert math.isfinite(e.value) and e.low <= e.value <= e.high <= math.log(2.0)


# --- constant columns -------------------------------------------------------------------------------------------------


def beside(rows: np.ndarray, column) -> np.ndarray:
    return np.column_stack([rows, np.broadcast_to(column, len(rows))])


def test_a_column_constant_and_equal_changes_nothing(plain):
    x, y = FAR
    wider = est.estimate(beside(x, 7.0), beside(y, 7.0), "kl")
    assert wider.as_json() | {"warnings": 0} == plain["kl"].as_json() | {"warnings": 0}
    assert wider.value > 0.1 and wider.dim == 3 and warned(wider, "without effect")
    np.testing.assert_array_equal(wider.log_ratio(beside(x, 7.0)), plain["kl"].log_ratio(x))


ALTERNATING = np.arange(60.0) % 2.0


@pytest.mark.parametrize(
    "in_x, in_y, reason",
    [
        (1.0, 2.0, "different values"),
        (1.0, np.linspace(2.0, 3.0, 60), "not absolutely continuous"),
        (np.linspace(2.0, 3.0, 60), 1.0, "not absolutely continuous"),
    ],
)
def test_a_column_that_keeps_the_sets_apart_proves_the_supremum(asked, in_x, in_y, reason):
    x, y = normals(0, 60)
    found = est.estimate(beside(x, in_x), beside(y, in_y), [*UNBOUNDED, *BOUNDED, "renyi(0.3)"])
    for e in found:
        limit = BOUNDED.get(e.divergence, math.inf)
        assert e.value == e.low == e.high == pytest.approx(limit)
        assert e.standard_error == 0.0 and warned(e, "disjoint support") and warned(e, reason)
        assert (e.as_json()["value"] is None) == math.isinf(limit)
        with pytest.raises(ValueError, match="no density ratio"):
            e.log_ratio(x)
    assert asked == []


@pytest.mark.slow
@pytest.mark.parametrize("in_x, in_y", [(1.0, ALTERNATING), (ALTERNATING, 1.0)])
def test_a_constant_value_that_the_other_set_takes_proves_nothing(in_x, in_y):
    x, y = normals(0, 60)
    for e in est.estimate(beside(x, in_x), beside(y, in_y), [*UNBOUNDED, *BOUNDED]):
        assert math.isfinite(e.value) and warned(e, "not absolutely continuous") and e.method == "neural"


def test_columns_all_constant_and_equal_prove_zero(asked):
    for e in est.estimate(np.ones((20, 3)), np.ones((30, 3)), "all"):
        assert e.value == e.low == e.high == 0.0 and warned(e, "every column is constant")
    assert asked == []


# --- hard samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["neural", "ratio"])
def test_separable_samples_give_finite_values_without_upper_limit(method):
    x, y = normals(0, 60, 2, shift=60.0)
    for e in est.estimate(x, y, [*UNBOUNDED, *BOUNDED], method=method):
        assert math.isfinite(e.value) and warned(e, "separable")
        if e.divergence in BOUNDED:
            assert 0.9 * BOUNDED[e.divergence] < e.low <= e.value <= e.high <= BOUNDED[e.divergence] + 1e-12
        else:
            assert e.low <= math.log(60) and e.high == math.inf
            assert e.as_json()["high"] is None and isinstance(e.as_json()["value"], float)


def test_auto_goes_beyond_separable_samples_with_a_caution():
    """5 standard deviations and 12.5 nats apart."""
    found = est.estimate(*normals(0, 60, 2, shift=5.0), ["kl", "js"])
    for e in found:
        assert e.method == "telescoping" and warned(e, "Gaussian references")
        assert math.isfinite(e.value) and e.standard_error > 0.0
    assert warned(found[0], "saturated")


def test_overlapping_samples_are_not_called_separable(fits):
    assert not warned(fits["neural", "kl"], "separable") and not warned(fits["neural", "kl"], "saturated")


def test_identical_arrays_give_zero_and_are_noted():
    x, _ = normals(0, 60, 2)
    for e in est.estimate(x, x.copy(), NAMES):
        assert e.low <= 0.0 <= e.high and abs(e.value) < max(0.1, 2.0 * e.standard_error)
        assert warned(e, "same content")


def test_unequal_numbers_of_samples():
    n, m, shift = 40, 400, 1.0
    kl, tv = est.estimate(*normals(0, n, 2, shift, m), ["kl", "total_variation"])
    assert (kl.n_p, kl.n_q) == (tv.n_p, tv.n_q) == (n, m)
    assert abs(kl.value - shift**2 / 2) < 4 * kl.standard_error
    assert abs(tv.value - (2.0 * stats.norm.cdf(shift / 2) - 1.0)) < 4 * tv.standard_error


@pytest.mark.slow
@pytest.mark.parametrize(
    "scale, offset", [(1e12, 0.0), (1e-12, 0.0), (1.0, 1e6), (-3.0, 17.0), ([1e9, 1e-9], [0.0, 1.0])]
)
def test_a_common_affine_map_changes_nothing(plain, scale, offset):
    mapped = est.estimate(*(np.multiply(rows, scale) + offset for rows in FAR), ["kl", "js"])
    tolerance = 1.0 if np.min(scale) < 0.0 else 1e-3  # a mirrored critic starts from other weights
    for b in mapped:
        a = plain[b.divergence]
        assert a.value > 0.1
        assert b.value == pytest.approx(a.value, abs=tolerance * a.standard_error + 1e-6)
        assert not warned(b, "few digits")


def test_digits_lost_far_from_zero_are_noted(plain):
    near, far = plain["js"], est.estimate(*(rows * 1e-3 + 1e9 for rows in FAR), "js")
    # rounding moves rows over the ends of what a set spans, which hardly matters
    assert far.value == pytest.approx(near.value, abs=0.1 * near.standard_error) and near.value > 0.1
    assert warned(far, "few digits") and not warned(near, "few digits")


def test_the_order_of_columns_does_not_matter(plain):
    one, other = plain["js"], est.estimate(*(rows[:, ::-1] for rows in FAR), "js")
    assert other.value == pytest.approx(one.value, abs=one.standard_error) and one.value > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("place, value", [*itertools.product("pq", (1e30, -1e9, 3e38))])
def test_one_outlier_does_not_undo_the_estimate(place, value):
    x, y = (rows.copy() for rows in FAR)
    (x if place == "p" else y)[7] = value
    for e in est.estimate(x, y, ["kl", "reverse_kl", "js", "pearson", "neyman"]):
        assert math.isfinite(e.value) and math.isfinite(e.standard_error)
        assert e.divergence != "js" or abs(e.value) < 1.0


def test_heavy_tails_give_numbers_or_reasons():
    rng = np.random.default_rng(0)
    x, y = rng.standard_cauchy((60, 2)) ** 3, rng.standard_cauchy((60, 2)) ** 3 + 1.0
    for e in est.estimate(x, y, "all"):
        assert not any(math.isnan(v) for v in (e.value, e.low, e.high, e.standard_error))
        assert math.isfinite(e.value) and e.low <= e.value <= e.high


# --- kinds of arrays --------------------------------------------------------------------------------------------------

WHOLE = np.random.default_rng(3).permutation(60).reshape(30, 2)


@pytest.mark.parametrize(
    "make, note",
    [
        (lambda a: a, "int64 cast"),
        (lambda a: a.astype(np.uint8), "uint8 cast"),
        (lambda a: a.astype(np.float16), ""),
        (lambda a: a.astype(">f8"), ""),
        (np.asfortranarray, "int64 cast"),
        (lambda a: a.tolist(), "int64 cast"),
        (lambda a: jnp.asarray(a, jnp.bfloat16), ""),
        (lambda a: pd.DataFrame(a, columns=["a", "b"]), "int64 cast"),
        (lambda a: pd.DataFrame({"a": a[:, 0], "b": a[:, 1].astype(float)}), ""),
    ],
)
def test_any_array_of_the_same_numbers_is_the_same(asked, make, note):
    e = est.estimate(make(WHOLE), make(WHOLE + 100), "kl")
    np.testing.assert_array_equal(asked[0].x, WHOLE.astype(float))
    np.testing.assert_array_equal(asked[0].y, (WHOLE + 100).astype(float))
    assert [w.split(":")[1].split(" to ")[0].strip() for w in e.warnings] == ([note] if note else []) * 2


def test_a_vector_is_samples_on_the_line(asked):
    e = est.estimate(np.arange(20.0), np.arange(20.0) + 0.5, "kl")
    assert (e.n_p, e.dim) == (20, 1) and warned(e, "dimension 1")
    assert e.log_ratio(np.arange(5.0)).shape == (5,)


def test_rows_with_nan_are_refused_or_omitted(asked):
    x, y = normals(0, 30, 2)
    x[4, 1] = math.nan
    with pytest.raises(DataError, match="1 of 30 rows hold NaN"):
        est.estimate(x, y, "kl")
    e = est.estimate(x, y, "kl", nan_policy="omit")
    assert e.n_p == 29 and warned(e, "dropped 1 of 30")


def test_samples_shared_or_repeated_are_counted(asked):
    x, y = normals(0, 30, 2)
    y[:3] = x[:3]
    x[20:24] = x[19]
    e = est.estimate(x, y, "kl")
    assert warned(e, "3 of 30 rows of x also occur in y") and warned(e, "4 of 30 rows repeat")


# --- copies and atoms -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 10])
def test_copies_of_rows_make_no_difference_of_laws(short, d):
    """150 rows drawn 1,000 times, beside 1,000 fresh ones: copies that train and test a critic looked like js = 0.5."""
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(150, d))[rng.integers(0, 150, 1000)], rng.normal(size=(1000, d))
    e = est.estimate(x, y, "js")
    assert e.low <= 0.0 <= e.high < 0.2 and warned(e, "rows repeat")


def test_a_value_that_many_rows_share_is_no_group(short):
    """Zeros in 80 and 50 % of the rows beside a log-normal: kl is that of the shares and of the densities."""
    rng, n = np.random.default_rng(4), 4000

    def sample(share, mean):
        return np.where(rng.random(n) < share, 0.0, np.exp(rng.normal(mean, 1.0, n)))[:, None]

    e = est.estimate(sample(0.8, 0.0), sample(0.5, 0.5), "kl")
    truth = 0.8 * math.log(0.8 / 0.5) + 0.2 * (math.log(0.2 / 0.5) + 0.125)
    assert e.low <= truth <= e.high and e.standard_error < 0.03
    assert e.warnings == () and e.trust == "interval covers"


@pytest.mark.slow
def test_many_pairs_have_the_estimates_that_each_has_alone():
    rng = np.random.default_rng(3)
    pairs = [(rng.normal(size=(n, 2)), rng.normal(0.3, 1.0, size=(n, 2))) for n in (60, 64)]
    together = est.estimate_many(iter(pairs), ["kl", "js"], seed=4)
    for pair, found in zip(pairs, together, strict=True):
        alone = est.estimate(*pair, ["kl", "js"], seed=4)
        assert [e.as_json() for e in found] == [e.as_json() for e in alone]
    assert est.estimate_many([], "kl") == []
    assert est.estimate_many(pairs[:1], "js", method="knn")[0].divergence == "js"


@pytest.mark.parametrize(
    "pairs, options, words",
    [
        ([(np.arange(9.0), np.arange(9.0)), (np.arange(9.0), [math.nan] * 9)], {"method": "knn"}, "pair 1: y"),
        ([(np.arange(20.0), np.arange(9.0) + 0.5)], {"method": "neural"}, "pair 0: 20 and 9 rows"),
        ([], {"decimals": 40}, "decimals = 40"),
        ([], {"method": "nwi"}, "unknown method 'nwi'"),
        ([], {"groups": ([0], [0])}, "groups: not taken for many pairs; choose from method"),
        ([(np.eye(30), np.eye(30))], {"drop": "id"}, r"pair 0: x: drop = 'id': give a list, drop=\['id'\]"),
    ],
)
def test_what_is_wrong_with_one_of_many_pairs_names_it(pairs, options, words):
    with pytest.raises(ValueError, match=words):
        est.estimate_many(pairs, **options)

"""What `estimate` promises: lower bounds near the truth, the same numbers for a seed, a reason with every infinity."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import estimators as est
from estimators import estimation, neural
from estimators.divergences import UnknownDivergence
from estimators.estimation import BadArgument, functional
from estimators.samples import DataError

SHIFT = 0.5
full = neural.fit_folds.__wrapped__
quick = jax.jit(lambda key, folds: full(key, folds))


def hurry(patch):
    """A sixteenth of the training, for what holds whatever the critic learned; enough to show a leak between folds."""
    patch.setattr(neural, "ROUNDS", 6)
    patch.setattr(neural, "BATCH", 64)
    patch.setattr(neural, "fit_folds", quick)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Every test but those of `large`, which is made before this, trains briefly."""
    hurry(monkeypatch)


@pytest.fixture
def seen(monkeypatch):
    """What reaches the method, which here costs no training."""
    calls = []

    def method(x, y, divergences, *, seed, confidence):
        calls.append((x, y))
        facts = {"standard_error": 0.1, "confidence": confidence, "n_p": len(x), "n_q": len(y), "dim": x.shape[1]}
        say = {"method": "stub", "ratio": lambda points: points.sum(axis=1)}
        return [est.Estimate(divergence=d.name, value=0.5, low=0.3, high=0.7, **facts, **say) for d in divergences]

    monkeypatch.setattr(estimation, "METHODS", {"neural": method})
    return calls


@pytest.fixture
def ratios(monkeypatch):
    """Hand a method the held-out log-ratios of P's and of Q's samples, in place of a critic's."""

    def give(log_p, log_q):
        monkeypatch.setattr(neural, "cross_fit", lambda x, y, seed: (log_p, log_q, None, {}))
        return np.arange(len(log_p)) + 0.5, np.arange(float(len(log_q)))

    return give


def normals(seed: int, n: int, d: int = 1, shift: float = SHIFT, m: int | None = None):
    """x ~ N(0, I) and y ~ N(shift·e₁, I): only the first coordinate tells them apart."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m or n, d))
    y[:, 0] += shift
    return x, y


def js_of_normals() -> float:
    """½ ∫ p log(p/m) + q log(q/m) with m = (p + q)/2, which here is symmetric in p and q."""

    def integrand(x):
        p, q = stats.norm.pdf(x), stats.norm.pdf(x, SHIFT)
        return 0.5 * (p * math.log(2.0 * p / (p + q)) + q * math.log(2.0 * q / (p + q)))

    return integrate.quad(integrand, -12.0, 12.0)[0]


TRUTH = {
    "kl": SHIFT**2 / 2,
    "reverse_kl": SHIFT**2 / 2,
    "jeffreys": SHIFT**2,
    "js": js_of_normals(),
    "total_variation": 2.0 * stats.norm.cdf(SHIFT / 2) - 1.0,
    "pearson": math.expm1(SHIFT**2),
    "squared_hellinger": -2.0 * math.expm1(-(SHIFT**2) / 8),
    "renyi(2)": SHIFT**2,
}
DRAWS = 8
UNBOUNDED = ("kl", "reverse_kl", "jeffreys", "pearson", "neyman", "renyi(2)")
FAR = normals(0, 60, 2, shift=2.0)
BOUNDED = {"js": math.log(2.0), "total_variation": 1.0, "squared_hellinger": 2.0, "triangular": 2.0}


def warned(e: est.Estimate, word: str) -> bool:
    return any(word in w for w in e.warnings)


@pytest.fixture(scope="module")
def large() -> dict[str, est.Estimate]:
    """One full fit to 4000 samples a side in the plane."""
    return {e.divergence: e for e in est.estimate(*normals(0, 4000, 2), list(TRUTH))}


# --- the truth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRUTH)
def test_many_samples_come_close_to_the_truth(large, name):
    e = large[name]
    assert abs(e.value - TRUTH[name]) < 4 * e.standard_error < TRUTH[name]


def test_the_log_ratio_is_that_of_the_densities(large):
    points = np.random.default_rng(1).normal(size=(500, 2))
    found = large["kl"].log_ratio(points)
    assert found.shape == (500,)
    assert np.corrcoef(found, SHIFT**2 / 2 - SHIFT * points[:, 0])[0, 1] > 0.95


@pytest.mark.parametrize("points", [np.zeros(2), np.zeros((3, 1)), np.zeros((3, 2, 2))])
def test_points_of_another_dimension_are_refused(large, points):
    with pytest.raises(ValueError, match="dimension 2"):
        large["kl"].log_ratio(points)


@pytest.fixture(scope="module")
def repeated():
    """Fits to fresh draws: apart by `SHIFT` on the line, and of one distribution in the plane."""

    def fits(n, d, shift, names):
        with pytest.MonkeyPatch.context() as patch:
            hurry(patch)
            return [est.estimate(*normals(s, n, d, shift), names, seed=s, confidence=0.999) for s in range(DRAWS)]

    return {"apart": fits(400, 1, SHIFT, list(TRUTH)), "same": fits(60, 2, 0.0, ["kl", "js", "total_variation"])}


@pytest.mark.parametrize("name", TRUTH)
def test_the_value_is_a_lower_bound_in_expectation(repeated, name):
    values = [e.value for fit in repeated["apart"] for e in fit if e.divergence == name]
    assert 0.0 < np.mean(values) <= TRUTH[name] + 3 * stats.sem(values)


@pytest.mark.parametrize("i", range(3))
def test_between_samples_of_one_distribution_nothing_is_found(repeated, i):
    found = [fit[i] for fit in repeated["same"]]
    assert all(e.low <= 0.0 <= e.high for e in found)
    assert np.mean([e.value for e in found]) <= 3 * stats.sem([e.value for e in found])


# --- from log-ratios to numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRUTH)
def test_the_true_log_ratio_gives_the_truth(ratios, name):
    x, y = normals(5, 20_000)
    e = est.estimate(*ratios(*(SHIFT**2 / 2 - SHIFT * rows[:, 0] for rows in (x, y))), name)
    assert abs(e.value - TRUTH[name]) < 4 * e.standard_error < 0.25 * TRUTH[name]


def test_value_and_error_are_those_of_the_two_means(ratios):
    rng = np.random.default_rng(0)
    log_p, log_q = rng.normal(size=50) + 0.3, rng.normal(size=80) - 0.3
    e = est.estimate(*ratios(log_p, log_q), "kl", confidence=0.9)
    t_p, t_q = 1.0 + log_p, np.exp(log_q)
    assert e.value == pytest.approx(t_p.mean() - t_q.mean())
    assert e.standard_error == pytest.approx(math.hypot(stats.sem(t_p), stats.sem(t_q)))
    reach = stats.norm.ppf(0.95) * e.standard_error
    assert (e.low, e.high) == pytest.approx((e.value - reach, e.value + reach))


@pytest.mark.parametrize("name", ["kl", "js", "hockey_stick(2)", "total_variation"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_negative_values_and_only_those_are_explained(ratios, name, sign):
    """A critic that has P and Q the wrong way round gives a bound below zero, which is reported as it is."""
    e = est.estimate(*ratios(sign * np.linspace(-1.0, 3.0, 50), -sign * np.linspace(-1.0, 3.0, 50)), name)
    assert warned(e, "negative") == (e.value < 0.0) == (sign < 0.0)
    assert warned(e, "lower bound")


@pytest.mark.parametrize("gap, separable", [(0.5, True), (-0.5, False)])
def test_samples_are_separable_where_no_ratio_of_q_reaches_one_of_p(ratios, gap, separable):
    log_p, log_q = np.linspace(gap / 2, 9.0, 100), np.linspace(-9.0, -gap / 2, 100)
    kl, js = est.estimate(*ratios(log_p, log_q), ["kl", "js"])
    assert warned(kl, "separable") == (kl.high == math.inf) == separable
    assert (kl.low <= math.log(100)) == separable and kl.low <= kl.value < math.inf and js.high <= math.log(2.0)


@pytest.mark.parametrize("level, said", [(3.0, False), (5.0, True)])
def test_more_than_the_samples_can_certify_is_called_saturated(ratios, level, said):
    kl, js = est.estimate(*ratios(np.linspace(level - 1, level + 1, 100), np.full(100, -level)), ["kl", "js"])
    assert kl.value == pytest.approx(1.0 + level - math.exp(-level))
    assert warned(kl, "saturated") == said == (kl.value > math.log(100)) and not warned(js, "saturated")


@pytest.mark.parametrize("heaviest, said", [(0.0, False), (12.0, True)])
def test_a_value_that_rests_on_few_samples_says_so(ratios, heaviest, said):
    e = est.estimate(*ratios(np.zeros(100), np.r_[heaviest, np.zeros(99)]), "pearson")
    assert warned(e, "effective sample size") == said


# --- what is returned -------------------------------------------------------------------------------------------------


def test_an_estimate_says_what_it_is():
    e = est.estimate(*FAR, "kl", confidence=0.9)
    assert (e.divergence, e.method, e.n_p, e.n_q, e.dim, e.confidence) == ("kl", "neural", 60, 60, 2, 0.9)
    assert e.standard_error > 0.0 and e.low < e.value < e.high
    assert e.log_ratio(FAR[0]).shape == (60,) and 1.0 <= e.diagnostics["effective_sample_size"] <= 60
    assert e.as_json() == {
        "divergence": "kl",
        "value": e.value,
        "low": e.low,
        "high": e.high,
        "standard_error": e.standard_error,
        "method": "neural",
        "units": "nats",
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


@pytest.mark.parametrize("asked", [["js"], ("js",)])
def test_a_list_of_one_gives_a_list_of_one(seen, asked):
    assert [e.divergence for e in est.estimate(*FAR, asked)] == ["js"]


def test_all_is_every_trainable_row_but_gan_and_renyi(seen):
    found = est.estimate(*normals(0, 20), "all")
    assert [e.divergence for e in found] == [n for n in est.DIVERGENCES if n != "gan"] + ["renyi(2)"]
    assert len(seen) == 1


def test_a_generator_of_ones_own_is_estimated_under_its_name():
    e = est.estimate(*FAR, est.from_generator("mine", lambda u: (u - 1.0) ** 2))
    assert e.divergence == "mine" and e.value > 0.1


@pytest.mark.parametrize("name", [name for name in est.DIVERGENCES if name != "gan"])
def test_a_row_and_its_bare_generator_agree(ratios, name):
    """What is stated for a row, and what is derived from its f alone, up to ratios of e^20."""
    row = est.divergence(name)
    mine = est.from_generator("mine", row.f, smooth=row.smooth)
    rng = np.random.default_rng(0)
    log_p, log_q = (np.clip(4.0 * rng.normal(size=100) + shift, -20.0, 20.0) for shift in (4.0, -4.0))
    stated, derived = est.estimate(*ratios(log_p, log_q), [row, mine])
    assert (derived.value, derived.standard_error) == pytest.approx((stated.value, stated.standard_error), rel=1e-5)


def test_renyi_is_the_transformed_alpha_divergence():
    renyi, alpha = est.estimate(*FAR, ["renyi(2)", "alpha(2)"])
    assert alpha.value > 0.1
    assert renyi.value == pytest.approx(math.log1p(2.0 * alpha.value))
    assert renyi.standard_error == pytest.approx(2.0 * alpha.standard_error / (1.0 + 2.0 * alpha.value))
    assert renyi.low < renyi.value < renyi.high


@pytest.mark.parametrize("order", [0.3, 0.5, 2.0, 3.5])
@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_renyi_of_normals(order, shift):
    factor = order * (order - 1.0)
    f = functional(f"renyi({order})")
    assert f.transform(math.expm1(factor * shift**2 / 2) / factor) == pytest.approx(order * shift**2 / 2)


@pytest.mark.parametrize("order", [0.3, 2.0, 3.5])
def test_renyi_grows_smoothly_through_negative_estimates(order):
    """Estimates may be below zero, where the formula has no value: it must stay finite, increasing, with its slope."""
    f = functional(f"renyi({order})")
    points = np.linspace(-3.0, 1.0, 2001)
    values = np.array([f.transform(d) for d in points])
    assert np.isfinite(values).all() and (np.diff(values) > 0.0).all()
    slopes = [f.slope(d) for d in points]
    np.testing.assert_allclose(np.gradient(values, points)[1:-1], slopes[1:-1], rtol=1e-2)


def test_renyi_is_infinite_only_at_the_supremum():
    assert functional("renyi(2)").transform(math.inf) == functional("renyi(0.3)").transform(1 / 0.21) == math.inf
    assert functional("renyi(0.3)").transform(0.999 / 0.21) < math.inf
    assert functional("renyi(1)").row is est.divergence("kl")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "divergence, options, error, said",
    [
        ("kll", {}, UnknownDivergence, "did you mean kl"),
        ("renyi(-1)", {}, UnknownDivergence, "positive"),
        ("renyi(1e999)", {}, UnknownDivergence, "finite"),
        ("renyi(1-)", {}, UnknownDivergence, "1-"),
        ([], {}, BadArgument, "no divergence"),
        ("kl", {"method": "nearest"}, BadArgument, "auto, neural"),
        ("kl", {"confidence": 0.0}, BadArgument, "between 0 and 1"),
        ("kl", {"confidence": 95}, BadArgument, "between 0 and 1"),
        ("kl", {"confidence": math.nan}, BadArgument, "between 0 and 1"),
        ("kl", {"seed": -1}, BadArgument, "from 0 to"),
        ("kl", {"seed": 2**32}, BadArgument, "from 0 to"),
        ("kl", {"nan_policy": "drop"}, ValueError, "omit"),
    ],
)
def test_what_cannot_be_asked_is_refused(seen, divergence, options, error, said):
    with pytest.raises(error, match=said) as caught:
        est.estimate(*normals(0, 20), divergence, **options)
    assert isinstance(caught.value, ValueError) and seen == []


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


def test_a_column_constant_and_equal_changes_nothing():
    x, y = FAR
    plain, wider = est.estimate(x, y, "kl"), est.estimate(beside(x, 7.0), beside(y, 7.0), "kl")
    assert wider.as_json() | {"warnings": 0} == plain.as_json() | {"warnings": 0}
    assert plain.value > 0.1 and wider.dim == 3 and warned(wider, "without effect")
    np.testing.assert_array_equal(wider.log_ratio(beside(x, 7.0)), plain.log_ratio(x))


ALTERNATING = np.arange(60.0) % 2.0


@pytest.mark.parametrize(
    "in_x, in_y, said",
    [
        (1.0, 2.0, "different values"),
        (1.0, np.linspace(2.0, 3.0, 60), "not absolutely continuous"),
        (np.linspace(2.0, 3.0, 60), 1.0, "not absolutely continuous"),
    ],
)
def test_a_column_that_keeps_the_sets_apart_proves_the_supremum(seen, in_x, in_y, said):
    x, y = normals(0, 60)
    found = est.estimate(beside(x, in_x), beside(y, in_y), [*UNBOUNDED, *BOUNDED, "renyi(0.3)"])
    for e in found:
        limit = BOUNDED.get(e.divergence, math.inf)
        assert e.value == e.low == e.high == pytest.approx(limit)
        assert e.standard_error == 0.0 and warned(e, "disjoint support") and warned(e, said)
        assert (e.as_json()["value"] is None) == math.isinf(limit)
        with pytest.raises(ValueError, match="no density ratio"):
            e.log_ratio(x)
    assert seen == []


@pytest.mark.parametrize("in_x, in_y", [(1.0, ALTERNATING), (ALTERNATING, 1.0)])
def test_a_constant_value_that_the_other_set_takes_proves_nothing(in_x, in_y):
    x, y = normals(0, 60)
    for e in est.estimate(beside(x, in_x), beside(y, in_y), [*UNBOUNDED, *BOUNDED]):
        assert math.isfinite(e.value) and warned(e, "not absolutely continuous") and e.method == "neural"


def test_columns_all_constant_and_equal_prove_zero(seen):
    for e in est.estimate(np.ones((20, 3)), np.ones((30, 3)), "all"):
        assert e.value == e.low == e.high == 0.0 and warned(e, "every column is constant")
    assert seen == []


# --- hard samples -----------------------------------------------------------------------------------------------------


def test_separable_samples_give_finite_values_without_upper_limit():
    x, y = normals(0, 60, 2, shift=60.0)
    for e in est.estimate(x, y, [*UNBOUNDED, *BOUNDED]):
        assert math.isfinite(e.value) and warned(e, "separable")
        if e.divergence in BOUNDED:
            assert 0.9 * BOUNDED[e.divergence] < e.low <= e.value <= e.high <= BOUNDED[e.divergence] + 1e-12
        else:
            assert e.low <= math.log(60) and e.high == math.inf
            assert e.as_json()["high"] is None and isinstance(e.as_json()["value"], float)


def test_overlapping_samples_are_not_called_separable(large):
    assert not warned(large["kl"], "separable") and not warned(large["kl"], "saturated")


def test_identical_arrays_give_zero_and_are_noted():
    x, _ = normals(0, 60, 2)
    for e in est.estimate(x, x.copy(), list(TRUTH)):
        assert e.low <= 0.0 <= e.high and abs(e.value) < 0.1
        assert warned(e, "same content")


def test_unequal_numbers_of_samples(large):
    few, many = est.estimate(*normals(0, 40, 2, m=4000), ["js", "total_variation"])
    assert (few.n_p, few.n_q) == (many.n_p, many.n_q) == (40, 4000)
    for e in (few, many):
        assert abs(e.value - TRUTH[e.divergence]) < 4 * e.standard_error
        assert e.standard_error > large[e.divergence].standard_error


@pytest.mark.parametrize(
    "scale, offset", [(1e12, 0.0), (1e-12, 0.0), (1.0, 1e6), (-3.0, 17.0), ([1e9, 1e-9], [0.0, 1.0])]
)
def test_a_common_affine_map_changes_nothing(scale, offset):
    x, y = FAR
    plain, mapped = (
        est.estimate(a, b, ["kl", "js"])
        for a, b in ((x, y), (np.multiply(x, scale) + offset, np.multiply(y, scale) + offset))
    )
    tolerance = 1.0 if np.min(scale) < 0.0 else 1e-3  # a mirrored critic starts from other weights
    for a, b in zip(plain, mapped, strict=True):
        assert a.value > 0.1
        assert b.value == pytest.approx(a.value, abs=tolerance * a.standard_error + 1e-6)
        assert not warned(b, "few digits")


def test_digits_lost_far_from_zero_are_noted():
    x, y = FAR
    near, far = est.estimate(x, y, "js"), est.estimate(x * 1e-3 + 1e9, y * 1e-3 + 1e9, "js")
    assert far.value == pytest.approx(near.value, abs=1e-3) and near.value > 0.1
    assert warned(far, "few digits") and not warned(near, "few digits")


def test_the_order_of_columns_does_not_matter():
    one, other = est.estimate(*FAR, "js"), est.estimate(*(rows[:, ::-1] for rows in FAR), "js")
    assert other.value == pytest.approx(one.value, abs=one.standard_error) and one.value > 0.1


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
def test_any_array_of_the_same_numbers_is_the_same(seen, make, note):
    e = est.estimate(make(WHOLE), make(WHOLE + 100), "kl")
    (x, y) = seen[0]
    np.testing.assert_array_equal(x, WHOLE.astype(float))
    np.testing.assert_array_equal(y, (WHOLE + 100).astype(float))
    assert [w.split(":")[1].split(" to ")[0].strip() for w in e.warnings] == ([note] if note else []) * 2


def test_a_vector_is_samples_on_the_line(seen):
    e = est.estimate(np.arange(20.0), np.arange(20.0) + 0.5, "kl")
    assert (e.n_p, e.dim) == (20, 1) and warned(e, "dimension 1")
    assert e.log_ratio(np.arange(5.0)).shape == (5,)


def test_rows_with_nan_are_refused_or_omitted(seen):
    x, y = normals(0, 30, 2)
    x[4, 1] = math.nan
    with pytest.raises(DataError, match="1 of 30 rows hold NaN"):
        est.estimate(x, y, "kl")
    e = est.estimate(x, y, "kl", nan_policy="omit")
    assert e.n_p == 29 and warned(e, "dropped 1 of 30")


def test_samples_shared_or_repeated_are_counted(seen):
    x, y = normals(0, 30, 2)
    y[:3] = x[:3]
    x[20:24] = x[19]
    e = est.estimate(x, y, "kl")
    assert warned(e, "3 of 30 rows of x also occur in y") and warned(e, "4 of 30 rows repeat")

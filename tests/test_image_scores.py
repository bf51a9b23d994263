"""Scores of generated images: each is what its definition says, and what two sets of one law must have."""

import numpy as np
import pytest
import scipy.stats

from estimators.exact_values.gaussian import wasserstein2
from fgan.cli import train
from fgan.data.dataset import Dataset
from fgan.scores import density_coverage as density_coverage_module
from fgan.scores.density_coverage import density_coverage, expected_coverage
from fgan.scores.frechet import frechet_distance
from fgan.scores.image_judge import Components, ImageJudge, lines
from fgan.scores.nearest import nearer, nearest_distance

RNG = np.random.default_rng(19)


# --- Fréchet distance -------------------------------------------------------------------------------------------------
def test_the_frechet_distance_is_wassersteins_of_the_fitted_gaussians(x64):
    x = RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5))
    y = 0.5 * RNG.normal(size=(150, 5)) @ RNG.normal(size=(5, 5)) + 1.0
    exact = wasserstein2(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_distance(x, y) == pytest.approx(float(exact), rel=1e-9)
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9)


def test_the_frechet_distance_tends_to_that_of_the_laws():
    """N(0, diag a²) and N(m, diag b²): ‖m‖² + Σ(a − b)², with an excess and a noise of order 1/√n."""
    a, b, m, n = np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5]), np.array([0.5, 0.0, 1.0]), 20_000
    truth = np.sum(m**2) + np.sum((a - b) ** 2)
    found = frechet_distance(a * RNG.normal(size=(n, 3)), m + b * RNG.normal(size=(n, 3)))
    error = 2.0 * np.sqrt(np.sum((m**2 + 0.5 * (a - b) ** 2) * (a**2 + b**2)) / n)
    assert found == pytest.approx(truth, abs=5.0 * error)


def test_the_frechet_distance_allows_dead_features_and_few_samples():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(40, 4))
    dead_x, dead_y = (np.column_stack([z, np.zeros(len(z))]) for z in (x, y))
    assert frechet_distance(dead_x, dead_y) == pytest.approx(frechet_distance(x, y), rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    few = RNG.normal(size=(3, 10))
    assert frechet_distance(few, few + 1.0) == pytest.approx(10.0, rel=1e-9)
    with pytest.raises(ValueError, match="two samples"):
        frechet_distance(few[:1], few)


# --- density and coverage ---------------------------------------------------------------------------------------------
def brute_force(real, fake, k):
    """The definitions, one pair of points at a time."""
    covered, inside = 0, 0
    for i, x in enumerate(real):
        radius = np.sort([np.linalg.norm(x - o) for j, o in enumerate(real) if j != i])[k - 1]
        near = sum(np.linalg.norm(x - y) <= radius for y in fake)
        covered, inside = covered + (near > 0), inside + near
    return inside / (k * len(fake)), covered / len(real)


@pytest.mark.parametrize("k", [1, 5])
def test_density_and_coverage_are_their_definitions(k):
    real, fake = RNG.normal(size=(40, 3)), RNG.normal(size=(30, 3)) + 0.5
    assert density_coverage(real, fake, neighbours=k) == pytest.approx(brute_force(real, fake, k))


def test_coverage_is_one_of_equal_sets_and_nothing_of_disjoint_ones():
    real = RNG.normal(size=(200, 3))
    assert density_coverage(real, RNG.permutation(real)).coverage == 1.0
    assert density_coverage(real, real + 100.0) == (0.0, 0.0)


@pytest.mark.parametrize("n, m, k", [(100, 100, 5), (80, 160, 2)])
def test_the_mean_coverage_of_one_law_is_known(n, m, k):
    """The same whatever the law: here of 200 pairs of sets from a normal one; density has mean about 1."""
    found = np.array(
        [density_coverage(RNG.normal(size=(n, 2)), RNG.normal(size=(m, 2)), neighbours=k) for _ in range(200)]
    )
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert abs(found[:, 1].mean() - expected_coverage(n, m, k)) < 4.0 * error[1]
    assert abs(found[:, 0].mean() - n / (n - 1)) < 4.0 * error[0] + 0.02
    product = np.prod([(n - 1 - i) / (2 * n - 1 - i) for i in range(5)])
    assert expected_coverage(n, n) == pytest.approx(1.0 - product)  # as the paper has it, for as many fakes


def test_an_outlier_moves_coverage_little():
    real = RNG.normal(size=(300, 2))
    fake = np.concatenate([RNG.normal(size=(290, 2)), np.full((10, 2), 50.0)])
    assert density_coverage(real, fake).coverage == pytest.approx(expected_coverage(300, 290), abs=0.06)
    with_outlier = np.concatenate([real[1:], [[60.0, 0.0]]])
    assert density_coverage(with_outlier, fake).density == pytest.approx(density_coverage(real, fake).density, abs=0.02)


def test_density_and_coverage_do_not_depend_on_the_blocks(monkeypatch):
    real, fake = RNG.normal(size=(70, 3)), RNG.normal(size=(50, 3))
    whole = density_coverage(real, fake)
    monkeypatch.setattr(density_coverage_module, "blocks", lambda n: [slice(i, i + 9) for i in range(0, n, 9)])
    assert density_coverage(real, fake) == whole
    with pytest.raises(ValueError, match="neighbours"):
        density_coverage(real[:5], fake)


# --- nearest training image -------------------------------------------------------------------------------------------
def test_nearest_distances_are_those_of_all_pairs(monkeypatch):
    monkeypatch.setattr("fgan.scores.nearest.BLOCK", 13)
    points, rows = RNG.normal(size=(20, 6)), RNG.normal(size=(50, 6))
    every = np.linalg.norm(points[:, None] - rows[None], axis=-1).min(axis=1)
    np.testing.assert_allclose(nearest_distance(points, rows), every, rtol=1e-4)
    assert nearest_distance(rows, rows).max() < 1e-2
    np.testing.assert_array_equal(nearest_distance(points, rows, 20), nearest_distance(points, rows[:20]))


def test_the_rank_statistic_is_mann_whitneys():
    d, e = RNG.integers(0, 9, 60), RNG.integers(2, 9, 40)  # with ties
    u = scipy.stats.mannwhitneyu(d, e).statistic
    assert nearer(d, e).auc == pytest.approx(u / (60 * 40))
    assert nearer(e, d).auc == pytest.approx(1.0 - nearer(d, e).auc)
    assert nearer(e, d).standard_error == pytest.approx(nearer(d, e).standard_error)
    with pytest.raises(ValueError, match="at least two"):
        nearer(d, e[:1])


def test_its_standard_error_is_its_deviation():
    found = np.array([nearer(RNG.normal(0.5, 1.0, 80), RNG.normal(size=120)) for _ in range(400)])
    ratio = found[:, 1].mean() / found[:, 0].std(ddof=1)
    assert ratio == pytest.approx(1.0, abs=4.0 / np.sqrt(2.0 * 400))
    truth = scipy.stats.norm.cdf(0.5 / np.sqrt(2.0))
    assert found[:, 0].mean() == pytest.approx(truth, abs=4.0 * found[:, 0].std() / 20.0)


def test_few_distances_are_not_too_certain():
    """Of equal laws, 10 and 2 distances: the AUC is often 0 or 1, and never without an error."""
    found = np.array([nearer(RNG.normal(size=10), RNG.normal(size=2)) for _ in range(400)])
    assert found[:, 1].min() > 0.2 and np.mean(np.abs(found[:, 0] - 0.5) < 1.96 * found[:, 1]) > 0.93
    assert nearer([1.0, 2.0] * 20, [3.0] * 50).standard_error > 0.05


# --- the judge --------------------------------------------------------------------------------------------------------
class Linear:
    """A classifier whose features are the images."""

    def features(self, images):
        return np.asarray(images)


def normal_images(n: int, shift: float = 0.0) -> np.ndarray:
    """Rows of eight coordinates, the deviation of each half of that before, the first one moved."""
    rows = RNG.normal(size=(n, 8)) * 0.5 ** np.arange(8)
    rows[:, 0] += shift
    return rows.astype(np.float32)


def judge(classifier=None) -> ImageJudge:
    """Of 1,500 training and 1,000 held-out images."""
    rows, held_out = normal_images(1500), normal_images(1000)
    units = {"offset": np.zeros(8), "scale": np.ones(8)}
    data = Dataset(name="mine", dim=8, side=2, rows=rows, held_out=held_out, **units)
    return ImageJudge(data, classifier, normal_images(800))


def test_components_are_standardised_and_hold_most_of_the_variance():
    points = np.column_stack([normal_images(4000), np.zeros(4000)])
    found = Components.of(points, 3)
    np.testing.assert_allclose(np.cov(found(points).T), np.eye(3), atol=1e-9)
    shares = 0.25 ** np.arange(8)
    assert found.share == pytest.approx(shares[:3].sum() / shares.sum(), abs=0.01)
    assert Components.of(points).directions.shape == (8, 9)  # a coordinate without variance is left out


@pytest.mark.parametrize("copied, auc", [(True, 0.0), (False, 0.5)])
def test_copies_of_training_images_are_found_out(copied, auc):
    of = judge()
    found = of(of.data.rows[:600] if copied else normal_images(600))
    assert list(found) == ["nearest_training"]
    nearest = found["nearest_training"]
    assert nearest["auc"] == pytest.approx(auc, abs=4.0 * max(nearest["standard_error"], 1e-3))
    assert (nearest["distance"] < 1e-2 < nearest["held_out_distance"]) == copied


@pytest.mark.slow
def test_features_are_compared_by_the_estimator_with_intervals(judged_in_full, little_training):
    """Those of a moved law, whose Jensen–Shannon divergence is known, and of real images, which is 0."""
    of = judge(Linear())
    scores = of(normal_images(800, shift=2.0))
    features, real = scores["features"], scores["features"]["real_images"]
    truth = {"kl": 2.0, "total_variation": 2.0 * scipy.stats.norm.cdf(1.0) - 1.0}
    for name in ("kl", "js", "total_variation"):
        assert features[f"{name}_low"] <= features[name] and real[f"{name}_low"] <= 0.0
        low, value, high = (features[f"{name}{end}"] for end in ("_low", "", "_high"))
        if name in truth:  # within twice the interval's halves, nearly four standard errors
            assert 2.0 * low - value <= truth[name] and (high is None or truth[name] <= 2.0 * high - value)
    assert features["js_low"] > 0.0 and features["p_value"] == pytest.approx(0.002) and features["components"] == 8
    assert isinstance(features["warnings"], list)
    said = lines(scores)
    assert said[0].startswith("features   kl ") and "real images: kl" in said[1] and "p = 0.002" in said[2]
    assert said[-1].startswith("nearest    training images: AUC")


def test_what_cannot_be_estimated_is_said():
    """Too few images for the estimator, and a classifier that has seen all but one."""
    assert "not_estimated" in ImageJudge(judge().data, Linear(), normal_images(1))._real
    scores = {"features": {"components": 3, "not_estimated": "too few", "real_images": {"not_estimated": "none"}}}
    nearest = {"auc": 0.5, "standard_error": 0.1, "distance": 1.0, "held_out_distance": 1.0}
    scores |= {"nearest_training": nearest | {"among": 10, "training_images": 2000}}
    said = lines(scores)
    assert "nearest    10 of 2,000 training images" in said[-1]
    assert "too few" in said[0] and len(said) == 4
    assert train._lines({"precision": 0.5, "held_out_x": {"precision": 0.75}} | scores) == [
        "scores     precision 0.5",
        "  held out x: precision 0.75",
        *said,
    ]

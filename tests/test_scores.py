"""Scores of generators whose right answer is known: perfect, collapsed, too narrow, too few samples to tell."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from estimators.distributions.examples import swiss_roll, two_moons
from estimators.distributions.subspaces import SubspaceMixture
from fgan.scores import precision_recall as precision_recall_module
from fgan.scores.modes import (
    curve_scores,
    mode_scores,
    perfect_high_quality,
    perfect_in_subspace,
    subspace_scores,
    truncated_mean_square,
)
from fgan.scores.precision_recall import histogram_kl, precision_recall

N = 2500


def standard_error_of_share(p, n):
    """√(p (1 − p) / n), of a share p in n independent samples."""
    return stats.binom.std(n, p) / n


def ring(k=8):
    angle = 2 * np.pi * np.arange(k) / k
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def grid(d, values=(-4.0, -2.0, 0.0, 2.0, 4.0)):
    return np.stack(np.meshgrid(*[values] * d), axis=-1).reshape(-1, d)


def draw(centres, sigma, n=N, seed=0, modes=None):
    rng = np.random.default_rng(seed)
    mode = rng.choice(len(centres) if modes is None else modes, n)
    return centres[mode] + sigma * rng.normal(size=(n, centres.shape[1]))


MIXTURES = {
    "ring": (ring(), 0.01),
    "grid": (grid(2), 0.05),
    "line": (grid(1), 0.1),
    "cube": (grid(3, (-1.0, 1.0)), 0.05),
}


# --- modes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", MIXTURES)
@pytest.mark.parametrize("seed", range(3))
def test_perfect_sampler_scores_perfectly(name, seed):
    centres, sigma = MIXTURES[name]
    k, d = centres.shape
    scores = mode_scores(draw(centres, sigma, seed=seed), centres, sigma)
    share = perfect_high_quality(d)
    n_good = round(scores.high_quality * N)
    assert scores.captured == k and scores.missing == ()
    assert abs(scores.high_quality - share) <= 3 * standard_error_of_share(share, N)
    assert scores.kl_floor == pytest.approx((k - 1) / (2 * n_good))
    assert stats.chi2.ppf(1e-4, k - 1) <= 2 * n_good * scores.kl <= stats.chi2.ppf(1 - 1e-4, k - 1)
    # r² has mean d and variance 2d, so the root mean square of n/K of them has relative error √(2/d)/(2√(n/K)).
    error = np.sqrt(2 / d) / 2 / np.sqrt(N / k)
    np.testing.assert_allclose(scores.width_ratio, 1, atol=4 * error)


def test_published_share_of_a_perfect_sampler_in_the_plane():
    assert perfect_high_quality(2) == pytest.approx(0.9889, abs=5e-5)


@pytest.mark.parametrize("d", [1, 2, 3, 16])
@pytest.mark.parametrize("radius", [0.5, 3.0, 5.0])
def test_perfect_numbers_are_those_of_the_chi_distribution(d, radius):
    assert perfect_high_quality(d, radius) == pytest.approx(stats.chi.cdf(radius, d), rel=1e-12)
    square = stats.chi(d).expect(lambda r: r**2, lb=0, ub=radius, conditional=True)
    assert truncated_mean_square(d, radius) == pytest.approx(square, rel=1e-7)


def test_truncated_width_survives_dimensions_where_its_probability_underflows():
    assert stats.chi2.cdf(25, 1200) == 0
    assert 25 * 1200 / 1202 < truncated_mean_square(1200, 5.0) * np.exp(25 / 1202) < 25 * np.exp(25 / 1202)


@pytest.mark.parametrize("kept", [[0], [2, 5], [0, 1, 2, 3, 4, 5, 6]])
def test_collapsed_sampler_misses_modes_and_is_log_k_apart(kept):
    scores = mode_scores(draw(ring(), 0.01, modes=kept), ring(), 0.01)
    assert scores.captured == len(kept)
    assert scores.missing == tuple(k for k in range(8) if k not in kept)
    # Uniform on the kept modes up to the floor of their own histogram.
    assert np.log(8 / len(kept)) <= scores.kl <= np.log(8 / len(kept)) + stats.chi2.ppf(1 - 1e-4, 7) / (2 * N * 0.98)
    assert np.array_equal(np.isnan(scores.width_ratio), ~np.isin(np.arange(8), kept))


@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_narrow_sampler_is_seen_in_the_width_and_not_in_the_quality(factor):
    scores = mode_scores(draw(ring(), 0.01 * factor), ring(), 0.01)
    assert scores.high_quality > perfect_high_quality(2) + 3 * standard_error_of_share(perfect_high_quality(2), N)
    np.testing.assert_allclose(scores.width_ratio, factor, atol=4 * factor / 2 / np.sqrt(N / 8))


def test_points_beyond_the_radius_are_of_no_mode():
    centres = np.array([[0.0, 0.0], [10.0, 0.0]])
    on_first = np.array([[2.9, 0.0], [0.0, 3.1], [0.0, 4.9], [0.0, 5.1]])
    scores = mode_scores(np.repeat(on_first, 10, axis=0), centres, 1.0)
    assert scores.captured == 1 and scores.missing == (1,)
    assert scores.high_quality == 0.25
    assert scores.kl == pytest.approx(np.log(2))
    width = np.sqrt(np.mean([2.9**2, 3.1**2, 4.9**2]) / truncated_mean_square(2, 5.0))
    assert scores.width_ratio[0] == pytest.approx(width) and np.isnan(scores.width_ratio[1])
    assert mode_scores(on_first, centres, 1.0, radius=5.0).high_quality == 0.75


def test_width_needs_ten_samples():
    centres = np.zeros((1, 2))
    assert np.isnan(mode_scores(np.ones((9, 2)), centres, 1.0).width_ratio[0])
    assert np.isfinite(mode_scores(np.ones((10, 2)), centres, 1.0).width_ratio[0])


def test_a_sampler_without_one_good_sample_has_no_histogram():
    scores = mode_scores(np.full((100, 2), 50.0), ring(), 0.01)
    assert scores.captured == 0 and scores.high_quality == 0 and scores.missing == tuple(range(8))
    assert np.isnan(scores.kl) and np.isinf(scores.kl_floor) and np.isnan(scores.width_ratio).all()


def test_scores_ignore_rigid_motions_and_units():
    samples, centres = draw(ring(), 0.013), ring()
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    one = mode_scores(samples, centres, 0.01)
    two = mode_scores(7 * samples @ turn + 3, 7 * centres @ turn + 3, 0.07)
    assert one[:4] == pytest.approx(two[:4])
    np.testing.assert_allclose(one.width_ratio, two.width_ratio, rtol=1e-9)


def test_scores_of_jax_and_float32_arrays():
    samples = draw(ring(), 0.01).astype(np.float32)
    one, two = mode_scores(samples, ring(), 0.01), mode_scores(jnp.asarray(samples), ring(), 0.01)
    assert one[:4] == two[:4] and one.captured == 8


@pytest.mark.parametrize(
    ("samples", "centres", "sigma", "radius", "words"),
    [
        (np.zeros((5, 3)), ring(), 0.1, 3.0, "dimension"),
        (np.full((5, 2), np.nan), ring(), 0.1, 3.0, "samples"),
        (np.zeros((0, 2)), ring(), 0.1, 3.0, "samples"),
        (np.zeros((5, 2)), np.full((3, 2), np.inf), 0.1, 3.0, "centres"),
        (np.zeros((5, 2)), ring(), 0.0, 3.0, "sigma=0.0"),
        (np.zeros((5, 2)), ring(), 0.1, -1.0, "radius=-1.0"),
        (np.zeros((5, 2)), ring(), np.nan, 3.0, "sigma=nan"),
    ],
)
def test_bad_samples_are_refused(samples, centres, sigma, radius, words):
    with pytest.raises(ValueError, match=words):
        mode_scores(samples, centres, sigma, radius=radius)


# --- curves ----------------------------------------------------------------------------------------------------------


def on_curve(curve, share=1.0, width=1.0):
    """A perfect sampler of the first `share` of a curve, its noise multiplied by `width`."""
    rng = np.random.default_rng(0)
    return curve.at(share * rng.random(N)) + width * curve.sigma * rng.normal(size=(N, 2))


@pytest.mark.parametrize("curve", [two_moons(), swiss_roll()], ids=["two_moons", "swiss_roll"])
def test_curves_are_scored_by_quality_coverage_and_width(curve):
    perfect, narrow, half = (curve_scores(on_curve(curve, *how), curve) for how in ((), (1.0, 0.5), (0.5,)))
    error = standard_error_of_share(perfect_high_quality(1), N)
    assert perfect.high_quality == pytest.approx(perfect_high_quality(1), abs=5 * error)
    assert narrow.high_quality == 1.0 and narrow.width_ratio == pytest.approx(0.5, rel=0.1)
    assert perfect.width_ratio == pytest.approx(1.0, rel=0.1) and perfect.kl_floor == pytest.approx(
        19 / 2 / N, rel=0.01
    )
    assert perfect.kl < 3 * perfect.kl_floor and half.kl == pytest.approx(np.log(2), abs=0.05)
    assert abs(perfect.log_density + curve.entropy()) < 5 / np.sqrt(N) < narrow.log_density + curve.entropy()


def test_points_far_from_a_curve_are_of_no_quality():
    far = curve_scores(np.full((5, 2), 9.0), two_moons())
    assert far.high_quality == 0.0 and np.isnan(far.kl) and np.isnan(far.width_ratio) and far.log_density < -1e4


@pytest.mark.parametrize(
    ("points", "radius"), [(np.zeros((3, 1)), 3.0), (np.full((3, 2), np.nan), 3.0), (np.eye(2), 0)]
)
def test_what_no_curve_can_score_is_refused(points, radius):
    with pytest.raises(ValueError):
        curve_scores(points, two_moons(), radius=radius)


# --- modes in subspaces -----------------------------------------------------------------------------------------------
LAW = SubspaceMixture(modes=4, dim=60, rank=30, sigma=0.5, separation=6.0)


def in_subspaces(samples, law=LAW):
    return subspace_scores(samples, law.means, law.bases, law.sigma)


def around_means(sigma, n=4 * N, law=LAW):
    """Means with noise of deviation `sigma` in every direction."""
    return draw(law.means, sigma, n)


@pytest.mark.parametrize("rank", [1, 30, 700])
def test_a_perfect_sampler_in_subspaces_scores_by_the_chi_law(rank):
    assert perfect_in_subspace(rank) == pytest.approx(stats.chi(rank).cdf(np.sqrt(rank) + 3.0), rel=1e-12)


@pytest.mark.parametrize("law", [LAW, SubspaceMixture(modes=2, dim=3, rank=1)], ids=["30 of 60", "1 of 3"])
def test_a_perfect_sampler_in_subspaces_scores_perfectly(law):
    n = 4 * N
    scores = in_subspaces(law.sample(np.random.default_rng(7), n), law)
    share, count = perfect_in_subspace(law.rank), n / law.modes
    assert scores.captured == law.modes
    assert scores.high_quality == pytest.approx(share, abs=4 * standard_error_of_share(share, n) + 1e-9)
    assert scores.kl < stats.chi2(law.modes - 1).ppf(0.9999) / (2 * n) and scores.kl_floor > 0
    assert np.abs(scores.off).max() < 1e-9
    np.testing.assert_allclose(scores.width_ratio, 1.0, atol=4 / np.sqrt(2 * law.rank * count))
    np.testing.assert_allclose(scores.effective_rank, 1 / (1 / law.rank + 1 / count), rtol=0.05)
    assert stats.kstest(scores.inside, stats.chi(law.rank).cdf).pvalue > 1e-3


def test_a_sampler_of_the_means_is_of_high_quality_and_has_no_width():
    scores = in_subspaces(np.repeat(LAW.means, 20, axis=0))
    assert (scores.captured, scores.high_quality, scores.kl) == (4, 1.0, pytest.approx(0.0, abs=1e-12))
    np.testing.assert_allclose(scores.width_ratio, 0.0, atol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.2, 2.0])
def test_noise_in_every_direction_scores_by_two_chi_laws(factor):
    """Distances within and off the subspace are independent: half passes at factor 1, nothing at 2."""
    n, r, s = 4 * N, LAW.rank, LAW.dim - LAW.rank
    share = stats.chi(r).cdf((np.sqrt(r) + 3.0) / factor) * stats.chi(s).cdf(np.sqrt(s) / factor)
    scores = in_subspaces(around_means(factor * LAW.sigma))
    assert scores.high_quality == pytest.approx(share, abs=4 * standard_error_of_share(share, n) + 1e-4)
    assert scores.captured == (4 if factor < 2 else 0)


def test_width_and_directions_are_those_of_the_covariance():
    """Three of 30 directions, with the deviation that gives the whole width, off centre; and in one: rank 1."""
    rng = np.random.default_rng(3)
    for k in (1, 3):
        z = np.zeros((4 * N, LAW.rank))
        z[:, :k] = np.sqrt(LAW.rank / k) * np.clip(rng.normal(size=(4 * N, k)), -1.5, 1.5)
        shifted = LAW.means[2] + LAW.sigma * (z + 0.2) @ LAW.bases[2]
        scores = in_subspaces(shifted)
        expected = z.std(axis=0)
        assert scores.width_ratio[2] == pytest.approx(np.sqrt(np.sum(expected**2) / LAW.rank), rel=1e-3)
        assert scores.effective_rank[2] == pytest.approx(k, rel=0.01)
        assert np.isnan(scores.width_ratio[[0, 1, 3]]).all() and np.isnan(scores.effective_rank[[0, 1, 3]]).all()


def test_scores_in_subspaces_ignore_rotations_and_units():
    samples = around_means(0.9 * LAW.sigma)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(LAW.dim, LAW.dim)))[0]
    one = in_subspaces(samples)
    two = subspace_scores(7 * samples @ turn, 7 * LAW.means @ turn, LAW.bases @ turn, 7 * LAW.sigma)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"bases": LAW.bases[:2]}, r"bases \(2, 30, 60\): must be \[4, r, 60\]"),
        ({"bases": LAW.bases[0]}, "bases"),
        ({"bases": np.zeros((4, 60, 60))}, "0 < r < 60"),
        ({"sigma": 0.0}, "sigma"),
        ({"samples": np.zeros((3, 5))}, "differ in dimension"),
        ({"samples": np.full((3, 60), np.nan)}, "samples"),
    ],
)
def test_what_is_no_mixture_in_subspaces_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        subspace_scores(**{"samples": LAW.means, "means": LAW.means, "bases": LAW.bases, "sigma": 1.0} | changes)


# --- histograms ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(4))
def test_histogram_kl_is_the_relative_entropy_of_the_shares(seed):
    rng = np.random.default_rng(seed)
    counts, reference = rng.integers(0, 50, 12), rng.random(12) + 0.01
    kl, floor = histogram_kl(counts, reference)
    assert kl == pytest.approx(stats.entropy(counts, reference))
    assert floor == pytest.approx(11 / (2 * counts.sum()))
    assert histogram_kl(counts, np.ones(12))[0] == pytest.approx(np.log(12) - stats.entropy(counts))
    assert histogram_kl(3 * reference, reference)[0] == pytest.approx(0, abs=1e-15)


def test_floor_is_the_mean_of_a_perfect_sampler():
    law = np.array([0.4, 0.3, 0.2, 0.1])
    draws = np.random.default_rng(0).multinomial(2000, law, size=1000)
    values = np.array([histogram_kl(counts, law)[0] for counts in draws])
    floor = histogram_kl(draws[0], law)[1]
    assert abs(values.mean() - floor) <= 4 * values.std() / np.sqrt(len(values))


@pytest.mark.parametrize(
    ("counts", "reference", "kl", "floor"),
    [
        ([3, 1], [1, 0], np.inf, 0.0),
        ([4, 0], [1, 0], 0.0, 0.0),
        ([4, 0], [1, 1], np.log(2), 1 / 8),
        ([0, 0], [1, 1], np.nan, np.inf),
        ([5], [2], 0.0, 0.0),
    ],
)
def test_histogram_kl_at_the_border(counts, reference, kl, floor):
    assert histogram_kl(counts, reference) == pytest.approx((kl, floor), nan_ok=True)


@pytest.mark.parametrize(
    ("counts", "reference"), [([1, 2], [1]), ([1, -1], [1, 1]), ([1, 1], [0, 0]), ([1, np.nan], [1, 1]), ([[1]], [[1]])]
)
def test_bad_histograms_are_refused(counts, reference):
    with pytest.raises(ValueError, match=r"counts and reference"):
        histogram_kl(counts, reference)


# --- precision and recall --------------------------------------------------------------------------------------------
def brute_force(real, fake, neighbours):
    """The definition, one pair of points at a time."""

    def share(points, centres):
        covered = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = np.sort([np.linalg.norm(centre - o) for j, o in enumerate(centres) if j != i])
                if np.linalg.norm(point - centre) <= others[neighbours - 1]:
                    covered += 1
                    break
        return covered / len(points)

    return share(fake, real), share(real, fake)


@pytest.mark.parametrize("neighbours", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "k"), [(40, 30, 2), (30, 45, 5)])
def test_precision_recall_is_its_definition(neighbours, n, m, k):
    rng = np.random.default_rng(n + neighbours)
    real, fake = rng.normal(size=(n, k)), rng.normal(size=(m, k)) + 3 / np.sqrt(k)
    answer = precision_recall(real, fake, neighbours=neighbours)
    assert answer == pytest.approx(brute_force(real, fake, neighbours))
    assert 0 < answer.precision < 1 and 0 < answer.recall < 1


def test_precision_recall_counts_ties_and_duplicates_as_covered():
    rng = np.random.default_rng(1)
    real, fake = rng.integers(0, 5, (40, 2)), rng.integers(1, 7, (30, 2))
    assert precision_recall(real, fake) == pytest.approx(brute_force(real, fake, 3))


def test_precision_recall_does_not_depend_on_its_blocks(monkeypatch):
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(700, 4)), 1.2 * rng.normal(size=(530, 4))
    whole = precision_recall(real, fake)
    monkeypatch.setattr(precision_recall_module, "BLOCK", 37)
    assert precision_recall(real, fake) == whole


def test_precision_recall_limits():
    rng = np.random.default_rng(3)
    real = rng.normal(size=(300, 3))
    assert precision_recall(real, rng.permutation(real)) == (1, 1)
    assert precision_recall(real + 1e6, real + 1e6) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    narrow, wide = 0.2 * rng.normal(size=(300, 3)), 5 * rng.normal(size=(300, 3))
    assert precision_recall(real, narrow).precision > 0.99 and precision_recall(real, narrow).recall < 0.2
    assert precision_recall(real, wide).precision < 0.3 and precision_recall(real, wide).recall > 0.9
    assert precision_recall(real, wide) == precision_recall(wide, real)[::-1]


@pytest.mark.parametrize(
    ("real", "fake", "neighbours", "words"),
    [
        (np.zeros((9, 2)), np.zeros((9, 3)), 3, "dimension"),
        (np.zeros((9, 2)), np.zeros((3, 2)), 3, "neighbours"),
        (np.zeros((9, 2)), np.zeros((9, 2)), 0, "neighbours"),
        (np.zeros((9, 2)), np.full((9, 2), np.nan), 3, "features_fake"),
    ],
)
def test_bad_features_are_refused(real, fake, neighbours, words):
    with pytest.raises(ValueError, match=words):
        precision_recall(real, fake, neighbours=neighbours)

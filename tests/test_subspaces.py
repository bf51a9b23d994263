"""Mixtures in subspaces: a regular simplex of means, uniform subspaces, samples that lie in them."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture

LAW = SubspaceMixture(modes=5, dim=24, rank=9, sigma=0.3, separation=8.0)
N = 20_000


@pytest.fixture(scope="module")
def samples():
    x = LAW.sample(np.random.default_rng(0), N)
    distance = np.linalg.norm(x[:, None] - LAW.means[None], axis=2)
    return x, distance.argmin(axis=1)


def test_the_named_one_is_veegans():
    law = SUBSPACES["high_dimensional"]
    assert (law.modes, law.rank, law.dim) == (10, 700, 1200)


def test_the_means_are_a_regular_simplex_around_zero():
    np.testing.assert_allclose(pdist(LAW.means), LAW.separation * LAW.sigma * 3.0)
    np.testing.assert_allclose(LAW.means.sum(axis=0), 0.0, atol=1e-12)


def test_the_bases_are_orthonormal_and_span_different_subspaces():
    for k, basis in enumerate(LAW.bases):
        np.testing.assert_allclose(basis @ basis.T, np.eye(LAW.rank), atol=1e-12)
        overlap = [np.sum((basis @ other.T) ** 2) / LAW.rank for j, other in enumerate(LAW.bases) if j != k]
        assert np.mean(overlap) == pytest.approx(LAW.rank / LAW.dim, abs=0.1)  # of uniform subspaces


def test_the_modes_are_equally_likely(samples):
    counts = np.bincount(samples[1], minlength=LAW.modes)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_mode_has_deviation_sigma_in_its_subspace_and_none_off_it(samples):
    x, labels = samples
    for k, (mean, basis) in enumerate(zip(LAW.means, LAW.bases, strict=True)):
        a = (x[labels == k] - mean) @ basis.T / LAW.sigma
        np.testing.assert_allclose(x[labels == k], mean + LAW.sigma * a @ basis, atol=1e-12)
        error = 5.0 / np.sqrt(len(a))
        np.testing.assert_allclose(a.mean(axis=0), 0.0, atol=error)
        np.testing.assert_allclose(np.cov(a.T), np.eye(LAW.rank), atol=1.5 * error)  # 2n variances: √2 as wide


def test_its_deviation_is_that_of_the_average_axis(samples):
    square = (samples[0] ** 2).sum(axis=1)
    assert square.mean() / LAW.dim == pytest.approx(LAW.deviation**2, abs=5 * square.std() / np.sqrt(N) / LAW.dim)


def test_in_the_plane_of_the_means_they_lie_on_a_circle():
    np.testing.assert_allclose(LAW.plane.T @ LAW.plane, np.eye(2), atol=1e-12)
    shadow = LAW.means @ LAW.plane
    angles = np.unwrap(np.arctan2(shadow[:, 1], shadow[:, 0]))
    np.testing.assert_allclose(np.diff(angles), 2.0 * np.pi / LAW.modes)
    np.testing.assert_allclose(np.linalg.norm(shadow, axis=1), np.linalg.norm(shadow[0]))


def test_the_seed_alone_decides():
    other = dataclasses.replace(LAW, seed=1)
    again = dataclasses.replace(LAW)
    assert again == LAW and np.array_equal(again.means, LAW.means) and np.array_equal(again.bases, LAW.bases)
    assert other != LAW and not np.allclose(other.means, LAW.means) and not np.allclose(other.bases, LAW.bases)


@pytest.mark.parametrize("changes", [{"rank": 24}, {"rank": 0}, {"modes": 0}, {"modes": 25}, {"sigma": 0.0}])
def test_what_is_no_law_is_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(LAW, **changes)

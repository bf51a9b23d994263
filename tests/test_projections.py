"""Projections: moments match, tilts are Csiszár's, and the Pythagorean identity holds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators import distributions as dist
from estimators.distributions.examples import TWO_MODES
from estimators.exact_values.fits import log_gaussian
from estimators.exact_values.quadrature import line_rule
from estimators.geometry.categorical import between
from estimators.geometry.projections import (
    i_projection,
    i_projection_categorical,
    m_projection,
    m_projection_categorical,
    match_moments,
    tilt,
    with_moments,
)

RNG = np.random.default_rng(11)
P = RNG.dirichlet(np.ones(6))
STATISTICS = RNG.normal(size=(6, 2))


def member(theta):
    """The exponential family with these statistics, on six values."""
    return jax.nn.log_softmax(jnp.asarray(STATISTICS) @ theta)


def test_the_m_projection_has_the_moments_of_the_target_and_no_other_projection_has():
    found = m_projection_categorical(P, member, [0.0, 0.0])
    q = np.exp(np.asarray(member(found.parameters)), dtype=np.float64)
    np.testing.assert_allclose(q @ STATISTICS, P @ STATISTICS, atol=1e-6)
    assert found.value == pytest.approx(float(between(P, q / q.sum(), "kl")), abs=1e-6)
    with jax.enable_x64(True):
        theta = match_moments(P @ STATISTICS, lambda t: jax.nn.logsumexp(jnp.asarray(STATISTICS) @ t), np.zeros(2))
    np.testing.assert_allclose(theta, found.parameters, atol=1e-6)
    other = i_projection_categorical(P, member, [0.0, 0.0])
    assert np.abs(np.exp(np.asarray(member(other.parameters))) @ STATISTICS - P @ STATISTICS).max() > 1e-2


@pytest.mark.parametrize("name", ["js", "reverse_kl"])
def test_projections_are_minima_under_other_divergences(x64, name):
    for project, order in ((m_projection_categorical, 1), (i_projection_categorical, -1)):
        found = project(P, member, [0.1, 0.1], name)
        nudges = found.parameters + 1e-3 * np.vstack([np.eye(2), -np.eye(2)])
        for theta in (found.parameters, *nudges):
            q = np.exp(np.asarray(member(theta), np.float64))
            value = float(between(*(P, q / q.sum())[::order], name))
            assert value >= found.value - 1e-9
    swapped = i_projection_categorical(P, member, [0.1, 0.1], "kl").parameters
    if name == "reverse_kl":
        np.testing.assert_allclose(m_projection_categorical(P, member, [0.1, 0.1], name).parameters, swapped, atol=1e-6)


@pytest.mark.slow
def test_densities_cover_or_seek():
    """The M-projection covers both modes, at the moments of the target; the I-projection takes one."""
    covering = m_projection(TWO_MODES.log_prob, log_gaussian, (0.5, 0.5), support=(-14.0, 14.0), tol=1e-8)
    seeking = i_projection(TWO_MODES.log_prob, log_gaussian, (1.5, -0.5), support=(-14.0, 14.0), tol=1e-8)
    mean, deviation = TWO_MODES.moments()
    assert (covering.parameters[0], math.exp(covering.parameters[1])) == pytest.approx((mean, deviation), abs=1e-5)
    assert math.exp(seeking.parameters[1]) < 0.5 * deviation


def test_the_tilt_has_its_moments_and_obeys_pythagoras():
    """KL(R‖P) = KL(R‖P*) + KL(P*‖P) for every R with the moments; so no R is closer to P."""
    r = RNG.dirichlet(np.ones(6))
    found = tilt(np.log(P), STATISTICS, r @ STATISTICS)
    best = np.exp(found.log_prob)
    assert best.sum() == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(best @ STATISTICS, r @ STATISTICS, atol=1e-9)
    total = float(between(r, best, "kl") + between(best, P, "kl"))
    assert float(between(r, P, "kl")) == pytest.approx(total, rel=1e-9)


def test_the_m_projection_obeys_pythagoras_too():
    """KL(P‖Q_θ) = KL(P‖Q*) + KL(Q*‖Q_θ) for every member Q_θ of the exponential family."""
    best = np.exp(tilt(np.zeros(6), STATISTICS, P @ STATISTICS).log_prob)
    q = np.exp(np.asarray(member(np.array([0.7, -0.4])), np.float64))
    q = q / q.sum()
    total = float(between(P, best, "kl") + between(best, q, "kl"))
    assert float(between(P, q, "kl")) == pytest.approx(total, rel=1e-6)


def test_tilting_a_density_moves_a_gaussian():
    """N(0, 1) with mean 1 and second moment 1.5: N(1, 0.5)."""
    x, w = line_rule((-12.0, 12.0), 40)
    found = tilt(-0.5 * x**2, np.stack([x, x**2], axis=1), [1.0, 1.5], w)
    expected = -((x - 1.0) ** 2) - 0.5 * math.log(math.pi)
    near = np.abs(x) < 5.0
    np.testing.assert_allclose(found.log_prob[near], expected[near], atol=1e-8)


def test_redundant_statistics_do_no_harm():
    doubled = np.hstack([STATISTICS, STATISTICS[:, :1]])
    wanted = RNG.dirichlet(np.ones(6)) @ doubled
    np.testing.assert_allclose(np.exp(tilt(np.log(P), doubled, wanted).log_prob) @ doubled, wanted, atol=1e-9)


def test_moments_in_the_structure_of_the_parameters():
    """A normal's natural parameters by name, from its mean and second moment."""

    def log_partition(theta):
        return -0.25 * theta["x"] ** 2 / theta["x²"] - 0.5 * jnp.log(-2.0 * theta["x²"])

    theta = match_moments({"x": 2.0, "x²": 4.25}, log_partition, {"x": 0.0, "x²": -0.5})
    assert [float(theta["x"]), float(theta["x²"])] == pytest.approx([8.0, -2.0], rel=1e-8)


def test_what_cannot_be_projected_is_refused():
    with pytest.raises(ValueError, match="inside the convex hull"):
        tilt(np.log([0.5, 0.5]), [[0.0], [1.0]], [1.5])
    with pytest.raises(ValueError, match="one moment a parameter"):
        match_moments([1.0, 2.0], jnp.exp, 0.0)
    with pytest.raises(ValueError, match=r"\[k\], \[k, m\], \[m\]"):
        tilt(np.log([0.5, 0.5]), [0.0, 1.0], [0.5])
    with pytest.raises(ValueError, match="infinite at the start"):
        i_projection_categorical([1.0, 0.0], lambda t: jax.nn.log_softmax(jnp.append(t, 0.0)), [0.0])


@pytest.mark.parametrize("unit", [1e-10, 1.0, 1e8])
def test_moments_are_matched_in_any_unit(unit):
    """Means of dice and of an exponential law, whatever they are measured in."""
    faces = unit * np.arange(1.0, 7.0)
    found = tilt(np.log([1 / 6] * 6), faces[:, None], [4.5 * unit])
    np.testing.assert_allclose(np.exp(found.log_prob) @ faces, 4.5 * unit, rtol=1e-8)
    rate = with_moments(dist.Exponential(1.0), (unit,)).rate
    np.testing.assert_allclose(float(rate), 1.0 / unit, rtol=1e-7)

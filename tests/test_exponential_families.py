"""What follows from a log-partition, against sums, quadrature and Gaussian closed forms, over random parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators import distributions as dist
from estimators.divergences.families import alpha
from estimators.exact_values import exponential_families as families
from estimators.exact_values import gaussian
from estimators.exact_values.pairs import by_quadrature, by_summation
from estimators.geometry.geodesics import chernoff_of_family
from estimators.geometry.projections import with_moments

KEY = jax.random.key(1)


def _spd(rng):
    a = rng.normal(size=(2, 2))
    return a @ a.T + np.eye(2)


RANDOM = {
    "Normal": lambda rng: dist.Normal(rng.normal(), rng.uniform(0.5, 2.0)),
    "LogNormal": lambda rng: dist.LogNormal(rng.normal(), rng.uniform(0.5, 1.5)),
    "Exponential": lambda rng: dist.Exponential(rng.uniform(0.5, 3.0)),
    "Gamma": lambda rng: dist.Gamma(rng.uniform(0.7, 4.0), rng.uniform(0.5, 3.0)),
    "InverseGamma": lambda rng: dist.InverseGamma(rng.uniform(0.7, 4.0), rng.uniform(0.5, 3.0)),
    "Beta": lambda rng: dist.Beta(rng.uniform(1.5, 4.0), rng.uniform(1.5, 4.0)),
    "VonMises": lambda rng: dist.VonMises(rng.uniform(-3.0, 3.0), rng.uniform(0.2, 4.0)),
    "Bernoulli": lambda rng: dist.Bernoulli(rng.uniform(0.05, 0.95)),
    "Binomial": lambda rng: dist.Binomial(9, rng.uniform(0.1, 0.9)),
    "Poisson": lambda rng: dist.Poisson(rng.uniform(0.5, 6.0)),
    "Geometric": lambda rng: dist.Geometric(rng.uniform(0.2, 0.8)),
    "NegativeBinomial": lambda rng: dist.NegativeBinomial(2.5, rng.uniform(0.2, 0.8)),
}
FEW = ("LogNormal", "Gamma", "Binomial", "Poisson")  # on the line and of counts; the others are slow
VECTORS = {
    "MultivariateNormal": lambda rng: dist.MultivariateNormal(rng.normal(size=2), _spd(rng)),
    "Dirichlet": lambda rng: dist.Dirichlet(rng.uniform(0.7, 4.0, 3)),
    "Categorical": lambda rng: dist.Categorical(logits=rng.normal(size=4)),
    "Wishart": lambda rng: dist.Wishart(rng.uniform(2.0, 6.0), _spd(rng)),
}
EVERY = RANDOM | VECTORS


def _pair(name, seed=0):
    rng = np.random.default_rng([seed, sorted(EVERY).index(name)])
    return EVERY[name](rng), EVERY[name](rng)


@pytest.mark.parametrize("name", EVERY)
def test_density_is_that_of_the_family(name, x64):
    """log p = log h + ⟨θ, T⟩ − F, ∇F = E T, and θ leads back to the same distribution."""
    p, _ = _pair(name)
    x = p.sample(KEY, 5)
    theta = p.natural_parameters()
    inner = sum(
        jnp.sum(part[None] * t, axis=tuple(range(1, 1 + n)))
        for part, t, n in zip(theta, p.statistics(x), p.natural_ndims)
    )
    base = 0.0 if name == "Categorical" else p.log_base(x)
    np.testing.assert_allclose(p.log_prob(x), base + inner - p.log_partition(theta), rtol=1e-9, atol=1e-9)
    back = p.from_natural(theta)
    np.testing.assert_allclose(back.log_prob(x), p.log_prob(x), rtol=1e-9, atol=1e-9)
    assert bool(jnp.all(p.in_domain(theta)))


@pytest.mark.parametrize("name", ["Normal", "Gamma", "Beta", "Dirichlet", "Poisson", "Wishart", "VonMises"])
def test_gradient_of_the_log_partition_is_the_mean_of_the_statistics(name, x64):
    p, _ = _pair(name)
    for expected, values in zip(p.mean_parameters(), p.statistics(p.sample(KEY, 20_000))):
        spread = np.asarray(values).std(axis=0) / np.sqrt(20_000)
        np.testing.assert_array_less(np.abs(np.asarray(values).mean(axis=0) - expected), 5.0 * spread + 1e-12)


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(n, marks=pytest.mark.slow) for n in RANDOM if n not in FEW)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_kl_and_moments_are_those_of_quadrature_and_sums(name, seed, x64):
    p, q = _pair(name, seed)
    direct = by_summation if p.support.kind == "integers" else by_quadrature
    from estimators.divergences.table import divergence

    np.testing.assert_allclose(families.kl(p, q), direct(p, q, divergence("kl")), rtol=1e-8, atol=1e-10)
    for order in (0.3, 0.8, 1.7, -0.6):
        expected = direct(p, q, alpha(order))
        ours = jnp.expm1(families.log_moment(p, q, order)) / (order * (order - 1.0))
        if np.isinf(expected) or np.isinf(ours):
            assert np.isinf(expected) and np.isinf(ours), (order, expected, ours)
        else:
            np.testing.assert_allclose(ours, expected, rtol=2e-7, atol=1e-10)


@pytest.mark.parametrize("seed", [0, 1])
def test_gaussian_closed_forms_are_those_of_the_family(seed, x64):
    p, q = _pair("MultivariateNormal", seed)
    arrays = [jnp.asarray(v) for v in (p.mean, p.covariance, q.mean, q.covariance)]
    np.testing.assert_allclose(families.kl(p, q), gaussian.kl(*arrays), rtol=1e-10)
    for order in (0.3, 0.8, -0.2):
        np.testing.assert_allclose(families.log_moment(p, q, order), gaussian.log_moment(*arrays, order), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Dirichlet", "Wishart"])
def test_kl_of_vectors_is_the_mean_log_ratio(name, x64):
    p, q = _pair(name)
    x = p.sample(KEY, 20_000)
    ratios = np.asarray(p.log_prob(x) - q.log_prob(x))
    assert abs(ratios.mean() - families.kl(p, q)) < 5.0 * ratios.std() / np.sqrt(20_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Gamma", "Beta", "Poisson", "Exponential", "Dirichlet", "NegativeBinomial"])
def test_close_members_keep_their_digits_in_float32(name):
    """KL of members that differ by 1e-3 is about 1e-6, far below the rounding of F itself."""
    p, _ = _pair(name)
    factor = 1.0 + 1e-3

    def nearby(dtype):
        moved = {n: v for n, v in p.parameters().items() if any(v is c for c in p.carrier())}
        plain = {n: jnp.asarray(v, dtype) for n, v in p.parameters().items() if n not in moved}
        return type(p)(**moved, **plain), type(p)(
            **moved, **{n: v * jnp.asarray(factor, dtype) for n, v in plain.items()}
        )

    with jax.enable_x64(True):
        a, b = nearby(jnp.float32)
        a, b = (jax.tree.map(lambda v: np.asarray(v, np.float64), side) for side in (a, b))
        exact = [float(families.kl(a, b)), float(families.log_moment(a, b, 0.5)), float(families.log_moment(a, b, 2.0))]
    a, b = nearby(jnp.float32)
    ours = [families.kl(a, b), families.log_moment(a, b, 0.5), families.log_moment(a, b, 2.0)]
    np.testing.assert_allclose(ours, exact, rtol=2e-3)  # the difference of the parameters itself has four digits
    assert families.kl(a, a) == 0.0


@pytest.mark.slow
def test_diverging_moments_are_infinite_with_gradient_zero():
    def chi(rate):
        return families.log_moment(dist.Exponential(jnp.array([1.0, 2.0])), dist.Exponential(rate), 2.0)

    rate = jnp.array([2.5, 2.5])  # ∫ p²/q is finite where 2 · rate_p > rate_q
    np.testing.assert_array_equal(np.isinf(chi(rate)), [True, False])
    slope = jax.grad(lambda r: jnp.sum(jnp.where(jnp.isinf(chi(r)), 0.0, chi(r))))(rate)
    assert slope[0] == 0.0 and np.isfinite(slope[1]) and slope[1] != 0.0


@pytest.mark.slow
def test_batches_jit_and_vmap_agree(x64):
    p, q = dist.Gamma(np.array([1.0, 2.0]), 1.5), dist.Gamma(2.0, np.array([[1.0], [3.0]]))
    whole = families.kl(p, q)
    assert whole.shape == (2, 2)
    np.testing.assert_allclose(whole[1, 0], families.kl(dist.Gamma(1.0, 1.5), dist.Gamma(2.0, 3.0)))
    np.testing.assert_allclose(jax.jit(families.kl)(p, q), whole)
    same = dist.Gamma(jnp.ones(3), jnp.ones(3))
    assert jax.vmap(families.kl)(same, same).shape == (3,)


def test_two_families_are_refused():
    with pytest.raises(ValueError, match="two exponential families"):
        families.kl(dist.Gamma(1.0), dist.Exponential(1.0))
    with pytest.raises(ValueError, match="number of tries"):
        families.kl(dist.Binomial(3, 0.5), dist.Binomial(4, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Normal", "Gamma", "Poisson", "Beta", "Bernoulli", "Binomial"])
def test_fisher_information_is_the_curvature_of_kl(name, x64):
    p, _ = _pair(name)
    carried = {n: v for n, v in p.parameters().items() if any(v is c for c in p.carrier())}
    free = {n: jnp.asarray(v) for n, v in p.parameters().items() if v is not None and n not in carried}
    names, start = list(free), jnp.stack(list(free.values()))

    def kl_from(numbers):
        return families.kl(p, type(p)(**carried, **dict(zip(names, numbers))))

    np.testing.assert_allclose(families.fisher_information(p), jax.hessian(kl_from)(start), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("name", ["Gamma", "Beta", "Dirichlet", "MultivariateNormal", "VonMises", "NegativeBinomial"])
def test_moments_lead_back_to_the_member_that_has_them(name, x64):
    p, q = _pair(name)
    found = with_moments(q, p.mean_parameters())
    np.testing.assert_allclose(families.kl(p, found), 0.0, atol=1e-18)
    for mine, theirs in zip(found.natural_parameters(), p.natural_parameters()):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-8)


def test_moments_of_no_member_are_refused():
    with pytest.raises(ValueError, match="no θ has moments"):
        with_moments(dist.Poisson(1.0), (-1.0,))


@pytest.mark.slow
def test_moment_matching_is_the_m_projection(x64):
    """Of a mixture onto the Gammas: no neighbour has a smaller KL, by quadrature."""
    from estimators.divergences.table import divergence

    p = dist.Mixture([0.4, 0.6], [dist.Gamma(2.0, 3.0), dist.Gamma(5.0, 1.0)])
    parts = [m.mean_parameters() for m in p.components]
    best = with_moments(dist.Gamma(1.0, 1.0), tuple(0.4 * a + 0.6 * b for a, b in zip(*parts)))
    least = by_quadrature(p, best, divergence("kl"))
    for a, b in ((1.02, 1.0), (0.98, 1.0), (1.0, 1.02), (1.0, 0.98), (1.02, 1.02)):
        other = dist.Gamma(a * float(best.concentration), b * float(best.rate))
        assert by_quadrature(p, other, divergence("kl")) > least


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Normal", "Poisson", "Gamma", "Dirichlet"])
def test_chernoff_information_is_where_the_e_geodesic_meets_the_bisector(name, x64):
    p, q = _pair(name)
    value, t = chernoff_of_family(p, q)
    middle = families.e_geodesic(p, q, t)
    np.testing.assert_allclose(families.kl(middle, p), value, rtol=1e-6)
    np.testing.assert_allclose(families.kl(middle, q), value, rtol=1e-6)


@pytest.mark.slow
def test_probabilities_zero_and_one_have_their_limits():
    np.testing.assert_allclose(families.kl(dist.Bernoulli(0.0), dist.Bernoulli(0.5)), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(families.kl(dist.Geometric(1.0), dist.Geometric(0.5)), np.log(2.0), rtol=1e-5)
    without, full = dist.Categorical(probs=[0.0, 0.5, 0.5]), dist.Categorical(probs=[0.2, 0.4, 0.4])
    np.testing.assert_allclose(families.kl(without, full), np.log(1.25), rtol=1e-5)
    assert families.kl(full, without) == np.inf == families.log_moment(full, without, 2.0)
    assert np.isfinite(families.log_moment(full, without, 0.5))

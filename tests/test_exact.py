"""`est.exact`: every way against another one, what is infinite and why, batches, and what it refuses."""

import math

import jax
import numpy as np
import pytest
from scipy import stats

import estimators as est
from estimators import distributions as dist
from estimators.divergences.generator import FDivergence
from estimators.exact_values import pairs
from estimators.exact_values.log_ratio_law import NotThisWay, from_overlap

SOME = ["kl", "js", "tv", "renyi(2)"]
MINE = est.from_generator("mine", lambda u: (u - 1.0) ** 2 / (u + 3.0), value_at_zero=1.0 / 3.0, slope_at_infinity=1.0)


def test_the_example_of_the_issue():
    kl = est.exact(dist.Gamma(2.0, 1.0), dist.Gamma(3.0, 2.0), "kl")
    assert kl.method == "closed form" and kl.standard_error == 0.0
    np.testing.assert_allclose(kl.value, math.log(2.0) + math.log(1.0 / 8.0) - (1 - np.euler_gamma) + 2.0, rtol=1e-12)
    results = est.exact(dist.Normal(0, 1), dist.Laplace(0, 2), [*SOME, MINE])
    line = [
        est.exact_divergence(stats.norm(0, 1).logpdf, stats.gennorm(1, 0, 2).logpdf, d)
        for d in ("kl", "js", "tv", MINE)
    ]
    np.testing.assert_allclose([r.value for r in results if r is not results[3]], line, rtol=1e-9)
    assert {r.method for r in results} == {"quadrature"}


@pytest.mark.parametrize("name", ["js", "tv", "triangular", "js_weighted(0.3)", "hockey_stick(2)", "gan", MINE])
def test_the_law_of_the_log_ratio_gives_what_quadrature_gives(name, x64):
    """Two Gaussians of one covariance differ along one line."""
    d = est.divergence(name)
    for delta in (0.05, 1.0, 8.0):
        p, q = dist.Normal(delta, 1.0), dist.Normal(0.0, 1.0)
        np.testing.assert_allclose(from_overlap(pairs.overlap(p, q), d), pairs.by_quadrature(p, q, d), atol=2e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "p, q",
    [
        (dist.Gamma(2.0, 1.0), dist.Gamma(3.0, 2.0)),
        (dist.Beta(2.0, 3.0), dist.Beta(0.8, 1.0)),
        (dist.Poisson(3.0), dist.Poisson(5.0)),
        (dist.Geometric(0.3), dist.Geometric(0.5)),
        (dist.Binomial(9, 0.3), dist.Binomial(9, 0.6)),
        (dist.Laplace(0.0, 1.0), dist.Normal(0.5, 1.5)),
        (dist.Weibull(1.0, 0.8), dist.Gamma(2.0, 1.0)),
    ],
    ids=lambda p: type(p).__name__,
)
def test_overlaps_are_those_of_the_densities(p, q, x64):
    """js through the overlap, whatever gives it, against js by quadrature or summation."""
    d = est.divergence("js")
    direct = pairs.by_summation if p.support.kind == "integers" else pairs.by_quadrature
    np.testing.assert_allclose(from_overlap(pairs.overlap(p, q), d), direct(p, q, d), rtol=1e-8)


def test_gaussians_of_any_covariance_are_exact_in_any_dimension(x64):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3))
    p = dist.MultivariateNormal(rng.normal(size=3), a @ a.T + 0.5 * np.eye(3))
    q = dist.MultivariateNormal(np.zeros(3), diagonal=np.array([1.0, 2.0, 0.7]))
    x = p.sample(jax.random.key(0), 200_000), q.sample(jax.random.key(1), 200_000)
    ratios = [np.asarray(p.log_prob(v) - q.log_prob(v)) for v in x]
    for name, on_p, on_q in (
        (
            "js",
            lambda r: 0.5 * (math.log(2.0) - np.logaddexp(0.0, -r)),
            lambda r: 0.5 * (math.log(2.0) - np.logaddexp(0.0, r)),
        ),
        ("tv", lambda r: 0.5 * np.tanh(0.5 * np.abs(r)), lambda r: 0.5 * np.tanh(0.5 * np.abs(r))),
    ):
        result = est.exact(p, q, name)
        assert (result.method, result.standard_error) == ("quadrature", 0.0)
        terms = on_p(ratios[0]), on_q(ratios[1])
        error = math.hypot(*(t.std() / math.sqrt(len(t)) for t in terms))
        assert abs(sum(t.mean() for t in terms) - result.value) < 4.0 * error


@pytest.mark.slow
def test_an_invertible_map_of_both_changes_nothing(x64):
    p, q = dist.Gamma(2.0, 1.0), dist.Gamma(3.0, 2.0)
    turned = [dist.Transformed(side, dist.RECIPROCAL) for side in (p, q)]
    inverse = dist.InverseGamma(2.0, 1.0), dist.InverseGamma(3.0, 2.0)
    for name in SOME:
        expected = est.exact(p, q, name).value
        assert est.exact(*turned, name).value == expected
        np.testing.assert_allclose(est.exact(*inverse, name).value, expected, rtol=1e-9)
        np.testing.assert_allclose(est.exact(turned[0], inverse[1], name).value, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "p, q",
    [
        (dist.Weibull(2.0, 1.5), dist.Weibull(1.0, 1.5)),
        (dist.Gumbel(0.0, 1.5), dist.Gumbel(1.0, 1.5)),
        (dist.LogNormal(0.0, 1.0), dist.Transformed(dist.Normal(1.0, 2.0), dist.EXP)),
    ],
    ids=lambda p: type(p).__name__,
)
def test_hidden_exponential_families_are_found(p, q, x64):
    result = est.exact(p, q, "kl")
    assert result.method == "closed form"
    np.testing.assert_allclose(result.value, pairs.by_quadrature(p, q, est.divergence("kl")), rtol=1e-8)


@pytest.mark.slow
def test_products_add_up_and_need_no_sampling():
    one = dist.Laplace(0.0, 1.0), dist.Normal(0.0, 1.0)
    three = [dist.Product([side] * 3) for side in one]
    single = {name: est.exact(*one, name).value for name in ("kl", "squared_hellinger")}
    kl, hellinger, js = est.exact(*three, ["kl", "squared_hellinger", "js"])
    np.testing.assert_allclose(kl.value, 3.0 * single["kl"], rtol=1e-9)
    np.testing.assert_allclose(hellinger.value, 2.0 - 2.0 * (1.0 - 0.5 * single["squared_hellinger"]) ** 3, rtol=1e-9)
    assert {r.method for r in (kl, hellinger, js)} == {"quadrature"}
    mixed = [
        dist.Product([dist.Poisson(a), dist.Gamma(2.0, a), dist.Categorical(probs=[b, 1 - b])])
        for a, b in ((1, 0.2), (2, 0.6))
    ]
    parts = [est.exact(*pair, "kl").value for pair in zip(*(side.marginals for side in mixed))]
    np.testing.assert_allclose(est.exact(*mixed, "kl").value, sum(parts), rtol=1e-12)
    assert est.exact(*mixed, "js").method == "quadrature"


def test_a_law_and_its_exponential_are_not_taken_for_one_family():
    """Log-normal marginals beside normal ones: on the line by quadrature, and so in a product."""
    one = dist.LogNormal(0.0, 0.5), dist.Normal(1.0, 1.0)
    pair = [dist.Product([side, dist.Normal(shift, 1.0)]) for side, shift in zip(one, (0.0, 0.3))]
    kl, js = est.exact(*pair, ["kl", "js"])
    np.testing.assert_allclose(kl.value, est.exact(*one, "kl").value + 0.045, rtol=1e-9)
    moved = [dist.Product([side.marginals[1], side.marginals[0]]) for side in pair]
    np.testing.assert_allclose(js.value, est.exact(*moved, "js").value, rtol=1e-9)
    assert est.exact(*one, "js").value < js.value < est.exact(*one, "js").value + 0.02


@pytest.mark.slow
def test_monte_carlo_says_how_far_it_may_be_off():
    """Mixtures in three dimensions that are mixtures on the line beside two equal coordinates."""
    shift = np.array([2.0, 0.0, 0.0])
    p = dist.Mixture([0.5, 0.5], [dist.MultivariateNormal(side * shift, np.eye(3)) for side in (-1.0, 1.0)])
    q = dist.MultivariateNormal(np.zeros(3), np.diag([5.0, 1.0, 1.0]))
    line = dist.Mixture([0.5, 0.5], [dist.Normal(-2.0, 1.0), dist.Normal(2.0, 1.0)]), dist.Normal(0.0, math.sqrt(5.0))
    result, exact = est.exact(p, q, "js"), est.exact(*line, "js")
    assert (result.method, exact.method) == ("Monte Carlo", "quadrature")
    assert 0.0 < result.standard_error < 1e-3
    assert abs(result.value - exact.value) < 4.5 * result.standard_error


@pytest.mark.parametrize(
    "p, q, name, value, words",
    [
        (dist.Uniform(0.0, 1.0), dist.Uniform(0.5, 3.0), "kl", math.inf, "P has mass where Q has none"),
        (dist.Uniform(0.0, 1.0), dist.Normal(0.0, 1.0), "reverse_kl", math.inf, "Q has mass where P has none"),
        (dist.Uniform(0.0, 1.0), dist.Uniform(2.0, 3.0), "js", math.log(2.0), ""),
        (dist.Uniform(0.0, 1.0), dist.Uniform(0.5, 3.0), "tv", 0.8, ""),
        (dist.Normal(0.0, 1.0), dist.Poisson(1.0), "tv", 1.0, "density"),
        (dist.Normal(0.0, 1.0), dist.Poisson(1.0), "kl", math.inf, "density"),
        (dist.Bernoulli(0.3), dist.Bernoulli(0.0), "kl", math.inf, "P has mass"),
        (dist.Bernoulli(0.0), dist.Bernoulli(0.3), "kl", -math.log(0.7), ""),
        (dist.Categorical(probs=[0.5, 0.5, 0.0]), dist.Categorical(probs=[0.0, 0.5, 0.5]), "tv", 0.5, ""),
        (dist.Exponential(1.0), dist.Exponential(2.5), "pearson", math.inf, "diverges"),
        (dist.Gamma(2.0, 1.0), dist.Normal(0.0, 1.0), "pearson", math.inf, "diverges"),
        (dist.NegativeBinomial(2.0, 0.4), dist.Poisson(3.0), "pearson", math.inf, "diverges"),
        (dist.Cauchy(0.0, 1.0), dist.Normal(0.0, 1.0), "kl", math.inf, "diverges"),
    ],
)
def test_infinite_and_extreme_values_say_why(p, q, name, value, words):
    result = est.exact(p, q, name)
    np.testing.assert_allclose(result.value, value, rtol=1e-9)
    assert words in result.note and (words or not result.note)


def test_cauchys_kl_is_its_closed_form():
    value = est.exact(dist.Cauchy(0.0, 1.0), dist.Cauchy(1.0, 2.0), "kl").value
    np.testing.assert_allclose(
        value, math.log(((1.0 + 2.0) ** 2 + 1.0) / (4.0 * 2.0)), rtol=1e-9
    )  # Chyzak, Nielsen 2019


def test_wide_counts_and_far_normals(x64):
    far = est.exact(dist.Poisson(1e5), dist.Poisson(1.01e5), ["kl", "js"])
    assert [r.method for r in far] == ["closed form", "sum"]
    np.testing.assert_allclose(
        far[1].value,
        from_overlap(pairs.overlap(dist.Poisson(1e5), dist.Poisson(1.01e5)), est.divergence("js")),
        rtol=1e-8,
    )
    np.testing.assert_allclose(
        est.exact(dist.Normal(1e6, 1.0), dist.Normal(1e6 + 1, 1.0), "js").value,
        est.exact(dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0), "js").value,
        rtol=1e-6,
    )


@pytest.mark.slow
def test_batches_broadcast_over_every_way():
    p, q = dist.Normal(np.zeros((2, 1)), 1.0), dist.Normal(1.0, np.array([1.0, 2.0, 3.0]))
    kl, js = est.exact(p, q, ["kl", "js"])
    assert kl.value.shape == js.value.shape == js.standard_error.shape == (2, 3)
    single = est.exact(dist.Normal(0.0, 1.0), dist.Normal(1.0, 2.0), ["kl", "js"])
    np.testing.assert_allclose([kl.value[1, 1], js.value[0, 1]], [r.value for r in single], rtol=1e-10)
    logits = np.random.default_rng(0).normal(size=(3, 4))
    rows = est.exact(dist.Categorical(logits=logits), dist.Categorical(logits=np.zeros(4)), "kl")
    p_of = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(rows.value, np.sum(p_of * np.log(4.0 * p_of), axis=-1), rtol=1e-12)


def test_a_batch_meets_a_distribution_of_another_library():
    shifted = stats.gamma(2.0, loc=1.0)
    many = est.exact(dist.Normal(np.array([0.0, 2.0]), 1.0), shifted, "js")
    np.testing.assert_allclose(many.value[1], est.exact(dist.Normal(2.0, 1.0), shifted, "js").value)
    with pytest.raises(ValueError, match="give them one by one"):
        est.exact(stats.gamma(np.array([1.0, 2.0]), loc=1.0), dist.Normal(), "js")


def test_all_is_every_divergence_that_is_estimated():
    results = est.exact(dist.Categorical(probs=[0.2, 0.8]), dist.Categorical(probs=[0.5, 0.5]), "all")
    assert len(results) == len(est.DIVERGENCES)  # without gan, with renyi(2)
    p, q = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    for name, result in zip([n for n in est.DIVERGENCES if n != "gan"], results):
        np.testing.assert_allclose(
            result.value, np.sum(q * np.asarray(est.DIVERGENCES[name].f(p / q))), rtol=1e-5, atol=1e-7
        )


def test_the_same_object_is_at_no_distance():
    p = dist.Cauchy()
    assert [r.value for r in est.exact(p, p, ["kl", "renyi(2)"])] == [0.0, 0.0]
    np.testing.assert_allclose(est.exact(p, p, "gan").value, -math.log(4.0))


def test_other_libraries_meet_ours():
    theirs = pytest.importorskip("numpyro.distributions")
    ours = est.exact(dist.Normal(0, 1), dist.Laplace(0, 2), "kl").value
    assert est.exact(stats.norm(0, 1), theirs.Laplace(0.0, 2.0), "kl").value == pytest.approx(ours, rel=1e-6)
    half = est.exact(theirs.HalfNormal(1.0), stats.expon(), "kl")
    expected = est.exact_divergence(stats.halfnorm().logpdf, stats.expon().logpdf, "kl", support=(0.0, math.inf))
    assert half.value == pytest.approx(expected, rel=1e-5)

    class Triangle:
        support = (0.0, 1.0)

        def log_prob(self, x):
            return np.log(np.maximum(2.0 * np.asarray(x), 1e-300))

    assert est.exact(Triangle(), dist.Uniform(0.0, 1.0), "kl").value == pytest.approx(math.log(2.0) - 0.5, rel=1e-8)


@pytest.mark.parametrize(
    "p, q, name, words",
    [
        (dist.Normal(0.0, 1.0), dist.MultivariateNormal([0.0, 1.0], np.eye(2)), "kl", "one space"),
        (dist.Normal(0.0, 1.0), 3.0, "kl", "Q is float: give a distribution"),
        (dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0), "klx", "unknown divergence"),
        (dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0), "renyi(-1)", "order must be positive"),
        (dist.Normal(np.zeros(3), 1.0), dist.Normal(np.zeros(2), 1.0), "kl", "broadcast"),
    ],
)
def test_what_cannot_be_answered_is_refused(p, q, name, words):
    with pytest.raises(ValueError, match=words):
        est.exact(p, q, name)


def test_a_pair_with_no_way_says_what_was_tried():
    class Unsampled:
        support = None
        event_shape = (3,)

        def log_prob(self, x):
            return -0.5 * np.sum(np.asarray(x) ** 2, axis=-1)

    with pytest.raises(ValueError, match=r"no way to compute kl .*a closed form .*Monte Carlo .*no method to sample"):
        est.exact(Unsampled(), dist.MultivariateNormal(np.zeros(3), np.eye(3)), "kl")


def test_a_generator_with_a_hidden_kink_is_not_integrated_blindly(x64):
    def f(u):
        return 0.5 * abs(u - 2.0) - 0.5 + (u - 1.0) ** 2 / (u + 3.0)

    hidden = FDivergence(name="hidden", f=f, source="here")
    overlap = pairs.overlap(dist.Normal(1.0, 1.0), dist.Normal(0.0, 1.0))
    with pytest.raises(NotThisWay):
        from_overlap(overlap, hidden)


def _rate(r):
    """KL between exponential laws of rates 1 and r, or r and 1 where the order is turned."""
    return r - 1.0 - math.log(r)


@pytest.mark.parametrize(
    "p, q, name, value",
    [
        (dist.Gumbel(100.0, 1.0), dist.Gumbel(105.0, 1.0), "reverse_kl", _rate(math.exp(-5.0))),
        (dist.Gumbel(1000.0, 1.0), dist.Gumbel(1012.0, 1.0), "reverse_kl", _rate(math.exp(-12.0))),
        (dist.Exponential(1e-100), dist.Exponential(1e-104), "kl", _rate(1e-4)),
        (dist.Weibull(3e9, 5.0), dist.Weibull(1e10, 5.0), "kl", _rate(0.3**5)),
        (dist.Normal(0.0, 1e-170), dist.Normal(0.0, 2e-170), "kl", math.log(2.0) - 0.375),
        (dist.VonMises(0.0, 1e8), dist.VonMises(0.0, 4e8), "kl", 1.5 - math.log(2.0)),  # normal laws of variance 1/κ
        (
            dist.StudentT(2.05),
            dist.Normal(),
            "kl",
            -stats.t(2.05).entropy() + 0.5 * (2.05 / 0.05 + math.log(2 * math.pi)),
        ),
        (dist.StudentT(2.0), dist.Normal(), "kl", math.inf),
        (stats.pareto(1.2), dist.Exponential(), "kl", math.log(1.2) - 2.2 / 1.2 + 6.0),
        (dist.InverseGamma(1.0, 1.0), dist.Gamma(2.0, 1.0), "kl", math.inf),
        (dist.InverseGamma(1.0, 1.0), dist.Exponential(), "jeffreys", math.inf),
        (dist.Exponential(), dist.InverseGamma(2.0, 1.0), "kl", math.inf),
        (dist.Beta(1.0, 0.1), dist.Uniform(), "kl", math.log(0.1) - 0.9 * -10.0),
        (dist.Uniform(), dist.Beta(1.9, 1.0), "pearson", 1.0 / (1.9 * 0.1) - 1.0),
        (dist.Laplace(0.0, 1.0), dist.Laplace(100.0, 1.0), "renyi(0.5)", 100.0 - 2.0 * math.log(51.0)),
        (dist.Binomial(100, 0.9), dist.Binomial(200, 0.1), "renyi(2)", 89.507),
        (dist.Normal(), dist.Gumbel(0.0, 1.0), "kl", math.exp(0.5) - 0.5 * (1.0 + math.log(2.0 * math.pi))),
        (dist.Cauchy(0.0, 2.0), dist.Transformed(dist.Cauchy(), dist.RECIPROCAL), "kl", math.log(9.0 / 8.0)),
        (dist.Dirichlet([1.0, 2.0]), dist.MultivariateNormal(np.zeros(2), np.eye(2)), "js", math.log(2.0)),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
def test_extreme_pairs_have_their_values(p, q, name, value):
    """Scales far from 1, slow tails, poles at either end, far-apart laws: each in closed form here."""
    result = est.exact(p, q, name)
    assert result.method != "Monte Carlo"
    np.testing.assert_allclose(result.value, value, rtol=1e-5)


def test_narrow_and_rare_parts_of_mixtures_count():
    """A spike of weight w and width s costs KL about w log(w/(s q√(2πe))), wherever it is."""
    weight, width = 5e-5, 1e-9
    p = dist.Mixture([1.0 - weight, weight], [dist.Normal(), dist.Normal(0.3, width)])
    spike = weight * (math.log(weight / width) - 0.5 * math.log(2 * math.pi * math.e) - stats.norm().logpdf(0.3))
    np.testing.assert_allclose(
        est.exact(p, dist.Normal(), "kl").value, spike + math.log1p(-weight) * (1 - weight), rtol=1e-3
    )
    twins = [dist.Mixture([0.5, 0.5], [dist.Normal(mean, 1.0), dist.Normal(0.3, 1e-9)]) for mean in (0.0, 1.0)]
    half = 0.5 * est.exact(dist.Normal(0.0, 1.0), dist.Normal(1.0, 1.0), "js").value
    np.testing.assert_allclose(est.exact(*twins, "js").value, half, rtol=1e-6)


def test_what_is_no_distribution_on_the_line_is_refused_and_not_guessed():
    class Unnormalised:
        support = (-math.inf, math.inf)

        def log_prob(self, x):
            return -0.5 * np.asarray(x) ** 2

    with pytest.raises(ValueError, match=r"integrates to 2.50"):
        est.exact(Unnormalised(), dist.Normal(1.0, 1.0), "js")
    with pytest.raises(ValueError, match="x has too few digits"):
        est.exact(stats.gamma(0.2, loc=100), stats.gamma(0.3, loc=100), "js")


def test_values_beyond_the_largest_float_are_not_called_divergent():
    far = est.exact(dist.Normal(0.0, 1.0), dist.Normal(100.0, 1.0), ["pearson", "renyi(2)"])
    assert far[0].value == math.inf and "largest float" in far[0].note
    assert far[1].value == pytest.approx(1e4)
    with pytest.raises(ValueError, match="beyond the largest float"):
        est.exact(dist.Normal(1000.0, 1.0), dist.Laplace(), "pearson")


@pytest.mark.slow
def test_heavy_tails_of_monte_carlo_are_noted():
    """In two dimensions KL(t₂‖normal) is infinite; no draw shows it, but the tail does."""
    result = est.exact(
        stats.multivariate_t([0.0, 0.0], np.eye(2), df=2.0), dist.MultivariateNormal([0.0, 0.0], np.eye(2))
    )
    assert result.method == "Monte Carlo" and "few draws carry the mean" in result.note


def test_a_divergence_of_ones_own_is_known_by_what_it_is_and_not_by_its_name():
    named = est.from_generator("renyi(2)", lambda u: (u - 1.0) ** 2)
    np.testing.assert_allclose(est.exact(dist.Normal(), dist.Normal(1.0), named).value, math.e - 1.0, rtol=1e-8)

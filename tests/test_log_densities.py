"""Divergences from log-densities at samples: unbiased, with errors that cover, and warnings where tails are heavy."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import expon, genpareto, norm
from scipy.stats import t as student

from estimators.divergences.generator import from_generator
from estimators.divergences.table import divergence, functional
from estimators.exact_values import log_densities, pareto
from estimators.exact_values.quadrature import exact_divergence

LAW_P, LAW_Q, OTHER = norm(0.0, 1.0), norm(0.4, 1.2), student(4.0, 0.2, 1.3)
MINE = from_generator("mine", lambda u: (u - 1.0) ** 2 * (u + 1.0) / u)


def logs_at(x):
    return LAW_P.logpdf(x), LAW_Q.logpdf(x)


def draw(law, *shape, seed=0):
    rng = np.random.default_rng(seed)
    if law == "mixture":
        return np.concatenate(
            [LAW_P.rvs((*shape[:-1], -(-shape[-1] // 2)), rng), LAW_Q.rvs((*shape[:-1], shape[-1] // 2), rng)], -1
        )
    return law.rvs(shape, rng)


@cache
def exact(name):
    asked = functional(name)
    value = exact_divergence(LAW_P.logpdf, LAW_Q.logpdf, asked.divergence)
    return asked.transform(value) if asked.transform else value


def assert_within(found, truth, errors=4.0):
    assert abs(float(found.value) - truth) < errors * float(found.standard_error), (found, truth)


def test_k1_and_k3_are_unbiased_and_k2_is_not(x64):
    """Between N(0, 1) and N(δ, 1), KL = ½δ² and E k2 = KL + ⅛δ⁴."""
    x = np.random.default_rng(0).normal(size=40_000)
    for delta in (0.1, 1.5):
        log_p, log_q = norm.logpdf(x), norm.logpdf(x, delta)
        found = {name: log_densities.kl(log_p, log_q, name) for name in log_densities.KL_ESTIMATORS}
        truth = 0.5 * delta**2
        assert_within(found["k1"], truth)
        assert_within(found["k3"], truth)
        assert_within(found["k2"], truth + delta**4 / 8.0)
        if delta == 0.1:
            assert found["k3"].standard_error < 0.2 * found["k1"].standard_error
        else:
            assert found["k2"].value - truth > 10.0 * found["k2"].standard_error


def test_what_they_are_as_losses(x64):
    """At fixed samples of a softmax policy P, gradients through log p: 0 of k1, ∇KL(P‖Q) of k2, ∇KL(Q‖P) of k3."""
    logits, log_q = jnp.array([0.3, -0.5, 1.0]), jax.nn.log_softmax(jnp.array([1.0, 0.2, -0.4]))
    weights = jax.nn.softmax(logits)  # the expectation over samples of P, which do not move

    def slope(terms):
        return jax.grad(lambda a: jnp.sum(weights * terms(jax.nn.log_softmax(a), log_q)))(logits)

    def kl(log_p, log_q):
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q))

    forward = jax.grad(lambda a: kl(jax.nn.log_softmax(a), log_q))(logits)
    backward = jax.grad(lambda a: kl(log_q, jax.nn.log_softmax(a)))(logits)
    np.testing.assert_allclose(slope(log_densities.k1), np.zeros(3), atol=1e-15)
    np.testing.assert_allclose(slope(log_densities.k2), forward, rtol=1e-12)
    np.testing.assert_allclose(slope(log_densities.k3), backward, rtol=1e-12)


def test_k3_keeps_its_digits_in_float32():
    log_s = np.float32([1e-4, -3e-3, 0.1, 3.0, -40.0])
    wide = log_s.astype(float)
    np.testing.assert_allclose(
        log_densities.k3(np.zeros(5, np.float32), log_s), np.expm1(wide) - wide, rtol=1e-5, atol=1e-12
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "d",
    ["kl", "pearson", "renyi(2)", *(pytest.param(d, marks=pytest.mark.slow) for d in ("js", "tv", "alpha(0.5)", MINE))],
    ids=str,
)
def test_importance_weighted_values(d, x64):
    """Within their errors of quadrature, from samples of Q, P, the mixture and a third law; unnormalised too."""
    sources = {"p": LAW_P, "q": LAW_Q, "mixture": "mixture", "other": OTHER}
    for name, law in sources.items():
        x = draw(law, 20_000, seed=1)
        log_p, log_q = logs_at(x)
        source = OTHER.logpdf(x) if name == "other" else name
        found = log_densities.divergence(log_p, log_q, d, samples_of=source)
        assert_within(found, exact(d))
        assert found.standard_error < 0.1 * max(abs(exact(d)), 0.05)
        if name == "other" and d in ("kl", "renyi(2)"):
            again = log_densities.divergence(log_p + 3.0, log_q - 2.0, d, samples_of=source, normalised=False)
            assert_within(again, exact(d))


@pytest.mark.slow
@pytest.mark.parametrize(("d", "normalised"), [("js", True), ("kl", False), ("renyi(0.5)", False)])
def test_errors_cover(d, normalised, x64):
    """Of 200 intervals of ±1.96 errors between 90 and 99 in a hundred hold the truth, and the errors are the spread."""
    x = draw(OTHER, 200, 1000, seed=2)
    shift = 0.0 if normalised else 5.0
    log_p, log_q = logs_at(x)
    found = log_densities.divergence(log_p + shift, log_q, d, samples_of=OTHER.logpdf(x), normalised=normalised)
    inside = np.abs(found.value - exact(d)) < 1.96 * found.standard_error
    assert 0.90 <= inside.mean() <= 0.99
    spread = float(np.std(found.value, ddof=1))
    assert spread == pytest.approx(float(np.mean(found.standard_error)), rel=4.0 / math.sqrt(2 * 200))


def test_heavy_weights_warn_and_light_ones_do_not():
    """Between exponential laws of rates λ and 1, p/q at samples of Q follows Pareto's law of shape 1 − λ exactly."""
    rng = np.random.default_rng(3)
    x = rng.exponential(size=4000)
    error = 1.9 / math.sqrt(3.0 * math.sqrt(4000))
    for rate, heavy in ((0.05, True), (0.8, False)):
        log_p = math.log(rate) - rate * x
        found = log_densities.divergence(log_p, -x, "kl", samples_of="q")
        assert float(found.pareto_k) == pytest.approx(1.0 - rate, abs=3.0 * error)
        assert len(found.warnings) == heavy and (found.effective_sample_size < 100) == heavy
        assert all("heavy tail: pareto k = " in words for words in found.warnings)
    steep = log_densities.divergence(math.log(0.5) - 0.5 * x, -x, "pearson", samples_of="q")
    assert float(steep.pareto_k) == pytest.approx(1.0, abs=3.0 * error)  # squares of the ratio: twice the shape

    mixed = np.concatenate([20.0 * rng.exponential(size=2000), x[:2000]])
    log_p, log_q = math.log(0.05) - 0.05 * mixed, -mixed
    light = log_densities.divergence(log_p, log_q, "js", samples_of="mixture")
    assert light.warnings == () and light.pareto_k < 0.3 and light.effective_sample_size > 2000
    with jax.enable_x64(True):
        law_p, law_q = expon(scale=20.0), expon()
        assert_within(light, exact_divergence(law_p.logpdf, law_q.logpdf, divergence("js"), (0.0, math.inf)))


@pytest.mark.slow
@pytest.mark.parametrize("k", [0.3, *(pytest.param(k, marks=pytest.mark.slow) for k in (-0.2, 0.8))])
def test_the_pareto_fit_recovers_the_shape(k, x64):
    """Over 200 tails of 400: the mean within its error (and the method's bias of 0.01), the spread (1 + k)/√m."""
    x = np.sort(genpareto(k, scale=2.0).rvs((200, 400), np.random.default_rng(4)), axis=-1)
    found, scale = pareto.fit(x)
    error = (1.0 + k) / math.sqrt(400)
    assert abs(np.mean(found) - k) < 4.0 * error / math.sqrt(200) + 0.01
    assert np.std(found) == pytest.approx(error, rel=0.25)
    np.testing.assert_allclose(np.mean(scale), 2.0, rtol=0.05)
    logs = np.log(genpareto(k).rvs((50, 4000), np.random.default_rng(5))) + 700.0  # numbers that overflow
    m = math.ceil(3.0 * math.sqrt(4000))
    expected = (m * k + 10.0 * 0.5) / (m + 10.0)
    assert abs(np.mean(pareto.tail_shape(logs)) - expected) < 4.0 * (1.0 + k) / math.sqrt(m * 50) + 0.02


@pytest.mark.slow
def test_batches_axes_jit_and_gradients(x64):
    x = draw("mixture", 3, 100)
    log_p, log_q = logs_at(x)
    one_by_one = [log_densities.divergence(*rows, "kl", samples_of="mixture") for rows in zip(log_p, log_q)]
    compiled = jax.jit(lambda a, b: log_densities.divergence(a, b, "kl", samples_of="mixture", axis=0))
    for found in (
        log_densities.divergence(log_p, log_q, "kl", samples_of="mixture"),
        compiled(log_p.T, log_q.T),
        jax.vmap(lambda a, b: log_densities.divergence(a, b, "kl", samples_of="mixture"))(log_p, log_q),
    ):
        for k, row in enumerate(one_by_one):
            np.testing.assert_allclose([part[k] for part in found[:4]], row[:4], rtol=1e-10)
        assert found.warnings == ()

    def value(shift):  # of Q
        return log_densities.divergence(log_p[0], LAW_Q.logpdf(x[0]) + shift, "kl", samples_of=jnp.zeros(100)).value

    same = log_densities.divergence(log_p[0], log_p[0], "js", samples_of="p")
    assert same.value == 0.0 and same.standard_error == 0.0 and same.pareto_k == -math.inf and same.warnings == ()
    assert same.effective_sample_size == pytest.approx(100.0)
    step = 1e-5
    numeric = (value(step) - value(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(value)(0.0), numeric, rtol=1e-6)


def test_what_is_infinite_or_too_small_is_said():
    log_p, log_q = np.log(np.full((2, 30), 0.5)), np.log(np.full((2, 30), 0.5))
    log_q[1, 3] = -math.inf
    found = log_densities.divergence(log_p, log_q, "kl", samples_of="p")
    assert found.value[0] == 0.0 and found.value[1] == math.inf and found.standard_error[1] == 0.0
    assert found.warnings == ("infinite in 1 of 2 rows: a sample where one density is 0, or a term overflows",)
    bounded = log_densities.divergence(log_p, log_q, "js", samples_of="p")
    np.testing.assert_allclose(bounded.value, [0.0, math.log(2.0) / 60.0], rtol=1e-5)  # 0.5/30 of the most, at p
    few = log_densities.kl(log_p[0, :10], log_q[0, :10])
    assert few.warnings == ("few samples: the tail of 10 terms cannot be judged; take 25 or more",)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([0.0, math.nan], [0.0, 0.0]), {}, "log_p holds NaN or inf"),
        (([0.0, 0.0], [0.0]), {}, r"log_p has shape \(2,\), log_q \(1,\)"),
        (([0.0], [0.0]), {}, "axis -1 must hold two samples or more"),
        (([0.0, -math.inf], [0.0, 0.0]), {"samples_of": "p"}, "samples_of: a sample lies where that law has density 0"),
        (([0.0, 0.0], [0.0, 0.0]), {"samples_of": "m"}, "samples_of = 'm': choose p, q, mixture"),
        (([0.0, 0.0], [0.0, 0.0]), {"samples_of": [0.0]}, r"samples_of has shape \(1,\), log_p \(2,\)"),
    ],
)
def test_bad_input_is_named(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        log_densities.divergence(*arguments, **{"samples_of": "q", **options})
    with pytest.raises(ValueError, match="unknown estimator 'k4'; choose from k1, k2, k3"):
        log_densities.kl([0.0, 0.0], [0.0, 0.0], "k4")


def test_mass_that_samples_cannot_reach_is_noted():
    """P uniform on [0, 1], Q on [0, 2]: at samples of P s = ½ always, and the mean of k3 is not log 2."""
    log_p, log_q = np.zeros(1000), np.full(1000, -np.log(2.0))
    assert any("mass missing" in warning for warning in log_densities.kl(log_p, log_q).warnings)
    found = log_densities.divergence(log_p, log_q, "kl", samples_of="p")
    assert any("mass missing" in warning for warning in found.warnings)
    x = np.random.default_rng(0).normal(size=4000)
    assert not log_densities.kl(-0.5 * x**2, -0.5 * (x - 0.3) ** 2).warnings


@pytest.mark.slow
@pytest.mark.parametrize("source", ["p", "q", "mixture"])
@pytest.mark.parametrize("order", [1.0 - 1e-5, 1.0 + 1e-5])
def test_the_error_of_renyis_tends_to_that_of_kl(source, order, dtype):
    """N(0, 1) and N(1, 1): D_α = α/2. The plain mean would have an error of 10³ at samples of Q."""
    x = np.random.default_rng(6).normal(size=4000)
    shift = {"p": 0.0, "q": 1.0, "mixture": np.repeat([0.0, 1.0], 2000)}[source]
    x = (x + shift).astype(dtype)
    logs = norm.logpdf(x).astype(dtype), norm.logpdf(x, 1.0).astype(dtype)
    found = log_densities.divergence(*logs, f"renyi({order!r})", samples_of=source)
    kl = log_densities.divergence(*logs, "kl", samples_of=source)
    assert float(found.standard_error) == pytest.approx(float(kl.standard_error), rel=1e-3)
    assert float(found.value) == pytest.approx(float(kl.value), rel=1e-3)
    assert abs(float(found.value) - 0.5 * order) < 4.0 * float(found.standard_error)


def test_renyis_counts_the_shared_mass_alone_where_it_is_known_to_be_part(x64):
    """Of U(0, 1) and U(½, 3/2) D_½ is −2 log ½, at samples of P, which see half of Q."""
    x = np.random.default_rng(7).uniform(size=4000)
    found = log_densities.divergence(np.zeros(4000), np.where(x > 0.5, 0.0, -np.inf), "renyi(0.5)", samples_of="p")
    assert abs(float(found.value) - 2.0 * math.log(2.0)) < 4.0 * float(found.standard_error)


@pytest.mark.slow
@pytest.mark.parametrize("shares", [[0.98, 0.02], [0.97, 0.02, 0.01], [0.995, 0.003, 0.002]])
def test_atoms_are_no_heavy_tail(shares, dtype):
    """Numbers of few values: the largest is an atom, however rare, and the mean has a finite variance."""
    logs = np.random.default_rng(8).choice([0.0, 1.0, 5.0][: len(shares)], p=shares, size=4000).astype(dtype)
    assert float(pareto.tail_shape(jnp.asarray(logs))) < pareto.reliable_below(4000)


def test_ties_do_not_hide_a_heavy_tail(x64):
    """Whole logarithms of a Pareto law of shape 2, of which only the largest few stand alone."""
    logs = np.ceil(2.0 * np.random.default_rng(9).exponential(size=4000))
    assert float(pareto.tail_shape(jnp.asarray(logs))) > 1.0


@pytest.mark.parametrize("copies", [1, 2, 5, 8])
def test_repeated_rows_do_not_hide_a_heavy_tail(copies, x64):
    """A Pareto law of shape 2, each number of the sample `copies` times, as rows drawn again with their weights are."""
    logs = np.repeat(2.0 * np.random.default_rng(9).exponential(size=4000), copies)
    assert float(pareto.tail_shape(jnp.asarray(logs))) > 1.0


@pytest.mark.parametrize("deviation", [20.0, 50.0, 300.0])
def test_the_heaviest_tails_are_told_too(deviation, dtype):
    """Log-normal numbers of which the largest leaves nothing of the others in its precision."""
    for seed in range(5):
        logs = (deviation * np.random.default_rng(seed).normal(size=1000)).astype(dtype)
        assert float(pareto.tail_shape(jnp.asarray(logs))) > 1.0


def test_an_atom_that_is_half_the_sum_needs_many_copies(dtype):
    """Its share of the samples is hardly known from 6 copies; it is from 60. A cap on a light tail is no heavy one."""
    light = np.random.default_rng(10).uniform(size=4000)
    for copies, top, expected in ((6, 10.0, np.inf), (60, 10.0, -np.inf), (6, 2.0, -np.inf)):
        logs = np.concatenate([light, np.full(copies, top)]).astype(dtype)
        assert float(pareto.tail_shape(jnp.asarray(logs))) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("source", "order"), [("p", 0.5), ("q", 0.5), ("p", 1.5)])
def test_renyis_is_right_where_the_samples_miss_a_little_mass(source, order, x64):
    """N(0, 1) truncated to x > −2 and N(0.1, 1), either as the one sampled: 20 sets of 300, too few to see 2.3 % go.

    The truth by quadrature; for order ½ and samples of the truncated one it is 0.02026.
    """
    cut, whole, values = norm(0.0, 1.0), norm(0.1, 1.0), []
    grid = np.linspace(-2.0, 9.0, 200_001)
    inside = cut.logpdf(grid) - cut.logsf(-2.0), whole.logpdf(grid)
    sides = inside if source == "p" else inside[::-1]
    truth = np.log(np.trapezoid(np.exp(order * sides[0] + (1.0 - order) * sides[1]), grid)) / (order - 1.0)
    for seed in range(20):
        x = cut.isf(cut.sf(-2.0) * np.random.default_rng(seed).uniform(size=300))
        logs = cut.logpdf(x) - cut.logsf(-2.0), whole.logpdf(x)
        logs = logs if source == "p" else logs[::-1]
        values.append(log_densities.divergence(*logs, f"renyi({order})", samples_of=source).value)
    assert abs(np.mean(values) - truth) < 4.0 * np.std(values) / math.sqrt(20)
    assert source != "p" or order != 0.5 or truth == pytest.approx(0.02026, abs=1e-4)

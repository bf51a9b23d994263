"""The ten kinds of rows: truths against SciPy's sums and integrals and Monte Carlo, samples against their laws."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from estimators.divergences.table import divergence
from estimators.exact_values.partition import Partition, of_partition
from estimators.exact_values.truth import Densities
from estimators.tasks.kind_tasks import CENTRES, CORRELATION, HELD_TO, KIND_TASKS, SHARES, SHIFTS, sum_of_uniforms

GENERATORS = {  # written out anew
    "kl": lambda u: np.where(u > 0.0, u * np.log(np.maximum(u, 1e-300)), 0.0),
    "js": lambda u: (
        0.5 * (np.where(u > 0.0, u * np.log(np.maximum(u, 1e-300)), 0.0) - (u + 1.0) * np.log(0.5 * (u + 1)))
    ),
    "total_variation": lambda u: 0.5 * np.abs(u - 1.0),
    "squared_hellinger": lambda u: (np.sqrt(u) - 1.0) ** 2,
    "pearson": lambda u: (u - 1.0) ** 2,
}
EXPECTED = {"categories", "poisson", "zero_inflated", "table", "rounded_normal", "uniform", "series", "groups"}
each_divergence = pytest.mark.parametrize("name", HELD_TO)


def truth(task, name):
    return KIND_TASKS[task].truth(name).value


def of_shares(p, q, name):
    kept = (p > 0.0) | (q > 0.0)
    return float(np.sum(q[kept] * GENERATORS[name](p[kept] / q[kept])))


def test_the_ten():
    assert set(KIND_TASKS) == EXPECTED | {"student", "laplace"} and len(KIND_TASKS) == 10
    assert set(GENERATORS) == set(HELD_TO)
    with pytest.raises(ValueError, match="choose from kl"):
        KIND_TASKS["poisson"].truth("neyman")


# --- truths ----------------------------------------------------------------------------------------------------------
@each_divergence
def test_counts_by_scipys_probabilities(name):
    k = np.arange(60)
    assert truth("poisson", name) == pytest.approx(
        of_shares(*(stats.poisson(m).pmf(k) for m in (3, 4)), name), rel=1e-9
    )
    assert truth("poisson", "kl") == pytest.approx(3.0 * math.log(0.75) + 1.0, rel=1e-12)
    assert truth("poisson", "pearson") == pytest.approx(math.expm1(0.25), rel=1e-12)  # e^{(a − b)²/b} − 1


@pytest.mark.slow
@each_divergence
def test_an_atom_beside_a_density_by_scipys_quadrature(name):
    """In x itself, where the truth integrates over log x."""
    p, q = stats.lognorm(1.0), stats.lognorm(1.1, scale=math.exp(0.5))

    def integrand(x):
        return 0.7 * q.pdf(x) * GENERATORS[name](0.6 * p.pdf(x) / (0.7 * q.pdf(x)))

    parts = [
        integrate.quad(integrand, *ends, limit=200)[0] for ends in ((1e-9, 0.3), (0.3, 3.0), (3.0, 50.0), (50.0, 1e5))
    ]
    expected = 0.3 * GENERATORS[name](0.4 / 0.3) + sum(parts)
    assert truth("zero_inflated", name) == pytest.approx(expected, abs=2e-6)


def test_kl_of_mixed_rows_by_the_chain_rule():
    """KL of the categories, and within each the Gaussian's ½ δᵀ Σ⁻¹ δ."""
    covariance = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    within = [0.5 * shift @ np.linalg.solve(covariance, shift) for shift in SHIFTS]
    expected = of_shares(*SHARES, "kl") + SHARES[0] @ within
    assert truth("table", "kl") == pytest.approx(expected, rel=1e-9)
    squares = SHARES[0] ** 2 / SHARES[1] * np.exp([2.0 * w for w in within])
    assert truth("table", "pearson") == pytest.approx(squares.sum() - 1.0, rel=1e-9)


@each_divergence
def test_mixed_rows_by_monte_carlo(name):
    """E_Q f(p/q) over rows of Q, with densities in the plane."""
    covariance = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    _, y = KIND_TASKS["table"].sample(5, 100_000)
    code, numbers = y[:, 0].astype(int), y[:, 1:]
    noise = stats.multivariate_normal(np.zeros(2), covariance)
    log_p, log_q = (noise.logpdf(numbers - CENTRES[code] - side * SHIFTS[code]) for side in (0, 1))
    values = GENERATORS[name](np.exp(log_p - log_q) * (SHARES[0] / SHARES[1])[code])
    assert abs(values.mean() - truth("table", name)) < 4.0 * values.std() / math.sqrt(len(values))


@pytest.mark.slow
@each_divergence
def test_laplace_by_monte_carlo(name):
    rng = np.random.default_rng(3)
    y = stats.laplace(0.5).rvs((200_000, 5), random_state=rng)
    values = GENERATORS[name](np.exp(np.sum(np.abs(y - 0.5) - np.abs(y), axis=1)))
    assert abs(values.mean() - truth("laplace", name)) < 4.0 * values.std() / math.sqrt(len(values))


def test_laplace_in_closed_form():
    """KL adds up over coordinates; 1 − ½H² and 1 + χ² multiply, e^{−a/2}(1 + a/2) and (2 e^a + e^{−2a})/3 each."""
    a = 0.5
    assert truth("laplace", "kl") == pytest.approx(5.0 * (a + math.expm1(-a)), rel=1e-9)
    affinity = math.exp(-0.5 * a) * (1.0 + 0.5 * a)
    assert truth("laplace", "squared_hellinger") == pytest.approx(2.0 - 2.0 * affinity**5, rel=1e-9)
    square = (2.0 * math.exp(a) + math.exp(-2.0 * a)) / 3.0
    assert truth("laplace", "pearson") == pytest.approx(square**5 - 1.0, rel=1e-9)


@each_divergence
def test_gaussian_rows_along_the_shift(name):
    """Whatever rows depend on, each has its stationary law: N(δ, 1) against N(0, 1) along the shift, δ = 0.4 √d."""
    for task, d in (("series", 2), ("groups", 3)):
        p, q = stats.norm(0.4 * math.sqrt(d)), stats.norm()
        x = np.linspace(-14.0, 16.0, 60_001)
        expected = np.trapezoid(q.pdf(x) * GENERATORS[name](np.exp(p.logpdf(x) - q.logpdf(x))), x)
        assert truth(task, name) == pytest.approx(expected, rel=1e-5)


@each_divergence
def test_nested_boxes(name):
    share = 1.15**-5  # of Q inside P
    expected = share * GENERATORS[name](np.array(1.0 / share)) + (1.0 - share) * GENERATORS[name](np.array(0.0))
    assert truth("uniform", name) == pytest.approx(float(expected), rel=1e-9)


@each_divergence
def test_student_rows_by_monte_carlo(name):
    p, q = stats.multivariate_t(np.zeros(5), 0.81 * np.eye(5), df=5), stats.multivariate_normal(np.zeros(5))
    if name == "pearson":
        assert truth("student", name) == math.inf
        return
    rng = np.random.default_rng(4)
    x, y = p.rvs(100_000, random_state=rng), q.rvs(100_000, random_state=rng)
    mixture = [p.logpdf(z) - q.logpdf(z) for z in (x, y)]
    values = [2.0 * GENERATORS[name](np.exp(r)) / (1.0 + np.exp(r)) for r in map(np.minimum, mixture, (600.0, 600.0))]
    error = 0.5 * math.hypot(*(v.std() for v in values)) / math.sqrt(len(x))
    assert abs(0.5 * sum(v.mean() for v in values) - truth("student", name)) < 4.0 * error


# --- samples ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KIND_TASKS)
def test_samples_follow_from_the_seed(name):
    task = KIND_TASKS[name]
    x, y = task.sample(0, 203)
    assert x.shape == y.shape and len(x) == 203 and x.dtype == y.dtype == np.float64
    np.testing.assert_array_equal(x, task.sample(0, 203)[0])
    assert not np.array_equal(x, task.sample(1, 203)[0]) and not np.array_equal(x, y)
    for labels in task.options(203).get("groups", ()):
        assert labels.shape == (203,)


@pytest.mark.parametrize("name", ["categories", "poisson", "rounded_normal"])
def test_shares_of_samples(name):
    """KL of the empirical shares of many rows from the law's, known by χ²: n Σ (p̂ − p)²/p has mean k − 1."""
    x, y = KIND_TASKS[name].sample(2, 200_000)
    values = np.union1d(x, y)
    p, q = (np.array([(rows == v).mean() for v in values]) for rows in (x, y))
    common = (p > 2e-4) & (q > 2e-4)
    assert of_shares(p[common], q[common], "squared_hellinger") == pytest.approx(
        truth(name, "squared_hellinger"), abs=3e-3
    )
    assert of_shares(p[common], q[common], "total_variation") == pytest.approx(truth(name, "total_variation"), abs=6e-3)


def test_zeros_and_their_neighbours():
    for rows, zero, log_mean, log_deviation in zip(
        KIND_TASKS["zero_inflated"].sample(3, 20_000), (0.4, 0.3), (0.0, 0.5), (1.0, 1.1)
    ):
        positive = rows[rows > 0.0]
        assert abs((rows == 0.0).mean() - zero) < 4.0 * math.sqrt(0.25 / len(rows))
        assert stats.kstest(np.log(positive), stats.norm(log_mean, log_deviation).cdf).pvalue > 1e-3


def test_series_have_their_law_and_their_lag():
    n = 20_000
    for rows, mean in zip(KIND_TASKS["series"].sample(4, n), (0.0, 0.4)):
        time = 1.7 / 0.3
        assert np.all(np.abs(rows.mean(axis=0) - mean) < 4.0 * math.sqrt(time / n))
        assert np.all(np.abs(rows.var(axis=0) - 1.0) < 0.1)
        centred = rows - rows.mean(axis=0)
        lags = np.mean(centred[1:] * centred[:-1], axis=0) / rows.var(axis=0)
        assert np.all(np.abs(lags - 0.7) < 0.03)
    first = np.concatenate([KIND_TASKS["series"].sample(seed, 1)[0] for seed in range(300)])
    assert abs(first.var() - 1.0) < 4.0 * math.sqrt(2.0 / first.size)


def test_groups_share_half_of_their_variance():
    x, _ = KIND_TASKS["groups"].sample(5, 20_000)
    labels, others = KIND_TASKS["groups"].options(20_000)["groups"]
    assert len(np.unique(labels)) == 4000 and not np.intersect1d(labels, others).size
    members = x.reshape(4000, 5, 3)
    within = members.var(axis=1, ddof=1).mean(axis=0)
    assert np.all(np.abs(within - 0.5) < 4.0 * math.sqrt(2.0 * 0.25 / 16_000)) and np.all(np.abs(x.var(0) - 1.0) < 0.06)


# --- partitions ------------------------------------------------------------------------------------------------------
def test_sums_of_uniforms():
    s = np.linspace(0.01, 2.99, 50)
    assert np.all(sum_of_uniforms(1, s) == (s < 1.0))
    np.testing.assert_allclose(sum_of_uniforms(2, s), np.clip(1.0 - np.abs(s - 1.0), 0.0, None), atol=1e-12)
    total, _ = integrate.quad(lambda t: float(sum_of_uniforms(5, np.array(t))), 0.0, 5.0)
    assert total == pytest.approx(1.0, rel=1e-8)


def test_a_divergence_is_infinite_where_one_law_lacks_a_piece():
    half = np.array([0.5, 0.5])
    lacking = Partition(atoms_p=half, atoms_q=np.array([1.0, 0.0]))
    assert of_partition(lacking, divergence("kl")) == math.inf
    assert of_partition(lacking, divergence("total_variation")) == pytest.approx(0.5)


def test_weights_must_add_up():
    uniform = Densities(lambda s: np.log(0.5) + 0.0 * s, lambda s: 0.0 * s, (0.0, 1.0))
    with pytest.raises(ValueError, match=r"weights of P add up to 0\.5"):
        of_partition(Partition(lines=(uniform,)), divergence("kl"))

"""Geometric Jensen–Shannon from log-ratios: closed forms, both limits, the extended row of the table."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.divergences.table import divergence
from estimators.exact_values import gaussian
from estimators.exact_values.monte_carlo import geometric_js

P, Q = (np.array([0.5, -0.3]), np.array([1.0, 0.6])), (np.array([-0.2, 0.2]), np.array([1.4, 0.9]))  # (mean, variances)
N = 100_000


def log_density(x, law):
    mean, variances = law
    return -0.5 * np.sum((x - mean) ** 2 / variances + np.log(2 * np.pi * variances), axis=1)


def ratios(n: int = N, seed: int = 0):
    """Exact log p/q at n samples of each Gaussian."""
    rng = np.random.default_rng(seed)
    draws = (mean + np.sqrt(variances) * rng.normal(size=(n, 2)) for mean, variances in (P, Q))
    return tuple(log_density(x, P) - log_density(x, Q) for x in draws)


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("convention", ["nielsen", "deasy"])
@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_it_is_the_closed_form_within_its_standard_error(x64, alpha, convention, dual):
    found = geometric_js(*ratios(), alpha, convention=convention, dual=dual)
    exact = float(gaussian.geometric_js(*P, *Q, alpha, convention=convention, dual=dual))
    assert abs(float(found.value) - exact) <= 4.0 * float(found.standard_error) + 1e-12
    assert float(found.standard_error) < 0.01


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize("alpha", [0.3, 0.5])
def test_its_standard_error_is_the_spread_of_repeats(x64, alpha, dual):
    draws = (np.stack(side) for side in zip(*(ratios(400, seed) for seed in range(300))))
    repeat = partial(geometric_js, alpha=alpha, convention="deasy", dual=dual)
    values, errors, _ = map(np.asarray, jax.jit(jax.vmap(repeat))(*draws))
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=4.0 / np.sqrt(2 * 300))


def test_it_vanishes_at_both_ends_in_nielsens_convention_and_is_kl_in_deasys(x64):
    l_p, l_q = ratios()
    for alpha, kl in ((0.0, np.mean(l_p)), (1.0, -np.mean(l_q))):
        assert float(geometric_js(l_p, l_q, alpha).value) == pytest.approx(0.0, abs=1e-12)
        assert float(geometric_js(l_p, l_q, alpha, convention="deasy").value) == pytest.approx(kl, rel=1e-9)


def test_at_a_half_it_is_the_extended_row_with_its_mean_normalised(x64):
    """extended + log BC − (BC − 1): the extended form by the table's own bound at the exact log-ratio."""
    l_p, l_q = (jnp.asarray(r) for r in ratios(N, 1))
    g = divergence("geometric_js").activation("log_ratio")
    extended = jnp.mean(g.output(l_p)) - jnp.mean(g.conjugate(l_q))
    bc = jnp.mean(jnp.exp(0.5 * l_q))
    found = geometric_js(l_p, l_q)
    read = float(extended + jnp.log(bc) - (bc - 1.0))
    assert float(found.value) == pytest.approx(read, abs=6.0 * float(found.standard_error))
    assert float(gaussian.geometric_js(*P, *Q)) == pytest.approx(read, abs=6.0 * float(found.standard_error))


@pytest.mark.parametrize(
    "changes, word",
    [
        ({"alpha": 1.2}, "alpha"),
        ({"convention": "other"}, "nielsen"),
        ({"ratio_p": [0.1]}, "at least 2"),
        ({"ratio_q": [[0.1, 0.2]]}, "at least 2"),
    ],
)
def test_what_means_nothing_is_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        geometric_js(**({"ratio_p": [0.1, 0.2], "ratio_q": [0.0, 0.3]} | changes))

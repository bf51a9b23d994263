"""log W against SciPy's Lambert function, and where that overflows."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import lambertw

from estimators.divergences.special import log_lambert

N = 36


def test_log_lambert_is_scipys_with_both_derivatives(dtype):
    z = np.linspace(-40.0, 80.0, N)
    w = lambertw(np.exp(z)).real
    first = jax.grad(log_lambert)
    for function, expected in (
        (log_lambert, np.log(w)),
        (jax.vmap(first), 1.0 / (1.0 + w)),
        (jax.vmap(jax.grad(first)), -w / (1.0 + w) ** 3),
    ):
        error = np.abs(np.asarray(function(jnp.asarray(z, dtype)), np.float64) - expected)
        assert np.all(error <= 8 * np.finfo(dtype).eps * (1.0 + np.abs(expected)))


def test_log_lambert_solves_its_equation_where_the_exponential_overflows(dtype):
    z = np.resize([1e3, 1e6, -1e3, 0.0, 1.0], N).astype(dtype)
    y = log_lambert(jnp.asarray(z))
    assert np.all(np.abs(np.asarray(y + jnp.exp(y)) - z) <= 16 * np.finfo(dtype).eps * (1.0 + np.abs(z)))

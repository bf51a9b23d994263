"""Divergences of attention maps: a mean over the queries that count, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.exact_values import attention, discrete

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 2, 3, 4, 4)).astype(np.float32)  # [batch, heads, queries, keys]
CAUSAL = np.tril(np.ones((4, 4), bool))
KEYS = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)  # the second sequence has two tokens and two of padding


def one_by_one(a, b, seen, queries):
    """[batch, heads], a loop over everything."""
    found = np.zeros((2, 3))
    for i, h in np.ndindex(2, 3):
        rows = [t for t in range(4) if queries[i, t] and seen[i, t].any()]
        maps = ([np.asarray(jax.nn.softmax(x[i, h, t, seen[i, t]])) for t in rows] for x in (a, b))
        found[i, h] = np.mean([np.sum(p * np.log(p / q)) for p, q in zip(*maps)])
    return found


@pytest.mark.slow
def test_causal_and_padded():
    seen = CAUSAL[None] & KEYS[:, None, :]
    where = CAUSAL[None, None] & KEYS[:, None, None, :]
    queries = KEYS[:, None, :]
    expected = one_by_one(A, B, seen, KEYS)
    found = attention.divergence(A, B, logits=True, where=where, queries=queries)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    p, q = (np.asarray(jax.nn.softmax(np.where(where, x, -np.inf))) for x in (A, B))
    p, q = (np.where(queries[..., None], x, np.nan) for x in (p, q))  # padded queries may hold anything
    found = jax.jit(attention.divergence)(p, q, where=where, queries=queries)
    np.testing.assert_allclose(found, expected, rtol=2e-5)
    slope = jax.grad(lambda a: attention.divergence(a, q, logits="p", where=where, queries=queries).sum())(A)
    assert np.all(np.isfinite(slope)) and np.all(slope[1, :, 2:] == 0.0) and np.any(slope[1] != 0.0)


def test_queries_that_see_no_key_do_not_count():
    where = CAUSAL.copy()
    where[2] = False
    found = attention.divergence(A, B, "js", logits=True, where=where)
    rows = [discrete.divergence(A[:, :, t], B[:, :, t], "js", logits=True, where=CAUSAL[t]) for t in (0, 1, 3)]
    np.testing.assert_allclose(found, np.mean(rows, axis=0), rtol=1e-5)
    with pytest.raises(ValueError, match="no query counts in 6 of 6 maps"):
        attention.divergence(A, B, logits=True, where=np.zeros((4, 4)))
    inside = jax.jit(lambda a: attention.divergence(a, jnp.asarray(B), logits=True, where=jnp.zeros((4, 4))))(A)
    assert np.all(inside == 0.0)
    with pytest.raises(ValueError, match="do not broadcast"):
        attention.divergence(A, B, logits=True, where=np.ones((3, 3)))

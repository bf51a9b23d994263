"""Sums over outcomes: against the definition, SciPy, optax and torch; supports, masks, weights, gradients, float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import entr, rel_entr

from estimators.divergences.generator import from_generator
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.exact_values import discrete

MINE = from_generator("mine", lambda u: (u - 1.0) ** 2 * (u + 1.0) / u)
KINDS = ["kl", "gan", "hockey_stick(2)", "pearson", MINE]
"""One of each kind: unbounded, bounded with f(1) ≠ 0, a kink away from 1, a power, a user's own."""
RNG = np.random.default_rng(0)
P, Q = (RNG.dirichlet(np.ones(6), size=(4, 3)) for _ in range(2))
A, B = (RNG.normal(size=(4, 3, 6)) for _ in range(2))


def defined(p, q, d):
    """Σ q f(p/q), with q f(0) and p f'(∞) where one is zero."""
    both, only_p, only_q = (p > 0) & (q > 0), (p > 0) & (q == 0), (q > 0) & (p == 0)
    u = np.where(both, p, 1.0) / np.where(both, q, 1.0)
    terms = np.where(both, q * np.asarray(d.f(u)), 0.0)
    with np.errstate(invalid="ignore"):
        terms = np.where(only_p, p * d.slope_at_infinity, np.where(only_q, q * d.value_at_zero, terms))
    return terms.sum(-1)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sparse(p, zeros):
    p = np.where(zeros, 0.0, p)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIVERGENCES)
def test_every_divergence_of_the_table_is_its_definition(name, x64):
    np.testing.assert_allclose(discrete.divergence(P, Q, name), defined(P, Q, divergence(name)), rtol=1e-9, atol=1e-13)


def test_it_is_its_definition(x64):
    for d in map(divergence, KINDS):
        np.testing.assert_allclose(
            discrete.divergence(P, Q, d), defined(P, Q, d), rtol=1e-9, atol=1e-13, err_msg=d.name
        )


@pytest.mark.parametrize("name", ["kl", "gan", "hockey_stick(2)"])
def test_supports_that_differ(name, x64):
    """Zeros in P, in Q, and in both; infinite exactly where f(0) or f'(∞) is."""
    d = divergence(name)
    zeros_p, zeros_q = np.eye(6, dtype=bool)[[0, 1, 2]], np.eye(6, dtype=bool)[[3, 1, 0]]
    p, q = sparse(P[0], zeros_p), sparse(Q[0], zeros_q)
    left, right = np.stack([p, p, P[0]]), np.stack([q, Q[0], q])
    exact = defined(left, right, d)
    np.testing.assert_allclose(discrete.divergence(left, right, d), exact, rtol=1e-9)
    with np.errstate(divide="ignore"):
        left, right = np.log(left), np.log(right)
    np.testing.assert_allclose(discrete.divergence(left, right, d, logits=True), exact, rtol=1e-9)


@pytest.mark.parametrize("order", [0.5, 2.0])
def test_renyi(order, x64):
    name = f"renyi({order})"
    exact = np.log((P**order * Q ** (1.0 - order)).sum(-1)) / (order - 1.0)
    np.testing.assert_allclose(discrete.divergence(P, Q, name), exact, rtol=1e-10)
    apart = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), np.array([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    expected = [math.inf, math.inf] if order > 1.0 else [-math.log(2.0) / (order - 1.0), math.inf]
    np.testing.assert_allclose(discrete.divergence(*apart, name), expected, rtol=1e-12)
    close = P * (1.0 + 1e-7 * np.array([1.0, -1.0, 0.0, 0.0, 0.0, 0.0]))
    close /= close.sum(-1, keepdims=True)
    fisher = 0.5 * order * np.sum((close - P) ** 2 / P, -1)
    np.testing.assert_allclose(discrete.divergence(close, P, name), fisher, rtol=1e-5)


def test_scipy_and_optax(dtype):
    p, q = sparse(P, np.arange(6) == 2).astype(dtype), Q.astype(dtype)
    close = {"rtol": 1e-12 if dtype == np.float64 else 2e-5, "atol": 1e-7 if dtype == np.float32 else 0.0}
    np.testing.assert_allclose(discrete.divergence(p, q), rel_entr(p, q).sum(-1), **close)
    np.testing.assert_allclose(discrete.divergence(q, p), rel_entr(q, p).sum(-1), **close)
    np.testing.assert_allclose(discrete.entropy(p), entr(p).sum(-1), **close)
    np.testing.assert_allclose(discrete.divergence(p, q, "js"), jensenshannon(p, q, axis=-1) ** 2, **close)
    reversed_arguments = optax.losses.kl_divergence(log_predictions=jnp.log(q), targets=jnp.asarray(p))
    np.testing.assert_allclose(discrete.divergence(p, q), reversed_arguments, **close)
    logits, labels = jnp.asarray(A, dtype), jax.nn.one_hot(jnp.full((4, 3), 2), 6, dtype=dtype)
    found = discrete.cross_entropy(labels, logits, logits="q")
    np.testing.assert_allclose(found, optax.losses.softmax_cross_entropy(logits, labels), **close)


def test_torch():
    torch = pytest.importorskip("torch")
    p, q = torch.tensor(P), torch.tensor(Q)
    theirs = torch.nn.functional.kl_div(q.log(), p, reduction="none").sum(-1)
    with jax.enable_x64(True):
        np.testing.assert_allclose(discrete.divergence(P, Q), theirs.numpy(), rtol=1e-12)


def test_cross_entropy_is_entropy_plus_kl(dtype):
    p, q, a, b = (x.astype(dtype) for x in (P, Q, A, B))
    rtol = 1e-12 if dtype == np.float64 else 3e-6
    for left, right, logits in ((p, q, False), (a, b, True), (p, b, "q"), (a, q, "p")):
        entropy = discrete.entropy(left, logits=logits in (True, "p"))
        both = entropy + discrete.divergence(left, right, logits=logits)
        cross = discrete.cross_entropy(left, right, logits=logits)
        assert cross.dtype == dtype
        np.testing.assert_allclose(cross, both, rtol=rtol)
        np.testing.assert_allclose(discrete.perplexity(left, right, logits=logits), np.exp(both), rtol=3 * rtol)
    np.testing.assert_allclose(discrete.perplexity(a, logits=True), np.exp(discrete.entropy(a, logits=True)), rtol=rtol)
    assert discrete.cross_entropy([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert discrete.cross_entropy([1.0, 0.0], [1.0, 0.0]) == 0.0


def test_logits_axes_and_batches(x64, name="js"):
    exact = discrete.divergence(softmax(A), softmax(B), name)
    np.testing.assert_allclose(discrete.divergence(A + 300.0, B - 300.0, name, logits=True), exact, rtol=1e-10)
    np.testing.assert_allclose(discrete.divergence(softmax(A), B, name, logits="q"), exact, rtol=1e-10)
    for axis in (0, -2):
        moved = (np.moveaxis(x, -1, axis) for x in (A, B))
        np.testing.assert_allclose(discrete.divergence(*moved, name, axis=axis, logits=True), exact, rtol=1e-10)
    one = discrete.divergence(P, Q[0, 0], name)  # one Q for all
    np.testing.assert_allclose(one, discrete.divergence(P, np.broadcast_to(Q[0, 0], P.shape), name), rtol=1e-12)
    mapped = jax.jit(jax.vmap(lambda a, b: discrete.divergence(a, b, name, logits=True)))(A, B)
    np.testing.assert_allclose(mapped, exact, rtol=1e-10)


def test_masks_leave_outcomes_out(x64):
    keep = np.array([True, True, False, True, False, True])
    name = "kl"
    found = discrete.divergence(A, B, name, logits=True, where=keep)
    np.testing.assert_allclose(found, discrete.divergence(A[..., keep], B[..., keep], name, logits=True), rtol=1e-10)
    p, q = (np.where(keep, sparse(x, ~keep), np.nan) for x in (P, Q))
    expected = discrete.divergence(p[..., keep], q[..., keep])
    np.testing.assert_allclose(discrete.divergence(p, q, where=keep), expected, rtol=1e-12)
    np.testing.assert_allclose(discrete.entropy(p, where=keep), entr(p[..., keep]).sum(-1), rtol=1e-12)


def test_weights_are_the_measure_of_an_outcome(x64):
    """An outcome of weight 3 is three equal outcomes; with logits the softmax counts it thrice."""
    counts = np.array([1, 3, 0, 2, 1, 1])
    many = np.repeat(np.arange(6), counts)
    p, q = (x / (x * counts).sum(-1, keepdims=True) for x in (P, Q))
    name = "renyi(2)"
    found = discrete.divergence(p, q, name, weights=counts)
    np.testing.assert_allclose(found, discrete.divergence(p[..., many], q[..., many], name), rtol=1e-10)
    found = discrete.divergence(A, B, name, logits=True, weights=counts)
    np.testing.assert_allclose(found, discrete.divergence(A[..., many], B[..., many], name, logits=True), rtol=1e-10)
    np.testing.assert_allclose(discrete.entropy(p, weights=counts), discrete.entropy(p[..., many]), rtol=1e-12)


def test_smoothing_only_when_asked(x64):
    p, q = np.array([0.7, 0.3, 0.0]), np.array([0.0, 0.3, 0.7])
    assert discrete.divergence(p, q) == math.inf
    mixed = (0.9 * x + 0.1 / 3.0 for x in (p, q))
    found = discrete.divergence(p, q, smoothing=0.1)
    np.testing.assert_allclose(found, discrete.divergence(*mixed), rtol=1e-12)
    values = [float(discrete.divergence(A[0, 0], B[0, 0], logits=True, smoothing=s)) for s in (0.0, 0.2, 0.9, 1.0)]
    assert values == sorted(values, reverse=True) and values[-1] == pytest.approx(0.0, abs=1e-15)
    slope = jax.grad(lambda s: discrete.divergence(p, q, smoothing=s))(0.5)
    assert math.isfinite(slope) and slope < 0.0


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("name", ["js", "renyi(2)"])
def test_float32_resolves_close_distributions(name, logits):
    """Of the same float32 numbers, D_f far below the epsilon of float32 agrees with float64."""
    shift = 3e-5 * RNG.normal(size=A.shape)
    p, q = (A, A + shift) if logits else (P, softmax(np.log(P) + shift))
    p, q = p.astype(np.float32), q.astype(np.float32)
    found = discrete.divergence(p, q, name, logits=logits)
    assert found.dtype == np.float32 and np.all(found < 1e-8)
    with jax.enable_x64(True):
        p, q = p.astype(float), q.astype(float)
        if not logits:  # rounded probabilities have other sums, of which the tangent of f makes no difference
            np.testing.assert_allclose(found, discrete.divergence(p, q, name), rtol=1e-3)
        else:
            np.testing.assert_allclose(found, discrete.divergence(p, q, name, logits=True), rtol=1e-3)


@pytest.mark.parametrize("name", ["kl", "pearson"])
def test_far_apart_in_float32(name):
    a, b = 30.0 * RNG.normal(size=(2, 8, 5)).astype(np.float32)
    found = discrete.divergence(a, b, name, logits=True)
    with jax.enable_x64(True):
        exact = np.asarray(discrete.divergence(a.astype(float), b.astype(float), name, logits=True))
    np.testing.assert_allclose(found, np.where(exact < 3.4e38, exact, math.inf), rtol=2e-4)


@pytest.mark.slow
def test_gradients(x64):
    """By logits that of KL(p‖q) is p (log p/q − KL), and at p = q the Hessian is the Fisher information."""
    a, b = jnp.asarray(A[0, 0]), jnp.asarray(B[0, 0])
    p, q = (jax.nn.softmax(x) for x in (a, b))
    value, slope = jax.value_and_grad(lambda a: discrete.divergence(a, b, logits=True))(a)
    np.testing.assert_allclose(slope, p * (jnp.log(p / q) - value), rtol=1e-10)
    np.testing.assert_allclose(jax.grad(lambda b: discrete.divergence(a, b, logits=True))(b), q - p, rtol=1e-10)
    name, curvature = "js", 0.25
    hessian = jax.jit(jax.hessian(lambda a: discrete.divergence(a, b, name, logits=True)))(b)
    np.testing.assert_allclose(hessian, curvature * (jnp.diag(q) - jnp.outer(q, q)), rtol=1e-8, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("logits", "dtype"), [(False, "float32"), (True, "float64")], indirect=["dtype"])
def test_gradients_have_no_nan_at_zeros(logits, dtype):
    """Rows: equal, zeros in p, in q, in both, disjoint. The rows that are finite keep their gradients."""
    p = np.array([[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0]], dtype)
    q = np.array([[0.5, 0.5, 0, 0], [0.2, 0.3, 0.5, 0], [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0]], dtype)
    if logits:
        with np.errstate(divide="ignore"):
            p, q = np.log(p), np.log(q)
    names = ("kl", "js", "renyi(2)")

    def total(p, q):
        return sum(jnp.sum(discrete.divergence(p, q, name, logits=logits)) for name in names)

    for slope in jax.jit(jax.grad(total, argnums=(0, 1)))(p, q):
        assert np.all(np.isfinite(slope)), slope
        assert np.any(slope[1:4] != 0.0)


def test_inside_jit_bad_values_have_a_meaning():
    compiled = jax.jit(lambda p, q, where: discrete.divergence(p, q, where=where))
    p, q = jnp.array([[0.5, 0.5], [1.2, -0.2], [jnp.nan, 0.5]]), jnp.full((3, 2), 0.5)
    found = compiled(p, q, jnp.ones((3, 2), bool))
    assert found[0] == 0.0 and math.isfinite(found[1]) and math.isnan(found[2])
    assert np.all(compiled(p[:2], q[:2], jnp.zeros((2, 2), bool)) == 0.0)


HALF = [0.5, 0.5]


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (([1.5, -0.5], HALF), {}, r"p holds -0.5: a probability is not negative"),
        ((HALF, [0.5, 0.6]), {}, r"q sums to 1.1 .*not to 1: divide"),
        (([np.nan, 1.0], HALF), {}, r"p holds NaN.*where="),
        ((HALF, [0.3, 0.3, 0.4]), {}, r"do not broadcast.*p \(2,\), q \(3,\)"),
        ((HALF, HALF), {"axis": 1}, r"p has shape \(2,\) and no outcomes on axis 1"),
        ((HALF, HALF), {"where": [False, False]}, r"where and weights leave 1 rows without an outcome"),
        ((HALF, HALF), {"weights": [1.0, -1.0]}, r"weights hold -1"),
        ((HALF, HALF), {"smoothing": 1.5}, r"smoothing = 1.5"),
        ((HALF, HALF), {"logits": "both"}, r"logits = 'both': choose"),
        (([np.inf, 0.0], HALF), {"logits": True}, r"p holds the logit inf"),
        (([-np.inf, -np.inf], HALF), {"logits": True}, r"p has a row whose logits are all -inf"),
        ((HALF, HALF), {"d": "kll"}, r"unknown divergence 'kll': did you mean kl"),
    ],
)
def test_bad_input_is_named(arguments, options, words):
    with pytest.raises(ValueError, match=words):
        discrete.divergence(*arguments, **options)


@pytest.mark.parametrize("gap", [40.0, 80.0, 79.5])
def test_gradients_by_logits_hold_where_the_asymptote_begins(gap):
    """Of nearly singular distributions: kl falls by the gap alone, js not at all."""
    p, q = jnp.array([0.0, -gap]), jnp.array([-gap, 0.0])
    by_q = jax.grad(lambda q: discrete.divergence(p, q, "kl", logits=True))(q)
    np.testing.assert_allclose(by_q, [-1.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda q: discrete.divergence(p, q, "js", logits=True))(q), 0.0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1.0 - 1e-3, 1.0 - 1e-5, 1.0 + 1e-5, 1.0 + 1e-3, 1e-4])
def test_orders_near_one_and_zero_of_masses_far_apart(order, dtype):
    """Rényi's and the α-divergence of outcomes whose log-ratios are 0.7, −400 and 1: by Σ p (e^{(α−1)ℓ} − 1)."""
    p, q = np.array([0.7, -400.0, 0.0], dtype), np.array([0.0, 0.0, -1.0], dtype)
    log_p, log_q = (x.astype(float) - np.logaddexp.reduce(x.astype(float)) for x in (p, q))
    ratio = log_p - log_q
    excess = np.sum(np.exp(log_p) * np.expm1((order - 1.0) * ratio))
    if order < 0.5:
        excess = np.sum(np.exp(log_q) * np.expm1(order * ratio))
    rtol = 2e-5 if dtype == np.float32 else 1e-10
    found = discrete.divergence(p, q, f"alpha({order!r})", logits=True)
    np.testing.assert_allclose(found, excess / (order * (order - 1.0)), rtol=rtol)
    found = discrete.divergence(p, q, f"renyi({order!r})", logits=True)
    np.testing.assert_allclose(found, np.log1p(excess) / (order - 1.0), rtol=rtol)
    swapped = discrete.divergence(q, p, f"alpha({1.0 - order!r})", logits=True)
    np.testing.assert_allclose(swapped, excess / (order * (order - 1.0)), rtol=rtol)

"""Laws of the divergence table: each holds for every row, whether its functions are stated or derived."""

import dataclasses
import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import lambertw

from estimators.divergences.families import alpha, hockey_stick, js_weighted
from estimators.divergences.generator import FDivergence, composed_activation, derivative, from_generator, legendre
from estimators.divergences.special import log_lambert
from estimators.divergences.table import DIVERGENCES, UnknownDivergence, divergence

FURTHER = ("alpha(1.5)", "alpha(2)", "alpha(-1)", "js_weighted(0.7)", "hockey_stick(1)")
ROWS = [divergence(name) for name in (*DIVERGENCES, *FURTHER)]
SMOOTH = [row for row in ROWS if row.smooth]
ACTIVATIONS = ("log_ratio", "paper")
LOG2, INF = math.log(2.0), math.inf

N = 36  # points of every grid: arrays of one shape, so that jax compiles each operation once
RATIOS = np.exp(np.linspace(-3.0, 3.0, N))  # e³ = 20: no generator loses more than u² = 400 roundings to cancellation
OUTPUTS = np.linspace(-30.0, 30.0, N)
MODERATE = np.linspace(-8.0, 8.0, N)

every_row = pytest.mark.parametrize("row", ROWS, ids=repr)
every_smooth_row = pytest.mark.parametrize("row", SMOOTH, ids=repr)
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def close(a, b, rounding):
    """Whether a and b agree to `rounding` of 1 + |b|."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return bool(np.all(np.abs(a - b) <= rounding * (1.0 + np.abs(b))))


def value(function, x, dtype=np.float64):
    """function(x) at one point, through an array of N."""
    return float(function(jnp.full(N, x, dtype))[0])


def slope(function):
    """The elementwise derivative by reverse mode, as training takes it."""
    return jax.vmap(jax.grad(function))


def arguments(row):
    """N points t inside the domain of f*, from below every branch (−8) up to close to f'(∞), or to 4."""
    top = min(row.slope_at_infinity - 1e-3, 4.0)
    return np.concatenate([np.linspace(-8.0, top, N - 3), [-3.0, -2.0, -1.0]])


@lru_cache
def derived(row):
    """The row made again from nothing but its generator."""
    return from_generator(f"derived {row.name}", lambda u: row.f(u) - row.value_at_one, smooth=row.smooth)


# --- the generator ---------------------------------------------------------------------------------------------------
PUBLISHED = {  # f(1), f'(1), f''(1) (None at a kink), f(0⁺), f'(∞), whether f* is finite there
    "kl": (0.0, 1.0, 1.0, 0.0, INF, False),
    "reverse_kl": (0.0, -1.0, 1.0, INF, 0.0, False),
    "jeffreys": (0.0, 0.0, 2.0, INF, INF, False),
    "js": (0.0, 0.0, 0.25, 0.5 * LOG2, 0.5 * LOG2, False),
    "js_weighted(0.3)": (0.0, 0.0, 0.21, -0.7 * math.log(0.7), -0.3 * math.log(0.3), False),
    "js_weighted(0.7)": (0.0, 0.0, 0.21, -0.3 * math.log(0.3), -0.7 * math.log(0.7), False),
    "gan": (-2.0 * LOG2, -LOG2, 0.5, 0.0, 0.0, False),  # 2 js − log 4: the one row with f(1) ≠ 0
    "total_variation": (0.0, 0.0, None, 0.5, 0.5, True),
    "pearson": (0.0, 0.0, 2.0, 1.0, INF, False),
    "neyman": (0.0, 0.0, 2.0, INF, 1.0, True),
    "squared_hellinger": (0.0, 0.0, 0.5, 1.0, 1.0, False),
    "triangular": (0.0, 0.0, 1.0, 1.0, 1.0, True),
    "alpha(-1)": (0.0, 0.0, 1.0, INF, 0.5, True),
    "alpha(0.5)": (0.0, 0.0, 1.0, 2.0, 2.0, False),
    "alpha(1.5)": (0.0, 0.0, 1.0, 2.0 / 3.0, INF, False),
    "alpha(2)": (0.0, 0.0, 1.0, 0.5, INF, False),
    "geometric_js": (0.0, 0.5, 0.25, INF, INF, False),
    "hockey_stick(1)": (0.0, 0.0, None, 0.0, 1.0, True),
    "hockey_stick(2)": (0.0, 0.0, None, 0.0, 1.0, True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_constants_are_the_published_ones(name, dtype):
    row, (at_one, prime, second, at_zero, steepest, closed) = divergence(name), PUBLISHED[name]
    one, rounding = jnp.ones(N, dtype), 4 * np.finfo(dtype).eps
    assert close(row.f(one), at_one, rounding) and close(row.prime(one), prime, rounding)
    assert second is None or close(row.second(one), second, rounding)
    assert row.smooth == (second is not None) and row.closed == closed
    assert row.value_at_one == pytest.approx(at_one, abs=1e-15)
    assert row.value_at_zero == pytest.approx(at_zero, rel=1e-15)
    assert row.slope_at_infinity == pytest.approx(steepest, rel=1e-15)


@every_row
def test_f_at_one_is_the_stated_value_and_zero_but_for_gan(row, dtype):
    assert close(row.f(jnp.ones(N, dtype)), row.value_at_one, 4 * np.finfo(dtype).eps)
    assert (row.value_at_one != 0.0) == (row.name == "gan")


@every_row
def test_f_is_convex(row, dtype):
    """At midpoints of pairs near and far; strictly, where f is smooth and the pair apart."""
    a = RATIOS
    for b in (np.roll(a, 1), a[::-1], np.random.default_rng(0).permutation(a)):
        f_a, f_b, f_middle = (np.asarray(row.f(jnp.asarray(u, dtype)), np.float64) for u in (a, b, 0.5 * (a + b)))
        chord = 0.5 * (f_a + f_b)
        assert np.all(f_middle <= chord + 64 * np.finfo(dtype).eps * (1.0 + a + b))
        assert not row.smooth or np.all((f_middle < chord)[np.abs(np.log(a / b)) > 0.5])


@every_row
def test_prime_is_a_subgradient(row, dtype):
    u = jnp.asarray(RATIOS, dtype)
    u, f, prime = (np.asarray(x, np.float64) for x in (u, row.f(u), row.prime(u)))
    tangent = f[:, None] + prime[:, None] * (u - u[:, None])
    scale = 1.0 + np.abs(prime)[:, None] * (u + u[:, None]) + np.abs(f)[:, None]
    assert np.all(f >= tangent - 32 * np.finfo(dtype).eps * scale)


@every_row
@pytest.mark.parametrize("end", ["zero", "infinity"])
def test_stated_ends_are_the_limits(row, end, x64):
    stated, function, far = {
        "zero": (row.value_at_zero, row.f, 1e-30),
        "infinity": (row.slope_at_infinity, row.prime, 1e30),
    }[end]
    reached = value(function, far)
    if math.isinf(stated):
        assert reached > 15.0  # ¼ log 10³⁰ = 17 is the slowest growth
    else:
        assert reached == pytest.approx(stated, abs=1e-13)


@every_row
def test_ends_derived_from_f_are_the_stated_ones(row):
    mine = derived(row)
    assert mine.value_at_zero == pytest.approx(row.value_at_zero - row.value_at_one, rel=1e-12, abs=1e-12)
    assert mine.slope_at_infinity == pytest.approx(row.slope_at_infinity, rel=1e-12, abs=1e-12)
    assert mine.closed == row.closed


@every_smooth_row
def test_stated_derivatives_are_those_of_f(row, x64):
    u, mine = jnp.asarray(RATIOS), derived(row)
    np.testing.assert_allclose(mine.prime(u), row.prime(u), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(mine.second(u), row.second(u), rtol=1e-9)
    np.testing.assert_allclose(derivative(row.prime)(u), row.second(u), rtol=1e-11)


# --- the conjugate ---------------------------------------------------------------------------------------------------
@every_row
def test_conjugate_and_its_slope_are_the_derived_ones(row, x64):
    """f − c has the conjugate f* + c."""
    t = jnp.asarray(arguments(row) + 1e-7)  # a hair off every branch point
    mine, mine_slope = jax.jit(jax.vmap(jax.value_and_grad(derived(row).conjugate)))(t)
    np.testing.assert_allclose(mine - row.value_at_one, row.conjugate(t), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mine_slope, slope(row.conjugate)(t), rtol=1e-8, atol=1e-8)


@every_row
def test_conjugate_is_the_supremum(row, x64):
    s = np.linspace(-30.0, 20.0, 200 * N)
    f = np.concatenate([row.f(jnp.exp(block)) for block in jnp.asarray(s).reshape(-1, N)])

    def supremum(t):
        start = s[np.argmax(np.exp(s) * t - f)]
        bounds, options = (start - 0.01, start + 0.01), {"xatol": 1e-11}
        found = minimize_scalar(
            lambda s: value(row.f, math.exp(s)) - math.exp(s) * t, bounds=bounds, method="bounded", options=options
        )
        return max(-found.fun, -row.value_at_zero)  # at u = 0 it is −f(0)

    t, conjugate = arguments(row), row.conjugate(jnp.asarray(arguments(row)))
    np.testing.assert_allclose(conjugate[::3], [supremum(x) for x in t[::3]], rtol=1e-9, atol=1e-9)


@every_row
def test_conjugate_is_infinite_above_its_domain_and_at_an_open_end(row, dtype):
    end = row.slope_at_infinity
    if math.isinf(end):
        assert np.all(np.isfinite(row.conjugate(jnp.linspace(-1e3, 20.0, N, dtype=dtype))))
        return
    above = end + np.geomspace(1e-5, 1e3, N)
    assert np.all(np.isposinf(row.conjugate(jnp.asarray(above, dtype))))
    assert math.isfinite(value(row.conjugate, end, dtype)) == row.closed
    if row.closed:
        assert value(row.conjugate, end, dtype) == pytest.approx(value(row.conjugate, end - 1e-6, dtype), abs=0.02)


@pytest.mark.parametrize("row", [row for row in ROWS if row.closed], ids=repr)
def test_derived_conjugate_at_a_closed_end(row, x64):
    assert value(legendre(row), row.slope_at_infinity) == pytest.approx(value(row.conjugate, row.slope_at_infinity))


@pytest.mark.parametrize(
    ("name", "t", "expected"),
    [
        ("pearson", -3.0, -1.0),
        ("alpha(2)", -3.0, -0.5),
        ("alpha(1.5)", -2.5, -2.0 / 3.0),
        ("triangular", -4.0, -1.0),
        ("total_variation", -2.0, -0.5),
        ("hockey_stick(2)", -2.0, 0.0),
        ("neyman", 1.0, 2.0),
        ("triangular", 1.0, 3.0),
        ("alpha(-1)", 0.5, 1.0),
        ("hockey_stick(2)", 1.0, 2.0),
    ],
)
def test_conjugate_branches(name, t, expected, dtype):
    """Below f'(0) the maximiser is u = 0 and f* = −f(0); closed ends take their value."""
    assert value(divergence(name).conjugate, t, dtype) == pytest.approx(expected, rel=1e-6)


@every_row
def test_fenchel_young(row, dtype):
    """f(u) + f*(t) ≥ u t, with equality at t = f'(u)."""
    u, t = jnp.asarray(RATIOS, dtype), jnp.asarray(arguments(row), dtype)
    touch = row.prime(u)
    u, f, t, conjugate, touch, there = (
        np.asarray(x, np.float64) for x in (u, row.f(u), t, row.conjugate(t), touch, row.conjugate(touch))
    )
    rounding = 64 * np.finfo(dtype).eps
    f_u, product = f[:, None], u[:, None] * t
    assert np.all(f_u + conjugate - product >= -rounding * (1.0 + np.abs(product) + np.abs(f_u) + np.abs(conjugate)))
    assert np.all(np.abs(f + there - u * touch) <= rounding * (1.0 + np.abs(u * touch) + np.abs(f)))


@every_smooth_row
def test_conjugate_under_jit_vmap_and_grad(row, x64):
    """(f*)'(f'(u)) = u and (f*)''(f'(u)) = 1/f''(u)."""
    u = jnp.asarray(np.sqrt(RATIOS))
    first = jax.grad(row.conjugate)
    first, second = jax.jit(jax.vmap(jax.value_and_grad(first)))(row.prime(u))
    np.testing.assert_allclose(first, u, rtol=1e-9)
    np.testing.assert_allclose(second, 1.0 / row.second(u), rtol=1e-8)


# --- activations -----------------------------------------------------------------------------------------------------
@every_row
@every_activation
def test_fused_conjugate_is_the_composed_one(row, activation, x64):
    v, g = jnp.asarray(MODERATE), row.activation(activation)
    np.testing.assert_allclose(row.conjugate(g.output(v)), g.conjugate(v), rtol=1e-8, atol=1e-8)


@every_smooth_row
def test_log_ratio_activation_is_the_tangent_at_the_ratio(row, x64):
    """T = f'(e^v), f*(T) = e^v f'(e^v) − f(e^v), and d f*(T)/dv = e^{2v} f''(e^v)."""
    v, g = jnp.asarray(MODERATE), row.log_ratio
    u = jnp.exp(v)
    np.testing.assert_allclose(g.output(v), row.prime(u), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(g.conjugate(v), u * row.prime(u) - row.f(u), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(slope(g.conjugate)(v), u**2 * row.second(u), rtol=1e-7)
    np.testing.assert_allclose(g.log_ratio(v), v)


@every_smooth_row
def test_paper_log_ratio_is_the_slope_of_the_conjugate(row, x64):
    v, g = jnp.asarray(0.75 * MODERATE), row.paper
    output, log_ratio = g.output(v), g.log_ratio(v)
    above = np.asarray(output > value(row.prime, 1e-8))  # at and below f'(0) the ratio is 0
    assert above.sum() > N // 2
    with np.errstate(divide="ignore"):
        by_conjugate = np.log(np.asarray(slope(row.conjugate)(output)))
    np.testing.assert_allclose(log_ratio[above], by_conjugate[above], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(row.prime(jnp.exp(log_ratio))[above], output[above], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "output"),
    {
        "kl": lambda v: v,
        "reverse_kl": lambda v: -np.exp(-v),
        "jeffreys": lambda v: v,
        "js": lambda v: 0.5 * (LOG2 - np.log1p(np.exp(-v))),
        "js_weighted(0.3)": lambda v: -0.3 * np.log(0.3) - np.log1p(np.exp(-v)),
        "gan": lambda v: -np.log1p(np.exp(-v)),
        "total_variation": lambda v: 0.5 * np.tanh(v),
        "pearson": lambda v: v,
        "neyman": lambda v: 1.0 - np.exp(-v),
        "squared_hellinger": lambda v: 1.0 - np.exp(-v),
        "alpha(0.5)": lambda v: 2.0 - np.log1p(np.exp(-v)),
        "alpha(1.5)": lambda v: v,
        "hockey_stick(2)": lambda v: 1.0 / (1.0 + np.exp(-v)),
    }.items(),
)
def test_paper_activations_are_the_published_ones(name, output, dtype):
    """Nowozin, Cseke, Tomioka 2016, tables 2 and 6; halved for js, whose generator is half of theirs."""
    v = jnp.asarray(MODERATE, dtype)
    assert close(divergence(name).paper.output(v), output(np.asarray(v, np.float64)), 4 * np.finfo(dtype).eps)


@every_row
@every_activation
def test_float32_is_finite_and_agrees_with_float64(row, activation):
    """For |v| ≤ 30, values and gradients. Beside the relative error, expm1's own derivative rounds at 1."""
    g = row.activation(activation)
    functions = [jax.vmap(jax.value_and_grad(function)) for function in dataclasses.astuple(g)]
    single = [np.asarray(x) for h in functions for x in h(jnp.asarray(OUTPUTS, jnp.float32))]
    with jax.enable_x64(True):
        double = [np.asarray(x) for h in functions for x in h(jnp.asarray(OUTPUTS))]
    for a, b in zip(single, double):
        assert a.dtype == np.float32 and b.dtype == np.float64 and np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6)


@every_row
@every_activation
def test_output_increases_and_stays_in_the_domain(row, activation, dtype):
    output = np.asarray(row.activation(activation).output(jnp.asarray(OUTPUTS, dtype)))
    assert np.all(np.diff(output) >= 0.0) and output[-1] > output[0]
    edge = row.slope_at_infinity
    assert np.all(output <= edge * (1.0 + 2 * np.finfo(dtype).eps))
    if dtype == np.float64 and not row.closed:  # float32 rounds onto an open edge: hence the fused conjugate
        assert np.all(output < edge) and np.all(np.isfinite(row.conjugate(output)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("js", 0.5 * (20.0 - LOG2)), ("gan", 20.0), ("neyman", 2.0), ("triangular", 3.0), ("reverse_kl", 19.0)],
)
def test_far_outputs_keep_their_conjugate_in_float32(name, expected):
    """At v = 20 composition gives js 144, gan 0 and neyman 0, or inf."""
    assert value(divergence(name).log_ratio.conjugate, 20.0, jnp.float32) == pytest.approx(expected, rel=1e-6)


def test_defaults_and_choice_of_activation():
    assert all(row.activation() is (row.log_ratio if row.smooth else row.paper) for row in ROWS)
    with pytest.raises(ValueError, match="choose log_ratio or paper"):
        divergence("kl").activation("sigmoid")


@every_row
def test_dtype_is_kept(row, x64):
    """float32 in, float32 out, also where float64 is on."""
    g, h = row.log_ratio, row.paper
    functions = [row.f, row.prime, row.second, row.conjugate, *dataclasses.astuple(g), *dataclasses.astuple(h)]
    assert {function(jnp.full(N, 0.25, jnp.float32)).dtype for function in functions} == {np.dtype("float32")}


# --- log W -----------------------------------------------------------------------------------------------------------
def test_log_lambert_is_scipys_with_both_derivatives(dtype):
    z = np.linspace(-40.0, 80.0, N)
    w = lambertw(np.exp(z)).real
    rounding = 8 * np.finfo(dtype).eps
    at = jnp.asarray(z, dtype)
    assert close(log_lambert(at), np.log(w), rounding)
    assert close(slope(log_lambert)(at), 1.0 / (1.0 + w), rounding)
    assert close(slope(jax.grad(log_lambert))(at), -w / (1.0 + w) ** 3, rounding)


def test_log_lambert_solves_its_equation_where_the_exponential_overflows(dtype):
    z = jnp.asarray(np.resize([1e3, 1e6, -1e3, 0.0, 1.0], N), dtype)
    y = log_lambert(z)
    assert close(y + jnp.exp(y), z, 16 * np.finfo(dtype).eps)


# --- names -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("typed", "name"),
    [(alias, row.name) for row in DIVERGENCES.values() for alias in row.aliases]
    + [("chi-squared", "pearson"), ("chi_squared", "pearson"), ("jsd", "js"), ("tv", "total_variation")]
    + [("hellinger", "squared_hellinger"), ("Reverse-KL ", "reverse_kl"), ("JS", "js")]
    + [("alpha(0.3)", "alpha(0.3)"), ("ALPHA( .3 )", "alpha(0.3)"), ("alpha(-1)", "alpha(-1)")]
    + [("alpha(5e-1)", "alpha(0.5)"), ("alpha(1.0000001)", "alpha(1.0000001)"), ("alpha(+2)", "alpha(2)")]
    + [("js-weighted(0.7)", "js_weighted(0.7)"), ("Hockey-Stick(2.0)", "hockey_stick(2)")],
)
def test_names_and_aliases(typed, name):
    assert divergence(typed).name == name


def test_lookup_returns_the_row_itself_and_finds_it_by_its_own_name():
    assert all(divergence(row.name) is row and divergence(row) is row for row in ROWS)
    assert divergence("alpha(0.5)") is DIVERGENCES["alpha(0.5)"]
    names = [name for row in DIVERGENCES.values() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("typed", ["nonsense", "", "alpha", "alpha()", "alpha(x)", "alpha(1.2.3)", "beta(2)", "kl(1)"])
def test_unknown_names(typed):
    with pytest.raises(UnknownDivergence) as refusal:
        divergence(typed)
    assert isinstance(refusal.value, ValueError) and repr(typed) in str(refusal.value)


def test_unknown_names_list_the_choices_and_the_nearest():
    with pytest.raises(ValueError) as refusal:
        divergence("pearsn")
    assert "did you mean pearson?" in str(refusal.value)
    assert all(name in str(refusal.value) for name in (*DIVERGENCES, "alpha(x)", "js_weighted(x)", "hockey_stick(x)"))
    with pytest.raises(ValueError, match="estimated"):
        divergence("renyi(2)")


@pytest.mark.parametrize(
    ("family", "parameter"),
    [(alpha, bad) for bad in (0.0, 1.0, INF, math.nan)]
    + [(js_weighted, bad) for bad in (0.0, 1.0, -0.1, math.nan)]
    + [(hockey_stick, bad) for bad in (0.99, 0.0, INF, math.nan)],
)
def test_parameters_outside_the_family(family, parameter):
    with pytest.raises(ValueError, match=family.__name__):
        family(parameter)
    if math.isfinite(parameter):
        with pytest.raises(ValueError, match=family.__name__):
            divergence(f"{family.__name__}({parameter})")


# --- rows that are one another ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "scale", "other", "shift", "tilt"),
    [
        ("alpha(2)", 0.5, "pearson", 0.0, 0.0),
        ("alpha(0.5)", 2.0, "squared_hellinger", 0.0, 0.0),
        ("alpha(-1)", 0.5, "neyman", 0.0, 0.0),
        ("js_weighted(0.5)", 1.0, "js", 0.0, 0.0),
        ("hockey_stick(1)", 1.0, "total_variation", 0.0, 0.5),
        ("gan", 2.0, "js", -2.0 * LOG2, -LOG2),
    ],
)
def test_rows_that_are_multiples(one, scale, other, shift, tilt, dtype):
    """f = c g + s + b(u − 1), which D_f sees as c D_g + s, has f*(t) = c g*((t − b)/c) − s + b."""
    f, g, rounding = divergence(one), divergence(other), 512 * np.finfo(dtype).eps
    u = jnp.asarray(RATIOS, dtype)
    t = jnp.linspace(-3.0, min(f.slope_at_infinity - 0.05, 3.0), N, dtype=dtype)
    assert close(f.f(u), scale * g.f(u) + shift + tilt * (u - 1.0), rounding)
    assert close(f.conjugate(t), scale * g.conjugate((t - tilt) / scale) - shift + tilt, rounding)


def test_geometric_js_is_a_quarter_of_jeffreys_and_the_extended_log_affinity(dtype):
    u = jnp.asarray(RATIOS, dtype)
    expected = 0.25 * divergence("jeffreys").f(u) + jnp.sqrt(u) - 1.0
    assert close(divergence("geometric_js").f(u), expected, 8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("one", "other"),
    [("kl", "reverse_kl"), ("pearson", "neyman"), ("alpha(2)", "alpha(-1)"), ("js_weighted(0.3)", "js_weighted(0.7)")]
    + [(name, name) for name in ("jeffreys", "js", "gan", "total_variation", "squared_hellinger", "triangular")]
    + [(name, name) for name in ("alpha(0.5)", "geometric_js", "hockey_stick(1)")],
)
def test_reversal_of_rows(one, other, x64):
    """u f(1/u) is the other row's generator, up to the b(u − 1) that no divergence sees."""
    u = jnp.asarray(RATIOS)
    for a, b in ((one, other), (other, one)):
        mine, theirs = divergence(a).reversed(), divergence(b)
        tilt = value(mine.prime, 2.0) - value(theirs.prime, 2.0)
        np.testing.assert_allclose(mine.f(u), theirs.f(u) + tilt * (u - 1.0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mine.prime(u), theirs.prime(u) + tilt, rtol=1e-12, atol=1e-12)


@every_row
def test_reversal_swaps_the_ends_and_undoes_itself(row, x64):
    u, there, one = jnp.asarray(RATIOS), row.reversed(), jnp.ones(N)
    back = there.reversed()
    assert (there.value_at_zero, there.slope_at_infinity) == (row.slope_at_infinity, row.value_at_zero)
    assert there.upper_limit() == row.upper_limit() and there.smooth == row.smooth
    np.testing.assert_allclose(back.f(u), row.f(u), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(there.f(one), row.value_at_one, atol=1e-15)
    if row.smooth:  # g' = f(1/u) − f'(1/u)/u and g'' = f''(1/u)/u³
        np.testing.assert_allclose(there.prime(u), row.f(1.0 / u) - row.prime(1.0 / u) / u, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(there.second(one), row.second(one), rtol=1e-12)


# --- the user's own --------------------------------------------------------------------------------------------------
USERS = {  # f, its conjugate, where that is tried, (f(0), f'(∞)), whether smooth
    "square": (
        lambda u: (u - 1.0) ** 2,
        lambda t: np.where(t > -2.0, 0.25 * t**2 + t, -1.0),
        (-4, 4),
        (1.0, INF),
        True,
    ),
    "absolute": (lambda u: jnp.abs(u - 1.0), lambda t: np.maximum(t, -1.0), (-3, 1), (1.0, 1.0), False),
    "shortfall": (lambda u: jnp.maximum(1.0 - u, 0.0), lambda t: np.maximum(t, -1.0), (-3, 0), (1.0, 0.0), False),
    "tilted": (
        lambda u: u - 1.0 + jnp.maximum(u - 2.0, 0.0),
        lambda t: np.maximum(2.0 * t - 1.0, 1.0),
        (-1, 2),
        (-1.0, 2.0),
        False,
    ),
    "one-sided": (
        lambda u: jnp.where(u > 1.0, u - 1.0 - jnp.log(u), 0.0),
        lambda t: -np.log1p(-np.maximum(t, 0.0)),
        (0.0, 0.99),
        (0.0, 1.0),
        True,
    ),
}


@pytest.mark.parametrize("name", USERS)
def test_from_generator(name, x64):
    f, conjugate, domain, (at_zero, steepest), smooth = USERS[name]
    mine = from_generator(name, f, smooth=smooth)
    assert (mine.name, mine.smooth, divergence(mine)) == (name, smooth, mine)
    assert mine.value_at_zero == pytest.approx(at_zero, abs=1e-12)
    assert mine.slope_at_infinity == pytest.approx(steepest, abs=1e-12)
    t = np.linspace(*domain, N) - 1e-3
    found, found_slope = jax.jit(jax.vmap(jax.value_and_grad(mine.conjugate)))(jnp.asarray(t))
    np.testing.assert_allclose(found, conjugate(t), rtol=1e-9, atol=1e-9)
    by_hand = (conjugate(t + 1e-6) - conjugate(t - 1e-6)) / 2e-6
    np.testing.assert_allclose(found_slope, by_hand, rtol=1e-4, atol=1e-6)
    assert math.isinf(steepest) or value(mine.conjugate, steepest + 1e-6) == INF


@pytest.mark.parametrize("name", USERS)
def test_from_generator_trains(name):
    """The composed activation is finite in float32, stays in the domain, and carries the conjugate of its output."""
    f, conjugate, (lowest, _), (_, steepest), smooth = USERS[name]
    g, v = from_generator(name, f, smooth=smooth).activation(), jnp.asarray(OUTPUTS, jnp.float32)
    for function in dataclasses.astuple(g):
        assert np.all(np.isfinite(jax.vmap(jax.value_and_grad(function))(v)))
    assert np.all(g.output(v) <= steepest * (1.0 + 1e-6))
    with jax.enable_x64(True):
        v = jnp.asarray(MODERATE)
        output, fused = np.asarray(g.output(v)), np.asarray(g.conjugate(v))
        far = g.conjugate(jnp.asarray(OUTPUTS))
    assert close(g.conjugate(jnp.asarray(OUTPUTS, jnp.float32)), far, 0.02)  # e^12 roundings: why it saturates there
    assert np.all(output >= lowest)
    np.testing.assert_allclose(fused, conjugate(output), rtol=1e-9, atol=1e-9)


@every_smooth_row
def test_composed_activation_is_the_stated_one_at_the_ratio_it_reports(row, x64):
    v, mine = jnp.asarray(0.75 * MODERATE), composed_activation(row)
    ratio = mine.log_ratio(v)
    np.testing.assert_allclose(mine.output(v), row.log_ratio.output(ratio), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mine.conjugate(v), row.log_ratio.conjugate(ratio), rtol=1e-8, atol=1e-8)


def test_bare_numbers_take_the_precision_that_is_on(dtype):
    square, rounding = from_generator("square", lambda u: (u - 1.0) ** 2), 16 * np.finfo(dtype).eps
    for found, expected in ((square.prime(1.1), 0.2), (square.conjugate(0.1), 0.1025), (log_lambert(1.0), 0.0)):
        assert found.dtype == dtype and close(found, expected, rounding)


def test_from_generator_keeps_the_ends_it_is_told():
    """alpha(0.98) climbs so slowly to f'(∞) = 50 that no two numbers show it."""
    slow = from_generator("slow", alpha(0.98).f, value_at_zero=1.0 / 0.98, slope_at_infinity=50.0)
    assert (slow.value_at_zero, slow.slope_at_infinity) == (1.0 / 0.98, 50.0)


@pytest.mark.parametrize(
    ("f", "reason"),
    [
        (lambda u: u**2, r"f\(1\) = 1"),
        (lambda u: u * jnp.nan, r"f\(1\) = nan"),
        (lambda u: 1.0 - u**2, "not convex"),
        (jnp.log, "not convex"),
        (lambda u: jnp.sqrt(u - 0.5) - jnp.sqrt(0.5), "not finite"),
        (lambda u: jnp.where(u > 100.0, jnp.inf, (u - 1.0) ** 2), "not finite"),
        (lambda u: jnp.abs(u - 1.0) - jnp.maximum(u - 5.0, 0.0) * 3.0, "not convex"),
    ],
)
def test_from_generator_refuses(f, reason):
    with pytest.raises(ValueError, match=f"generator 'mine': .*{reason}"):
        from_generator("mine", f)


def test_rows_are_frozen_and_need_only_three_fields(x64):
    row = FDivergence(name="mine", f=lambda u: jnp.sqrt(u) * jnp.log(u) * 0.0 + (u - 1.0) ** 2, source="here")
    assert float(row.conjugate(1.0)) == pytest.approx(1.25) and row.activation() is row.paper
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "yours"

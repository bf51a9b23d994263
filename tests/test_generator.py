"""Laws of f-divergences: each holds for every divergence of the table, whether its functions are stated or derived."""

import dataclasses
import math
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from estimators.divergences.families import alpha
from estimators.divergences.generator import (
    FDivergence,
    composed_activation,
    derivative,
    from_generator,
    legendre,
)
from estimators.divergences.table import DIVERGENCES, divergence, log_lambert

FURTHER = ("alpha(1.5)", "alpha(2)", "alpha(-1)", "js_weighted(0.7)", "hockey_stick(1)")
ALL = [divergence(name) for name in (*DIVERGENCES, *FURTHER)]
SMOOTH = [d for d in ALL if d.smooth]
KINDS = [  # finite limits, infinite ones, f(1) ≠ 0, a closed end, kinks, powers on either side, a derived conjugate
    divergence(name)
    for name in ("js", "jeffreys", "gan", "triangular", "hockey_stick(2)", "alpha(-1)", "alpha(1.5)", "geometric_js")
]
LOG2, INF = math.log(2.0), math.inf

N = 36  # points of every grid: arrays of one shape, so that jax compiles each operation once
RATIOS = np.exp(np.linspace(-3.0, 3.0, N))  # e³ = 20: no generator loses more than u² = 400 roundings to cancellation
OUTPUTS = np.linspace(-30.0, 30.0, N)
MODERATE = np.linspace(-8.0, 8.0, N)

every_kind = pytest.mark.parametrize("d", KINDS, ids=repr)
every_activation = pytest.mark.parametrize("activation", ("log_ratio", "paper"))


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


def arguments(d):
    """N points t inside the domain of f*, from below every branch (−8) up to close to f'(∞), or to 4."""
    top = min(d.slope_at_infinity - 1e-3, 4.0)
    return np.concatenate([np.linspace(-8.0, top, N - 3), [-3.0, -2.0, -1.0]])


@lru_cache
def derived(d):
    """The divergence made again from nothing but its generator."""
    return from_generator(f"derived {d.name}", lambda u: d.f(u) - d.value_at_one, smooth=d.smooth)


# --- the generator ---------------------------------------------------------------------------------------------------
def test_f_at_one_is_the_stated_value_and_zero_but_for_gan(dtype):
    for d in ALL:
        assert close(d.f(jnp.ones(N, dtype)), d.value_at_one, 4 * np.finfo(dtype).eps), d
        assert (d.value_at_one != 0.0) == (d.name == "gan"), d


def test_f_is_convex(dtype):
    """At midpoints of pairs near and far; strictly, where f is smooth and the pair apart."""
    a = RATIOS
    for b in (np.roll(a, 1), a[::-1], np.random.default_rng(0).permutation(a)):
        for d in ALL:
            f_a, f_b, f_middle = (np.asarray(d.f(jnp.asarray(u, dtype)), np.float64) for u in (a, b, 0.5 * (a + b)))
            chord = 0.5 * (f_a + f_b)
            assert np.all(f_middle <= chord + 64 * np.finfo(dtype).eps * (1.0 + a + b)), d
            assert not d.smooth or np.all((f_middle < chord)[np.abs(np.log(a / b)) > 0.5]), d


def test_prime_is_a_subgradient(dtype):
    at = jnp.asarray(RATIOS, dtype)
    for d in ALL:
        u, f, prime = (np.asarray(x, np.float64) for x in (at, d.f(at), d.prime(at)))
        tangent = f[:, None] + prime[:, None] * (u - u[:, None])
        scale = 1.0 + np.abs(prime)[:, None] * (u + u[:, None]) + np.abs(f)[:, None]
        assert np.all(f >= tangent - 32 * np.finfo(dtype).eps * scale), d


def test_stated_limits_are_those_of_f(x64):
    for d in ALL:
        for stated, function, far in ((d.value_at_zero, d.f, 1e-30), (d.slope_at_infinity, d.prime, 1e30)):
            if math.isinf(stated):
                assert value(function, far) > 15.0, d  # ¼ log 10³⁰ = 17 is the slowest growth
            else:
                assert value(function, far) == pytest.approx(stated, abs=1e-13), d


@pytest.mark.slow
def test_limits_derived_from_f_are_the_stated_ones():
    for d in ALL:
        mine = derived(d)
        assert mine.value_at_zero == pytest.approx(d.value_at_zero - d.value_at_one, rel=1e-12, abs=1e-12), d
        assert mine.slope_at_infinity == pytest.approx(d.slope_at_infinity, rel=1e-12, abs=1e-12), d
        assert mine.closed == d.closed, d


def test_stated_derivatives_are_those_of_f(x64):
    u = jnp.asarray(RATIOS)
    for d in SMOOTH:
        np.testing.assert_allclose(derivative(d.f)(u), d.prime(u), rtol=1e-11, atol=1e-12, err_msg=d.name)
        np.testing.assert_allclose(derivative(d.prime)(u), d.second(u), rtol=1e-11, err_msg=d.name)


@every_kind
def test_second_derivatives_of_f_alone_are_the_stated_ones(d, x64):
    if d.smooth:
        np.testing.assert_allclose(derived(d).second(jnp.asarray(RATIOS)), d.second(jnp.asarray(RATIOS)), rtol=1e-9)


# --- the conjugate ---------------------------------------------------------------------------------------------------
def test_fenchel_young(dtype):
    """f(u) + f*(t) ≥ u t, with equality at t = f'(u)."""
    rounding = 64 * np.finfo(dtype).eps
    for d in ALL:
        u, t = jnp.asarray(RATIOS, dtype), jnp.asarray(arguments(d), dtype)
        touch = d.prime(u)
        u, f, t, conjugate, touch, there = (
            np.asarray(x, np.float64) for x in (u, d.f(u), t, d.conjugate(t), touch, d.conjugate(touch))
        )
        f_u, product = f[:, None], u[:, None] * t
        scale = 1.0 + np.abs(product) + np.abs(f_u) + np.abs(conjugate)
        assert np.all(f_u + conjugate - product >= -rounding * scale), d
        assert np.all(np.abs(f + there - u * touch) <= rounding * (1.0 + np.abs(u * touch) + np.abs(f))), d


@every_kind
def test_conjugate_and_its_slope_are_the_derived_ones(d, x64):
    """f − c has the conjugate f* + c."""
    t = jnp.asarray(arguments(d) + 1e-7)  # a hair off every branch point
    mine, mine_slope = jax.jit(jax.vmap(jax.value_and_grad(derived(d).conjugate)))(t)
    np.testing.assert_allclose(mine - d.value_at_one, d.conjugate(t), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mine_slope, slope(d.conjugate)(t), rtol=1e-8, atol=1e-8)


@every_kind
def test_conjugate_is_the_supremum(d, x64):
    s = np.linspace(-30.0, 20.0, 200 * N)
    f = np.concatenate([d.f(jnp.exp(block)) for block in jnp.asarray(s).reshape(-1, N)])

    def supremum(t):
        start = s[np.argmax(np.exp(s) * t - f)]
        bounds, options = (start - 0.01, start + 0.01), {"xatol": 1e-11}
        found = minimize_scalar(
            lambda s: value(d.f, math.exp(s)) - math.exp(s) * t, bounds=bounds, method="bounded", options=options
        )
        return max(-found.fun, -d.value_at_zero)  # at u = 0 it is −f(0)

    t, conjugate = arguments(d), d.conjugate(jnp.asarray(arguments(d)))
    np.testing.assert_allclose(conjugate[::5], [supremum(x) for x in t[::5]], rtol=1e-9, atol=1e-9)


def test_conjugate_is_infinite_above_its_domain_and_at_an_open_end(dtype):
    for d in ALL:
        end = d.slope_at_infinity
        if math.isinf(end):
            assert np.all(np.isfinite(d.conjugate(jnp.linspace(-1e3, 20.0, N, dtype=dtype)))), d
            continue
        above = end + np.geomspace(1e-5, 1e3, N)
        assert np.all(np.isposinf(d.conjugate(jnp.asarray(above, dtype)))), d
        assert math.isfinite(value(d.conjugate, end, dtype)) == d.closed, d
        if d.closed:
            assert value(d.conjugate, end, dtype) == pytest.approx(value(d.conjugate, end - 1e-6, dtype), abs=0.02), d


def test_derived_conjugate_at_a_closed_end(x64):
    for d in (d for d in ALL if d.closed):
        end = d.slope_at_infinity
        assert value(legendre(d), end) == pytest.approx(value(d.conjugate, end)), d


@pytest.mark.parametrize("d", [d for d in KINDS if d.smooth], ids=repr)
def test_conjugate_under_jit_vmap_and_grad(d, x64):
    """(f*)'(f'(u)) = u and (f*)''(f'(u)) = 1/f''(u)."""
    u = jnp.asarray(np.sqrt(RATIOS))
    first = jax.grad(d.conjugate)
    first, second = jax.jit(jax.vmap(jax.value_and_grad(first)))(d.prime(u))
    np.testing.assert_allclose(first, u, rtol=1e-9)
    np.testing.assert_allclose(second, 1.0 / d.second(u), rtol=1e-8)


# --- activations -----------------------------------------------------------------------------------------------------
@every_activation
def test_fused_conjugate_is_the_composed_one(activation, x64):
    v = jnp.asarray(MODERATE)
    for d in ALL:
        g = d.activation(activation)
        composed = d.conjugate(g.output(v))
        np.testing.assert_allclose(composed, g.conjugate(v), rtol=1e-8, atol=1e-8, err_msg=d.name)


def test_log_ratio_activation_is_the_tangent_at_the_ratio(x64):
    """T = f'(e^v), f*(T) = e^v f'(e^v) − f(e^v), and d f*(T)/dv = e^{2v} f''(e^v)."""
    v = jnp.asarray(MODERATE)
    u = jnp.exp(v)
    for d in SMOOTH:
        g = d.log_ratio
        np.testing.assert_allclose(g.output(v), d.prime(u), rtol=1e-10, atol=1e-12, err_msg=d.name)
        np.testing.assert_allclose(g.conjugate(v), u * d.prime(u) - d.f(u), rtol=1e-9, atol=1e-9, err_msg=d.name)
        np.testing.assert_allclose(slope(g.conjugate)(v), u**2 * d.second(u), rtol=1e-7, err_msg=d.name)
        np.testing.assert_allclose(g.log_ratio(v), v, err_msg=d.name)


def test_paper_log_ratio_is_the_slope_of_the_conjugate(x64):
    for d in SMOOTH:
        v, g = jnp.asarray(0.75 * MODERATE), d.paper
        output, log_ratio = g.output(v), g.log_ratio(v)
        above = np.asarray(output > value(d.prime, 1e-8))  # at and below f'(0) the ratio is 0
        assert above.sum() > N // 2, d
        with np.errstate(divide="ignore"):
            by_conjugate = np.log(np.asarray(slope(d.conjugate)(output)))
        expected, prime = by_conjugate[above], d.prime(jnp.exp(log_ratio))[above]
        np.testing.assert_allclose(log_ratio[above], expected, rtol=1e-8, atol=1e-8, err_msg=d.name)
        np.testing.assert_allclose(prime, output[above], rtol=1e-8, atol=1e-8, err_msg=d.name)


@every_activation
@pytest.mark.parametrize("field", ["output", "conjugate", "log_ratio"])
def test_float32_is_finite_and_agrees_with_float64(activation, field):
    """For |v| ≤ 30, values and gradients. Beside the relative error, expm1's own derivative rounds at 1."""
    for d in ALL:
        function = jax.vmap(jax.value_and_grad(getattr(d.activation(activation), field)))
        single = [np.asarray(x) for x in function(jnp.asarray(OUTPUTS, jnp.float32))]
        with jax.enable_x64(True):
            double = [np.asarray(x) for x in function(jnp.asarray(OUTPUTS))]
        for a, b in zip(single, double):
            assert a.dtype == np.float32 and b.dtype == np.float64 and np.all(np.isfinite(a)), d
            np.testing.assert_allclose(a, b, rtol=3e-6, atol=1e-6, err_msg=d.name)


@every_activation
def test_output_increases_and_stays_in_the_domain(activation, dtype):
    for d in ALL:
        output = np.asarray(d.activation(activation).output(jnp.asarray(OUTPUTS, dtype)))
        assert np.all(np.diff(output) >= 0.0) and output[-1] > output[0], d
        edge = d.slope_at_infinity
        assert np.all(output <= edge * (1.0 + 2 * np.finfo(dtype).eps)), d
        if dtype == np.float64 and not d.closed:  # float32 rounds onto an open edge: hence the fused conjugate
            assert np.all(output < edge) and np.all(np.isfinite(d.conjugate(output))), d


@pytest.mark.parametrize(
    ("name", "expected"),
    [("js", 0.5 * (20.0 - LOG2)), ("gan", 20.0), ("neyman", 2.0), ("triangular", 3.0), ("reverse_kl", 19.0)],
)
def test_far_outputs_keep_their_conjugate_in_float32(name, expected):
    """At v = 20 composition gives js 144, gan 0 and neyman 0, or inf."""
    assert value(divergence(name).log_ratio.conjugate, 20.0, jnp.float32) == pytest.approx(expected, rel=1e-6)


def test_defaults_and_choice_of_activation():
    assert all(d.activation() is (d.log_ratio if d.smooth else d.paper) for d in ALL)
    with pytest.raises(ValueError, match="choose log_ratio or paper"):
        divergence("kl").activation("sigmoid")


def test_dtype_is_kept(x64):
    """float32 in, float32 out, also where float64 is on."""
    for d in ALL:
        g, h = d.log_ratio, d.paper
        functions = [d.f, d.prime, d.second, d.conjugate, *dataclasses.astuple(g), *dataclasses.astuple(h)]
        assert {function(jnp.full(N, 0.25, jnp.float32)).dtype for function in functions} == {np.dtype("float32")}, d


@pytest.mark.parametrize("d", [d for d in KINDS if d.smooth], ids=repr)
def test_composed_activation_is_the_stated_one_at_the_ratio_it_reports(d, x64):
    v, mine = jnp.asarray(0.75 * MODERATE), composed_activation(d)
    ratio = mine.log_ratio(v)
    np.testing.assert_allclose(mine.output(v), d.log_ratio.output(ratio), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mine.conjugate(v), d.log_ratio.conjugate(ratio), rtol=1e-8, atol=1e-8)


# --- reversal --------------------------------------------------------------------------------------------------------
def test_reversal_swaps_the_limits_and_undoes_itself(x64):
    u, one = jnp.asarray(RATIOS), jnp.ones(N)
    for d in ALL:
        there = d.reversed()
        assert (there.value_at_zero, there.slope_at_infinity) == (d.slope_at_infinity, d.value_at_zero), d
        assert there.upper_limit() == d.upper_limit() and there.smooth == d.smooth, d
        np.testing.assert_allclose(there.reversed().f(u), d.f(u), rtol=1e-12, atol=1e-12, err_msg=d.name)
        np.testing.assert_allclose(there.f(one), d.value_at_one, atol=1e-15, err_msg=d.name)
        if d.smooth:  # g' = f(1/u) − f'(1/u)/u and g'' = f''(1/u)/u³
            prime = d.f(1.0 / u) - d.prime(1.0 / u) / u
            np.testing.assert_allclose(there.prime(u), prime, rtol=1e-11, atol=1e-11, err_msg=d.name)
            np.testing.assert_allclose(there.second(one), d.second(one), rtol=1e-12, err_msg=d.name)


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


def test_bare_numbers_take_the_precision_that_is_on(dtype):
    square, rounding = from_generator("square", lambda u: (u - 1.0) ** 2), 16 * np.finfo(dtype).eps
    for found, expected in ((square.prime(1.1), 0.2), (square.conjugate(0.1), 0.1025), (log_lambert(1.0), 0.0)):
        assert found.dtype == dtype and close(found, expected, rounding)


def test_from_generator_keeps_the_limits_that_it_is_given():
    slow = from_generator("slow", alpha(0.98).f, value_at_zero=1.5, slope_at_infinity=60.0)
    assert (slow.value_at_zero, slow.slope_at_infinity) == (1.5, 60.0)


@pytest.mark.parametrize("power", [0.5, 0.05, 1e-3, 1e-4])
def test_limits_that_f_approaches_slowly_are_found(power):
    """f = (1 − u^ε)/ε + … has f(0) = 1/ε − 1, and its reversal f'(∞); u^{−ε} in place of u^ε has no limit."""
    at_zero = from_generator("at zero", lambda u: (1.0 - u**power) / power + u - 1.0)
    assert at_zero.value_at_zero == pytest.approx(1.0 / power - 1.0, rel=1e-9)
    at_infinity = from_generator("at infinity", lambda u: (u - u ** (1.0 - power)) / power - (u - 1.0))
    assert at_infinity.slope_at_infinity == pytest.approx(1.0 / power - 1.0, rel=1e-9)
    endless = from_generator("endless", lambda u: (u**-power - 1.0) / power + u - 1.0)
    assert endless.value_at_zero == INF


def test_a_limit_that_cannot_be_told_is_asked_for():
    """−u^0.05 − 3u^0.06 + 4 falls at two rates, which three slopes do not tell apart."""
    with pytest.raises(ValueError, match=r"generator 'two rates': .*too slowly to be estimated; state value_at_zero="):
        from_generator("two rates", lambda u: 4.0 - u**0.05 - 3.0 * u**0.06)


@pytest.mark.parametrize("u", [0.37, 1.0, 4.2])
def test_a_kink_is_found_wherever_it_lies(u):
    """Beside a smooth part, refused until it is stated; then `kink` says where, also of the reversed divergence."""

    def f(x):
        return 0.01 * (jnp.abs(x - u) - abs(1.0 - u)) + (x - 1.0) ** 2 / (x + 3.0)

    with pytest.raises(ValueError, match=f"generator 'mine': its slope jumps by 0.02 at u = {u:g}; state smooth=False"):
        from_generator("mine", f)
    mine = from_generator("mine", f, smooth=False)
    assert mine.kink == pytest.approx(math.log(u), abs=1e-9)
    assert mine.reversed().kink == pytest.approx(-math.log(u), abs=1e-9)


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


def test_divergences_are_frozen_and_need_only_three_fields(x64):
    d = FDivergence(name="mine", f=lambda u: jnp.sqrt(u) * jnp.log(u) * 0.0 + (u - 1.0) ** 2, source="here")
    assert float(d.conjugate(1.0)) == pytest.approx(1.25) and d.activation() is d.paper
    with pytest.raises(dataclasses.FrozenInstanceError):
        d.name = "yours"


def test_a_limit_is_infinite_where_a_steep_f_overflows_on_its_way_to_it():
    """u⁵⁰ and u⁻⁵⁰; log(1 + e^{u}) overflows as well, though it has slope 1, and is refused."""
    steep = from_generator("steep", lambda u: u**50 - 1.0 - 50.0 * (u - 1.0))
    assert (steep.slope_at_infinity, steep.value_at_zero) == (math.inf, pytest.approx(49.0))
    mirrored = from_generator("mirrored", lambda u: u**-50.0 - 1.0 + 50.0 * (u - 1.0))
    assert (mirrored.value_at_zero, mirrored.slope_at_infinity) == (math.inf, pytest.approx(50.0))
    centre = math.log1p(math.exp(0.1))
    with pytest.raises(ValueError, match="state slope_at_infinity"):
        from_generator("overflowing", lambda u: jnp.log1p(jnp.exp(0.1 * u)) - centre)

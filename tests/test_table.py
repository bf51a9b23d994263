"""The table of divergences: published constants, names and aliases, families, and how its entries are related."""

import json
import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import lambertw

from estimators.distributions.examples import TARGETS
from estimators.distributions.subspaces import SUBSPACES
from estimators.divergences.bounds import BOUNDS
from estimators.divergences.families import FAMILIES, alpha, hockey_stick, js_weighted
from estimators.divergences.generator import FDivergence, derivative
from estimators.divergences.table import DIVERGENCES, UnknownDivergence, divergence, everything, functional, log_lambert
from estimators.exact_values.moments import OF_MOMENTS
from fgan.cli.divergences import detail, table

LOG2, INF = math.log(2.0), math.inf
N = 36
RATIOS = np.exp(np.linspace(-3.0, 3.0, N))
MODERATE = np.linspace(-8.0, 8.0, N)


def close(a, b, rounding):
    """Whether a and b agree to `rounding` of 1 + |b|."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return bool(np.all(np.abs(a - b) <= rounding * (1.0 + np.abs(b))))


# --- against the literature ------------------------------------------------------------------------------------------
PUBLISHED = {  # f(1), f'(1), f''(1) (None at a kink), f(0⁺), f'(∞), whether f* is finite there
    "kl": (0.0, 1.0, 1.0, 0.0, INF, False),
    "reverse_kl": (0.0, -1.0, 1.0, INF, 0.0, False),
    "jeffreys": (0.0, 0.0, 2.0, INF, INF, False),
    "js": (0.0, 0.0, 0.25, 0.5 * LOG2, 0.5 * LOG2, False),
    "js_weighted(0.3)": (0.0, 0.0, 0.21, -0.7 * math.log(0.7), -0.3 * math.log(0.3), False),
    "js_weighted(0.7)": (0.0, 0.0, 0.21, -0.3 * math.log(0.3), -0.7 * math.log(0.7), False),
    "gan": (-2.0 * LOG2, -LOG2, 0.5, 0.0, 0.0, False),  # 2 js − log 4: the one with f(1) ≠ 0
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


def test_constants_are_the_published_ones(dtype):
    one, rounding = jnp.ones(N, dtype), 4 * np.finfo(dtype).eps
    assert set(PUBLISHED) >= set(DIVERGENCES)
    for name, (at_one, prime, second, at_zero, steepest, closed) in PUBLISHED.items():
        d = divergence(name)
        assert close(d.f(one), at_one, rounding) and close(d.prime(one), prime, rounding), name
        assert second is None or close(d.second(one), second, rounding), name
        assert d.smooth == (second is not None) and d.closed == closed, name
        assert d.value_at_one == pytest.approx(at_one, abs=1e-15), name
        assert d.value_at_zero == pytest.approx(at_zero, rel=1e-15), name
        assert d.slope_at_infinity == pytest.approx(steepest, rel=1e-15), name


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
    assert float(divergence(name).conjugate(jnp.full(N, t, dtype))[0]) == pytest.approx(expected, rel=1e-6)


PAPER = {
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
}


def test_paper_activations_are_the_published_ones(dtype):
    """Nowozin, Cseke, Tomioka 2016, tables 2 and 6; halved for js, whose generator is half of theirs."""
    v = jnp.asarray(MODERATE, dtype)
    for name, output in PAPER.items():
        expected = output(np.asarray(v, np.float64))
        assert close(divergence(name).paper.output(v), expected, 4 * np.finfo(dtype).eps), name


# --- names -----------------------------------------------------------------------------------------------------------
NAMES = {alias: d.name for d in DIVERGENCES.values() for alias in d.aliases} | {
    "chi-squared": "pearson",
    "chi_squared": "pearson",
    "jsd": "js",
    "tv": "total_variation",
    "hellinger": "squared_hellinger",
    "Reverse-KL ": "reverse_kl",
    "JS": "js",
    "alpha(0.3)": "alpha(0.3)",
    "ALPHA( .3 )": "alpha(0.3)",
    "alpha(-1)": "alpha(-1)",
    "alpha(5e-1)": "alpha(0.5)",
    "alpha(1.0000001)": "alpha(1.0000001)",
    "alpha(+2)": "alpha(2)",
    "js-weighted(0.7)": "js_weighted(0.7)",
    "Hockey-Stick(2.0)": "hockey_stick(2)",
}


def test_names_and_aliases():
    assert {typed: divergence(typed).name for typed in NAMES} == NAMES


def test_each_divergence_is_found_by_its_own_name():
    assert all(name == d.name for name, d in DIVERGENCES.items())
    found = [divergence(name) for name in PUBLISHED]
    assert all(divergence(d.name) is d and divergence(d) is d for d in found)
    assert divergence("alpha(0.5)") is DIVERGENCES["alpha(0.5)"]
    names = [name for d in DIVERGENCES.values() for name in (d.name, *d.aliases)]
    assert len(names) == len(set(names))


def test_names_in_tables_are_known_without_importing_jax():
    tables = {
        "estimators.divergences.table:DIVERGENCES": DIVERGENCES,
        "estimators.divergences.families:FAMILIES": FAMILIES,
        "estimators.divergences.bounds:BOUNDS": BOUNDS,
        "estimators.distributions.examples:TARGETS": TARGETS,
        "estimators.distributions.subspaces:SUBSPACES": SUBSPACES,
        "estimators.exact_values.moments:OF_MOMENTS": OF_MOMENTS,
    }
    code = f"""
import json, sys
from estimators import rooms
names = {{table: rooms.names(table) for table in {list(tables)}}}
assert not {{"jax", "numpy", "scipy"}} & set(sys.modules)
print(json.dumps(names))
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert json.loads(done.stdout) == {name: list(rows) for name, rows in tables.items()}


def test_a_divergence_added_at_run_time_is_found_wherever_a_name_is(monkeypatch):
    mine = FDivergence(name="mine", f=lambda u: (u - 1.0) ** 2 * (u + 1.0) / u, source="here", aliases=("my_own",))
    monkeypatch.setitem(DIVERGENCES, "mine", mine)
    assert divergence("mine") is mine and divergence("My-Own") is mine
    assert any("mine" in line for line in table()) and any("here" in line for line in detail("mine"))
    with pytest.raises(UnknownDivergence, match="did you mean mine"):
        divergence("mind")


@pytest.mark.parametrize("typed", ["nonsense", "", "alpha", "alpha()", "alpha(x)", "alpha(1.2.3)", "beta(2)", "kl(1)"])
def test_unknown_names(typed):
    with pytest.raises(UnknownDivergence) as refusal:
        divergence(typed)
    assert isinstance(refusal.value, ValueError) and repr(typed) in str(refusal.value)


def test_unknown_names_list_the_choices_and_the_nearest():
    with pytest.raises(ValueError) as refusal:
        divergence("pearsn")
    assert "did you mean pearson?" in str(refusal.value)
    assert all(name in str(refusal.value) for name in (*DIVERGENCES, *(f"{family}(x)" for family in FAMILIES)))
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


# --- divergences that are one another --------------------------------------------------------------------------------
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
def test_divergences_that_are_multiples(one, scale, other, shift, tilt, dtype):
    """f = c g + s + b(u − 1), whose D_f is c D_g + s, has f*(t) = c g*((t − b)/c) − s + b."""
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
def test_reversals(one, other, x64):
    """u f(1/u) is the other's generator, up to the b(u − 1) that changes no divergence."""
    u, two = jnp.asarray(RATIOS), jnp.full(N, 2.0)
    for a, b in ((one, other), (other, one)):
        mine, theirs = divergence(a).reversed(), divergence(b)
        tilt = float((mine.prime(two) - theirs.prime(two))[0])
        np.testing.assert_allclose(mine.f(u), theirs.f(u) + tilt * (u - 1.0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mine.prime(u), theirs.prime(u) + tilt, rtol=1e-12, atol=1e-12)


# --- log W, against SciPy's Lambert function, and where that overflows ------------------------------------------------
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


# --- Rényi's divergence as a transform of the α-divergence ------------------------------------------------------------
@pytest.mark.parametrize("order", [0.3, 0.5, 2.0, 3.5])
@pytest.mark.parametrize("shift", [0.0, 0.1, 1.0])
def test_renyi_of_normals(order, shift):
    factor = order * (order - 1.0)
    f = functional(f"renyi({order})")
    assert f.transform(math.expm1(factor * shift**2 / 2) / factor) == pytest.approx(order * shift**2 / 2)


@pytest.mark.parametrize("order", [0.3, 2.0, 3.5])
def test_renyi_grows_smoothly_through_negative_estimates(order):
    """Estimates may be below zero, where the formula has no value: it must stay finite, increasing, with its slope."""
    f = functional(f"renyi({order})")
    points = np.linspace(-3.0, 1.0, 2001)
    values = np.array([f.transform(d) for d in points])
    assert np.isfinite(values).all() and (np.diff(values) > 0.0).all()
    slopes = [f.slope(d) for d in points]
    np.testing.assert_allclose(np.gradient(values, points)[1:-1], slopes[1:-1], rtol=1e-2)


def test_renyi_is_infinite_only_at_the_supremum():
    assert functional("renyi(2)").transform(math.inf) == functional("renyi(0.3)").transform(1 / 0.21) == math.inf
    assert functional("renyi(0.3)").transform(0.999 / 0.21) < math.inf
    assert functional("renyi(1)").divergence is divergence("kl")


def test_a_divergence_is_its_own_functional():
    f = functional("chi_squared")
    assert f == ("pearson", DIVERGENCES["pearson"], None, None, None) and functional(f.divergence) == f


def test_all_is_the_table_without_gan_and_renyi(monkeypatch):
    mine = divergence("alpha(1.5)")
    monkeypatch.setitem(DIVERGENCES, "alpha(1.5)", mine)
    assert [f.name for f in everything()] == [name for name in DIVERGENCES if name != "gan"] + ["renyi(2)"]
    assert "alpha(1.5)" in DIVERGENCES


@pytest.mark.parametrize("name", ["renyi(0)", "renyi(-1)", "renyi(1e999)", "renyi(1-)", "renyi()"])
def test_orders_that_are_none(name):
    with pytest.raises(UnknownDivergence):
        functional(name)


@pytest.mark.parametrize("a", [-1.0, 0.1, 0.3, 0.5, 0.51, 0.9, 1.5])
def test_the_slope_of_alpha_derived_from_f_holds_where_its_powers_are_below_rounding(a, x64):
    """f'(u) = (u^{α−1} − 1)/(α − 1), α = ½: 2 − 2/√u. JAX's derivative of expm1 is 0 there."""
    log_u = np.array([-150.0, -75.0, -37.0, 2.0, 75.0])
    expected = np.expm1((a - 1.0) * log_u) / (a - 1.0)
    np.testing.assert_allclose(derivative(alpha(a).f)(jnp.exp(jnp.asarray(log_u))), expected, rtol=1e-9)
    v = jnp.asarray([-80.0, 3.0])
    slopes = [jax.vmap(jax.grad(part))(v) for part in (alpha(a).log_ratio.output, alpha(a).log_ratio.conjugate)]
    np.testing.assert_allclose(slopes, [np.exp((a - 1.0) * v), np.exp(a * v)], rtol=1e-9)


def test_the_paper_activation_of_alpha_keeps_its_log_ratio_near_kl(dtype):
    """log((α − 1)v + 1)/(α − 1) tends to v."""
    v = np.array([-1.0, 0.3, 5.0], dtype)
    for a in (1.0 + 1e-7, 1.00001, 1.5):
        expected = np.log1p((a - 1.0) * v.astype(float)) / (a - 1.0)
        np.testing.assert_allclose(alpha(a).paper.log_ratio(jnp.asarray(v)), expected, rtol=1e-6)


@pytest.mark.parametrize("a", [1e-40, -1e-40, 1e-300])
def test_orders_below_the_normal_numbers_are_those_of_reverse_kl(a, dtype):
    u = jnp.asarray(np.array([0.3, 2.0, 50.0], dtype))
    np.testing.assert_allclose(alpha(a).f(u), u - 1.0 - np.log(u), rtol=1e-5)
    np.testing.assert_allclose(alpha(a).log_ratio.conjugate(jnp.log(u)), np.log(u), rtol=1e-5)

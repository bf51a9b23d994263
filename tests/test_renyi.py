"""Rényi's divergence as a transform of the α-divergence, and the names that users may ask for."""

import math

import numpy as np
import pytest

from estimators.divergences.renyi import everything, functional
from estimators.divergences.table import DIVERGENCES, UnknownDivergence, divergence


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
    assert f == ("pearson", DIVERGENCES["pearson"], None, None) and functional(f.divergence) == f


def test_all_is_the_table_without_gan_and_renyi(monkeypatch):
    mine = divergence("alpha(1.5)")
    monkeypatch.setitem(DIVERGENCES, "alpha(1.5)", mine)
    assert [f.name for f in everything()] == [name for name in DIVERGENCES if name != "gan"] + ["renyi(2)"]
    assert "alpha(1.5)" in DIVERGENCES


@pytest.mark.parametrize("name", ["renyi(0)", "renyi(-1)", "renyi(1e999)", "renyi(1-)", "renyi()"])
def test_orders_that_are_none(name):
    with pytest.raises(UnknownDivergence):
        functional(name)

"""Maps of samples: each has its inverse, and the spiral keeps norms."""

import numpy as np
import pytest

from estimators.tasks.divergence_tasks import ASINH, CUBE, NORMAL_CDF, embedding, spiral, spiral_of_pairs
from estimators.tasks.mutual_information_tasks import half_cube, swiss_roll, to_modes, wiggly_x, wiggly_y

X = np.random.default_rng(0).normal(size=(50, 3))


@pytest.mark.parametrize("map_", [ASINH, CUBE, NORMAL_CDF, embedding(3, 7), spiral_of_pairs(3)], ids=lambda m: m.name)
def test_the_inverse_undoes_the_map(map_):
    y = map_.forward(X)
    assert y.shape == (50, map_.dim or 3)
    np.testing.assert_allclose(map_.inverse(y), X, rtol=1e-8, atol=1e-9)


def test_a_spiral_keeps_norms_and_turns_by_the_squared_norm():
    turn = spiral(0.5, [(0, 1)])
    x = X
    y = turn.forward(x)
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1))
    np.testing.assert_array_equal(y[:, 2], x[:, 2])
    angle = np.angle((y[:, 0] + 1j * y[:, 1]) / (x[:, 0] + 1j * x[:, 1]) * np.exp(-0.5j * np.sum(x**2, axis=1)))
    np.testing.assert_allclose(angle, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "increasing", [half_cube, wiggly_x, wiggly_y, to_modes(0.3, 0.0, 5.0), to_modes(0.5, -1.0, 3.0)]
)
def test_maps_of_a_coordinate_increase(increasing):
    line = np.linspace(-8.0, 8.0, 4001)[:, None]
    assert np.all(np.diff(increasing(line)[:, 0]) > 0.0)


def test_the_swiss_roll_winds_outwards():
    roll = swiss_roll(np.linspace(0.0, 1.0, 100)[:, None])
    radius = 21.0 * np.linalg.norm(roll, axis=1)
    np.testing.assert_allclose(radius, np.linspace(1.5 * np.pi, 4.5 * np.pi, 100))

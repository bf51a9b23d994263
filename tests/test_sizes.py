"""Sizes of arrays: few, near, and what fills or thins an array to one."""

import numpy as np

from estimators.critics.sizes import filled, round_down, round_up, thinned


def test_sizes_are_few_and_near():
    rows = np.arange(1, 5000)
    down, up = (np.array([f(int(n)) for n in rows]) for f in (round_down, round_up))
    assert (down <= rows).all() and (rows <= up).all()
    assert (down > 0.8 * rows).all() and (up < 1.25 * rows + 1).all()
    assert len(np.unique(down)) < 50 and set(up) <= {round_down(int(n)) for n in up}


def test_arrays_are_filled_and_thinned_to_a_size():
    array = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(filled(array, 7), np.concatenate([array, np.zeros((2, 2))]))
    np.testing.assert_array_equal(thinned(array, 3), array[[0, 2, 4]])
    np.testing.assert_array_equal(thinned(array, 5), array)

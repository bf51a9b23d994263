"""Relations that make mutual information infinite: found where they are, and not where there is noise."""

import math

import numpy as np
import pytest

from estimators.samples.functions import dependent_columns, predicted_information, relation

RNG = np.random.default_rng(0)
N = 500
X = RNG.normal(size=(N, 1))
TWO = RNG.normal(size=(N, 2))
NOISE = RNG.normal(size=(N, 1))
SINGLE = X.astype(np.float32)
LEVELS = np.round(3.0 * X)
EXACT = {
    "copy": (X, X),
    "linear": (X, 1.0 - 2.0 * X),
    "linear, single precision": (SINGLE, 1.0 - 2.0 * SINGLE),
    "absolute value": (X, -2.0 * np.abs(X)),
    "sum": (TWO, TWO.sum(axis=1, keepdims=True)),
    "sum beside noise": (TWO, np.column_stack([TWO.sum(axis=1), NOISE])),
    "sums of both": (TWO, np.column_stack([NOISE, TWO.sum(axis=1, keepdims=True) - NOISE])),
    "common column": (TWO, np.column_stack([NOISE, TWO[:, 1]])),
    "absolute value beside another": (TWO, np.abs(TWO[:, :1])),
    "a value and a level": (np.column_stack([NOISE, LEVELS]), NOISE + LEVELS),
    "equal in half of the pairs": (X, np.where(RNG.random((N, 1)) < 0.5, X, NOISE)),
    "positive part": (X, np.maximum(X, 0.0)),
}
SUSPECTED = {
    "cube": (X, X**3),
    "sine": (X, np.sin(5.0 * X)),
    "x from z": (np.sin(2.0 * X), X),
    "product": (TWO, TWO[:, :1] * TWO[:, 1:]),
    "heavy tails": (X / NOISE, (X / NOISE) ** 3),
    "few decimals": (np.round(X, 3), 1.0 - np.round(X, 3)),
    "nearly linear": (X, X + 1e-9 * NOISE),
    "noise that is too small to see": (X, X**3 + 1e-6 * NOISE),
    "copies of pairs": (np.repeat(X, 2, axis=0), np.repeat(X**3, 2, axis=0)),
}
NONE = {
    "independent": (TWO, NOISE),
    "rounded": (X, np.round(X)),
    "few levels": (LEVELS / 255.0, LEVELS / 255.0),
    "copies of pairs": (np.repeat(X, 2, axis=0), np.repeat(X + NOISE, 2, axis=0)),
    "zeros in common": (X * (X > 0.0), NOISE * (NOISE > 0.0)),
    "multiplied by noise": (X, X * NOISE),
    "equal levels": (np.column_stack([NOISE, NOISE + LEVELS]), np.column_stack([TWO[:, 0], TWO[:, 0] + LEVELS[:, 0]])),
}


@pytest.mark.parametrize(
    "pairs, exact",
    [(pairs, True) for pairs in EXACT.values()] + [(pairs, False) for pairs in SUSPECTED.values()],
    ids=[*EXACT, *SUSPECTED],
)
def test_a_relation_is_found_from_either_side(pairs, exact):
    for x, z in (pairs, pairs[::-1]):
        found = relation(np.asarray(x, float), np.asarray(z, float))
        assert found is not None and found.exact == exact


@pytest.mark.parametrize("pairs", NONE.values(), ids=NONE)
def test_other_pairs_have_no_relation(pairs):
    assert relation(*pairs) is None


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("n", [500, 3000])
@pytest.mark.parametrize("function", [np.positive, np.sin], ids=["x", "sin x"])
def test_noise_is_never_taken_for_certainty(function, n, scale):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n, 1))
    found = relation(x, function(x) + scale * rng.normal(size=(n, 1)))
    assert found is None or (not found.exact and scale < 1e-2)


@pytest.mark.parametrize("d", [1, 3, 10])
def test_correlated_normal_variables_give_no_alarm(d):
    rng = np.random.default_rng(d)
    alarms = 0
    for _ in range(60 // d):
        x = rng.normal(size=(200, d)) @ rng.normal(size=(d, d))
        alarms += relation(x, 0.9 * x + 0.4 * rng.normal(size=(200, d))) is not None
    assert alarms == 0


@pytest.mark.parametrize(
    "x, z, least, truth",
    [
        (TWO, NOISE, 0.0, 0.0),
        (X, X + 0.1 * NOISE, 1.8, 0.5 * math.log(101.0)),
        (X, np.sin(1.5 * X) + 0.01 * NOISE, 3.0, 3.66),  # h(z) by histogram
        (10.0 * np.sign(X) + TWO[:, :1], 10.0 * np.sign(X) + NOISE, 0.4, math.log(2.0)),
        (X, X**3, math.log(N), math.inf),
    ],
)
def test_predictions_bound_the_information_from_below(x, z, least, truth):
    for pair in ((x, z), (z, x)):
        assert least <= predicted_information(*pair)[0] <= truth


def test_words_name_the_columns():
    found = relation(TWO, np.column_stack([NOISE, TWO.sum(axis=1)]))
    assert found is not None and found.words.startswith("x columns 0, 1 and z column 1 ")


@pytest.mark.parametrize(
    "values, left_out",
    [
        (TWO, 0),
        (np.column_stack([TWO, TWO.sum(axis=1)]), 1),
        (np.column_stack([X, X, NOISE, 2.0 * X + NOISE]), 2),
        (TWO[:5], 0),
        (np.column_stack([X, X + 1e-6 * NOISE]), 0),
    ],
)
def test_dependent_columns_leave_independent_ones(values, left_out):
    dropped = dependent_columns(values)
    kept = np.delete(values, dropped, axis=1)
    assert len(dropped) == left_out and np.linalg.matrix_rank(kept - kept.mean(axis=0)) == kept.shape[1]

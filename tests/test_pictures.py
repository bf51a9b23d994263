"""Pictures of an estimate: the panels hold the numbers they claim to show."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import expit

from estimators import pictures
from estimators.contract import Scores
from estimators.estimation import Estimate

RNG = np.random.default_rng(0)
STEPS = np.arange(1, 26) * 80


def scored(log_p, log_q, **diagnostics) -> Estimate:
    facts = {"n_p": len(log_p), "n_q": len(log_q), "dim": 1, "confidence": 0.9, "method": "neural"}
    numbers = {"value": 0.3213, "low": 0.29, "high": 0.3512, "standard_error": 0.02}
    scores = Scores(np.asarray(log_p), np.asarray(log_q))
    return Estimate(divergence="squared_hellinger", scores=scores, diagnostics=diagnostics, **facts, **numbers)


def normals(n: int, m: int, shift: float = 1.0, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """`factor` times the true log-ratio of N(shift, 1) to N(0, 1), at samples of each."""
    x, y = RNG.normal(size=n) + shift, RNG.normal(size=m)
    return tuple(factor * (shift * rows - 0.5 * shift**2) for rows in (x, y))


def rising() -> dict[str, list]:
    """A training of three critics whose held-out bounds are best at different rounds."""
    train = np.linspace(0.0, 0.4, 25)[:, None] + [0.0, 0.01, 0.02]
    train[0] = np.nan  # before the first step
    held_out = 0.3 - 1e-3 * (np.arange(25)[:, None] - [5, 10, 20]) ** 2
    return {"train": train.tolist(), "held_out": held_out.tolist(), "steps": STEPS.tolist()}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(axis) -> str:
    legend = axis.get_legend()
    return " ".join([axis.get_title(), *(t.get_text() for t in [*axis.texts, *(legend.texts if legend else [])])])


@pytest.mark.slow
def test_three_panels_of_one_estimate(tmp_path):
    figure = pictures.plot(scored(*normals(300, 200), history=rising()))
    left, middle, right = figure.axes
    assert "squared hellinger = 0.3213 nats" in texts(left) and "90 %: 0.29 to 0.3512" in texts(left)
    assert "under P, 300" in texts(left) and "under Q, 200" in texts(left)
    assert "calibrated" in texts(middle) and "median step" in texts(right)
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_on_an_axis_of_ones_own_only_the_log_ratios():
    figure, axis = plt.subplots()
    assert pictures.plot(scored(*normals(50, 50)), ax=axis) is axis
    assert figure.axes == [axis] and "under P" in texts(axis) and plt.get_fignums() == [figure.number]


def test_both_histograms_have_the_same_bars_and_unit_area():
    _, axis = plt.subplots()
    log_p, log_q = normals(500, 400, shift=2.0)
    log_q[0] = -1e9  # an outlier must not squeeze the rest into one bar
    pictures.plot(scored(log_p, log_q), ax=axis)
    shown = [patch.get_data() for patch in axis.patches]
    assert len(shown) == 4
    for values, edges, _ in shown:
        np.testing.assert_array_equal(edges, shown[0].edges)
        assert np.sum(values * np.diff(edges)) == pytest.approx(1.0) and np.count_nonzero(values) > 10
    means = [np.sum(values * np.diff(edges) * (edges[:-1] + edges[1:]) / 2) for values, edges, _ in shown[::2]]
    assert means == pytest.approx([log_p.mean(), np.mean(log_q[1:])], abs=0.1)


def test_the_true_ratio_is_calibrated_and_a_doubled_one_is_not():
    """The share of P lies within the interval in nearly all groups; where the log-ratio is doubled it does not."""
    inside = {}
    for factor in (1.0, 2.0):
        predicted, share, low, high = pictures.reliability(*normals(6000, 3000, factor=factor))
        assert len(share) == pictures.SHARES and (np.diff(predicted) > 0).all()
        assert ((low < share) & (share < high)).all() and (low > 0).all() and (high < 1).all()
        inside[factor] = np.mean((low <= predicted) & (predicted <= high))
    assert inside[1.0] >= 10 / 12 and inside[2.0] <= 6 / 12


def test_the_prediction_counts_unequal_numbers_of_samples():
    """With nothing to tell the sets apart, the predicted and observed share of P is n / (n + m)."""
    predicted, share, low, high = pictures.reliability(np.zeros(300), np.zeros(100))
    assert predicted == pytest.approx(np.full(len(predicted), 0.75)) == expit(np.log(3.0))
    assert np.average(share, weights=np.full(12, 1 / 12)) == pytest.approx(0.75, abs=0.01)
    assert (low >= 0.0).all() and (high <= 1.0).all()


def test_training_marks_where_each_critic_is_kept():
    _, axis = plt.subplots()
    pictures.training(axis, rising())
    (dots,) = [line for line in axis.lines if line.get_marker() == "o"]
    assert list(dots.get_xdata()) == [STEPS[5], STEPS[10], STEPS[20]] and dots.get_ydata() == pytest.approx([0.3] * 3)
    assert f"median step {STEPS[10]}" in texts(axis)
    medians = [line.get_ydata() for line in axis.lines if line.get_lw() == 2]
    for shown, key in zip(medians, ("train", "held_out"), strict=True):
        np.testing.assert_allclose(shown, np.median(rising()[key], axis=1))


@pytest.mark.parametrize("diagnostics", [{}, {"history": None}, {"history": {}}])
def test_without_a_history_the_panel_says_so(diagnostics):
    figure = pictures.plot(scored(*normals(30, 30), **diagnostics))
    assert "nothing was trained" in texts(figure.axes[2]) and not figure.axes[2].axison


@pytest.mark.slow
@pytest.mark.parametrize(
    "log_p, log_q", [([0.0, 0.0], [0.0, 0.0]), ([25.0] * 20, [-25.0] * 20), ([1e30, 2.0], [-1e30]), ([0.5], [0.5])]
)
def test_the_hardest_scores_are_drawn(log_p, log_q):
    pictures.plot(scored(log_p, log_q)).canvas.draw()


def test_estimates_without_log_ratios_are_refused_with_the_remedy():
    e = dataclasses.replace(scored([0.0], [0.0]), scores=None)
    with pytest.raises(ValueError, match="no held-out log-ratios to draw; use method='neural'"):
        pictures.plot(e)
    assert plt.get_fignums() == []

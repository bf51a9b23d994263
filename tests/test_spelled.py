"""Distributions written as text, the command `fgan exact`, and its picture."""

import json
import math

import numpy as np
import pytest

from estimators import distributions as dist
from estimators.distributions.spelled import NAMES, spelled
from estimators.exact_values.pair_picture import draw
from fgan.cli.main import main


def code(*arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


def test_every_distribution_can_be_written():
    assert {"gamma", "student_t", "log_normal", "multivariate_normal", "von_mises"} <= set(NAMES)
    assert isinstance(spelled("Student_T(3, loc=-1e0)"), dist.StudentT)
    mixed = spelled("mixture([0.5, 0.5], [normal(-1), transformed(gamma(2, 1), affine(1, 2))])")
    assert isinstance(mixed.components[1].map, dist.Affine)
    assert isinstance(spelled("transformed(normal(0, 1), exp)").map, dist.Map)
    assert spelled("multivariate_normal([0, 1], [[2, 0.5], [0.5, 1]])").event_shape == (2,)
    np.testing.assert_allclose(spelled("categorical(probs=[0.25, 0.75])").probs, [0.25, 0.75])


@pytest.mark.parametrize(
    "text, words",
    [
        ("gama(2, 1)", "did you mean gamma"),
        ("gamma(2", "is not written as name"),
        ("3", "is no distribution"),
        ("exp", "is no distribution"),
        ("gamma(1, 2, 3)", "takes from 2 to 3 numbers"),
        ("gamma(2, speed=1)", "unexpected keyword argument 'speed'"),
        ("__import__('os').system('touch canary')", "neither a number, a list, nor a distribution"),
        ("gamma(2 ** 9 ** 9, 1)", "neither a number"),
        ("normal(0, -1)", "scale = -1"),
        ("gamma(True, 1)", "neither a number"),
        ("gamma", "missing"),
        ("normal(loc=1, loc=2)", "given twice"),
        ("normal(" + 3000 * "-" + "1)", "is not written as name"),
        ("mixture([1], [3])", "is no distribution"),
        ("transformed(normal, exp())", "without brackets"),
    ],
)
def test_what_is_not_one_is_refused_and_never_executed(text, words):
    with pytest.raises(ValueError, match=words):
        spelled(text)


def test_the_command_prints_values_and_json(capsys):
    assert not code("exact", "exponential(1)", "exponential(2.5)", "-d", "kl", "pearson")
    table = capsys.readouterr().out
    assert "closed form" in table and "∞" in table and "the integral diverges" in table
    assert not code("exact", "exponential(1)", "exponential(2.5)", "-d", "kl", "pearson", "--json")
    found = json.loads(capsys.readouterr().out)
    kl, pearson = found["exact"]
    assert kl["value"] == pytest.approx(math.log(1 / 2.5) + 2.5 - 1.0, rel=1e-12)
    assert kl | {"value": 0} == {
        "divergence": "kl", "value": 0, "standard_error": 0.0, "method": "closed form", "units": "nats", "warnings": []
    }  # fmt: skip
    assert pearson["value"] is None and pearson["warnings"] == ["the integral diverges"]
    assert (found["p"], found["q"]) == ("exponential(1)", "exponential(2.5)")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["gama(2)", "gamma(2)"], "did you mean gamma"),
        (["gamma(2)", "gamma(2)", "-d", "klx"], "unknown divergence"),
        (["normal(0)", "dirichlet([1, 2])"], "one space"),
        (["normal([0, 1])", "normal"], "is a batch"),
        (["normal(0)", "normal(1)", "--plot", "nowhere/x.png"], "existing folder"),
        (["dirichlet([1, 2])", "dirichlet([2, 2])", "--plot", "x.png"], "two single distributions of numbers"),
    ],
)
def test_the_command_refuses_in_one_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert code("exact", *arguments) == 2
    printed = capsys.readouterr()
    error = printed.err.strip()
    assert words in error and "\n" not in error and not printed.out and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_picture_shows_both_and_each_divergence():
    figure = draw(dist.Gamma(2.0), dist.Gamma(3.0), ["kl", "js"], ("one", "other"))
    above, below = figure.axes
    assert [line.get_label() for line in above.lines] == ["one", "other"]
    assert [line.get_label().split(":")[0] for line in below.lines] == ["kl", "js"]
    x, y = below.lines[1].get_data()
    assert np.sum(y) * (x[1] - x[0]) == pytest.approx(1.0, rel=1e-6)
    counts = draw(dist.Poisson(2.0), dist.Geometric(0.4), ["kl"])
    assert np.all(counts.axes[0].lines[0].get_xdata() % 1 == 0)
    with pytest.raises(ValueError, match="two single distributions"):
        draw(dist.Poisson(2.0), dist.Gamma(2.0), ["kl"])

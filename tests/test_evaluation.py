"""The table of scorers: each kind of data has its own, and another entry takes part at once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.distributions.subspaces import SubspaceMixture
from estimators.rooms import names
from fgan.config.schema import Config, Critic, Data, Generator, Log
from fgan.data.dataset import Dataset
from fgan.data.sources import load
from fgan.run.loop import train
from fgan.scores import evaluation
from fgan.scores.evaluation import SCORERS, Evaluation, scorer_for

LAW = SubspaceMixture(modes=3, dim=12, rank=5, separation=6.0)
LINE = Generator(kind="location_scale", latent=1)
RNG = np.random.default_rng(0)
LABELLED = {"side": 8, "labels": np.arange(50) % 2, "held_out_labels": np.arange(50) % 2}


def rows(n, dim=2, **facts) -> Dataset:
    """A data set of n training and n held-out rows."""
    drawn = RNG.uniform(-1.0, 1.0, (2, n, dim)).astype(np.float32)
    offset, scale = np.zeros(dim), np.ones(dim)
    return Dataset(name="mine", dim=dim, rows=drawn[0], held_out=drawn[1], offset=offset, scale=scale, **facts)


def known(name, **fields):
    return Config(data=Data(name=name), **fields), load(Data(name=name))


CASES = {
    "modes": known("ring"),
    "curve": known("two_moons"),
    "exact": known("mixture_1d", generator=LINE),
    "subspaces": (Config(), rows(50, 12, law=LAW)),
    "precision_recall": (Config(), rows(50)),
    "density": known("two_moons", generator=Generator(kind="flow", features=(4,))),
    "classes": (Config(), rows(50, 64, **LABELLED)),
    "stacks": (Config(), dataclasses.replace(rows(50, 64, **LABELLED), stack=3, dim=192)),
    "likelihood": (Config(model="vae", divergence="kl"), rows(50)),
}
UNSCORED = {
    "a density on the line that is not a Gaussian's": known("mixture_1d"),
    "another model": known("mixture_1d", generator=LINE, model="another"),
    "too few rows for a third neighbour": (Config(), rows(3)),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_kind_of_data_has_one_scorer(kind, monkeypatch):
    """None before it in the table is more specific, and each after it leaves such data alone."""
    after = list(SCORERS)[list(SCORERS).index(kind) + 1 :]
    assert [SCORERS[name](*CASES[kind], 50) for name in after] == [None] * len(after)
    monkeypatch.setitem(SCORERS, kind, lambda config, data, n: kind)
    assert scorer_for(*CASES[kind], 50) == kind


def test_no_scorer_is_left_out():
    assert set(CASES) == set(SCORERS) == set(names("fgan.scores.evaluation:SCORERS"))


@pytest.mark.parametrize("case", UNSCORED.values(), ids=UNSCORED)
def test_what_no_scorer_fits_has_no_scores(case):
    assert scorer_for(*case, 50)(np.zeros((50, 1)), None) == {}


def test_another_scorer_is_one_entry(tmp_path, monkeypatch, undrawn):
    """Named in the table, it scores the runs of the data it fits, and no others."""

    def farthest(config, data, n):
        if data.name == "two_modes":
            return lambda samples, state: {"farthest": float(np.abs(samples).max())}

    monkeypatch.setitem(SCORERS, "farthest", farthest)
    tiny = {"generator": Generator(features=(4,)), "critic": Critic(features=(4,)), "batch": 8, "steps": 2}
    log = Log(every=2, evaluate=2, checkpoint=2, samples=20)
    outcome = train(Config(data=Data(name="two_modes"), log=log, **tiny), tmp_path / "run", quiet=True)
    assert outcome.scores[0].keys() == {"seed", "farthest"} and outcome.scores[0]["farthest"] > 0.0
    assert names("fgan.scores.evaluation:SCORERS")[-1] == "farthest"
    assert scorer_for(*CASES["modes"], 50)(np.ones((50, 2)), None).keys() >= {"modes", "mode_kl"}


class Shifted:
    """A model that is no f-GAN: standard normal rows shifted by its state."""

    def sample(self, state, key, n):
        return state[None] + jax.random.normal(key, (n, 2))


@pytest.mark.slow
def test_any_model_can_be_evaluated():
    """By its samples alone, in the target's own units; a seed that is not finite has diverged."""
    config, data = known("ring", seeds=2, log=Log(samples=40))
    samples, scores = Evaluation(config, data, Shifted())(jnp.array([[0.0, 0.0], [np.nan, 0.0]]), 7)
    assert samples.shape == (2, 40, 2) and scores[1] == {"seed": 1, "diverged": True}
    assert scores[0]["of_modes"] == 8 and 0.0 <= scores[0]["high_quality"] <= 1.0
    key = jax.random.fold_in(jax.random.key(0), 2**31 + 7)
    drawn = np.asarray(jax.random.normal(key, (40, 2)))
    np.testing.assert_allclose(samples[0], drawn * data.scale + data.offset, rtol=1e-5)


class Uniform:
    """A model of images of uniform noise."""

    def sample(self, state, key, n):
        return state[None] * jax.random.uniform(key, (n, 64), minval=-1.0)


@pytest.mark.parametrize("labelled", [True, False])
def test_images_are_judged_at_the_end_alone(labelled, monkeypatch):
    """Beside real images, by several times as many samples as on the way, the same ones whenever it is asked."""
    monkeypatch.setattr(evaluation, "train_classifier", functools.partial(evaluation.train_classifier, steps=10))
    classes = {"labels": np.arange(50) % 2, "held_out_labels": np.arange(50) % 2} if labelled else {}
    config, data = Config(log=Log(samples=40)), rows(50, 64, side=8, **classes)
    evaluate, state = Evaluation(config, data, Uniform()), jnp.ones((1, 64))
    (on_the_way,), (end,) = evaluate(state, 7)[1], evaluate(state, 7, end=True)[1]
    assert set(end) - set(on_the_way) == ({"features", "nearest_training"} if labelled else {"nearest_training"})
    assert {name: end[name] for name in on_the_way} == on_the_way and evaluate(state, 7, end=True)[1] == [end]
    many = evaluate._many(state[0], jax.random.key(7), 5 * 40)
    assert many.shape == (5 * 40, 64) and len(np.unique(many[:, 0])) == len(many)
    if labelled:
        assert {"fd_classifier", "fd_classifier_floor", "recognised", "coverage", "density"} <= set(on_the_way)
        assert {"fd_classifier", "recognised", "coverage", "accuracy"} <= set(on_the_way["held_out_mine"])
    diverged = evaluate(state * np.nan, 7, end=True)[1]
    assert diverged == [{"seed": 0, "diverged": True}]


def test_images_of_an_autoencoder_are_judged_at_the_end_too():
    score = scorer_for(Config(model="vae", divergence="kl"), rows(50, 64, side=8), 50)
    assert isinstance(score, evaluation.InStages)
    assert set(score.at_end(RNG.uniform(-1.0, 1.0, (50, 64)).astype(np.float32))) == {"nearest_training"}

"""The table of scorers: each kind of data has its own, and another entry takes part at once."""

import dataclasses

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


def test_any_model_can_be_evaluated():
    """By its samples alone, in the target's own units; a seed that is not finite has diverged."""
    config, data = known("ring", seeds=2, log=Log(samples=40))
    samples, scores = Evaluation(config, data, Shifted())(jnp.array([[0.0, 0.0], [np.nan, 0.0]]), 7)
    assert samples.shape == (2, 40, 2) and scores[1] == {"seed": 1, "diverged": True}
    assert scores[0]["of_modes"] == 8 and 0.0 <= scores[0]["high_quality"] <= 1.0
    key = jax.random.fold_in(jax.random.key(0), 2**31 + 7)
    drawn = np.asarray(jax.random.normal(key, (40, 2)))
    np.testing.assert_allclose(samples[0], drawn * data.scale + data.offset, rtol=1e-5)

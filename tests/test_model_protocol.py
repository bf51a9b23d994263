"""What the loop asks of a model is `Model` and no more: a second model runs through all of it, commands included."""

import csv
import inspect
import json
import os
import signal
from pathlib import Path

import jax
import models_for_tests
import numpy as np
import pytest
from models_for_tests import ABOUT, NAME
from test_loop import forgotten, shared, strike  # noqa: F401

from fgan.cli.main import main
from fgan.config.schema import Config, Generator, Log, Optimizer, replace
from fgan.config.toml import to_toml
from fgan.data.sources import load as load_data
from fgan.models.model import MODELS, Model, build
from fgan.run import loop
from fgan.run.directory import RunDirectory
from fgan.run.loop import train
from fgan.run.members import newest, restore
from fgan.run.progress import Stopped

TINY = Config(
    model=NAME,
    seeds=2,
    steps=40,
    batch=64,
    generator_optimizer=Optimizer(learning_rate=0.1),
    log=Log(every=10, evaluate=20, checkpoint=20, samples=64),
)
RATE = "generator_optimizer.learning_rate"


@pytest.fixture(autouse=True, scope="module")
def registered():
    """The model is one entry more for as long as these tests run, and its runs share their programs."""
    MODELS.add(NAME, ABOUT, models_for_tests.build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", shared)
        yield
    MODELS.remove(NAME)


def run_command(*words) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    assert leaving.value.code == 0


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(registered, tmp_path_factory) -> Path:
    """The run that nothing interrupts, from the command line."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "c.toml").write_text(to_toml(TINY))
    run_command("train", folder / "c.toml", "--run", folder / "straight", "--quiet")
    return folder / "straight"


@pytest.mark.parametrize("name", ["fgan", NAME])
def test_every_model_has_what_the_protocol_names(name):
    model = build(replace(TINY, {"model": name}), load_data(TINY.data))
    for wanted, function in inspect.getmembers(Model, inspect.isfunction):
        if not wanted.startswith("_"):
            assert list(inspect.signature(getattr(model, wanted)).parameters) == [
                parameter for parameter in inspect.signature(function).parameters if parameter != "self"
            ]
    assert isinstance(model.headline, str) and model.batches >= 1
    assert name in MODELS and MODELS.about[name]


def test_it_trains_towards_its_optimum_and_is_evaluated(straight):
    """The ring is centred with deviation 1 on average, so the likelihood is greatest at μ = 0 and σ = 1."""
    metrics = [line for line in lines(straight) if "scores" not in line]
    assert [line["step"] for line in metrics] == [10, 20, 30, 40]
    headline = np.array([line["negative_log_likelihood"] for line in metrics])
    assert headline.shape == (4, 2) and (headline[0] > headline[1:].max() + 0.1).all()
    assert headline[-1] == pytest.approx(1.0 + np.log(2.0 * np.pi), abs=0.05)
    scored = [line for line in lines(straight) if "scores" in line]
    assert [line["step"] for line in scored] == [20, 40]
    assert {"seed", "modes", "high_quality"} <= set(scored[0]["scores"][0])
    assert {"training.png", "samples-00000040.png"} <= set(os.listdir(straight / "figures"))


def test_it_resumes_bit_for_bit(tmp_path, monkeypatch, straight):
    strike(monkeypatch, RunDirectory, "append", 20, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped):
        train(TINY, tmp_path / "run", quiet=True)
    assert restore(tmp_path / "run").step == 20
    train(TINY, tmp_path / "run", quiet=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    one, other = (jax.tree.leaves(newest(RunDirectory.find(run))[-1]) for run in (tmp_path / "run", straight))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_sampled_in_the_units_of_the_data(tmp_path, straight):
    run_command("sample", straight, "-n", 5000, "--member", 1, "--out", tmp_path / "x.npy")
    x, member = np.load(tmp_path / "x.npy"), restore(straight, 1)
    mean, sigma = (np.asarray(member.state.parameters[name]) for name in ("mean", "log_sigma"))
    np.testing.assert_allclose(x.mean(axis=0), mean * member.data.scale + member.data.offset, atol=0.2)
    np.testing.assert_allclose(x.std(axis=0), np.exp(sigma) * member.data.scale, rtol=0.1)
    assert member.config == replace(TINY, {"seed": 1, "seeds": 1})


def test_it_is_swept_over_seeds_and_learning_rates_in_one_program(tmp_path, straight):
    """Each member is the run of its config."""
    (tmp_path / "base.toml").write_text(to_toml(TINY))
    (tmp_path / "s.toml").write_text(f'config = "base.toml"\n[grid]\n{RATE} = [0.001, 0.1]\n')
    run_command("sweep", tmp_path / "s.toml", "--run", tmp_path / "sweep", "--quiet")
    with open(tmp_path / "sweep" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["state"], float(row[RATE]), row["seed"]) for row in rows] == [
        ("finished", rate, seed) for rate in (0.001, 0.1) for seed in "01"
    ]
    assert {row["part"] for row in rows} == {"000-000"} and (tmp_path / "sweep" / "sweep.png").exists()
    last = [line for line in lines(straight) if "scores" not in line][-1]["negative_log_likelihood"]
    assert [float(row["negative_log_likelihood"]) for row in rows[2:]] == pytest.approx(last, rel=1e-5)
    swept, alone = restore(tmp_path / "sweep", 3), restore(straight, 1)
    assert swept.config == alone.config
    np.testing.assert_allclose(swept.sample(50), alone.sample(50), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_member_that_diverges_is_one_of_its_sweep(tmp_path):
    base = replace(TINY, {"steps": 120, "seeds": 1, "log.evaluate": 120, "log.checkpoint": 120})
    sgd = Optimizer(name="sgd", b1=0.0)
    (tmp_path / "base.toml").write_text(to_toml(replace(base, {"generator_optimizer": sgd})))
    (tmp_path / "s.toml").write_text(f'config = "base.toml"\n[grid]\n{RATE} = [0.01, 1e30]\n')
    run_command("sweep", tmp_path / "s.toml", "--run", tmp_path / "sweep", "--quiet")
    with open(tmp_path / "sweep" / "results.csv", newline="") as file:
        states = [row["state"] for row in csv.DictReader(file)]
    assert states == ["finished", "diverged"]


def test_the_networks_of_another_model_cost_it_nothing():
    """`generator` and `critic` are tables of the f-GAN: their values do not reach this model."""
    one, other = (build(replace(TINY, {"generator": Generator(latent=n)}), load_data(TINY.data)) for n in (1, 9))
    shapes = [jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))) for model in (one, other)]
    assert shapes[0] == shapes[1]

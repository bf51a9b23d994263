"""The variational autoencoder: one model more for the loop, the likelihood it reaches, and what it refuses."""

import contextlib
import csv
import json
import math
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.critics.kernel import ALONE, Replicas, steps
from fgan.cli.main import main
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Data, Log, Optimizer, Vae, replace
from fgan.config.toml import to_toml
from fgan.data.dataset import Dataset
from fgan.data.sources import load
from fgan.models.model import Model, Reconstructs, build
from fgan.models.vae import REGULARISERS
from fgan.run import loop
from fgan.run.directory import RunDirectory
from fgan.run.loop import train
from fgan.run.members import newest, restore
from fgan.run.program import chunk, fresh
from fgan.run.progress import Stopped
from fgan.scores.autoencoder import Bounds

TINY = Config(
    model="vae",
    divergence="kl",
    seeds=2,
    steps=40,
    batch=64,
    data=Data(name="digits_8x8"),
    vae=Vae(features=(24,), latent=3, annealing="linear", likelihood="bernoulli"),
    generator_optimizer=Optimizer(learning_rate=1e-2),
    log=Log(every=10, evaluate=40, checkpoint=20, samples=64),
)
DIGITS = pytest.importorskip("sklearn") and load(TINY.data)


def run_command(*words) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    assert leaving.value.code == 0


@pytest.fixture(scope="module", autouse=True)
def without_classes():
    """Without labels nothing trains a classifier of them; that samples are scored by it is another test's concern."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fgan.scores.evaluation._classes", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The run that nothing interrupts, from the command line."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "c.toml").write_text(to_toml(TINY))
    run_command("train", folder / "c.toml", "--run", folder / "straight", "--quiet")
    return folder / "straight"


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


# --- through the loop -------------------------------------------------------------------------------------------------


def test_it_trains_two_seeds_and_is_evaluated(straight):
    *metrics, scored = lines(straight)
    elbo = np.array([line["elbo"] for line in metrics])
    assert elbo.shape == (4, 2) and (elbo[-1] > elbo[0] + 5.0).all() and elbo[-1, 0] != elbo[-1, 1]
    np.testing.assert_allclose(elbo, [-np.add(line["rate"], line["distortion"]) for line in metrics], rtol=1e-5)
    assert [line["weight"][0] for line in metrics] == pytest.approx([4.5 / 20, 14.5 / 20, 1.0, 1.0])
    for both in scored["scores"]:
        scores = both["likelihood"]
        assert scores["elbo"] == pytest.approx(-scores["rate"] - scores["distortion"], rel=1e-5)
        assert scores["elbo"] < scores["importance_weighted_64"] < 0.0 and 0 <= scores["active_units"] <= 3
        assert scores["elbo_standard_error"] > 0.0 and {"precision", "recall"} <= set(both)
    figures = set(os.listdir(straight / "figures"))
    assert {"training.png", "samples-00000040.png", "reconstructions-00000040.png"} <= figures


def test_it_resumes_bit_for_bit(tmp_path, monkeypatch, straight):
    """Stopped at its tenth step of forty, while its weight rises."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "signals", lambda: contextlib.nullcontext([15]))
        with pytest.raises(Stopped):
            train(TINY, tmp_path / "run", quiet=True)
    run = RunDirectory.find(tmp_path / "run")
    assert run.last_status["step"] == 10
    train(TINY, run.path, quiet=True)
    assert (run.path / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    one, other = (jax.tree.leaves(newest(found)[-1]) for found in (run, RunDirectory.find(straight)))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_it_is_sampled_as_grey_levels(tmp_path, straight):
    run_command("sample", straight, "-n", 500, "--member", 1, "--out", tmp_path / "x.npy")
    x = np.load(tmp_path / "x.npy")
    assert x.shape == (500, 64) and x.min() >= 0.0 and x.max() <= 16.0 and x.std(axis=0).max() > 0.5
    mean = DIGITS.own_units(DIGITS.rows[:]).mean(axis=0)
    assert np.corrcoef(x.mean(axis=0), mean)[0, 1] > 0.9


@pytest.mark.slow
def test_it_is_swept_over_weights_and_alphas_in_one_program(tmp_path):
    """Each member is the run of its config."""
    base = replace(TINY, {"seeds": 2, "steps": 20, "vae.annealing": "none", "vae.regulariser": "gjs"})
    (tmp_path / "base.toml").write_text(to_toml(base))
    (tmp_path / "s.toml").write_text(
        'config = "base.toml"\n[grid]\n"vae.weight" = [0.1, 3.0]\n"vae.alpha" = [0.2, 0.7]\n'
    )
    run_command("sweep", tmp_path / "s.toml", "--run", tmp_path / "sweep", "--quiet")
    with open(tmp_path / "sweep" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["part"] for row in rows} == {"000-000"}
    assert {row["state"] for row in rows} == {"finished"}
    member = restore(tmp_path / "sweep", 7)
    assert (member.config.vae.weight, member.config.vae.alpha, member.config.seed) == (3.0, 0.7, 1)
    images, seeds = jnp.asarray(DIGITS.rows), jnp.asarray([1], jnp.uint32)
    alone = jax.jit(chunk(member.config, DIGITS, 20)(ALONE))(images, seeds, fresh(member.config, DIGITS), 0)[0]
    for one, both in zip(jax.tree.leaves(alone.parameters), jax.tree.leaves(member.state.parameters), strict=True):
        np.testing.assert_allclose(one[0], both, rtol=1e-3, atol=1e-4)
    assert float(rows[7]["weight"]) == 3.0 and float(rows[7]["likelihood.rate"]) < float(rows[1]["likelihood.rate"])


@pytest.mark.slow
def test_a_model_of_points_draws_from_its_likelihood():
    """Samples have the learned σ about the decoder's output; those of images are the output itself."""
    config = replace(TINY, {"data.name": "ring", "vae.likelihood": "gaussian"})
    model = build(check(config), load(config.data))
    state = model.init(jax.random.key(0))
    state = state._replace(parameters=state.parameters | {"log_deviation": jnp.log(0.3)})
    x = jax.jit(model.sample, static_argnums=2)(state, jax.random.key(0), 4000)
    z = jax.random.normal(jax.random.split(jax.random.key(0))[0], (4000, 3))
    assert np.asarray(x - model.decode(state.parameters, z)).std() == pytest.approx(0.3, rel=0.03)
    assert not build(replace(TINY, {"vae.likelihood": "gaussian"}), DIGITS).noisy


# --- its objectives ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("regulariser", REGULARISERS)
def test_every_objective_is_climbed(regulariser):
    """By plain ascent on one batch with the noise held: a small step gains its rate times ‖gradient‖²."""
    rate = 1e-4
    config = replace(TINY, {"vae.regulariser": regulariser, "vae.draws": 4, "vae.annealing": "none"})
    config = replace(config, {"generator_optimizer": Optimizer(name="sgd", learning_rate=rate, b1=0.0)})
    model = build(check(config), DIGITS)
    state, batch = model.init(jax.random.key(0)), jnp.asarray(DIGITS.rows[:64])[None]
    step = jax.jit(model.step)
    after, before = step(jax.random.key(1), state, batch)
    later = step(jax.random.key(1), after, batch)[1]
    moved = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), after.parameters, state.parameters)
    gain = sum(map(float, jax.tree.leaves(moved))) / rate
    assert gain > 1e-3
    assert float(later["objective"] - before["objective"]) == pytest.approx(gain, rel=0.1, abs=2e-4)
    assert model.headline in before and isinstance(model, Reconstructs)


def test_half_a_batch_on_each_of_two_devices_is_the_batch():
    config = replace(TINY, {"vae.free_bits": 0.1, "vae.draws": 2})
    state = build(config, DIGITS).init(jax.random.key(0))
    batch = jnp.asarray(DIGITS.rows[:64])[None]
    whole = jax.jit(build(config, DIGITS).step)(jax.random.key(1), state, batch)

    def on(share, part):
        replicas = Replicas(
            mean=lambda tree: jax.lax.pmean(tree, "devices"),
            shard=lambda rows: jax.lax.dynamic_slice_in_dim(rows, 32 * share, 32),
        )
        return build(config, DIGITS, replicas).step(jax.random.key(1), state, part)

    halves = jax.jit(jax.vmap(on, in_axes=(0, 0), axis_name="devices"))(jnp.arange(2), batch.reshape(2, 1, 32, 64))
    for one, both in zip(jax.tree.leaves(whole), jax.tree.leaves(halves), strict=True):
        np.testing.assert_allclose(both[0], one, rtol=1e-4, atol=1e-5)


def test_free_bits_are_what_the_rate_costs_at_least():
    """More of them than any coordinate carries: the objective is E log p(x|z) less β times all of them."""
    model = build(check(replace(TINY, {"vae.free_bits": 50.0, "vae.weight": 2.0, "vae.annealing": "none"})), DIGITS)
    facts = jax.jit(model.step)(jax.random.key(1), model.init(jax.random.key(0)), jnp.asarray(DIGITS.rows[:64])[None])[
        1
    ]
    assert float(facts["objective"] + facts["distortion"]) == pytest.approx(-2.0 * 3 * 50.0, rel=1e-5)
    assert 0.0 < facts["rate"] < 50.0


@pytest.mark.slow
def test_free_bits_keep_coordinates_in_use():
    """With a weight so large that they would collapse."""
    strong = {"vae.weight": 30.0, "vae.annealing": "none", "steps": 300, "seeds": 1}
    rates = {}
    for bits in (0.0, 0.5):
        config = replace(TINY, strong | {"vae.free_bits": bits})
        rates[bits] = fitted(config, DIGITS)[1]["rate"][-1]
    assert rates[0.0] < 0.01 and 0.5 < rates[0.5] < 1.1 * 3 * 0.5


def fitted(config: Config, data: Dataset):
    """(state, metrics of all steps) of the loop's own kernel."""
    model = build(check(config), data)

    @jax.jit
    def run(key):
        rows = jnp.asarray(data.rows)
        return steps(
            model.advance,
            lambda key: data.draw(key, rows, config.batch)[None],
            key,
            model.init(key),
            0,
            config.steps,
            noise=model.noise,
        )

    return run(jax.random.key(config.seed))


# --- the likelihood it reaches ----------------------------------------------------------------------------------------


def correlated(n: int, d: int, latent: int, seed: int = 0) -> Dataset:
    """Rows of a d-dimensional Gaussian with a few strong directions, all of them for training."""
    rng = np.random.default_rng(seed)
    rows = (
        rng.normal(size=(n, latent)) * np.linspace(2.0, 1.0, latent) @ np.linalg.qr(rng.normal(size=(d, latent)))[0].T
    )
    rows = (rows + 0.4 * rng.normal(size=(n, d)) + rng.normal(size=d)).astype(np.float32)
    nothing = np.zeros(d)
    return Dataset(name="gaussian", dim=d, rows=rows, held_out=rows[:0], offset=nothing, scale=nothing + 1.0)


def ppca(rows: np.ndarray, latent: int) -> tuple[float, float]:
    """(log-likelihood a row, σ²) of the best N(μ, WWᵀ + σ²I). Source: Tipping & Bishop 1999, eqs. 7 and 8."""
    d = rows.shape[1]
    eigenvalues = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    rest = eigenvalues[latent:].mean()
    log_det = np.log(eigenvalues[:latent]).sum() + (d - latent) * math.log(rest)
    return -0.5 * (d * math.log(2.0 * math.pi) + log_det + d), rest


def of_decoder(parameters, rows: np.ndarray) -> float:
    """The exact log-likelihood a row of a linear decoder: N(b, WWᵀ + σ²I)."""
    dense = parameters["decoder"]["params"]["Dense_0"]
    w, b = (np.asarray(dense[name], np.float64) for name in ("kernel", "bias"))
    covariance = w.T @ w + math.exp(2.0 * float(parameters["log_deviation"])) * np.eye(len(b))
    residual = rows - b
    square = np.einsum("ni,ij,nj->n", residual, np.linalg.inv(covariance), residual).mean()
    return -0.5 * (len(b) * math.log(2.0 * math.pi) + np.linalg.slogdet(covariance)[1] + square)


PPCA = [
    pytest.param(3, 1, 1500, 2e-3, id="3-1"),
    pytest.param(12, 4, 8000, 5e-3, id="12-4", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("d, latent, count, tolerance", PPCA)
def test_a_linear_one_reaches_the_likelihood_of_principal_components(d, latent, count, tolerance):
    """Its decoder the exact maximum, its ELBO as well: the posterior of the best rotation has independent coordinates
    (Lucas et al. 2019). `tolerance` in nats a row; batches hold all rows, so that only z is noise."""
    data = correlated(256, d, latent)
    config = replace(
        TINY,
        {
            "steps": count,
            "batch": 256,
            "seeds": 1,
            "vae": Vae(features=(), latent=latent, draws=4),
            "generator_optimizer": Optimizer(learning_rate=2e-2, b1=0.9, b2=0.99, schedule="cosine", final=1e-3),
        },
    )
    state, _ = fitted(config, data)
    rows = np.asarray(data.rows, np.float64)
    best, variance = ppca(rows, latent)
    assert math.exp(2.0 * float(state.parameters["log_deviation"])) == pytest.approx(variance, rel=0.02)
    reached = of_decoder(state.parameters, rows)
    assert best - tolerance < reached < best + 1e-5
    model, noise = build(config, data), math.sqrt(latent) * np.concatenate([np.eye(latent), -np.eye(latent)])
    terms = model.terms(state.parameters, jnp.tile(noise[None], (len(rows), 1, 1)), jnp.asarray(data.rows))
    elbo = float(jnp.mean(terms.log_likelihood) - jnp.mean(terms.rate))  # exact: quadratic in z
    assert best - 2.0 * tolerance < elbo < reached + 1e-5
    found = Bounds(model, data.rows)(state)
    assert elbo - 1e-3 < found["importance_weighted_64"] < best + 1e-3 and found["active_units"] == latent


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"divergence": "js"}, "set divergence = kl"),
        ({"vae.regulariser": "f_bound", "vae.draws": 4, "vae.divergence": "jeffreys"}, "has no lower bound"),
        ({"vae.regulariser": "f_bound"}, "set vae.draws to 2 or more"),
        ({"vae.regulariser": "importance_weighted", "vae.draws": 4, "vae.free_bits": 1.0}, "vae.free_bits = 0"),
        ({"vae.deviation": 0.5}, "is for vae.likelihood = gaussian"),
        ({"vae.annealing": "cyclical", "vae.cycles": 21}, "two steps or more"),
        ({"penalty.names": ("r1",)}, "leave penalty.names empty"),
        ({"vae.alpha": 1.0}, "below 1"),
        ({"data.name": "ring"}, "are no images; set vae.likelihood = gaussian"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    config = replace(TINY, changes)
    with pytest.raises(ConfigError, match=words):
        build(check(config), load(config.data))


def test_it_follows_the_protocol():
    model = build(TINY, DIGITS)
    assert {name for name in vars(Model) if not name.startswith("_")} <= set(dir(model))
    assert model.batches == 1 and any("ELBO" in note for note in model.notes)

"""A flow's map and its density agree, and the exact divergence of a run is that of its density."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import estimators as est
from estimators.exact_values.monte_carlo import defensive
from estimators.exact_values.quadrature import PLANE, REAL_LINE, integrate
from fgan.cli.main import main
from fgan.config.schema import Config, replace
from fgan.data.sources import load
from fgan.networks.flows import BOUND, Flow, Spline, forward, inverse
from fgan.run import pictures
from fgan.run.loop import train
from fgan.scores import density


def trained(dim: int, seed: int = 0, size: float = 0.7):
    """(flow, parameters): one far from the identity."""
    flow = Flow(2, (16,), "tanh", dim)
    rng = np.random.default_rng(seed)

    def moved(a):
        return a + size / math.sqrt(max(a.shape[0], 4)) * rng.normal(size=a.shape).astype(np.float32)

    return flow, jax.tree.map(moved, begun(flow))


def begun(flow):
    """Its parameters at the start, computed in one program."""
    start = jax.jit(flow.init)(jax.random.key(0), np.zeros((1, flow.dim)))
    return jax.tree.map(np.asarray, start)


@pytest.mark.parametrize("bins", [1, 2, 8])
def test_a_spline_of_zeros_is_the_identity(bins):
    x = np.linspace(-6.0, 6.0, 101, dtype=np.float32)
    y, log_slope = jax.jit(forward)(jax.jit(Spline.of)(np.zeros((101, 3 * bins - 1), np.float32)), x)
    np.testing.assert_allclose(y, x, atol=2e-6)
    np.testing.assert_allclose(log_slope, 0.0, atol=2e-6)


@pytest.mark.parametrize("bins", [2, 8])
def test_a_spline_increases_and_its_inverse_and_slope_are_its_own(bins):
    with jax.enable_x64(True):
        x = np.linspace(-1.2 * BOUND, 1.2 * BOUND, 4001)
        raw = np.broadcast_to(2.0 * np.random.default_rng(3).normal(size=3 * bins - 1), (4001, 3 * bins - 1))

        @jax.jit
        def computed(x, raw):
            s = Spline.of(raw)
            y, log_slope = forward(s, x)
            slope = jax.vmap(jax.grad(lambda v, r: forward(Spline.of(r), v)[0]))(x, raw)
            return y, log_slope, inverse(s, y), slope

        y, log_slope, (back, same), slope = computed(x, raw)
        assert (np.diff(y) > 0.0).all()
        np.testing.assert_allclose(back, x, atol=1e-9)
        np.testing.assert_allclose(same, log_slope, atol=1e-7)
        np.testing.assert_allclose(np.log(slope), log_slope, atol=1e-9)


def test_density_is_that_of_the_map_by_the_change_of_variable():
    dim = 3
    with jax.enable_x64(True):
        flow, p = trained(dim)
        p = jax.tree.map(lambda a: a.astype(np.float64), p)
        z = np.random.default_rng(5).normal(size=(64, dim))

        @jax.jit
        def computed(z):
            jacobian = jax.vmap(jax.jacobian(lambda v: flow.apply(p, v[None])[0]))(z)
            return jacobian, flow.apply(p, flow.apply(p, z), method="log_prob")

        jacobian, found = computed(z)
        expected = scipy.stats.norm.logpdf(z).sum(1) - np.linalg.slogdet(jacobian)[1]
        np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("dim", [1, 2])
def test_density_integrates_to_one(dim):
    flow, p = trained(dim, 7, 0.3)
    law = density.OfModel(flow, dim)(p)
    total = integrate(lambda x: jnp.exp(law.density(x.reshape(-1, dim))), REAL_LINE if dim == 1 else PLANE, tol=1e-4)
    assert total == pytest.approx(1.0, abs=1e-4)


def test_exact_divergence_of_two_flows_by_both_ways_agrees():
    flow, first = trained(1, 0)
    model = density.OfModel(flow, 1)
    p, q = model(first), model(trained(1, 9)[1])
    d = est.divergence("kl")
    (found,), drawn = density.exact(p, q, d), defensive(p, q, d, draws=2**15)
    assert found.method == "quadrature" and found.value > 0.01
    assert abs(found.value - drawn.value) < 4.0 * drawn.standard_error


FLOW = {
    "generator.kind": "flow",
    "generator.features": (16,),
    "generator.layers": 2,
    "generator.nonlinearity": "tanh",
    "critic.features": (16,),
    "batch": 64,
    "steps": 40,
    "log.every": 20,
    "log.evaluate": 20,
    "log.checkpoint": 20,
    "log.samples": 100,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on the line."""
    path = tmp_path_factory.mktemp("flow") / "run"
    train(replace(Config(), FLOW | {"data.name": "mixture_1d"}), path, quiet=True)
    return path


def lines(path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def check_scores(path, method):
    scores = [line["scores"][0] for line in lines(path) if "scores" in line]
    assert len(scores) == 2 and all(s["exact"] > 0.0 and s["exact_method"] == method for s in scores)
    assert all((s["exact_standard_error"] > 0.0) == (method == "monte_carlo") for s in scores)


@pytest.mark.slow
def test_every_evaluation_of_a_flow_has_the_exact_divergence(run):
    check_scores(run, "quadrature")


@pytest.mark.slow
def test_beyond_the_plane_the_value_comes_with_its_standard_error():
    """KL(N(m, I)‖N(0, I)) = |m|²/2; a flow starts as N(0, I)."""
    m = np.array([0.5, -1.0, 0.25])
    shifted = density.Law(
        dim=3,
        density=lambda x: jax.scipy.stats.norm.logpdf(x - m[None]).sum(axis=1),
        draw=lambda key, n: np.asarray(jax.random.normal(key, (n, 3))) + m[None],
    )
    flow = Flow(2, (4,), "tanh", 3)
    start = density.OfModel(flow, 3)(begun(flow))
    (found,) = density.exact(shifted, start, est.divergence("kl"))
    assert found.method == "monte_carlo" and 0.0 < found.standard_error < 0.02
    assert abs(found.value - 0.5 * m @ m) < 4.0 * found.standard_error


@pytest.mark.parametrize("width, heavy", [(0.9, False), (0.3, True)])
def test_a_value_that_a_few_draws_carry_says_so(width, heavy):
    """pearson of N(0, I) from N(0, w²I) is (w²/√(2w² − 1))^d − 1 where 2w² > 1, and infinite below."""

    def normal(w):
        return density.Law(
            dim=3,
            density=lambda x: jax.scipy.stats.norm.logpdf(x, scale=w).sum(axis=1),
            draw=lambda key, n: w * np.asarray(jax.random.normal(key, (n, 3))),
        )

    (found,) = density.exact(normal(1.0), normal(width), est.divergence("pearson"))
    assert found.method == ("monte_carlo, heavy tail" if heavy else "monte_carlo")
    if not heavy:
        truth = (width**2 / math.sqrt(2.0 * width**2 - 1.0)) ** 3 - 1.0
        assert abs(found.value - truth) < 4.0 * found.standard_error


def test_at_the_start_a_flow_is_the_standard_normal():
    config = replace(Config(), {"generator.kind": "flow", "data.name": "mixture_1d"})
    data = load(config.data)
    flow = Flow(4, (16,), "tanh", 1)
    (found,) = density.exact(density.of_data(data), density.OfModel(flow, 1)(begun(flow)), est.divergence("js"))
    offset, scale = data.offset[0], data.scale[0]
    log_q = lambda x: jax.scipy.stats.norm.logpdf((x - offset) / scale) - np.log(scale)  # noqa: E731
    assert found.value == pytest.approx(
        est.exact_divergence(data.target.log_prob, log_q, est.divergence("js")), abs=1e-5
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data.name", "digits"], "images"),
        (["--data.name", "high_dimensional"], "12 dimensions"),
        (["--generator.start", "1", "2"], "location_scale"),
        (["--generator.linear", "2"], "mlp"),
        (["--compute", "bfloat16"], "float32"),
        (["--generator.layers", "9"], "below 9"),
    ],
)
def test_what_a_flow_cannot_be_is_refused_with_the_choice(tmp_path, capsys, few_dimensions, options, words):
    file = tmp_path / "flow.toml"
    file.write_text('[generator]\nkind = "flow"\n')
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(file), "--run", str(tmp_path / "run"), *options])
    assert leaving.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_picture_shows_an_exact_value_far_above_the_bound(run, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(run, tmp_path / "run"))
    changed = lines(copied)
    for line in changed:
        for score in line.get("scores", []):
            score["exact"] = 40.0
    (copied / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    limits = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: limits.append(figure.axes[0].get_ylim()))
    pictures.training(copied)
    assert limits[0][1] > 40.0

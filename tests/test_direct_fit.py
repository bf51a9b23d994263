"""The direct fit: its average is D_f, its gradient that of D_f; it runs through the loop and says what it needs."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_loop import forgotten, shared, strike  # noqa: F401

from estimators.distributions.examples import normal
from estimators.divergences.table import divergence
from estimators.exact_values.quadrature import exact_divergence
from fgan.cli.main import main
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Data, Generator, Log, Optimizer, replace
from fgan.config.toml import to_toml
from fgan.data.sources import load
from fgan.models.direct_fit import FARTHEST
from fgan.models.model import build
from fgan.run import loop
from fgan.run.directory import RunDirectory
from fgan.run.loop import train
from fgan.run.members import restore
from fgan.run.progress import Stopped
from fgan.scores import density

LINE = Config(
    model="direct_fit",
    divergence="js",
    seeds=2,
    steps=200,
    batch=128,
    data=Data(name="mixture_1d"),
    generator=Generator(kind="flow", layers=2, average=0.9),
    generator_optimizer=Optimizer(learning_rate=0.01),
    log=Log(every=50, evaluate=200, checkpoint=100),
)
DATA = load(LINE.data)
BATCHES, POINTS = 32, 2048


NETWORK = build(LINE, DATA).generator.network
LAW, P = density.OfModel(NETWORK, 1), density.of_data(DATA)


def fit(name):
    model = build(replace(LINE, {"divergence": name, "batch": POINTS}), DATA)
    assert model.generator.network == NETWORK
    return model


@pytest.fixture(scope="module")
def start():
    """Parameters of a flow."""
    return nudged(jax.jit(fit("kl").init)(jax.random.key(0))[0], 0.3)


def nudged(parameters, by):
    """Another flow: all its splines bent by `by`."""
    return jax.tree.map(lambda x: x + by * np.sin(np.arange(x.size, dtype=np.float32)).reshape(x.shape), parameters)


# a divergence of each kind: steep, with a kink, f(1) ≠ 0
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kl", "total_variation", "gan"])
def test_its_average_is_the_divergence_and_its_slope_the_slope(name, start):
    """Over 32 batches, within four standard errors of quadrature and of a central difference of quadratures."""
    model, d = fit(name), divergence(name)

    def along(t):
        return nudged(start, t)

    def averages(key):
        p_key, q_key = jax.random.split(key)
        z = jax.random.normal(q_key, (POINTS, 1))
        x = jnp.concatenate([DATA.draw(p_key, jnp.zeros((0, 1)), POINTS), model.generator.network.apply(start, z)])
        x = jax.lax.stop_gradient(x)
        return jax.value_and_grad(lambda t: model.value(along(t), x))(0.0)

    batches = jax.jit(lambda key: jax.lax.map(averages, jax.random.split(key, BATCHES)))
    values, slopes = (np.asarray(a, np.float64) for a in batches(jax.random.key(1)))
    step = 0.02
    exact = {t: density.exact(P, LAW(along(t)), d)[0].value for t in (-step, 0.0, step)}
    slope = (exact[step] - exact[-step]) / (2 * step)
    for found, expected in ((values, exact[0.0]), (slopes, slope)):
        assert found.mean() == pytest.approx(expected, abs=4 * found.std(ddof=1) / BATCHES**0.5 + 1e-3 * abs(expected))
    assert abs(slope) > 0.01


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "neyman", "pearson", "total_variation"])
def test_far_beyond_what_float32_holds_the_pull_is_the_right_way(name):
    """Where the flow is missing, log q must rise; where the data are, it must not: −f*(f'(r)) falls in r."""
    model = fit(name)
    ratios = jnp.asarray([-60.0, -35.0, 0.0, 35.0, 60.0]).clip(-FARTHEST, FARTHEST)
    slopes = np.asarray(model.slope(ratios) - model.slope(jnp.zeros(())))
    assert np.isfinite(slopes).all() and (np.diff(slopes) <= 0.0).all()
    assert slopes[0] > 0.0 == slopes[2] > slopes[-1]


@pytest.mark.slow
def test_it_fits_and_resumes_bit_for_bit(tmp_path, monkeypatch):
    """Two layers of eight bins come close to the mixture: less than half of what js is for a standard normal."""
    monkeypatch.setattr(loop, "Program", shared)
    straight = train(LINE, tmp_path / "straight", quiet=True)
    assert straight.notes[0].startswith("generator: gradient of js")
    start = exact_divergence(DATA.target.log_prob, normal(0.0, 1.0).log_prob, "js")
    for scores in straight.scores:
        assert 0.0 <= scores["exact"] < 0.5 * start and scores["exact_method"] == "quadrature"
    records = [json.loads(line) for line in (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(r["divergence"]).all() for r in records if "divergence" in r)
    strike(monkeypatch, RunDirectory, "append", 100, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped):
        train(LINE, tmp_path / "resumed", quiet=True)
    assert restore(tmp_path / "resumed").step == 100
    train(LINE, tmp_path / "resumed", quiet=True)
    one, other = (restore(tmp_path / name, 0).sample(5, seed=1) for name in ("straight", "resumed"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"generator.kind": "mlp"}, "set generator.kind = flow"),
        ({"generator.kind": "location_scale", "generator.latent": 1}, "set generator.kind = flow"),
        ({"data.name": "digits"}, "set data.name to one of mixture_1d"),
        ({"data.name": "high_dimensional", "generator.kind": "mlp"}, "set data.name to one of mixture_1d"),
        ({"penalty.names": ("r1",)}, "leave penalty.names empty"),
    ],
)
def test_it_needs_densities(change, words, tmp_path, capsys, few_dimensions):
    config = replace(LINE, change)
    with pytest.raises(ConfigError, match=words):
        build(check(config), load(config.data))
    file = tmp_path / "c.toml"
    file.write_text(to_toml(config))
    with pytest.raises(SystemExit) as left:
        main(["train", str(file), "--run", str(tmp_path / "run"), "--quiet"])
    assert left.value.code == 2 and words in capsys.readouterr().err and not (tmp_path / "run").exists()

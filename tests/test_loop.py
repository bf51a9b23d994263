"""A run is a function of its config and seed: interrupted, resumed or repeated, it ends in the same bits."""

import copy
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from test_images import TEST_LABELS, TRAIN, four, idx
from test_images import pictures as pixels

from estimators.distributions.examples import TARGETS
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Log, Optimizer, replace
from fgan.config.toml import load as load_config
from fgan.config.toml import to_toml
from fgan.data.dataset import Dataset
from fgan.data.sources import load as load_data
from fgan.devices import engines
from fgan.models.model import build
from fgan.run import loop, pictures, program
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import ConfigConflict, RunDirectory, RunNotFound
from fgan.run.loop import Diverged, Outcome, train
from fgan.run.members import newest, restore
from fgan.run.progress import Stopped
from fgan.scores import evaluation

RING = load_data(Data(name="ring"))
FAST = ("ring", "samples")  # one on a known target, one on rows
SHIPPED = [
    pytest.param(path, id=path.stem, marks=[] if path.stem in FAST else [pytest.mark.slow])
    for path in sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))
]
TINY = Config(
    steps=40,
    seeds=2,
    batch=16,
    generator=Generator(features=(8,)),
    critic=Critic(features=(8,)),
    log=Log(every=10, evaluate=20, checkpoint=20, samples=16),
)


def go(config: Config, path: Path, **options) -> Outcome:
    return train(config, path, quiet=True, **options)


def replaced(**changes) -> Config:
    return dataclasses.replace(TINY, **changes)


def lines(run: Path, name: str = "metrics.jsonl") -> list[dict]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


def assert_same_run(one: Path, other: Path) -> None:
    """The same metrics to the byte, and the same state to the bit."""
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    (*_, a_step, a), (*_, b_step, b) = (newest(RunDirectory.find(run)) for run in (one, other))
    assert a_step == b_step
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


PROGRAMS: dict[tuple[Config, str], program.Program] = {}


def shared(config: Config, data: Dataset) -> program.Program:
    """The program of a config on the same data, compiled once for all tests, whatever the seed and the data's path."""
    key = replace(config, {"seed": 0, "data.path": "of the same rows"}), data.fingerprint()
    kept = PROGRAMS.get(key) or PROGRAMS.setdefault(key, program.Program(config, data))
    made = copy.copy(kept)
    made.config = dataclasses.replace(kept.config, seed=config.seed, data=config.data)
    made.evaluation = kept.evaluation  # it is told the seeds
    return made


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """The programs go with the file: they hold hundreds of megabytes."""
    yield
    PROGRAMS.clear()


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The run that nothing interrupts; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", shared)
        return go(TINY, tmp_path_factory.mktemp("runs") / "straight").run


@pytest.fixture
def quick(monkeypatch):
    """Runs share their programs, and draw nothing."""
    monkeypatch.setattr(loop, "Program", shared)
    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)


# --- what a run leaves ------------------------------------------------------------------------------------------------


def test_the_run_directory_holds_what_is_promised(straight):
    promised = {"config.toml", "metrics.jsonl", "status.json", "timings.jsonl", "checkpoints", "figures"}
    assert promised <= set(os.listdir(straight)) and "run.lock" not in os.listdir(straight)
    assert (straight / "config.toml").read_text() == to_toml(TINY)
    assert (status(straight)["state"], status(straight)["step"]) == ("finished", 40)
    assert {"training.png", "samples-00000020.png", "samples-00000040.png"} <= set(os.listdir(straight / "figures"))
    assert {"20", "40"} <= set(os.listdir(straight / "checkpoints"))


def test_metrics_have_a_value_a_seed_and_scores_of_each(straight):
    steps = [line["step"] for line in lines(straight) if "scores" not in line]
    scored = [line for line in lines(straight) if "scores" in line]
    assert steps == [10, 20, 30, 40] and [line["step"] for line in scored] == [20, 40]
    for line in lines(straight):
        values = [line["scores"]] if "scores" in line else [v for k, v in line.items() if k != "step"]
        assert all(len(v) == TINY.seeds for v in values)
    assert [score["seed"] for score in scored[0]["scores"]] == [0, 1]
    assert {"bound", "penalty", "critic_gradient", "skipped"} <= set(lines(straight)[0])
    assert lines(straight)[0]["bound"][0] != lines(straight)[0]["bound"][1]


def test_only_timings_know_the_clock(straight):
    timed = lines(straight, "timings.jsonl")
    assert [line["step"] for line in timed if "seconds" in line] == [10, 20, 30, 40]
    assert sum("compile_seconds" in line for line in timed) == 1
    assert not [key for line in lines(straight) for key in line if "second" in key or "time" in key]


def test_the_outcome_names_the_run_and_its_last_scores(quick, tmp_path, straight):
    again = go(TINY, straight)  # a finished run has nothing left to do
    assert (again.run, again.step) == (straight, 40)
    assert again.scores == lines(straight)[-1]["scores"]


# --- one program ------------------------------------------------------------------------------------------------------


def test_a_run_is_traced_once(tmp_path, monkeypatch):
    traces, chunk = [], program.chunk

    def counted(config, data, n, **options):
        def spread(replicas):
            run = chunk(config, data, n, **options)(replicas)

            def traced(*arguments):
                traces.append(n)
                return run(*arguments)

            return traced

        return spread

    monkeypatch.setattr(program, "chunk", counted)
    go(TINY, tmp_path / "run")
    assert traces == [10]  # for four calls


def test_a_chunk_moves_nothing_between_host_and_device():
    """On a CPU jax guards the way in alone; the program itself must hold no way out."""
    arguments = (
        jnp.asarray(RING.rows),
        program.seed_numbers(TINY),
        program.fresh(TINY, RING),
        jnp.asarray(0, jnp.int32),
    )
    compiled = engines.compile_chunk(program.chunk(TINY, RING, 10), arguments, engines.layout(TINY.parallel))
    with jax.transfer_guard("disallow"):
        state, _ = jax.block_until_ready(compiled(*arguments))
        jax.block_until_ready(compiled(*arguments[:2], state, arguments[3]))
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
            compiled(*arguments[:3], np.int32(0))
    assert not re.findall(r"callback|infeed|outfeed|\bsend\(|\brecv\(", compiled.as_text())


# --- the same bits ----------------------------------------------------------------------------------------------------


def test_the_same_config_and_seed_give_the_same_run(tmp_path, straight):
    assert_same_run(go(TINY, tmp_path / "twin").run, straight)


def test_another_seed_gives_another_run(quick, tmp_path, straight):
    other = go(replaced(seed=1), tmp_path / "other").run
    bounds = [[line["bound"] for line in lines(run) if "bound" in line] for run in (straight, other)]
    assert bounds[0] != bounds[1]
    np.testing.assert_allclose(np.array(bounds[0])[:, 1], np.array(bounds[1])[:, 0], rtol=1e-4)  # both hold seed 1


def test_a_resumed_run_equals_an_uninterrupted_one(quick, tmp_path, straight):
    run = go(replaced(steps=20), tmp_path / "run").run
    assert (status(run)["state"], status(run)["step"]) == ("finished", 20)
    go(TINY, run)
    assert_same_run(run, straight)


@pytest.mark.slow
def test_a_run_resumed_between_boundaries_returns_to_them(quick, tmp_path, straight):
    """25 steps, then 40: the calls after the odd one end at multiples of log.every again, so that saves happen."""
    run = go(replaced(steps=25), tmp_path / "run").run
    go(TINY, run)
    found = {line["step"]: line["bound"] for line in lines(run) if "bound" in line}
    assert list(found) == [10, 20, 25, 30, 40]
    whole = next(line["bound"] for line in lines(straight) if line["step"] == 30)
    np.testing.assert_allclose(np.add(found[25], found[30]) / 2, whole, rtol=1e-5)
    a, b = (jax.tree.leaves(newest(RunDirectory.find(path))[-1]) for path in (run, straight))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


MOMENTS = {  # where the signal arrives, and at which step the run must have stopped
    "while compiling": ((engines, "compile_chunk", 1), 10),  # the one device
    "in a call": ((RunDirectory, "append", 30), 30),
    "after the save": ((RunDirectory, "status", 10), 20),
    "in a save": ((Checkpoints, "save", 20), 30),
    "in an evaluation": ((pictures, "samples", 20), 20),
}


def strike(monkeypatch, owner, method: str, step: int, act, *, call: int = 1) -> None:
    """Call `act` on entry to the `call`-th call of owner.method that has `step` among its arguments."""
    plain, calls = getattr(owner, method), []

    def struck(*args, **kwargs):
        number = {dict: lambda a: a.get("step"), int: int, engines.Layout: lambda a: a.n}
        if step in [number[type(a)](a) for a in args if type(a) in number]:
            calls.append(step)
            if len(calls) == call:
                act()
        return plain(*args, **kwargs)

    monkeypatch.setattr(owner, method, struck)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_stops_at_the_next_boundary_with_the_state_saved(request, tmp_path, monkeypatch, straight, moment):
    (where, at), number = MOMENTS[moment], signal.SIGINT if moment == "in a call" else signal.SIGTERM
    if moment != "while compiling":
        request.getfixturevalue("quick")
    before = signal.getsignal(number)
    strike(monkeypatch, *where, lambda: signal.raise_signal(number))
    with pytest.raises(Stopped) as stopped:
        go(TINY, tmp_path / "run")
    assert stopped.value.exit_code == 128 + number and str(at) in str(stopped.value)
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["step"]) == ("preempted", at)
    assert restore(tmp_path / "run").step == at
    assert signal.getsignal(number) is before and not (tmp_path / "run" / "run.lock").exists()
    go(TINY, tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


LATE = {  # where the signal arrives when no step is left, and how many evaluations are written then
    "in the last call": ((RunDirectory, "append", 40), 1),
    "in the last save": ((Checkpoints, "save", 40), 2),
    "at the end": ((RunDirectory, "status", 40), 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", LATE)
def test_a_signal_that_comes_late_leaves_the_rest_to_the_next_call(quick, tmp_path, monkeypatch, straight, moment):
    """The last evaluation, which may take long, or the pictures; a signal is never taken for nothing."""
    where, written = LATE[moment]
    strike(monkeypatch, *where, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped):
        go(TINY, tmp_path / "run")
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["step"]) == ("preempted", 40)
    assert sum("scores" in line for line in lines(tmp_path / "run")) == written
    for _ in range(2):  # and again, when there is nothing left to do
        go(TINY, tmp_path / "run")
        assert status(tmp_path / "run")["state"] == "finished"
        assert_same_run(tmp_path / "run", straight)


@pytest.mark.parametrize("where", [(RunDirectory, "append", 30), (Checkpoints, "save", 40)])
def test_a_second_signal_ends_at_once_and_the_run_resumes(quick, tmp_path, monkeypatch, straight, where):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    strike(monkeypatch, *where, twice)
    with pytest.raises(KeyboardInterrupt):
        go(TINY, tmp_path / "run")
    go(TINY, tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


def test_training_works_outside_the_main_thread(quick, tmp_path, straight):
    thread = threading.Thread(target=go, args=(TINY, tmp_path / "run"))
    thread.start()
    thread.join()
    assert_same_run(tmp_path / "run", straight)


LONG = """
import sys
from pathlib import Path
from fgan.config.toml import load
from fgan.run.loop import train
train(load(sys.argv[1]), sys.argv[2], quiet=True)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path):
    long = replaced(steps=600, log=Log(every=10, evaluate=60, checkpoint=20, samples=16))
    (tmp_path / "c.toml").write_text(to_toml(long))
    run, whole = tmp_path / "killed", tmp_path / "whole"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", LONG, str(tmp_path / "c.toml")]
    subprocess.run([*command, str(whole)], env=env, check=True)
    moments, kills = random.Random(0), 0
    for _ in range(4):
        size = _size(run)
        with subprocess.Popen([*command, str(run)], env=env) as child:
            while child.poll() is None and _size(run) == size:
                time.sleep(0.01)  # compiling, or reading the checkpoint
            time.sleep(moments.uniform(0.0, 1.5))
            child.kill()
        kills += child.returncode == -signal.SIGKILL
    assert kills >= 2
    subprocess.run([*command, str(run)], env=env, check=True)
    assert status(run)["state"] == "finished"
    assert_same_run(run, whole)


def _size(run: Path) -> int:
    try:
        return (run / "metrics.jsonl").stat().st_size
    except FileNotFoundError:
        return -1


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_another_config_in_the_directory_is_refused(quick, tmp_path, straight):
    before = (straight / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigConflict, match="batch was 16, is 32"):
        go(replaced(batch=32), straight)
    assert (straight / "metrics.jsonl").read_bytes() == before and status(straight)["state"] == "finished"


def test_overwrite_sets_the_old_run_aside(quick, tmp_path):
    short = replaced(steps=10)
    go(short, tmp_path / "run")
    go(replaced(steps=10, seed=5), tmp_path / "run", overwrite=True)
    assert [name for name in sorted(os.listdir(tmp_path))] == ["run", "run.old-1"]
    assert (tmp_path / "run.old-1" / "config.toml").read_text() == to_toml(short)
    assert lines(tmp_path / "run")[-1]["scores"][0]["seed"] == 5


@pytest.fixture
def own(tmp_path) -> Config:
    """A run on the user's own samples, far from the origin."""
    values = np.random.default_rng(0).normal(size=(60, 2)) * [1e-3, 50.0] + [7.0, 1000.0]
    np.save(tmp_path / "mine.npy", values)
    return replaced(steps=20, data=Data(name="samples", path=str(tmp_path / "mine.npy")))


@pytest.mark.slow
def test_changed_data_are_refused(quick, tmp_path, own):
    run = go(own, tmp_path / "run").run
    np.save(own.data.path, 2.0 * np.load(own.data.path))  # the same standardised rows, in other units
    kept = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="other data"):
        go(dataclasses.replace(own, steps=40), run)
    assert (run / "metrics.jsonl").read_bytes() == kept and restore(run).step == 20
    assert status(run)["state"] == "failed" and "other data" in status(run)["reason"]


@pytest.mark.slow
def test_a_run_that_never_saved_starts_again_on_other_data(quick, tmp_path, own, monkeypatch):
    def fall():
        raise KeyboardInterrupt

    with monkeypatch.context() as once, pytest.raises(KeyboardInterrupt):
        strike(once, Checkpoints, "save", 20, fall)
        go(own, tmp_path / "run")
    np.save(own.data.path, np.load(own.data.path) + 1.0)
    go(own, tmp_path / "run")
    columns = restore(tmp_path / "run").data.coordinates.columns
    np.testing.assert_allclose([c.offset for c in columns], [8.0, 1001.0], atol=20.0)
    assert columns[0].offset > 7.5


def test_a_diverged_run_fails_with_a_report(quick, tmp_path):
    wild = Optimizer(name="sgd", b1=0.0, learning_rate=1e30)
    config = replaced(
        divergence="kl",
        steps=200,
        critic=Critic(features=(8,), nonlinearity="relu"),
        generator_optimizer=wild,
        critic_optimizer=wild,
    )
    with pytest.raises(Diverged, match=r"nan_report\.json") as error:
        go(config, tmp_path / "run")
    assert error.value.exit_code == 4
    said, report = status(tmp_path / "run"), json.loads((tmp_path / "run" / "nan_report.json").read_text())
    assert said["state"] == "failed" and "nan_report.json" in said["reason"]
    assert loop.PATIENCE <= said["step"] < 200
    last = [line["skipped"] for line in lines(tmp_path / "run") if "skipped" in line][-loop.PATIENCE // 10 :]
    assert np.array(last).tolist() == [[1.0, 1.0]] * len(last) and min(report["skipped"]) >= loop.PATIENCE
    assert report["first_bad_step"] == said["step"] - max(report["skipped"])
    assert "config.toml" in report["replay"]


def test_what_cannot_be_built_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="needs images; ring has none"):
        go(replaced(generator=Generator(kind="image")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_the_devices_cannot_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "layout", lambda _: engines.Layout(tuple(jax.devices()) * 3))
    with pytest.raises(ConfigError, match="multiple of the 3"):
        go(TINY, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_without_its_checkpoints_does_not_start_again_in_silence(quick, tmp_path):
    run = go(replaced(steps=10), tmp_path / "run").run
    kept = (run / "metrics.jsonl").read_bytes()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="--overwrite"):
        go(replaced(steps=10), run)
    assert (run / "metrics.jsonl").read_bytes() == kept


def test_an_impossible_config_is_refused_at_the_door(tmp_path):
    with pytest.raises(ConfigError, match="steps"):
        go(replaced(steps=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- restore ----------------------------------------------------------------------------------------------------------


def test_restored_samples_are_in_the_users_units(quick, tmp_path, own):
    go(own, tmp_path / "run")
    os.remove(own.data.path)  # a run can be sampled without its data
    run = restore(tmp_path / "run")
    x = run.sample(500, seed=3)
    assert x.shape == (500, 2) and x.dtype == np.float64
    assert np.all(np.abs(x.mean(axis=0) - [7.0, 1000.0]) < 3 * np.array([1e-3, 50.0]))
    assert np.all(x.std(axis=0) < 5 * np.array([1e-3, 50.0])) and np.all(x.std(axis=0) > 0.0)
    plain = run.model.sample(run.state, jax.random.key(3), 500)
    back = run.data.coordinates.encode(x, np.arange(len(x)))
    np.testing.assert_allclose(back, plain, atol=1e-5)


def test_samples_are_a_function_of_seed_and_member(straight):
    run, other = restore(straight), restore(straight, 1)
    x = run.sample(5, seed=1)
    assert np.array_equal(x, restore(straight, 0).sample(5, seed=1))
    assert not np.array_equal(x, run.sample(5, seed=2)) and not np.array_equal(x, other.sample(5, seed=1))
    assert (other.config, other.step) == (replaced(seed=1, seeds=1), 40)
    for member in (-1, 2):
        with pytest.raises(ConfigError, match="seeds 0 to 1"):
            restore(straight, member)


def test_nothing_to_restore(tmp_path):
    with pytest.raises(RunNotFound):
        restore(tmp_path)
    RunDirectory.open(tmp_path / "begun", to_toml(TINY)).close()
    with pytest.raises(CheckpointError):
        restore(tmp_path / "begun")


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_every_seed_number_has_its_own_start():
    last = replaced(seed=2**32 - 3, seeds=2)
    assert check(last) is last
    assert np.array_equal(program.seed_numbers(last), np.array([2**32 - 3, 2**32 - 2], np.uint32))
    kernels = jax.tree.leaves(program.fresh(replaced(seeds=2), RING).generator)
    assert any(not np.array_equal(k[0], k[1]) for k in kernels)


# --- what is shipped, and every kind of data --------------------------------------------------------------------------


def two_steps(config: Config) -> Config:
    log = Log(every=1, evaluate=2, checkpoint=2, samples=min(config.log.samples, 64))
    return dataclasses.replace(config, steps=2, batch=16, log=log)


def shipped(path: Path, folder: Path) -> Config:
    """The config, with a file of samples or a folder of images where it asks for the user's own."""
    folder.mkdir(exist_ok=True)
    config = load_config(path)
    if config.data.name == "images":
        config = dataclasses.replace(config, data=Data(name="images", path=str(four(folder / "images"))))
    if config.data.name == "samples":
        np.save(folder / "mine.npy", np.random.default_rng(0).normal(size=(50, 3)))
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, path=str(folder / "mine.npy")))
    return check(two_steps(check(config)))


def test_shipped_configs_can_be_built(tmp_path):
    for path in (Path(__file__).parents[1] / "configs").glob("*.toml"):
        config = shipped(path, tmp_path / path.stem)
        jax.eval_shape(build(config, load_data(config.data)).init, jax.random.key(0))


@pytest.mark.parametrize("path", SHIPPED)
def test_shipped_configs_take_two_steps(tmp_path, monkeypatch, path):
    brief = functools.partial(evaluation.train_classifier, steps=10)  # that it learns is another test's concern
    monkeypatch.setattr(evaluation, "train_classifier", brief)
    out = go(shipped(path, tmp_path), tmp_path / "run")
    assert out.step == 2 and status(out.run)["state"] == "finished"
    assert all(line["skipped"] == [0.0] * len(line["skipped"]) for line in lines(out.run) if "skipped" in line)
    assert min(matplotlib.image.imread(out.run / "figures" / "samples-00000002.png").shape[:2]) > 200


KINDS = {
    "on the line": replaced(data=Data(name="mixture_1d"), generator=Generator(kind="location_scale", latent=1)),
    "any generator on the line": replaced(data=Data(name="two_modes"), generator=Generator(features=(8,), latent=1)),
    "digits, convolutions": replaced(
        data=Data(name="digits"),
        generator=Generator(kind="image", features=(4, 4), latent=4),
        critic=Critic(kind="image", features=(4, 4)),
    ),
    "digits, dense": replaced(data=Data(name="digits")),
}


@pytest.mark.slow
@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_kind_of_data_trains_evaluates_and_restores(tmp_path, config):
    out = go(check(two_steps(config)), tmp_path / "run")
    dim = load_data(config.data).dim
    x = restore(out.run).sample(20)
    assert x.shape == (20, dim) and np.isfinite(x).all()
    if config.data.name == "digits":
        assert x.min() >= 0.0 and x.max() <= 255.0 and x.std() > 1.0
    else:
        assert TARGETS[config.data.name].dim == dim


@pytest.mark.parametrize("labelled", [pytest.param(True, marks=pytest.mark.slow), False])
def test_images_of_a_folder_are_scored_and_come_back_as_bytes(tmp_path, monkeypatch, labelled):
    """By their classes where they have labels; a changed folder is not the run's any more."""
    monkeypatch.setattr(evaluation, "train_classifier", functools.partial(evaluation.train_classifier, steps=10))
    folder = four(tmp_path / "images")
    if not labelled:
        (folder / TEST_LABELS).unlink()
    config = check(two_steps(replaced(data=Data(name="images", path=str(folder)))))
    out = go(config, tmp_path / "run")
    expected = {"class_histogram", "class_kl", "held_out_images"} if labelled else {"precision", "held_out_samples"}
    assert expected | {"nearest_training"} <= set(out.scores[0])
    assert labelled == ("class_kl" in out.scores[0]) == ("features" in out.scores[0])
    x = restore(out.run).sample(20)
    assert x.shape == (20, 64) and x.min() >= 0.0 and x.max() <= 255.0 and x.std() > 1.0
    (folder / TRAIN).write_bytes(idx(pixels(60, seed=5), 8))
    with pytest.raises(CheckpointError):
        go(dataclasses.replace(config, steps=4), out.run)


@pytest.mark.parametrize("name", ["two_moons", "swiss_roll"])
def test_curves_are_scored_in_their_own_units(tmp_path, name):
    """A generator that draws from the curve scores as a perfect one, within the noise of 2,000 samples."""
    config = replaced(data=Data(name=name), log=dataclasses.replace(TINY.log, samples=2000))
    data = load_data(config.data)
    gan = build(config, data)
    evaluate = evaluation.Evaluation(config, data, gan)
    evaluate._sample = lambda state, keys: jax.vmap(lambda key: data.draw(key, jnp.asarray(data.rows), 2000))(keys)
    samples, scores = evaluate(program.fresh(config, data), 0)
    assert samples.shape == (2, 2000, 2)
    for s in scores:
        assert s["high_quality"] == pytest.approx(s["high_quality_of_perfect"], abs=5 * np.sqrt(0.0027 / 2000))
        assert 0.0 < s["curve_kl"] < 3 * s["curve_kl_floor"] and s["width_ratio"] == pytest.approx(1.0, abs=0.1)
        assert s["log_density"] == pytest.approx(s["log_density_of_perfect"], abs=5 * 0.8 / np.sqrt(2000))


@pytest.mark.parametrize("n", [10, 15, 20])
def test_few_samples_are_scored_as_far_as_they_can_be(tmp_path, n):
    np.save(tmp_path / "few.npy", np.arange(2.0 * n).reshape(n, 2) ** 2)
    config = replaced(data=Data(name="samples", path=str(tmp_path / "few.npy")))
    data = load_data(config.data)
    _, scores = evaluation.Evaluation(config, data, build(config, data))(program.fresh(config, data), 0)
    assert [set(score) >= {"seed", "precision", "recall"} for score in scores] == [n == 20] * 2

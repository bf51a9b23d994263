"""A run is known by its settings and by what its data hold: it may be moved, copied and read from anywhere."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands_for_tests import TINY, Command, Said, command

from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Data
from fgan.config.toml import from_toml, load
from fgan.data.own_samples import own_samples
from fgan.run import sweep
from fgan.run.loop import train
from fgan.run.members import restore

ROOT = Path(__file__).resolve().parent.parent
ON_A_FILE = TINY + '[data]\nname = "samples"\npath = "mine.csv"\n'
SEED, N = 3, 40


@pytest.fixture
def fgan(capsys, undrawn) -> Command:
    """The command line in this process."""
    return command(capsys)


@pytest.fixture(scope="module")
def home(tmp_path_factory, undrawn) -> Path:
    """A folder with a config, its data beside it, and a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("home")
    rows = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 50.0] + [7.0, 1000.0]
    np.savetxt(folder / "mine.csv", rows, delimiter=",")
    (folder / "tiny.toml").write_text(ON_A_FILE)
    train(load(folder / "tiny.toml"), folder / "run", quiet=True)
    return folder


@pytest.fixture(scope="module")
def drawn(home) -> np.ndarray:
    """What the run draws."""
    return restore(home / "run").sample(N, seed=SEED)


@pytest.fixture
def copied(home, tmp_path) -> Path:
    """A copy of the whole folder."""
    return shutil.copytree(home, tmp_path / "copy")


def draws(run: Path) -> np.ndarray:
    return restore(run).sample(N, seed=SEED)


def assert_refused(said: Said, code: int, *parts: str) -> None:
    """One line on stderr, which holds `parts`, and the code."""
    assert (said.code, said.err.count("\n")) == (code, 1), said
    assert said.err.startswith("fgan: ") and [part for part in parts if part not in said.err] == [], said.err


# --- the data of a run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelled", ["mine.csv", "./sub/../mine.csv", "absolute", "elsewhere"])
def test_a_run_goes_on_however_its_file_is_spelled(fgan, copied, tmp_path, monkeypatch, drawn, spelled):
    (copied / "sub").mkdir()
    elsewhere = shutil.move(copied / "mine.csv", tmp_path / "moved.csv") if spelled == "elsewhere" else None
    monkeypatch.chdir(copied)
    path = elsewhere or (copied / "mine.csv" if spelled == "absolute" else spelled)
    said = fgan("train", "tiny.toml", "--run", "run", "--data.path", path, "--quiet")
    assert said.code == 0, said
    assert load(copied / "run" / "config.toml").data.path == os.path.realpath(path)
    np.testing.assert_array_equal(draws(copied / "run"), drawn)


def test_another_content_is_refused_by_name_and_size(fgan, copied):
    rows = np.loadtxt(copied / "mine.csv", delimiter=",")
    np.savetxt(copied / "mine.csv", rows[:-1], delimiter=",")
    said = fgan("train", copied / "tiny.toml", "--run", copied / "run", "--quiet")
    assert_refused(said, 5, "other data", "mine.csv with 60 rows", "mine.csv with 59 rows", "--data.path", "--run")


def test_other_rows_to_judge_by_are_other_data(copied):
    np.savetxt(copied / "held.csv", np.loadtxt(copied / "mine.csv", delimiter=",")[:20], delimiter=",")
    data = Data(name="samples", path=str(copied / "mine.csv"), held_out=str(copied / "held.csv"))
    first = own_samples(data).fingerprint()
    shutil.copy(copied / "held.csv", copied / "copy.csv")
    assert own_samples(dataclasses.replace(data, held_out=str(copied / "copy.csv"))).fingerprint() == first
    np.savetxt(copied / "held.csv", np.loadtxt(copied / "mine.csv", delimiter=",")[1:21], delimiter=",")
    assert own_samples(data).fingerprint() != first


def test_the_place_of_the_data_may_be_edited_and_nothing_else(fgan, copied, drawn):
    config = copied / "run" / "config.toml"
    os.remove(copied / "mine.csv")
    text = re.sub(r'path = ".*"', 'path = "/gone/mine.csv"', config.read_text())
    config.write_text(text)
    np.testing.assert_array_equal(draws(copied / "run"), drawn)
    config.write_text(text.replace("batch = 16", "batch = 32"))
    assert_refused(fgan("sample", copied / "run", "--out", copied / "x.npy"), 5, "config.toml")


def test_a_missing_file_is_named_with_the_places_that_were_tried(fgan, copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    os.remove(copied / "mine.csv")
    said = fgan("train", copied / "tiny.toml", "--run", copied / "run", "--quiet")
    assert_refused(said, 3, str(copied / "mine.csv"), "No such file", f"working directory, {copied.parent}")


def test_a_file_that_the_readers_refuse_names_the_options_of_training(fgan, copied):
    (copied / "mine.csv").write_text("".join(f"{i * i % 7},{i}\n" for i in range(20)) + "1,inf\n")
    said = fgan("train", copied / "tiny.toml", "--run", copied / "other", "--quiet")
    assert_refused(said, 3, "(--data.nan-policy omit)")
    np.savez(copied / "mine.npz", a=np.eye(2), b=np.eye(2))
    words = ("--data.path", copied / "mine.npz", "--quiet")
    assert_refused(fgan("train", copied / "tiny.toml", "--run", copied / "other", *words), 3, "(--data.key)")


# --- relative paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beside, there", [(True, False), (False, True), (True, True), (False, False)])
def test_a_path_in_a_config_begins_at_its_folder_or_else_where_one_is(tmp_path, monkeypatch, beside, there):
    config, work = tmp_path / "configs", tmp_path / "work"
    for folder, has in ((config, beside), (work, there)):
        folder.mkdir()
        if has:
            (folder / "x.csv").touch()
    (config / "c.toml").write_text('[data]\npath = "x.csv"\n')
    monkeypatch.chdir(work)
    assert load(config / "c.toml").data.path == str((work if there and not beside else config) / "x.csv")


@pytest.mark.parametrize("field", ["path", "held_out", "columns"])
def test_a_tilde_is_the_home_and_stored_paths_are_taken_as_they_are(tmp_path, monkeypatch, field):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.toml").write_text(f'[data]\n{field} = "~/x.csv"\n')
    assert getattr(load(tmp_path / "c.toml").data, field) == str(tmp_path / "x.csv")
    assert getattr(from_toml(f'[data]\n{field} = "x.csv"\n').data, field) == "x.csv"


def test_standard_input_stays_standard_input(tmp_path):
    (tmp_path / "c.toml").write_text('[data]\npath = "-"\n')
    assert load(tmp_path / "c.toml").data.path == "-"


def test_a_sweep_finds_its_config_and_its_data_by_the_same_rule(copied, monkeypatch):
    (copied / "sweeps").mkdir()
    file = copied / "sweeps" / "s.toml"
    grid = '[grid]\n"data.path" = ["../mine.csv"]\n'
    file.write_text('config = "../tiny.toml"\n' + grid)
    monkeypatch.chdir(copied.parent)
    plan = sweep.load(file)
    assert plan.base.data.path == plan.grid["data.path"][0] == str(copied / "mine.csv")
    file.write_text('config = "copy/tiny.toml"\n' + grid)
    assert sweep.load(file).base == plan.base
    file.write_text('config = "nowhere.toml"\n' + grid)
    with pytest.raises(ConfigError, match=f"neither in {file.parent} nor in the working directory, {copied.parent}"):
        sweep.load(file)


def test_a_run_from_python_stores_where_its_data_are(home, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(home)
    config = dataclasses.replace(load("tiny.toml"), data=Data(name="samples", path="mine.csv"))
    run = train(dataclasses.replace(config, steps=10), tmp_path / "run", quiet=True).run
    assert load(run / "config.toml").data.path == str(home / "mine.csv")


# --- the directory of a run -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", "Zwölf 样本", "link"])
def test_a_directory_that_was_moved_draws_the_same(fgan, home, copied, tmp_path, drawn, name):
    moved = tmp_path / name
    if name == "link":
        moved.symlink_to(copied / "run")
    else:
        shutil.move(copied / "run", moved)
    out = tmp_path / "x.npy"
    assert fgan("sample", moved, "-n", N, "--seed", SEED, "--out", out).code == 0
    np.testing.assert_array_equal(np.load(out), drawn)
    assert fgan("train", home / "tiny.toml", "--run", moved, "--quiet").code == 0


def tree(folder: Path) -> dict[str, tuple]:
    """Every path below a folder with its content and the times at which it changed."""
    found = [folder, *sorted(folder.rglob("*"))]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_ctime_ns, p.is_file() and p.read_bytes()) for p in found}


def test_sampling_writes_nothing_even_where_a_step_is_damaged(fgan, copied, tmp_path):
    """Nothing but the samples: so that it works where nothing may be written."""
    for file in (copied / "run" / "checkpoints" / "20").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0" * file.stat().st_size)
    before = tree(copied / "run")
    said = fgan("sample", copied / "run", "-n", N, "--out", tmp_path / "x.npy")
    assert said.code == 0 and "from step 10" in said.out
    assert said.err.count("\n") == 1 and said.err.startswith("fgan: checkpoint") and "cannot be used" in said.err
    assert tree(copied / "run") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_run_that_may_only_be_read_is_sampled(copied, drawn):
    folders = [copied / "run", *(p for p in (copied / "run").rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    np.testing.assert_array_equal(draws(copied / "run"), drawn)
    for folder in folders:
        folder.chmod(0o700)


def test_names_that_are_no_utf_8_are_refused(fgan, copied, tmp_path):
    strange = os.fsdecode(b"r\xe9sum\xe9")
    shutil.move(copied / "run", tmp_path / strange)
    words = ("--out", tmp_path / "x.npy")
    assert_refused(fgan("sample", tmp_path / strange, *words), 2, r"r\udce9sum\udce9", "UTF-8", "rename")
    said = fgan("train", copied / "tiny.toml", "--run", tmp_path / strange, "--quiet")
    assert_refused(said, 2, r"r\udce9sum\udce9", "UTF-8", "--run")
    shutil.move(copied / "mine.csv", copied / (strange + ".csv"))
    said = fgan("train", copied / "tiny.toml", "--data.path", copied / (strange + ".csv"), "--run", tmp_path / "new")
    assert_refused(said, 2, "data.path", "UTF-8", "rename") and not (tmp_path / "new").exists()


# --- other devices, other members -------------------------------------------------------------------------------------

ELSEWHERE = """
import contextlib, sys
from fgan.cli.main import main
home, out, wide, *words = sys.argv[1:]
sharded = ["--parallel.engine", "sharded", "--parallel.parameters", "sharded"]
commands = [["sample", home + "/run", *words, "--out", out + "/same.npy"]]
if wide == "True":
    commands += [["train", home + "/tiny.toml", "--run", out + "/wide", "--quiet", *sharded]]
    commands += [["sample", out + "/wide", *words, "--out", out + "/wide.npy"]]
for command in commands:
    with contextlib.suppress(SystemExit):
        main(command)
"""


@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_samples_do_not_depend_on_devices_or_engine(home, tmp_path, drawn, wide):
    """A run of one device drawn from on two, and a run of two devices, its parameters divided, drawn from on one."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    words = (home, tmp_path, wide, "-n", N, "--seed", SEED)
    command = [sys.executable, "-c", ELSEWHERE, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "same.npy").exists(), done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "same.npy"), drawn)
    if wide:
        np.testing.assert_array_equal(np.load(tmp_path / "wide.npy"), draws(tmp_path / "wide"))


@pytest.mark.slow
def test_the_first_of_several_seeds_is_the_run_of_that_seed_but_for_rounding(home, tmp_path, drawn, undrawn):
    config: Config = dataclasses.replace(load(home / "tiny.toml"), seeds=2)
    both = train(config, tmp_path / "both", quiet=True).run
    scale = drawn.std(axis=0)
    np.testing.assert_allclose(draws(both) / scale, drawn / scale, atol=1e-3)
    other = restore(both, 1).sample(N, seed=SEED)
    assert np.abs(other - drawn).max() > 0.1 * scale.min()

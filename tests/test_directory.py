"""A run directory has one writer, one configuration, whole lines and honest refusals."""

import errno
import json
import os
import resource
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from fgan.run import checkpoint, directory, whole_files
from fgan.run.checkpoint import CheckpointError
from fgan.run.directory import ConfigConflict, ResourceError, RunDirectory, RunNotFound
from fgan.run.lock import RunLocked

CONFIG = """
steps = 100
seed = 0
divergence = "kl"
[critic]
width = 64
[log]
every = 10
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "a run"


def changed(old: str, new: str) -> str:
    assert old in CONFIG
    return CONFIG.replace(old, new)


def refused(kind: type[Exception], path: Path, config: str = CONFIG, **options) -> str:
    """The one line of the refusal."""
    with pytest.raises(kind) as error:
        RunDirectory.open(path, config, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_new_run(path):
    with RunDirectory.open(path, CONFIG) as run:
        assert run.path == path
        assert run.config_toml == CONFIG
        assert sorted(os.listdir(path)) == ["config.toml", "run.lock"]
        holder = json.loads((path / "run.lock").read_text())
        assert (holder["pid"], holder["host"]) == (os.getpid(), socket.gethostname())
        assert run.checkpoints.is_dir()
    assert sorted(os.listdir(path)) == ["checkpoints", "config.toml"]


@pytest.mark.parametrize("config", [CONFIG, changed("100", "500"), changed("every = 10", "every = 1\nfile = 'x'")])
def test_resuming(path, config):
    with RunDirectory.open(path, CONFIG) as run:
        run.append({"step": 1})
        fingerprint = run.fingerprint
    with RunDirectory.open(path, config) as run:
        assert run.size() > 0
        assert run.config_toml == config and run.fingerprint == fingerprint


CONFLICTS = [
    (changed("64", "128"), ["critic.width was 64, is 128"]),
    (changed('"kl"', '"js"').replace("seed = 0", "seed = 1"), ['divergence was "kl", is "js"', "seed was 0, is 1"]),
    (changed("seed = 0\n", ""), ["seed was 0, is unset"]),
    (CONFIG + "[generator]\ndepth = 2\n", ["generator.depth was unset, is 2"]),
    (changed("seed = 0", "seed = false"), ["seed was 0, is false"]),
    (changed("width = 64", '"width\\n" = 64'), ['critic."width\\n" was unset, is 64']),
]


@pytest.mark.parametrize(("config", "differences"), CONFLICTS)
def test_another_configuration_conflicts(path, config, differences):
    RunDirectory.open(path, CONFIG).close()
    line = refused(ConfigConflict, path, config)
    assert all(difference in line for difference in differences)
    assert os.listdir(path) == ["config.toml"] and (path / "config.toml").read_text() == CONFIG


def test_what_may_change_is_for_the_caller_to_say(path):
    RunDirectory.open(path, CONFIG, changeable=()).close()
    assert "steps was 100, is 7" in refused(ConfigConflict, path, changed("100", "7"), changeable=())
    line = refused(ConfigConflict, path, changed("every = 10", "every = 1"), changeable=("lo", "log.ever"))
    assert "log.every" in line
    with RunDirectory.open(path, changed("64", "8"), changeable=("critic.width",)):
        pass


def test_layout_of_the_toml_does_not_matter(path):
    RunDirectory.open(path, CONFIG).close()
    table = "critic = {width = 0x40} # another hand\nlog.every = 10\n"
    with RunDirectory.open(path, table + 'divergence = "kl"\nseed = 0\nsteps = 100') as run:
        assert not run.records()


def test_overwrite_sets_the_old_run_aside(path):
    for seed in range(3):
        with RunDirectory.open(path, changed("seed = 0", f"seed = {seed}"), overwrite=True) as run:
            assert run.size() == 0
            run.append({"seed": seed})
    assert sorted(os.listdir(path.parent)) == ["a run", "a run.old-1", "a run.old-2"]
    for name, seed in (("a run.old-1", 0), ("a run.old-2", 1), ("a run", 2)):
        old = path.parent / name
        assert sorted(os.listdir(old)) == ["config.toml", "metrics.jsonl"]
        assert tomllib.loads((old / "config.toml").read_text())["seed"] == seed
        assert json.loads((old / "metrics.jsonl").read_text()) == {"seed": seed}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_directory_that_is_no_run_is_left_alone(path, overwrite):
    path.mkdir(parents=True)
    (path / "work").mkdir()
    for name in ("thesis.tex", ".mine.tmp.txt", "work/.other.tmp"):  # hidden ones are named like our own drafts
        (path / name).write_text("years")
    assert "thesis.tex" in refused(ConfigConflict, path, overwrite=overwrite)
    assert sorted(os.listdir(path)) == [".mine.tmp.txt", "thesis.tex", "work"]
    assert os.listdir(path / "work") == [".other.tmp"]
    assert os.listdir(path.parent) == ["a run"]


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_damaged_configuration_conflicts(path, content):
    path.mkdir(parents=True)
    (path / "config.toml").write_bytes(content)
    assert "cannot be read" in refused(ConfigConflict, path)
    with RunDirectory.open(path, CONFIG, overwrite=True) as run:
        assert run.config_toml == CONFIG


def test_a_killed_creation_is_begun_again(path):
    path.mkdir(parents=True)
    (path / ".config.toml.tmp").write_text("steps")
    (path / "run.lock").touch()
    with RunDirectory.open(path, CONFIG) as run:
        assert run.config_toml == CONFIG


def test_a_run_in_use_is_refused_whatever_is_asked(path):
    with RunDirectory.open(path, CONFIG):
        assert f"process {os.getpid()} on {socket.gethostname()}" in refused(RunLocked, path, overwrite=True)
    RunDirectory.open(path, CONFIG).close()
    assert os.listdir(path.parent) == ["a run"]


def test_the_lock_is_released_in_any_case(path):
    with pytest.raises(KeyError), RunDirectory.open(path, CONFIG):
        raise KeyError
    assert not (path / "run.lock").exists()


def test_lines_are_strict_json(path):
    record = {
        "step": np.int64(3),
        "loss": np.float32(0.5),
        "nan": float("nan"),
        "seeds": jnp.array([1.0, jnp.inf, -jnp.inf]),
        "nested": {"pair": (1, np.nan), 2: [np.bool_(True)]},
        "name": "ångström",
    }
    with RunDirectory.open(path, CONFIG) as run:
        run.append(record)
        run.append({"step": 4})
        run.append({"seconds": 0.1}, "timings.jsonl")
    first, second = (path / "metrics.jsonl").read_text().splitlines()
    expected = {"step": 3, "loss": 0.5, "nan": None, "seeds": [1.0, None, None], "name": "ångström"}
    expected["nested"] = {"pair": [1, None], "2": [True]}
    assert json.loads(first, parse_constant=pytest.fail) == expected
    assert json.loads(second) == {"step": 4}
    assert json.loads((path / "timings.jsonl").read_text()) == {"seconds": 0.1}


def test_a_record_json_cannot_hold_writes_nothing(path):
    with RunDirectory.open(path, CONFIG) as run:
        run.append({"step": 1})
        before = run.size()
        with pytest.raises(TypeError):
            run.append({"step": 2, "what": object()})
        assert run.size() == before


def test_a_full_disk_leaves_no_half_line(path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunDirectory.open(path, CONFIG) as run:
        run.append({"step": 1})
        before = (path / "metrics.jsonl").read_bytes()
        for room in (5, 0):
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + room, hard))
                with pytest.raises(ResourceError, match="cannot write in"):
                    run.append({"step": 2, "text": "longer than five bytes"})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert (path / "metrics.jsonl").read_bytes() == before
        run.append({"step": 2})
        assert run.size() == 2 * len(before)


@pytest.mark.parametrize("half", [b"", b'{"st', b'{"step": 3}'])
def test_the_half_line_of_a_killed_writer_is_cut(path, half):
    with RunDirectory.open(path, CONFIG) as run:
        run.append({"step": 1})
        run.append({"step": 2})
        whole = (path / "metrics.jsonl").read_bytes()
    (path / "metrics.jsonl").write_bytes(whole + half)
    (path / "timings.jsonl").write_bytes(half)
    with RunDirectory.open(path, CONFIG) as run:
        assert (run.size(), run.size("timings.jsonl")) == (len(whole), 0)
        assert (path / "metrics.jsonl").read_bytes() == whole


def test_cutting_back_to_the_checkpoint(path):
    with RunDirectory.open(path, CONFIG) as run:
        run.cut("metrics.jsonl", 0)
        sizes = []
        for step in range(3):
            run.append({"step": step})
            sizes.append(run.size())
        assert sizes == [12, 24, 36]
        (path / "metrics.jsonl").write_text((path / "metrics.jsonl").read_text() + '{"ste')
        run.cut("metrics.jsonl", sizes[1])
        assert (path / "metrics.jsonl").read_text() == '{"step": 0}\n{"step": 1}\n'
        for wrong, message in ((25, "lines were lost"), (23, "no line ends"), (-1, "counts -1")):
            with pytest.raises(CheckpointError, match=message):
                run.cut("metrics.jsonl", wrong)
        run.append({"step": 5})
        run.cut("metrics.jsonl", 0)
        assert run.size() == 0


@pytest.mark.parametrize("state", directory.STATES)
def test_status(path, state):
    with RunDirectory.open(path, CONFIG) as run:
        run.status("running", 0)
        run.status(state, np.int32(7), best=np.float64(0.25), bound=float("inf"))
        expected = {"state": state, "step": 7, "best": 0.25, "bound": None}
        assert json.loads((path / "status.json").read_text()) == expected
        with pytest.raises(ValueError, match="running, finished, preempted, failed"):
            run.status("done", 8)
        assert json.loads((path / "status.json").read_text()) == expected


def test_a_status_that_cannot_be_written_leaves_the_old_one(path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with RunDirectory.open(path, CONFIG) as run:
        run.status("running", 1)
        monkeypatch.setattr(checkpoint.os, "fsync", full)
        with pytest.raises(ResourceError, match="No space left"):
            run.status("running", 2)
        assert sorted(os.listdir(path)) == ["config.toml", "run.lock", "status.json"]
        assert json.loads((path / "status.json").read_text())["step"] == 1


def test_a_nearly_full_disk_is_found_before_the_run(path, monkeypatch):
    def full(path, text, write=whole_files.write_atomic):
        if len(text) > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, text)

    monkeypatch.setattr(directory, "write_atomic", full)
    assert f"cannot write in {path}: No space left on device; free some space" in refused(ResourceError, path)
    assert os.listdir(path) == []


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write in" in refused(ResourceError, tmp_path / "file" / "run")
    assert "cannot write in" in refused(ResourceError, tmp_path / "file")
    assert "File name too long" in refused(ResourceError, tmp_path / ("x" * 300))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(path):
    path.mkdir(parents=True)
    path.chmod(0o500)
    assert "Permission denied" in refused(ResourceError, path)


@pytest.mark.parametrize("name", ["../metrics.jsonl", "a/b", "", ".hidden", "a\n"])
def test_files_outside_the_run_are_refused(path, name):
    with RunDirectory.open(path, CONFIG) as run:
        for call in (lambda: run.append({}, name), lambda: run.size(name), lambda: run.cut(name, 0)):
            with pytest.raises(ValueError, match="no usable name"):
                call()


def test_finding_a_run_changes_nothing(path):
    with pytest.raises(RunNotFound, match="no run directory"):
        RunDirectory.find(path)
    assert not path.parent.exists()
    with RunDirectory.open(path, CONFIG) as run:
        found = RunDirectory.find(path)
        assert (found.config_toml, found.fingerprint) == (CONFIG, run.fingerprint)
        found.close()
        assert (path / "run.lock").exists()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("modes", "kl", 0), "modes-kl-seed0"),
        (("modes", "alpha(0.5)", 3), "modes-alpha-0.5-seed3"),
        (("modes", "alpha(-0.5)", 3), "modes-alpha--0.5-seed3"),
        (("two words", "js_weighted(0.3)", 12), "two-words-js_weighted-0.3-seed12"),
        (("../../etc/passwd", "kl", 0), "etc-passwd-kl-seed0"),
        ((".hidden", "kl\n\x1b[31m", 0), "hidden-kl-31m-seed0"),
    ],
)
def test_default_names(arguments, name):
    assert RunDirectory.default_name(*arguments) == f"runs/{name}"


@pytest.mark.parametrize("stem", ["", "...", "модель", "x" * 100])
def test_stems_that_give_no_name(stem):
    with pytest.raises(ValueError, match="name"):
        RunDirectory.default_name(stem, "kl", 0)


@pytest.mark.parametrize(
    ("kind", "code", "base"),
    [
        (ConfigConflict, 2, ValueError),
        (CheckpointError, 5, RuntimeError),
        (RunNotFound, 5, CheckpointError),
        (RunLocked, 6, RuntimeError),
        (ResourceError, 7, RuntimeError),
    ],
)
def test_exit_codes(kind, code, base):
    assert kind.exit_code == code and issubclass(kind, base)


def test_a_run_can_be_killed_and_resumed(path):
    """The lock of a process that ended without a word is taken over by the next."""
    script = (
        "import os, sys; from fgan.run.directory import RunDirectory; RunDirectory.open(sys.argv[1], ''); os._exit(9)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(directory.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", script, path], env=environment, check=False).returncode == 9
    assert (path / "run.lock").exists()
    RunDirectory.open(path, "").close()

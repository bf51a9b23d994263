"""A full disk, or too little memory, ends a run with exit code 7 and one line; nothing good is lost, and it goes on.

The disk is full by the largest size that the system lets a file grow to, which needs no rights and fails in calls of
the system itself: from a moment on, none may grow.
"""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from matplotlib.figure import Figure
from test_loop import PROGRAMS, TINY, assert_same_run, go, lines, replaced, shared, status

from fgan.cli.main import main
from fgan.config.schema import Critic, Generator, Optimizer, replace
from fgan.config.toml import to_toml
from fgan.data.sources import load as load_data
from fgan.devices import engines
from fgan.run import compile_cache, loop, pictures, program
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import ResourceError, RunDirectory
from fgan.run.loop import Diverged, Loop
from fgan.run.program import Program

ROOT = Path(__file__).resolve().parent.parent
SAVES = replace(TINY, {"log.checkpoint": 10, "log.evaluate": 20})


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """The programs go with the file."""
    yield
    PROGRAMS.clear()


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """The run that nothing interrupts; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", shared)
        return go(SAVES, tmp_path_factory.mktemp("runs") / "straight").run


@pytest.fixture
def quick(monkeypatch):
    """Runs share their programs, and draw nothing."""
    monkeypatch.setattr(loop, "Program", shared)
    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)


@contextlib.contextmanager
def room_again():
    """Files may grow again after this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full(n_bytes: int = 0) -> None:
    """From now on no file may grow beyond this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def assert_kept(run: Path, *steps: int) -> None:
    """The checkpoints are those of `steps`, all sound; each line is whole, and nothing half-written lies about."""
    for name in ("metrics.jsonl", "timings.jsonl"):
        assert (run / name).read_bytes()[-1:] in (b"\n", b"") and lines(run, name) is not None
    found = RunDirectory.find(run)
    fingerprint = loop.fingerprint(found, json.loads((run / "data.json").read_text())["fingerprint"])
    examined = Checkpoints(run / "checkpoints", fingerprint=fingerprint).examined()
    assert [(one.step, one.fault) for one in examined] == [(step, None) for step in steps]
    assert [path for path in run.rglob("*") if path.name.startswith((".", "tmp-"))] == []


MOMENTS = {  # the call that meets the full disk; the steps that are kept; a part of the line
    "the data": (loop, "write_data", lambda *_: True, (), "cannot write in"),
    "the first save": (Checkpoints, "save", lambda _, step, *__: step == 10, (), "no step was saved before it"),
    "a later save": (Checkpoints, "save", lambda _, step, *__: step == 30, (10, 20), "step 20 is kept. It takes"),
    "a line of metrics": (RunDirectory, "append", lambda _, line, *__: line["step"] == 30, (10, 20), "cannot write in"),
    "samples": (RunDirectory, "write_array", lambda _, folder, step, *__: step == 20, (10,), "cannot write in"),
    "the status": (RunDirectory, "status", lambda _, state, step=0, **__: step == 20, (10, 20), "cannot write in"),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_nothing_good_is_lost_and_the_run_goes_on(quick, tmp_path, monkeypatch, straight, capfd, moment):
    owner, method, now, kept, part = MOMENTS[moment]
    plain, run = getattr(owner, method), tmp_path / "run"

    def struck(*given, **options):
        if now(*given):
            full((run / "metrics.jsonl").stat().st_size + 9 if method == "append" else 0)  # room for half a line
        return plain(*given, **options)

    with monkeypatch.context() as patch, room_again():
        patch.setattr(owner, method, struck)
        with pytest.raises(ResourceError) as error:
            go(SAVES, run)
    assert error.value.exit_code == 7 and "\n" not in str(error.value) and part in str(error.value)
    if moment != "the data":
        assert_kept(run, *kept)
    go(SAVES, run)
    assert_same_run(run, straight)
    assert capfd.readouterr() == ("", "")


def test_a_picture_is_drawn_whole_or_not_at_all(tmp_path, monkeypatch, straight):
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    picture = run / "figures" / "training.png"
    before = picture.read_bytes()
    with room_again(), pytest.raises(OSError, match="too large"):
        full(1000)
        pictures.training(run)
    assert picture.read_bytes() == before

    def refuse(self, path):
        path.write_bytes(before[:99])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(loop, "Program", shared)
    monkeypatch.setattr(Figure, "savefig", refuse)
    go(SAVES, run)  # a picture that fails is no reason to fail
    assert picture.read_bytes() == before and status(run)["state"] == "finished"
    assert list(picture.parent.glob(".*")) == []


@pytest.mark.slow
def test_a_report_of_divergence_is_whole_or_not_there(quick, tmp_path, monkeypatch):
    wild = Optimizer(name="sgd", b1=0.0, learning_rate=1e30)
    relu = Critic(features=(8,), nonlinearity="relu")
    config = replaced(divergence="kl", steps=200, critic=relu, generator_optimizer=wild, critic_optimizer=wild)
    plain = RunDirectory.write

    def struck(self, name, content):
        if name == "nan_report.json":
            full()
        plain(self, name, content)

    with monkeypatch.context() as patch, room_again(), pytest.raises(ResourceError):
        patch.setattr(RunDirectory, "write", struck)
        go(config, tmp_path / "run")
    assert not (tmp_path / "run" / "nan_report.json").exists()
    with pytest.raises(Diverged):
        go(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "nan_report.json").read_text())["first_bad_step"] >= 0


def test_a_disk_with_too_little_room_is_found_before_compiling(quick, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(Program, "compiled", lambda *_: pytest.fail("compiled"))
    with pytest.raises(ResourceError, match=r"3 checkpoints of 2\.\d+ KiB need more than the 1000 B that are free"):
        go(SAVES, tmp_path / "run")
    usage.free = 10**5
    with pytest.raises(pytest.fail.Exception, match="compiled"):
        go(SAVES, tmp_path / "run")


def test_a_resumed_run_needs_room_for_what_it_has_not_saved(quick, tmp_path, monkeypatch, straight):
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match=r"1 checkpoints of"):
        go(replace(SAVES, {"steps": 50}), run)
    go(SAVES, run)  # it has nothing left to save
    assert_same_run(run, straight)


def test_checkpoints_that_are_gone_are_no_fresh_start(quick, tmp_path, monkeypatch, straight):
    """Of a run that was stopped as of one that finished."""
    run = Path(shutil.copytree(straight, tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    (run / "status.json").write_text(json.dumps({"state": "preempted", "step": 20}))
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(CheckpointError, match="was saved at step 40, but has no checkpoint"):
        go(SAVES, run)
    assert (run / "metrics.jsonl").read_bytes() == before


# --- in a process of its own ------------------------------------------------------------------------------------------

PROCESS = """
import resource, sys
from fgan.run import compile_cache, loop, pictures, program
from fgan.run.checkpoint import Checkpoints
from fgan.run.directory import RunDirectory
from fgan.cli.main import main
owner, method, step, again, *words = sys.argv[1:]
owner = eval(owner)
plain, hard = getattr(owner, method), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def struck(*given, **options):
    if int(step) in (0, *(a for a in given if isinstance(a, int))):
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        return plain(*given, **options)
    finally:
        if again == "again":
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
setattr(owner, method, struck)
main(words)
"""


def in_a_process(place: tuple[str, str, int, str], config: Path, run: Path) -> subprocess.CompletedProcess:
    """`fgan train` with a disk that is full from a moment on; "again" if only during the call."""
    owner, method, step, again = place
    words = [owner, method, str(step), again, "train", str(config), "--run", str(run), "--quiet"]
    environment = os.environ | {"XDG_CACHE_HOME": str(run.parent / "caches")}
    environment.pop(compile_cache.SWITCH, None)
    command = [sys.executable, "-c", PROCESS, *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


IN_A_PROCESS = {
    "a later save": (("Checkpoints", "save", 20, ""), 7, "step 10 is kept"),
    "the first save": (("Checkpoints", "save", 10, ""), 7, "no step was saved before it"),
    "the compile cache": (("program.Program", "compiled", 0, "again"), 0, ""),
}


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[pytest.mark.slow] * bool(i)) for i, name in enumerate(IN_A_PROCESS)]
)
def test_one_line_and_nothing_of_other_packages(tmp_path, straight, moment):
    place, code, part = IN_A_PROCESS[moment]
    (tmp_path / "c.toml").write_text(to_toml(SAVES))
    done = in_a_process(place, tmp_path / "c.toml", tmp_path / "run")
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == (code != 0) and part in done.stderr, done.stderr
    if code:
        assert done.stderr.startswith("fgan: ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", shared)
        go(SAVES, tmp_path / "run")
    assert_same_run(tmp_path / "run", straight)


# --- memory -----------------------------------------------------------------------------------------------------------

OUT = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")


@pytest.mark.parametrize("error", [OUT, MemoryError()], ids=["of the device", "of the host"])
@pytest.mark.parametrize(
    "place", [(Program, "compiled"), (Program, "fresh"), (Loop, "evaluate")], ids=["compiling", "starting", "scoring"]
)
def test_too_little_memory_names_the_need_and_what_to_lower(tmp_path, monkeypatch, capsys, place, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(loop, "Program", shared)
    monkeypatch.setattr(*place, refuse)
    (tmp_path / "c.toml").write_text(to_toml(SAVES))
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(tmp_path / "c.toml"), "--run", str(tmp_path / "run"), "--quiet"])
    assert leaving.value.code == 7
    line = capsys.readouterr().err
    need = engines.size_text(2 * Program(SAVES, load_data(SAVES.data)).footprint())
    assert line.count("\n") == 1 and f"out of memory: training takes about {need}, and there are" in line
    assert all(name in line for name in ("batch", "seeds", "log.samples", "generator.features", "critic.features"))
    assert "out of memory" in status(tmp_path / "run")["reason"]


@pytest.mark.slow
def test_what_memory_cannot_hold_is_refused_before_compiling(tmp_path, monkeypatch, capsys):
    """Beyond the factor that the count is right within; below it, one line warns."""
    config = replaced(batch=4096, generator=Generator(features=(128,)), critic=Critic(features=(128,)))
    made = Program(config, load_data(config.data))
    arguments = (made.rows, loop.jnp.arange(2), made.abstract(loop.jnp.arange(2)), loop.jnp.int32(0), {})
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(program.Program, "_refuse", lambda self, traced, report: found.append(program._peak(traced)))
        made.compiled(10, arguments, loop.Reporter(1, quiet=True))
    [need] = found
    monkeypatch.setattr(engines, "memory", lambda: need // program.WITHIN - 1)
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: pytest.fail("compiled"))
    with pytest.raises(ResourceError, match=r"out of memory: training takes about .* and there are .*; lower batch"):
        go(config, tmp_path / "run")
    monkeypatch.setattr(engines, "memory", lambda: need - 1)
    report = loop.Reporter(1)
    with pytest.raises(pytest.fail.Exception, match="compiled"):
        Program(config, load_data(config.data)).compiled(10, arguments, report)
    assert "memory: training takes about" in " ".join(capsys.readouterr().err.split())


def test_a_state_that_memory_cannot_hold_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "memory", lambda: 2000)
    monkeypatch.setattr(Program, "fresh", lambda *_: pytest.fail("made"))
    with pytest.raises(ResourceError, match=r"training takes about 2\.\d+ KiB, and there are 1\.953 KiB; lower batch"):
        go(SAVES, tmp_path / "run")

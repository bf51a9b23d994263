"""Signals and pipes, with real processes: in whatever phase they come, nothing is lost and nothing is swallowed."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest
from commands_for_tests import Said
from test_cli import unread
from test_processes import free_port

from benchmarks.torture import moments
from estimators import plot_style
from fgan.cli import outputs, streams
from fgan.devices import interrupts
from fgan.run.directory import RunDirectory
from fgan.run.members import newest
from fgan.run.progress import Reporter

TINY = """\
steps = 12000
batch = 16
[generator]
features = [8]
[critic]
features = [8]
[log]
every = 1000
evaluate = 6000
checkpoint = 3000
samples = 16
"""
SWEEP = TINY + "[grid]\ndivergence = ['kl', 'js']\n"
MANY = 3_000_000  # steps that take seconds
PATIENCE = 300  # seconds for anything here, on a machine that is busy
DEAF = 'trap "" HUP INT; exec "$@"'  # as nohup, and a shell without job control, start a process
CLOSED = 'exec "$@" <&- >&- 2>&-'
ON_A_TERMINAL = 'exec "$@" <"$TERMINAL" >"$TERMINAL" 2>"$TERMINAL"'  # which becomes that of the session


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with the configs, where programs are compiled once."""
    made = tmp_path_factory.mktemp("signals")
    (made / "tiny.toml").write_text(TINY)
    (made / "grid.toml").write_text(SWEEP)
    for name, seed in (("p.npy", 0), ("q.npy", 1)):
        np.save(made / name, np.random.default_rng(seed).normal(size=(1000, 2)))
    return made


class Command:
    """`python -m fgan` with `words` in `home`, in a session of its own, started by a line of `shell`."""

    def __init__(self, home: Path, *words: object, shell: str = 'exec "$@"', **options):
        kept = {"FGAN_COMPILE_CACHE": "on", "XDG_CACHE_HOME": str(home / "cache"), "PYTHONUNBUFFERED": ""}
        env = os.environ | kept | {"PYTHONPATH": os.pathsep.join(sys.path)} | options.pop("env", {})
        line = ["sh", "-c", shell, "sh", sys.executable, "-m", "fgan", *map(str, words)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        self.process = subprocess.Popen(line, env=env, cwd=home, text=True, start_new_session=True, **streams)

    def when(self, ready: Callable[[], object]) -> "Command":
        """Wait until it is `ready`; it must not have ended by then."""
        begun = time.monotonic()
        while not ready():
            if self.process.poll() is not None:
                pytest.fail(f"ended with {self.process.returncode} too early: {self.process.communicate()}")
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.005)
        return self

    def attends(self) -> bool:
        """Whether the command line receives signals by now, which Python itself does not do with SIGHUP or SIGTERM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1)

    def send(self, *numbers: int) -> "Command":
        for number in numbers:
            self.process.send_signal(number)
        return self

    def ended(self) -> Said:
        try:
            out, err = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return Said(self.process.returncode, out or "", err or "")


def lines(run: Path) -> list[dict]:
    path = run / "metrics.jsonl"
    whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
    return [json.loads(line) for line in whole.splitlines()]


def status(run: Path) -> tuple[str, int]:
    found = RunDirectory(run).last_status
    return found.get("state", ""), found.get("step", -1)


def saved(run: Path) -> int:
    """The step of the newest checkpoint."""
    return max(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def further(run: Path, before: int) -> int:
    """The step that a run stopped at, all of it saved, after the one before."""
    step = status(run)[1]
    assert before < step == saved(run)
    return step


def assert_stopped(said: Said, number: int, run: Path | None = None) -> None:
    """By that signal, with a line that says so; the run may go on."""
    assert said.code == 128 + number, said
    assert "Traceback" not in said.err and "Error" not in said.err, said
    if run is not None:
        assert status(run)[0] == "preempted" and not (run / "run.lock").exists()


# --- each phase of a run ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def straight(home) -> Path:
    """The run that nothing interrupts, and that nobody can hear: all of its streams are closed."""
    assert Command(home, "train", "tiny.toml", "--run", "straight", shell=CLOSED).ended() == Said(0, "", "")
    assert status(home / "straight") == ("finished", 12000)
    return home / "straight"


def test_a_run_stopped_in_each_phase_ends_in_the_same_bits(home, straight):
    run = home / "run"
    words = "train", "tiny.toml", "--run", "run", "--quiet"

    said = Command(home, *words).when(lambda: status(run) == ("running", 0)).send(signal.SIGINT).ended()
    assert said == Said(130, "", "fgan: stopped by SIGINT\n")  # at once: it compiles, and nothing is lost
    assert_stopped(said, signal.SIGINT, run)
    assert status(run)[1] == 0

    where = [
        f"--distributed.{name}" for name in (f"coordinator=localhost:{free_port()}", "processes=1", "process-id=0")
    ]
    training = Command(home, *words, *where).when(lambda: lines(run))
    os.killpg(training.process.pid, signal.SIGINT)  # as a terminal does: the parent, and the child that trains
    said = training.ended()
    assert said.err.count("fgan: SIGINT: stopping") == 1 and "stopped by SIGINT" not in said.err  # it counts once
    assert_stopped(said, signal.SIGINT, run)
    at = further(run, 0)

    master, terminal = pty.openpty()  # saving: the terminal closes
    saving = Command(home, *words, shell=ON_A_TERMINAL, env={"TERMINAL": os.ttyname(terminal)})
    saving.when(lambda: any(run.glob("checkpoints/tmp-*")))
    os.close(terminal)
    os.close(master)
    assert_stopped(saving.ended(), signal.SIGHUP, run)
    at = further(run, at)

    evaluating = Command(home, *words, shell=DEAF)
    due = 6000 if at < 6000 else 12000
    evaluating.when(lambda: [line for line in lines(run) if line["step"] == due])
    said = evaluating.send(signal.SIGHUP, signal.SIGINT, signal.SIGTERM).ended()
    assert said.err.splitlines()[0].startswith("fgan: SIGTERM: stopping")
    assert_stopped(said, signal.SIGTERM, run)
    at = further(run, at)

    drawing = Command(home, *words).when(lambda: status(run) == ("running", 12000)).send(signal.SIGHUP)
    assert_stopped(drawing.ended(), signal.SIGHUP, run)
    assert status(run)[1] == 12000 and not list(run.glob("figures/.*"))

    with unread() as left:  # the last stretch: nobody reads what it says
        done = Command(home, *words[:-1], stdout=left, stderr=left).ended()
    assert done.code == 0 and status(run) == ("finished", 12000)
    assert (run / "metrics.jsonl").read_bytes() == (straight / "metrics.jsonl").read_bytes()
    (*_, one), (*_, other) = (newest(RunDirectory.find(path)) for path in (run, straight))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
    assert os.listdir(run / "figures") and not list(run.glob("**/.*"))


def test_a_second_signal_leaves_a_sound_directory_at_once(home):
    """In a call of many steps: the first signal is acknowledged, the second one obeyed."""
    long = [f"--{name}={MANY}" for name in ("steps", "log.every", "log.evaluate", "log.checkpoint")]
    command, run = Command(home, "train", "tiny.toml", "--run", "twice", *long), home / "twice"
    heard = iter(command.process.stderr.readline, "")
    assert any(line.startswith("compiling") for line in heard)  # said when it is done
    time.sleep(1.0)
    assert next(command.send(signal.SIGTERM) and heard).startswith("fgan: SIGTERM: stopping")
    said = command.send(signal.SIGINT).ended()
    assert said == Said(130, "", "fgan: stopped by SIGINT\n")
    assert_stopped(said, signal.SIGINT, run)
    assert status(run) == ("preempted", 0) and lines(run) == []


LAST = {  # status before the process leaves at once, and after
    "before the first": (None, {"state": "preempted", "step": 0}),
    "in training": (("running", 7), {"state": "preempted", "step": 7}),
    "at the end": (("finished", 9), {"state": "finished", "step": 9}),
}


@pytest.mark.parametrize("moment", LAST)
def test_a_process_that_leaves_at_once_says_how_far_it_came(tmp_path, moment):
    before, after = LAST[moment]
    with RunDirectory.open(tmp_path / "run", "steps = 9\n") as run:
        if before:
            run.status(*before)
        run._leave()
        assert run.last_status == after and not (run.path / "run.lock").exists()


def test_a_process_that_leaves_at_once_makes_no_run_of_what_is_none_yet(tmp_path, monkeypatch):
    """There is no status without a config, beside which a directory would be taken for somebody else's."""
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "_settle", lambda run, *_: run._leave())
        RunDirectory.open(tmp_path / "run", "steps = 9\n").close()
    assert os.listdir(tmp_path / "run") == []
    RunDirectory.open(tmp_path / "run", "steps = 9\n").close()


COMMANDS = {
    "train": ["train", "tiny.toml", "--run", "early"],
    "sample": ["sample", "run", "--out", "early.npy"],
    "estimate": ["estimate", "p.npy", "q.npy"],
    "sweep": ["sweep", "grid.toml", "--run", "early"],
    "reproduce": ["reproduce", "ring", "--run", "early"],
}


@pytest.mark.parametrize("number", interrupts.NUMBERS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_before_any_work_ends_a_command_at_once(home, name, number):
    """As soon as the command line attends, long before what it needs is imported."""
    command = Command(home, *COMMANDS[name])
    said = command.when(command.attends).send(number).ended()
    assert said == Said(128 + number, "", f"fgan: stopped by {number.name}\n") and not (home / "early").exists()


def test_what_was_ignored_from_the_start_stays_ignored(home):
    command = Command(home, "estimate", "p.npy", "q.npy", shell=DEAF)
    said = command.when(command.attends).send(signal.SIGHUP, signal.SIGINT, signal.SIGTERM).ended()
    assert said.err == "fgan: stopped by SIGTERM\n" and said.code == 143


# --- many moments -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_no_interrupt_is_swallowed_at_any_moment(tmp_path):
    """One for each command; `python -m benchmarks.torture moments` tries a hundred."""
    for i in range(len(moments.COMMANDS)):
        (tmp_path / f"{i}").mkdir()
        found = moments.case(i, tmp_path / f"{i}")
        assert found["verdict"] == "ok", found


# --- what commands write ----------------------------------------------------------------------------------------------


WRITING = """
import sys, time
from pathlib import Path
from fgan.cli.outputs import whole
from fgan.devices import interrupts
interrupts.attend()
with whole(Path("x.csv")) as draft:
    draft.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


def test_a_process_that_leaves_at_once_leaves_no_draft(tmp_path):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", WRITING], env=env, cwd=tmp_path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"writing\n" and len(os.listdir(tmp_path)) == 1
        writer.send_signal(signal.SIGHUP)
    assert writer.returncode == 129 and os.listdir(tmp_path) == []


@pytest.mark.slow
def test_an_interrupted_sample_leaves_no_file(home, straight, tmp_path):
    command = Command(home, "sample", straight, "-n", 1_000_000, "--out", tmp_path / "x.csv")
    said = command.when(lambda: os.listdir(tmp_path)).send(signal.SIGINT).ended()
    assert_stopped(said, signal.SIGINT)
    assert os.listdir(tmp_path) == []


def test_a_file_that_a_command_writes_is_whole_or_not_there(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), outputs.whole(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.csv"]
    (tmp_path / "link.csv").symlink_to("x.csv")
    with outputs.whole(tmp_path / "link.csv") as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and (tmp_path / "link.csv").is_symlink()
    with outputs.whole(Path("/dev/null")) as draft:
        assert draft == Path("/dev/null")


def test_a_picture_is_whole_or_not_there(tmp_path, monkeypatch):
    figure, _ = plt.subplots()
    path = plot_style.save(figure, tmp_path / "figures" / "x.png")
    assert plt.imread(path).size and os.listdir(path.parent) == ["x.png"]
    before = path.read_bytes()

    def half(place):
        Path(place).write_bytes(before[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(KeyboardInterrupt):
        plot_style.save(figure, path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["x.png"]


# --- pipes ------------------------------------------------------------------------------------------------------------


def test_a_reader_that_leaves_ends_no_stream(monkeypatch):
    reader, writer = os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    monkeypatch.setattr(sys, "stderr", None)
    before = sys.stdout
    streams.settle()
    print("heard")
    sys.stdout.flush()
    assert os.read(reader, 100) == b"heard\n" and sys.stderr is None
    os.close(reader)
    for _ in range(2):
        print("unheard \ud800" * 10_000)
        sys.stdout.flush()
    before.close()


def test_a_terminal_that_is_gone_ends_no_stream(monkeypatch):
    master, terminal = pty.openpty()
    monkeypatch.setattr(sys, "stdout", os.fdopen(terminal, "w"))
    before = sys.stdout
    streams.settle()
    os.close(master)
    print("unheard")
    sys.stdout.flush()
    before.close()


def test_progress_in_a_program_of_the_user_needs_no_reader(monkeypatch):
    with unread() as left, open(os.dup(left), "w", buffering=1) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Reporter(2) as report:
            report.say("unheard")
            report.advance(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stderr.fileno())  # for what it still holds


@pytest.mark.slow
def test_a_sweep_and_an_experiment_go_on_when_their_reader_has_left(home):
    with unread() as left:
        swept = Command(home, "sweep", "grid.toml", "--run", "unheard", stdout=left, stderr=left)
        reproduced = Command(home, "reproduce", "dirac", "--run", "dirac", stdout=left, stderr=left)
        assert swept.ended().code == 0 == reproduced.ended().code
    assert status(home / "unheard") == ("finished", 24000) and (home / "dirac" / "dirac.png").exists()


# --- in a Python program ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", interrupts.NUMBERS)
def test_a_program_of_the_user_notes_the_first_and_raises_at_the_second(number):
    before = signal.getsignal(number)
    with interrupts.signals() as stop:
        signal.raise_signal(number)
        assert stop == [number]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_program_that_ignores_a_signal_still_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop == [] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

"""Two processes on this machine, as on two hosts: they train as one, and neither hangs when the other is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fgan.config.schema import replace
from fgan.config.toml import load
from fgan.devices import processes
from fgan.run.loop import train

CONFIG = """
batch = 16
steps = 100
[data]
name = "samples"
path = "rows.csv"
[generator]
features = [8]
latent = 2
[critic]
features = [8]
[log]
every = 10
evaluate = 50
checkpoint = 10
samples = 64
"""
PATIENCE = 240  # seconds for anything here


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(folder: Path, devices: int, *words: str) -> subprocess.Popen:
    """`fgan train` with that many virtual devices, in a session of its own."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    env = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "fgan", "train", str(folder / "config.toml"), "--quiet", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, cwd=folder, start_new_session=True, **pipes)


def pair(folder: Path, run: str, *words: str, each: Sequence[str] = ()) -> list[subprocess.Popen]:
    """The same run in two processes of four devices; `each` has a word for either."""
    where = ["--distributed.coordinator", f"localhost:{free_port()}", "--distributed.processes", "2"]
    who = [["--distributed.process-id", str(i), *each[i : i + 1]] for i in range(2)]
    return [start(folder, 4, "--run", run, *where, *me, *words) for me in who]


def ended(process: subprocess.Popen, code: int = 0) -> tuple[str, str]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == code, err
    return out, err


def bounds(folder: Path, run: str) -> list[float]:
    lines = map(json.loads, (folder / run / "metrics.jsonl").read_text().splitlines())
    return [line["bound"][0] for line in lines if "bound" in line]


def status(folder: Path, run: str) -> dict:
    try:
        return json.loads((folder / run / "status.json").read_text())
    except FileNotFoundError:
        return {"step": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("processes")
    (made / "config.toml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    first = rng.gamma(2.0, size=997)  # slices of 100 and 101; the second depends on it, which normal scores keep
    np.savetxt(made / "rows.csv", np.column_stack([first, first * rng.gamma(20.0, size=997)]))
    for i, elsewhere in enumerate((slice(600, None), slice(0, 400))):  # the random rows held out move the border a bit
        own = np.loadtxt(made / "rows.csv", ndmin=2)
        own[elsewhere] = 1e6
        np.save(made / f"rows-{i}.npy", own)
    return made


@pytest.fixture(scope="module")
def copies(folder) -> list[str]:
    """For each process a copy of the rows, as on a disk of its own, worthless where the other reads."""
    return [f"--data.path={folder / f'rows-{i}.npy'}" for i in range(2)]


def alone(folder: Path, run: str, **changes) -> list[float]:
    """The bounds of the run on the one device of this process."""
    config = replace(load(folder / "config.toml"), {"data.path": str(folder / "rows.csv")} | changes)
    train(config, folder / run, quiet=True)
    return bounds(folder, run)


@pytest.fixture(scope="module")
def uninterrupted(folder) -> list[float]:
    return alone(folder, "alone")


@pytest.mark.slow  # the other waits up to HEARTBEAT seconds for a sign of life
def test_a_lost_process_ends_the_other_with_all_saved(folder, uninterrupted):
    """One is killed while they train; the other leaves with code 7; one process with eight devices finishes the run."""
    first, second = pair(folder, "lost", "--steps=2000")
    begun = time.monotonic()
    while status(folder, "lost")["step"] < 50:
        assert first.poll() is None and time.monotonic() - begun < PATIENCE
        time.sleep(0.02)
    os.killpg(second.pid, signal.SIGKILL)
    killed = time.monotonic()
    _, err = ended(first, 7)
    assert "another process of this run is gone" in err and time.monotonic() - killed < 120
    second.communicate()
    saved = max(int(path.name) for path in (folder / "lost" / "checkpoints").iterdir() if path.name.isdigit())
    ended(start(folder, 8, "--run", "lost", f"--steps={saved + 10}"))
    assert (status(folder, "lost")["state"], status(folder, "lost")["step"]) == ("finished", saved + 10)
    both = min(10, saved // 10 + 1)
    assert both > 5
    np.testing.assert_allclose(bounds(folder, "lost")[:both], uninterrupted[:both], atol=1e-5)


@pytest.mark.slow
def test_two_processes_that_each_read_their_slice_and_divide_the_parameters_train_as_one(folder, copies, uninterrupted):
    """Neither has the whole of the data, or of the parameters."""
    how = ("--parallel.engine=sharded", "--parallel.parameters=sharded")
    outputs = [ended(p) for p in pair(folder, "divided", *how, each=copies)]
    np.testing.assert_allclose(bounds(folder, "divided"), uninterrupted, atol=1e-5)
    assert "scores" in outputs[0][0] and "scores" not in outputs[1][0]
    assert "2 processes" in status(folder, "divided")["devices"]
    half = alone(folder, "half", **{"data.path": str(folder / "rows-0.npy")})
    assert np.abs(np.array(half) - uninterrupted).max() > 1e-2


@pytest.mark.slow
def test_statistics_of_the_batch_are_those_of_all_processes(folder, copies):
    """Donsker–Varadhan's log of a mean, which is not the mean of the processes' logs."""
    for process in pair(folder, "dv", "--divergence=kl", "--critic.bound=donsker_varadhan", each=copies):
        ended(process)
    whole = alone(folder, "dv-alone", divergence="kl", **{"critic.bound": "donsker_varadhan"})
    np.testing.assert_allclose(bounds(folder, "dv"), whole, atol=1e-5)


def test_what_one_process_finds_wrong_ends_all_with_its_message(folder):
    rows = np.loadtxt(folder / "rows.csv", ndmin=2)
    rows[800] = np.nan
    np.save(folder / "bad.npy", rows)
    for process in pair(folder, "bad", f"--data.path={folder / 'bad.npy'}"):
        _, err = ended(process, 3)
        assert "bad.npy, rows 498 to 996 of 997: 1 of 499 rows hold NaN" in err and "at row 800, column 0" in err


def test_processes_that_cannot_meet_are_told_so(folder):
    with pytest.raises(processes.PeerLost, match="could not meet"):
        processes.join("", 0, -1)


def test_alone_there_is_nothing_to_agree_on():
    assert processes.count() == 1 and processes.leader()
    assert processes.exchange("ä") == ["ä"] and processes.index() == 0
    assert processes.any_of([]) == [] and processes.any_of([15, 2]) == [15, 2]
    processes.barrier("nobody else")


def test_half_an_address_is_refused(folder):
    _, err = ended(start(folder, 1, "--distributed.coordinator", "localhost:1"), 2)
    assert "go together" in err

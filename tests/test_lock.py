"""A lock has one holder: a live one keeps it, a dead one's is taken over by exactly one other."""

import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from fgan.run import lock
from fgan.run.lock import RunLocked, born, claim, release


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


def text_of(pid, host=None, **more) -> str:
    return json.dumps({"pid": pid, "host": host or socket.gethostname(), "started": "2020-01-01T00:00:00+00:00"} | more)


def refused(path: Path) -> str:
    """The one line of the refusal."""
    with pytest.raises(RunLocked) as error:
        claim(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_claimed(path: Path) -> None:
    text = claim(path)
    assert path.read_bytes() == text and json.loads(text)["pid"] == os.getpid()
    release(path, text)
    assert not path.exists()


@pytest.fixture(scope="module")
def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture(scope="module")
def live_pid():
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_a_live_lock_refuses_its_own_process_too(path):
    claim(path)
    assert f"process {os.getpid()} on {socket.gethostname()}" in refused(path)


@pytest.mark.parametrize("host", [None, "elsewhere.example"])
def test_a_lock_that_may_be_live_refuses(path, host, dead_pid, live_pid):
    pid = dead_pid if host else live_pid
    text = text_of(pid, host)
    path.write_text(text)
    assert f"process {pid} on {host or socket.gethostname()} since 2020" in refused(path)
    assert path.read_text() == text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": 1}', text_of(-1), text_of("7"), text_of(2**70)])
def test_a_lock_naming_nobody_is_taken_over(path, text):
    path.write_text(text)
    assert_claimed(path)


def test_a_dead_lock_is_taken_over(path, dead_pid):
    path.write_text(text_of(dead_pid))
    assert_claimed(path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the birth of a process is read from /proc")
def test_a_process_number_used_again_is_not_the_holder(path, live_pid):
    path.write_text(text_of(live_pid, born="another boot:12345"))
    assert_claimed(path)
    path.write_text(text_of(live_pid, born=born(live_pid)))
    refused(path)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a zombie is known from /proc")
def test_a_zombie_holds_nothing(path):
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        path.write_text(text_of(process.pid))
        assert_claimed(path)


def test_one_of_many_gets_a_stale_lock(path, dead_pid):
    for _ in range(5):
        path.write_text(text_of(dead_pid))
        gate, won, lost = threading.Barrier(8), [], []

        def contend(gate=gate, won=won, lost=lost):
            gate.wait()
            try:
                won.append(claim(path))
            except RunLocked as error:
                lost.append(error)

        threads = [threading.Thread(target=contend) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)
        release(path, won[0])


def test_a_lock_released_while_one_waits_for_it_is_made_anew(path, monkeypatch):
    owners = iter(["the one before"])

    def wait(file):
        if next(owners, None):
            path.unlink()

    monkeypatch.setattr(lock, "_flock", wait)
    assert_claimed(path)


def test_another_s_lock_is_not_released(path, live_pid):
    text = claim(path)
    path.write_text(text_of(live_pid))
    release(path, text)
    assert json.loads(path.read_text())["pid"] == live_pid

"""Two processes as on two hosts: whatever becomes of one, the other ends in time and says why, and the run goes on."""

import json
import os
import random
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from benchmarks.torture import hosts
from fgan.config.schema import Config, replace
from fgan.config.toml import to_toml
from fgan.devices import processes
from fgan.run import agreement
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import LOCK, ResourceError, RunDirectory


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["kill -STOP of process 1", "they differ in a setting"])
def test_what_happens_to_one_of_two_hosts(scenario, tmp_path):
    """Two of what `python -m benchmarks.torture hosts` tries."""
    found = hosts.case(list(hosts.SCENARIOS).index(scenario), tmp_path)
    if found["verdict"].startswith("not run"):
        pytest.skip(found["verdict"])
    assert found["verdict"] == "ok"


@pytest.mark.slow
def test_a_killed_process_ends_the_other_within_the_heartbeat_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("FGAN_HEARTBEAT", "5")  # by the default of a minute it took 47 to 58 s
    with hosts.hosts(tmp_path) as here:
        one, other = here.start(0), here.start(1)
        here.trains(20)
        here.signal(other, signal.SIGKILL)
        (seconds,) = here.ended(one, says="another process of this run is gone")
        assert seconds < 35


# --- started unlike ------------------------------------------------------------------------------------------------
@pytest.fixture
def peer(monkeypatch):
    """Another process, that answers an exchange by what the test says."""
    answers: list = []
    monkeypatch.setattr(processes, "count", lambda: 2)
    monkeypatch.setattr(processes, "exchange", lambda text: [text, answers.pop(0)(text)])
    return answers


def with_facts(**changes):
    return lambda text: json.dumps(json.loads(text) | changes)


@pytest.mark.parametrize("field", ["steps", "critic.features", "code", "jax", "python"])
def test_processes_started_unlike_are_refused_by_what_differs(peer, field):
    peer.append(with_facts(**{field: "elsewhere"}))
    with pytest.raises(agreement.Disagreement, match=f"^process 1 has {field} elsewhere and not .*, unlike process 0"):
        agreement.refuse_other_settings(Config())


def test_paths_of_data_may_differ_but_not_its_content(peer):
    facts = []
    peer.append(lambda text: facts.append(json.loads(text)) or text)
    peer.append(lambda text: json.dumps(facts[0]))
    for path in ("a.npy", "b.npy"):
        agreement.refuse_other_settings(replace(Config(), {"data.path": path, "data.name": "samples"}))
    peer.append(with_facts(data="0" * 12))
    with pytest.raises(agreement.Disagreement, match="process 1 has data 000000000000 and not abcdefabcdef"):
        agreement.refuse_other_data(type("Data", (), {"fingerprint": lambda self: "abcdef" * 8})())


@pytest.mark.parametrize("theirs", ["3", "null"])
def test_processes_that_see_different_checkpoints_are_refused(peer, tmp_path, monkeypatch, theirs):
    monkeypatch.setattr(processes, "barrier", lambda name: None)
    state = {"x": np.ones(2, np.float32)}
    Checkpoints(tmp_path, fingerprint="f").save(5, state)
    peer.append(lambda text: theirs)
    with pytest.raises(CheckpointError, match=rf"different checkpoints in .* \(steps 5, {theirs}\)"):
        Checkpoints(tmp_path, fingerprint="f").restore(state)


def test_what_another_found_wrong_is_raised_with_its_exit_code(peer):
    peer.append(lambda text: json.dumps(["the disk is full", 7]))
    with pytest.raises(processes.Elsewhere, match=r"^the disk is full$") as error, processes.one_fate():
        pass
    assert error.value.exit_code == 7


def test_a_run_directory_that_another_process_does_not_see_is_refused(peer, tmp_path, monkeypatch):
    """An old copy of the run is no better than nothing."""
    monkeypatch.setattr(agreement, "SEEN", 0.2)
    with RunDirectory.open(tmp_path / "run", to_toml(Config())) as run:
        shutil.copytree(run.path, tmp_path / "copy")
        (tmp_path / "copy" / LOCK).write_text("of another time")
        monkeypatch.setattr(processes, "leader", lambda: False)
        monkeypatch.setattr(processes, "exchange", lambda text: [(run.path / LOCK).read_text(), text])
        for elsewhere in ("copy", "nothing"):
            with pytest.raises(ResourceError, match=r"does not see in .* file system that all processes share"):
                agreement.refuse_other_directory(RunDirectory(tmp_path / elsewhere, writes=False))
        monkeypatch.setattr(processes, "one_fate", lambda: pytest.MonkeyPatch.context())
        agreement.refuse_other_directory(RunDirectory(run.path, writes=False))


# --- where they meet -----------------------------------------------------------------------------------------------
def test_a_port_in_use_is_named():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(processes.PeerLost, match=f"could not meet: process 0 cannot listen on port {port}"):
            processes.join(f"localhost:{port}", 2, 0)


def test_an_unknown_host_is_named(monkeypatch):
    monkeypatch.setenv("FGAN_INITIALIZATION", "1")
    with pytest.raises(processes.PeerLost, match=r"could not meet: no host 'no-such-host.invalid' is known here"):
        processes.join("no-such-host.invalid:1234", 2, 1)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "²"])
def test_seconds_that_are_none_are_refused(monkeypatch, text):
    monkeypatch.setenv("FGAN_HEARTBEAT", text)
    with pytest.raises(processes.BadSeconds, match=f"FGAN_HEARTBEAT={text}: must be a whole number of seconds"):
        processes.join("localhost:1", 2, 0)


def test_without_a_word_the_seconds_are_the_default(monkeypatch):
    monkeypatch.setenv("FGAN_HEARTBEAT", "")
    assert processes.seconds("FGAN_HEARTBEAT", 60) == 60
    monkeypatch.setenv("FGAN_HEARTBEAT", "7")
    assert processes.seconds("FGAN_HEARTBEAT", 60) == 7


# --- the torture itself --------------------------------------------------------------------------------------------
def test_records_are_the_same_only_where_their_numbers_are():
    one = [{"step": 10, "bound": [0.5, 0.25]}]
    assert hosts.same(one, [{"step": 10, "bound": [0.5, 0.25]}], 0.0)
    assert not hosts.same(one, [{"step": 10, "bound": [0.5, 0.25 + 1e-9]}], 0.0)
    assert hosts.same(one, [{"step": 10, "bound": [0.5, 0.25 + 1e-9]}], 1e-6)
    for other in ([], [{"step": 20, "bound": [0.5, 0.25]}], [{"step": 10}], [{"step": 10, "bound": [0.5]}]):
        assert not hosts.same(one, other, 1e-6)


def test_a_wrong_end_is_a_verdict(tmp_path, monkeypatch):
    def wrong(here: hosts.Hosts, rng: random.Random):
        process = here._start(["--steps=nonsense"], 0, 1)
        here.ended(process, limit=hosts.PATIENCE)

    monkeypatch.setitem(hosts.SCENARIOS, next(iter(hosts.SCENARIOS)), wrong)
    assert hosts.case(0, tmp_path)["verdict"].startswith("exit code 2 in place of 7: fgan: ")
    assert not list(Path("/run/netns").glob(f"fgan-{os.getpid()}-*"))

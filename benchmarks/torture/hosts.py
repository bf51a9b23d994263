"""Two hosts on one machine, as network namespaces that a cable joins, each with a process of the same run.

Either is killed or stopped, the cable is cut, one comes late or never, or is unlike the other. Every survivor must end
with exit code 7 and a message within LIMIT seconds, one that was stopped too once it wakes, and the run goes on with
what is left: two processes again come to the bits of an uninterrupted run, one process with as many devices to the same
numbers up to rounding. Where namespaces are not permitted both run on localhost, and the cable is not cut.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ABOUT = "two hosts train as one: either is killed, stopped or cut off, comes late or never, or is unlike the other"
COUNT = 24  # each of SCENARIOS twice
LIMIT = 120.0  # seconds within which survivors end, and which late ones are waited for
PATIENCE = 400.0  # seconds for a run of a few seconds, on a machine that does other things
DEVICES = 2  # of each process
STEPS = 300
CONFIG = f"""
batch = 16
steps = {STEPS}
[data]
name = "ring"
[generator]
features = [8]
latent = 2
[critic]
features = [8]
[log]
every = 10
evaluate = 100
checkpoint = 10
samples = 64
"""


class Wrong(Exception):
    """What was not as it must be, in a few words."""


class Hosts:
    """Two hosts and the run that they share in `folder`."""

    def __init__(self, folder: Path, prefixes: list[list[str]], address: str, cable: list[str]):
        self.folder, self.prefixes, self.address, self.cable = folder, prefixes, address, cable
        self.port = free_port()
        self.started: list[subprocess.Popen] = []
        (folder / "config.toml").write_text(CONFIG)

    def start(
        self, host: int, *words: str, number: int | None = None, announced: int = 2, cwd: Path | None = None
    ) -> subprocess.Popen:
        """The process of the run on a host, which is its `number` of so many `announced`."""
        where = ["--distributed.coordinator", f"{self.address}:{self.port}"]
        who = ["--distributed.processes", str(announced), "--distributed.process-id"]
        return self._start([*where, *who, str(host if number is None else number), *words], host, DEVICES, cwd)

    def alone(self, *words: str) -> subprocess.Popen:
        """One process with the devices of both."""
        return self._start(list(words), 0, 2 * DEVICES)

    def _start(self, words: list[str], host: int, devices: int, cwd: Path | None = None) -> subprocess.Popen:
        command = [sys.executable, "-m", "fgan", "train", str(self.folder / "config.toml"), "--quiet", "--run", "run"]
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        env = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "FGAN_COMPILE_CACHE": "off"}
        env |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        with open(self.folder / f"stderr-{len(self.started)}", "wb") as said:
            process = subprocess.Popen(
                [*self.prefixes[host], *command, *words],
                env=os.environ | env,
                cwd=cwd or self.folder,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def message(self, process: subprocess.Popen) -> str:
        """The last line that a process wrote to stderr."""
        said = (self.folder / f"stderr-{self.started.index(process)}").read_text(errors="replace")
        return (said.strip().splitlines() or [""])[-1]

    def step(self) -> int:
        """The step that the run has come to."""
        with suppress(FileNotFoundError):
            return json.loads((self.folder / "run" / "status.json").read_text())["step"]
        return 0

    def metrics(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "run" / "metrics.jsonl").read_text().splitlines()]

    def trains(self, step: int) -> None:
        """Wait until the run has come to that step."""
        begun = time.monotonic()
        while self.step() < step:
            if time.monotonic() - begun > PATIENCE or any(p.poll() is not None for p in self.started):
                raise Wrong(f"no step {step}: {'; '.join(map(self.message, self.started))}")
            time.sleep(0.02)

    def ended(self, *processes: subprocess.Popen, code: int = 7, limit: float = LIMIT, says: str = "") -> list[float]:
        """Seconds until each has ended with that code, and a message that holds those words if it is not 0."""
        seconds: dict[int, float] = {}
        begun = time.monotonic()
        while len(seconds) < len(processes):
            seconds |= {
                p.pid: time.monotonic() - begun for p in processes if p.pid not in seconds and p.poll() is not None
            }
            if time.monotonic() - begun > limit:
                raise Wrong(f"{len(processes) - len(seconds)} of {len(processes)} not ended within {limit:.0f} s")
            time.sleep(0.05)
        for process in processes:
            message = self.message(process)
            if process.returncode != code:
                raise Wrong(f"exit code {process.returncode} in place of {code}: {message}")
            if code and not (message.startswith("fgan: ") and says in message):
                raise Wrong(f"message {message!r} does not hold {says!r}")
        return [round(seconds[p.pid], 1) for p in processes]

    def signal(self, process: subprocess.Popen, number: int) -> None:
        """Send a signal to a process and its child."""
        os.killpg(process.pid, number)

    def close(self) -> None:
        for process in self.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts for a run in `folder`, with names and addresses of their own where that is permitted."""
    names = [f"fgan-{os.getpid()}-{i}" for i in range(2)]
    try:
        prefixes = _joined(names, folder)
    except (OSError, subprocess.CalledProcessError):
        prefixes = None
    made = Hosts(folder, prefixes or [[], []], "host0" if prefixes else "localhost", names[:1] if prefixes else [])
    try:
        yield made
    finally:
        made.close()
        for name in names:
            with suppress(OSError, subprocess.CalledProcessError):
                ip("netns", "delete", name)


def _joined(names: list[str], folder: Path) -> list[list[str]]:
    """What a command begins with to run on either host."""
    for name in names:
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
    for i, name in enumerate(names):
        ip("-n", name, "address", "add", f"10.77.0.{i + 1}/24", "dev", "cable")
        ip("-n", name, "link", "set", "cable", "up")
    known = folder / "etc-hosts"
    known.write_text("127.0.0.1 localhost\n10.77.0.1 host0\n10.77.0.2 host1\n")
    script = f'hostname $0 && mount --bind "{known}" /etc/hosts && exec "$@"'
    return [
        ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", script, f"host{i}"]
        for i, name in enumerate(names)
    ]


# --- what happens to them ------------------------------------------------------------------------------------------
def lost(here: Hosts, rng: random.Random, who: int, how: int) -> dict[str, Any]:
    """A signal to one process, SIGKILL or SIGSTOP, ends the other, and a stopped one once it wakes; the run goes on."""
    both = [here.start(0), here.start(1)]
    here.trains(rng.randrange(20, 150))
    time.sleep(rng.random())
    here.signal(both[who], how)
    facts: dict[str, Any] = {"seconds": here.ended(both[1 - who], says="another process of this run is gone")}
    if how == signal.SIGSTOP:
        here.signal(both[who], signal.SIGCONT)
        facts["seconds_awake"] = here.ended(both[who], says="another process of this run is gone")
    both[who].wait()
    return facts | goes_on(here, rng)


def cut(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """The cable is cut: both end."""
    if not here.cable:
        raise Wrong("not run: network namespaces are not permitted here")
    both = [here.start(0), here.start(1)]
    here.trains(rng.randrange(20, 150))
    ip("-n", here.cable[0], "link", "set", "cable", "down")
    seconds = here.ended(*both, says="another process of this run is gone")
    ip("-n", here.cable[0], "link", "set", "cable", "up")
    return {"seconds": seconds} | goes_on(here, rng)


def goes_on(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """The run is resumed and comes to the numbers of an uninterrupted one, to its bits where two processes resume."""
    resumed, one = here.step(), rng.random() < 0.5
    here.port = free_port()
    if one:
        here.ended(here.alone(f"--steps={STEPS - 100}"), code=0, limit=PATIENCE)
    here.ended(here.start(0), here.start(1), code=0, limit=PATIENCE)
    found, step = here.metrics(), here.step()
    (here.folder / "run").rename(here.folder / "interrupted")
    here.port = free_port()
    here.ended(here.start(0), here.start(1), code=0, limit=PATIENCE)
    if step != STEPS or not same(found, here.metrics(), 1e-3 if one else 0.0):
        raise Wrong(f"resumed at step {resumed}, it is not the uninterrupted run")
    return {"resumed_at": resumed, "resumed_by": "one, then two" if one else "two"}


def same(one: Any, other: Any, error: float) -> bool:
    """Whether two lists of records have the same shape and numbers."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], error) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b, error) for a, b in zip(one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= error * max(1.0, abs(one))
    return one == other


def late(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """One comes half a minute after the other: they train as ever."""
    order = rng.sample(range(2), 2)
    first = here.start(order[0])
    time.sleep(30)
    here.ended(first, here.start(order[1]), code=0, limit=PATIENCE)
    return {"first": order[0]}


def never(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """The other never comes."""
    who = rng.randrange(2)
    return {"who": who, "seconds": here.ended(here.start(who), says="could not meet")}


def three_announced(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """Two come of the three that were announced."""
    return {"seconds": here.ended(here.start(0, announced=3), here.start(1, announced=3), says="could not meet")}


def one_number_twice(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """Both are process 1."""
    return {"seconds": here.ended(here.start(0, number=1), here.start(1, number=1), says="could not meet")}


def unlike(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """They differ in a setting: both say so, and nothing is written."""
    words = rng.choice(["--batch=32", "--seed=1", "--steps=100", "--divergence=kl", "--log.every=20"])
    both = here.start(0), here.start(1, words)
    seconds = here.ended(*both, code=2, limit=PATIENCE, says="unlike process 0")
    if (here.folder / "run").exists():
        raise Wrong("a run directory was made")
    return {"by": words, "seconds": seconds}


def port_in_use(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """Another program listens where process 0 should."""
    program = "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); time.sleep(600)"
    with subprocess.Popen([*here.prefixes[0], sys.executable, "-c", program, str(here.port)]) as listener:
        try:
            time.sleep(2)
            leader, other = here.start(0), here.start(1)
            seconds = here.ended(leader, says="cannot listen on port")
            return {"seconds": [*seconds, *here.ended(other, says="could not meet")]}
        finally:
            listener.kill()


def not_shared(here: Hosts, rng: random.Random) -> dict[str, Any]:
    """Each has a disk of its own, of which the second may hold an old copy of the run."""
    own = here.folder / "own"
    own.mkdir()
    if copied := rng.random() < 0.5:
        here.ended(here.alone("--steps=20"), code=0, limit=PATIENCE)
        shutil.copytree(here.folder / "run", own / "run")
    both = here.start(0), here.start(1, cwd=own)
    return {
        "old_copy": copied,
        "seconds": here.ended(*both, limit=PATIENCE, says="on a file system that all processes share"),
    }


SCENARIOS: dict[str, Callable[[Hosts, random.Random], dict[str, Any]]] = {
    "kill -9 of process 0": lambda here, rng: lost(here, rng, 0, signal.SIGKILL),
    "kill -9 of process 1": lambda here, rng: lost(here, rng, 1, signal.SIGKILL),
    "kill -STOP of process 0": lambda here, rng: lost(here, rng, 0, signal.SIGSTOP),
    "kill -STOP of process 1": lambda here, rng: lost(here, rng, 1, signal.SIGSTOP),
    "the cable is cut": cut,
    "one comes 30 s late": late,
    "one never comes": never,
    "three are announced, two come": three_announced,
    "two have one number": one_number_twice,
    "they differ in a setting": unlike,
    "the port is in use": port_in_use,
    "the disk is not shared": not_shared,
}


def case(i: int, scratch: Path) -> dict[str, Any]:
    """Case number i, the scenarios in turn."""
    what, scenario = list(SCENARIOS.items())[i % len(SCENARIOS)]
    with hosts(scratch) as here:
        try:
            return {"what": what, "verdict": "ok"} | scenario(here, random.Random(i))
        except Wrong as wrong:
            return {"what": what, "verdict": str(wrong)}

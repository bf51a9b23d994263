"""Trainings that are killed by SIGKILL several times, started again each time, and compared with one that was not.

A case is one training of one of the SCENARIOS, by the command line in a process of its own. It is killed KILLS times:
half of them at a moment drawn evenly from the time that the whole training took, counted from the first step, or now
and then from the first file; half at a phase (`witness.PHASES`) in turn, from outside while it lasts, or just before
one of its operations on a file. Then it is started once more and left alone. All that lies in its directory must equal
what the uninterrupted run left, byte for byte: the names of files, config.toml, data.json, status.json, metrics.jsonl,
samples, pictures and results.csv, and in place of orbax's files the arrays that they hold (parameters, averages,
optimiser states, counters) with what the manifests say of them. Only timings.jsonl, which alone knows the clock, may
differ. Nothing half-written, set aside or temporary may be left.

The uninterrupted runs and the compiled programs are shared: they lie in `kills/` beside the folder of a case.
"""

import contextlib
import functools
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.torture.witness import PHASES
from fgan.run.directory import RunDirectory
from fgan.run.manifest import MANIFEST
from fgan.run.members import newest
from fgan.run.whole_files import write_atomic

ABOUT = "trainings killed by SIGKILL at random moments, resumed, and compared byte by byte with an uninterrupted one"
COUNT = 50
KILLS = 6
"""Of a case. Now and then a training ends before the last of them; 50 cases have more than 200 all the same."""
AHEAD = 0.6
"""Share of what is left of a training within which the next kill is aimed, so that most cases see all their kills."""
PATIENCE = 900.0  # seconds that a process may take; a machine with other work needs a tenth of it
UNCOMPARED = ("timings.jsonl", "report.html")  # seconds, and a page that tells them
PAYLOAD = re.compile(r"(^|/)checkpoints/[0-9]+/state(/|$)")  # of orbax, whose files hold the time
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A training: its TOML without what all share, the command, and how many virtual devices it has."""

    toml: str
    command: str = "train"
    devices: int = 1


EVALUATE = 50
SHARED = f"""
[log]
every = 10
evaluate = {EVALUATE}
checkpoint = 20
samples = 64
"""
SMALL = """
[generator]
features = [16, 16]
latent = 4
average = 0.9
[critic]
features = [16, 16]
output_bound = 4.0
"""
FLOW = """
[data]
name = "two_moons"
[generator]
kind = "flow"
features = [8]
layers = 2
bins = 4
average = 0.9
"""
SCENARIOS: Mapping[str, Scenario] = {
    "gan": Scenario(
        toml='steps = 200\ndivergence = "kl"\n[data]\nname = "mixture_1d"\n'
        '[generator]\nkind = "location_scale"\nlatent = 1\naverage = 0.9\n[critic]\nfeatures = [16]\n'
    ),
    "planar gan": Scenario(
        toml='steps = 200\n[data]\nname = "ring"\n[penalty]\nnames = ["roth"]\nschedule = "annealed"\n'
        '[instance_noise]\nstart = 0.5\n[critic_optimizer]\nschedule = "cosine"\n' + SMALL
    ),
    "flow": Scenario(toml="steps = 200\n" + FLOW + "[critic]\nfeatures = [16, 16]\noutput_bound = 6.0\n"),
    "flow by likelihood": Scenario(toml='steps = 200\nmodel = "direct_fit"\ndivergence = "kl"\n' + FLOW),
    "vae": Scenario(
        toml='steps = 200\nmodel = "vae"\ndivergence = "kl"\n[data]\nname = "digits_8x8"\n'
        '[vae]\nfeatures = [32]\nlatent = 4\nlikelihood = "bernoulli"\nannealing = "linear"\n'
    ),
    "table": Scenario(toml='steps = 150\n[data]\nname = "samples"\npath = {rows}\n[penalty]\nnames = ["r1"]\n' + SMALL),
    "three seeds": Scenario(
        toml='steps = 200\nseeds = 3\ndivergence = "pearson"\n[data]\nname = "two_moons"\n'
        '[generator_optimizer]\nname = "rmsprop"\n' + SMALL
    ),
    "eight devices, pmap": Scenario(toml='steps = 200\n[data]\nname = "ring"\n' + SMALL, devices=8),
    "eight devices, sharded": Scenario(
        toml='steps = 200\n[data]\nname = "ring"\n[parallel]\nengine = "sharded"\nparameters = "sharded"\n' + SMALL,
        devices=8,
    ),
    "sweep": Scenario(
        toml='members = 2\nsteps = 100\n[data]\nname = "ring"\n' + SMALL + "\n[grid]\n"
        'divergence = ["kl", "js"]\ngenerator_optimizer.learning_rate = [1e-3, 1e30, 1e-2]\n',
        command="sweep",
    ),  # 1e30 diverges at once
}


class Phase(NamedTuple):
    """How a phase went in the uninterrupted run: how often it began, operations on files in it, mean seconds."""

    entries: int
    operations: int
    seconds: float


RESTORE = Phase(1, 8, 0.2)
"""Of a resumed run, which the uninterrupted one does not show: a manifest and what orbax opens; 2 cores of an EPYC."""


class Reference(NamedTuple):
    """The uninterrupted run of a scenario."""

    run: Path
    phases: dict[str, Phase]
    seconds: float  # from the first step to the end


class Kill(NamedTuple):
    """When to kill: `entry` times the phase began and `delay` seconds later, or by itself before operation `entry`."""

    how: str  # random, in a phase, at a file
    phase: str
    entry: int
    delay: float = 0.0


def case(i: int, scratch: Path, *, kills: int = KILLS, scenario: str = "") -> dict[str, Any]:
    """Train scenario number i with kills; what was killed, in which phases, and whether anything differs."""
    name = scenario or list(SCENARIOS)[i % len(SCENARIOS)]
    training = Training(name, scratch.parent / "kills", scratch / "run")
    reference, draw = training.reference(), random.Random(f"kills {i}")
    landed: list[tuple[Kill, str]] = []
    for k in range(kills):
        phases = reference.phases | ({"restore": RESTORE} if training.restores() else {})
        ending = training.start(_moment(i, k, draw, reference._replace(phases=phases), training.left()))
        if ending.fault:
            return _facts(name, landed) | {"verdict": f"start {k + 1}: {ending.fault}"}
        if ending.kill is None:
            break
        landed.append((ending.kill, ending.phase))
    fault = training.start(None).fault
    return _facts(name, landed) | ({"verdict": fault} if fault else _compared(reference.run, training.run))


def _facts(name: str, landed: Sequence[tuple[Kill, str]]) -> dict[str, Any]:
    phases = [phase for _, phase in landed]
    return {
        "what": f"{name}, killed in {', '.join(phases) or 'no phase'}",
        "kills": len(landed),
        "kills by phase": dict(Counter(phases)),
        "kills by way": dict(Counter(kill.how for kill, _ in landed)),
        "kills by scenario": {name: len(landed)},
    }


def _moment(i: int, k: int, draw: random.Random, reference: Reference, left: float) -> Kill:
    """The k-th kill of case i, within AHEAD of the share of the training that is `left`."""
    share = AHEAD * left
    if k % 2 == 0:
        return Kill("random", draw.choice(("open", "step", "step")), 1, draw.uniform(0.0, share * reference.seconds))
    visit, which = divmod(i, len(SCENARIOS))
    seen = [phase for phase in PHASES if phase in reference.phases and phase != "close"]  # then all is written
    name = seen[(visit * (KILLS // 2) + which + k // 2) % len(seen)]  # each scenario goes through all of them
    phase = reference.phases[name]
    if name == "start" or draw.random() < 0.5:
        entry = draw.randint(1, max(1, round(share * phase.entries)))
        return Kill("in a phase", name, entry, draw.uniform(0.0, phase.seconds))
    return Kill("at a file", name, draw.randint(1, max(1, round(share * phase.operations))))


# --- one training ----------------------------------------------------------------------------------------------------
class Ending(NamedTuple):
    """How a process ended: by the kill, in a phase, or finished where there is none; or the fault."""

    kill: Kill | None
    phase: str = ""
    fault: str = ""


class Training:
    """A scenario's training in the directory `run`; what is shared lies in `kept`."""

    def __init__(self, name: str, kept: Path, run: Path) -> None:
        self.name, self.kept, self.run, self.scenario = name, kept, run, SCENARIOS[name]
        kept.mkdir(parents=True, exist_ok=True)
        self.file = kept / f"{name.replace(' ', '-').replace(',', '')}.toml"
        rows = kept / "rows.csv"
        if not rows.exists():
            rows.write_text(_table())
        toml = self.scenario.toml.replace("{rows}", json.dumps(str(rows)))
        grid, mark, axes = toml.partition("[grid]")
        self.file.write_text(f"batch = 32\n{grid}{SHARED}{mark}{axes}")

    def reference(self) -> Reference:
        """The uninterrupted run of this code and these settings, trained where there is none yet."""
        place = self.kept / f"{self.file.stem}-{_key(self.file, self.scenario.devices)}"
        if not (place / "phases.json").exists():
            shutil.rmtree(place, ignore_errors=True)
            whole = Training(self.name, self.kept, place / "run")
            whole._rehearse(place)
        facts = json.loads((place / "phases.json").read_text())
        phases = {name: Phase(*numbers) for name, numbers in facts["phases"].items()}
        return Reference(place / "run", phases, facts["seconds"])

    def _rehearse(self, place: Path) -> None:
        """Train without kills, and write how long each phase takes."""
        ending, trace = self._watched(None)
        if ending.fault:
            raise RuntimeError(f"{self.name}, uninterrupted: {ending.fault}")
        phases = _phases(trace)
        trained = trace[-1][0] - next(moment for moment, phase in trace if phase == "step")
        write_atomic(place / "phases.json", json.dumps({"seconds": trained, "phases": phases}))

    def left(self) -> float:
        """The share of the steps that are still to be taken."""
        try:
            step = json.loads((self.run / "status.json").read_text())["step"]
        except FileNotFoundError:
            return 1.0
        return 1.0 - step / max(1, self._steps)

    def restores(self) -> bool:
        """Whether the next start finds a checkpoint."""
        return any((self.run / "checkpoints").glob("[1-9]*"))

    @functools.cached_property
    def _steps(self) -> int:
        return int(json.loads((self.reference().run / "status.json").read_text())["step"])

    def start(self, kill: Kill | None) -> Ending:
        """Start the command, once, and kill it as `kill` says."""
        return self._watched(kill)[0]

    def _watched(self, kill: Kill | None) -> tuple[Ending, list[tuple[float, str]]]:
        """(how it ended, [(seconds since its start, phase)] of each operation)."""
        self.run.parent.mkdir(parents=True, exist_ok=True)
        with self._process(kill) as (process, report):
            trace, overdue = _follow(report, process, kill)
            code = process.wait()
        phase = trace[-1][1]
        if overdue:
            return Ending(None, phase, f"it took longer than {PATIENCE:.0f} s, in the phase {phase}"), trace
        if code == -signal.SIGKILL and kill:
            evaluates = phase != "evaluate" or self._evaluates()
            return Ending(kill if self._unfinished() else None, phase if evaluates else "step"), trace
        return Ending(None, phase, self._fault(code) if code else ""), trace

    def _unfinished(self) -> bool:
        try:
            return json.loads((self.run / "status.json").read_text())["state"] != "finished"
        except FileNotFoundError:
            return True

    def _evaluates(self) -> bool:
        """Whether an evaluation was due when the run was killed after a line of its metrics."""
        path = self.run / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        last = json.loads(lines[-1]) if lines else {"step": 1}
        return last["step"] % EVALUATE == 0 and "scores" not in last

    def _fault(self, code: int) -> str:
        lines = self._errors.read_text(errors="replace").split("\n")
        return f"exit code {code}: {next((line for line in lines[::-1] if line.strip()), 'no word')[:300]}"

    @property
    def _errors(self) -> Path:
        return self.run.with_name("stderr.txt")

    @contextlib.contextmanager
    def _process(self, kill: Kill | None) -> Iterator[tuple[subprocess.Popen, int]]:
        """The command in a process group of its own, which does not outlive this, and where operations are reported."""
        read, write = os.pipe()
        fatal = f"{kill.phase}:{kill.entry}" if kill and kill.how == "at a file" else "never"
        words = [self.scenario.command, str(self.file), "--run", str(self.run)]
        command = [sys.executable, "-m", "benchmarks.torture.witness", str(write), str(self.run), fatal, *words]
        with open(self._errors, "wb") as errors:
            process = subprocess.Popen(
                command,
                env=self._environment(kill),
                cwd=self.run.parent,
                pass_fds=(write,),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        os.close(write)
        try:
            yield process, read
        finally:
            _kill(process)
            process.wait()
            os.close(read)

    def _environment(self, kill: Kill | None) -> dict[str, str]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={self.scenario.devices}"
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
        compiles = bool(kill and kill.phase == "compile")  # anew, or there would be little to kill
        return (
            os.environ
            | threads
            | {
                "XLA_FLAGS": flags.strip(),
                "JAX_PLATFORMS": "cpu",  # where sums have one order
                "MPLBACKEND": "Agg",
                "PYTHONPATH": os.pathsep.join((str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")]))),
                "XDG_CACHE_HOME": str(self.kept / "cache"),
                "FGAN_COMPILE_CACHE": "off" if compiles else "on",
            }
        )


def _follow(report: int, process: subprocess.Popen, kill: Kill | None) -> tuple[list[tuple[float, str]], bool]:
    """([(seconds since now, phase)] of the operations reported until the process was dead, whether PATIENCE ended).

    The process is killed when `kill` says so, if not by itself.
    """
    trace, entries, rest, begun = [(0.0, "start")], Counter[str](), b"", time.monotonic()
    due = last = begun + PATIENCE

    def enter(phase: str) -> None:
        nonlocal due
        entries[phase] += 1
        if kill and kill.how != "at a file" and (phase, entries[phase]) == (kill.phase, kill.entry):
            due = time.monotonic() + kill.delay

    enter("start")
    while True:
        now = time.monotonic()
        if now >= due:
            _kill(process)
            due = now + PATIENCE  # the pipe closes long before
        elif select.select([report], [], [], due - now)[0]:
            if not (text := os.read(report, 1 << 16)):
                return trace, now > last
            *lines, rest = (rest + text).split(b"\n")
            for phase in map(bytes.decode, lines):
                if phase != trace[-1][1]:
                    enter(phase)
                trace.append((time.monotonic() - begun, phase))


def _kill(process: subprocess.Popen) -> None:
    """SIGKILL to the whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _phases(trace: Sequence[tuple[float, str]]) -> dict[str, Phase]:
    """Each phase of an uninterrupted run."""
    operations, spans, since = Counter(phase for _, phase in trace), dict[str, list[float]](), 0.0
    for (_, phase), (now, following) in zip(trace, [*trace[1:], (trace[-1][0], "")]):
        if phase != following:
            spans.setdefault(phase, []).append(now - since)
            since = now
    return {name: Phase(len(found), operations[name], statistics.fmean(found)) for name, found in spans.items()}


def _table() -> str:
    """A table of somebody's own as CSV: normal, skewed and whole numbers, a constant, a category."""
    draw = random.Random(0)
    rows = (
        f"{draw.gauss(0, 1):.4f},{draw.lognormvariate(3, 1):.2f},{draw.randint(0, 6)},7,{draw.choice('abc')}"
        for _ in range(300)
    )
    return "\n".join(("height,income,children,site,group", *rows)) + "\n"


def _key(file: Path, devices: int) -> str:
    """Changes with whatever may change the numbers: code, settings, versions, machine's flags."""
    code = [path for package in ("estimators", "fgan") for path in sorted((ROOT / package).rglob("*.py"))]
    versions = f"{sys.version} {jax.__version__} {np.__version__} {os.environ.get('XLA_FLAGS', '')} {devices}"
    flags = {name: value for name, value in sorted(os.environ.items()) if name.startswith("JAX_")}
    digest = hashlib.sha256(f"{versions} {flags}".encode())
    for path in (*code, file):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


# --- comparison ------------------------------------------------------------------------------------------------------
def contents(root: Path) -> dict[str, bytes]:
    """All that must be equal of the run or sweep in `root`: name → bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.name in UNCOMPARED or PAYLOAD.search(name):
            continue
        if path.name == MANIFEST:
            found[name] = _manifest(path)
        else:
            found[name] = b"" if path.is_dir() else path.read_bytes()
    return found | {name: array for run in _runs(root) for name, array in _arrays(run, root).items()}


def _runs(root: Path) -> list[Path]:
    return sorted((root / "parts").iterdir()) if (root / "parts").is_dir() else [root]


def _manifest(path: Path) -> bytes:
    """What a manifest says but for the names and hashes of orbax's files."""
    content = json.loads(path.read_bytes())["content"]
    return json.dumps({key: value for key, value in content.items() if key != "files"}, sort_keys=True).encode()


def _arrays(run: Path, root: Path) -> dict[str, bytes]:
    """Every array of the newest checkpoint of a run: place, name, dtype and shape → bytes."""
    *_, step, state = newest(RunDirectory.find(run))
    place = (run.relative_to(root) / "checkpoints" / str(step)).as_posix()
    return {
        f"{place}{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}": np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def _compared(reference: Path, run: Path) -> dict[str, Any]:
    """The verdict on a run that was killed: its SHA-256 beside that of the uninterrupted one, and what differs."""
    whole, killed = contents(reference), contents(run)
    different = {name: _distance(whole.get(name), killed.get(name)) for name in sorted(whole | killed)}
    different = {name: count for name, count in different.items() if count}
    digests = [_digest(whole), _digest(killed)]
    verdict = "ok" if digests[0] == digests[1] else f"different: {', '.join(different)}"
    return {
        "bytes compared": sum(map(len, whole.values())),
        "bytes different": sum(different.values()),
        "sha256": digests[1],
        "verdict": verdict,
    }


def _distance(one: bytes | None, other: bytes | None) -> int:
    """How many bytes differ; at least 1 where a file is on one side only."""
    if one is None or other is None:
        return max(1, len(one or other or b""))
    shared = min(len(one), len(other))
    unequal = np.frombuffer(one, np.uint8, shared) != np.frombuffer(other, np.uint8, shared)
    return int(unequal.sum()) + max(len(one), len(other)) - shared


def _digest(found: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(found.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()

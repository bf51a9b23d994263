"""Other packages that estimate the same things, each in its own virtual environment and behind its own small script.

The script named after a peer is run by that peer's Python as `python -P SCRIPT SAMPLES.npz VARIANT SEED` (-P, since the
scripts are named after the packages they import) and prints {"value", "seconds"} as its last line; seconds exclude
imports. It sees nothing of this project, so a peer may pin any version of anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".venvs"
INSTALL_SECONDS, ESTIMATE_SECONDS = 300, 900


class PeerFailure(RuntimeError):
    """A peer that could not be installed, crashed, ran out of time or gave no finite number; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another package.

    Attributes:
        requirements: what pip installs into its environment.
        estimates: kl or mutual-information; rows, if it generates some.
        variants: the estimators it is measured with.
    """

    requirements: tuple[str, ...]
    estimates: str
    variants: tuple[str, ...]


PEERS: Mapping[str, Peer] = {
    "universal-divergence": Peer(requirements=("universal-divergence==0.2.0",), estimates="kl", variants=("kl",)),
    "densratio": Peer(requirements=("densratio==0.4.0",), estimates="kl", variants=("kl",)),
    "infomeasure": Peer(requirements=("infomeasure==0.6.3",), estimates="kl", variants=("kl",)),
    "bmi": Peer(
        requirements=("benchmark-mi==0.1.3", "jax==0.4.33", "jaxlib==0.4.33"),
        estimates="mutual-information",
        variants=("ksg", "mine", "infonce"),
    ),
    "torch-mist": Peer(
        requirements=("torch-mist==0.2.17", "torch==2.13.0", "pandas"),
        estimates="mutual-information",
        variants=("js", "smile"),
    ),
    "ctgan": Peer(requirements=("ctgan==0.12.1",), estimates="rows", variants=("rows",)),
}


def methods(estimates: str) -> tuple[str, ...]:
    """Every `peer` or `peer:variant` that estimates kl or mutual-information."""
    found = ((name, peer) for name, peer in PEERS.items() if peer.estimates == estimates)
    return tuple(name if len(p.variants) == 1 else f"{name}:{v}" for name, p in found for v in p.variants)


def measure(method: str, samples: Mapping[str, np.ndarray], seed: int) -> dict[str, float]:
    """{"value", "seconds"} of the peer's estimate, value in nats.

    Args:
        method: one of `methods(…)`.
        samples: x ~ P [n, d] and y ~ Q [m, d], or pairs x [n, d] and z [n, e].
        seed: for peers that draw.

    Raises:
        PeerFailure: with the peer's own last words.
    """
    name, _, variant = method.partition(":")
    python = environment(name)
    script = HERE / f"{name.replace('-', '_')}.py"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npz"
        np.savez(path, allow_pickle=False, **samples)
        command = [python, "-P", script, path, variant or PEERS[name].variants[0], seed]
        printed = _run([str(word) for word in command], ESTIMATE_SECONDS)
    try:
        found = json.loads(printed.strip().splitlines()[-1])
    except (json.JSONDecodeError, IndexError):
        raise PeerFailure(f"printed no result: {_last(printed)}") from None
    if not np.isfinite(found["value"]):
        raise PeerFailure(f"its value is {found['value']}")
    return found


def script(name: str, *words: object) -> dict[str, float]:
    """What the script of a peer that generates rows prints. Raises PeerFailure."""
    command = [environment(name), "-P", HERE / f"{name}.py", *words]
    return json.loads(_run([str(word) for word in command], ESTIMATE_SECONDS).strip().splitlines()[-1])


def environment(name: str) -> Path:
    """The Python of the peer's environment, which is made (and its packages installed) on first use."""
    peer, folder = PEERS[name], ENVIRONMENTS / name
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted, ready = "\n".join(peer.requirements), folder / "ready"
    if ready.is_file() and ready.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n")
    venv.create(folder, with_pip=True)
    _run([str(python), "-m", "pip", "install", "--quiet", *peer.requirements], INSTALL_SECONDS)
    ready.write_text(wanted)
    return python


def _run(command: list[str], seconds: int) -> str:
    """What the command printed."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith(("JAX_", "XLA_", "PYTHON"))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=variables)
    except subprocess.TimeoutExpired:
        raise PeerFailure(f"not done after {seconds} s") from None
    except OSError as error:
        raise PeerFailure(str(error)) from None
    if done.returncode:
        raise PeerFailure(f"exit code {done.returncode}: {_last(done.stderr)}")
    return done.stdout


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "nothing"

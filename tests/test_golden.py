"""Two runs of the past always load, sample the same numbers and go on: what is saved today is read by later versions.

They lie in `golden/`, each with `expected.json`: the step, the hash of the state, samples, metrics of the steps after.
To make them anew is to give up the runs of all users: do it only where the format changes on purpose, with a line in
CHANGELOG.md, by `python tests/test_golden.py`. A field that is added to the config is no such reason: list it in
`fgan.run.directory.LATER`.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from fgan.config.schema import Config, Critic, Data, Generator, Log, Vae
from fgan.run import directory
from fgan.run.directory import ConfigConflict, RunDirectory
from fgan.run.loop import train
from fgan.run.members import Members, newest, restore

GOLDEN = Path(__file__).parent / "golden"
TINY = Log(every=5, evaluate=1000, checkpoint=5, samples=16)
RUNS = {
    "gan": Config(
        steps=10,
        seeds=2,
        batch=16,
        data=Data(name="mixture_1d"),
        generator=Generator(kind="location_scale", latent=1),
        critic=Critic(features=(4,)),
        log=TINY,
    ),
    "vae": Config(
        steps=10,
        batch=16,
        model="vae",
        divergence="kl",
        data=Data(name="ring"),
        vae=Vae(features=(4,), latent=1),
        log=TINY,
    ),
}
MOST = 60_000  # bytes of a run in the repository
SAMPLES = 16 * 2.0**-23  # of the largest: sixteen roundings in float32, for networks of two small layers
METRICS = 1e-3  # five steps, each of which divides by the root of a small second moment


def state_hash(state) -> str:
    """SHA-256 of the bits of every array."""
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state))).hexdigest()


def last_metrics(run: Path) -> dict:
    """The last line with metrics, not scores."""
    return [line for line in RunDirectory.find(run).records() if "scores" not in line][-1]


def go_on(run: Path) -> dict:
    """The metrics of five more steps."""
    config = Members.from_toml((run / "config.toml").read_text(encoding="utf-8")).config
    assert train(dataclasses.replace(config, steps=15), run, quiet=True).step == 15
    return last_metrics(run)


def copied(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / name, tmp_path / name))


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    from fgan.run import pictures

    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)


@pytest.fixture(params=RUNS)
def name(request) -> str:
    return request.param


def expected(name: str) -> dict:
    return json.loads((GOLDEN / name / "expected.json").read_text(encoding="utf-8"))


def test_it_loads_with_the_same_bits_and_samples_the_same_numbers(name):
    before = sorted(path for path in GOLDEN.rglob("*"))
    *_, step, state = newest(RunDirectory.find(GOLDEN / name))
    assert (step, state_hash(state)) == (expected(name)["step"], expected(name)["state"])
    wanted = np.array(expected(name)["samples"])
    drawn = restore(GOLDEN / name).sample(len(wanted), seed=3)
    np.testing.assert_allclose(drawn, wanted, rtol=0.0, atol=SAMPLES * np.abs(wanted).max())
    assert sorted(GOLDEN.rglob("*")) == before


def test_it_goes_on(name, tmp_path):
    run = copied(name, tmp_path)
    found, wanted = go_on(run), expected(name)["next"]
    assert found.keys() == wanted.keys() and found["step"] == 15
    for key, value in wanted.items():
        np.testing.assert_allclose(found[key], value, rtol=METRICS, atol=METRICS, err_msg=key)
    metrics = (GOLDEN / name / "metrics.jsonl").read_bytes()
    assert (run / "metrics.jsonl").read_bytes().startswith(metrics)


def test_its_files_are_as_they_were_written(name):
    files = [path for path in (GOLDEN / name).rglob("*") if path.is_file()]
    assert 10 < len(files) == len({str(path).lower() for path in files})  # file systems that know no case keep them all
    assert sum(path.stat().st_size for path in files) < MOST
    attributes = (GOLDEN.parent.parent / ".gitattributes").read_text()
    assert "tests/golden/** -text" in attributes  # no line ends are changed on the way


def test_a_field_that_is_added_changes_no_older_run(tmp_path, monkeypatch):
    """Listed with its default, it counts only where it differs."""
    older, newer = "steps = 1\n[critic]\nwidth = 4\n", "steps = 1\n[critic]\nwidth = 4\ndepth = 2\n"
    with RunDirectory.open(tmp_path / "run", older) as run:
        before = run.fingerprint
    with pytest.raises(ConfigConflict, match=r"critic\.depth was unset, is 2"):
        RunDirectory.open(tmp_path / "run", newer)
    monkeypatch.setattr(directory, "LATER", {"critic.depth": 2})
    with RunDirectory.open(tmp_path / "run", newer) as run:
        assert run.fingerprint == before
    with pytest.raises(ConfigConflict, match=r"critic\.depth was unset, is 3"):
        RunDirectory.open(tmp_path / "run", newer.replace("= 2", "= 3"))


def make(name: str) -> None:
    """Train a run anew, and keep what a later version must read."""
    run = GOLDEN / name
    shutil.rmtree(run, ignore_errors=True)
    train(RUNS[name], run, quiet=True)
    for unneeded in ("figures", "samples", "reconstructions"):
        shutil.rmtree(run / unneeded, ignore_errors=True)
    (run / "timings.jsonl").unlink()
    *_, step, state = newest(RunDirectory.find(run))
    facts = {"step": step, "state": state_hash(state), "samples": restore(run).sample(8, seed=3).tolist()}
    copy = Path(shutil.copytree(run, run.with_name(f".{name}")))
    facts["next"] = go_on(copy)
    shutil.rmtree(copy)
    (run / "expected.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in sys.argv[1:] or RUNS:
        make(each)

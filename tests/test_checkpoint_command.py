"""`fgan checkpoint verify|list`: what is saved, which of it is sound, and nothing is changed by asking."""

import json
import os
import shutil
from pathlib import Path

import pytest
from test_golden import GOLDEN

from fgan.cli.main import main


class Said:
    """How a command ended, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture, *words):
        with pytest.raises(SystemExit) as leaving:
            main([str(word) for word in words])
        self.code = leaving.value.code
        self.out, self.err = capsys.readouterr()


@pytest.fixture
def fgan(capsys):
    """The command `fgan checkpoint` in this process."""
    return lambda *words: Said(capsys, "checkpoint", *words)


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run with steps 5 and 10."""
    return Path(shutil.copytree(GOLDEN / "gan", tmp_path / "run"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def first(run: Path, step: int) -> Path:
    """A file of the payload of a step."""
    return run / "checkpoints" / str(step) / "state" / "_METADATA"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_sound_run(fgan, run):
    before = tree(run)
    said = fgan("verify", run)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [f"{run}/checkpoints/{step}: sound" for step in (5, 10)]
    head, *steps = fgan("list", run).out.splitlines()
    assert head == f"{run}: fgan, js, on mixture_1d, seed 0 and 1 more"
    assert [line.split()[0] for line in steps] == ["5", "10"]
    assert steps[1].endswith("sound, a resume takes it") and steps[0].endswith("sound") and " KiB " in steps[0]
    assert tree(run) == before


def test_an_unsound_step_exits_5_with_file_fault_and_remedy(fgan, run):
    flip(first(run, 10))
    before = tree(run)
    said = fgan("verify", run)
    assert said.code == 5 and said.err == f"fgan: {run}: 1 of 2 checkpoints cannot be used\n"
    sound, unsound = said.out.splitlines()
    assert sound.endswith("5: sound") and unsound.startswith(f"{run}/checkpoints/10: _METADATA has changed")
    assert "fgan train again: it goes on from step 5" in unsound
    said = fgan("list", run)
    assert said.code == 0 and "unsound: _METADATA" in said.out and "5  " in said.out
    assert said.out.splitlines()[1].endswith("sound, a resume takes it")
    assert tree(run) == before


FAULTS = {  # what is done to a run, what is said of step 10, and which step a resume takes
    "an older step": (lambda run: flip(first(run, 5)), "", 10),
    "no manifest": (lambda run: (run / "checkpoints/10/manifest.json").unlink(), "manifest.json: No such file", 5),
    "an empty folder": (lambda run: (run / "checkpoints/11").mkdir(), "", 10),
    "lost lines": (lambda run: os.truncate(run / "metrics.jsonl", 100), "metrics.jsonl has 100 bytes", None),
    "both": (lambda run: [flip(first(run, step)) for step in (5, 10)], "_METADATA has changed", None),
    "another seed": (
        lambda run: (run / "config.toml").write_text((run / "config.toml").read_text().replace("seed = 0", "seed = 1")),
        "saved under another configuration",
        None,
    ),
    "a step of another run": (
        lambda run: [
            shutil.rmtree(run / "checkpoints/10"),
            shutil.copytree(GOLDEN / "vae/checkpoints/10", run / "checkpoints/10"),
        ],
        "saved under another configuration",
        5,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_what_a_resume_would_take(fgan, run, fault):
    damage, said_of_ten, takes = FAULTS[fault]
    damage(run)
    before = tree(run)
    said = fgan("verify", run, "--json")
    [found] = json.loads(said.out)["runs"]
    assert said.code == 5 and found["resumes"] == takes and not all(step["sound"] for step in found["steps"])
    [ten] = [step for step in found["steps"] if step["step"] == 10]
    assert said_of_ten in ten["fault"] and ten["sound"] == (not said_of_ten)
    assert fgan("list", run).code == 0 and tree(run) == before


def test_a_sweep_is_shown_part_by_part(fgan, run, tmp_path):
    sweep = tmp_path / "sweep"
    for part in ("000-000", "000-001"):
        shutil.copytree(run, sweep / "parts" / part)
    (sweep / "config.toml").write_text("members = 2\n")
    assert len(fgan("verify", sweep).out.splitlines()) == 4
    flip(first(sweep / "parts" / "000-001", 10))
    said = fgan("verify", sweep)
    assert said.code == 5 and "1 of 4 checkpoints" in said.err
    assert [run["resumes"] for run in json.loads(fgan("list", sweep, "--json").out)["runs"]] == [10, 5]


def test_steps_that_were_set_aside_are_listed(fgan, run):
    (run / "checkpoints/10").rename(run / "checkpoints/bad-10")
    assert fgan("verify", run).code == 0
    assert "bad-10  set aside" in fgan("list", run).out


def test_nothing_saved(fgan, run, tmp_path):
    shutil.rmtree(run / "checkpoints")
    said = fgan("verify", run)
    assert said.code == 5 and "has no checkpoint" in said.err and not (run / "checkpoints").exists()
    assert "no checkpoint" in fgan("list", run).out
    said = fgan("verify", tmp_path / "nowhere")
    assert said.code == 5 and "no run directory" in said.err
    (run / "data.json").write_text("{")
    said = fgan("list", run)
    assert said.code == 5 and "data.json is damaged" in said.err and said.err.count("\n") == 1


@pytest.mark.parametrize("words", [["verfy", "run"], ["verify"], []])
def test_what_cannot_be_meant_exits_2(fgan, words):
    said = fgan(*words)
    assert said.code == 2 and said.err.count("\n") == 1

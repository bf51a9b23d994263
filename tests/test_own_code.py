"""A divergence that is a function of the user's own file: it works from the command line, and only from there."""

import json
from pathlib import Path

import numpy as np
import pytest

from fgan.cli import own_code
from fgan.cli.main import main
from fgan.config.fields import ConfigError

MINE = """
from pathlib import Path
import jax.numpy as jnp
import numpy as np
Path("it-ran").touch()

def f(u):
    return (u - 1) ** 2 / (u + 1)

def kinked(u):
    return jnp.abs(u - 1)

def wrong(u):
    return u

def not_jax(u):
    return -np.log(u)

number = 3
"""
FEW = ["--steps", "4", "--batch", "8", "--log.every", "2", "--log.samples", "40", "--critic.features", "8", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "a.toml").write_text('[data]\nname = "ring"\n', encoding="utf-8")
    return tmp_path


def fgan(*words: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(words)
    return leaving.value.code


def test_a_gan_is_trained_and_goes_on(here, capsys):
    train = ["train", "a.toml", "--divergence", "mine.py:f", *FEW]
    assert fgan(*train) == 0
    (run,) = (here / "runs").iterdir()
    assert fgan(*train, "--steps", "6") == 0 and json.loads((run / "status.json").read_text())["step"] == 6
    (here / "it-ran").unlink()
    assert fgan("sample", str(run), "-n", "3", "--out", "s.npy") == 0 and np.load("s.npy").shape == (3, 2)
    assert not (here / "it-ran").exists()
    capsys.readouterr()


def test_another_function_of_this_name_is_another_configuration(here, capsys):
    train = ["train", "a.toml", "--run", "run", "--divergence=mine.py:f", *FEW]
    assert fgan(*train) == 0
    (here / "mine.py").write_text("def f(u):\n    return (u - 1) ** 2\n", encoding="utf-8")
    assert fgan(*train, "--steps", "6") != 0
    said = capsys.readouterr().err
    assert "mine.f" in said and "\n" not in said.strip()


def test_a_kink_is_found_and_exact_values_are_computed(here, capsys):
    assert fgan("divergences", "mine.py:kinked") == 0
    assert "smoothed ratio" in capsys.readouterr().out
    assert fgan("exact", "normal(0)", "normal(1)", "-d", "mine.py:kinked", "total_variation", "--json") == 0
    mine, named = json.loads(capsys.readouterr().out)["exact"]
    assert mine["divergence"] == "mine.kinked" and mine["value"] == pytest.approx(2.0 * named["value"], rel=1e-6)


@pytest.mark.parametrize(
    "word, message",
    [
        ("none.py:f", "there is no such file"),
        ("mine.py:g", "defines no g"),
        ("mine.py:wrong", "f(1) = 1"),
        ("mine.py:not_jax", "write it with jax.numpy"),
        ("mine.py:number", "write it with jax.numpy"),
        ("broken.py:f", "broken.py:2: "),
        ("failing.py:f", "failing.py fails: ZeroDivisionError"),
        ("leaving.py:f", "leaving.py fails: SystemExit"),
    ],
)
def test_what_is_no_divergence_is_refused_in_a_line(here, word, message):
    for name, text in (("broken", "x = 1\ndef f(u:"), ("failing", "1 / 0"), ("leaving", "import sys\nsys.exit(0)")):
        (here / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        own_code.known(word)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_config_a_sweep_or_a_data_file_runs_no_code(here, capsys):
    (here / "b.toml").write_text('divergence = "mine.py:f"\n[data]\nname = "ring"\n', encoding="utf-8")
    (here / "sweep.toml").write_text('config = "a.toml"\n[grid]\ndivergence = ["mine.py:f"]\n', encoding="utf-8")
    for words in (
        ["train", "b.toml", *FEW],
        ["sweep", "sweep.toml", "--quiet"],
        ["estimate", "mine.py:f", "mine.py:f"],
        ["train", "a.toml", "--data.name", "samples", "--data.path", "mine.py:f", *FEW],
        ["train", "a.toml", "--run", "mine.py:f", "--divergence", "no", *FEW],
    ):
        assert fgan(*words) in (2, 3)
    assert not (here / "it-ran").exists()
    assert capsys.readouterr().err.count("on the command line alone: --divergence mine.py:f") == 2

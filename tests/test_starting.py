"""What a new user types first: a config to begin with, what it means, and how a run stands."""

import json
from pathlib import Path

import pytest

from fgan.cli import init
from fgan.cli.main import main
from fgan.config import toml
from fgan.config.schema import Config, Critic, Generator, Log
from fgan.library import read_metrics
from fgan.run.loop import train


def fgan(*words: str) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(words)
    return leaving.value.code


@pytest.mark.parametrize("kind", init.STARTERS)
def test_a_starter_is_a_config_with_comments(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert fgan("init", kind) == 0
    text = Path(f"{kind}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ") and f"fgan train {kind}.toml" in text and "configs/" not in text.splitlines()[1]
    assert toml.load(f"{kind}.toml") == toml.load(init.folder() / f"{init.STARTERS[kind]}.toml")
    assert f"fgan train {kind}.toml" in capsys.readouterr().out
    assert fgan("init", kind) == 2 and "is there already" in capsys.readouterr().err
    assert fgan("init", kind, "--out", "none/a.toml") == 2 and text == Path(f"{kind}.toml").read_text(encoding="utf-8")


def test_a_config_is_shown_compared_and_checked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("a.toml").write_text('divergence = "kl"\n[critic]\nfeatures = [8]\n', encoding="utf-8")
    Path("b.toml").write_text("steps = 7\n", encoding="utf-8")
    Path("bad.toml").write_text("steps = -7\n", encoding="utf-8")
    assert fgan("config", "show", "a.toml") == 0
    assert toml.from_toml(capsys.readouterr().out) == toml.load("a.toml")
    assert fgan("config", "diff", "a.toml") == 0
    assert capsys.readouterr().out.splitlines() == ['divergence = "js" → "kl"', "critic.features = [64, 64] → [8]"]
    assert fgan("config", "diff", "a.toml", "b.toml") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert fgan("config", "diff", "b.toml", "b.toml") == 0 and capsys.readouterr().out == "no difference\n"
    assert fgan("config", "validate", "a.toml", "b.toml") == 0 and capsys.readouterr().out.count("valid") == 2
    for words in (["validate", "bad.toml"], ["show"], ["show", "a.toml", "b.toml"], ["diff", "none.toml"]):
        assert fgan("config", *words) == 2
    assert capsys.readouterr().err.count("\n") == 4


def test_how_a_run_stands(tmp_path, capsys):
    config = Config(batch=8, steps=4, critic=Critic(features=(4,)), generator=Generator(features=(4,)))
    train(Config(**vars(config) | {"log": Log(every=2, evaluate=4, samples=40)}), tmp_path / "run", quiet=True)
    assert fgan("status", str(tmp_path / "run")) == 0
    said = capsys.readouterr().out
    for words in ("state      finished", "step       4", "saved      step 4", "bound  "):
        assert words in said
    assert fgan("status", str(tmp_path / "run"), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["step"], found["saved"], found["last"]["step"]) == ("finished", 4, [4], 4)
    assert fgan("status", str(tmp_path)) == 5


def test_metrics_are_a_frame(tmp_path):
    config = Config(batch=8, steps=4, seed=3, seeds=2, critic=Critic(features=(4,)), generator=Generator(features=(4,)))
    train(Config(**vars(config) | {"log": Log(every=2, evaluate=4, samples=40)}), tmp_path / "run", quiet=True)
    frame = read_metrics(tmp_path / "run")
    assert frame[["step", "seed"]].values.tolist() == [[2, 3], [2, 4], [4, 3], [4, 4]]
    assert frame["bound"].notna().all() and frame["modes"].notna().tolist() == [False, False, True, True]

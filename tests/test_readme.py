"""The README: its divergence table is the registry's, and what it tells a newcomer to run exists."""

import ast
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

import estimators
import fgan
from estimators.estimation import functional
from fgan.cli import divergences, reproduce
from fgan.cli import main as cli
from fgan.config.checks import check

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


def test_the_divergence_table_is_current():
    assert block("divergences") == "\n".join(divergences.markdown()), "run: python -m fgan divergences --markdown"


@pytest.mark.parametrize("name", ["ablation", "capture", "digits", "estimate", "high_dimensional", "modes"])
def test_each_use_shows_real_output(name):
    assert "```" in block(name) or "|" in block(name)


def lines(language: str = "") -> list[str]:
    """The lines of the code blocks in `language`."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [line.strip() for kind, text in blocks if kind == language for line in text.splitlines()]


@pytest.mark.parametrize("line", [line for text in lines() if (line := text.removeprefix("$ ")).startswith("fgan ")])
def test_each_command_is_understood(line, monkeypatch):
    """Parsed by the command line itself, so that every option exists, and checked, but not run."""
    _, name, *words = shlex.split(line, comments=True)
    asked = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cli.COMMANDS[name], "__call__", lambda self: asked.append(self))
    with pytest.raises(SystemExit) as leaving:
        cli.main([name, *words])
    assert leaving.value.code == 0 and len(asked) == 1
    if name == "train":
        check(asked[0].settings)
    if name == "reproduce":
        assert asked[0].name in reproduce.EXPERIMENTS
    if name == "estimate":
        assert all(functional(divergence) for divergence in asked[0].divergences)


def test_each_python_name_exists():
    tree = ast.walk(ast.parse("\n".join(lines("python"))))
    used = {(ast.unparse(node.value), node.attr) for node in tree if isinstance(node, ast.Attribute)}
    result = {f.name for f in fields(estimators.Estimate)} | set(dir(estimators.Estimate))
    trained = {f.name for f in fields(fgan.Trained)} | set(dir(fgan.Trained))
    known = {"est": set(estimators.__all__), "r": result, "fgan": set(fgan.__all__), "model": trained}
    assert {variable for variable, _ in used} == set(known)
    assert [name for variable, name in used if name not in known[variable]] == []


def test_each_target_of_make_exists():
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", "\n".join(re.findall(r"`[^`]*`", README) + lines()))) <= targets


def test_each_link_and_named_file_exists():
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"\b(?:configs|docs|notebooks)/[\w./-]*\w", README)
    assert named and [path for path in named if not (ROOT / path).exists()] == []

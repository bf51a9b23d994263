"""The README: its divergence table is the registry's, and what it tells a newcomer to run exists."""

import re
from pathlib import Path

import pytest

from fgan import tables
from fgan.cli import COMMANDS, EXPERIMENTS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"README.md has no block {name}"
    return found[1]


def test_the_divergence_table_is_current():
    assert block("divergences") == tables.divergences(markdown=True), "run: python -m fgan divergences --markdown"


@pytest.mark.parametrize("name", ["digits", "estimate", "modes"])
def test_each_use_shows_real_output(name):
    assert "```" in block(name) or "|" in block(name)


def test_commands_configs_and_pictures_exist():
    assert set(re.findall(r"^\s*(?:\$ )?fgan (\w+)", README, re.MULTILINE)) <= set(COMMANDS)
    assert set(re.findall(r"fgan reproduce (\w+)", README)) <= set(EXPERIMENTS)
    for path in re.findall(r"(?:configs/\w+\.toml|docs/\w+\.png|CONTRIBUTING\.md)", README):
        assert (ROOT / path).is_file(), path
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make (\S+)", README, re.MULTILINE)) <= targets

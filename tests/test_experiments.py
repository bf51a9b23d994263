"""The room of experiments: every file that offers some is found, and another takes part at once."""

from pathlib import Path

import pytest

import fgan.experiments
from fgan.cli.main import main
from fgan.cli.reproduce import EXPERIMENTS

SHARED = {"runs", "tables", "plots"}


def test_every_file_offers_its_experiments_in_one_line_each():
    folder = Path(fgan.experiments.__file__).parent
    offering = {path.stem for path in folder.iterdir() if path.stem not in {"__init__", "__pycache__", *SHARED}}
    assert offering == {"dirac", "high_dimensional", "mode_capture", "modes"}
    assert set(EXPERIMENTS) == {"dirac", "high_dimensional", "ring", "grid", "modes"}
    assert all(line and "\n" not in line for line in EXPERIMENTS.about.values())
    assert {EXPERIMENTS[name].__module__.rpartition(".")[2] for name in EXPERIMENTS} == offering


def test_another_experiment_is_listed_and_run(tmp_path, capsys):
    def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
        directory.mkdir()
        (directory / "coin.json").write_text("{}")
        print(f"{name}: heads")
        return [directory / "coin.json"]

    def fgan_prints(*words: str) -> list[str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert ended.value.code == 0
        return capsys.readouterr().out.splitlines()

    EXPERIMENTS.add("coin", "a coin thrown once", reproduce)
    try:
        assert fgan_prints("reproduce", "--list")[-1].split(maxsplit=1) == ["coin", "a coin thrown once"]
        made = tmp_path / "mine"
        assert fgan_prints("reproduce", "coin", "--run", str(made)) == ["coin: heads", f"data     {made / 'coin.json'}"]
    finally:
        EXPERIMENTS.remove("coin")
    assert "coin" not in EXPERIMENTS

"""The room of experiments: every file that offers some is found."""

from pathlib import Path

import fgan.experiments
from fgan.cli.reproduce import EXPERIMENTS

SHARED = {"runs", "tables", "plots", "image_preset"}


def test_every_file_offers_its_experiments_in_one_line_each():
    folder = Path(fgan.experiments.__file__).parent
    offering = {path.stem for path in folder.iterdir() if path.stem not in {"__init__", "__pycache__", *SHARED}}
    assert offering == {
        "dirac",
        "distillation",
        "flow",
        "high_dimensional",
        "mode_capture",
        "modes",
        "parzen",
        "policy",
        "relevance",
        "stacked",
        "vae",
        "vi",
    }
    assert set(EXPERIMENTS) == {
        "dirac",
        "distillation",
        "flow",
        "high_dimensional",
        "ring",
        "grid",
        "modes",
        "parzen",
        "policy",
        "relevance",
        "stacked",
        "vae",
        "vi",
    }
    assert all(line and "\n" not in line for line in EXPERIMENTS.about.values())
    assert {EXPERIMENTS[name].__module__.rpartition(".")[2] for name in EXPERIMENTS} == offering

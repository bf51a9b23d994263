"""The experiment `distillation`: what its table and aims say, and, slowly, that they are met."""

import json

import numpy as np
import pytest

from fgan.experiments import distillation
from fgan.experiments.distillation import LOSSES, TEMPERATURES


def made_up(gain: float = 0.05, twin: float = 0.0) -> list[dict]:
    """Rows as the experiment makes them: soft losses better than hard labels by `gain`, decoupled_kl off by `twin`."""
    seeds, noise = (0, 1, 2), np.array([-0.01, 0.0, 0.01])
    rows = distillation._rows("hard", seeds, (0.85 + noise)[None], (0.3 + noise)[None], hard=[])
    for name in LOSSES:
        better = 0.85 + gain + twin * (name == "decoupled_kl")
        accuracy = np.tile(better + noise, (4, 1))
        rows += distillation._rows(name, seeds, accuracy, np.full((4, 3), 0.1), hard=rows[:1])
    return rows


def result(rows: list[dict]) -> dict:
    settings = {"seeds": [0, 1, 2], "train": 9, "lessons": 3, "held_out": 5, "teacher": [8], "student": [4]}
    teacher = {"accuracy": {"mean": 0.97, "standard_error": 0.01}}
    return {"rows": rows, "teacher": teacher, "settings": settings, "aims": distillation.aims(rows), "seconds": 1.0}


def test_gains_are_differences_seed_by_seed():
    rows = made_up()
    assert len(rows) == 1 + len(LOSSES) * len(TEMPERATURES) and rows[0]["temperature"] is None
    assert rows[0]["gain"] == {"mean": 0.0, "standard_error": 0.0}
    assert rows[1]["gain"]["mean"] == pytest.approx(0.05)
    assert rows[1]["gain"]["standard_error"] < 1e-12 < rows[1]["accuracy"]["standard_error"]


def test_aims_are_missed_where_they_should_be():
    assert all(distillation.aims(made_up()).values())
    assert sum(distillation.aims(made_up(gain=-0.01)).values()) == 2
    assert sum(distillation.aims(made_up(twin=0.02)).values()) == 2


def test_the_table_and_the_picture_show_every_loss(tmp_path, monkeypatch, capsys):
    found = result(made_up(twin=0.02))
    text = distillation.table(found)
    assert all(name in text for name in ("teacher", "hard", *LOSSES)) and "MISSED: decoupled_kl" in text
    (tmp_path / "distillation.json").write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(distillation, "results", lambda directory, *, quiet: found)
    made = distillation.reproduce("distillation", tmp_path, quiet=True)
    assert [path.name for path in made] == ["distillation.png", "distillation.json"]
    assert made[0].read_bytes()[:4] == b"\x89PNG" and text in capsys.readouterr().out


def test_the_digits_are_split_by_the_seed_alone():
    images, labels = distillation.digits(0)
    again, _ = distillation.digits(0)
    assert images.shape == (1797, 64) and images.min() == -1.0 and images.max() == 1.0 and set(labels) == set(range(10))
    assert np.array_equal(images, again) and not np.array_equal(images, distillation.digits(1)[0])


@pytest.mark.slow
def test_every_aim_is_met(optimised, tmp_path):
    found = distillation.results(tmp_path, quiet=True)
    assert all(found["aims"].values()), found["aims"]
    assert json.loads((tmp_path / "distillation.json").read_text()) == json.loads(json.dumps(found))
    assert distillation.students._cache_size() == 1, "one program for all losses"
    teacher = found["teacher"]["accuracy"]["mean"]
    assert teacher > 0.95 and all(row["accuracy"]["mean"] < teacher for row in found["rows"])

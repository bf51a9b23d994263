"""fgan reproduce vi: what is measured is exact, and a short run fills its files."""

import json
import math

import numpy as np
import pytest

from fgan.experiments import vi


def test_the_banana_is_smooth_along_its_arc_and_heavier_at_one_end():
    """No component shows: along the arc the log density bends by less than 1e-3 nats from one to the next."""
    target = vi.banana()
    assert sum(target.weights) == pytest.approx(1.0) and target.weights[-1] == pytest.approx(2.0 * target.weights[0])
    angle = np.linspace(0.3 * math.pi, 0.7 * math.pi, 201)
    along = np.asarray(target.log_prob(np.stack([1.8 * np.cos(angle), 1.8 * np.sin(angle) - 1.0], axis=-1)), np.float64)
    straight = np.polynomial.Polynomial.fit(angle, along, 3)(angle)
    assert np.abs(along - straight).max() < 3e-3


@pytest.mark.slow
def test_a_short_run_fills_table_picture_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vi, "TARGETS", {"two modes": vi.TARGETS["two modes"]})
    monkeypatch.setattr(vi, "NAMES", ("reverse_kl",))
    short = {"seeds": 2, "steps": 300, "samples": 32}
    result = vi.results(tmp_path, names=vi.NAMES, quiet=True, **short)
    stored = json.loads((tmp_path / "vi.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(result))
    (row,) = stored["targets"]["two modes"]
    assert row["gradient"] == "doubly_reparameterised" and len(row["seeds"]) == 2
    for seed in row["seeds"]:
        assert -1e-6 < seed["excess"] < 5e-3 and seed["start"] in (0, 1)
        assert seed["exact"] == pytest.approx(row["optimum"]["value"] + seed["excess"])
        assert abs(seed["estimate"]["value"] - seed["exact"]) < 4.0 * seed["estimate"]["standard_error"]
        assert seed["estimate"]["log_normaliser"] == pytest.approx(vi.SHIFT, abs=0.05)
    monkeypatch.setattr(vi, "results", lambda directory, *, quiet: result)
    made = vi.reproduce("vi", tmp_path, quiet=True)
    assert [path.name for path in made] == ["vi.png", "vi.json"] and made[0].stat().st_size > 10_000
    assert "reverse_kl" in capsys.readouterr().out

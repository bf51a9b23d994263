"""fgan reproduce relevance: the outline's map, the weights, and the files."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("PIL")

from fgan.experiments import relevance


def test_the_ideal_map_is_the_share_of_each_patch_inside_the_outline():
    square = relevance.Scene(file="", outlines=(((16, 32), (48, 32), (48, 40), (16, 40)),), point=(0, 0))
    found = relevance.ideal(square, (64, 64, 3))
    assert found.shape == (4, 4) and found.sum() == pytest.approx(1.0)
    assert (found > 0.0).sum() == 2 and found[2, 1] == pytest.approx(0.5, abs=0.05)


def test_the_best_weights_are_where_no_other_is_better():
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.dirichlet(np.ones(12), 3).reshape(3, 3, 4), jnp.float32)
    target = np.asarray(relevance.weighted(maps, jnp.asarray([1.5, 0.0, 0.7])))
    found = relevance.best_weights(maps, target)
    np.testing.assert_allclose(found, [1.5, 0.0, 0.7], atol=0.02)
    assert relevance.kl(target, relevance.weighted(maps, found)) < 1e-4


@pytest.mark.slow
def test_the_command_writes_its_files_and_says_what_the_ideal_is(tmp_path, capsys):
    made = relevance.reproduce("relevance", tmp_path, quiet=True)
    assert [path.name for path in made] == ["relevance.png", "relevance.json"] and made[0].stat().st_size > 50_000
    assert "outline drawn by eye" in capsys.readouterr().out
    stored = json.loads(made[1].read_text(encoding="utf-8"))
    assert [row["image"] for row in stored["rows"]] == list(relevance.SCENES) and all(stored["aims"].values())
    for row in stored["rows"]:
        kl, energy = row["kl"], row["free_energy"]
        assert (
            kl["own weights"] <= min(kl[name] for name in ("weighted (after)", "geometric", *relevance.SCORES)) + 1e-5
        )
        assert kl["weighted (after)"] < kl["uniform (before)"]
        assert energy["uniform"] - energy["after"] == pytest.approx(energy["kl"], abs=1e-4)
        for b in row["budgets"]:
            assert np.sum(b["allocation"]) == b["tokens"] and b["most"] <= relevance.CAP
        patches = {(b["tokens"], b["by"]): b["patches"] for b in row["budgets"]}
        assert all(patches[n, "forward"] == n >= patches[n, "reverse"] for n in relevance.BUDGETS)

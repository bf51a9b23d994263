"""The Dirac-GAN: eigenvalues measured on the project's own step are those of the formulas."""

import json
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from estimators.divergences.table import divergence
from fgan.experiments import dirac
from fgan.models.penalties import PENALTIES

CURVATURE = {
    "kl": 1.0,
    "reverse_kl": 1.0,
    "jeffreys": 2.0,
    "js": 0.25,
    "js_weighted(0.3)": 0.21,
    "gan": 0.5,
    "pearson": 2.0,
    "neyman": 2.0,
    "squared_hellinger": 0.5,
    "triangular": 1.0,
    "alpha(0.5)": 1.0,
    "geometric_js": 0.25,
}
QUICK = ("kl", "reverse_kl", "js", "pearson", "alpha(0.5)")
"""Each kind of curve c = f*∘T: convex, straight, bounded, of another curvature, a family's; the others are slow."""
ROWS = [pytest.param(d.name, marks=[] if d.name in QUICK else pytest.mark.slow) for d in dirac.smooth()]


@cache
def measured(name: str) -> dict:
    return dirac.measure(divergence(name))


def penalties(row: dict, *names: str) -> dict[str, dict]:
    return {facts["penalty"]: facts for facts in row["penalties"] if not names or facts["penalty"] in names}


def flows(name: str, weight: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(Jacobians [2·penalties, 2, 2], flows from START and from NEAR, interval), by the program of `measured`."""
    with jax.enable_x64(True):
        interval = 2.0 * math.pi / CURVATURE[name] / dirac.SAMPLES
        weights = np.tile(weight * np.eye(len(dirac.NAMES)), (2, 1))
        starts = np.repeat([dirac.START, dirac.NEAR], len(dirac.NAMES), axis=0)
        jacobians, paths = dirac.simulate(divergence(name), weights, starts, interval)
        return np.asarray(jacobians), np.asarray(paths), interval


@pytest.mark.parametrize("name", ROWS)
def test_the_jacobian_has_the_predicted_eigenvalues(name):
    row = measured(name)
    if name in CURVATURE:
        assert row["curvature"] == pytest.approx(CURVATURE[name], abs=1e-12)
    found = penalties(row, *dirac.STRENGTHS)
    assert list(found) == list(dirac.STRENGTHS)
    for penalty, facts in found.items():
        np.testing.assert_allclose(facts["jacobian"], facts["predicted"], atol=1e-8, err_msg=penalty)


@pytest.mark.parametrize("name", ROWS)
def test_the_flow_turns_and_decays_at_the_predicted_rates(name):
    """Up to the curvature of c' over a path of radius 1e-4 and the integrator's error, both relative to κ."""
    row = measured(name)
    for penalty, facts in penalties(row, *dirac.STRENGTHS).items():
        np.testing.assert_allclose(facts["flow"], facts["predicted"], atol=1e-6 * row["curvature"], err_msg=penalty)


def test_the_formula_is_mescheders_with_half_his_weight():
    """−γ/2 ± √(γ²/4 − κ²) for r1 with λ = γ/2, complex below γ = 2κ and real above."""
    for curvature, gamma in ((0.25, 0.2), (1.0, 0.2), (1.0, 5.0)):
        damping = 0.5 * gamma * dirac.STRENGTHS["r1"](curvature)
        roots = np.roots([1.0, gamma, curvature**2])
        np.testing.assert_allclose(dirac.predicted(curvature, damping), dirac.ordered(roots), rtol=1e-12)


def test_overdamped_games_have_real_eigenvalues():
    jacobians, paths, interval = flows("kl", weight=1.5)
    for i, penalty in enumerate(dirac.STRENGTHS):
        damping = 1.5 * dirac.STRENGTHS[penalty](1.0)
        expected = dirac.predicted(1.0, damping)
        assert (np.abs(expected.imag) < 1e-12).all() == (damping >= 1.0)
        np.testing.assert_allclose(dirac.ordered(np.linalg.eigvals(jacobians[i])), expected, atol=1e-8)
        slow = expected.real > -1.0  # the fast one is gone within a turn
        near = dirac.rates(paths[len(dirac.NAMES) + i], interval)
        np.testing.assert_allclose(near[slow], expected[slow], atol=1e-5)


@pytest.mark.parametrize("name", ["kl", "js", "pearson"])
def test_without_a_penalty_energy_is_kept_and_with_one_it_falls(name):
    _, paths, _ = flows(name, dirac.WEIGHT)
    energy = dict(zip(dirac.NAMES, np.sum(paths[: len(dirac.NAMES)] ** 2, axis=2)))
    np.testing.assert_allclose(energy["none"], 2.0, rtol=5e-5)
    for penalty in ("r1", "r2", "roth", "jsd"):
        assert (np.diff(energy[penalty]) < 1e-6).all() and energy[penalty][-1] < 1.8


@pytest.mark.parametrize("penalty", ["none", "r1"])
def test_steps_of_gradient_descent_follow_the_same_matrix(x64, penalty):
    """n steps of rate h under reverse_kl, whose c' is constant: (I + hJ)ⁿ exactly, which without a penalty grows."""
    rate, n, weight = 0.1, 50, 0.3
    gan = dirac.game(divergence("reverse_kl"), lambda look: weight * PENALTIES[penalty](look), rate)
    z = jax.jit(lambda z: jax.lax.fori_loop(0, n, lambda _, z: dirac.stepped(gan, z), z))(jnp.array([0.3, -0.2]))
    jacobian = np.array([[0.0, 1.0], [-1.0, -2.0 * weight * (penalty == "r1")]])
    expected = np.linalg.matrix_power(np.eye(2) + rate * jacobian, n) @ [0.3, -0.2]
    np.testing.assert_allclose(z, expected, rtol=1e-10)
    growth = np.linalg.norm(z) / math.hypot(0.3, 0.2)
    assert growth < 0.5 if penalty == "r1" else growth == pytest.approx(1.01 ** (n / 2))


# --- where the penalty has a kink -------------------------------------------------------------------------------------


def test_the_goal_repels_on_both_sides_where_slopes_of_one_are_asked_for(x64):
    field = partial(dirac.velocity, divergence("js"))
    for penalty in dirac.KINKED:
        weights = 0.3 * np.eye(len(dirac.NAMES))[dirac.NAMES.index(penalty)]
        for side in (1.0, -1.0):
            assert field(weights, np.array([0.0, 1e-9 * side])) == pytest.approx([0.0, 0.6 * side], abs=1e-8)


def test_the_cycle_is_the_predicted_one_where_the_game_is_linear():
    for facts in penalties(measured("reverse_kl"), *dirac.KINKED).values():
        assert facts["cycle"]["measured"] == pytest.approx(facts["cycle"]["predicted"], rel=1e-4)
        assert facts["predicted"] is None and facts["radius_from_near"] > 0.9


def test_the_predicted_cycle_is_closed_and_crosses_where_it_is_said_to():
    path = dirac.cycle(0.25, 0.1)
    assert np.abs(path[:, 0][np.abs(path[:, 1]) < 1e-9]) == pytest.approx(dirac.crossing(0.25, 0.1))
    assert path[0] == pytest.approx(path[-1], abs=1e-9) and (path[: dirac.SAMPLES, 1] > -1e-9).all()


# --- the experiment ---------------------------------------------------------------------------------------------------


def test_the_command_writes_its_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dirac, "smooth", lambda: [divergence("kl"), divergence("js")])
    made = dirac.reproduce("dirac", tmp_path, quiet=True)
    assert [path.name for path in made] == ["dirac.png", "dirac.json"]
    assert made[0].read_bytes()[:4] == b"\x89PNG"
    stored = json.loads(made[1].read_text(encoding="utf-8"))
    assert [row["divergence"] for row in stored["rows"]] == ["kl", "js"]
    assert all([facts["penalty"] for facts in row["penalties"]] == list(dirac.NAMES) for row in stored["rows"])
    shown = [facts["penalty"] for facts in stored["rows"][0]["penalties"] if "path" in facts]
    assert set(shown) == set(dirac.COLUMNS) and len(stored["rows"][0]["penalties"][0]["path"][0]) == 2
    said = capsys.readouterr().out
    assert "Left out: total_variation, hockey_stick(2)" in said and "−0.1000±0.9950i" in said


@pytest.mark.parametrize(
    "pair, text",
    [
        ([[0.0, -1.0], [0.0, 1.0]], "0±1.0000i"),
        ([[-0.1, -0.5], [-0.1, 0.5]], "−0.1000±0.5000i"),
        ([[-2.0, 0.0], [-0.5, 0.0]], "−2.0000, −0.5000"),
    ],
)
def test_eigenvalues_as_text(pair, text):
    assert dirac.written(pair) == text

"""Every objective: finite everywhere, its weights those of its formula, its descent that of its divergence."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from estimators.divergences.generator import SMOOTHING, derivative
from estimators.divergences.table import DIVERGENCES, divergence
from estimators.rooms import names
from fgan.cli.main import main
from fgan.config.schema import Config, Critic, Data, Game, Generator, replace
from fgan.data.sources import load
from fgan.models.model import build
from fgan.models.objectives import OBJECTIVES, Outputs, kl_gradient, minimax, objective, ratio
from fgan.run import pictures

SMOOTH = [name for name in DIVERGENCES if divergence(name).smooth]
KINKED = {  # f*(f'(e^ℓ)) with the step smoothed to a width s
    "total_variation": lambda ratio, s: 0.5 * np.tanh(ratio / s),
    "hockey_stick(2)": lambda ratio, s: 2.0 / (1.0 + np.exp(-2.0 * (ratio - math.log(2.0)) / s)),
}


def outputs(v, name: str, critic: str = "", activation: str = "log_ratio") -> Outputs:
    """v of a critic of one divergence, to the generator of another."""
    return Outputs(v, divergence(critic or name).activation(activation), divergence(name))


def weight(name: str, v, *settings, **options):
    """−dcost/dv at outputs v, how hard each sample is pulled up the critic's slope."""
    return -derivative(lambda v: OBJECTIVES[name](outputs(v, *settings, **options)))(v)


@pytest.mark.parametrize("activation", ["log_ratio", "paper"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_costs_fall_and_stay_finite_for_every_divergence(name, activation):
    """In float32, with their slopes, wherever |v| ≤ 30."""
    v = jnp.linspace(-30.0, 30.0, 241)
    for d in DIVERGENCES:
        cost = OBJECTIVES[name](outputs(v, d, activation=activation))
        slope = np.asarray(weight(name, v, d, activation=activation))
        assert cost.shape == v.shape and np.isfinite(cost).all(), d
        assert np.isfinite(slope).all() and (slope >= 0.0).all() and slope.max() > 0.0, d


@pytest.mark.parametrize("name", SMOOTH)
def test_weights_are_those_of_the_formulas(x64, name):
    """e^{2ℓ} f''(e^ℓ), e^ℓ f''(e^ℓ) and e^ℓ under log_ratio; ratio is minimax where one divergence trains both."""
    v, g = jnp.linspace(-3.0, 3.0, 13), divergence(name).log_ratio
    u, slope = jnp.exp(g.log_ratio(v)), derivative(g.log_ratio)(v)  # ℓ = v and 1 but where T is derived from f
    curvature = u * divergence(name).second(u) * slope
    expected = {"minimax": u * curvature, "alternative": curvature, "kl_gradient": u * slope, "ratio": u * curvature}
    for chosen in OBJECTIVES:
        np.testing.assert_allclose(weight(chosen, v, name), expected[chosen], rtol=1e-6, atol=1e-12, err_msg=chosen)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "pearson", "squared_hellinger"])
def test_under_the_paper_s_activations_costs_are_those_of_t_and_f_star(x64, name):
    v, d = jnp.linspace(-3.0, 3.0, 13), divergence(name)
    q = outputs(v, name, activation="paper")
    t, u = d.paper.output(v), jnp.exp(d.paper.log_ratio(v))
    expected = {"minimax": d.conjugate(t), "alternative": t, "ratio": d.conjugate(d.prime(u)), "kl_gradient": u}
    for chosen, value in expected.items():
        np.testing.assert_allclose(-OBJECTIVES[chosen](q), value, rtol=1e-9, atol=1e-12, err_msg=chosen)


# --- through the exact ratio, an objective descends its divergence ----------------------------------------------------

X = np.linspace(-16.0, 16.0, 8001)
SIGMA = 1.2  # of Q, at most √2 of P's: beyond, neyman is infinite


def density(x, mean, deviation=1.0):
    return np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2.0 * math.pi))


def exact(name: str, mean: float) -> float:
    """D_f(N(0, 1)‖N(mean, σ²)) by the trapezoidal rule, which converges geometrically here."""
    q = density(X, mean, SIGMA)
    return float(np.trapezoid(q * np.asarray(divergence(name).f(density(X, 0.0) / q)), X))


def pull(chosen: str, name: str, critic: str, mean: float) -> float:
    """dE_Q[cost]/dmean with the critic held at the exact ratio of P and N(mean, σ²): E_Q[−weight·dℓ/dx]."""
    log_ratio = -0.5 * X**2 + 0.5 * ((X - mean) / SIGMA) ** 2 + math.log(SIGMA)
    slope = -X + (X - mean) / SIGMA**2
    inside = np.abs(X - mean) < 9.0 * SIGMA  # beyond, where ℓ leaves float64's exponentials, Q has no mass
    w = np.asarray(weight(chosen, jnp.asarray(np.where(inside, log_ratio, 0.0)), name, critic))
    return float(np.trapezoid(np.where(inside, -w * slope * density(X, mean, SIGMA), 0.0), X))


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "pearson", "neyman", "squared_hellinger", "jeffreys"])
def test_descent_through_the_exact_ratio_is_that_of_the_divergence(x64, name):
    """minimax of its own, ratio of the generator's whatever trains the critic, kl_gradient of KL(P‖Q)."""
    mean, h = 0.7, 1e-4
    slope, kl = ((exact(d, mean + h) - exact(d, mean - h)) / (2 * h) for d in (name, "kl"))
    assert pull("minimax", name, name, mean) == pytest.approx(slope, rel=1e-6)
    assert pull("ratio", name, "js", mean) == pytest.approx(slope, rel=1e-6)
    assert pull("kl_gradient", name, name, mean) == pytest.approx(kl, rel=1e-6)


@pytest.mark.parametrize("smoothing", [SMOOTHING, 1.0])
@pytest.mark.parametrize("name", KINKED)
def test_a_divergence_with_a_kink_leads_by_a_step_of_the_given_width(x64, name, smoothing):
    v = jnp.linspace(-3.0, 3.0, 13)
    q = outputs(v, name, "js")._replace(smoothing=smoothing)
    np.testing.assert_allclose(ratio(q), -KINKED[name](np.asarray(v), smoothing), atol=1e-12)


# --- which one a name stands for --------------------------------------------------------------------------------------


def test_the_ratio_takes_over_where_the_critic_has_another_divergence():
    kl, js, tv = (divergence(name) for name in ("kl", "js", "total_variation"))
    assert [objective(name, kl, kl) for name in OBJECTIVES] == list(OBJECTIVES.values())
    assert [objective(name, kl, js) for name in OBJECTIVES] == [ratio, ratio, ratio, kl_gradient]
    assert [objective(name, tv, js) for name in OBJECTIVES] == [ratio] * 4
    assert objective("minimax", tv, tv) is minimax


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"divergence": "reverse_kl"}, ()),
        ({"divergence": "kl", "game.objective": "kl_gradient"}, ()),
        ({"divergence": "reverse_kl", "game.objective": "kl_gradient"}, ("kl", "reverse_kl")),
        ({"divergence": "neyman", "critic.divergence": "js"}, ("neyman", "js")),
        ({"divergence": "total_variation"}, ("total_variation", "js")),
        ({"divergence": "total_variation", "game.objective": "kl_gradient"}, ("total_variation", "js")),
    ],
)
def test_a_model_says_where_generator_and_critic_differ(options, expected):
    config = replace(Config(), options)
    notes = build(config, load(config.data)).notes
    assert notes == (("generator: gradient of {}, critic: {}".format(*expected),) if expected else ())


def test_a_run_says_what_trains_what_first_last_and_in_its_pictures(tmp_path, capsys, monkeypatch):
    titles = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: titles.append(_text(figure)))
    file = tmp_path / "small.toml"
    file.write_text('divergence = "reverse_kl"\nsteps = 1\n[log]\nevery = 1\nevaluate = 1\ncheckpoint = 1\n')
    run = ["train", str(file), "--run", str(tmp_path / "run"), "--game.objective", "kl_gradient"]
    with pytest.raises(SystemExit) as leaving:
        main(run)
    said = "generator: gradient of kl, critic: reverse_kl"
    shown = capsys.readouterr()
    assert not leaving.value.code and shown.err.startswith(said) and said in shown.out
    assert len(titles) == 2 and all(said in title for title in titles)


def _text(figure) -> str:
    """All titles of a figure."""
    return " ".join([figure.get_suptitle(), *(axis.get_title() for axis in figure.axes)])


def test_an_objective_is_one_entry_of_the_table(monkeypatch):
    """It trains under its name, is offered where configs are checked, and its cost is what the generator pays."""
    monkeypatch.setitem(OBJECTIVES, "hinge", lambda q: jnp.maximum(1.0 - q.v, 0.0))
    assert "hinge" in names("fgan.models.objectives:OBJECTIVES")
    config = Config(
        batch=8, generator=Generator(features=(4,)), critic=Critic(features=(4,)), game=Game(objective="hinge")
    )
    gan = build(config, load(Data(name="ring")))
    v = jnp.array([-1.0, 0.5, 3.0])
    np.testing.assert_allclose(gan.cost(v), [2.0, 0.5, 0.0])
    assert float(gan.generator_loss(v)) == pytest.approx(2.5 / 3)

"""A divergence written as a formula of u: it is the one of the table with this f, or a line says what is wrong."""

import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import estimators as est
from estimators.divergences.formulas import FUNCTIONS, LONGEST, formula
from estimators.divergences.generator import FDivergence
from estimators.divergences.table import UnknownDivergence, divergence, known_as
from fgan.cli.main import main

WRITTEN = {
    "kl": "u*log(u)",
    "reverse_kl": "-log(u)",
    "jeffreys": "(u - 1)*log(u)",
    "js": "(u*log(u) - (u + 1)*log((u + 1)/2))/2",
    "total_variation": "abs(u - 1)/2",
    "pearson": "(u − 1)²",
    "neyman": "(1 - u)**2/u",
    "squared_hellinger": "(sqrt(u) - 1)**2",
    "triangular": "(u - 1)^2/(u + 1)",
    "geometric_js": "0.25*(u-1)*log(u) + u**0.5 - 1",
    "hockey_stick(2)": "max(u - 2, 0)",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_formula_is_the_divergence_with_this_generator(name, x64):
    d, mine = divergence(name), divergence(WRITTEN[name])
    u = jnp.exp(jnp.linspace(-5.0, 5.0, 40))
    np.testing.assert_allclose(mine.f(u), d.f(u), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(mine.conjugate(d.prime(u)), d.conjugate(d.prime(u)), rtol=1e-8, atol=1e-8)
    assert mine.value_at_zero == pytest.approx(d.value_at_zero, abs=1e-9)
    assert mine.slope_at_infinity == pytest.approx(d.slope_at_infinity, abs=1e-9)
    assert (mine.smooth, mine.closed) == (d.smooth, d.closed) and mine.kink == pytest.approx(d.kink, abs=1e-9)
    assert float(mine.f(2.0)) == pytest.approx(float(d.f(2.0))) and mine.f(jnp.arange(1, 4)).shape == (3,)
    np.testing.assert_allclose(mine.f(jnp.arange(1, 4)), d.f(jnp.arange(1.0, 4.0)), rtol=1e-6)
    assert divergence(mine.name) is divergence(mine.name) and divergence(mine.name).name == mine.name


@pytest.mark.parametrize(
    "text, message",
    [
        ("u", "f(1) = 1, but a divergence needs f(1) = 0"),
        ("u - 1", "straight line"),
        ("1 - u**2", "not convex"),
        ("min((u-1)**2, 1e8)", "not convex"),
        ("min(u*log(u), 1e6)", "not convex"),
        ("log(2 - u)", "not finite"),
        ("sin(u)", "unknown function 'sin'"),
        ("alpha(u)", "unknown function 'alpha'"),
        ("log(u, 2)", "log in a formula takes 1 argument, not 2"),
        ("x*u", "the only letters are u"),
        ("u.real", "it has numbers, u, pi"),
        ("(lambda: u)()", "it has numbers, u, pi"),
        ("__import__('os').system('u')", "it has numbers, u, pi"),
        ("[u for u in (1,)]", "it has numbers, u, pi"),
        ("u if u else 0", "it has numbers, u, pi"),
        ("True*u", "it has numbers, u, pi"),
        ("'a'*u", "it has numbers, u, pi"),
        ("(u - 1", "is no formula of u"),
        ("u\0", "is no formula of u"),
        ("u - \ud800", "is no formula of u"),
        ("(" * 150 + "u", "is no formula of u"),
        ("u" + " + u" * LONGEST, "characters: write it with at most"),
        ("1e999*u", "too large"),
        ("9**9**9*u - 9**9**9", "f(1) = nan"),
    ],
)
def test_what_is_no_divergence_is_refused_in_a_line(text, message):
    with pytest.raises(UnknownDivergence) as refused:
        divergence(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


PARTS = ["u", "u", "1", "2", "0.5", "3", "pi", "1e3", "-1", "0"]


def grown(rng: random.Random, depth: int) -> str:
    """A random formula of the grammar."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(PARTS)
    kind = rng.random()
    if kind < 0.3:
        name = rng.choice(list(FUNCTIONS))
        return f"{name}({', '.join(grown(rng, depth - 1) for _ in range(FUNCTIONS[name][0]))})"
    return f"({grown(rng, depth - 1)}) {rng.choice(['+', '-', '*', '/', '**', '^'])} ({grown(rng, depth - 1)})"


def written(k: int) -> str:
    """Formula k: grown and mostly made 0 at 1, or with letters that were changed, or of letters alone."""
    rng = random.Random(k)
    text = grown(rng, 3)
    if k % 4 == 0:
        return f"{text} - ({text.replace('u', '1')})"
    if k % 4 == 1:
        return f"({text})**2 - ({text.replace('u', '1')})**2 + (u - 1)**2"
    if k % 4 == 2:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice("u()*/+-^.,:=[]{}'_eE0 ") + text[at + rng.randrange(2) :] + " + 0*u"
    return "".join(rng.choice("u()*/+-^.,0123 logexpabsqrtmin\\\n\0é") for _ in range(rng.randrange(40))) + " u"


def try_formula(text: str) -> bool:
    """Whether it is a divergence, whose functions are finite in the middle; else it is refused in a line."""
    try:
        d = divergence(text)
    except UnknownDivergence as refused:
        assert "\n" not in str(refused) and len(str(refused)) < 600, text
        return False
    v = jnp.linspace(-1.0, 1.0, 5)
    t = d.activation().output(v)
    assert isinstance(d, FDivergence) and d.upper_limit() >= 0.0, text
    assert bool(jnp.isfinite(t).all()) and not bool(jnp.isnan(d.conjugate(t)).any()), text
    return True


def test_random_formulas_are_divergences_or_refused():
    assert 2 <= sum(try_formula(written(k)) for k in range(60)) <= 40


@pytest.mark.slow
def test_many_random_formulas_are_divergences_or_refused():
    assert sum(try_formula(written(k)) for k in range(60, 700)) > 40


def test_exact_values_of_a_formula_are_those_of_the_table():
    p, q = est.distributions.Normal(0.0, 1.0), est.distributions.Normal(1.0, 1.5)
    for name in ("triangular", "kl", "total_variation"):
        mine, named = (float(est.exact(p, q, d).value) for d in (WRITTEN[name], name))
        assert mine == pytest.approx(named, abs=1e-8)


def fgan(words: list[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 0


def test_samples_are_estimated_and_a_gan_is_trained_by_a_formula(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, y = (np.random.default_rng(k).normal(k, 1.0, (400, 1)) for k in (0, 1))
    for name, rows in (("x.csv", x), ("y.csv", y)):
        np.savetxt(name, rows)
    fgan(["estimate", "x.csv", "y.csv", "-d", "(u-1)^2/(u+1)", "triangular", "--json"])
    mine, named = json.loads(capsys.readouterr().out)["estimates"]
    assert mine["divergence"] == "(u - 1) ** 2 / (u + 1)"
    assert mine["low"] <= named["value"] <= mine["high"] and mine["value"] == pytest.approx(named["value"], abs=0.05)
    few = ["--steps", "4", "--batch", "8", "--log.every", "2", "--log.samples", "40", "--critic.features", "8"]
    (tmp_path / "a.toml").write_text('divergence = "(u-1)**2/(u+1)"\n[data]\nname = "ring"\n', encoding="utf-8")
    fgan(["train", "a.toml", "--quiet", *few])
    (run,) = (tmp_path / "runs").iterdir()
    fgan(["sample", str(run), "-n", "3", "--out", "s.npy"])
    assert "/" not in run.name
    assert np.load("s.npy").shape == (3, 2)
    fgan(["divergences", "u*log(u) - u + 1"])
    assert "u * log(u) - u + 1" in capsys.readouterr().out


def test_a_formula_is_one_divergence_however_it_is_written():
    assert divergence("(u-1)^2") is divergence("(u - 1) ** 2") and known_as(divergence("(u-1)²")) == "(u - 1) ** 2"


@pytest.mark.parametrize("words", [["divergences", "-log(u)"], ["exact", "normal(0)", "normal(1)", "-d", "-log(u)"]])
def test_a_formula_may_begin_with_a_minus(words, capsys):
    fgan(words)
    assert "-log(u)" in capsys.readouterr().out


def test_a_formula_keeps_its_digits_in_float32():
    """Whole powers are products."""
    u = jnp.asarray([0.5, 1.0, 1.0001, 3.0], jnp.float32)
    found = formula("(u-1)**2").f(u)
    assert found.dtype == jnp.float32 and jax.device_get(found).tolist() == ((u - 1.0) * (u - 1.0)).tolist()

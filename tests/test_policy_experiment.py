"""The experiment `policy`: sampled gradients against exact ones, what its aims say, and, slowly, that they are met."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import rel_entr, softmax

from estimators.objectives.policies import policy_value
from fgan.experiments import policy
from fgan.experiments.policy import measurement, table, tasks, training
from fgan.experiments.policy.training import NAMES


@pytest.mark.parametrize("name", tasks.TASKS)
def test_the_tasks_are_what_they_say(name):
    task = tasks.TASKS[name]()
    np.testing.assert_allclose(task.transitions.sum(axis=-1), 1.0, atol=1e-12)
    assert task.start.sum() == pytest.approx(1.0) and task.discount**task.horizon < 0.005


def test_returns_are_discounted_sums_less_what_later_states_cost():
    rewards, costs = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    found = training.returns(rewards, costs, 0.5)
    for t in range(4):
        expected = sum(0.5 ** (k - t) * (rewards[k] - (costs[k] if k > t else 0.0)) for k in range(t, 4))
        np.testing.assert_allclose(found[t], expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bandit", "grid"])
def test_the_sampled_gradient_is_that_of_the_regularised_objective(name):
    """The mean over 60 batches against the exact gradient, entry by entry; k2 agrees, and k3 does not."""
    pytest.importorskip("estimators.exact_values.log_densities")
    task = tasks.TASKS[name]()
    logits = jnp.asarray(task.prior + np.random.default_rng(1).normal(size=task.prior.shape), jnp.float32)
    state = training.State(logits, None, jnp.zeros(len(task.start)), jnp.float32(task.beta))

    def sampled(key):
        seen = training.see(key, task, state)

        def climbed(logits, which):
            cost = task.beta * training.penalties(task, logits, seen.batch)[which]
            return training.surrogate(task, logits, state.logits, seen, cost)

        return jnp.stack([jax.grad(partial(climbed, which=i))(logits) for i in range(3)])

    drawn = np.asarray(jax.jit(jax.vmap(sampled))(jax.random.split(jax.random.key(0), 60)), float)
    options = {"beta": task.beta, "discount": task.discount}

    def value(logits):
        v = policy_value(logits, task.rewards, task.transitions, task.prior, **options)
        return (1.0 - task.discount) * (jnp.asarray(task.start) @ v)

    with jax.enable_x64(True):
        exact = np.asarray(jax.grad(value)(jnp.asarray(logits, jnp.float64)))
    mean, error = drawn.mean(axis=0), drawn.std(axis=0, ddof=1) / np.sqrt(60.0)
    cut = 2.0 * task.discount**task.horizon * np.abs(exact).max()  # what episodes of this length leave out
    for which in (0, 1):
        assert (np.abs(mean[which] - exact) <= 4.5 * error[which] + cut).all()
    assert (np.abs(mean[2] - exact) > 6.0 * error[2] + cut).any()


@pytest.mark.slow
def test_the_end_of_k3_is_the_optimum_under_the_reversed_penalty():
    """By brute force over each context's policy; and the end of none is the best action."""
    task = tasks.bandit()
    prior = softmax(task.prior, axis=-1)
    values = []
    for s, r in enumerate(task.rewards):

        def lost(logits, s=s, r=r):
            return -(softmax(logits) @ r - task.beta * rel_entr(prior[s], softmax(logits)).sum())

        reached = softmax(minimize(lost, task.prior[s], tol=1e-12).x)
        values.append(reached @ r - task.beta * rel_entr(reached, prior[s]).sum())
    best = measurement.optimum(task)
    found = measurement.ends(task)
    assert found["k3"] == pytest.approx(best["value"] - np.mean(values), abs=1e-6)
    top = task.rewards.argmax(axis=-1)
    greedy = np.mean([task.rewards[s, a] + task.beta * np.log(prior[s, a]) for s, a in enumerate(top)])
    assert found["none"] == pytest.approx(best["value"] - greedy, abs=1e-9)


def test_the_gap_is_measured_exactly():
    task = tasks.grid()
    best = measurement.optimum(task)
    assert best["value"] > best["prior"] + 0.2 and best["kl_prior"] > 0.3
    found = measurement.measured(task, np.stack([task.prior, best["log_policy"]]))
    assert found["gap"][1] == pytest.approx(0.0, abs=1e-10) == pytest.approx(float(found["kl_prior"][0]), abs=1e-10)
    np.testing.assert_allclose(found["gap"], task.beta * found["kl_optimum"] / (1.0 - task.discount), atol=1e-10)


def made_up(gaps: dict[str, float], kl: float = 0.5) -> dict:
    """A result as the experiment makes it, with these last gaps."""
    facts = {"beta": 0.1, "discount": 0.0, "prior_gap": 1.0, "optimum_kl_prior": 0.5, "identity_error": 1e-12}
    facts["ends"] = {"none": 0.8, "k3": 0.3}
    rows = []
    for method in NAMES:
        path = np.linspace(1.0, gaps[method], 4) + np.array([[0.0], [1e-4]])
        scores = {"gap": path, "kl_optimum": path, "kl_prior": kl + 0.0 * path, "coefficient": path}
        rows.append(policy._row("bandit", method, (0, 1), scores))
    known = {"bandit": facts}
    settings = {"seeds": [0, 1], "iterations": 30, "record": 10}
    return {"tasks": known, "rows": rows, "aims": table.aims(known, rows), "settings": settings, "seconds": 1.0}


GAPS = {"none": 0.7, "penalty": 0.01, "k2": 0.01, "k3": 0.3, "adaptive": 0.05, "trust_region": 0.01}


def test_aims_are_missed_where_they_should_be():
    assert all(made_up(GAPS)["aims"].values())
    assert sum(made_up(GAPS | {"k2": 0.03})["aims"].values()) == 4
    assert sum(made_up(GAPS | {"none": 0.05, "k3": 0.2})["aims"].values()) == 3
    assert sum(made_up(GAPS, kl=0.8)["aims"].values()) == 4


def test_the_table_and_the_picture_show_every_method(tmp_path, monkeypatch, capsys):
    found = made_up(GAPS | {"k2": 0.03})
    (tmp_path / "policy.json").write_text(json.dumps(found), encoding="utf-8")
    monkeypatch.setattr(policy, "results", lambda directory, *, quiet: found)
    made = policy.reproduce("policy", tmp_path, quiet=True)
    assert [path.name for path in made] == ["policy.png", "policy.json"]
    said = capsys.readouterr().out
    assert made[0].read_bytes()[:4] == b"\x89PNG" and "MISSED: penalty" in said
    assert all(name.replace("_", " ") in said for name in NAMES)


@pytest.mark.slow
def test_every_aim_is_met(optimised, tmp_path):
    pytest.importorskip("estimators.exact_values.log_densities")
    found = policy.results(tmp_path, quiet=True)
    assert all(found["aims"].values()), found["aims"]
    assert json.loads((tmp_path / "policy.json").read_text()) == json.loads(json.dumps(found))

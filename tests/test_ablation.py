"""The ablation: every variant is the preset but for what it says, each cure is what it is called, cells and report."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest

from benchmarks import ablation, ablation_report
from benchmarks.ablation import Settings, cells, config_of
from benchmarks.cells import Cell, Ledger
from benchmarks.stabilisers import Packs, Relativistic, packed, pairs, relativistic
from benchmarks.variants import ON_GRID, VARIANTS, configured, with_fields
from estimators.critics import kernel
from estimators.critics.networks import MLP
from estimators.divergences.table import divergence
from fgan.config import schema as config
from fgan.data.sources import load
from fgan.experiments.capture import TASKS, recipe
from fgan.models import players
from fgan.models.gan import FGAN
from fgan.models.instance_noise import InstanceNoise
from fgan.models.model import build
from fgan.models.objectives import OBJECTIVES
from fgan.models.optimizers import optimizer
from fgan.models.penalties import PENALTIES, WeightedPenalty
from fgan.networks.generators import LocationScale
from fgan.run import program

KEY = jax.random.key(0)
SMALL = {"generator.features": (8,), "critic.features": (8,), "critic.frequencies": 2, "batch": 16}


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def line(name="js", *, chosen="alternative", activation="log_ratio", features=(), dim=1, batch=16, **changes):
    """The smallest f-GAN: generator μ + σz, critic w·x + b, plain gradient descent of rate 1."""
    d, descent = divergence(name), {"optimizer": optax.sgd(1.0)}
    return FGAN(
        divergence=d,
        generator=players.Generator(network=LocationScale((0.5, 1.5)), inputs=1, **descent),
        critic=players.Critic(network=MLP(features), inputs=dim, divergence=d, activation=activation, **descent),
        batch=batch,
        objective=OBJECTIVES[chosen],
        **changes,
    )


NOISE = InstanceNoise(start=0.5, end=0.01, overlap=(0.1, 0.3), fall=10.0, steps=20)


# --- the variants ----------------------------------------------------------------------------------------------------


def test_every_variant_is_another_run():
    """No two are the same, none but the preset is the preset, and the checks at the door pass them."""
    runs = {name: configured(name, "ring", "js", steps=60) for name in VARIANTS}
    kept = {name: (config.to_toml(config.check(run)), VARIANTS[name].wrap) for name, run in runs.items()}
    assert len(set(kept.values())) == len(VARIANTS)
    assert runs["preset"] == recipe(TASKS["ring"], "js", steps=60, seeds=1)
    assert runs["minimax"] == recipe(TASKS["ring"], "js", steps=60, seeds=1, variant="own")
    plain = recipe(TASKS["ring"], "js", steps=60, seeds=1, variant="plain")
    assert runs["plain"].instance_noise.start == plain.instance_noise.start == 0.0
    assert runs["plain"].penalty.names == plain.penalty.names == ()
    assert dataclasses.replace(runs["plain"], instance_noise=plain.instance_noise, penalty=plain.penalty) == plain
    assert set(ON_GRID) <= set(VARIANTS)


def test_every_choice_of_the_preset_is_put_to_the_test():
    """Each field that it sets, sizes apart, is another in some variant."""
    chosen, plain = recipe(TASKS["ring"], "js"), config.Config()
    set_by_it = {name for name in config.names() if config.get(chosen, name) != config.get(plain, name)}
    sizes = {"steps", "seeds", "generator.features", "critic.features", "log.every", "log.evaluate", "log.checkpoint"}
    only_for_kinks = {"game.smoothing"}
    tried = {name for variant in VARIANTS.values() for name in variant.fields}
    assert set_by_it - sizes - only_for_kinks <= tried


def small(name):
    """(config, data, f-GAN) of a variant with networks of a few units."""
    run = with_fields(configured(name, "ring", "kl", steps=2), SMALL)
    if name == "no frequencies":
        run = with_fields(run, {"critic.frequencies": 0})
    data, wrap = load(run.data), VARIANTS[name].wrap
    gan = build(run, data)
    return run, data, wrap(gan) if wrap else gan


def test_every_variant_can_be_built():
    assert all(isinstance(small(name)[2], FGAN) for name in VARIANTS)


KINDS = ["no noise, no penalty", "minimax, not normalised", "no linear path", "no frequencies", "critic steps 2"]
KINDS += ["optimistic", "relativistic, alternative", "no noise, packing 2", "wgan_gp", "jsd on generator"]
"""Variants whose steps differ in more than numbers."""


@pytest.mark.parametrize("name", KINDS)
def test_variants_can_be_traced_and_keep_their_state(name):
    run, data, gan = small(name)
    before = jax.eval_shape(gan.init, KEY)
    batch = jax.ShapeDtypeStruct((run.game.critic_steps, run.batch, data.dim), jnp.float32)
    after, _ = jax.eval_shape(gan.step, KEY, before, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)


@pytest.mark.parametrize("name", ["preset", "packing 2", "relativistic"])
def test_variants_take_two_finite_steps(name):
    run, data, gan = small(name)
    state, step = gan.init(KEY), jax.jit(gan.step)
    first = state
    for i in range(2):
        keys = jax.random.split(jax.random.key(i), run.game.critic_steps)
        real = jnp.stack([data.draw(k, jnp.asarray(data.rows), run.batch) for k in keys])
        state, metrics = step(jax.random.key(i), state, real)
    assert all(np.isfinite(x).all() for x in leaves((state, metrics)))
    assert float(metrics["skipped"]) == 0.0
    assert any((a != b).any() for a, b in zip(leaves(first.generator), leaves(state.generator), strict=True))
    assert (float(metrics["penalty"]) > 0.0) == (run.penalty.names != ())


def test_a_noise_that_is_never_held_falls_by_its_schedule():
    """log s falls by log(start/end)/fall a step once the running mean has forgotten where it began."""
    overlap = VARIANTS["noise by schedule"].fields["instance_noise.overlap"]
    noise = InstanceNoise(start=0.5, end=0.005, overlap=overlap, fall=600.0, steps=2000)

    def after(state, step):
        state = noise.follow(state, jnp.asarray(3.0), step)
        return state, state.standard_deviation

    deviations = jax.lax.scan(after, noise.init(), jnp.arange(400))[1]
    fallen = math.log(float(deviations[299] / deviations[399]))
    assert fallen == pytest.approx(100 * math.log(100.0) / 600.0, rel=0.01)


# --- the cures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [None, NOISE])
def test_packs_of_one_are_the_plain_game(noise):
    plain = line("kl", chosen="kl_gradient", normalise=True, instance_noise=noise)
    real = jax.random.normal(jax.random.key(1), (1, 16, 1))
    states = [gan.step(KEY, gan.init(KEY), real) for gan in (plain, packed(plain, 1))]
    for a, b in zip(*map(leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_pack_has_one_output():
    """Packs permute with their values; what is in another pack does not matter, what is in its own does."""
    gan = packed(line(features=(8,), dim=2), 4)
    critic = gan.init(KEY).critic
    x = jax.random.normal(KEY, (16, 2))
    v = gan.outputs(critic, x)
    assert v.shape == (4,)
    np.testing.assert_allclose(gan.outputs(critic, x[::-1].reshape(4, 4, 2)[:, ::-1].reshape(16, 2)), v[::-1])
    changed = gan.outputs(critic, x.at[5].add(1.0))
    assert (np.flatnonzero(changed != v) == [1]).all()


def test_the_packed_bound_is_that_of_the_products():
    """With the exact log-ratio of N(μ, 1)^m to N(0, 1)^m it finds KL(P^m‖Q^m) = mμ²/2."""
    mu, n, m = 0.4, 30_000, 3
    gan = packed(line("kl", batch=n), m)
    exact = {"params": {"Dense_0": {"kernel": jnp.full((m, 1), mu), "bias": jnp.array([-m * mu**2 / 2])}}}
    x_q = jax.random.normal(KEY, (n, 1))
    x_p = mu + jax.random.normal(jax.random.key(1), (n, 1))
    state = gan.init(KEY)._replace(critic=exact)
    _, metrics = jax.jit(gan.critic_update)(KEY, state, x_p, x_q)
    kl = m * mu**2 / 2
    error = math.sqrt((2 * kl + math.expm1(2 * kl)) / (n / m))  # Var_P ℓ = 2 KL, Var_Q e^ℓ = e^{2 KL} − 1
    assert float(metrics["bound"]) == pytest.approx(kl, abs=4 * error)


def test_packs_are_checked_at_the_door():
    with pytest.raises(ValueError, match="a batch of 16 does not fall into packs of 3"):
        packed(line(), 3)
    with pytest.raises(ValueError, match="leave the penalty out"):
        packed(line(penalty=WeightedPenalty(penalties=(PENALTIES["r1"],))), 2)


@pytest.mark.parametrize("name", ["js", "kl", "reverse_kl", "squared_hellinger"])
def test_pairs_that_nothing_tells_apart_are_worth_f_of_one(name):
    d, v = divergence(name), jnp.full(8, 1.7)
    assert float(pairs(d, v, v, activation="log_ratio")) == pytest.approx(d.value_at_one, abs=1e-6)


def test_pairs_under_js_are_the_relativistic_loss():
    v_p, v_q = jax.random.normal(KEY, (2, 50))
    expected = math.log(2.0) - float(jnp.mean(jnp.log1p(jnp.exp(v_q - v_p))))
    assert float(pairs(divergence("js"), v_p, v_q, activation="log_ratio")) == pytest.approx(expected, rel=1e-5)


def test_pairs_under_kl_find_jeffreys():
    """With the exact log-ratio of N(μ, 1) to N(0, 1): KL(P⊗Q‖Q⊗P) = μ²."""
    mu, n = 0.4, 100_000
    x_p, x_q = mu + jax.random.normal(KEY, (n,)), jax.random.normal(jax.random.key(1), (n,))
    value = pairs(divergence("kl"), mu * x_p, mu * x_q, activation="log_ratio")
    assert float(value) == pytest.approx(mu**2, abs=4 * math.sqrt((2 * mu**2 + math.expm1(2 * mu**2)) / n))


def test_a_relativistic_step_descends_its_formula():
    """Under js and the alternative: ½E log(1 + e^{v_p − v_q}), up to a constant, with the real batch as rivals."""
    gan = relativistic(line("js"))
    state = gan.init(KEY)
    z, x_p = (jax.random.normal(jax.random.key(i), (16, 1)) for i in (3, 4))

    def loss(generator):
        v_p, v_q = gan.outputs(state.critic, x_p), gan.outputs(state.critic, gan.generate(generator, z))
        return 0.5 * jnp.mean(jax.nn.softplus(v_p - v_q))

    new, _ = gan.generator_update(KEY, state, state.critic, z, x_p)
    moved = jax.tree.map(jnp.subtract, state.generator, new.generator)
    for a, b in zip(leaves(moved), leaves(jax.grad(loss)(state.generator)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_pairs_need_a_log_ratio():
    for changes in ({"activation": "paper"}, {"chosen": "minimax"}):
        with pytest.raises(ValueError, match="activation log_ratio, and the objective"):
            relativistic(line(**changes))


@pytest.mark.parametrize("cure", [packed, relativistic])
def test_the_noise_is_held_where_the_larger_divergence_stands(cure):
    cured = cure(line(chosen="kl_gradient", instance_noise=NOISE))
    assert isinstance(cured, Relativistic) == (cure is relativistic)
    assert isinstance(cured.critic.network, Packs) == (cure is packed)
    assert cured.instance_noise.overlap == pytest.approx((0.2, 0.6))


def bilinear(o, n):
    """√(x² + y²) over `n` steps of simultaneous descent in x and ascent in y of x·y, from 1."""

    def step(carry, _):
        players, state = carry
        change, state = o.update({"x": players["y"], "y": -players["x"]}, state, players)
        players = optax.apply_updates(players, change)
        return (players, state), jnp.hypot(players["x"], players["y"])

    start = {"x": jnp.array(0.6), "y": jnp.array(0.8)}
    return np.asarray(jax.lax.scan(step, (start, o.init(start)), None, length=n)[1])


def test_optimism_converges_where_gradient_descent_spirals_out():
    """x·y has its saddle at 0; plain steps of size η grow by √(1 + η²) each, optimistic ones shrink."""
    assert bilinear(optax.sgd(0.1), 200)[-1] == pytest.approx(1.01**100, rel=1e-3)
    assert bilinear(optax.optimistic_gradient_descent(0.1), 1000)[-1] < 0.05
    ours = configured("optimistic", "ring", "js", steps=4000).generator_optimizer
    ours = dataclasses.replace(ours, schedule="constant", learning_rate=0.01)
    ends = [
        bilinear(optimizer(dataclasses.replace(ours, name=name), 1), 4000)[-500:].max() for name in ("adam", ours.name)
    ]
    assert ours.name == "optimistic_adam" and ends[1] < 0.25 * ends[0]


# --- cells -----------------------------------------------------------------------------------------------------------


def test_patterns_and_counts_make_the_plan():
    planned = cells(
        Settings(variants=("preset", "no noise, [jr]*"), divergences=("kl", "alpha(0.5)"), seeds=2, steps=60)
    )
    assert len(planned) == 2 * 5 * 2
    assert planned[1] == Cell("ablation", "preset", "ring alpha(0.5)", 0, 60)
    assert {c.method for c in planned} == {
        "preset",
        "no noise, r1_r2",
        "no noise, jsd",
        "no noise, jsd on generator",
        "no noise, relativistic",
    }
    assert config_of(planned[-1]).seed == 1 and config_of(planned[-1]).divergence == "alpha(0.5)"
    assert {c.method for c in cells(Settings())} == set(VARIANTS)
    assert {(c.method, c.n) for c in cells(Settings(task="grid"))} == {(name, 15_000) for name in ON_GRID}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"variants": ("nothing",)}, "no cell matches"),
        ({"divergences": ("klx",)}, "klx"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, capsys, changes, said):
    assert ablation.main(Settings(results=tmp_path, **changes)) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_preset_is_trained_as_fgan_trains_it(monkeypatch):
    """The same samples as after a chunk of fgan.run.loop with one seed, to rounding."""
    run = with_fields(configured("preset", "ring", "js", steps=4, seed=5), SMALL)
    data, seen = load(run.data), []
    monkeypatch.setattr(
        ablation, "judge", lambda task, sample: seen.append(sample(20, 7)) or dict.fromkeys(ablation.WATCHED, 0.0)
    )
    facts = ablation.train(build(run, data), run, data, TASKS["ring"])
    chunk = jax.jit(program.chunk(run, data, 4)(kernel.ALONE))
    state, _ = chunk(jnp.asarray(data.rows), program.seed_numbers(run), program.fresh(run, data), jnp.int32(0))
    alone = jax.tree.map(lambda x: x[0], state)
    expected = np.asarray(build(run, data).sample(alone, jax.random.key(7), 20)) * data.scale + data.offset
    np.testing.assert_allclose(seen[-1], expected, rtol=1e-4, atol=1e-5)
    assert [look["step"] for look in facts["trajectory"]] == [1, 2, 3, 4] and not facts["diverged"]


def test_a_run_that_is_never_finite_has_diverged(monkeypatch):
    monkeypatch.setattr(ablation, "judge", lambda task, sample: pytest.fail("nothing to judge"))
    run = with_fields(configured("preset", "ring", "js", steps=4), SMALL)
    data = load(run.data)
    gan = build(run, data)
    nowhere = dataclasses.replace(gan.critic, bound=lambda *args, **settings: jnp.asarray(jnp.nan))
    gan = dataclasses.replace(gan, critic=nowhere)
    facts = ablation.train(gan, run, data, TASKS["ring"])
    assert facts == {"diverged": True, "skipped_steps": 1, "step": 1, "trajectory": []}


def test_a_cell_is_measured_once_and_reported(tmp_path, monkeypatch, capsys):
    """From the command to the picture, with small networks; the second run trains nothing."""
    real = ablation.config_of
    monkeypatch.setattr(ablation, "config_of", lambda cell: with_fields(real(cell), SMALL))
    settings = Settings(variants=("preset", "packing 2"), divergences=("kl",), steps=2, results=tmp_path)
    assert ablation.main(settings) == 0
    assert "packing 2, ring kl: step 2/2" in capsys.readouterr().err
    monkeypatch.setattr(ablation, "measure", lambda cell: pytest.fail("measured twice"))
    assert ablation.main(settings) == 0
    rows = [json.loads(line) for line in (tmp_path / "ablation.jsonl").read_text().splitlines()]
    assert [(r["method"], r["task"], r["seed"], r["n"]) for r in rows] == [
        ("preset", "ring kl", 0, 2),
        ("packing 2", "ring kl", 0, 2),
    ]
    assert all(r["machine"] and r["seconds"] > 0.0 and len(r["trajectory"]) == 2 for r in rows)
    assert json.loads((tmp_path / "ablation.json").read_text())["tasks"]["ring"]["rows"][1]["variant"] == "packing 2"


# --- the report ------------------------------------------------------------------------------------------------------


def put(ledger, variant, task="ring kl", seed=0, n=60, **facts):
    good = {"modes": 8, "high_quality": 0.985, "kl": 1e-3, "width_ratio": 1.0, "width_ratios": [0.9, 1.1]}
    good |= {"trial_modes": 8.0, "trial_high_quality": 0.985, "trial_kl": 2e-3, "diverged": False, "skipped_steps": 0}
    stamp = {"seconds": 2.0, "machine": "a machine", "date": "2026-01-02"}
    ledger.append(Cell("ablation", variant, task, seed, n), {**good, **facts, **stamp})


def test_lines_are_means_over_seeds(tmp_path):
    ledger = Ledger(tmp_path, "ablation")
    put(ledger, "preset", modes=8)
    put(ledger, "preset", seed=1, modes=6)
    put(ledger, "r1", diverged=True)
    put(ledger, "r1", seed=1, kl=None, width_ratio=None, modes=0)
    put(ledger, "preset", n=7)
    facts = ablation_report.of_task("ring", ledger.rows())
    one, other = facts["rows"]
    assert (facts["steps"], facts["left_out"], facts["kl_floor"]) == (60, {"7": 1}, 7 / 100_000)
    assert (one["variant"], one["seeds"], one["diverged"], one["missed"]) == ("preset", 2, 0, ["modes"])
    assert one["modes"] == {"mean": 7.0, "standard_error": pytest.approx(1.0)}
    assert (other["variant"], other["seeds"], other["diverged"]) == ("r1", 2, 1)
    assert other["kl"]["mean"] is None and other["missed"] == ["diverged", "modes", "mode KL", "width"]
    assert ablation_report.of_task("grid", ledger.rows()) == {}


def test_the_report_is_written(tmp_path):
    ledger = Ledger(tmp_path, "ablation")
    for i, variant in enumerate(("preset", "no noise", "r2")):
        for name in ("js", "kl"):
            put(ledger, variant, f"ring {name}", modes=8 - i, diverged=variant == "r2" and name == "kl")
            put(ledger, variant, f"grid {name}", modes=25, n=90)
    ledger.append(Cell("ablation", "r1", "ring js", 0, 60), {"reason": "RuntimeError: no memory"})
    assert ablation.main(Settings(report_only=True, results=tmp_path)) == 0
    facts = json.loads((tmp_path / "ablation.json").read_text())
    assert [len(facts["tasks"][name]["rows"]) for name in ("ring", "grid")] == [6, 6]
    assert facts["failures"][0]["reason"] == "RuntimeError: no memory"
    assert facts["machines"][0]["cells"] == 12
    assert plt.imread(tmp_path / "ablation.png").std() > 0.01


def test_the_picture_has_a_row_a_variant_and_marks_what_diverged(tmp_path):
    ledger = Ledger(tmp_path, "ablation")
    put(ledger, "preset")
    put(ledger, "no noise", diverged=True)
    figure = ablation_report.picture({"ring": ablation_report.of_task("ring", ledger.rows())})
    panels = figure.axes
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["preset", "no noise"]
    crosses = [[drawn for drawn in axis.lines if drawn.get_marker() == "x"] for axis in panels]
    assert [len(found) for found in crosses] == [1, 1, 1, 1]
    plt.close(figure)


def test_the_axis_of_high_quality_opens_up_and_back():
    share = np.linspace(0.0, 100.0, 11)
    np.testing.assert_allclose(ablation_report._closed(ablation_report._opened(share)), share, atol=1e-9)
    assert (np.diff(ablation_report._opened(share)) > 0.0).all()


def test_an_empty_report_says_so(tmp_path):
    assert ablation.main(Settings(report_only=True, results=tmp_path)) == 0
    assert json.loads((tmp_path / "ablation.json").read_text())["tasks"] == {}

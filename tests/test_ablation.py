"""The ablation: every variant is the preset but for what it says, and runs are planned, trained and reported."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import ablation, ablation_report
from benchmarks.ablation import Settings, config_of, planned_runs
from benchmarks.ledger import Ledger, Run
from benchmarks.variants import AS_MEASURED, ON_GRID, VARIANTS, configured, with_fields
from estimators.critics import kernel
from fgan.config import checks, toml
from fgan.config import schema as config
from fgan.data.sources import load
from fgan.experiments.mode_capture import TASKS, preset
from fgan.models.instance_noise import InstanceNoise
from fgan.models.model import build
from fgan.run import program

KEY = jax.random.key(0)
SMALL = {"generator.features": (8,), "critic.features": (8,), "critic.frequencies": 2, "batch": 16}


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


# --- the variants ----------------------------------------------------------------------------------------------------


def test_every_variant_is_another_run():
    """No two are the same, none but the preset is the preset, and the checks at the door pass them."""
    runs = {name: configured(name, "ring", "js", steps=60) for name in VARIANTS}
    kept = {name: (toml.to_toml(checks.check(run)), VARIANTS[name].wrap) for name, run in runs.items()}
    assert len(set(kept.values())) == len(VARIANTS)
    shipped = {v: preset(TASKS["ring"], "js", variant=v, steps=60, seed=0, seeds=1) for v in ("kl_gradient", "plain")}
    before = {v: with_fields(run, AS_MEASURED | {"game.objective": run.game.objective}) for v, run in shipped.items()}
    assert runs["preset"] == before["kl_gradient"]
    plain = before["plain"]
    assert runs["plain"].instance_noise.start == plain.instance_noise.start == 0.0
    assert runs["plain"].penalty.names == plain.penalty.names == ()
    assert dataclasses.replace(runs["plain"], instance_noise=plain.instance_noise, penalty=plain.penalty) == plain
    assert set(ON_GRID) <= set(VARIANTS)


def test_every_choice_of_the_preset_is_put_to_the_test():
    """Each field that it sets, sizes apart, is another in some variant."""
    chosen, plain = preset(TASKS["ring"], "js"), config.Config()
    set_by_it = {name for name in config.names() if config.get(chosen, name) != config.get(plain, name)}
    sizes = {"steps", "seeds", "generator.features", "critic.features", "log.every", "log.evaluate", "log.checkpoint"}
    not_in_them = {"game.smoothing", "game.generator_batches", "seed"}  # only for kinks; changed since; no choice
    tried = {name for variant in VARIANTS.values() for name in variant.fields}
    assert set_by_it - sizes - not_in_them <= tried


def small(name):
    """(config, data, f-GAN) of a variant with networks of a few units."""
    run = with_fields(configured(name, "ring", "kl", steps=2), SMALL)
    if name == "no frequencies":
        run = with_fields(run, {"critic.frequencies": 0})
    data, wrap = load(run.data), VARIANTS[name].wrap
    gan = build(run, data)
    return run, data, wrap(gan) if wrap else gan


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_be_traced_and_keeps_its_state(name):
    run, data, gan = small(name)
    before = jax.eval_shape(gan.init, KEY)
    batch = jax.ShapeDtypeStruct((run.game.critic_steps, run.batch, data.dim), jnp.float32)
    after, _ = jax.eval_shape(gan.step, KEY, before, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), before)


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "no penalty", "jsd on generator", "r1")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["preset", "optimistic", "packing 2", "relativistic", *SLOW])
def test_variants_take_two_finite_steps(name):
    run, data, gan = small(name)
    state, step = (first := gan.init(KEY)), jax.jit(gan.step)
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
    schedule = InstanceNoise(start=0.5, end=0.005, overlap=overlap, fall=600.0, steps=2000)
    noises = [schedule.init()]
    for step in range(400):
        noises.append(schedule.follow(noises[-1], jnp.asarray(3.0), jnp.asarray(step)))
    fallen = math.log(float(noises[300].standard_deviation / noises[400].standard_deviation))
    assert fallen == pytest.approx(100 * math.log(100.0) / 600.0, rel=0.01)


# --- runs -----------------------------------------------------------------------------------------------------------


def test_patterns_and_counts_make_the_plan():
    planned = planned_runs(
        Settings(variants=("preset", "no noise, [jr]*"), divergences=("kl", "alpha(0.5)"), seeds=2, steps=60)
    )
    assert len(planned) == 2 * 5 * 2
    assert planned[1] == Run("ablation", "preset", "ring alpha(0.5)", 0, 60)
    assert {c.method for c in planned} == {
        "preset",
        "no noise, r1_r2",
        "no noise, jsd",
        "no noise, jsd on generator",
        "no noise, relativistic",
    }
    assert config_of(planned[-1]).seed == 1 and config_of(planned[-1]).divergence == "alpha(0.5)"
    assert {c.method for c in planned_runs(Settings())} == set(VARIANTS)
    assert {(c.method, c.n) for c in planned_runs(Settings(task="grid"))} == {(name, 15_000) for name in ON_GRID}


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"variants": ("nothing",)}, "no run matches"),
        ({"divergences": ("klx",)}, "klx"),
        ({"steps": 0}, "steps = 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(tmp_path, capsys, changes, said):
    assert ablation.main(Settings(results=tmp_path, **changes)) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_preset_is_trained_as_fgan_trains_it(monkeypatch):
    """The same samples as after a chunk of fgan.run.loop with one seed, to rounding."""
    run = with_fields(configured("preset", "ring", "js", steps=4, seed=5), SMALL)
    data, seen = load(run.data), []
    monkeypatch.setattr(
        ablation, "score", lambda task, sample: seen.append(sample(20, 7)) or dict.fromkeys(ablation.WATCHED, 0.0)
    )
    facts = ablation.train(build(run, data), run, data, TASKS["ring"])
    chunk = jax.jit(program.chunk(run, data, 4)(kernel.ALONE))
    state, _ = chunk(jnp.asarray(data.rows), program.seed_numbers(run), program.fresh(run, data), jnp.int32(0))
    alone = jax.tree.map(lambda x: x[0], state)
    expected = np.asarray(build(run, data).sample(alone, jax.random.key(7), 20)) * data.scale + data.offset
    np.testing.assert_allclose(seen[-1], expected, rtol=1e-4, atol=1e-5)
    assert [scores["step"] for scores in facts["trajectory"]] == [1, 2, 3, 4] and not facts["diverged"]


def test_a_run_that_is_never_finite_has_diverged(monkeypatch):
    monkeypatch.setattr(ablation, "score", lambda task, sample: pytest.fail("nothing to score"))
    run = with_fields(configured("preset", "ring", "js", steps=4), SMALL)
    data = load(run.data)
    gan = build(run, data)
    lost = dataclasses.replace(gan.critic, bound=lambda *args, **settings: jnp.asarray(jnp.nan))
    gan = dataclasses.replace(gan, critic=lost)
    facts = ablation.train(gan, run, data, TASKS["ring"])
    assert facts == {"diverged": True, "skipped_steps": 1, "step": 1, "trajectory": []}


@pytest.mark.slow
def test_a_run_is_measured_once_and_reported(tmp_path, monkeypatch, capsys):
    """From the command to the picture, with small networks; the second run trains nothing."""
    real = ablation.config_of
    monkeypatch.setattr(ablation, "config_of", lambda run: with_fields(real(run), SMALL))
    settings = Settings(variants=("preset", "packing 2"), divergences=("kl",), steps=2, results=tmp_path)
    assert ablation.main(settings) == 0
    assert "packing 2, ring kl: step 2/2" in capsys.readouterr().err
    monkeypatch.setattr(ablation, "measure", lambda run: pytest.fail("measured twice"))
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
    ledger.append(Run("ablation", variant, task, seed, n), {**good, **facts, **stamp})


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
    ledger.append(Run("ablation", "r1", "ring js", 0, 60), {"reason": "RuntimeError: no memory"})
    assert ablation.main(Settings(report_only=True, results=tmp_path)) == 0
    facts = json.loads((tmp_path / "ablation.json").read_text())
    assert [len(facts["tasks"][name]["rows"]) for name in ("ring", "grid")] == [6, 6]
    assert facts["failures"][0]["reason"] == "RuntimeError: no memory"
    assert facts["machines"][0]["runs"] == 12
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

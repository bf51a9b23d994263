"""What goes wrong in training is said: pictures that fail, steps that change, results that are not to be trusted."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_loop import PROGRAMS, TINY, forgotten, go, replaced, shared, status  # noqa: F401

import estimators as est
from estimators.divergences.table import divergence
from estimators.plot_style import attempted, save, subplots
from fgan.cli.main import main
from fgan.config.checks import UNUSED, check, unused
from fgan.config.schema import MODELS, Config, Optimizer, names, replace
from fgan.config.toml import load as load_config
from fgan.models.penalties import weighted
from fgan.run import health, loop, pictures, schedules
from fgan.run.directory import ConfigConflict
from fgan.run.health import Evidence, findings
from fgan.run.loop import Diverged, Outcome
from fgan.run.members import restore

ROOT = Path(__file__).parents[1]
TRAINABLE = [name for name in est.DIVERGENCES if name != "gan"]


@pytest.fixture
def quick(monkeypatch):
    """Runs share their programs, and draw nothing."""
    monkeypatch.setattr(loop, "Program", shared)
    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to process string with tex because latex could not be found\nmore"),
        ValueError("Key backend: 'nonsense' is not a valid value"),
        ImportError("Cannot load backend 'TkAgg'"),
        FileNotFoundError(2, "No such file or directory"),
        OverflowError("cannot convert float infinity to integer"),
    ],
)
def test_a_picture_that_fails_is_one_line(error):
    said = []
    with attempted(said.append):
        raise error
    (line,) = said
    assert "picture failed" in line and str(error).splitlines()[0] in line and "\n" not in line


def test_a_fault_of_ours_is_none_of_the_picture():
    with pytest.raises(KeyError), attempted(lambda line: None):
        raise KeyError("bound")


def test_a_failing_picture_ends_no_run(quick, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("latex could not be found")

    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, fail)
    out = go(TINY, tmp_path / "run")
    assert out.step == restore(out.run).step == TINY.steps
    assert status(out.run)["state"] == "finished" and status(out.run)["warnings"] == list(out.warnings)
    assert sum("latex could not be found" in line for line in out.warnings) == 1  # said once, drawn thrice


@pytest.mark.slow
def test_pictures_need_neither_latex_nor_the_users_backend(tmp_path):
    """A settings file that asks for LaTeX, which is on no path, and a backend that does not exist."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: TkAgg\n")
    words = [sys.executable, "-m", "fgan", "exact", "normal(0, 1)", "normal(1, 1)", "--plot", "p.png"]
    env = os.environ | {"MPLBACKEND": "nonsense", "PATH": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and "picture    p.png" in done.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_the_numbers_come_before_a_picture_that_fails(monkeypatch, capsys, tmp_path):
    from estimators import plot_style

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot_style, "save", fail)
    with pytest.raises(SystemExit) as left:
        main(["exact", "normal(0, 1)", "normal(1, 1)", "--plot", str(tmp_path / "p.png")])
    said = capsys.readouterr()
    assert left.value.code == 0 and "0.5 " in said.out and "picture" not in said.out
    assert said.err.count("\n") == 1 and "No space left" in said.err


def test_figures_of_runs_belong_to_no_window(tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure, axes = subplots(1, 2, figsize=(2.0, 1.0), squeeze=False)
    assert axes.shape == (1, 2) and plt.get_fignums() == before
    assert save(figure, tmp_path / "new" / "p.png").stat().st_size > 100


# --- steps and schedules ----------------------------------------------------------------------------------------------


def test_fewer_steps_than_taken_are_refused_and_nothing_changes(quick, tmp_path):
    run = go(TINY, tmp_path / "run").run
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ConfigConflict, match=r"is at step 40, past steps = 20; nothing was changed") as error:
        go(replaced(steps=20), run)
    assert error.value.exit_code == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert go(TINY, run).step == 40


COSINE = Optimizer(learning_rate=5e-4, schedule="cosine", final=0.1)
BEGUN = Config(steps=2500, generator_optimizer=COSINE)


def test_more_steps_say_what_the_rate_does():
    line = schedules.moved(BEGUN, replace(BEGUN, {"steps": 5000}), 2500)
    assert "generator_optimizer.learning_rate 5e-05 → 0.000275" in line and "critic" not in line
    assert "--schedule-steps 2500" in line and "\n" not in line


def test_schedule_steps_leave_every_schedule_as_it_was():
    smoothed = {"divergence": "total_variation", "penalty.names": ("r1",), "penalty.schedule": "cosine"}
    smoothed |= {"game.smoothing": (2.0, 0.2)}
    begun = replace(BEGUN, smoothed | {"critic_optimizer": COSINE, "game.critic_steps": 2, "instance_noise.start": 1.0})
    longer = replace(begun, {"steps": 5000})
    assert "game.smoothing" in schedules.moved(begun, longer, 1000)
    for name in ("critic_optimizer.learning_rate", "penalty.weight", "instance_noise.overlap"):
        assert name in schedules.moved(begun, longer, 1000)
    kept = replace(longer, {"schedule_steps": 2500})
    assert schedules.moved(begun, kept, 1000) == schedules.moved(begun, kept, 2500) == ""
    assert schedules.scheduled(kept, 4000) == schedules.scheduled(kept, 2500)  # constant after their end


def test_a_penalty_stays_at_its_end():
    """A cosine would otherwise rise again."""
    penalty = weighted(replace(Config(), {"penalty.names": ("r1",), "penalty.schedule": "cosine"}).penalty, 10)
    assert [float(penalty.weight(np.float32(step))) for step in (10, 15, 20)] == pytest.approx([0.0] * 3, abs=1e-7)


def test_a_resumed_run_says_so(quick, tmp_path):
    short = replace(TINY, {"steps": 20, "generator_optimizer.schedule": "cosine"})
    assert go(short, tmp_path / "run").warnings == ()
    longer = go(replace(short, {"steps": 40}), tmp_path / "run")
    assert any("generator_optimizer.learning_rate 0 → 0.0005" in line for line in longer.warnings)
    assert status(longer.run)["warnings"] == list(longer.warnings)


# --- what is set and not used -----------------------------------------------------------------------------------------


def test_what_a_model_does_not_use_is_named():
    vae = Config(model="vae", divergence="kl")
    assert unused(check(vae)) == ""
    changed = replace(vae, {"critic.features": (8,), "penalty.weight": 2.0, "critic_optimizer.learning_rate": 1e-4})
    line = unused(changed)
    assert all(name in line for name in ("critic.features", "penalty.weight", "critic_optimizer.learning_rate"))
    assert unused(replace(vae, {"vae.latent": 3, "generator_optimizer.learning_rate": 1.0})) == ""
    assert "vae.latent" in unused(replace(Config(), {"vae.latent": 3}))


def test_every_model_and_group_of_the_table_exists():
    assert set(UNUSED) == set(MODELS)
    known = {name for field in names() for name in (field, field.partition(".")[0])}  # fields, and their groups
    assert {name for unused_ones in UNUSED.values() for name in unused_ones} <= known


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_set_nothing_in_vain(path):
    assert unused(load_config(path)) == ""


# --- findings ---------------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(2000, 2))


def evidence(bound: float | None = 0.1, *, name: str = "js", **changes) -> Evidence:
    """A healthy member, less what `changes` say."""
    metrics = {"bound": bound, "skipped": 0.0, "critic_gradient": 0.3}
    records = [{"step": 100 * i} | metrics for i in range(1, 21)]
    facts = {"since": -1, "records": records, "samples": RNG.normal(size=(1000, 2)) * 1.2 + 0.1, "data": DATA}
    return Evidence(divergence=divergence(name), batch=256, **facts | changes)


def skipping(share: float) -> list[dict]:
    return [record | {"skipped": share} for record in evidence().records]


@pytest.mark.parametrize("name", TRAINABLE)
@pytest.mark.parametrize("bound", [-0.02, 1e-4, 0.1, 0.2])
def test_a_healthy_member_has_no_findings(name, bound):
    d = divergence(name)
    assert findings(evidence(d.value_at_one + bound * float(min(1.0, d.upper_limit())), name=name)) == []


FAULTS = {
    "diverged": (evidence(since=12), "no step since 12 was finite", True),
    "some steps left out": (evidence(records=skipping(0.116)), r"232 of 2000 steps (11.6 %) were left out", False),
    "most steps left out": (evidence(records=skipping(0.7)), "(70 %)", True),
    "above the maximum": (evidence(0.8), "the bound, 0.8 nats, means nothing: js has 0.693 as its maximum", False),
    "above what is seen": (evidence(3e16, name="pearson"), "the most that batches of 256 can show", False),
    "kl above log n": (evidence(5.7, name="kl"), "kl has 5.5", False),
    "at the maximum": (evidence(0.692), "is at the maximum of js", False),
    "negative": (evidence(-0.7), "a constant critic has 0", False),
    "no gradient": (evidence(records=[r | {"critic_gradient": 0.0} for r in evidence().records]), "gradient", False),
    "constant": (evidence(0.0), "constant critic", False),
    "not finite": (evidence(samples=np.where(DATA > 3.0, np.nan, DATA)), "are not finite", True),
    "infinite": (evidence(samples=DATA * np.inf), "100 % of the generated samples are not finite", True),
    "some outside": (evidence(samples=np.where(RNG.random((2000, 1)) < 0.2, 40.0, DATA)), "outside", False),
    "all outside": (evidence(samples=DATA + 40.0), "100 % of the generated samples lie outside", True),
    "one point": (evidence(samples=1e-3 * DATA + 0.5), "one point", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_nothing_else(fault):
    member, words, void = FAULTS[fault]
    (found,) = findings(member)
    assert words in found.text and found.void == void and "\n" not in found.text


def test_missing_metrics_are_no_fault_of_their_own():
    """Means over steps some of which are left out are null; other models have other metrics."""
    assert findings(evidence(None)) == []
    assert findings(evidence(records=[{"step": 10, "elbo": -3.0}])) == []


def test_one_wild_chunk_is_not_the_last_bound():
    records = evidence(0.5, name="pearson").records
    assert findings(evidence(name="pearson", records=[*records[:-1], records[-1] | {"bound": 1e9}])) == []


@pytest.mark.parametrize("n", [10, 1000])
def test_what_a_batch_can_show_is_log_n_for_kl_and_n_for_pearson(n):
    assert health.largest_shown(divergence("kl"), n) == pytest.approx(math.log(n), rel=0.3 if n == 10 else 0.01)
    assert health.largest_shown(divergence("pearson"), n) == pytest.approx(n, rel=0.3 if n == 10 else 0.01)
    for name in TRAINABLE:
        assert health.largest_shown(divergence(name), n) <= divergence(name).upper_limit()


# --- where they are shown ---------------------------------------------------------------------------------------------


def test_the_summary_and_json_hold_the_warnings(monkeypatch, capsys, tmp_path):
    outcome = Outcome(tmp_path, 9, [{"seed": 0}], warnings=("the bound, 3e+16 nats, means nothing",))
    monkeypatch.setattr(loop, "train", lambda *_, **__: outcome)
    for words in ([], ["--json"]):
        with pytest.raises(SystemExit) as left:
            main(["train", str(ROOT / "configs" / "ring.toml"), *words])
        said = capsys.readouterr().out
        assert left.value.code == 0
        if words:
            assert json.loads(said)["warnings"] == list(outcome.warnings)
        else:
            assert "warning    the bound, 3e+16 nats, means nothing" in said.splitlines()


LINE = Config(
    steps=60,
    batch=64,
    data=dataclasses.replace(Config().data, name="mixture_1d"),
    generator=dataclasses.replace(Config().generator, kind="location_scale", latent=1),
    critic=dataclasses.replace(Config().critic, features=(8,)),
    log=dataclasses.replace(TINY.log, evaluate=60, checkpoint=60, samples=200),
)


def test_a_finite_run_without_meaning_ends_with_4(quick, tmp_path):
    """Its state is saved, its scores recorded; the same command says the same again."""
    wild = replace(LINE, {"generator_optimizer.learning_rate": 5.0})
    for _ in range(2):
        with pytest.raises(Diverged, match=r"no seed has a result that means anything: .* samples .* Lower") as error:
            go(wild, tmp_path / "run")
        said = status(tmp_path / "run")
        assert error.value.exit_code == 4 and said["state"] == "failed" and said["warnings"]
    assert restore(tmp_path / "run").step == 60


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINABLE)
def test_rates_a_thousand_times_too_high_are_never_silent(quick, tmp_path, name):
    config = load_config(ROOT / "configs" / "mixture_1d.toml")
    rates = {f"{who}_optimizer.learning_rate": 5.0 for who in ("generator", "critic")}
    config = replace(config, rates | {"divergence": name, "batch": 256, "steps": 300, "critic.features": (32, 32)})
    try:
        assert go(config, tmp_path / "run").warnings
    except Diverged as error:
        assert "Lower the learning rates" in str(error)


@pytest.mark.slow
def test_a_run_in_a_hostile_folder_ends_well(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    words = ["train", str(ROOT / "configs" / "ring.toml"), "--steps", "2", "--log.every", "2", "--run", "run"]
    words += ["--log.evaluate", "2", "--log.checkpoint", "2", "--json"]
    env = os.environ | {"MPLBACKEND": "nonsense", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fgan", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["pictures"]) == 2 and "warning" not in done.stderr

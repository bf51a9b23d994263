"""A sweep gives each member what training it alone would give, in one program a group, whatever stops it."""

import csv
import dataclasses
import itertools
import json
import os
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from test_loop import shared, strike

import estimators as est
from estimators.critics import kernel
from estimators.divergences.table import OWN
from fgan.cli.main import main
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Log, Optimizer, Penalty, get, replace
from fgan.config.toml import from_toml
from fgan.data.sources import load as load_data
from fgan.devices import engines
from fgan.models.gan import FGAN
from fgan.models.players import OPTIMIZERS, SCHEDULES, optimizer
from fgan.run import loop, pictures, program, sweep_picture
from fgan.run import sweep as sweeps
from fgan.run.directory import ConfigConflict, RunDirectory
from fgan.run.loop import Outcome, train
from fgan.run.members import restore
from fgan.run.program import FIELDS, Program
from fgan.run.progress import Stopped
from fgan.run.sweep import Sweep, groups, load, parts, sweep
from fgan.scores.evaluation import Evaluation

RATE = "generator_optimizer.learning_rate"
TINY = Config(
    seeds=2,
    steps=20,
    batch=16,
    generator=Generator(features=(8,)),
    critic=Critic(features=(8,)),
    log=Log(every=10, evaluate=20, checkpoint=10, samples=64),
)
PLAN = Sweep(base=TINY, grid={"divergence": ("kl", "js"), RATE: (1e-4, 1e-2)})
SHIPPED = sorted((Path(__file__).parents[1] / "configs" / "sweeps").glob("*.toml"))


def go(plan: Sweep, path: Path, **options) -> Outcome:
    return sweep(plan, path, quiet=True, **options)


def table(run: Path) -> list[dict[str, str]]:
    with open(run / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


@pytest.fixture(scope="module")
def compiled() -> list[int]:
    """How many members each program took that `straight` compiled."""
    return []


@pytest.fixture(scope="module")
def straight(tmp_path_factory, compiled) -> Path:
    """The sweep that nothing interrupts; not to be changed."""
    plain = engines.compile_chunk

    def counted(chunk, arguments, where):
        compiled.append(len(arguments[1]))
        return plain(chunk, arguments, where)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "compile_chunk", counted)
        patch.setattr(sweeps, "Program", shared)
        return go(PLAN, tmp_path_factory.mktemp("sweeps") / "straight").run


@pytest.fixture
def quick(monkeypatch):
    """Runs and sweeps share their programs, and draw nothing."""
    for module in (loop, sweeps):
        monkeypatch.setattr(module, "Program", shared)
    for name in ("samples", "training"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    monkeypatch.setattr(sweep_picture, "draw", lambda *_: None)


# --- what a sweep leaves ----------------------------------------------------------------------------------------------


def test_each_member_has_a_line(straight):
    rows = table(straight)
    wanted = itertools.product(PLAN.grid["divergence"], PLAN.grid[RATE], (0, 1))
    assert [(row["divergence"], float(row[RATE]), int(row["seed"])) for row in rows] == list(wanted)
    assert {(row["state"], row["step"]) for row in rows} == {("finished", "20")}
    assert {"bound", "critic_gradient", "modes", "high_quality"} <= set(rows[0])
    assert len({row["bound"] for row in rows}) == len(rows)
    for row in rows:
        column = lines(straight / "parts" / row["part"] / "metrics.jsonl")[-1]["bound"][int(row["member"])]
        assert float(row["bound"]) == column


def test_the_directory_holds_what_is_promised(straight):
    assert {"config.toml", "status.json", "results.csv", "sweep.png", "parts"} <= set(os.listdir(straight))
    assert "run.lock" not in os.listdir(straight) and (status(straight)["state"], status(straight)["step"]) == (
        "finished",
        40,
    )


def test_one_program_a_group(straight, compiled):
    """Two divergences, two programs, whatever the learning rates and seeds."""
    assert compiled == [4, 4]


def test_values_are_traced_once(monkeypatch):
    """The step is traced no more often for many learning rates than for one."""
    traces = []
    plain = FGAN.advance
    monkeypatch.setattr(FGAN, "advance", lambda *arguments: traces.append(1) or plain(*arguments))
    data, counts = load_data(TINY.data), []
    for size in (1, 3):
        seeds = jnp.zeros(size, jnp.uint32)
        values = {name: jnp.linspace(1e-4, 1e-3, size) for name in FIELDS}
        arguments = (jnp.asarray(data.rows), seeds, program.fresh(TINY, data, seeds=seeds), jnp.int32(0), values)
        jax.jit(program.chunk(TINY, data, 2)(kernel.ALONE)).trace(*arguments)
        counts.append(len(traces))
    assert counts[0] > 0 and counts[1] == 2 * counts[0]


# --- a member is a run ------------------------------------------------------------------------------------------------


def test_a_member_is_the_run_of_its_config(quick, tmp_path, straight):
    alone = dataclasses.replace(
        TINY, divergence="js", seed=1, seeds=1, generator_optimizer=Optimizer(learning_rate=1e-2)
    )
    run = train(alone, tmp_path / "alone", quiet=True)
    (row,) = (r for r in table(straight) if (r["divergence"], float(r[RATE]), r["seed"]) == ("js", 1e-2, "1"))
    metrics = [line for line in lines(run.run / "metrics.jsonl") if "bound" in line]
    whole = lines(straight / "parts" / row["part"] / "metrics.jsonl")
    for name in ("bound", "critic_gradient", "skipped"):
        here = [line[name][int(row["member"])] for line in whole]
        np.testing.assert_allclose(here, [line[name][0] for line in metrics], rtol=1e-5, atol=1e-6)
    assert float(row["high_quality"]) == pytest.approx(run.scores[0]["high_quality"], abs=1 / 64)
    member = restore(straight, table(straight).index(row))
    assert (member.config, member.step) == (alone, 20)
    np.testing.assert_allclose(member.sample(50, seed=3), restore(run.run).sample(50, seed=3), atol=1e-4)


def test_a_member_is_sampled_by_its_line(straight, tmp_path, capsys):
    drawn = []
    for line in (0, 7):
        with pytest.raises(SystemExit) as leaving:
            main(["sample", str(straight), "--member", str(line), "-n", "9", "--out", str(tmp_path / "x.npy")])
        assert leaving.value.code == 0 and "9 samples of dimension 2, from step 20" in capsys.readouterr().out
        drawn.append(np.load(tmp_path / "x.npy"))
    assert np.isfinite(drawn).all() and np.abs(drawn[0] - drawn[1]).max() > 0.01
    with pytest.raises(SystemExit) as leaving:
        main(["sample", str(straight), "--member", "8"])
    assert leaving.value.code == 2 and "has 8 members that ended, counted from 0" in capsys.readouterr().err


def test_swept_penalties_and_critic_rates_are_those_of_a_run(quick, tmp_path):
    base = replace(TINY, {"seeds": 1, "divergence": "js", "penalty": Penalty(names=("r1",))})
    grid = {"penalty.weight": (0.1, 5.0), "critic_optimizer.learning_rate": (1e-3, 2e-2)}
    rows = go(Sweep(base=base, grid=grid), tmp_path / "sweep").scores
    alone = train(replace(base, {name: rows[1][name] for name in grid}), tmp_path / "run", quiet=True).run
    last = [line for line in lines(alone / "metrics.jsonl") if "bound" in line][-1]
    for name in ("bound", "penalty"):
        assert rows[1][name] == pytest.approx(last[name][0], rel=1e-4)
        assert len({row[name] for row in rows}) == 4  # each of the two fields counts


def test_a_sweep_passes_over_few_rows_as_often_as_a_run(quick, tmp_path, monkeypatch, capsys):
    """48 training rows in batches of 16: five passes are 15 steps, 20 as a multiple of log.every. It resumes, too."""
    np.savetxt(
        tmp_path / "mine.csv", np.random.default_rng(0).normal(size=(60, 2)), delimiter=",", header="a,b", comments=""
    )
    mine = replace(
        TINY, {"seeds": 1, "steps": 40, "data": Data(name="samples", path=str(tmp_path / "mine.csv"), passes=5)}
    )
    run = train(mine, tmp_path / "run", quiet=True)
    plan = Sweep(base=mine, grid={"steps": (40,), "data.passes": (5,)})
    strike(monkeypatch, RunDirectory, "append", 10, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped):
        go(plan, tmp_path / "sweep")
    capsys.readouterr()
    outcome = sweep(plan, tmp_path / "sweep")
    assert "steps: 20 in place of 40, for 5 passes over 48 rows (data.passes)" in capsys.readouterr().err
    (row,) = table(tmp_path / "sweep")
    assert (row["steps"], row["data.passes"], row["step"]) == ("40", "5", "20") and outcome.step == run.step == 20
    assert restore(tmp_path / "sweep").config == restore(run.run).config == replace(mine, {"steps": 20})
    part = lines(tmp_path / "sweep" / "parts" / row["part"] / "metrics.jsonl")
    assert part == [line for line in lines(run.run / "metrics.jsonl") if "bound" in line]


def test_a_swept_number_of_passes_is_that_of_each_member(tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(60, 2)))
    base = replace(TINY, {"steps": 40, "data": Data(name="samples", path=str(tmp_path / "mine.npy"))})
    data, found = load_data(base.data), groups(Sweep(base=base, grid={"data.passes": (0, 2, 5, 99)}).configs())
    programs = [Program(group[0].config, data) for group in found]
    assert [made.config.steps for made in programs] == [40, 10, 20, 40]
    assert [len(made.notes) - len(programs[0].notes) for made in programs] == [0, 1, 1, 0]
    trained = [parts(group, 9, 0)[0].trained([], made.config.steps) for group, made in zip(found, programs)]
    assert [members.config for members in trained] == [made.config for made in programs]


def test_a_sweep_takes_divergences_of_ones_own(quick, tmp_path, monkeypatch):
    """Under their names, which another divergence of the same name cannot take over when the sweep goes on."""
    mine = est.from_generator("mine_in_a_sweep", lambda u: (u - 1.0) ** 2)
    plan = Sweep(base=replace(TINY, {"seeds": 1, "divergence": mine}), grid={"divergence": (mine,)})
    (row,) = go(plan, tmp_path / "run").scores
    assert row["divergence"] == "mine_in_a_sweep" and row["step"] == TINY.steps
    before = (tmp_path / "run" / "results.csv").read_bytes()
    go(plan, tmp_path / "run")
    assert (tmp_path / "run" / "results.csv").read_bytes() == before
    other = est.from_generator("mine_in_a_sweep", lambda u: 2.0 * (u - 1.0) ** 2)
    with pytest.raises(ValueError, match="give it another name"):
        go(dataclasses.replace(plan, grid={"divergence": (other,)}), tmp_path / "run")
    monkeypatch.setitem(OWN, "mine_in_a_sweep", other)  # as another process may know it
    with pytest.raises(ConfigConflict, match="own_divergences was"):
        go(Sweep(base=TINY, grid={"divergence": ("mine_in_a_sweep",)}), tmp_path / "run")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_takes_a_traced_rate(name):
    """Two updates with the rate as an argument of the program equal those with it written in, under every schedule."""
    parameters, gradient = jnp.asarray([0.3, -2.0]), jnp.asarray([1.0, -0.5])

    def updates(rate):
        found = []
        for schedule in SCHEDULES:
            made = optimizer(Optimizer(name=name, learning_rate=rate, schedule=schedule, final=0.1), 3)
            state, here = made.init(parameters), parameters
            for _ in range(2):
                change, state = made.update(gradient, state, here)
                here = optax.apply_updates(here, change)
            found.append(here)
        return jnp.stack(found)

    np.testing.assert_allclose(jax.jit(updates)(jnp.float32(0.05)), jax.jit(lambda: updates(0.05))(), rtol=1e-6)
    assert not np.allclose(jax.jit(updates)(jnp.float32(0.05)), jax.jit(updates)(jnp.float32(0.5)))


# --- groups and parts -------------------------------------------------------------------------------------------------


def test_groups_hold_what_differs_in_numbers_only():
    grid = {"divergence": ("kl", "js"), RATE: (1e-4, 1e-3), "critic.features": ((8,), (16,))}
    found = groups(Sweep(base=TINY, grid=grid).configs())
    assert [len(group) for group in found] == [4] * 4  # two rates, two seeds
    for group in found:
        assert len({(m.config.divergence, m.config.critic.features) for m in group}) == 1
        assert len({(get(m.config, RATE), m.config.seed) for m in group}) == 4
    assert sorted(m.line for group in found for m in group) == list(range(16))


@pytest.mark.parametrize("count", [1, 2, 7, 10])
@pytest.mark.parametrize("most", [1, 3, 4, 100])
def test_parts_have_one_size_and_hold_each_member_once(count, most):
    (group,) = groups([replace(TINY, {"seeds": count})])
    made = parts(group, most, 0)
    assert [m for part in made for m in part.members] == group
    (size,) = {part.size for part in made}
    assert size <= most and (len(made) - 1) * most < count
    assert all(len(part.trained([], TINY.steps).seeds) == size for part in made)
    assert sum(part.trained([], TINY.steps).count for part in made) == count


def test_members_at_a_time_change_nothing_but_rounding(quick, tmp_path, straight):
    plan = dataclasses.replace(PLAN, members=3, grid=PLAN.grid | {"divergence": ("js",)})
    rows = go(plan, tmp_path / "small").scores
    assert [row["part"] for row in rows] == ["000-000"] * 2 + ["000-001"] * 2
    assert "members = 3" in (tmp_path / "small/config.toml").read_text()
    whole = [float(row["bound"]) for row in table(straight) if row["divergence"] == "js"]
    assert [row["bound"] for row in rows] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("batch, features", [(16, (8,)), (256, (256, 256))])
def test_the_footprint_is_about_what_the_program_takes(batch, features):
    """Within a factor of four of what the compiler reserves, for states that count and for batches that do."""
    config = dataclasses.replace(
        TINY, batch=batch, generator=Generator(features=features), critic=Critic(features=features)
    )
    config, data = replace(config, {"log.samples": 2, "log.every": 2}), load_data(TINY.data)
    seeds = jnp.arange(4, dtype=jnp.uint32)
    arguments = (jnp.zeros((0, 2)), seeds, program.fresh(config, data, seeds=seeds), jnp.int32(0))
    used = jax.jit(program.chunk(config, data, 2)(kernel.ALONE)).lower(*arguments).compile().memory_analysis()
    taken = used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes
    assert 0.25 < 4 * Program(config, data).footprint() / taken < 4.0


def test_no_more_members_at_a_time_than_memory_holds(quick, tmp_path, monkeypatch):
    bytes_of_one = Program(TINY, load_data(TINY.data)).footprint()
    monkeypatch.setattr(engines, "memory", lambda: 4 * 2.5 * bytes_of_one)  # a quarter holds two and a half
    monkeypatch.setattr(sweeps._Running, "all", lambda _, work: pytest.fail(str([part.size for _, part in work])))
    with pytest.raises(pytest.fail.Exception, match=r"\[2, 2, 2, 2\]"):
        go(PLAN, tmp_path / "run")


# --- diverged members -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def absurd(tmp_path_factory) -> Path:
    """One learning rate that no network survives among two that it does."""
    plan = Sweep(base=replace(TINY, {"steps": 40, "divergence": "kl"}), grid={RATE: (1e-4, 1e30, 1e-3)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "PATIENCE", 15)
        return go(plan, tmp_path_factory.mktemp("sweeps") / "absurd").run


def test_a_diverged_member_stops_no_other(absurd):
    rows = table(absurd)
    assert [row["state"] for row in rows] == ["finished"] * 2 + ["diverged"] * 2 + ["finished"] * 2
    assert [row["step"] for row in rows] == ["40", "40", "1", "1", "40", "40"]  # the first step was still applied
    for row in rows:
        assert (row["bound"] == "") == (row["high_quality"] == "") == (row["state"] == "diverged")
    assert status(absurd)["state"] == "finished"
    with pytest.raises(ConfigError, match="member 3 diverged at step 1"):
        restore(absurd, 3)
    assert restore(absurd, 4).step == 40


def test_a_part_of_diverged_members_ends_early(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "PATIENCE", 5)
    plan = Sweep(base=replace(TINY, {"steps": 1000, "seeds": 1}), grid={"divergence": ("kl",), RATE: (1e30,)})
    (row,) = go(plan, tmp_path / "run").scores
    assert (row["state"], row["step"]) == ("diverged", 1)
    assert [line["step"] for line in lines(tmp_path / "run" / "parts" / row["part"] / "metrics.jsonl")] == [10]


# --- going on ---------------------------------------------------------------------------------------------------------

MOMENTS = {  # where the signal arrives, and how many steps of the two parts are done when the sweep stops
    "in the first part": ((RunDirectory, "append", 10), {}, 10),
    "at its end": ((Evaluation, "__call__", 20), {}, 30),
    "in the second": ((RunDirectory, "append", 10), {"call": 4}, 30),  # metrics and timings of the first are three
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stopped_sweep_goes_on_to_the_same_results(quick, tmp_path, monkeypatch, straight, moment):
    where, options, at = MOMENTS[moment]
    strike(monkeypatch, *where, lambda: signal.raise_signal(signal.SIGTERM), **options)
    with pytest.raises(Stopped) as stopped:
        go(PLAN, tmp_path / "run")
    assert stopped.value.exit_code == 143 and f"step {at};" in str(stopped.value)
    assert (status(tmp_path / "run")["state"], status(tmp_path / "run")["step"]) == ("preempted", at)
    go(PLAN, tmp_path / "run")
    assert (tmp_path / "run" / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()
    for part in ("000-000", "001-000"):
        written = [(run / "parts" / part / "metrics.jsonl").read_bytes() for run in (tmp_path / "run", straight)]
        assert written[0] == written[1]


def test_a_sweep_killed_between_two_saves_goes_on_from_the_first(quick, tmp_path, monkeypatch, straight):
    """What was written after the last checkpoint is cut and done again; parts that ended are not."""
    plain, calls = loop.Loop._save, []

    def save(self):
        calls.append(self.directory.path.name)
        if calls == ["000-000", "000-000", "001-000", "001-000"]:
            raise KeyboardInterrupt  # as good as a kill: nothing is saved, nothing tidied
        plain(self)

    monkeypatch.setattr(loop.Loop, "_save", save)
    with pytest.raises(KeyboardInterrupt):
        go(PLAN, tmp_path / "run")
    assert [row["divergence"] for row in table(tmp_path / "run")] == ["kl"] * 4
    calls.clear()
    go(PLAN, tmp_path / "run")
    assert calls == ["001-000"]
    assert (tmp_path / "run" / "results.csv").read_bytes() == (straight / "results.csv").read_bytes()


def test_a_finished_sweep_has_nothing_left_to_do(straight, monkeypatch):
    before = (straight / "results.csv").read_bytes()
    monkeypatch.setattr(engines, "compile_chunk", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(engines, "memory", lambda: 1)  # the members of a part are those that it began with
    assert len(go(PLAN, straight).scores) == 8
    assert (straight / "results.csv").read_bytes() == before


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"grid": {"divergence": ("kl", "js"), RATE: (1e-4, 2e-2)}}, "learning_rate"),
        ({"base": replace(TINY, {"batch": 32})}, "batch was 16, is 32"),
        ({"members": 2}, "members was"),
    ],
)
def test_a_changed_sweep_is_refused(straight, changed, told):
    with pytest.raises(ConfigConflict, match=told):
        go(dataclasses.replace(PLAN, **changed), straight)


# --- the file ---------------------------------------------------------------------------------------------------------

FILE = """\
config = "below/base.toml"
seeds = 2
members = 5
[critic]
features = [8]
[grid]
divergence = ["kl", "js"]
penalty.weight = [1, 2.5]
"critic.gain" = [1.0]
[grid.generator_optimizer]
learning_rate = [1e-3]
"""


def test_a_file_is_its_config_its_fields_and_its_grid(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "base.toml").write_text("steps = 7\nseeds = 9\n[critic]\ngain = 2.0\nfeatures = [3]")
    (tmp_path / "sweep.toml").write_text(FILE)
    found = load(tmp_path / "sweep.toml")
    assert found.base == from_toml("steps = 7\nseeds = 2\n[critic]\ngain = 2.0\nfeatures = [8]") and found.members == 5
    lists = {"divergence": ("kl", "js"), "penalty.weight": (1.0, 2.5), "critic.gain": (1.0,), RATE: (1e-3,)}
    assert found.grid == lists and list(found.grid) == list(lists)


def test_a_resolved_sweep_reads_as_it_was(tmp_path):
    (tmp_path / "resolved.toml").write_text(dataclasses.replace(PLAN, members=3).to_toml())
    found = load(tmp_path / "resolved.toml")
    assert (found.base, found.grid, found.members) == (TINY, PLAN.grid, 3)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_can_be_run(path):
    for group in groups(load(path).configs()):
        assert Program(group[0].config, load_data(group[0].config.data)).footprint() > 0


def test_sweeps_are_shipped():
    assert SHIPPED


WRONG = {
    "": ["s.toml: no table [grid]"],
    "grid = 3": ["s.toml: no table [grid]"],
    "[grid]": ["s.toml: no table [grid]"],
    "[grid]\ndivergences = ['kl']": ["s.toml:2", "'divergences'", "did you mean divergence?"],
    "[grid.penalty]\n\nwait = [1]": ["s.toml:3", "'penalty.wait'", "did you mean penalty.weight?"],
    "[grid]\ndivergence = []": ["s.toml:2", "expected a list of one value or more"],
    "[grid]\ndivergence = 'kl'": ["s.toml:2", "expected a list"],
    "[grid]\nbatch = [8, 8]": ["s.toml:2", "lists a value twice"],
    "[grid]\nsteps = [8, 8.5]": ["s.toml:2", "steps = 8.5: expected a whole number"],
    "[grid]\ncritic.features = [8]": ["s.toml:2", "critic.features = 8: expected a list"],
    "[grid]\nseeds = [1, 2]": ["s.toml:2", "seeds is one for all members"],
    "[grid]\nlog.every = [1, 2]": ["s.toml:2", "log.every is one for all members"],
    "[grid]\npenalty.weight = [1, 2]": ["s.toml", "set penalty.names"],
    "[grid]\ndivergence = ['kl', 'lk']": ['s.toml: divergence = "lk":', "unknown divergence"],
    "[grid]\nbatch = [8]\ngenerator_optimizer.learning_rate = [-1]": ["s.toml:3", "must be finite and above 0"],
    "[grid]\nbatch = [8]\ngame.critic_steps = [2]\ngame.update = ['simultaneous']": ["batch = 8", "must be 1 when"],
    "members = 0\n[grid]\nbatch = [8]": ["s.toml:1", "members = 0"],
    "members = true\n[grid]\nbatch = [8]": ["s.toml:1", "members = True"],
    "config = 3\n[grid]\nbatch = [8]": ["s.toml:1", "config = 3", "text"],
    "config = 'nowhere.toml'\n[grid]\nbatch = [8]": ["nowhere.toml: no such config file"],
    "stebs = 3\n[grid]\nbatch = [8]": ["s.toml:1", "unknown key 'stebs'", "did you mean steps?"],
    "seeds = 5001\n[grid]\nbatch = [8, 9]": ["s.toml: 10002 members", "at most 10000"],
    "[grid": ["s.toml: not valid TOML"],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, capsys, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(text)
    with pytest.raises(SystemExit) as leaving:
        main(["sweep", "s.toml"])
    said = capsys.readouterr()
    assert (leaving.value.code, said.out, said.err.count("\n")) == (2, "", 1) and not Path("runs").exists()
    assert [part for part in WRONG[text] if part not in said.err] == [], said.err


def test_a_grid_too_large_to_write_down_is_refused_at_once():
    grid = {name: tuple(range(1, 1000)) for name in ("batch", "steps", "generator.latent", "game.critic_steps")}
    with pytest.raises(ConfigError, match="at most 10000"):
        Sweep(base=TINY, grid=grid).configs()


def test_batches_that_the_devices_cannot_share_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "layout", lambda _: engines.Layout(tuple(jax.devices()) * 3))
    with pytest.raises(ConfigError, match="batch = 16 must be a multiple of the 3 devices"):
        go(PLAN, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# --- the command and the picture --------------------------------------------------------------------------------------


def test_the_command_runs_a_sweep_and_says_where_it_is(tmp_path, capsys, monkeypatch, straight):
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(PLAN.to_toml().replace("members = 0\n", ""))
    Path("runs").mkdir()
    Path("runs/sweep-tiny").symlink_to(straight)
    with pytest.raises(SystemExit) as leaving:
        main(["sweep", "tiny.toml", "--quiet"])
    said = capsys.readouterr()
    assert (leaving.value.code, said.err) == (0, "")
    words = ("run", str(straight), "8 finished, 0 diverged", "results.csv", "sweep.png")
    assert [word for word in words if word not in said.out] == []


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """(the text of a results.csv) → the figure drawn of it."""
    monkeypatch.setattr(sweep_picture, "save", lambda figure, path: figure)

    def draw(text):
        (tmp_path / "results.csv").write_text(text)
        return sweep_picture.draw(tmp_path / "results.csv")

    yield draw
    plt.close("all")


def test_the_picture_has_a_mean_a_line_and_a_cross_for_what_diverged(drawn):
    figure = drawn(
        "divergence,penalty.weight,seed,state,step,bound,exact,optimum\n"
        "kl,0.1,0,finished,9,1.0,0.5,0.25\nkl,0.1,1,finished,9,1.0,0.7,0.25\nkl,1.0,0,finished,9,1.0,0.4,0.25\n"
        "js,0.1,0,finished,9,1.0,0.3,0.125\njs,1.0,0,diverged,5,,,\n"
    )
    (axis,) = figure.axes
    found = {line.get_label(): line.get_xydata().tolist() for line in axis.lines}
    assert found["kl"] == [[0.1, pytest.approx(0.35)], [1.0, pytest.approx(0.15)]]  # less the optimum
    assert found["js"] == [[0.1, pytest.approx(0.175)]] and axis.get_ylabel() == "exact − optimum, nats"
    crosses = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(cross.get_xdata()) for cross in crosses] == [[1.0]]
    assert axis.get_xlabel() == "penalty.weight"


def test_the_picture_shows_a_perfect_generator_where_it_is_known(drawn):
    figure = drawn(
        "batch,seed,state,step,high_quality,high_quality_of_perfect,mode_kl\n8,0,finished,9,0.5,0.98,\n9,0,finished,9,0.25,0.98,\n"
    )
    (axis,) = figure.axes  # a mode KL that no member has is not shown
    found = {line.get_label(): list(line.get_ydata()) for line in axis.lines}
    assert found["mean of the seeds"] == [0.5, 0.25] and found["a perfect generator"] == [0.98, 0.98]


def test_fields_without_numbers_stand_side_by_side(drawn):
    figure = drawn(
        "critic.features,penalty.names,seed,state,step,bound\n"
        '[8],"[""r1""]",0,finished,9,0.5\n"[8, 8]","[""r1""]",0,finished,9,0.7\n'
        '[8],[],0,finished,9,0.1\n"[8, 8]",[],0,diverged,9,\n'
    )
    (axis,) = figure.axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["8", "8 8"]
    assert {"names r1", "names none"} <= {line.get_label() for line in axis.lines} and axis.get_ylabel() == "bound"


def test_what_a_sweep_of_which_all_diverged_has_to_show(drawn):
    figure = drawn("batch,seed,state,step,bound\n8,0,diverged,1,\n")
    figure.canvas.draw()
    assert [line.get_marker() for line in figure.axes[0].lines].count("x") == 2

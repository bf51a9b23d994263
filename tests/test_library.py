"""Training from Python: arrays, frames and files in, rows of the same form out, and divergences of the user's own."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import estimators as est
import fgan
from estimators.critics.early_stopping import Schedule
from estimators.divergences.table import OWN
from estimators.methods import neural
from estimators.samples.arrays import DataError
from fgan.cli.main import main
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Critic, Data, Generator, Log
from fgan.config.toml import to_toml
from fgan.data.sources import load
from fgan.data.tables import WRITERS
from fgan.run.loop import train
from fgan.run.members import restore
from fgan.run.program import within_passes

CONFIG = Config(
    steps=2,
    batch=32,
    generator=Generator(features=(8,), components=2),
    critic=Critic(features=(8,)),
    log=Log(every=2, evaluate=2, checkpoint=2, samples=50),
)
RNG = np.random.default_rng(1)
N = 120
ROWS = np.column_stack([RNG.normal(size=N), RNG.poisson(2.0, N)])


@pytest.fixture(autouse=True, scope="module")
def quick(undrawn, short_training):
    """No pictures, but where a test asks for them, and critics of a judge that are hardly trained."""
    undrawn.setattr(neural, "SCHEDULE", Schedule(rounds=3, round_steps=10, batch=32))
    yield undrawn


def frame():
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(
        {
            "income": np.round(np.exp(RNG.normal(size=N)), 2),
            "site": RNG.choice(["north", "south", "east"], N),
            "since": np.datetime64("2020-03-01") + RNG.integers(1000, size=N).astype("m8[D]"),
            "member": RNG.random(N) < 0.3,
            "visits": RNG.poisson(2.0, N),
        }
    )


def test_a_model_is_trained_on_an_array_and_draws_arrays(judged_in_full):
    model = fgan.train(CONFIG, ROWS)
    drawn = model.sample(50, seed=3)
    assert drawn.shape == (50, 2) and drawn.dtype == np.float64
    np.testing.assert_array_equal(drawn[:, 1], np.round(drawn[:, 1]))
    np.testing.assert_array_equal(drawn, model.sample(50, seed=3))
    assert {"js", "ks", "p_value", "training_rows"} <= set(model.scores[0]["judged"])
    np.testing.assert_array_equal(drawn, restore(model.run).sample(50, seed=3))


@pytest.mark.slow
def test_a_frame_comes_back_as_a_frame_of_the_same_types():
    rows = frame()
    model = fgan.train(CONFIG, rows, divergence="kl")
    drawn = model.sample(40)
    assert list(drawn.columns) == list(rows.columns)
    assert [column.dtype.kind for _, column in drawn.items()] == [column.dtype.kind for _, column in rows.items()]
    assert set(drawn["site"]) <= {"north", "south", "east"}
    assert drawn["since"].between(rows["since"].min(), rows["since"].max()).all()
    np.testing.assert_array_equal(drawn["income"], drawn["income"].round(2))


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_file_of_every_kind_of_column_is_written_as_it_was_read(tmp_path, ending):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path, rows = tmp_path / f"mine{ending}", frame()
    rows.to_csv(path, index=False) if ending == ".csv" else rows.to_parquet(path)
    model = fgan.train(CONFIG, path)
    restored = restore(model.run)
    WRITERS[ending](tmp_path / f"drawn{ending}", restored.sample(60), restored.data.form)
    import pandas

    read = getattr(pandas, f"read_{ending[1:]}")
    first, second = read(path), read(tmp_path / f"drawn{ending}")
    assert list(second.columns) == list(first.columns)
    assert [column.dtype.kind for _, column in second.items()] == [column.dtype.kind for _, column in first.items()]
    assert set(second["site"]) <= set(first["site"])
    from estimators.samples.files import read_samples

    one, other = read_samples(path), read_samples(tmp_path / f"drawn{ending}")
    assert one.written == other.written and one.units == other.units


def test_a_divergence_of_ones_own_trains_and_resumes(tmp_path):
    """Samples need no divergence that only another process knew."""
    mine = est.from_generator("squared_excess", lambda u: (u - 1.0) ** 2)
    model = fgan.train(CONFIG, ROWS, divergence=mine, run=tmp_path / "run")
    drawn = model.sample(20)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(OWN, "squared_excess")
        np.testing.assert_array_equal(restore(tmp_path / "run").sample(20), drawn)
    assert model.restored().model.divergence is mine
    again = fgan.train(dataclasses.replace(CONFIG, steps=4), ROWS, divergence=mine, run=tmp_path / "run")
    assert restore(again.run).step == 4
    same = est.from_generator("squared_excess", lambda u: u**2 - 2.0 * u + 1.0)
    fgan.train(dataclasses.replace(CONFIG, steps=4), ROWS, divergence=same, run=tmp_path / "run")
    other = est.from_generator("squared_excess", lambda u: 2.0 * (u - 1.0) ** 2)
    with pytest.raises(ValueError, match="give it another name"):
        fgan.train(CONFIG, ROWS, divergence=other)


def test_a_config_may_hold_a_divergence_of_ones_own(tmp_path):
    mine = est.from_generator("of_a_config", lambda u: (u - 1.0) ** 2)
    config = dataclasses.replace(CONFIG, divergence=mine, generator=Generator(features=(8,)), data=Data(name="ring"))
    assert train(config, tmp_path / "run", quiet=True).step == 2
    with pytest.raises(ValueError, match="'kl'"):
        fgan.train(CONFIG, ROWS, divergence=est.from_generator("kl", lambda u: (u - 1.0) ** 2))


@pytest.mark.parametrize(
    "plan, error, message",
    [
        ('[columns]\nprice = "scores"', ConfigError, "no column 'price'; the columns are income, site"),
        ('[columns]\nprice = "drop"', ConfigError, "no column 'price'"),
        ('[columns]\nprice = "categories"', ConfigError, "no column 'price'"),
        ('[columns]\nincome = "score"', ConfigError, "income = 'score': did you mean scores"),
        ("income = 1", ConfigError, r"one table \[columns\] is needed"),
        ("[columns", ConfigError, "plan.toml: "),
    ],
)
def test_a_plan_of_columns_that_does_not_fit_is_refused(tmp_path, plan, error, message):
    (tmp_path / "plan.toml").write_text(plan)
    frame().to_csv(tmp_path / "mine.csv", index=False)
    config = dataclasses.replace(CONFIG, data=Data(columns=str(tmp_path / "plan.toml")))
    with pytest.raises(error, match=message):
        fgan.train(config, tmp_path / "mine.csv")


def test_a_plan_says_what_columns_are(tmp_path):
    (tmp_path / "plan.toml").write_text('[columns]\nvisits = "categories"\nsince = "drop"\nincome = "whole"')
    config = dataclasses.replace(CONFIG, data=Data(columns=str(tmp_path / "plan.toml")))
    drawn = fgan.train(config, frame()).sample(30)
    assert list(drawn.columns) == ["income", "site", "member", "visits"]
    np.testing.assert_array_equal(drawn["income"], drawn["income"].round())
    assert drawn["visits"].dtype.kind == "i"


@pytest.mark.parametrize(
    "rows, message",
    [
        (np.tile([1.0, 2.0], (100, 1)), "all columns are constant"),
        (np.array([[1.0, 2.0]]), "at least 2 are needed"),
        (np.array([[1.0, np.nan], [2.0, 3.0]]), "NaN"),
        (np.array([[1.0, 2.0], [2.0, 3.0]]), "2 rows are too few to learn from; give 10"),
        (RNG.normal(size=(9, 2)), "9 rows are too few to learn from; give 10"),
        (np.zeros((12, 40)), "12 rows of 40 columns: more columns than rows; transpose"),
    ],
)
def test_rows_without_anything_to_learn_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        fgan.train(CONFIG, rows)


@pytest.mark.slow
def test_ten_rows_train(judged_in_full):
    """What cannot be judged says why."""
    model = fgan.train(CONFIG, RNG.normal(size=(10, 3)))
    assert model.sample(5).shape == (5, 3)
    assert "not_estimated" in model.scores[0]["judged"] and model.scores[0]["judged"]["p_value"] is None


def test_few_rows_are_not_passed_over_too_often():
    """The run that keeps to it is in test_sweep, beside the member of a sweep."""
    config = dataclasses.replace(CONFIG, steps=100, data=Data(passes=3))
    assert within_passes(config, 96).steps == 10  # batches of 32: 9 steps, and log.every is 2
    assert within_passes(config, 10**6).steps == 100 == within_passes(dataclasses.replace(config, data=Data()), 5).steps


def in_files(tmp_path, change=lambda frame: frame) -> Config:
    """A config of a table and of one that judges it, which is changed."""
    rows = frame()
    rows.to_csv(tmp_path / "mine.csv", index=False)
    change(rows.iloc[:30].copy()).to_csv(tmp_path / "judge.csv", index=False)
    paths = {"path": str(tmp_path / "mine.csv"), "held_out": str(tmp_path / "judge.csv")}
    return dataclasses.replace(CONFIG, data=Data(name="samples", **paths))


def test_rows_of_another_file_may_judge(tmp_path):
    config = in_files(tmp_path, lambda rows: rows[list(rows.columns[::-1])])
    data = load(config.data)
    assert (len(data.rows), len(data.held_out)) == (N, 30)
    for rows in (data.rows, data.held_out):  # the same rows, the columns in another order
        np.testing.assert_array_equal(
            np.asarray(rows)[:30, data.one_hot[0][0]], np.asarray(data.rows)[:30, data.one_hot[0][0]]
        )
    np.testing.assert_array_equal(data.own[0].own(np.arange(30)), data.own[1].own(np.arange(30)))
    assert fgan.train(config).scores[0]["judged"]["ks"] < 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda rows: rows.assign(site="west"),
            r"judge.csv: column 2 \(site\) holds 'west', a category that .*mine.csv",
        ),
        (lambda rows: rows.assign(visits="often"), "holds categories in .*judge.csv and numbers in .*mine.csv"),
        (lambda rows: rows.assign(site=1.5), "holds categories in .*mine.csv and numbers in .*judge.csv"),
        (lambda rows: rows.assign(since=3.0), "is in days since 1970-01-01 in .* and without a unit in"),
        (lambda rows: rows.drop(columns="site"), "only .*mine.csv has site"),
        (lambda rows: rows.rename(columns={"site": "place"}), "has a column place, .* has site instead"),
        (lambda rows: rows[:5], "only 5 samples"),
    ],
)
def test_rows_that_cannot_judge_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        load(in_files(tmp_path, change).data)


def test_codes_of_held_out_rows_are_those_of_the_table(tmp_path):
    """Codes that are numbers are in the order of numbers, those of two files together in the order of words."""
    codes = np.repeat([2, 10, 30], 10)
    np.save(tmp_path / "mine.npy", np.column_stack([RNG.normal(size=30), codes]))
    np.save(tmp_path / "judge.npy", np.column_stack([RNG.normal(size=20), np.repeat([10, 2], 10)]))
    paths = {"path": str(tmp_path / "mine.npy"), "held_out": str(tmp_path / "judge.npy")}
    data = load(Data(name="samples", **paths, categorical=("1",)))
    held_out = np.array(data.form.levels[1])[data.own[1].own(slice(None))[:, 1].astype(int)]
    np.testing.assert_array_equal(held_out, np.repeat(["10", "2"], 10))


def test_frames_keep_their_names_whatever_these_are():
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame(RNG.normal(size=(40, 3)), columns=pandas.Index([2020, 2021, 2021]))
    drawn = fgan.train(CONFIG, rows).sample(5)
    assert list(drawn.columns) == [2020, 2021, 2021] and drawn.columns.dtype == rows.columns.dtype


def test_a_plan_that_calls_words_numbers_is_refused(tmp_path):
    (tmp_path / "plan.toml").write_text('[columns]\nsite = "linear"')
    with pytest.raises(ConfigError, match="site = 'linear', but its cells are words"):
        fgan.train(dataclasses.replace(CONFIG, data=Data(columns=str(tmp_path / "plan.toml"))), frame())


@pytest.mark.slow
def test_a_column_of_one_word_is_constant():
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame({"x": RNG.normal(size=40), "country": ["DE"] * 40})
    model = fgan.train(CONFIG, rows)
    assert model.restored().data.dim == 1 and set(model.sample(5)["country"]) == {"DE"}


@pytest.mark.slow
def test_the_command_line_says_how_rows_were_judged(quick, tmp_path, capsys):
    """As one object, and on the same run in words."""
    quick.undo()
    np.save(tmp_path / "mine.npy", ROWS)
    config = dataclasses.replace(CONFIG, data=Data(name="samples", path=str(tmp_path / "mine.npy")))
    (tmp_path / "c.toml").write_text(to_toml(config))
    printed = []
    for options in (["--json"], []):
        with pytest.raises(SystemExit) as left:
            main(["train", str(tmp_path / "c.toml"), "--run", str(tmp_path / "run"), "--quiet", *options])
        assert left.value.code == 0
        printed.append(capsys.readouterr().out)
    found = json.loads(printed[0])
    assert found["step"] == 2 and {"js", "js_low", "js_high", "ks", "lost_mass"} <= set(found["scores"][0]["judged"])
    assert all(Path(picture).is_file() for picture in found["pictures"]) and "judged.png" in found["pictures"][-1]
    assert "judged     js 0.1000 [0.0000, ∞]" in printed[1] and "judged.png" in printed[1]

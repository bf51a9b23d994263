"""A table there and back: trained on as CSV, sampled as CSV and Parquet with the same columns and kinds of numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest

from estimators.samples.files import read_samples
from fgan.config.schema import Config, Critic, Data, Generator, Log
from fgan.data.sources import load
from fgan.data.tables import WRITERS, Form
from fgan.run.loop import train
from fgan.run.members import restore

NAMES = ["age", "children", "income, yearly", "code", "score"]


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    rng, n = np.random.default_rng(4), 300
    z = rng.normal(size=(n, 2))
    return np.column_stack(
        [np.round(40 + 12 * z[:, 0]), rng.poisson(1.5, n), np.exp(10 + 0.5 * z[:, 1]), np.full(n, 1.7e9), z[:, 0]]
    )


@pytest.fixture(scope="module")
def run(table, tmp_path_factory, undrawn) -> Path:
    folder = tmp_path_factory.mktemp("table")
    with (folder / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([NAMES, *table.tolist()])
    config = Config(
        steps=2,
        batch=32,
        data=Data(name="samples", path=str(folder / "mine.csv")),
        generator=Generator(features=(8,)),
        critic=Critic(features=(8,)),
        log=Log(every=2, evaluate=2, checkpoint=2),
    )
    return train(config, folder / "run", quiet=True).run


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_comes_back_with_its_columns(run, table, tmp_path, ending):
    restored = restore(run)
    rows = restored.sample(200, seed=1)
    path = tmp_path / f"drawn.{ending}"
    WRITERS[path.suffix](path, rows, restored.data.form)
    back = read_samples(path)
    assert list(back.columns) == NAMES and not back.notes
    np.testing.assert_array_equal(back.values, rows)
    assert rows.shape == (200, 5) and restored.data.dim == 4
    np.testing.assert_array_equal(rows[:, [0, 1]], np.round(rows[:, [0, 1]]))
    assert (rows[:, 3] == 1.7e9).all() and set(rows[:, 1]) <= set(table[:, 1])
    assert (rows.min(axis=0) >= table.min(axis=0))[:3].all() and (rows.max(axis=0) <= table.max(axis=0))[:3].all()


def test_whole_columns_are_written_without_a_point(tmp_path):
    rows = np.array([[1.0, 0.5, 2.0**60], [-3.0, 2.0, 1.0]])
    WRITERS[".csv"](tmp_path / "x.csv", rows, Form(whole=(0, 2)))
    assert (tmp_path / "x.csv").read_text().splitlines() == ["1,0.5,1.152921504606847e+18", "-3,2.0,1.0"]
    WRITERS[".parquet"](tmp_path / "x.parquet", rows, Form())
    np.testing.assert_array_equal(read_samples(tmp_path / "x.parquet").values, rows)


def there_and_back(tmp_path, text: str, ending: str = ".csv", **data) -> str:
    """What is written of the rows of a file that come back through their coordinates."""
    path, out = tmp_path / f"mine{ending}", tmp_path / f"out{ending}"
    path.write_text(text, encoding="utf-8")
    found = load(Data(name="samples", path=str(path), **data))
    WRITERS[ending](out, found.own_units(np.asarray(found.rows)), found.form)
    return out.read_text(encoding="utf-8")


def rows_of(header: str, rows: list[str], by: str = ",") -> str:
    return "\n".join(([header] if header else []) + [by.join(cells.split("|")) for cells in rows * 4]) + "\n"


@pytest.mark.parametrize(
    "header, rows, by, data",
    [
        ("a,b,a", ["1.5|2|3.25", "2.5|1|4.5", "0.25|7|9.5"], ",", {}),
        ("0,1", ["1.5|2", "2.5|1", "0.25|7"], ",", {}),
        ("# x,y", ["1.5|2", "2.5|1", "0.25|7"], ",", {}),
        ("x", ['"red, dark"', "blue", "green"], ",", {}),
        ("x;y", ["01.02.2021|1,5", "28.02.2021|2,5", "13.03.2021|0,25"], ";", {}),
        ("when\tn", ["0001-01-01|1.5", "2020-05-06|2.5", "2021-12-31|0.25"], "\t", {}),
        ("t,n", ["2020-01-01T10:00:00Z|1.5", "2020-01-02T11:30:00Z|2.5", "2021-12-31T00:00:59Z|0.25"], ",", {}),
        ("zip,n", ["01067|1.5", "20095|2.5", "99423|0.25"], ",", {"categorical": ("zip",)}),
        ("ok,w", ["yes|1.5 kg", "no|2.5 kg", "no|0.25 kg"], ",", {}),
        ("ok,w", ["TRUE|12 %", "FALSE|7 %", "FALSE|9 %"], ",", {}),
        ("", ["1.5|2", "2.5|1", "0.25|7"], ",", {}),
    ],
)
def test_a_text_comes_back_as_it_was_written(tmp_path, header, rows, by, data):
    """The rows are kept ones of the file, each of which is in it four times, so that values are known exactly."""
    text = rows_of(header, rows, by)
    back = there_and_back(tmp_path, text, ".tsv" if by == "\t" else ".csv", **data)
    lines = back.splitlines()
    if header:
        assert lines.pop(0) == header
    assert set(lines) == set(text.splitlines()[bool(header) :])


def test_words_that_look_like_comments_are_quoted(tmp_path):
    back = there_and_back(tmp_path, rows_of("x,y", ['"#1"|1.5', '"#2"|2.5', "a|0.25"]))
    assert {'"#1",1.5', '"#2",2.5', '"a",0.25'} == set(back.splitlines()[1:])
    assert len(read_samples(tmp_path / "out.csv").values) == len(back.splitlines()) - 1


def test_types_of_parquet_come_back(tmp_path):
    """Text that holds numbers, dates or truth values stays text; whole numbers stored as float stay float."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    n = 30
    moment = np.datetime64("2020-03-01T10:00:00.160") + np.arange(n).astype("m8[h]")
    columns = {
        "price": pa.array([f"${i % 4}.25" for i in range(n)]),
        "day": pa.array([f"2020-01-0{1 + i % 7}" for i in range(n)]),
        "flag": pa.array(["true", "false", "false"] * 10),
        "small": pa.array(np.arange(n) % 5, pa.int32()),
        "whole": pa.array((np.arange(n) % 5).astype(np.float64)),
        "single": pa.array((np.arange(n) / 3.0).astype(np.float32)),
        "moment": pa.array(moment.astype("M8[us]")),
        "code": pa.array(10 * (np.arange(n) % 3)),
    }
    pq.write_table(pa.table(columns), tmp_path / "mine.parquet")
    found = load(Data(name="samples", path=str(tmp_path / "mine.parquet"), categorical=("code",)))
    rows = found.own_units(np.asarray(found.rows))
    WRITERS[".parquet"](tmp_path / "out.parquet", rows, found.form)
    before, after = pq.read_table(tmp_path / "mine.parquet"), pq.read_table(tmp_path / "out.parquet")
    assert [str(t) for t in after.schema.types] == [str(t) for t in before.schema.types]
    kept = found.own[0].order
    for name in set(columns) - {"single", "moment"}:
        assert after[name].to_pylist() == before[name].take(kept).to_pylist(), name
    error = np.array(after["moment"]) - np.array(before["moment"].take(kept))
    assert np.abs(error.astype("m8[us]").astype(int)).max() < 1e6 * 3600 * n * 2e-7  # float32 of the range

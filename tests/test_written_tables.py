"""A table there and back: trained on as CSV, sampled as CSV and Parquet with the same columns and kinds of numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest

from estimators.samples.files import read_samples
from fgan.config.schema import Config, Critic, Data, Generator, Log
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
def run(table, tmp_path_factory) -> Path:
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
    WRITERS[".csv"](tmp_path / "x.csv", rows, Form())
    assert (tmp_path / "x.csv").read_text().splitlines() == ["1,0.5,1.152921504606847e+18", "-3,2.0,1.0"]
    WRITERS[".parquet"](tmp_path / "x.parquet", rows, Form())
    np.testing.assert_array_equal(read_samples(tmp_path / "x.parquet").values, rows)

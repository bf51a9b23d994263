"""The rows of the list of faults that `test_bad_inputs` leaves: what only one of library and command line had a test of
there, and columns that are matched by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_arrays import refusal
from test_bad_inputs import GOOD, LAYOUTS, METHODS, OTHER, RNG, fgan, made, seen, text  # noqa: F401
from test_files import csv_of

import estimators as est
from estimators import estimation
from estimators.samples.files import read_samples
from fgan.config.schema import Config, Data
from fgan.data.own_samples import of_rows
from fgan.run.program import Program

ROOT = Path(__file__).resolve().parent.parent


def table(names: str, rows: np.ndarray) -> bytes:
    return csv_of(rows, header=names + "\n")


# --- row 45: columns by name ------------------------------------------------------------------------------------------


def test_row_45_columns_are_matched_by_name(fgan, seen, tmp_path):  # noqa: F811
    """The columns of Q in another order make no difference, but for a note that says so."""
    p = made(tmp_path / "p.csv", table("age,income", GOOD))
    q = made(tmp_path / "q.csv", table("income,age", OTHER[:, ::-1]))
    samples = read_samples(p), read_samples(q)
    e = est.estimate(*samples, "kl")
    assert seen[1].tobytes() == OTHER.tobytes()
    assert [w for w in e.warnings if "columns put in the order of" in w and "by name" in w] == list(e.warnings)
    seen.clear()
    code, out, err = fgan("estimate", p, q, "--json")
    assert (code, err) == (0, "") and seen[1].tobytes() == OTHER.tobytes()
    assert tuple(json.loads(out)["estimates"][0]["warnings"]) == e.warnings


OTHERS = {
    "one other name": ("age,income", "age,salary", ["has a column salary", "has income instead", "matched by name"]),
    "capitals": ("age,income", "age,Income", ["has a column Income", "has income instead"]),
    "one more": ("age,income", "age,income,x", ["both need the same number of columns", "only", "has x", "--drop"]),
    "a name that steers": ("age,income", "age,\x9b2J", [r"has a column \x9b2J", "has income instead"]),
}


@pytest.mark.parametrize(("one", "other", "said"), OTHERS.values(), ids=OTHERS)
def test_row_45_other_names_are_refused(fgan, tmp_path, one, other, said):  # noqa: F811
    p = made(tmp_path / "p.csv", table(one, GOOD))
    q = made(tmp_path / "q.csv", table(other, RNG.normal(size=(20, other.count(",") + 1))))
    refusal(lambda: est.estimate(read_samples(p), read_samples(q), "kl"), "p.csv", "q.csv", *said)
    code, out, err = fgan("estimate", p, q)
    assert (code, out, err.count("\n")) == (3, "", 1) and [part for part in said if part not in err] == []


def test_row_45_a_column_that_one_file_has_may_be_left_out(fgan, seen, tmp_path):  # noqa: F811
    p = made(tmp_path / "p.csv", table("age,income", GOOD))
    q = made(tmp_path / "q.csv", table("x,age,income", np.column_stack([GOOD[:, 0], OTHER])))
    est.estimate(*(read_samples(path, drop=["x"], absent_ok=True) for path in (p, q)), "kl")
    assert seen[1].tobytes() == OTHER.tobytes()
    assert fgan("estimate", p, q, "--drop", "x")[0] == 0 and seen[1].tobytes() == OTHER.tobytes()
    code, _, err = fgan("estimate", p, q, "--drop", "y")
    assert code == 3 and "'y'" in err


# --- rows that had one of the two -------------------------------------------------------------------------------------


def test_row_8_fewer_rows_than_a_batch_are_noted():
    """Training goes on, and says that rows stand in a batch more than once; with as many rows it says nothing."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    for batch, noted in ((64, True), (32, False)):
        config = Config(batch=batch, data=Data(name="samples", path="data in memory"))
        notes = Program(config, of_rows(rows, config.data)).notes
        assert sum("32 rows are fewer than a batch of 64" in note for note in notes) == noted


@pytest.mark.slow
def test_row_17_separable_samples_in_the_library(monkeypatch, little_training):
    """JS and TV near their maxima, KL finite without an upper end, never NaN."""
    monkeypatch.setattr(estimation, "METHODS", METHODS)
    kl, js, tv = est.estimate(GOOD, GOOD + 50.0, ["kl", "js", "total_variation"], method="neural")
    assert all(np.isfinite(e.value) and any("separable" in w for w in e.warnings) for e in (kl, js, tv))
    assert kl.high == np.inf and kl.low <= np.log(20)
    assert 0.5 * np.log(2.0) < js.value <= np.log(2.0) + 1e-6 and 0.5 < tv.value <= 1.0 + 1e-6


def test_row_18_a_negative_estimate_is_returned_as_it_is():
    e = est.estimate(GOOD, OTHER, "kl")
    assert (e.value, e.low, e.high) == (-0.125, -0.25, 0.25)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "file" not in name and "map" not in name])
def test_row_22_every_layout_reaches_the_method_from_a_file(fgan, seen, tmp_path, layout):  # noqa: F811
    q = made(tmp_path / "q.npy", OTHER)
    code, _, err = fgan("estimate", made(tmp_path / "p.npy", LAYOUTS[layout](GOOD, tmp_path)), q)
    assert (code, err) == (0, "") and seen[0].tobytes() == GOOD.tobytes()


def test_row_25_words_and_dates_are_taken_as_what_they_are(fgan, tmp_path):  # noqa: F811
    """Second edition: categories and dates are accepted with a note; `--categorical` makes numbers names."""
    lines = [f"{x:.3f},{word},2024-01-{day:02d}" for x, word, day in zip(GOOD[:, 0], ["a", "b"] * 10, range(1, 21))]
    p, q = (made(tmp_path / f"{name}.csv", text("x,word,day", *lines)) for name in "pq")
    notes = " ".join(read_samples(p).notes)
    assert "text: taken as 2 categories" in notes and "dates: taken as days since 1970-01-01" in notes
    code, out, _ = fgan("estimate", p, q, "--json")
    said = " ".join(json.loads(out)["estimates"][0]["warnings"])
    assert code == 0 and "text: taken as 2 categories" in said and "dates: taken as days" in said
    codes = made(tmp_path / "c.csv", text("x,code", *(f"{x:.3f},{k % 3}" for k, x in enumerate(GOOD[:, 0]))))
    assert read_samples(codes, categorical=["code"]).levels[1] == ("0", "1", "2")
    assert "taken as 3 categories" in fgan("estimate", codes, codes, "--categorical", "code")[1]


def test_row_28_an_index_in_one_file_only_is_left_out(fgan, seen, tmp_path):  # noqa: F811
    numbered = text(",a,b", *(f"{k},{x!r},{y!r}" for k, (x, y) in enumerate(GOOD.tolist())))
    p, q = made(tmp_path / "p.csv", numbered), made(tmp_path / "q.csv", table("a,b", OTHER))
    e = est.estimate(read_samples(p), read_samples(q), "kl")
    assert seen[0].tobytes() == GOOD.tobytes() and any("taken for an index and dropped" in w for w in e.warnings)
    code, out, _ = fgan("estimate", p, q)
    assert code == 0 and "taken for an index and dropped" in out and seen[0].tobytes() == GOOD.tobytes()

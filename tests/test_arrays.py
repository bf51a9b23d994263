"""Sample sets at the door: what is accepted becomes the same float64 matrix, the rest a one-line DataError."""

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators.samples.arrays import (
    DataError,
    as_samples,
    check_pair,
    constant_columns,
    discrete,
    twins,
)
from estimators.samples.matching import common_levels, matched

POINTS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32).astype(np.float64)
IMAGES = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)
FRAME = pd.DataFrame(POINTS, columns=list("abc"))


def refusal(action, *fragments):
    """The DataError that `action` must raise: one printable line with all the fragments."""
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    for fragment in fragments:
        assert fragment in message
    return message


# ------------------------------------------------------------------------------------------------ arrays


@pytest.mark.parametrize(
    ("array", "fragments"),
    [
        ([[1.0, 2.0], [np.nan, 4.0], [5.0, np.nan]], ["2 of 3 rows", "NaN", "row 1, column 0", "nan_policy='omit'"]),
        ([[1.0, 2.0], [3.0, -np.inf]], ["1 of 2 rows", "infinite", "row 1, column 1"]),
        ([[1.0], [1e39]], ["3.4e38", "row 1, column 0", "rescale"]),
        (np.empty((0, 3)), ["(0, 3)"]),
        (np.empty((3, 0)), ["(3, 0)"]),
        (np.float64(3.0), ["()"]),
        (None, ["object"]),
        (np.ones((1, 3)), ["only 1 samples", "at least 2"]),
        (np.ones((4, 2, 2)), ["(4, 2, 2)", "--flatten"]),
        (np.ones((3, 2), complex), ["complex128", "real and imaginary"]),
        (np.array([[object()], [1]]), ["row 0, column 0 is of type object"]),
        (np.array([[None], [1]]), ["1 of 2 rows", "NaN"]),
        (np.array([f"name {i}" for i in range(30)]), ["row 0, column 0", "30 of 30 cells"]),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [{}, {}]}), ["column 1 (b) is of type dict"]),
        (np.zeros(3, [("a", float), ("b", int)]), ["structured"]),
        (np.array([b"ab", b"cd"], "V2"), ["|V2"]),
        ([[1.0, 2.0], [3.0]], ["cannot be read"]),
        ({1: 2}, ["object"]),
        (pd.DataFrame(index=[1, 2]), ["(2, 0)"]),
        (pd.Timestamp(0), ["object"]),
        (np.ma.array([[1.0], [2.0], [3.0]], mask=[[0], [1], [0]]), ["1 of 3 rows", "row 1, column 0"]),
        (np.ma.array([1 + 1j, 2], mask=[0, 1]), ["complex"]),
        (pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64")}), ["1 of 3 rows", "row 1, column 0"]),
    ],
)
def test_arrays_that_cannot_be_samples_are_refused(array, fragments):
    refusal(lambda: as_samples(array, name="my set"), "my set: ", *fragments)


@pytest.mark.parametrize(
    "array",
    [
        POINTS.copy(order="F"),
        POINTS.astype(">f8"),
        np.repeat(POINTS, 2, axis=0)[::2],
        POINTS[::-1][::-1],
        np.frombuffer(b"\0" + POINTS.tobytes(), np.uint8)[1:].view(np.float64).reshape(7, 3),
        np.ma.array(POINTS),
        POINTS.tolist(),
        POINTS.astype(np.float32),
        POINTS.astype(np.longdouble),
        jnp.asarray(POINTS, jnp.float32),
        FRAME,
        FRAME.astype({"a": "Float64"}),
    ],
)
def test_every_layout_gives_the_same_bytes(array):
    values = as_samples(array).values
    assert values.dtype == np.dtype("=f8") and values.dtype.isnative
    assert values.flags.c_contiguous and values.flags.aligned and type(values) is np.ndarray
    assert values.tobytes() == POINTS.tobytes()


@pytest.mark.parametrize(
    ("array", "expected", "note"),
    [
        ([1.0, 2.0], [[1], [2]], "2 samples of dimension 1"),
        (np.array([[True], [False]]), [[1], [0]], "bool cast to float64"),
        (np.array([[255], [0]], np.uint8), [[255], [0]], "uint8 cast to float64, not rescaled"),
        (np.array([[2**63 - 1], [-(2**63)]]), [[2.0**63], [-(2.0**63)]], "2^53"),
        (pd.Series([1, 2]), [[1], [2]], "int64 cast"),
        (pd.Series([1.5, 2.0]), [[1.5], [2]], "dimension 1"),
        (np.array(["1", "-2.5"]), [[1], [-2.5]], "the numbers they stand for"),
        (np.array(["b", "a", "b"], np.dtypes.StringDType()), [[1], [0], [1]], "column 0 holds text: taken as 2 cat"),
        (np.array(["1970-01-02", "1970-01-03T12"], "M8[h]"), [[1], [2.5]], "days since 1970-01-01"),
        (pd.Series(pd.to_datetime(["1970-01-02", "1969-12-31"])), [[1], [-1]], "days"),
        (np.array([[True, 1.5], [False, 2]], object), [[1, 1.5], [0, 2]], "the numbers they stand for"),
        (pd.DataFrame({"n": [1, 2], "s": pd.Categorical(["y", "x"])}), [[1, 1], [2, 0]], "column 1 (s) holds text"),
    ],
)
def test_what_was_done_to_the_input_is_noted(array, expected, note):
    samples = as_samples(array, name="set")
    np.testing.assert_array_equal(samples.values, expected)
    assert any(note in n and n.startswith("set: ") for n in samples.notes)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, jnp.float8_e5m2])
def test_short_floats_are_widened_exactly(dtype):
    assert as_samples(np.array([[0.5], [-1.75]], dtype)).values.tolist() == [[0.5], [-1.75]]


class Tensor:
    """What torch shows of a tensor that needs gradients and is bfloat16."""

    dtype = "torch.bfloat16"

    def __init__(self, values, stage=0):
        self.values, self.stage = values, stage

    def detach(self):
        return Tensor(self.values, 1)

    def cpu(self):
        return Tensor(self.values, self.stage + 1)

    def float(self):
        return self.values.astype(np.float32) if self.stage == 2 else None

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


def test_torch_tensors_are_detached_moved_and_widened():
    assert as_samples(Tensor(POINTS)).values.tobytes() == POINTS.tobytes()


def test_omit_drops_and_counts():
    array = np.array([[1, 2], [np.nan, 1], [3, np.inf], [4, 5], [np.nan, np.inf]])
    samples = as_samples(array, nan_policy="omit")
    assert samples.values.tolist() == [[1, 2], [4, 5]]
    assert [n.split(" rows")[0] for n in samples.notes] == ["x: dropped 2 of 5", "x: dropped 1 of 3"]
    refusal(lambda: as_samples(array, nan_policy="omit", minimum=3), "2 of 5 samples left", "at least 3")
    refusal(lambda: as_samples([[np.nan], [np.nan]], nan_policy="omit"), "0 of 2 samples left")
    refusal(lambda: as_samples([[1.0], [1e39]], nan_policy="omit"), "rescale")
    masked = np.ma.array(array, mask=array == 5)
    assert as_samples(masked, nan_policy="omit", minimum=1).values.tolist() == [[1, 2]]


def test_labels_keep_to_the_rows_that_are_kept():
    array, labels = np.array([[1.0], [np.nan], [3.0], [np.inf], [5.0]]), list("abcde")
    assert as_samples(array, nan_policy="omit").aligned(labels).tolist() == ["a", "c", "e"]
    assert as_samples(array[[0, 2, 4]]).aligned([7, 8, 7]).tolist() == [7, 8, 7]
    for wrong in (labels[:3], [labels], "abcde"):
        refusal(lambda wrong=wrong: as_samples(array, nan_policy="omit").aligned(wrong), "x: 5 rows", "one label a row")


def test_unknown_policy_is_the_callers_error():
    with pytest.raises(ValueError, match="choose 'raise' or 'omit'") as caught:
        as_samples(POINTS, nan_policy="propagate")
    assert not isinstance(caught.value, DataError)


def test_samples_pass_through():
    samples = as_samples([1.0, 2.0])
    assert as_samples(samples) is samples


def test_flatten_joins_axes_in_c_order():
    samples = as_samples(np.asfortranarray(IMAGES), flatten=True)
    np.testing.assert_array_equal(samples.values, np.arange(30).reshape(5, 6))
    assert samples.shape == (2, 3) and any("(5, 2, 3)" in n and "dimension 6" in n for n in samples.notes)


DTYPES = st.one_of(
    hnp.floating_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.boolean_dtypes(),
    hnp.complex_number_dtypes(), hnp.datetime64_dtypes(), hnp.unicode_string_dtypes(), hnp.byte_string_dtypes(),
)  # fmt: skip
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))


@settings(max_examples=300)
@given(ARRAYS, st.sampled_from("CF"), st.sampled_from(["raise", "omit"]), st.booleans(), st.booleans())
def test_any_array_is_finite_or_a_data_error(array, order, policy, flatten, backwards):
    array = np.array(array, order=order)
    array = array[::-1] if backwards and array.ndim else array
    try:
        values = as_samples(array, nan_policy=policy, flatten=flatten).values
    except DataError:
        usable = (
            array.dtype.kind in "biufUM" and len(array.shape) in ((1, 2, 3, 4) if flatten else (1, 2)) and array.size
        )
        with np.errstate(over="ignore"):
            bad = (
                not usable
                or array.dtype.kind in "UM"
                or not (np.abs(array.astype(np.float64)) <= np.finfo(np.float32).max).all()
            )
        assert bad or len(array) < 2
    else:
        assert values.ndim == 2 and len(values) >= 2 and np.isfinite(values.astype(np.float32)).all()
        if len(values) == len(array) and array.dtype.kind in "biuf":
            np.testing.assert_array_equal(values, array.astype(np.float64).reshape(len(array), -1))


# ------------------------------------------------------------------------------------------------ pairs


def pair(x, y):
    return as_samples(x, name="p.npy"), as_samples(y, name="q.npy")


OTHER = POINTS[:5] + 1
AT = np.array([1.0, 0.0, 1.0])  # empties column 1


@pytest.mark.parametrize(
    ("x", "y", "fragments"),
    [
        (POINTS, OTHER, []),
        (POINTS, POINTS.copy(), [["p.npy and q.npy have the same content: "]]),
        (POINTS, POINTS[::-1], [["same content, in another order"]]),
        (POINTS, np.vstack([OTHER, POINTS[:2]]), [["2 of 7 rows of p.npy also occur in q.npy"]]),
        (np.vstack([POINTS, POINTS[:3]]), OTHER, [["p.npy: 3 of 10 rows repeat"]]),
        (POINTS, np.vstack([OTHER, OTHER[:1]]), [["q.npy: 1 of 6 rows repeat"]]),
        (POINTS * AT, OTHER * -AT, [["column 1 (counting from 0)", "equal", "without effect"]]),
        (POINTS * AT + 3, OTHER * AT, [["column 1", "different values", "KL is infinite"]]),
        (POINTS * AT, OTHER, [["constant in p.npy only", "not absolutely continuous"]]),
        (POINTS, OTHER * AT, [["constant in q.npy only", "not absolutely continuous"]]),
        (
            np.eye(3, 90),
            2 * np.eye(4, 90),
            [["column 3 ", "p.npy only"], ["and 81 more", "equal"], ["90 columns", "3 rows", "transpose both"]],
        ),
    ],
)
def test_pairs_are_described(x, y, fragments):
    warnings = check_pair(*pair(x, y))
    assert len(warnings) == len(fragments)
    for words in fragments:
        assert any(all(word in warning for word in words) for warning in warnings), (words, warnings)


def test_negative_zero_equals_zero():
    (warning,) = check_pair(*pair([[0.0], [1.0]], [[-0.0], [1.0]]))
    assert "same content" in warning


def test_constant_columns_by_kind():
    x = np.array([[1, 1, 1, 0], [1, 1, 1, 1.0]])
    y = np.array([[1, 2, 1, 5], [1, 2, 2, 5.0], [1, 2, 3, 5]])
    assert [list(columns) for columns in constant_columns(x, y)] == [[0], [1], [2], [3]]


def test_pairs_of_different_dimension_are_refused():
    refusal(lambda: check_pair(*pair(POINTS, POINTS[:, :2])), "p.npy has shape (7, 3)", "q.npy has shape (7, 2)")


def test_stacks_equal_only_when_flattened_are_refused():
    x, y = (as_samples(a, name=n, flatten=True) for a, n in ((IMAGES, "p"), (IMAGES.swapaxes(1, 2), "q")))
    refusal(lambda: check_pair(x, y), "(2, 3)", "(3, 2)")
    check_pair(x, as_samples(IMAGES.reshape(5, 6) + 1.0))


# ------------------------------------------------------------------------------------------------ copies, atoms, codes


def labels_of(x, y):
    found = twins(*(as_samples(side, name=name) for side, name in ((x, "x"), (y, "y"))))
    return None if found is None else np.concatenate(found)


def test_copies_share_a_label_and_atoms_do_not():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    assert labels_of(x, y) is None
    x[10:13], y[5] = x[9], x[20]
    labels = labels_of(x, y)
    assert len(np.unique(labels)) == 600 - 4 and len(set(labels[9:13])) == 1 and labels[20] == labels[305]
    x[50:90], y[100:150] = 0.0, (-999.0, 3.7)
    assert len(np.unique(labels_of(x, y))) == 600 - 4  # each row of an atom for itself
    only_atoms = np.where(rng.random((300, 1)) < 0.5, 0.0, rng.normal(size=(300, 1)))
    assert labels_of(only_atoms, rng.normal(size=(300, 1))) is None


def test_repeated_values_are_discrete_where_both_sets_have_them_or_they_are_short():
    rng = np.random.default_rng(1)
    levels = rng.normal(size=8)
    x, y = (levels[rng.integers(0, 8, 100)][:, None] for _ in range(2))
    assert discrete(x, y) and labels_of(x, y) is None
    copies = rng.normal(size=(20, 1))[rng.integers(0, 20, 100)]
    assert not discrete(copies, x) and not discrete(copies) and discrete(np.round(copies, 1))
    assert len(np.unique(labels_of(copies, rng.normal(size=(100, 1))))) == 100 + len(np.unique(copies))


# ------------------------------------------------------------------------------------------------ names of columns


def test_columns_are_matched_by_name():
    x, y = FRAME, FRAME[["c", "a", "b"]]
    p, q = as_samples(x, name="x"), as_samples(y, name="y")
    there = matched(p, q)[1]
    np.testing.assert_array_equal(there.values, POINTS)
    assert there.notes == ("y: columns put in the order of x, by name",) and there.columns == ("a", "b", "c")
    assert matched(p, as_samples(POINTS))[1].notes == () and matched(p, p)[1] is p
    refusal(lambda: matched(p, as_samples(y.rename(columns={"a": "age"}), name="y")), "column age", "x has a instead")
    one, other = (as_samples(FRAME[[c]], name=c) for c in "ab")
    assert matched(one, other)[1].notes[-1] == "a holds a, b b"
    twice = as_samples(FRAME.set_axis(["a", "a", "b"], axis=1))
    assert twice.columns == () and as_samples(FRAME.set_axis([0, 1, 2], axis=1)).columns == ()


# ------------------------------------------------------------------------------------------------ words, dates, codes

WORDS = pd.DataFrame({"w": ["b", "a", "b", "c"], "x": [1.26, 2.5, -3.14, 4.0]})
KINDS = {
    "decimals": ([Decimal("1.5"), Fraction(1, 4), 2, np.float32(0.5)], [1.5, 0.25, 2, 0.5], False),
    "truth values": ([True, False, True, True], [1, 0, 1, 1], False),
    "dates": (
        [date(1970, 1, 2), date(1969, 12, 31), datetime(1970, 1, 1, 6), date(1970, 1, 1)],
        [1, -1, 0.25, 0],
        False,
    ),
    "numbers in text": (["1", "2.5", "-3", "1e2"], [1, 2.5, -3, 100], False),
    "text": (["b", "a", "b", "c"], [1, 0, 1, 2], True),
    "category of numbers": (pd.Categorical([30, 7, 30, 30]), [0, 1, 0, 0], True),
}


@pytest.mark.parametrize("cells, expected, levels", KINDS.values(), ids=KINDS)
def test_columns_of_objects_become_numbers_or_codes(cells, expected, levels):
    """Codes count the categories in order, of text as text is ordered; a missing cell is a missing value."""
    frame = pd.DataFrame({"a": cells, "x": WORDS.x})
    samples = as_samples(frame)
    assert samples.values[:, 0].tolist() == expected and bool(samples.levels) == levels
    missing = frame.astype({"a": object})
    missing.loc[1, "a"] = None
    kept = as_samples(missing, nan_policy="omit")
    assert kept.kept.tolist() == [True, False, True, True]
    refusal(lambda: as_samples(missing), "1 of 4 rows", "row 1, column 0")


@pytest.mark.parametrize(
    ("cells", "expected", "note"),
    [
        (["70 %", "65 %", None, "70 %"], [70, 65, 70], "column 0 (a) holds numbers in %: taken as given, 70 % as 70"),
        (["€1,000", "€20.50", "NA", "€1,000"], [1000, 20.5, 1000], "numbers in €"),
        (["1,5", "2,5", "", "1,5"], [1.5, 2.5, 1.5], "decimal commas read as points"),
        (["1 234", "2 345", "-", "1 234"], [1234, 2345, 1234], "thousands separators removed"),
        (["1", 2, np.nan, "1.0"], [1, 2, 1], "the numbers they stand for"),
        (["b", " a ", "", "b"], [1, 0, 1], "2 categories"),
        (["2024-01-02", "2024-01-01T23:00-01:00", "NA", "2024-01-02"], [19724] * 3, "in UTC"),
    ],
)
def test_words_mean_the_same_in_objects_as_in_text(cells, expected, note):
    samples = as_samples(pd.DataFrame({"a": cells, "x": WORDS.x}), nan_policy="omit")
    assert samples.values[:, 0].tolist() == expected and samples.kept.tolist() == [True, True, False, True]
    assert any(note in n for n in samples.notes)


@pytest.mark.parametrize(
    ("cells", "fragments"),
    [
        (["3.5 kg", "4 lb", "3.5 kg"], ["row 1, column 0 (a): '4 lb'", "units differ"]),
        (["1", "2", "1", "many"], ["row 3, column 0 (a): 'many' is not a number", "categorical="]),
        (["1,234", "2,345", "1,234"], ["'1,234' may have a decimal comma"]),
    ],
)
def test_columns_that_are_numbers_but_for_a_few_cells_are_refused(cells, fragments):
    frame = pd.DataFrame({"a": cells})
    refusal(lambda: as_samples(frame), *fragments)
    assert len(as_samples(frame, categorical=["a"]).levels[0]) == len(set(cells))


BERLIN = pd.to_datetime(["2024-01-01 00:00", "2024-01-02 12:00"]).tz_localize("Europe/Berlin")
MIXED = [datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2024, 1, 2, 11)]


@pytest.mark.parametrize(
    "times",
    [BERLIN, pd.Series(BERLIN), np.array(MIXED, object), pa.chunked_array([pa.array(BERLIN)])],
    ids=["zone", "series", "mixed zones", "arrow"],
)
def test_dates_with_zones_are_in_utc(times):
    samples = as_samples(pa.table({"t": times}) if isinstance(times, pa.ChunkedArray) else pd.DataFrame({"t": times}))
    assert samples.values[:, 0].tolist() == [19723 - 1 / 24, 19724 + 11 / 24]
    assert samples.notes == ("x: column 0 (t) holds dates: taken as days since 1970-01-01, in UTC",)


def test_durations_are_days():
    frame = pd.DataFrame({"t": pd.to_timedelta(["1 day", "36 hours"]), "x": [1.5, 2.5]})
    for table in (frame, pa.Table.from_pandas(frame)):
        samples = as_samples(table)
        assert samples.values[:, 0].tolist() == [1, 1.5] and samples.notes[0].endswith("durations: taken as days")
    assert as_samples(frame.t.to_numpy()).values.tolist() == [[1], [1.5]]


class Exchanged:
    """A frame that shows no more than the exchange protocol."""

    def __init__(self, table):
        self.__dataframe__ = table.__dataframe__


class Convertible:
    """A frame that shows no more than a way to pandas."""

    def __init__(self, table):
        self.to_pandas = table.to_pandas


class Polars:
    """What polars shows of a frame."""

    def __init__(self, table):
        self._frame, self.columns, self.shape = table.to_pandas(), table.column_names, table.shape

    def __getitem__(self, name):
        return self._frame[name]

    def __len__(self):
        return len(self._frame)


@pytest.mark.parametrize(
    "kind", [lambda table: table, lambda table: table.to_batches()[0], Exchanged, Convertible, Polars],
    ids=["arrow", "batch", "exchanged", "convertible", "polars"],
)  # fmt: skip
def test_tables_of_other_libraries_are_frames(kind):
    """Their columns have names, words and missing cells."""
    table = pa.table({"n": [1.5, None, 3.0, 2.0], "w": ["b", "a", "b", "a"], "p": ["1 %", "2 %", "1 %", "3 %"]})
    samples = as_samples(kind(table), nan_policy="omit", drop=["p"])
    assert samples.columns == ("n", "w") and samples.values.tolist() == [[1.5, 1], [3, 1], [2, 0]]
    p, q = matched(samples, as_samples(pd.DataFrame({"w": ["a", "b", "a"], "n": [1.0, 2.0, 3.0]}), name="y"))
    assert p.columns == q.columns and q.values.tolist() == [[1, 0], [2, 1], [3, 0]]
    assert as_samples(kind(table), drop=["n"]).units == {1: "%"}


def test_columns_of_one_set_are_named_with_the_remedy():
    more = as_samples(FRAME.assign(d=1.5), name="more")
    for pair in ((as_samples(FRAME), more), (more, as_samples(FRAME))):
        refusal(lambda pair=pair: matched(*pair), "more has shape (7, 4)", "only more has d; leave that out (drop=")
    one, other = (as_samples(side, drop=["d"], absent_ok=True) for side in (FRAME, FRAME.assign(d=1.5)))
    assert matched(one, other)[1].columns == tuple("abc")
    numbered = [as_samples(side, drop=[3], absent_ok=True) for side in (POINTS, np.column_stack([POINTS, POINTS]))]
    assert [side.values.shape[1] for side in numbered] == [3, 5]
    neither = [as_samples(side, name=name, drop=["z"], absent_ok=True) for side, name in ((FRAME, "x"), (POINTS, "y"))]
    refusal(lambda: matched(*neither), "neither x nor y has a column 'z' to drop; the columns of x are a, b, c")


def test_messages_count_the_columns_of_the_input():
    """Also where some were dropped, and of a text from 1."""
    x = np.column_stack([POINTS[:, 0], POINTS[:, 1], np.full(7, 2.0)])
    p, q = (as_samples(side, name=n, drop=[0]) for side, n in ((x, "p"), (x + np.array([0.0, 1.0, 0.0]), "q")))
    assert any(w.startswith("column 2 (counting from 0) constant and equal") for w in check_pair(p, q))
    p = as_samples(pd.DataFrame(x, columns=list("abc")), drop=["a"])
    assert p.called(1) == "column 2 (c)" and p.called([0, 1]) == "columns 1 (b), 2 (c)"
    refusal(lambda: as_samples(np.where(x == 2.0, np.nan, x), drop=[0]), "row 0, column 2 (counting from 0)")


def test_two_columns_of_one_name_and_categories_that_look_alike_are_named():
    twice = as_samples(FRAME.set_axis(["a", "a", "b"], axis=1))
    assert twice.notes == ("x: several columns are called 'a': all columns count by their order alone",)
    x, y = (
        as_samples(pd.DataFrame({"w": words}), name=n) for words, n in ((["yes", "no"] * 2, "x"), (["Yes"] * 3, "y"))
    )
    assert matched(x, y)[1].notes[-1] == "column 0 (w): 'Yes' and 'yes' count as different categories"


def test_columns_are_dropped_or_taken_as_categories():
    frame = WORDS.assign(id=[f"n{i}" for i in range(4)], zip=[70, 9, 70, 9.5])
    refusal(lambda: as_samples(frame), "column 2 (id)", "4 of 4 cells", "identifiers", "drop")
    refusal(lambda: as_samples(frame, drop=["name", "id"]), "no column 'name'", "w, x, id, zip")
    samples = as_samples(frame, drop=["id", "x"], categorical=["zip", "w"])
    assert samples.values.tolist() == [[1, 0], [0, 1], [1, 0], [2, 2]] and samples.columns == ("w", "zip")
    assert samples.levels == {0: ("a", "b", "c"), 1: ("70", "9", "9.5")}
    plain = as_samples(np.array([[7, 2.5, 1], [5, 3, 2], [7, 4, 3]]), drop=[2], categorical=[0])
    assert plain.values.tolist() == [[1, 2.5], [0, 3], [1, 4]] and plain.levels == {0: ("5", "7")}


def test_categories_as_indicators_and_rounded():
    samples = as_samples(WORDS.assign(v=["u", "v", "v", "v"]))
    expected = [[1, 0, 1.26, 0], [0, 0, 2.5, 1], [1, 0, -3.14, 1], [0, 1, 4, 1]]  # all categories but the first
    assert samples.indicated().tolist() == expected
    np.testing.assert_array_equal(as_samples(POINTS).indicated(), POINTS)
    rounded = samples.rounded(-1)
    assert rounded.values.tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 1], [2, 0, 1]] and rounded.levels == samples.levels
    assert samples.rounded(1).values[:, 1].tolist() == [1.3, 2.5, -3.1, 4]


def test_both_sets_have_one_code_for_each_category():
    """Whatever categories either has, in whatever order its columns are."""
    other = pd.DataFrame({"x": [0.0, 1.0, 2.0], "w": ["d", "b", "d"]})
    for x, y in ((WORDS, other), (other, WORDS)):
        p, q = matched(as_samples(x), as_samples(y))
        at = p.columns.index("w")
        assert p.columns == q.columns and p.levels == q.levels == {at: ("a", "b", "c", "d")}
        for side, frame in ((p, x), (q, y)):
            assert [side.levels[at][int(code)] for code in side.values[:, at]] == frame.w.tolist()
            np.testing.assert_array_equal(side.values[:, 1 - at], frame.x)
    same = as_samples(WORDS)
    assert common_levels(same, same)[0] is same
    numbers = as_samples(WORDS.assign(w=[1, 2, 3, 4]), name="y")
    for pair in ((same, numbers), (numbers, same)):
        refusal(lambda pair=pair: matched(*pair), "column 0 (w) holds categories in x and numbers in y", "categorical")

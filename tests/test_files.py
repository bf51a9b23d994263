"""Sample files: every format gives the same matrix; what is damaged, hostile or not a file is a one-line DataError."""

import gzip
import io
import os
import pickle
import struct
import sys
import tracemalloc
import zipfile
import zlib

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_arrays import FRAME, IMAGES, POINTS, refusal

from estimators.samples import files
from estimators.samples.arrays import DataError, Raw, as_samples, check_pair
from estimators.samples.files import FORMATS, Format, read_array, read_labels, read_samples, read_slice
from estimators.samples.matching import matched


def npy(array, **kwargs):
    stream = io.BytesIO()
    np.save(stream, array, **kwargs)
    return stream.getvalue()


def npy_header(descr="'<f8'", fortran=False, shape="(7, 3)", body=b"\0" * 168, version=1):
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes((version, 0)) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + body


def npz(compression=zipfile.ZIP_DEFLATED, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return stream.getvalue()


def idx(array, kind):
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def parquet(table, **kwargs):
    stream = io.BytesIO()
    table.to_parquet(stream, **kwargs)
    return stream.getvalue()


def csv_of(array, delimiter=",", header=""):
    return (header + "\n".join(delimiter.join(map(repr, row)) for row in array.tolist()) + "\n").encode()


FILES = {
    "a.npy": npy(POINTS),
    "fortran.npy": npy(np.asfortranarray(POINTS)),
    "big-endian.npy": npy(POINTS.astype(">f8")),
    "float32.npy": npy(POINTS.astype(np.float32)),
    "version2.npy": npy_header(version=2, body=POINTS.tobytes()),
    "no extension": npy(POINTS),
    "ünï cødé.NPY": npy(POINTS),
    "a.npz": npz(x=npy(POINTS)),
    "stored.npz": npz(zipfile.ZIP_STORED, x=npy(POINTS)),
    "a.csv": csv_of(POINTS),
    "a.tsv": csv_of(POINTS, "\t", "a\tb\tc\n"),
    "a.parquet": parquet(FRAME),
    "a.idx": idx(POINTS.astype(">f8"), 14),
    "points-idx2-float": idx(POINTS.astype(">f4"), 13),
    "points-idx2-float.gz": gzip.compress(idx(POINTS.astype(">f4"), 13)),
}


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", FILES)
def test_every_format_reads_the_same_points(put, name):
    path = put(name, FILES[name])
    samples = read_samples(path)
    assert samples.values.tobytes() == POINTS.tobytes()
    assert samples.name == str(path) and samples.notes == ()
    np.testing.assert_array_equal(read_array(path), POINTS)


@pytest.mark.parametrize("name", ["i.idx3-ubyte", "i.idx3-ubyte.gz", "i.npy", "i.npz"])
def test_images_keep_shape_and_type(put, name):
    content = {"e": idx(IMAGES, 8), "z": gzip.compress(idx(IMAGES, 8)), "y": npy(IMAGES), "npz": npz(a=npy(IMAGES))}
    path = put(name, content.get(name[-3:], content[name[-1]]))
    images = read_array(path)
    assert images.dtype == np.uint8 and images.dtype.isnative
    np.testing.assert_array_equal(images, IMAGES)
    refusal(lambda: read_samples(path), name, "(5, 2, 3)", "--flatten")
    assert read_samples(path, flatten=True).values.shape == (5, 6)


@pytest.mark.parametrize("kind", ["<i2", ">i4", "<u8", "|b1", "|i1", "<f2", ">f4"])
def test_read_array_keeps_the_type_in_native_order(put, kind):
    array = np.arange(6).reshape(3, 2).astype(kind)
    stored = read_array(put("a.npy", npy(array)))
    assert stored.dtype == array.dtype.newbyteorder("=") and (stored == array).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2,3\n4,5,6\n", [[1, 2, 3], [4, 5, 6]]),
        ("a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
        ('"a","b, c"\r\n"1","2"\r\n3, 4\r\n\r\n', [[1, 2], [3, 4]]),
        ("\ufeff1;2\n3;4\n", [[1, 2], [3, 4]]),
        ("x;y\n1,5;2\n-3,25;4e2\n", [[1.5, 2], [-3.25, 400]]),
        ('x;"y;z"\n"1,5";2\n"-,25";4\n', [[1.5, 2], [-0.25, 4]]),
        ("x;y in 1,2 m\n1.5;2\n3;4\n", [[1.5, 2], [3, 4]]),
        ('"a;b"\t"c"\n1\t2\n3\t4\n', [[1, 2], [3, 4]]),
        ("x\n1\n2\n", [[1], [2]]),
        ("1.5\n\n2\n", [[1.5], [2]]),
        ("1, 5\n2, 5\n", [[1, 5], [2, 5]]),
        ("0,1\n0.5,0.25\n1.5,2.5\n", [[0.5, 0.25], [1.5, 2.5]]),  # pandas names columns 0, 1, …
        ("0,1\n5,2\n3,-4\n", [[0, 1], [5, 2], [3, -4]]),
        ("0.5,\n1,2\n2,NA\n3,null\n4,5\n", [[1, 2], [4, 5]]),
    ],
)
def test_text_is_read(put, text, expected):
    assert read_samples(put("t.csv", text.encode()), nan_policy="omit").values.tolist() == expected


DECIMALS = ["0,05", "-0,31", "1,25", "-2,50", "0,75", "12", "3,10", "-1,99", "0,64", "1,11"]
VALUES = [[float(x.replace(",", "."))] for x in DECIMALS]
COMMAS, THOUSANDS, INDEX = "decimal commas", "thousands separators removed", "taken for an index and dropped"


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        ("\n".join(DECIMALS), VALUES, COMMAS),
        ("1,05\n2,50\n3,25\n", [[1.05], [2.5], [3.25]], COMMAS),
        ("-0,5\n2,5\n3,2\n", [[-0.5], [2.5], [3.2]], COMMAS),
        ("x\n1,5\n2,5\n", [[1.5], [2.5]], COMMAS),
        ("1,25 3,75\n2,5 1,5\n", [[1.25, 3.75], [2.5, 1.5]], COMMAS),
        ('"1,5","2,5"\n"3,5","4,25"\n', [[1.5, 2.5], [3.5, 4.25]], COMMAS),
        ('"1,5"\n"2,5"\n', [[1.5], [2.5]], COMMAS),
        ("3,10\n4,5\n", [[3, 10], [4, 5]], None),
        ("a,b\n3,1\n4,5\n", [[3, 1], [4, 5]], None),
        (",a\n7,1.5\n3,2.5\n9,4\n", [[1.5], [2.5], [4]], INDEX),
        ("Unnamed: 0,a\n7,1.5\n3,2.5\n9,4\n", [[1.5], [2.5], [4]], INDEX),
        (",a\nann,1.5\nbob,2.5\ncy,4\n", [[1.5], [2.5], [4]], INDEX),
        ("5000;1.5\n5001;2.5\n5002;4\n", [[1.5], [2.5], [4]], INDEX),
        ('"a" "b"\n"1" 0.5 2\n"2" 1.5 3\n"3" 4 4\n', [[0.5, 2], [1.5, 3], [4, 4]], INDEX),
        ("i,a\n7,1.5\n3,2.5\n9,4\n", [[7, 1.5], [3, 2.5], [9, 4]], None),
        ('a,b\n"1,234.5",2\n"2,034.5",2\n', [[1234.5, 2], [2034.5, 2]], THOUSANDS),
        ('a,b\n"1,234",2\n"2,034",2.5\n', [[1234, 2], [2034, 2.5]], THOUSANDS),
        ("a;b\n1.234,5;2\n2,5;-3\n", [[1234.5, 2], [2.5, -3]], THOUSANDS),
        ("a;b\n1\xa0234,5;2\n2,5;−3\n", [[1234.5, 2], [2.5, -3]], THOUSANDS),
        ("a;b\n1'234'567.5;2\n2.5;3\n", [[1234567.5, 2], [2.5, 3]], THOUSANDS),
        ("1 234,5\n2 034,5\n12\n", [[1234.5], [2034.5], [12]], THOUSANDS),
        ('"1,234.5"\n1.5\n2.5\n', [[1234.5], [1.5], [2.5]], THOUSANDS),
        ("a;b\n1,234;2,345\n2,345;0,123\n", [[1.234, 2.345], [2.345, 0.123]], COMMAS),
        ("# x y\n1,2.5\n\n#\n3,4.5  \n", [[1, 2.5], [3, 4.5]], "2 lines that begin with #"),
        ("a,b,\n1,2,\n3,4,\n", [[1, 2], [3, 4]], "empty last column"),
        ("1;2;\n3;4;\n", [[1, 2], [3, 4]], "empty last column"),
        ("a|b\n1|2\n3|4\n", [[1, 2], [3, 4]], None),
        (" a   b\n1.5    2\n  3\t4  \n", [[1.5, 2], [3, 4]], None),
    ],
)
def test_text_as_people_write_it(put, text, expected, note):
    """What was done is said; what needs no word gets none."""
    samples = read_samples(put("t.csv", text.encode()))
    assert samples.values.tolist() == expected
    assert note in " ".join(samples.notes) if note else samples.notes == ()


WRITTEN = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=6, max_size=12)


@given(WRITTEN, st.data())
def test_numbers_are_read_back_however_they_are_written(tmp_path_factory, numbers, data):
    def choose(*options):
        return data.draw(st.sampled_from(options))

    numbers = [*numbers[: len(numbers) // 2 * 2 - 2], 0.5, -1234567.25]  # which leave no sign in doubt
    decimal = choose(".", ",")
    by = choose("", ",.".replace(decimal, ""), "'", " ")
    quoted = choose(True, False)
    delimiter = choose(*(d for d in "\t;|, " if quoted or d not in decimal + by))

    def cell(x):
        word = f"{x:,.3f}".translate(str.maketrans({",": by, ".": decimal}))
        return f'"{word}"' if quoted else word

    lines = [[cell(x) for x in pair] for pair in zip(numbers[::2], numbers[1::2])]
    lines = [["u", "v"], *lines] if choose(True, False) else lines
    if choose(True, False):
        start = choose(0, 1, 5000)
        lines = [[str(i + start), *line] for i, line in enumerate(lines, -(lines[0][0] == "u"))]
        lines[0][0] = '""' if lines[0][1] == "u" else lines[0][0]
    text = choose("", "# made by hand, in 1,5 hours\n") + "".join(delimiter.join(line) + "\n" for line in lines)
    encoding = choose("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be")
    path = tmp_path_factory.mktemp("round") / "t.csv"
    path.write_bytes(text.encode(encoding))
    np.testing.assert_array_equal(read_samples(path).values.ravel(), numbers)


TABLE = "day,site,wet,x\n2024-03-01,b,True,1\n2024-03-02 12:00,a,false,2\n2024-03-02T13:00+01:00,b,TRUE,3\n"
STRINGS = pd.DataFrame({"day": pd.to_datetime(["2024-03-01", "2024-03-02 12:00"] * 2, format="mixed")})
STRINGS = STRINGS.assign(site=list("baba"), kind=pd.Categorical(["v", "u", "u", "v"]), wet=[True, False] * 2)


def test_columns_of_words_and_dates_are_numbers(put):
    """Codes of sorted names, days since 1970, 1 and 0."""
    path = put("t.csv", TABLE.encode())
    samples = read_samples(path)
    assert samples.values.tolist() == [[19783, 1, 1, 1], [19784.5, 0, 0, 2], [19784.5, 1, 1, 3]]
    said = ["column 1 (day) holds dates: taken as days since 1970-01-01"]
    said += ["column 2 (site) holds text: taken as 2 categories", "column 3 (wet) holds true and false"]
    assert all(words in note for words, note in zip(said, samples.notes, strict=True))
    path = put("t.parquet", parquet(STRINGS))
    samples = read_samples(path)
    assert samples.values.tolist() == [[19783, 1, 1, 1], [19784.5, 0, 0, 0], [19783, 1, 0, 1], [19784.5, 0, 1, 0]]
    assert samples.columns == tuple(STRINGS) and sum("2 categories" in note for note in samples.notes) == 2


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("c,d\nred,yes\nblue,no\nred,yes\n,no\n", [[1, 1], [0, 0], [1, 1]], ("c", "d")),
        ("red,yes\nblue,no\nred,yes\n", [[1, 1], [0, 0], [1, 1]], ()),
        ("red,1.5\nblue,2\nred,3\n", [[1, 1.5], [0, 2], [1, 3]], ()),
        ("d\n13/01/2024\n02/02/2024\n", [[19735], [19755]], ("d",)),
        ("d\n01.13.2024\n02.02.2024\n", [[19735], [19755]], ("d",)),
        ("d\n2024/01/13\n2024/02/02\n", [[19735], [19755]], ("d",)),
        ("d\n2024-01-13\n?\n2024-02-02\n", [[19735], [19755]], ("d",)),
        ("0,1\nred,1.5\nblue,2\nred,3\n", [[1, 1.5], [0, 2], [1, 3]], ()),
        ("s,2024-01-01\nred,1.5\nblue,2\nred,3\n", [[1, 1.5], [0, 2], [1, 3]], ("s", "2024-01-01")),
    ],
)
def test_headers_of_words_are_told_from_words(put, text, expected, names):
    samples = read_samples(put("t.csv", text.encode()), nan_policy="omit")
    assert samples.values.tolist() == expected and samples.columns == names


UNITS = [
    ("r,x\n70 %,1\n65 %,2\n70 %,3\n", [70, 65, 70], "column 1 (r) holds numbers in %: taken as given, 70 % as 70"),
    ("70%\n65%\n70%\n", [70, 65, 70], "numbers in %"),
    ("3.5 kg\n4 kg\n3.5 kg\n", [3.5, 4, 3.5], "numbers in kg"),
    ("w,x\n3.5 kg,a\n4 kg,b\n3.5 kg,a\n", [3.5, 4, 3.5], "numbers in kg"),
    ("w;x\n1 234 kg;1\n2 345 kg;2\n1 234 kg;3\n", [1234, 2345, 1234], THOUSANDS),
    ('p,x\n"€1,000",1\n"€2,000",2\n"€1,000",3\n', [1000, 2000, 1000], THOUSANDS),
    ('p,x\n-$12,1\n"$1,000",2\n$-12,3\n', [-12, 1000, -12], "numbers in $"),
    ("p;x\n1.000 €;1\n2,5 €;2\n3 €;3\n", [1000, 2.5, 3], COMMAS),
    ("t,x\n1 day,1\n2 days,2\n1 day,3\n", [1, 2, 1], "numbers in day"),
    ("t,x\n5 rooms,1\n6 rooms,2\n5 rooms,3\n", [5, 6, 5], "numbers in room"),
    ("c,x\n12 mg/dl,1\nNA,2\n13 mg/dl,3\n-,1\n", [12, 13], "numbers in mg/dl"),
    ("c,x\n21.5 °C,1\n22 °C,2\n21.5 °C,3\n", [21.5, 22, 21.5], "numbers in °C"),
    ("t,x\n2 hr,1\n3 hrs,2\n1 hour,3\n", [2, 3, 1], "numbers in h"),
    ("w,x\n2 lb,1\n3 lbs,2\n1 lb,3\n", [2, 3, 1], "numbers in lb"),
    ('p,x\n$12,1\n"($1,000.50)",2\n($3),3\n', [12, -1000.5, -3], "numbers in $"),
    ("p,x\n12 €,1\n(5 €),2\n12 €,3\n", [12, -5, 12], "numbers in €"),
    ("g,x\n(a),1\n(5 rooms),2\n(a),3\n", [1, 0, 1], "2 categories"),
    ("g,x\n1st,1\n2nd,2\n1st,3\n", [0, 1, 0], "2 categories"),  # names that begin with a number, or hold one
    ("g,x\n5a,1\n5b,2\n5a,3\n", [0, 1, 0], "2 categories"),
    ("g,x\nQ1,1\nQ2,2\nQ1,3\n", [0, 1, 0], "2 categories"),
    ("g,x\n18-24,1\n25-34,2\n18-24,3\n", [0, 1, 0], "2 categories"),
    ("g,x\n<=50K,1\n>50K,2\n<=50K,3\n", [0, 1, 0], "2 categories"),
]


@pytest.mark.parametrize(("text", "expected", "note"), UNITS)
def test_numbers_with_a_unit_are_numbers(put, text, expected, note):
    samples = read_samples(put("t.csv", text.encode()), nan_policy="omit")
    assert samples.values[:, 0].tolist() == expected and note in " ".join(samples.notes)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("w,x\n3.5 kg,1\n4 lb,2\n3.5 kg,3\n", ["row 3, column 1 (w): '4 lb'", "numbers in kg", "one unit"]),
        ("w,x\n3.5 kg,1\n4,2\n3.5 kg,3\n", ["row 3, column 1 (w): '4'", "units differ", "--categorical"]),
        ("w,x\n3.5 kg,1\n4,2\n5,3\n", ["row 2, column 1: '3.5 kg' is not a number", "--categorical"]),
        ("w,x\n3.5 kg,1\nheavy,2\n3.5 kg,3\n", ["row 3, column 1 (w): 'heavy' is not a number", "as most cells"]),
        ("p,x\n$5,1\nUSD 6,2\n$5,3\n", ["'USD 6'", "units differ"]),
        ("p;x\n1,000 €;1\n2,500 €;2\n1,000 €;3\n", ["'1,000 €'", "thousands separator"]),
        ("w,x\n3.5 kg,1\n1.2.3 kg,2\n3.5 kg,3\n", ["'1.2.3 kg' is not a number"]),
    ],
)
def test_units_that_differ_are_refused(put, text, fragments):
    """Names that begin with numbers are still categories, where a person says so."""
    path = put("t.csv", text.encode())
    refusal(lambda: read_samples(path), "t.csv: ", *fragments)
    assert list(read_samples(path, categorical=[text[0]]).levels) == [0]


def test_sets_in_different_units_are_refused(put):
    percent = read_samples(put("p.csv", b"x,r\n5,70 %\n3,65 %\n9,70 %\n"))
    for name, text, said in (
        ("fraction.csv", "r,x\n0.7,1\n0.65,2\n", "without a unit in"),
        ("permille.csv", "r,x\n700 ‰,1\n650 ‰,2\n", "in ‰ in"),
    ):
        other = read_samples(put(name, text.encode()))
        refusal(lambda other=other: matched(percent, other), "column 2 (r) is in % in", said, "same unit in both")
    dates = read_samples(put("d.csv", b"x,r\n5,2024-01-01\n3,2024-01-02\n"))
    refusal(lambda: matched(dates, other), "in days since 1970-01-01 in")
    assert matched(percent, percent)[1] is percent


@pytest.mark.parametrize("make", [parquet, lambda frame: frame.to_csv(index=False).encode()])
def test_numbers_as_text_are_numbers_in_parquet_as_in_csv(put, make):
    frame = pd.DataFrame({"n": ["1", "2.5", None, "1"], "c": ["1,5", "2,25", "1,5", "1,5"], "x": ["u", "v", "u", "v"]})
    path = put("t.parquet" if make is parquet else "t.csv", make(frame))
    samples = read_samples(path, nan_policy="omit", drop=["c"])
    assert samples.values[:, 0].tolist() == [1, 2.5, 1] and list(samples.levels) == [1]
    samples = read_samples(path, drop=["n"])
    assert samples.values[:, 0].tolist() == [1.5, 2.25, 1.5, 1.5] and any(COMMAS in note for note in samples.notes)
    words = put("w.parquet", parquet(frame.assign(n=["1", "2", "1", "many"])))
    refusal(lambda: read_samples(words), "row 3, column 0 (n): 'many' is not a number, as most cells", "--categorical")
    coded = put("c.parquet", parquet(frame.assign(n=pd.Categorical(["1", "2", "1", "1"]))))
    assert read_samples(coded).levels == {0: ("1", "2"), 2: ("u", "v")}


PEOPLE = "name,zip,x\n" + "".join(f"n{i},0{i % 3},{i / 2}\n" for i in range(30))


@pytest.mark.parametrize("header", [True, False])
def test_columns_are_dropped_or_taken_as_categories_by_name_or_number(put, header):
    """Before anything is refused for them; messages count the columns of the file."""
    text, names = (PEOPLE, ("name", "zip", "x")) if header else (PEOPLE.partition("\n")[2], ("1", "2", "3"))
    path = put("t.csv", text.encode())
    refusal(lambda: read_samples(path, drop=["y"]), "no column 'y'", ", ".join(names))
    samples = read_samples(path, drop=names[:1], categorical=names[1:2])
    assert samples.values.tolist() == [[i % 3, i / 2] for i in range(30)]
    assert any("3 categories" in note for note in samples.notes) and any("dropped column 1" in n for n in samples.notes)
    path = put("u.csv", text.replace("14.5", "NA").encode())
    refusal(lambda: read_samples(path, drop=names[:1]), f"row {30 + header}, column 3")


def test_columns_of_any_format_are_selected(put):
    array = np.array([[7, 2.5, 1], [5, 3, 2], [7, 4, 3]])
    samples = read_samples(put("t.npy", npy(array)), drop=["2"], categorical=["0"])
    assert samples.values.tolist() == [[1, 2.5], [0, 3], [1, 4]]
    refusal(lambda: read_samples(put("t.npy", npy(array)), drop=["3"]), "the columns are 0, 1, 2")
    refusal(lambda: read_samples(put("t.npy", npy(IMAGES)), drop=["0"]), "no columns")
    path = put("t.parquet", parquet(STRINGS.assign(id=list("abcd"), x=[3, 1, 1, 2])))
    refusal(lambda: read_samples(path), "column 4 (id)", "4 of 4 cells", "--drop")
    samples = read_samples(path, drop=["id", "day"], categorical=["x"])
    assert samples.columns == ("site", "kind", "wet", "x") and samples.values[:, 3].tolist() == [2, 0, 0, 1]
    assert files._read(path, None, files.Wanted(drop=["id"]))[1].levels == {1: ("a", "b"), 2: ("u", "v")}


def test_only_an_index_of_parquet_is_dropped(put):
    frame = pd.DataFrame({"i": [5, 3, 4], "t": [1, 2, 3], "x": [1.5, 2.5, 0.5]})
    assert read_samples(put("t.parquet", parquet(frame))).values.tolist() == frame.to_numpy().tolist()
    named = read_samples(put("t.parquet", parquet(frame.set_index("i"))))
    assert named.columns == ("t", "x") and any("index" in note for note in named.notes)


def test_headers_in_other_encodings_do_no_harm(put):
    assert read_samples(put("t.csv", "größe;höhe\n1;2\n3;4\n".encode("latin-1"))).values.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("a,b\n1,2\n3,oops\n", ["row 3, column 2", "'oops'"]),
        ("1,2\n\n3,\x1b[31m\n", ["binary"]),
        ("1,2\n\n3,1_000\n", ["row 3, column 2"]),
        ("a,b\n1,2\n3\n", ["row 3 has 1 cells", "first row 2"]),
        ("1,2\n3,4,5\n", ["row 2 has 3 cells"]),
        ("x,7\n1,2\n", ["row 1, column 1"]),
        ('a,b\n"line\nbreak",2\n', ["row 3, column 1"]),
        ('1,2\n3,"4\n', ["row 2", "quotes"]),
        ("a,b\n1,2\n\n3,\n", ["1 of 2 rows", "NaN or missing", "row 4, column 2"]),
        ("1,2\n3,nan\n", ["row 2, column 2"]),
        ("1,2\n-inf,4\n", ["infinite", "row 2, column 1"]),
        ("1,2\n1e39,4\n", ["row 2, column 1", "rescale"]),
        ("1,2\n1.5 2.5,3\n", ["row 2, column 1"]),
        ("a,b\n", ["(0, 2)"]),
        ("\n\n", ["(0, 0)"]),
        ("1,2\n3,4\x00\n", ["binary"]),
        ("1,5\n2,5\n3,5\n", ["row 1: '1,5'", "one number or several", "header"]),
        ("1,05,3,25\n2,50,-0,75\n", ["row 1", "decimal commas between commas"]),
        ("x,s\n1,05,a\n2,50,b\n7,5,a\n", ["row 2 has 3 cells, the first row 2 names", "decimal commas"]),
        ("100 200\n300 400\n", ["row 1: '100 200'", "one number or several", "header"]),
        ("x\n1,234\n2,345\n", ["row 2, column 1: '1,234'", "thousands", "decimal points"]),
        ('a,b\n"1,5",2.5\n"3,5",4.5\n', ["row 2, column 1: '1,5'"]),
        ("d,x\n01/02/2024,1\n03/02/2024,2\n", ["row 2, column 1 (d)", "2024-02-01"]),
        ("d,x\n2024-13-01,1\n2024-01-02,2\n", ["row 2, column 1 (d)", "'2024-13-01' is no date"]),
        ("d,x\n2024-01-01,1\n2024-01-02,2\nsoon,2\n", ["row 4, column 1 (d): 'soon' is no date"]),
        ("id,x\n" + "".join(f"n{i},{i}.5\n" for i in range(30)), ["column 1 (id)", "30 of 30", "--drop"]),
        ("s,2019,2020\na,1.5,2\nb,2.5,2\na,3.5,1\n", ["row 1: 's'", "header"]),
        ("a,b\n1,?\n2,?\n4,4", ["NaN or missing", "row 2, column 2 (b)"]),
        ("a,b\n1,2\n-,3\n4,4", ["NaN or missing", "row 3, column 1 (a)"]),
        ("1,2\n" + "9" * 200_000 + ",4\n", ["row 2", "field"]),
        ("0,1,0.5\n1,3\n", ["row 2 has 2 cells"]),
    ],
)
def test_bad_text_is_refused_at_its_place(put, text, fragments):
    refusal(lambda: read_samples(put("t.csv", text.encode())), "t.csv: ", *fragments)


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("# a,b\n1,2\n3,4\n", [[1, 2], [3, 4]], ("a", "b")),
        ("# a b\n1.5 2\n3 4\n", [[1.5, 2], [3, 4]], ("a", "b")),
        ("#a;b\n1,5;2\n3;4\n", [[1.5, 2], [3, 4]], ("a", "b")),
        ("# a\n1.5\n3\n", [[1.5], [3]], ("a",)),
        ("# by hand\n#\n# s,n\n\nred,1\nblue,2\nred,3\n", [[1, 1], [0, 2], [1, 3]], ("s", "n")),
        ("# made, here\na,b\n1,2\n3,4\n", [[1, 2], [3, 4]], ("a", "b")),
        ("# by hand\n1.5\n3\n", [[1.5], [3]], ()),
        ("# 7,8\n1.5,2\n3,4\n", [[1.5, 2], [3, 4]], ()),
        ("# a,a\n1.5,2\n3,4\n", [[1.5, 2], [3, 4]], ()),
        ("# a,b,c\n1.5,2\n3,4\n", [[1.5, 2], [3, 4]], ()),
        ("1.5,2\n# a,b\n3,4\n", [[1.5, 2], [3, 4]], ()),
    ],
)
def test_a_comment_above_the_rows_may_hold_their_names(put, text, expected, names):
    """As numpy.savetxt writes it; a header in the table itself counts first."""
    samples = read_samples(put("t.csv", text.encode()))
    assert samples.values.tolist() == expected and samples.columns == names
    assert ("names of columns taken from a line" in " ".join(samples.notes)) == (bool(names) and "made" not in text)


def test_names_in_a_comment_are_those_of_numpy(put, tmp_path):
    for delimiter in (",", ";", " ", "\t"):
        np.savetxt(tmp_path / "t.csv", POINTS, header=delimiter.join("abc"), delimiter=delimiter)
        samples = read_samples(tmp_path / "t.csv", drop=["b"])
        assert samples.columns == ("a", "c")
        np.testing.assert_array_equal(samples.values, POINTS[:, [0, 2]])


def test_a_failed_formula_is_no_comment(put):
    path = put("t.csv", b"a,b\n#N/A,1\n3,#DIV/0!\n5,6\n7,8\n")
    refusal(lambda: read_samples(path), "2 of 4 rows", "row 2, column 1 (a)")
    assert read_samples(path, nan_policy="omit").values.tolist() == [[5, 6], [7, 8]]


def test_a_column_to_drop_need_be_in_one_file_only(put):
    with_id = put("p.csv", b"id,a\nn1,1.5\nn2,2.5\nn3,3.5\n")
    without = put("q.csv", b"a\n1.5\n2.5\n")
    refusal(lambda: read_samples(without, drop=["id"]), "no column 'id'; the columns are a")
    p, q = (read_samples(path, drop=["id"], absent_ok=True) for path in (with_id, without))
    assert [side.columns for side in matched(p, q)] == [("a",), ("a",)]
    none = [read_samples(path, drop=["id", "z"], absent_ok=True) for path in (with_id, without)]
    refusal(lambda: matched(*none), "neither", "p.csv", "q.csv", "has a column 'z' to drop", "the columns of")
    refusal(lambda: read_samples(with_id, drop=["idd"], absent_ok=True), "column 1 (id)", "no column 'idd'")


@pytest.mark.parametrize("start", [0, 1])
def test_a_counting_first_column_is_an_index(put, start):
    frame = FRAME.set_index(pd.RangeIndex(start, start + 7))
    path = put("t.csv", frame.to_csv().encode())
    samples = read_samples(path)
    assert samples.values.tobytes() == POINTS.tobytes() and samples.values.flags.c_contiguous
    assert any("index" in n for n in samples.notes)
    assert read_array(path).shape == (7, 4)
    frame.iloc[2, 1] = np.nan
    path = put("t.csv", frame.to_csv().encode())
    refusal(lambda: read_samples(path), "row 4, column 3")
    np.testing.assert_array_equal(read_samples(path, nan_policy="omit").values, np.delete(POINTS, 2, axis=0))


def test_column_numbers_of_pandas_are_names(put):
    for index in (True, False):
        samples = read_samples(put("t.csv", pd.DataFrame(POINTS).to_csv(index=index).encode()))
        assert samples.values.tobytes() == POINTS.tobytes()
        assert sum("column names" in n for n in samples.notes) == 1


SHUFFLED = np.random.default_rng(0).permutation(30)
ROWS = [f"{i},{i / 7:.3f}\n" for i in SHUFFLED]


@pytest.mark.parametrize(
    "header", ["", "id,a\n", "index,a\n", "Unnamed: 0,a\n", ",a\n", "PassengerId,a\n", "row_id,a\n"]
)
def test_a_shuffled_index_is_dropped(put, header):
    """By its numbers where nothing has a name, else by its name, in whatever column it is."""
    path = put("t.csv", (header + "".join(ROWS)).encode())
    samples = read_samples(path)
    assert samples.values.tolist() == [[round(i / 7, 3)] for i in SHUFFLED]
    assert any(f"numbers the rows: {INDEX}" in note for note in samples.notes)
    if header.partition(",")[0]:
        frame = pd.read_csv(path)
        backwards = frame[frame.columns[::-1]]
        for file in (put("p.parquet", parquet(frame)), put("b.csv", backwards.to_csv(index=False).encode())):
            np.testing.assert_array_equal(read_samples(file).values, samples.values)
        np.testing.assert_array_equal(as_samples(backwards).values, samples.values)


def test_what_only_may_number_the_rows_is_kept_with_a_note(put):
    """Ranks look like a shuffled index. A name of an index above numbers that repeat is a label."""
    samples = read_samples(put("t.csv", ("rank,a\n" + "".join(ROWS)).encode()))
    assert samples.columns == ("rank", "a")
    words = "column 1 (rank) holds each whole number from 0 to 29 once; if it numbers the rows, leave it out"
    assert words in samples.notes[0]
    repeated = read_samples(put("t.csv", ("id,a\n" + "".join(ROWS + ROWS[:1])).encode()))
    assert repeated.columns == ("id", "a") and repeated.notes == ()
    few = read_samples(put("t.csv", b"2,1.5\n1,2.5\n3,0.5\n"))
    assert few.values.shape == (3, 2) and few.notes == ()


def test_rows_numbered_before_they_were_divided_are_named():
    x, y = (np.column_stack([SHUFFLED[part], np.cos(SHUFFLED[part])]) for part in (slice(12), slice(12, None)))
    (warning,) = check_pair(as_samples(x), as_samples(y, name="y"))
    assert warning.startswith("column 0 (counting from 0): x and y together hold each whole number from 0 to 29 once")


@pytest.mark.parametrize("text", ["1,.5\n2,.6\n4,.7\n", "0\n1\n2\n", "0,.5\n1,.6\n"])
def test_other_first_columns_are_kept(put, text):
    assert len(read_samples(put("t.csv", text.encode())).values[0]) == text.split("\n")[0].count(",") + 1


def test_parquet_columns(put):
    frame = pd.DataFrame({"i": [1, 2, 3], "b": [True, False, True], "n": pd.array([1, None, 3], dtype="Int32")})
    path = put("t.parquet", parquet(frame))
    refusal(lambda: read_samples(path), "t.parquet", "1 of 3 rows", "row 1, column 2")
    assert read_samples(path, nan_policy="omit").values.tolist() == [[1, 1, 1], [3, 1, 3]]
    filtered = read_samples(put("t.parquet", parquet(FRAME[FRAME.a > -9].iloc[[0, 2, 5]])))
    np.testing.assert_array_equal(filtered.values, POINTS[[0, 2, 5]])
    assert any("index" in n for n in filtered.notes)
    refusal(
        lambda: read_samples(put("t.parquet", parquet(frame.assign(s=[[1], [2], [3]])))), "column 3 (s) of type list"
    )


def test_parquet_without_pyarrow_names_the_extra(put, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refusal(lambda: read_samples(put("t.parquet", FILES["a.parquet"])), "pip install 'fgan[parquet]'")


class Canary:
    hatched = False

    def __reduce__(self):
        return (exec, ("import test_files; test_files.Canary.hatched = True",))


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("a.npy", npy(np.array([Canary()], object), allow_pickle=True), ["object", "never loaded"]),
        ("a.npz", npz(x=npy(np.array([Canary()], object), allow_pickle=True)), ["object", "never loaded"]),
        ("a.npy", pickle.dumps(Canary()), ["pickle", "never loaded"]),
        ("a.pkl", pickle.dumps(Canary()), ["pickle", "never loaded"]),
        ("a.csv", pickle.dumps(Canary(), 0), ["row 4"]),
        ("a.npy", npy_header(descr="__import__('test_files').Canary()"), ["header"]),
    ],
)
def test_nothing_read_is_executed(put, name, content, fragments):
    refusal(lambda: read_samples(put(name, content)), name, *fragments)
    assert not Canary.hatched


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("a.npy", b"", ["empty file"]),
        ("a.csv", b"", ["empty file"]),
        ("a.csv", npy(POINTS), [".csv means text", "an .npy array"]),
        ("a.npy", csv_of(POINTS), ["this is text"]),
        ("a.npy", FILES["a.npz"], ["zip archive"]),
        ("a.npz", FILES["a.npy"], [".npy array"]),
        ("a.parquet", FILES["a.idx"], ["IDX"]),
        ("a.csv", FILES["a.parquet"], ["Parquet"]),
        ("a.gz", gzip.compress(csv_of(POINTS), mtime=0), ["text", "gunzip"]),
        ("a.gz", gzip.compress(npy(POINTS), mtime=0), ["gunzip"]),
        ("a.gz", FILES["a.idx"], ["IDX"]),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 50, ["HDF5", ".parquet"]),
        ("a.txt", csv_of(POINTS), ["text", ".csv"]),
        ("a.bin", b"\x01\x02\x03", ["no known format", ".npy"]),
        ("a.npz", npz(), ["0 arrays", "none"]),
        ("a.npz", npz(x=npy(POINTS), y=npy(POINTS)), ["2 arrays", "x, y", "--key"]),
        ("a.npz", npz(zipfile.ZIP_LZMA, x=npy(POINTS)), ["compression"]),
        ("a.npy", npy(np.zeros(3, "f8,i4")), ["structured", "[('f0', '<f8')"]),
        ("a.npy", npy(np.array(["ab", "c"])), ["<U2"]),
        ("a.npy", npy(np.ones(3, complex)), ["complex"]),
        ("a.npy", npy(np.ones(3, jnp.bfloat16)), ["bfloat16"]),
        ("a.npy", npy(POINTS) + npy(POINTS), ["more than the"]),
        ("a.npy", npy_header(shape="(-7, 3)"), ["impossible shape"]),
        ("a.npy", npy_header(shape=f"({2**63}, 3)"), ["impossible shape"]),
        ("a.npy", npy_header(shape=f"(0, {2**62})"), ["impossible shape"]),
        ("a.npy", npy_header(shape=f"({2**40},)"), ["truncated", str(2**43 + 80), "have"]),
        ("a.npy", npy_header(shape="(1,)" * 1), ["more than"]),
        ("a.npy", npy_header(shape="(" + "1, " * 40 + ")"), ["impossible shape"]),
        ("a.npy", npy_header(shape="7"), ["header"]),
        ("a.npy", npy_header(shape="('7', 3.5)"), ["header"]),
        ("a.npy", npy_header(descr="'<f3'"), ["header"]),
        ("a.npy", npy_header(descr="-" * 5000 + "1"), ["header"]),
        ("a.npy", npy_header(descr="(" * 300), ["header"]),
        ("a.npy", b"\x93NUMPY\x01\x00\x05\x00[1,2]", ["header"]),
        ("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", ["4294967295"]),
        ("a.npy", b"\x93NUMPY\x09\x00" + npy(POINTS)[8:], ["header"]),
        ("a.idx", b"\0\0\x08\x02" + struct.pack(">2i", -1, 3), ["impossible shape"]),
        ("a.idx", b"\0\0\x08\x02" + struct.pack(">2i", 2**31 - 1, 2**31 - 1), ["truncated", "have 12"]),
        ("a.idx", b"\0\0\x08\xff" + struct.pack(">255i", *[1] * 255) + b"\1", ["impossible shape"]),
        ("a.idx", idx(IMAGES, 8) + b"\0", ["more than the 46 bytes"]),
        ("a.idx", b"\0\0\x08\x00\1", ["shape ()"]),
        ("a.gz", gzip.compress(idx(IMAGES, 8) + b"\0", mtime=0), ["more than the 46 bytes"]),
        ("a.gz", gzip.compress(idx(IMAGES, 8)[:-3], mtime=0), ["truncated: expected 46 bytes, have 43"]),
        ("a.gz", gzip.compress(idx(IMAGES, 8)[:10], mtime=0), ["truncated: expected 16 bytes, have 10"]),
        ("a.npz", npz(x=npy(POINTS)[:-3]), ["truncated", "expected 296 bytes, have 293"]),
    ],
)
def test_bad_files_are_refused(put, name, content, fragments):
    message = refusal(lambda: read_samples(put(name, content)), name + ": ", *fragments)
    assert message == refusal(lambda: read_slice(put(name, content), 0, 1))


def test_keys(put):
    path = put("a.npz", npz(x=npy(POINTS), y=npy(IMAGES)))
    assert read_samples(path, key="x").values.tobytes() == POINTS.tobytes()
    assert read_array(path, key="y").shape == IMAGES.shape
    refusal(lambda: read_samples(path, key="z"), "x, y", "0 named 'z'")
    refusal(lambda: read_samples(put("a.npy", npy(POINTS)), key="x"), "key 'x'", ".npy")
    with pytest.warns(UserWarning, match="Duplicate name"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("x.npy", npy(POINTS))
            archive.writestr("x.npy", npy(-POINTS))
    path = put("b.npz", stream.getvalue())
    refusal(lambda: read_samples(path), "2 arrays (x, x)")
    refusal(lambda: read_samples(path, key="x"), "2 named 'x'")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("g.csv", b"ann\nbob\nann", ["ann", "bob", "ann"]),
        ("g.csv", '\ufeff"Zoë, the cat"\r\n 7 \r\n'.encode(), ["Zoë, the cat", "7"]),
        ("g.npy", npy(np.array([3, -1, 3], ">i4")), [3, -1, 3]),
        ("g.npy", npy(np.array([[1.0], [2.0]])), [1, 2]),
        ("g.npy", npy(np.array([True, False])), [1, 0]),
        ("g.npz", npz(x=npy(np.arange(3, dtype=np.uint8))), [0, 1, 2]),
        ("g.parquet", parquet(pd.DataFrame({"g": [5, 5, 6]})), [5, 5, 6]),
        ("labels-idx1-ubyte.gz", gzip.compress(idx(np.arange(3, dtype=np.uint8), 8), mtime=0), [0, 1, 2]),
    ],
)
def test_labels_are_words_or_whole_numbers(put, name, content, expected):
    labels = read_labels(put(name, content))
    assert labels.tolist() == expected and labels.dtype.kind in "iU"


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("g.csv", b"ann,1\nbob,2\n", ["row 1 has 2 cells", "one label a row"]),
        ("g.csv", b"ann\n\nbob\n", ["row 2", "blank"]),
        ("g.csv", b'ann\n"bob\n', ["row 2", "quotes"]),
        ("g.csv", b"\xff\n", ["cannot be read"]),
        ("g.csv", b"", ["empty file"]),
        ("g.npy", npy(np.array([1.0, 2.5])), ["float64", "whole number"]),
        ("g.npy", npy(np.array([1.0, np.nan])), ["whole number"]),
        ("g.npy", npy(np.array([1.0, np.inf])), ["whole number"]),
        ("g.npy", npy(np.zeros(0)), ["shape (0,)"]),
        ("g.npy", npy(np.zeros((3, 2), int)), ["shape (3, 2)"]),
        ("g.npy", npy(np.array(["a", "b"])), ["<U1"]),
    ],
)
def test_other_labels_are_refused(put, name, content, fragments):
    refusal(lambda: read_labels(put(name, content)), name + ": ", *fragments)


# ------------------------------------------------------------------------------------------------ faults


def zeros_gzip(header, megabytes):
    """A gzip file of a header and zeros, without ever holding the zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blocks = [packer.compress(header)] + [packer.compress(bytes(2**20)) for _ in range(megabytes)]
    return b"".join(blocks) + packer.flush()


def zeros_npz(header, megabytes):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        member.write(header)
        for _ in range(megabytes):
            member.write(bytes(2**20))
    return stream.getvalue()


def constant_parquet():
    return parquet(pd.DataFrame({"a": np.zeros(2**24)}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.gz", lambda: zeros_gzip(b"\0\0\x08\1" + struct.pack(">i", 100 * 2**20), 100)),
        ("a.gz", lambda: zeros_gzip(b"\0\0\x08\1" + struct.pack(">i", 2**31 - 1), 1)),
        ("a.gz", lambda: zeros_gzip(b"\0\0\x08\1" + struct.pack(">i", 20), 100)),
        ("a.gz", lambda: zeros_gzip(b"", 100)),
        ("a.npz", lambda: zeros_npz(npy_header(shape=f"({100 * 2**17},)", body=b""), 100)),
        ("a.npz", lambda: zeros_npz(npy_header(shape=f"({2**50},)", body=b""), 1)),
        ("a.parquet", constant_parquet),
    ],
)
def test_bombs_are_refused_before_memory_is_taken(put, name, content):
    path = put(name, content())
    tracemalloc.start()
    try:
        refusal(lambda: read_samples(path), name)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


BINARY = [name for name in FILES if not name.endswith("sv")]


@pytest.mark.parametrize("name", BINARY)
def test_truncated_files_are_refused(put, name):
    content, rng = FILES[name], np.random.default_rng(1)
    for cut in {1, 2, 5, 9, *rng.integers(1, len(content), 60).tolist(), len(content) - 1}:
        path = put(name, content[:cut])
        message = refusal(lambda path=path: read_samples(path), name)
        if cut > 8:
            assert "truncated" in message


@pytest.mark.parametrize("name", ["a.npy", "a.idx"])
def test_truncation_tells_expected_and_actual_size(put, name):
    full = len(FILES[name])
    refusal(lambda: read_samples(put(name, FILES[name][:-5])), f"expected {full} bytes, have {full - 5}")


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_finite_or_a_data_error(put, tmp_path, name):
    content, rng = FILES[name], np.random.default_rng(2)
    for _ in range(150):
        damaged = bytearray(content[: rng.integers(1, len(content) + 1)] if name.endswith("sv") else content)
        for at in rng.integers(len(damaged), size=rng.integers(1, 4)):
            damaged[at] = rng.integers(256)
        try:
            samples = read_samples(put(name, bytes(damaged)))
        except DataError as error:
            assert str(error) == refusal(lambda: read_slice(tmp_path / name, 0, 1))
        else:
            assert np.isfinite(samples.values.astype(np.float32)).all() and samples.values.ndim == 2
            assert np.array_equal(read_slice(tmp_path / name, 0, 1).samples.values, samples.values)


# ------------------------------------------------------------------------------------------------ formats


def test_a_new_format_is_one_entry(put, monkeypatch):
    mine = Format(
        "my format", rb"MINE", lambda source: Raw(np.frombuffer(source.stream.read()[4:])[:, None]), (".mine",)
    )
    monkeypatch.setitem(FORMATS, "mine", mine)
    np.testing.assert_array_equal(read_samples(put("a.mine", b"MINE" + POINTS.tobytes())).values[:, 0], POINTS.ravel())
    refusal(lambda: read_samples(put("a.mine", npy(POINTS))), ".mine means my format, but this is an .npy array")
    refusal(lambda: read_samples(put("a.xyz", b"1,2\n3,4\n")), ".parquet .gz .idx .mine .csv")


# ------------------------------------------------------------------------------------------------ slices


@pytest.mark.parametrize("slices", [1, 2, 3, len(POINTS)])
@pytest.mark.parametrize("name", FILES)
def test_the_slices_of_a_file_are_its_samples(put, name, slices):
    """Cut as evenly as can be; only an .npy in C order stays in its file."""
    path = put(name, FILES[name])
    made = [read_slice(path, k, slices) for k in range(slices)]
    np.testing.assert_array_equal(np.concatenate([each.samples.values for each in made]), POINTS)
    sizes = [len(each.samples.values) for each in made]
    assert [each.begin for each in made] == np.cumsum([0, *sizes[:-1]]).tolist() and max(sizes) - min(sizes) <= 1
    stays = (name.lower().endswith(".npy") and name != "fortran.npy") or name == "no extension"
    for each in made:
        np.testing.assert_array_equal(each.table, POINTS)
        assert isinstance(each.table, np.memmap) == stays


def test_a_slice_is_checked_without_reading_the_others(put):
    """A fault is reported with its row in the file."""
    values = np.arange(20.0).reshape(10, 2)
    values[7, 1] = np.nan
    path = put("a.npy", npy(values))
    assert np.array_equal(read_slice(path, 0, 2).samples.values, values[:5])
    refusal(lambda: read_slice(path, 1, 2), "a.npy, rows 5 to 9 of 10: 1 of 5 rows hold NaN", "at row 7, column 1")
    assert len(read_slice(path, 1, 2, nan_policy="omit").table) == 9
    refusal(lambda: read_slice(path, 0, 11), "10 samples cannot be divided among 11 processes")


@pytest.mark.parametrize("array", [POINTS[:, 0], IMAGES, IMAGES.astype(bool), np.array(1.0), np.zeros((0, 2))])
def test_arrays_of_any_shape_are_slices_as_they_are_samples(put, array):
    path = put("a.npy", npy(array))
    try:
        whole = read_samples(path, flatten=True)
    except DataError as error:
        assert str(error) == refusal(lambda: read_slice(path, 0, 1, flatten=True))
        return
    made = read_slice(path, 0, 1, flatten=True)
    np.testing.assert_array_equal(made.samples.values, whole.values)
    np.testing.assert_array_equal(made.table, whole.values)
    assert made.samples.notes == whole.notes


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
def test_paths_that_are_no_files_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.npy")
    os.symlink("loop.npy", tmp_path / "loop.npy")
    (tmp_path / "dir.npy").mkdir()
    opened = []
    monkeypatch.setattr("builtins.open", lambda *args: opened.append(args))
    for path, fragment in [
        (tmp_path / "pipe.npy", "pipe"),
        (tmp_path / "dir.npy", "directory"),
        (tmp_path / "loop.npy", "symbolic links"),
        (tmp_path / "missing\x1b[31m.npy", "missing\\x1b[31m.npy: cannot be read: No such file"),
        (tmp_path / ("long" * 100), "too long"),
        ("/dev/zero", "device"),
        ("a\0b.npy", "a\\x00b.npy"),
        ("", "No such file"),
    ]:
        refusal(lambda path=path: read_samples(path), fragment)
    assert not opened


def test_unreadable_file(put, monkeypatch):
    path = put("a.npy", FILES["a.npy"])

    def deny(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    refusal(lambda: read_samples(path), "a.npy", "Permission denied")


def test_names_of_columns_are_kept(put):
    """Of a header and of Parquet; an index has none left, counted names are none."""
    assert read_samples(put("a.csv", csv_of(POINTS, header="age, income ,size\n"))).columns == ("age", "income", "size")
    assert read_samples(put("b.csv", csv_of(POINTS))).columns == ()
    numbered = np.column_stack([np.arange(len(POINTS)), POINTS])
    assert read_samples(put("c.csv", csv_of(numbered, header=",age,income,size\n"))).columns == (
        "age",
        "income",
        "size",
    )
    assert read_samples(put("d.csv", csv_of(POINTS, header="0,1,2\n"))).columns == ()

"""Every kind of bad input, by its row in the list of faults: the library and the command line say the same of it.

A row is refused (exit code 3, one line that names the file, the place and the remedy) or accepted with what was
noticed among the warnings. What is estimated is tested elsewhere; here a stub takes the place of every method.
"""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_arrays import ARRAYS, refusal
from test_files import Canary, csv_of, idx, npy, npy_header, npz, parquet, zeros_npz
from test_images import pictures, put

import estimators as est
from estimators import estimation
from estimators.contract import Fit, Interval
from estimators.samples import files
from estimators.samples.arrays import DataError
from estimators.samples.files import read_samples
from fgan.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
METHODS = estimation.METHODS
RNG = np.random.default_rng(0)
GOOD, OTHER = RNG.normal(size=(20, 2)), RNG.normal(size=(20, 2)) + 1.0
ROUNDED = "rounded differently"  # whole numbers beside full precision
WHOLE = np.arange(40).reshape(20, 2) % 23  # on no line
STACK = RNG.normal(size=(20, 4, 3))


class Case(NamedTuple):
    """Files of samples of P and Q, and what must be said of them; with exit code 0, every warning is listed."""

    row: int
    what: str
    p: Any  # an array, bytes, a function that makes the file, or a path
    said: tuple[str, ...] = ()
    name: str = "p.npy"
    q: Any = OTHER
    options: Mapping[str, Any] = MappingProxyType({})
    code: int = 3
    sizes: tuple[int, int, int] = (20, 20, 2)

    def files(self, folder: Path) -> tuple[Path, Path]:
        q = "q" + Path(self.name).suffix if isinstance(self.q, bytes) else "q.npy"
        return made(folder / self.name, self.p), made(folder / q, self.q)

    def words(self) -> list[str]:
        flags = {f"--{key.replace('_', '-')}": value for key, value in self.options.items()}
        return [word for flag, value in flags.items() for word in ([flag] if value is True else [flag, value])]


def made(path: Path, content: Any) -> Path:
    if isinstance(content, str):
        return Path(content)
    if callable(content):
        content(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else npy(content))
    return path


def refused(row: int, what: str, p: Any, *said: str, **more) -> Case:
    return Case(row, what, p, said, **more)


def accepted(row: int, what: str, p: Any, *said: str, **more) -> Case:
    return Case(row, what, p, said, code=0, **more)


def holding(value: float, *places: tuple[int, int]) -> np.ndarray:
    rows = GOOD.copy()
    for place in places:
        rows[place] = value
    return rows


def beside(rows: np.ndarray, column: Any) -> np.ndarray:
    return np.column_stack([rows, np.broadcast_to(column, len(rows))])


def text(*lines: str, end: str = "\n") -> bytes:
    return end.join(lines).encode()


def twice() -> bytes:
    """An .npz in which two members share a name."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", npy(GOOD))
        member = zipfile.ZipInfo("y.npy")
        archive.writestr(member, npy(OTHER))
        member.filename = "x.npy"
    return stream.getvalue()


OMIT, FLATTEN, KEY = {"nan_policy": "omit"}, {"flatten": True}, {"key": "x"}
PICKLED = npy(np.array([[Canary()]] * 20, object), allow_pickle=True)
IDX = idx(np.arange(40, dtype=">f8").reshape(20, 2), 14)
ATOM = np.vstack([OTHER[:19], [1.0, 0.0]])  # takes the value of a constant column once
FRAME = pd.DataFrame(GOOD, columns=["a", "b"])
CSV = csv_of(GOOD)
NUMBERS = CSV.decode().splitlines()

CASES = [
    refused(1, "NaN", holding(np.nan, (3, 1), (7, 0)), "2 of 20 rows", "NaN", "row 3, column 1", "--nan-policy omit"),
    refused(1, "only NaN", np.full((20, 2), np.nan), "0 of 20 samples left", options=OMIT),
    accepted(1, "NaN omitted", holding(np.nan, (3, 1), (7, 0)), "dropped 2 of 20", options=OMIT, sizes=(18, 20, 2)),
    refused(2, "inf", holding(-np.inf, (3, 1)), "1 of 20 rows", "infinite", "row 3, column 1", "--nan-policy omit"),
    accepted(2, "inf omitted", holding(np.inf, (3, 1)), "infinite", options=OMIT, sizes=(19, 20, 2)),
    refused(3, "beyond float32", holding(1e39, (3, 1)), "3.4e38", "row 3, column 1", "rescale"),
    refused(3, "beyond float32, omit", holding(-1e300, (3, 1)), "3.4e38", "rescale", options=OMIT),
    accepted(4, "huge scale", 1e12 * GOOD, q=1e12 * OTHER),
    accepted(4, "far from zero", 1e9 + 1e-3 * GOOD, "column 0", "few digits", q=1e9 + 1e-3 * OTHER),
    *(refused(5, f"empty {end}", b"", "empty file", name=f"p{end}") for end in (".npy", ".npz", ".csv", ".parquet")),
    refused(6, "no rows", np.empty((0, 2)), "(0, 2)", "no samples"),
    refused(6, "no columns", np.empty((20, 0)), "(20, 0)", "no samples"),
    refused(6, "header only", text("a,b"), "(0, 2)", "no samples", name="p.csv"),
    refused(7, "one sample", GOOD[:1], "only 1 samples", "at least 2"),
    refused(9, "dimensions", GOOD, "p.npy has shape (20, 2)", "q.npy has shape (20, 3)", q=beside(OTHER, 0.5)),
    accepted(10, "one axis", GOOD[:, 0], "p.npy", "q.npy", "dimension 1", q=OTHER[:, 0], sizes=(20, 20, 1)),
    refused(11, "images", STACK, "(20, 4, 3)", "--flatten"),
    accepted(11, "flattened", STACK, "p", "q", "dimension 12", q=STACK + 1, options=FLATTEN, sizes=(20, 20, 12)),
    refused(11, "shapes", STACK, "(4, 3)", "(3, 4)", q=STACK.swapaxes(1, 2), options=FLATTEN),
    accepted(12, "constant", beside(GOOD, 7), "column 2", "without effect", q=beside(OTHER, 7), sizes=(20, 20, 3)),
    accepted(13, "apart", beside(GOOD, 7), "KL is infinite", "disjoint", q=beside(OTHER, 8), sizes=(20, 20, 3)),
    accepted(14, "in P only", GOOD * [1, 0], "constant in", "continuous", q=ATOM),
    accepted(15, "identical", GOOD, "same content", q=GOOD),
    accepted(15, "in another order", GOOD, "same content, in another order", q=GOOD[::-1]),
    accepted(16, "repeated", np.vstack([GOOD, GOOD[:3]]), "3 of 23 rows repeat", sizes=(23, 20, 2)),
    accepted(16, "shared", GOOD, "4 of 20 rows", "not independent", q=np.vstack([OTHER[:16], GOOD[:4]])),
    accepted(19, "unequal", GOOD, q=RNG.normal(size=(500, 2)), sizes=(20, 500, 2)),
    accepted(20, "integers", WHOLE, "int64 cast to float64", ROUNDED),
    accepted(20, "bytes", WHOLE.astype(np.uint8), "uint8 cast to float64, not rescaled", ROUNDED),
    accepted(20, "truth", GOOD > 0, "bool cast", "rows repeat", "no upper end"),
    accepted(21, "half precision", GOOD.astype(np.float16)),
    refused(21, "bfloat16", npy_header("'|V2'", shape="(20, 2)", body=bytes(80)), "|V2", "bfloat16 as float32"),
    refused(23, "complex", GOOD + 1j, "complex128", "stack real and imaginary parts"),
    refused(24, "objects", PICKLED, "object", "never loaded"),
    refused(24, "objects in a zip", npz(x=PICKLED), "object", "never loaded", name="p.npz"),
    refused(24, "a pickle", pickle.dumps(Canary()), "pickle", "never loaded"),
    refused(25, "structured", np.zeros(20, [("a", "f8"), ("b", "i4")]), "structured", "one plain array"),
    refused(25, "strings", np.full((20, 2), "1.5"), "<U3", "not a number"),
    refused(25, "dates", np.zeros((20, 2), "M8[D]"), "datetime64[D]", "not a number"),
    refused(26, "missing cell", text(*NUMBERS[:5], "1,NA"), "1 of 6 rows", "row 6, column 2", name="p.csv"),
    refused(26, "null", parquet(FRAME.astype("Float64").mask(FRAME > 1)), "missing", name="p.parquet"),
    accepted(27, "header", b"a,b\n" + CSV, name="p.csv"),
    accepted(27, "marked as UTF-8", b"\xef\xbb\xbf" + CSV, name="p.csv"),
    accepted(27, "CRLF", text(*NUMBERS, end="\r\n"), name="p.csv"),
    accepted(27, "quoted", text(*(f'"{n}"'.replace(",", '","') for n in NUMBERS)), name="p.csv"),
    accepted(27, "semicolons", CSV.replace(b",", b";"), name="p.csv"),
    accepted(
        27, "decimal commas", CSV.replace(b",", b";").replace(b".", b","), "decimal commas read as points", name="p.csv"
    ),
    refused(27, "word", text("1,2", "3,four"), "row 2, column 2: 'four' is not a number", name="p.csv"),
    refused(27, "ragged", text("a,b", "1,2", "3"), "row 3 has 1 cells, the first row 2", name="p.csv"),
    accepted(28, "index", FRAME.to_csv().encode(), "taken for an index and dropped", name="p.csv"),
    accepted(
        28, "backwards", FRAME.iloc[::-1].to_csv(header=False).encode(), "taken for an index and dropped", name="p.csv"
    ),
    refused(29, "short .npy", npy(GOOD)[:-8], "truncated: expected 448 bytes, have 440"),
    refused(29, "short .npz", npz(x=npy(GOOD))[:-8], "truncated", name="p.npz"),
    refused(29, "short .gz", gzip.compress(IDX)[:-20], "truncated: expected 332 bytes, have", name="p.gz"),
    refused(29, "short .parquet", parquet(FRAME)[:-8], "truncated", name="p.parquet"),
    refused(30, "extension", npy(GOOD), ".csv means text, but this is an .npy array", name="p.csv"),
    refused(31, "no arrays", npz(), "0 arrays (none)", "--key", name="p.npz"),
    refused(31, "two arrays", npz(x=npy(GOOD), y=npy(GOOD)), "2 arrays (x, y)", "--key", name="p.npz"),
    refused(31, "one name twice", twice(), "2 arrays (x, x)", name="p.npz"),
    refused(31, "another key", npz(y=npy(GOOD)), "1 arrays (y), 0 named 'x'", name="p.npz", options=KEY),
    accepted(31, "key", npz(x=npy(GOOD), y=npy(STACK)), name="p.npz", options=KEY, q=npz(x=npy(OTHER))),
    refused(33, "negative .npy", npy_header(shape="(-20, 2)"), "impossible shape (-20, 2)"),
    refused(33, "2^63 in .npy", npy_header(shape=f"({2**63}, 2)"), "impossible shape (9223372036854775808, 2)"),
    refused(33, "negative IDX", b"\0\0\x08\2" + struct.pack(">2i", -20, 2), "impossible shape", name="p.idx"),
    refused(34, "directory", Path.mkdir, "directory, not a file"),
    refused(34, "pipe", os.mkfifo, "pipe", "- for standard input"),
    refused(34, "link to itself", lambda path: path.symlink_to(path), "symbolic links"),
    refused(34, "device", "/dev/zero", "device"),
    refused(34, "missing", "nowhere/p.npy", "No such file"),
    refused(34, "steering the terminal", "a\x1b[31m.npy", r"a\x1b[31m.npy", "No such file"),
    accepted(34, "spaces and symbols", GOOD, name="p and 'q'; 样本 ü.npy"),
]


@pytest.fixture(scope="module", autouse=True)
def seen():
    """What reaches the method last, which costs no training: every method is a stub here."""
    last = []

    def method(request):
        assert np.isfinite(request.x).all() and np.isfinite(request.y).all()
        last[:] = [request.x, request.y]
        return Fit("stub", [Interval(-0.125, -0.25, 0.25, 0.1) for _ in request.divergences])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimation, "METHODS", dict.fromkeys(METHODS, method))
        yield last


@pytest.fixture
def fgan(capsys):
    """The command line: exit code, standard output, standard error."""

    def run(*words) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as leaving:
            main([str(word) for word in words])
        return leaving.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def piped(monkeypatch):
    """Bytes on standard input."""

    def give(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return give


def each(row: Case) -> str:
    return f"row {row.row}: {row.what}"


def assert_told(warnings: list[str], said: tuple[str, ...]) -> None:
    """Every part of `said` is in a warning, and every warning holds a part."""
    assert [part for part in said if not any(part in w for w in warnings)] == [], warnings
    assert [w for w in warnings if not any(part in w for part in said)] == []


@pytest.mark.parametrize("case", CASES, ids=each)
def test_the_library(case, tmp_path):
    def estimate():
        return est.estimate(*(read_samples(path, **case.options) for path in case.files(tmp_path)), "kl")

    if case.code:
        refusal(estimate, *case.said)
    else:
        e = estimate()
        assert (e.n_p, e.n_q, e.dim) == case.sizes or case.row == 12
        assert (e.value == np.inf) == (case.row == 13) and not np.isnan([e.value, e.low, e.high]).any()
        assert_told(e.warnings, case.said)
    assert not Canary.hatched


@pytest.mark.parametrize("case", CASES, ids=each)
def test_the_command_line(case, tmp_path, fgan):
    p, q = case.files(tmp_path)
    code, out, err = fgan("estimate", p, q, "--json", *case.words())
    assert code == case.code
    if case.code:
        assert out == "" and err.count("\n") == 1 and err.startswith("fgan: ") and "Traceback" not in err
        assert [part for part in case.said if part not in err] == [], err
    else:
        answer = json.loads(out)
        (e,) = answer["estimates"]
        assert err == "" and (answer["n_p"], answer["n_q"], answer["dim"]) == case.sizes
        assert (e["value"] is None) == (case.row == 13)
        assert_told(e["warnings"], case.said)
    assert not Canary.hatched


# --- rows that need more than a file each -----------------------------------------------------------------------------


def test_row_17_and_8_separable_samples_fewer_than_a_batch(fgan, tmp_path, monkeypatch, little_training):
    """The one real fit of this file: finite values, JS and TV near their maxima, no upper limit on KL."""
    monkeypatch.setattr(estimation, "METHODS", METHODS)
    p, q = made(tmp_path / "p.npy", GOOD), made(tmp_path / "q.npy", GOOD + 50.0)
    words = ("--json", "--method", "neural", "-d", "kl", "js", "total_variation")
    answer = json.loads(fgan("estimate", p, q, *words)[1])
    kl, js, tv = answer["estimates"]
    assert all(e["value"] is not None and any("separable" in w for w in e["warnings"]) for e in (kl, js, tv))
    assert kl["high"] is None and kl["low"] <= np.log(20)
    assert 0.5 * np.log(2.0) < js["value"] <= np.log(2.0) + 1e-6 and 0.5 < tv["value"] <= 1.0 + 1e-6


def test_row_18_a_negative_estimate_is_printed_as_it_is(fgan, tmp_path):
    p, q = made(tmp_path / "p.npy", GOOD), made(tmp_path / "q.npy", OTHER)
    (e,) = json.loads(fgan("estimate", p, q, "--json")[1])["estimates"]
    assert (e["value"], e["low"], e["high"]) == (-0.125, -0.25, 0.25)
    assert "-0.1250     -0.2500      0.2500" in fgan("estimate", p, q)[1]


LAYOUTS = {
    "big-endian": lambda rows, folder: rows.astype(">f8"),
    "Fortran order": lambda rows, folder: np.asfortranarray(rows),
    "every other row": lambda rows, folder: np.repeat(rows, 2, axis=0)[::2],
    "backwards": lambda rows, folder: rows[::-1].copy()[::-1],
    "read-only map": lambda rows, folder: np.load(made(folder / "mapped.npy", rows), mmap_mode="r"),
    "big-endian file": lambda rows, folder: read_samples(made(folder / "p.npy", rows.astype(">f8"))),
    "Fortran file": lambda rows, folder: read_samples(made(folder / "p.npy", np.asfortranarray(rows))),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_row_22_every_layout_reaches_the_method_as_the_same_bytes(seen, tmp_path, layout):
    before = GOOD.copy()
    e = est.estimate(LAYOUTS[layout](GOOD, tmp_path), OTHER, "kl")
    assert seen[0].tobytes() == GOOD.tobytes() == before.tobytes()
    assert e.warnings == ()


@pytest.mark.parametrize("rows", [np.ma.masked_greater(GOOD, 1), FRAME.astype("Float64").mask(FRAME > 1)])
def test_row_26_what_is_masked_counts_as_missing(rows):
    gone = (GOOD > 1).any(axis=1).sum()
    refusal(lambda: est.estimate(rows, OTHER, "kl"), f"{gone} of 20 rows", "NaN or missing")
    assert est.estimate(rows, OTHER, "kl", nan_policy="omit").n_p == 20 - gone


READER = """\
import sys
import numpy, pandas, pyarrow.parquet
from estimators.samples.files import read_samples
from estimators.samples.arrays import DataError

def peak():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

before = peak()
for path in sys.argv[1:]:
    try:
        read_samples(path)
    except DataError as error:
        print(error, file=sys.stderr)
    else:
        sys.exit(f"{path}: read")
print(peak() - before)
"""


def swollen_gzip(header: bytes, megabytes: int) -> bytes:
    """A gzip file of a header and zeros, of members that each unpack to a mebibyte."""
    return gzip.compress(header) + gzip.compress(bytes(2**20)) * megabytes


def endless_line(path: Path) -> None:
    """A table that goes on as one line of 400 MiB, of which the disk holds 1 MiB."""
    path.write_bytes(b"1," * 2**19)
    os.truncate(path, 400 * 2**20)


BOMBS = {
    "long.gz": lambda: swollen_gzip(b"\0\0\x08\2" + struct.pack(">2i", 400 * 2**10, 2**10), 400),
    "liar.gz": lambda: swollen_gzip(b"\0\0\x08\1" + struct.pack(">i", 2**31 - 1), 1),
    "rest.gz": lambda: swollen_gzip(b"\0\0\x08\1" + struct.pack(">i", 20), 400),
    "zeros.gz": lambda: swollen_gzip(b"", 400),
    "long.npz": lambda: zeros_npz(npy_header(shape=f"({256 * 2**17},)", body=b""), 256),
    "liar.npz": lambda: zeros_npz(npy_header(shape=f"({2**50},)", body=b""), 1),
    "liar.npy": lambda: npy_header(shape=f"({2**36},)"),
    "constant.parquet": lambda: parquet(pd.DataFrame({"a": np.zeros(2**25, np.int8)})),
    "line.csv": lambda: endless_line,
}


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    return [made(folder / name, make()) for name, make in BOMBS.items()]


def test_row_32_bombs_are_refused_by_the_command_line(fgan, bombs):
    for path in bombs:
        code, out, err = fgan("estimate", path, path)
        assert (code, out, err.count("\n")) == (3, "", 1) and path.name in err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_row_32_bombs_take_no_memory(bombs):
    """Within 200 MB of what the imports take, for files that would fill 256 MiB and more, and endless input."""
    program = [sys.executable, "-c", READER, *map(str, bombs), "-"]
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(program, cwd=ROOT, stdin=endless, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == len(bombs) + 1 and int(done.stdout) < 200


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_row_34_unreadable(fgan, tmp_path):
    path = made(tmp_path / "p.npy", GOOD)
    path.chmod(0)
    code, _, err = fgan("estimate", path, path)
    assert code == 3 and "p.npy: cannot be read: Permission denied" in err


# --- standard input ---------------------------------------------------------------------------------------------------

PIPED = {
    "text": CSV,
    "text with a header": b"a,b\n" + CSV,
    "npy": npy(GOOD),
    "npz": npz(x=npy(GOOD)),
    "parquet": parquet(FRAME),
    "gzip": gzip.compress(idx(GOOD.astype(">f8"), 14)),
}


@pytest.mark.parametrize("content", PIPED.values(), ids=PIPED)
def test_a_dash_is_standard_input_in_every_format(piped, fgan, seen, tmp_path, content):
    piped(content)
    samples = read_samples("-")
    assert samples.values.tobytes() == GOOD.tobytes() and samples.name == "standard input"
    q = made(tmp_path / "q.npy", OTHER)
    piped(content)
    assert fgan("estimate", "-", q)[0] == 0 and seen[0].tobytes() == GOOD.tobytes()
    piped(content)
    assert fgan("estimate", q, "-")[0] == 0 and seen[1].tobytes() == GOOD.tobytes()


PIPED_BADLY = {
    "nothing": (b"", "empty"),
    "NaN": (text("1,2", "3,nan"), "row 2, column 2"),
    "zeros": (bytes(2**21), "no known format"),
    "a pickle": (pickle.dumps(Canary()), "never loaded"),
    "truncated": (npy(GOOD)[:-8], "truncated: expected 448 bytes, have 440"),
    "a bomb": (gzip.compress(b"\0\0\x08\1" + struct.pack(">i", 100 * 2**20)), "would unpack"),
}


@pytest.mark.parametrize("content, said", PIPED_BADLY.values(), ids=PIPED_BADLY)
def test_bad_standard_input_is_refused(piped, fgan, tmp_path, content, said):
    piped(content)
    refusal(lambda: read_samples("-"), "standard input: ", said)
    piped(content)
    code, out, err = fgan("estimate", "-", made(tmp_path / "q.npy", OTHER))
    assert (code, out, err.count("\n")) == (3, "", 1) and "fgan: standard input: " in err and said in err
    assert not Canary.hatched


def test_standard_input_has_an_end_or_is_refused(piped, monkeypatch):
    monkeypatch.setattr(files, "MAX_EXPANSION", 2**21)
    piped(b"1,2\n" * 2**20)
    refusal(lambda: read_samples("-"), "standard input: more than 2097152 bytes", "save them in a file")


def test_closed_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    refusal(lambda: read_samples("-"), "standard input: closed")


# --- any array, at the front door -------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(ARRAYS, ARRAYS | st.none(), st.sampled_from("CF"), st.sampled_from(["raise", "omit"]))
def test_any_two_arrays_give_an_answer_or_a_data_error(x, y, order, policy):
    """Finite, or infinite with the proof; flagged where the sets are no independent draws; never another exception."""
    x, y = (np.array(x if a is None else a, order=order) for a in (x, y))
    try:
        e = est.estimate(x, y, "kl", nan_policy=policy)
    except DataError as error:
        assert str(error).isprintable()
        return
    assert np.isfinite(e.value) or any("disjoint support" in w for w in e.warnings)
    assert any("same content" in w for w in e.warnings) or not np.array_equal(x, y)


FLOATS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(width=64))


@settings(max_examples=200)
@given(FLOATS, st.sampled_from([".csv", ".tsv", ".npy", ".npz"]))
def test_what_is_written_is_read_or_refused(tmp_path_factory, rows, end):
    """Any floats, through any format: the same numbers come back, or a DataError says why not."""
    stored = {".csv": csv_of(rows), ".tsv": csv_of(rows, "\t"), ".npy": npy(rows), ".npz": npz(x=npy(rows))}[end]
    path = made(tmp_path_factory.getbasetemp() / f"written{end}", stored)
    usable = len(rows) > 1 and (np.abs(rows) <= np.finfo(np.float32).max).all()
    try:
        samples = read_samples(path)
    except DataError:
        assert not usable
    else:
        assert usable
        np.testing.assert_array_equal(samples.values, rows[:, 1:] if samples.notes else rows)


# --- folders of images, at the command line ---------------------------------------------------------------------------

TRAIN_IMAGES, TRAIN_LABELS = "train_images_idx3_ubyte", "train_labels_idx1_ubyte"
FOLDERS = {  # files, or None for no folder at all; words of the message
    "row 34: missing": (None, ["nowhere", "No such file or directory", "name the folder"]),
    "row 5: without images": ({"notes_txt": b"x"}, ["no train-images-idx3-ubyte or .gz of it", "notes-txt"]),
    "row 5: empty file": ({TRAIN_IMAGES: b""}, ["train-images-idx3-ubyte: empty file"]),
    "row 7: one image": ({TRAIN_IMAGES: pictures(1)}, ["only 1 images", "at least 10"]),
    "row 9: labels": (
        {TRAIN_IMAGES: pictures(20), TRAIN_LABELS: pictures(21)[:, 0, 0]},
        ["train-labels-idx1-ubyte", "shape (21,), for 20 images"],
    ),
    "row 9: two sizes": (
        {TRAIN_IMAGES: pictures(20), "t10k_images_idx3_ubyte": pictures(20, 4)},
        ["differ in size, 8 × 8 and 4 × 4"],
    ),
    "row 11: not square": ({TRAIN_IMAGES: pictures(20)[:, 1:]}, ["7 × 8 pixels", "crop or pad"]),
    "row 29: truncated": ({TRAIN_IMAGES: idx(pictures(20), 8)[:-1]}, ["truncated: expected 1296 bytes, have 1295"]),
    "row 29: truncated gzip": (
        {"train_images_idx3_ubyte_": gzip.compress(idx(pictures(20), 8))[:-99]},
        ["train-images-idx3-ubyte.gz: truncated: expected 1296 bytes"],
    ),
    "row 30: a pickle": ({TRAIN_IMAGES: pickle.dumps(Canary())}, ["pickle", "never loaded"]),
    "row 31: two splits": (
        {f"emnist_{split}_{TRAIN_IMAGES}": pictures(20) for split in ("letters", "digits")},
        ["2 splits, digits, letters", "--data.key digits"],
    ),
    "row 32: a bomb": (
        {"train_images_idx3_ubyte_": gzip.compress(b"\0\0\x08\3" + struct.pack(">3i", 10**6, 28, 28))},
        ["would unpack to 784000000"],
    ),
    "row 33: negative": ({TRAIN_IMAGES: b"\0\0\x08\3" + struct.pack(">3i", -20, 8, 8)}, ["impossible shape"]),
}


@pytest.mark.parametrize(("files", "said"), FOLDERS.values(), ids=FOLDERS)
def test_folders_of_images_are_refused_before_a_run_begins(files, said, tmp_path, fgan):
    folder = tmp_path / "nowhere"
    if files is not None:
        put(folder, **files)
        for path in folder.glob("*-ubyte-"):
            path.rename(f"{path}"[:-1] + ".gz")  # packed already, and badly
    words = ("train", ROOT / "configs" / "mnist.toml", "--data.path", folder, "--run", tmp_path / "run")
    code, out, err = fgan(*words)
    assert (code, out, err.count("\n")) == (3, "", 1) and err.startswith("fgan: ") and str(folder) in err
    assert [part for part in said if part not in err] == [], err
    assert not (tmp_path / "run").exists() and not Canary.hatched


def test_images_that_the_networks_cannot_halve_twice_are_refused(tmp_path, fgan):
    folder = put(tmp_path / "images", train_images_idx3_ubyte=pictures(20, 3))
    code, out, err = fgan("train", ROOT / "configs" / "mnist.toml", "--data.path", folder, "--run", tmp_path / "run")
    assert (code, out, err.count("\n")) == (2, "", 1) and "3 × 3 pixels can be halved 1 times" in err

"""Damaged and hostile input for everything that reads: files of samples and labels, the command line, configs, sweeps,
column plans, names of divergences and distributions, and the files of a run.

A case is made from its number alone: a valid input is drawn, or text of a grammar, and then bytes of it are flipped,
cut, inserted and repeated. It is right if the reader returns, or refuses by an error it declares, in one line without
control characters. It is wrong if the reader raises anything else, warns, takes longer than `PATIENCE`, takes more
memory than `FACTOR` × the input + `ROOM`, writes outside its folder, starts a program or a connection, or runs code.
"""

import contextlib
import functools
import gzip
import io
import json
import os
import random
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from benchmarks.torture.guard import PATIENCE, Hang, guarded

ABOUT = "readers, configs, names, column plans and run files on damaged and hostile input"
COUNT = 10_000

FACTOR = 2.0
"""Bytes of memory for each byte of input."""
ROOM = 200 * 2**20
"""Bytes of memory beside that. A reader unpacks up to 16 MiB freely, of bytes that become float64 of eight times the
size; most cases stay below 1 MiB."""
LONGEST = 2**17
"""Bytes of an input, so that a case takes milliseconds."""
Input = tuple[str, bytes]
"""The name of a file, and its content."""


class Target(NamedTuple):
    """Something that reads: how often it is tried, what it is given, and what it may raise."""

    share: int
    make: Callable[[random.Random], Input]
    read: Callable[[Path, random.Random], Any]
    declared: Callable[[], tuple[type[Exception], ...]]


def case(i: int, scratch: Path) -> dict[str, Any]:
    """Run case number i in the empty folder `scratch`: what was done, how it ended, and the verdict."""
    rng = random.Random(f"fuzz {i}")
    name = rng.choices(list(TARGETS), [target.share for target in TARGETS.values()])[0]
    target = TARGETS[name]
    file, content = target.make(rng)
    path = scratch / "work" / os.fsdecode(os.fsencode(file))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    warmed(name)
    with warnings.catch_warnings(), guarded(scratch) as found:
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)  # of orbax, when it fails
        outcome = _outcome(target, path, rng)
    peak = max(found.pop("peak"), 0)
    if peak > FACTOR * len(content) + ROOM:
        found["memory"] = f"{peak} bytes for {len(content)}"
    faults = [*outcome[1:], *(f"{what}: {where}" for what, where in found.items())]
    what = f"{name}: {file!a}, {len(content)} bytes: {outcome[0]}"
    return {"what": what, "verdict": "; ".join(faults) or "ok", "bytes": len(content), "peak": peak}


def _outcome(target: Target, path: Path, rng: random.Random) -> list[str]:
    """How reading ended, and after that what was wrong with it."""
    try:
        target.read(path, rng)
    except target.declared() as error:
        message = str(error)
        wrong = "" if message.isprintable() and message else f"message {message!a:.200}"
        return [f"{type(error).__name__}: {message!a:.120}", *filter(None, [wrong])]
    except Hang:
        return ["hung", f"longer than {PATIENCE:g} s"]
    except Exception as error:  # whatever is not declared is what is looked for
        return ["crashed", f"{type(error).__name__}: {str(error)!a:.200}"]
    return ["read"]


# --- damage -----------------------------------------------------------------------------------------------------------

ODD_BYTES = (b"\0", b"\xff", b"\n", b"\r", b'"', b",", b";", b"\t", b"'", b"\x1b[31m", b"\xe2\x80\xae", b"\xed\xa0\x80",
             b"\xff\xfe", b"\xef\xbb\xbf", b"nan", b"1e999", b"-", b"(", b"[" * 50, b"{", b"\\", b"#", b"$", b"%s",
             b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80", b"\0\0\0\0\0\0\0\x80")  # fmt: skip


def damaged(content: bytes, rng: random.Random) -> bytes:
    """`content` after one to five faults, as disks, networks, editors and enemies make them."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 50)))
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.choice(ODD_BYTES) * rng.choice((1, 1, 1, 3, 40))
        elif kind == 4:
            del data[at:end]
        elif kind == 5:
            data[at:at] = data[at:end] * rng.choice((1, 2, 20))
        elif kind == 6:
            data[at:end] = rng.randbytes(end - at)
        else:
            data[at:end] = rng.choice(ODD_BYTES)[: end - at]
    return bytes(data[:LONGEST])


def maybe_damaged(content: bytes, rng: random.Random, share: float = 0.7) -> bytes:
    """`content`, damaged as often as `share` says."""
    return damaged(content, rng) if rng.random() < share else content


# --- files of samples -------------------------------------------------------------------------------------------------

NUMBERS = ("0", "1", "-1", "3.25", "-0.0", "1e3", "1e400", "-1e-400", "1,5", "1.234,5", "1,234.5", "1 234",
           "1_000", "007",
           "0x1f", "nan", "NaN", "-nan", "inf", "-Infinity", "1e39", "٣", "１２", "−2", "9" * 25, "9" * 400, ".5",
           "5.", "+",
           "1e", "--1", "²")  # fmt: skip
WORDS = ("", " ", "NA", "n/a", "#N/A", "#DIV/0!", "null", "true", "False", "yes", "red", "blue", "green", "a b",
         "=cmd()",
         "@SUM(1)", "-", "?", "12 kg", "3.5kg", "$5", "(5 €)", "70 %", "5 °C", "1st", "2024-02-29", "2023-02-29",
         "2024/02/01", "31/12/2024", "1.2.2024", "13/13/2024", "2024-02-01 23:59:59.5Z", "2024-02-01T10:00+05:30",
         "0000-00-00", "9999-12-31 23:59-12:00", "\x1b[31mred", "\u202ered", "\x9b31m", "<b>", "$x^2$", "é", "\ufffd",
         "x" * 300, "#", '"', "'", "a\x00b", "\\", "%n", "{0}", "[red]")  # fmt: skip
NAMES = ("a", "b", "income", "id", "ID", "index", "", " ", "0", "1", "Unnamed: 0", "größe", "$x$", "a b",
         "\x1b[2J", "=1+1",
         "x" * 200, "a,b", "NaN", "2024", "# a", "\u202e", "__index_level_0__")  # fmt: skip
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "utf-32")
FILE_NAMES = ("p", "p", "p", "p q", "-p", "p'\"", "ü", "p\x1b[31m", "p\n", "p\udce9", "$p$", "[red]p", "%s", "..p")


def plain_table(rng: random.Random) -> bytes:
    """A table as programs write it, with few oddities."""
    height, between = rng.choice((5, 20, 60)), rng.choice((",", ",", ";", "\t"))
    kinds: list[Callable[[], str]] = [
        lambda: f"{rng.gauss(0, 1):.4f}", lambda: str(rng.randrange(9)), lambda: rng.choice(("red", "blue", "$x^2$")),
        lambda: f"{rng.randrange(1, 99)} %", lambda: f"2024-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
        lambda: rng.choice(("yes", "no", "NA")), lambda: rng.choice(("true", "false")),
    ]  # fmt: skip
    chosen = [kinds[0], *rng.choices(kinds, k=rng.randrange(4))]
    lines = [between.join(kind() for kind in chosen) for _ in range(height)]
    if rng.random() < 0.7:
        lines.insert(
            0, between.join(rng.sample(NAMES, len(chosen)) if rng.random() < 0.3 else tuple("abcde")[: len(chosen)])
        )
    if rng.random() < 0.2:
        at = rng.randrange(len(lines))
        lines[at] = lines[at].replace(rng.choice("0123456789"), rng.choice(NUMBERS + WORDS), 1)
    return "\n".join(lines).encode()


def table(rng: random.Random) -> bytes:
    """Text that is nearly a table."""
    width, height = rng.choice((1, 2, 2, 3, 5, 12)), rng.choice((0, 1, 2, 3, 8, 20, 60))
    between = rng.choice((",", ",", ",", ";", "\t", " ", "|", ", ", ";;", "\x1f"))
    pools = [rng.choices((NUMBERS, WORDS, NAMES, None), (4, 2, 1, 6))[0] for _ in range(width)]
    few = [rng.sample(pool, min(len(pool), rng.choice((1, 2, 3, 9)))) if pool else None for pool in pools]
    form = rng.choice(("{:.3f}", "{:.0f}", "{!r}", "{:e}", "{:.2f} kg", '"{:.1f}"'))

    def cell(j: int) -> str:
        chosen = few[j % width]
        text = rng.choice(chosen) if chosen else form.format(rng.gauss(0, 10))
        odd = rng.random()
        return rng.choice(NUMBERS + WORDS) if odd < 0.01 else f'"{text}"' if odd < 0.03 else text

    lines = [between.join(cell(j) for j in range(max(0, width + (rng.random() < 0.004)))) for _ in range(height)]
    if rng.random() < 0.5:
        lines.insert(0, between.join(rng.choice(NAMES) for _ in range(width - (rng.random() < 0.1))))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        lines.insert(rng.randrange(len(lines) + 1), rng.choice(("# a, b", "#", "", "   ", between * width, "# 1 2 3")))
    if rng.random() < 0.02:
        lines.append(rng.choice(("1", '"', ",", "x")) * rng.choice((10_000, LONGEST)))
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines) + rng.choice(("", "\n"))
    return text.encode(rng.choice(ENCODINGS), "replace")


def npy(array: np.ndarray, **options: Any) -> bytes:
    """An .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(rng: random.Random) -> bytes:
    """An .npy file whose header says something else than its bytes hold."""
    kinds = ("'<f8'", "'>f4'", "'|b1'", "'<c16'", "'|O'", "'<U9'", "'<M8[D]'", "'<f2'", "'V8'", "'<f99'",
             "[('a', '<f8')]", "'<i8'", "'<u8'", "None", "'|S0'", "print('x')", "'<m8'")  # fmt: skip
    sizes = (0, 1, 2, 3, 7, -1, 2**31, 2**62, 2**63, 10**30)
    shape = tuple(
        rng.choice(sizes) if rng.random() < 0.4 else rng.randrange(5) for _ in range(rng.choice((0, 1, 2, 2, 3, 40)))
    )
    order = rng.choice(("False", "True", "0", "'F'", "None"))
    text = f"{{'descr': {rng.choice(kinds)}, 'fortran_order': {order}, 'shape': {shape}}}".encode()
    version = rng.choice((1, 1, 2, 3, 9))
    length = len(text) + rng.choice((0, 0, 0, 1, -1, 10_001))
    start = b"\x93NUMPY" + bytes((version, 0)) + (length % 2**16).to_bytes(2 if version == 1 else 4, "little")
    return start + text + rng.randbytes(rng.choice((0, 8, 48, 56, 480)))


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return stream.getvalue()


def idx(array: np.ndarray, kind: int) -> bytes:
    """An IDX file."""
    return bytes((0, 0, kind, array.ndim)) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@functools.cache
def sound_files() -> tuple[Input, ...]:
    """Files that are read as they are, one of each kind, and those whose kind is refused."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 3))
    whole, images = rng.integers(0, 9, (12, 3)), rng.integers(0, 255, (4, 3, 3), dtype=np.uint8)
    found: dict[str, bytes] = {
        "a.npy": npy(points), "f.npy": npy(np.asfortranarray(points)), "b.npy": npy(points.astype(">f4")),
        "i.npy": npy(whole), "u.npy": npy(images), "flat.npy": npy(points[:, 0]), "half.npy": npy(points.astype("f2")),
        "words.npy": npy(np.array(["a", "b"] * 3)), "objects.npy": npy(np.array([{}, []], object), allow_pickle=True),
        "days.npy": npy(np.array(["2024-01-01"] * 4, "M8[D]")), "fields.npy": npy(np.zeros(4, "f8,i4")),
        "a.npz": archive({"x.npy": npy(points)}), "stored.npz": archive({"x.npy": npy(points)}, zipfile.ZIP_STORED),
        "two.npz": archive({"x.npy": npy(points), "y.npy": npy(whole)}),
        "up.npz": archive({"../../up.npy": npy(points), "/root.npy": npy(points)}),
        "a.idx": idx(points.astype(">f8"), 14), "u.idx": idx(images, 8), "a.gz": gzip.compress(idx(images, 8), mtime=0),
        "text.gz": gzip.compress(b"1,2\n3,4\n", mtime=0), "a.csv": b"a,b\n1,2\n3,4\n5,6\n", "a.tsv": b"1\t2\n3\t4\n",
    }  # fmt: skip
    columns = {"x": points[:, 0], "n": whole[:, 0], "word": ["red", "blue", None] * 4, "yes": [True, False] * 6}
    days = pa.array(np.arange(12), pa.int32()).cast(pa.date32())
    for compression in ("none", "snappy", "zstd"):
        stream = io.BytesIO()
        pq.write_table(pa.table(columns | {"day": days}), stream, compression=compression)
        found[f"{compression}.parquet"] = stream.getvalue()
    return tuple(found.items())


def sample_file(rng: random.Random) -> Input:
    """A file of samples, or nearly."""
    kind = rng.random()
    if kind < 0.45:
        made = table(rng) if rng.random() < 0.4 else plain_table(rng)
        end, content = rng.choice((".csv", ".csv", ".tsv")), maybe_damaged(made, rng, 0.3)
    elif kind < 0.6:
        end, content = ".npy", maybe_damaged(header(rng), rng, 0.1)
    else:
        name, content = rng.choice(sound_files())
        end, content = Path(name).suffix, maybe_damaged(content, rng, 0.85)
    end = rng.choice((".npy", ".csv", ".gz", "", ".txt", ".parquet", ".pkl")) if rng.random() < 0.03 else end
    return rng.choice(FILE_NAMES) + end, content


def _reading(rng: random.Random) -> dict[str, Any]:
    """Options of a reader."""
    some: Callable[[], tuple[str, ...]] = lambda: tuple(rng.choices(NAMES[:8], k=max(0, rng.randrange(12) - 9)))  # noqa: E731
    return {
        "nan_policy": rng.choice(("raise", "omit")), "flatten": rng.random() < 0.3, "drop": some(),
        "categorical": some(), "absent_ok": rng.random() < 0.5,
    }  # fmt: skip


def read_samples(path: Path, rng: random.Random) -> None:
    """Read a file alone, and with itself as a pair; whatever is noted can be printed."""
    from estimators.samples import files
    from estimators.samples.arrays import check_pair
    from estimators.samples.matching import matched

    key = rng.choice((None, "x", "../../up", "\x1b")) if path.suffix == ".npz" or rng.random() < 0.05 else None
    samples = files.read_samples(path, key=key, **_reading(rng))
    assert samples.values.dtype == np.float64 and samples.values.ndim == 2 and np.isfinite(samples.values).all()
    with contextlib.suppress(files.DataError):
        assert len(files.read_slice(path, 0, 2).samples.values)
    x, y = matched(samples, samples)
    said = (*check_pair(x, y), *samples.notes, samples.name, samples.called(0))
    assert all(line.isprintable() for line in said), f"not printable: {said!a}"


def read_labels(path: Path, rng: random.Random) -> None:
    """Read a file of labels."""
    from estimators.samples import files

    assert files.read_labels(path).ndim == 1


def command_line(path: Path, rng: random.Random) -> None:
    """Run `fgan estimate` on a file and a sound one, with a stub in place of every method."""
    from estimators import estimation
    from estimators.contract import Fit, Interval

    other = path.with_name("other.csv")
    other.write_bytes(b"a,b\n" + b"".join(b"%d.5,%d.25\n" % (k * k % 17, k) for k in range(20)))
    words = [str(path), str(other)]
    words = [*words[:: rng.choice((1, -1))], *(["--json"] if rng.random() < 0.5 else [])]
    words += rng.choice(([], [], ["--nan-policy", "omit"], ["--drop", "a"], ["-d", spelled_name(rng)],
                         ["--flatten"], ["--explain"],
                         ["--categorical", rng.choice(NAMES)], ["--groups-p", str(path), "--groups-q", str(path)],
                         [rng.choice(NAMES)], ["--key", "x"], ["--round", "-400"], ["--confidence",
                         rng.choice(NUMBERS)]))  # fmt: skip

    def stub(request: Any) -> Any:
        return Fit("stub", [Interval(0.1, 0.0, 0.2, 0.05) for _ in request.divergences])

    with mock.patch.object(estimation, "METHODS", dict.fromkeys(estimation.METHODS, stub)):
        run_command("estimate", *words)


def run_command(*words: str) -> None:
    """Run the command line; AssertionError unless it ends as documented: its exit code, its lines, no traceback."""
    from fgan.cli.main import main

    shown, said = io.StringIO(), io.StringIO()
    code: Any = None
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
        try:
            main(list(words))
        except SystemExit as leaving:
            code = leaving.code
    out, error = shown.getvalue(), said.getvalue()
    assert code in (0, 2, 3, 5, 7), f"exit code {code}"
    assert "Traceback" not in error, error
    assert error.count("\n") == (code != 0), f"{error.count(chr(10))} lines on stderr: {error!a}"
    assert all(line.isprintable() for line in (out + error).split("\n")), f"not printable: {out + error!a}"
    if "--json" in words and code == 0:
        json.loads(out)


# --- configs, sweeps, column plans ------------------------------------------------------------------------------------

VALUES = ("0", "1", "-1", "2", "1e400", "-0.5", "nan", "inf", "true", '"kl"', '"js"', '"samples"', '"vae"',
          '"alpha(0.5)"',
          '"alpha(1e999)"', "[]", "[1]", "[64, 64]", "[[1]]", "[0.1, 0.2]", "{}", "{a = 1}", '""', '"\\u001b[31m"',
          '"__import__(\'os\')"', "9" * 30, "9" * 5000, "2024-01-01", '["r1", "r2"]', '"cosine"',
          "1979-05-27T07:32:00Z",
          '"""' + "\n" * 3 + '"""', "'''a'''", "0x7fffffffffffffff", "[" * 200 + "]" * 200, "[" * 3000)  # fmt: skip


@functools.cache
def shipped() -> tuple[bytes, ...]:
    """The configs of this checkout, or the default one where there are none."""
    from fgan.config.schema import Config
    from fgan.config.toml import to_toml

    folder = Path(__file__).resolve().parents[2] / "configs"
    return (to_toml(Config()).encode(), *(path.read_bytes() for path in sorted(folder.glob("*.toml"))))


def _lines(rng: random.Random, keys: list[str], most: int = 6) -> str:
    """Lines key = value."""
    return "".join(f"{rng.choice(keys)} = {rng.choice(VALUES)}\n" for _ in range(rng.randrange(1, most)))


def config_file(rng: random.Random) -> Input:
    """A config, or nearly."""
    from fgan.config import schema

    keys = [
        *schema.names(),
        "data",
        "nowhere",
        "data.nowhere",
        '"a b"',
        '"\\u001b"',
        "a.b.c",
        "critic.reach",
        "__class__",
    ]
    text = rng.choice(shipped())
    if rng.random() < 0.6:
        text = _lines(rng, keys).encode() + (text if rng.random() < 0.3 else b"")
    return rng.choice(FILE_NAMES) + ".toml", maybe_damaged(text, rng, 0.5)


def read_config(path: Path, rng: random.Random) -> None:
    """Load a config, check it, and write it down as it was."""
    from fgan.config import toml
    from fgan.config.checks import check

    config = check(toml.load(path))
    assert toml.from_toml(toml.to_toml(config)) == config


def sweep_file(rng: random.Random) -> Input:
    """A sweep, or nearly."""
    from fgan.config import schema

    keys = [*schema.names(), "nowhere", "seed", "penalty"]
    lists = ('["kl", "js"]', "[1, 2]", "[1e-3, 1e-2]", "[1, 1]", "[]", "[nan]", '[["r1"], []]', "1", '["\\u0007"]')
    grid = "".join(f"{rng.choice(keys)} = {rng.choice(lists)}\n" for _ in range(rng.randrange(1, 4)))
    base = rng.choice(("", 'config = "../ring.toml"\n', "config = 1\n", 'config = "/dev/zero"\n',
                       'config = "\\u0000"\n',
                       "members = 3\n", "members = -1\n", 'members = "x"\n', "seeds = 100000\n"))  # fmt: skip
    return "sweep.toml", maybe_damaged(
        (base + _lines(rng, keys, 3) * (rng.random() < 0.3) + "[grid]\n" + grid).encode(), rng, 0.5
    )


def read_sweep(path: Path, rng: random.Random) -> None:
    """Load a sweep and list its configs."""
    from fgan.run.sweep import load

    load(path).configs()


def plan_file(rng: random.Random) -> Input:
    """A plan of columns, or nearly."""
    from fgan.data.column_plan import CHOICES

    kinds = [*(f'"{kind}"' for kind in CHOICES), *VALUES]
    lines = "".join(f"{json.dumps(rng.choice(NAMES))} = {rng.choice(kinds)}\n" for _ in range(rng.randrange(5)))
    text = (
        rng.choice(("[columns]\n", "[columns]\n", "[columns]\n", "columns = 1\n", "", "[other]\n", "[columns.a]\n"))
        + lines
    )
    return rng.choice(FILE_NAMES) + ".toml", maybe_damaged(text.encode(), rng, 0.5)


def read_columns(path: Path, rng: random.Random) -> None:
    """Read a plan, choose coordinates of a table by it, and go to them and back."""
    from fgan.config.schema import Data
    from fgan.data.own_samples import of_rows

    rows = np.random.default_rng(rng.randrange(9)).normal(size=(24, 3))
    rows[:, 1] = np.round(rows[:, 1])
    import pandas

    frame = pandas.DataFrame(rows, columns=["a", "b", rng.choice(NAMES)])
    options = _reading(rng)
    data = Data(name="samples", columns=str(path), drop=options["drop"], categorical=options["categorical"])
    made = of_rows(frame, data)
    assert made.coordinates is not None
    assert np.isfinite(made.own_units(np.asarray(made.rows))).all()


# --- names ------------------------------------------------------------------------------------------------------------


def spelled_name(rng: random.Random) -> str:
    """The name of a divergence, or nearly."""
    known = ("kl", "js", "alpha(0.5)", "alpha(1e999)", "alpha(nan)", "js_weighted(0)", "hockey_stick(1.5)", "renyi(2)",
             "renyi(0)", "renyi(1e400)", "Total Variation", "tv", "chi2", "alpha(--1)", "alpha(1.2.3)", "alpha()",
             "all")  # fmt: skip
    text = rng.choice(known)
    return os.fsdecode(maybe_damaged(text.encode(), rng, 0.7)).replace("\0", "")[:5000]


def distribution(rng: random.Random, depth: int = 0) -> str:
    """A distribution in words, or nearly."""
    from estimators.distributions.spelled import NAMES as KNOWN

    def argument() -> str:
        kind = rng.random()
        if kind < 0.6 or depth > 2:
            numbers = (
                "0",
                "1",
                "-1",
                "0.5",
                "2.5",
                "1e400",
                "1e-320",
                "1e30",
                "10",
                "3",
                "1" + "0" * 400,
                "1j",
                "True",
                "None",
            )
            return rng.choice(numbers)
        if kind < 0.85:
            return f"[{', '.join(argument() for _ in range(rng.randrange(4)))}]"
        return distribution(rng, depth + 1)

    keys = ("", "", "", "loc=", "scale=", "rate=", "__class__=", "total_count=", "covariance=", "*", "**")
    inside = ", ".join(rng.choice(keys) + argument() for _ in range(rng.randrange(4)))
    return f"{rng.choice([*KNOWN, 'eval', '__import__'])}({inside})"


def name_file(rng: random.Random) -> Input:
    """The name of a divergence as the content of a file."""
    return "name", os.fsencode(spelled_name(rng))


def read_name(path: Path, rng: random.Random) -> None:
    """Look a divergence up."""
    from estimators.divergences.table import functional

    assert functional(os.fsdecode(path.read_bytes())).name


def distribution_file(rng: random.Random) -> Input:
    """A distribution in words as the content of a file."""
    text = distribution(rng).encode()
    deep = b"(" * rng.choice((100, 10_000)) if rng.random() < 0.02 else b""
    return "distribution", maybe_damaged(deep + text, rng, 0.5)


def read_distribution(path: Path, rng: random.Random) -> None:
    """Make a distribution of words."""
    from estimators.distributions.spelled import spelled

    assert spelled(os.fsdecode(path.read_bytes())).batch_shape is not None


# --- the files of a run -----------------------------------------------------------------------------------------------


@functools.cache
def sound_run() -> Path:
    """A run directory of a little training, without its lock, made once a process; it goes when the process ends."""
    import atexit

    import jax.numpy as jnp
    import pandas

    from fgan.config.schema import Config, Critic, Data, Generator, Log
    from fgan.data.own_samples import of_rows
    from fgan.run.checkpoint import Checkpoints
    from fgan.run.directory import RunDirectory
    from fgan.run.members import Members, fingerprint, write_data
    from fgan.run.program import Program

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {"x": rng.normal(size=60), "n": rng.poisson(2.0, 60), "word": ["red", "blue", "green"] * 20}
    )
    config = Config(
        data=Data(name="samples", path="data in memory"),
        generator=Generator(features=(3,)),
        critic=Critic(features=(3,)),
        batch=8,
        seeds=2,
        steps=1,
        log=Log(every=1, evaluate=1, checkpoint=1),
    )
    program = Program(config, of_rows(frame, config.data))
    members = Members.of(program.config)
    with RunDirectory.open(folder / "run", members.to_toml()) as run:
        write_data(run, program.data)
        run.append({"step": 1, "bound": [0.1, 0.2]})
        run.append({"step": 1, "scores": [{"ks": 0.1}, {"ks": 0.2}]})
        found = Checkpoints(run.checkpoints, fingerprint=fingerprint(run, program.data.fingerprint()))
        found.save(1, program.fresh(jnp.asarray(members.seeds, jnp.uint32)), metrics_bytes=run.size())
        run.status("finished", 1)
        (run.path / "run.lock").write_text('{"pid": 1, "host": "elsewhere", "started": "2020-01-01"}\n')
    return folder / "run"


RUN_FILES = ("config.toml", "data.json", "status.json", "metrics.jsonl", "run.lock")


def run_file(rng: random.Random) -> Input:
    """One of the files of a run, damaged."""
    name = rng.choice(RUN_FILES)
    content = (sound_run() / name).read_bytes() if (sound_run() / name).exists() else b'{"pid": 1, "host": "x"}\n'
    if name != "config.toml" and rng.random() < 0.4:
        content = _json_changed(content, rng)
    deep = rng.random() < 0.03
    return name, b"[" * 100_000 if deep else maybe_damaged(content, rng, 0.6)


def _json_changed(content: bytes, rng: random.Random) -> bytes:
    """JSON with one of its values replaced: the bytes are sound, the facts are not."""
    whole, _ = json.JSONDecoder().raw_decode(content.decode())
    at, key = _place(whole, rng)
    at[key] = rng.choice(
        (None, True, -1, 0, 1e308, 10**30, "", "x", "\x1b[31m", [], [1], [[]], {}, {"kind": "linear"}, [None] * 5)
    )
    return (json.dumps(whole) + "\n").encode()


def _place(whole: Any, rng: random.Random) -> tuple[Any, Any]:
    """(a list or table within JSON, an index or key of it)."""
    at = whole
    while True:
        keys = list(at) if isinstance(at, dict) else range(len(at))
        key = rng.choice(keys)
        inner = at[key]
        if not isinstance(inner, (dict, list)) or not inner or rng.random() < 0.2:
            return at, key
        at = inner


def read_run(path: Path, rng: random.Random) -> None:
    """Open a run of which one file is damaged, and read what `fgan train` and `fgan sample` read of it."""
    from fgan.run import lock
    from fgan.run.directory import RunDirectory
    from fgan.run.members import Members, read_data

    run = path.parent
    for name in RUN_FILES:
        if name != path.name and name != "run.lock":
            shutil.copyfile(sound_run() / name, run / name)
    if path.name == "run.lock":
        lock.release(path, lock.claim(path))
        return
    config = (sound_run() / "config.toml").read_text()
    with RunDirectory.open(run, config) as opened:
        members = Members.from_toml(opened.config_toml)
        assert isinstance(opened.last_status, dict)
        assert all(isinstance(record, dict) for record in opened.records())
    found = RunDirectory.find(run)
    assert found.fingerprint
    data, _ = read_data(found, members.config)
    assert np.isfinite(data.own_units(np.zeros((4, data.dim)))).all()
    assert data.form is not None and len(data.form.cells(data.own_units(np.ones((4, data.dim)))))


def checkpoint_file(rng: random.Random) -> Input:
    """One of the files of a checkpoint, damaged; its name says where it lies, and whether its hash is made anew."""
    root = sound_run() / "checkpoints" / "1"
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    name = rng.choice([*files, "manifest.json"])
    content = (root / name).read_bytes()
    if name == "manifest.json" and rng.random() < 0.5:
        content = _manifest_changed(content, rng)
    else:
        content = damaged(content, rng)
    return f"{rng.choice(('kept', 'signed'))}/{name}", content


def _manifest_changed(content: bytes, rng: random.Random) -> bytes:
    """A manifest with other facts, whose hash is right."""
    from fgan.run.manifest import content_hash

    facts = json.loads(content)["content"]
    at, key = _place(facts, rng)
    at[key] = rng.choice((None, True, -1, 10**30, "x", [], {}, "../../../etc/passwd", 1.5, {"size": 0, "sha256": ""}))
    if rng.random() < 0.3:
        facts["files"] = {
            rng.choice(("/dev/zero", "../manifest.json", "..", "", "\0", "x" * 300)): {"size": 0, "sha256": ""}
        }
    return json.dumps({"sha256": content_hash(facts), "content": facts}).encode()


def read_checkpoint(path: Path, rng: random.Random) -> None:
    """Restore a run's checkpoint of which one file is damaged; if it was signed anew, only orbax can see it."""
    from fgan.run.checkpoint import Checkpoints
    from fgan.run.manifest import content_hash, digests

    work = path
    while work.name != "work":
        work = work.parent
    way, name = path.relative_to(work).as_posix().split("/", 1)
    root = work / "run" / "checkpoints" / "1"
    shutil.copytree(sound_run(), work / "run")
    (root / name).write_bytes(path.read_bytes())
    if way == "signed" and name != "manifest.json":
        facts = json.loads((root / "manifest.json").read_text())["content"] | {"files": digests(root / "state")}
        (root / "manifest.json").write_text(json.dumps({"sha256": content_hash(facts), "content": facts}))
    fingerprint, like, state = sound_state()
    said: list[str] = []
    restored = Checkpoints(root.parent, fingerprint=fingerprint, warn=said.append).restore(like)
    assert all(line.isprintable() for line in said), f"not printable: {said!a}"
    assert restored is not None
    if way == "kept":
        import jax

        same = jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), restored.state, state)
        assert all(jax.tree.leaves(same)), "another state was restored without a word"


@functools.cache
def sound_state() -> tuple[str, Any, Any]:
    """(fingerprint, tree, state) of the checkpoint of `sound_run`."""
    import jax

    from fgan.run.checkpoint import Checkpoints
    from fgan.run.directory import RunDirectory
    from fgan.run.members import Members, fingerprint, read_data
    from fgan.run.program import fresh

    run = RunDirectory.find(sound_run())
    members = Members.from_toml(run.config_toml)
    data, content = read_data(run, members.config)
    like = jax.eval_shape(lambda: fresh(members.config, data, np.asarray(members.seeds, np.uint32)))
    restored = Checkpoints(run.path / "checkpoints", fingerprint=fingerprint(run, content)).restore(like)
    assert restored is not None
    return fingerprint(run, content), like, restored.state


# --- the targets ------------------------------------------------------------------------------------------------------


def _data_errors() -> tuple[type[Exception], ...]:
    from estimators.samples.arrays import DataError

    return (DataError,)


def _config_errors() -> tuple[type[Exception], ...]:
    from estimators.divergences.table import UnknownDivergence
    from fgan.config.fields import ConfigError

    return ConfigError, UnknownDivergence, *_data_errors()


def _name_errors() -> tuple[type[Exception], ...]:
    from estimators.divergences.table import UnknownDivergence

    return (UnknownDivergence,)


def _run_errors() -> tuple[type[Exception], ...]:
    from fgan.run.checkpoint import CheckpointError
    from fgan.run.directory import ConfigConflict, ResourceError
    from fgan.run.lock import RunLocked

    return CheckpointError, ConfigConflict, ResourceError, RunLocked, *_config_errors()


TARGETS = {
    "samples": Target(51, sample_file, read_samples, _data_errors),
    "labels": Target(4, sample_file, read_labels, _data_errors),
    "estimate": Target(5, sample_file, command_line, tuple),
    "config": Target(9, config_file, read_config, _config_errors),
    "sweep": Target(5, sweep_file, read_sweep, _config_errors),
    "column plan": Target(5, plan_file, read_columns, _config_errors),
    "divergence": Target(5, name_file, read_name, _name_errors),
    "distribution": Target(6, distribution_file, read_distribution, lambda: (ValueError,)),
    "run": Target(6, run_file, read_run, _run_errors),
    "checkpoint": Target(4, checkpoint_file, read_checkpoint, _run_errors),
}
"""What is tried, with its share of the cases in percent."""


@functools.cache
def warmed(name: str) -> None:
    """Import what a target imports when it is first used, and cache what it caches, which are no doing of a case."""
    import jax

    from estimators import distributions

    jax.devices()
    _ = [getattr(distributions, each) for each in distributions.__all__]
    for i in range(3):
        rng = random.Random(f"warm {i}")
        file, content = TARGETS[name].make(rng)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Exception, AssertionError):
            path = Path(folder) / "work" / file
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            TARGETS[name].read(path, rng)

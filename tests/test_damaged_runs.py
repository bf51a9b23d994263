"""A damaged file of a run is mended or refused in one line with the remedy; no run begins again in silence."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from commands_for_tests import TINY, Command, Said, command

from fgan.config.toml import load
from fgan.run import compile_cache, loop, sweep
from fgan.run.json_files import read_signed, signed
from fgan.run.loop import train
from fgan.run.members import restore
from fgan.run.program import Program

ROOT = Path(__file__).resolve().parent.parent
GRID = 'config = "tiny.toml"\n[grid]\n"critic_optimizer.learning_rate" = [1e-3, 2e-3]\n'
N = 20


@pytest.fixture
def fgan(capsys, undrawn, one_program) -> Command:
    """The command line in this process."""
    return command(capsys)


@pytest.fixture(scope="module")
def one_program():
    """Every run here is one of the same program, which is made once."""
    made: dict = {}

    def shared(config, data):
        return copy.copy(made.get(config.steps) or made.setdefault(config.steps, Program(config, data)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Program", shared)
        patch.setattr(sweep, "Program", shared)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, undrawn, one_program) -> Path:
    """A folder with a finished run and a finished sweep; not to be changed."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.toml").write_text(TINY)
    (folder / "grid.toml").write_text(GRID)
    train(load(folder / "tiny.toml"), folder / "run", quiet=True)
    sweep.sweep(sweep.load(folder / "grid.toml"), folder / "sweep", quiet=True)
    (folder / "run" / "run.lock").write_text(json.dumps({"pid": 2**22 - 1, "host": "h"}))
    return folder


@pytest.fixture(scope="module")
def drawn(home) -> np.ndarray:
    """What the run draws."""
    return restore(home / "run").sample(N)


@pytest.fixture
def run(home, tmp_path) -> Path:
    """A copy of the run, whose lock nobody holds."""
    made = shutil.copytree(home / "run", tmp_path / "run")
    (made / "run.lock").write_text("")
    return made


@pytest.fixture
def swept(home, tmp_path) -> Path:
    """A copy of the sweep."""
    return shutil.copytree(home / "sweep", tmp_path / "sweep")


def assert_refused(said: Said, code: int, *parts: str) -> None:
    """One line on stderr, which holds `parts`, nothing on stdout, and the code."""
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert said.err.startswith("fgan: ") and [part for part in parts if part not in said.err] == [], said.err


# --- every file, damaged in every way ---------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "not UTF-8": lambda content: b"\xff\xfe" + content[2:],
    "not JSON": lambda content: b"\n".join(b"x" * len(line) for line in content.split(b"\n")),
    "of a wrong type": lambda content: b"[1, 2]\n",
    "a line of another type": lambda content: b"\n".join(b"3".rjust(len(x)) if x else x for x in content.split(b"\n")),
    "too deep": lambda content: b"[" * 100_000 + b"\n",
}
FILES = ("config.toml", "data.json", "status.json", "metrics.jsonl", "timings.jsonl", "run.lock")
QUICK = {  # of the many, those that found most
    ("config.toml", "not UTF-8"), ("config.toml", "truncated"), ("config.toml", "a directory"),
    ("data.json", "empty"), ("data.json", "of a wrong type"), ("data.json", "a directory"),
    ("status.json", "empty"), ("status.json", "too deep"),
    ("metrics.jsonl", "a line of another type"), ("metrics.jsonl", "not UTF-8"), ("metrics.jsonl", "a directory"),
    ("run.lock", "not JSON"), ("run.lock", "a directory"), ("timings.jsonl", "a directory"), ("data.json", "gone"),
}  # fmt: skip
CASES = [
    pytest.param(file, how, id=f"{file}, {how}", marks=[] if (file, how) in QUICK else [pytest.mark.slow])
    for file in FILES
    for how in (*DAMAGE, "a directory", "gone")
]
REFUSED = {  # what `train` refuses, with the code and a part of the remedy; all else it mends
    "config.toml": (2, "--run"),
    "metrics.jsonl": (5, "--overwrite"),
}


def damage(path: Path, how: str) -> None:
    """Damage a file."""
    content = path.read_bytes() if path.exists() else b""
    path.unlink(missing_ok=True)
    if how == "a directory":
        path.mkdir()
    elif how != "gone":
        path.write_bytes(DAMAGE[how](content))


def steps(run: Path) -> dict[str, bytes]:
    """The manifests of a run's checkpoints."""
    return {path.parent.name: path.read_bytes() for path in (run / "checkpoints").glob("*/manifest.json")}


@pytest.mark.parametrize("file, how", CASES)
def test_training_mends_or_refuses(fgan, home, run, drawn, file, how):
    kept = steps(run)
    damage(run / file, how)
    said = fgan("train", home / "tiny.toml", "--run", run, "--quiet")
    if how == "a directory" and file != "config.toml":
        assert_refused(said, 5, file, "directory", "move it away")
    elif file in REFUSED:
        code, remedy = REFUSED[file]
        assert_refused(said, code, str(run), remedy)
    else:
        assert said.code == 0, said
        np.testing.assert_array_equal(restore(run).sample(N), drawn)
        assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert steps(run) == kept


@pytest.mark.parametrize("file, how", CASES)
def test_sampling_refuses_what_it_needs_and_heeds_nothing_else(fgan, run, tmp_path, drawn, file, how):
    damage(run / file, how)
    said = fgan("sample", run, "-n", N, "--out", tmp_path / "x.npy")
    if file == "config.toml" or file == "data.json":
        assert_refused(said, 5, str(run), "fgan train" if file == "data.json" or how in ("a directory", "gone") else "")
        assert not (tmp_path / "x.npy").exists()
    else:
        assert said.code == 0, said
        np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), drawn)


def test_a_flipped_digit_of_the_units_is_found(fgan, run, tmp_path):
    """A wrong scale would draw wrong samples in silence."""
    facts = json.loads((run / "data.json").read_text())
    facts["scale"][0] *= 2.0
    (run / "data.json").write_text(json.dumps(facts))
    assert_refused(fgan("sample", run, "--out", tmp_path / "x.npy"), 5, "data.json", "its own hash", "fgan train")


def test_a_flipped_digit_of_the_metrics_is_found(fgan, home, run):
    """It is sound JSON, and what a resumed run would show."""
    path = run / "metrics.jsonl"
    kept = path.read_bytes()
    digit = next(i for i in range(20, len(kept)) if kept[i : i + 1] == b".") + 1
    path.write_bytes(kept[:digit] + str((int(kept[digit : digit + 1]) + 1) % 10).encode() + kept[digit + 1 :])
    assert_refused(
        fgan("train", home / "tiny.toml", "--run", run, "--quiet"), 5, "metrics.jsonl", "SHA-256", "--overwrite"
    )
    said = fgan("checkpoint", "verify", run)
    assert said.code == 5 and said.out.count("another SHA-256") >= 1


def test_what_is_signed_is_read_again(tmp_path):
    content = {"levels": {10: ("a", "b"), 2: ("c",)}, "offset": [0.1, float("inf")]}
    (tmp_path / "x.json").write_text(json.dumps(signed(content)))
    found = read_signed(tmp_path / "x.json", "")
    assert found == {"levels": {"10": ["a", "b"], "2": ["c"]}, "offset": [0.1, float("inf")]}


# --- no silent restart ------------------------------------------------------------------------------------------------

STATUS = [
    '{"state": "finished", "step": 20}',
    '{"state": "preempted", "step": 15}',
    '{"state": "running", "step": 10}',
    '{"state": "failed", "step": 10}',
    "",
    "[]",
    '{"state": "done", "step": 20}',
    '{"state": "running", "step": "x"}',
]


@pytest.mark.parametrize("status", STATUS)
def test_a_run_that_lost_its_checkpoints_does_not_begin_again(fgan, home, run, status):
    shutil.rmtree(run / "checkpoints")
    (run / "status.json").write_text(status)
    kept = (run / "metrics.jsonl").read_bytes()
    said = fgan("train", home / "tiny.toml", "--run", run, "--quiet")
    assert_refused(said, 5, str(run), "no checkpoint", "--overwrite")
    assert (run / "metrics.jsonl").read_bytes() == kept


def test_a_run_that_had_saved_nothing_begins_again(fgan, home, run, drawn):
    shutil.rmtree(run / "checkpoints")
    (run / "timings.jsonl").write_text("")  # which has a line for each save
    (run / "status.json").write_text('{"state": "running", "step": 5}')
    assert fgan("train", home / "tiny.toml", "--run", run, "--quiet").code == 0
    np.testing.assert_array_equal(restore(run).sample(N), drawn)


# --- sweeps -----------------------------------------------------------------------------------------------------------


def table(sweep_directory: Path) -> str:
    return (sweep_directory / "results.csv").read_text()


@pytest.mark.parametrize(
    "file, how, code, part",
    [
        ("results.jsonl", "empty", 0, ""),
        ("results.jsonl", "gone", 0, ""),
        ("results.jsonl", "truncated", 0, ""),
        ("results.jsonl", "not JSON", 5, "delete it"),
        ("results.jsonl", "not UTF-8", 5, "delete it"),
        ("results.jsonl", "of a wrong type", 5, "delete it"),
        ("results.jsonl", "a directory", 5, "move it away"),
        ("results.csv", "not UTF-8", 0, ""),
        ("results.csv", "a directory", 5, "move it away"),
        ("status.json", "empty", 0, ""),
        ("config.toml", "not UTF-8", 2, "config.toml"),
        ("config.toml", "empty", 2, "unset"),
    ],
)
def test_a_damaged_sweep_is_mended_from_its_parts_or_refused(fgan, home, swept, file, how, code, part):
    before = table(swept)
    damage(swept / file, how)
    said = fgan("sweep", home / "grid.toml", "--run", swept, "--quiet")
    if code:
        return assert_refused(said, code, str(swept), part)
    assert said.code == 0 and table(swept) == before


@pytest.mark.parametrize(
    "line",
    [
        "3",
        "{}",
        '{"part": 3, "rows": []}',
        '{"part": "000-000", "rows": [3]}',
        '{"part": "a", "rows": [{}]}',
        '{"part": "a", "rows": [{"line": [0], "part": "a", "member": 0, "state": "finished", "step": 1}]}',
        '{"part": "a", "rows": [{"line": 0, "part": 7, "member": 0, "state": "finished", "step": 1}]}',
    ],
)
def test_lines_of_results_that_are_none_are_refused(fgan, home, swept, tmp_path, line):
    (swept / "results.jsonl").write_text(line + "\n")
    for words in (("sweep", home / "grid.toml", "--run", swept), ("sample", swept, "--out", tmp_path / "x.npy")):
        assert_refused(fgan(*words), 5, "results.jsonl:1", "fgan sweep")


def test_a_sweep_on_other_data_names_the_file(fgan, home, tmp_path, swept):
    text = (swept / "config.toml").read_text()
    was = json.loads(text.partition("data_fingerprints = ")[2].partition("\n")[0])[0]
    (swept / "config.toml").write_text(text.replace(was, "0" * 64))
    assert_refused(fgan("sweep", home / "grid.toml", "--run", swept), 2, "other data", "ring", "0" * 12, "--run")


def test_a_line_of_a_sweep_that_has_not_ended_says_so(fgan, swept, tmp_path):
    (swept / "results.jsonl").write_text("")
    assert_refused(fgan("sample", swept, "--out", tmp_path / "x.npy"), 2, "member 0", "fgan sweep")


# --- what surrounds a run ---------------------------------------------------------------------------------------------


def spawn(*words, **variables: str) -> subprocess.CompletedProcess:
    """`python -m fgan` in a process of its own."""
    command = [sys.executable, "-m", "fgan", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, errors="replace", check=False
    )


@pytest.mark.parametrize(
    "name, value",
    [
        ("JAX_ENABLE_X64", "maybe"),
        ("XLA_FLAGS", "--nonsense"),
        *(
            pytest.param(name, value, marks=pytest.mark.slow)
            for name, value in (
                ("JAX_NUM_CPU_DEVICES", "many"),
                ("JAX_DEFAULT_MATMUL_PRECISION", "bogus"),
                ("JAX_LOGGING_LEVEL", "bogus"),
                ("JAX_COMPILATION_CACHE_MAX_SIZE", "big"),
                ("JAX_PLATFORMS", ","),
                ("JAX_PLATFORMS", "gpx"),
                ("XLA_FLAGS", "nonsense"),
                ("XLA_FLAGS", "--xla_force_host_platform_device_count=x"),
            )
        ),
    ],
)
def test_a_variable_that_jax_cannot_read_exits_2(name, value):
    done = spawn("divergences", "kl", **{name: value})
    assert_refused(Said(done.returncode, done.stdout, done.stderr), 2, f"{name}={value}", "unset it")


def test_a_cache_folder_that_is_a_file_is_named_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(compile_cache, "_repair", lambda kept: None)
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file"))
        assert compile_cache.keep() is None and jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert (
        capsys.readouterr().err
        == f"fgan: JAX_COMPILATION_CACHE_DIR={tmp_path / 'file'}: File exists; no program is kept\n"
    )


COMPILE = """
import jax, jax.numpy as jnp
from fgan.run import compile_cache
compile_cache.WORTH_KEEPING = 0.0
print(compile_cache.keep())
for n in (2, 3):
    print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((n, n)))[0, 0])
"""


@pytest.mark.slow
def test_damaged_programs_of_the_cache_are_replaced_with_one_line(tmp_path):
    variables = {"XDG_CACHE_HOME": str(tmp_path), "FGAN_COMPILE_CACHE": "on"}
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    said, sizes = [], {}
    for attempt in range(3):
        command = [sys.executable, "-c", COMPILE]
        done = subprocess.run(command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=True)
        said.append((done.stdout, done.stderr))
        entries = sorted(Path(done.stdout.splitlines()[0]).glob("*-cache"))
        sizes = sizes or {entry.name: entry.stat().st_size for entry in entries}
        assert len(sizes) >= 2 and {entry.name for entry in entries} == sizes.keys()
        assert all(entry.stat().st_size > 0.9 * sizes[entry.name] for entry in entries)
        for i, entry in enumerate(entries if attempt == 0 else ()):
            content = entry.read_bytes()
            entry.write_bytes(content[: len(content) // 2] if i % 2 else b"")
    assert {out for out, _ in said} == {said[0][0]}
    assert [err.count("\n") for _, err in said] == [0, 1, 0] and "damaged program" in said[1][1]

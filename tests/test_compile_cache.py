"""Compiled programs are kept where the user's caches lie, only for the command line, and never at the cost of a run."""

import os
import re
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import pytest

from fgan.run import compile_cache

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size", "jax_persistent_cache_min_compile_time_secs")
COMPILE = """
import jax, jax.numpy as jnp, sys
from fgan.run import compile_cache
compile_cache.WORTH_KEEPING = 0.0
print(compile_cache.keep())
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0])
"""
COUNT_HITS = """
import jax, jax.monitoring
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
"""


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """A cache home of the test's own, and jax's settings as they were afterwards."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.delenv(compile_cache.SWITCH, raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def run(program: str, home: Path, **variables: str) -> list[str]:
    """The lines that a process of its own prints."""
    kept = {k: v for k, v in os.environ.items() if k not in (compile_cache.SWITCH, "JAX_COMPILATION_CACHE_DIR")}
    environment = kept | {"XDG_CACHE_HOME": str(home)} | variables
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "cache entry" not in done.stderr  # of which jax warns where it cannot read or write one
    return done.stdout.splitlines()


def test_a_second_process_reads_what_the_first_compiled(tmp_path):
    place, value = run(COMPILE, tmp_path)
    assert Path(place).is_relative_to(tmp_path / "fgan" / "xla")
    written = {p.name: p.stat().st_mtime_ns for p in Path(place).glob("*-cache")}
    assert written
    *same, hits = run(COUNT_HITS + COMPILE + "print(hits)", tmp_path)
    assert same == [place, value] and hits.count("cache_hits") == len(written)
    assert {p.name: p.stat().st_mtime_ns for p in Path(place).glob("*-cache")} == written


@pytest.mark.slow
def test_the_users_own_folder_comes_first(tmp_path):
    own = tmp_path / "own"
    assert run(COMPILE, tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(own))[0] == str(own)
    assert not (tmp_path / "home").exists()


def test_a_bucket_is_no_folder_of_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", "gs://bucket/programs")
        assert compile_cache.keep() is None and jax.config.jax_compilation_cache_dir == "gs://bucket/programs"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert list(tmp_path.iterdir()) == []


def test_an_entry_that_cannot_be_removed_ends_no_compilation(tmp_path, monkeypatch, capsys):
    (tmp_path / "jit_f-1-cache").touch()

    def refuse(entry):
        raise PermissionError(13, "Permission denied", str(entry))

    monkeypatch.setattr(warnings, "showwarning", lambda *_, **__: pytest.fail("it is ours"))
    monkeypatch.setattr(compile_cache, "_remove", refuse)
    compile_cache._repair(tmp_path)
    warnings.showwarning("Error reading persistent compilation cache entry for 'jit_f-1': cut", UserWarning, "f", 1)
    assert "compiled anew (cut)" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["off", "OFF", "0", "no"])
def test_it_can_be_switched_off(monkeypatch, tmp_path, word):
    monkeypatch.setenv(compile_cache.SWITCH, word)
    assert compile_cache.keep() is None and jax.config.jax_compilation_cache_dir is None
    assert not (tmp_path / "caches").exists()


def test_a_folder_that_cannot_be_made_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "caches").write_text("a file in the way")
    assert compile_cache.keep() is None and jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # file modes do not stop root, who may run the tests
    assert compile_cache.keep() is None and jax.config.jax_compilation_cache_dir is None


def test_no_home_is_no_error(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/do/not/count")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert compile_cache.keep() is None


def test_its_size_is_limited_and_small_programs_are_left_out():
    assert compile_cache.keep() == compile_cache.folder()
    assert jax.config.jax_compilation_cache_max_size == compile_cache.LIMIT > 0
    assert jax.config.jax_persistent_cache_min_compile_time_secs == compile_cache.WORTH_KEEPING


def test_what_a_killed_process_left_half_written_goes():
    place = compile_cache.folder()
    place.mkdir(parents=True)
    long_ago = time.time() - 2 * compile_cache.ABANDONED
    for name in ("whole-cache", "whole-atime", "old-cache", "young-cache"):
        (place / name).write_bytes(b"")
        if name != "young-cache":
            os.utime(place / name, (long_ago, long_ago))
    compile_cache.keep()
    assert {p.name for p in place.iterdir()} == {"whole-cache", "whole-atime", "young-cache"}


def test_another_processor_has_another_folder(monkeypatch):
    here = compile_cache.folder()
    monkeypatch.setattr(compile_cache, "_processor", lambda: "another")
    assert here.parent == compile_cache.folder().parent and here != compile_cache.folder()


@pytest.mark.slow
def test_commands_that_compute_keep_their_programs_and_importing_changes_no_setting(tmp_path):
    imports = "import jax, fgan, estimators, fgan.cli.main, fgan.cli.command, fgan.models.gan"
    show = "print(jax.config.jax_compilation_cache_dir)"
    before, after = run(f"{imports}; {show}; fgan.cli.command.require_device(); {show}", tmp_path)
    assert before == "None" and re.fullmatch(re.escape(str(tmp_path / "fgan" / "xla")) + r"/[\w-]+", after)

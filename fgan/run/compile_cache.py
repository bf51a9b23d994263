"""Compiled programs kept between starts of the command line, in the user's cache folder.

A training compiles for seconds before its first step; a program that was kept is loaded in a fraction of one. They
lie in `$XDG_CACHE_HOME/fgan/xla` (`~/.cache/fgan/xla`), a folder for each processor, since a home may be shared by
machines that do not understand each other's code. `JAX_COMPILATION_CACHE_DIR` names another folder,
`FGAN_COMPILE_CACHE=off` keeps nothing. Only the command line calls `keep`: importing a package changes no setting of
JAX.
"""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from fgan.config.cache_home import cache_home

SWITCH = "FGAN_COMPILE_CACHE"
LIMIT = 1 << 30  # bytes; what was unused for longest goes first
WORTH_KEEPING = 0.1  # seconds that a program took to compile
ABANDONED = 60.0  # seconds after which a half-written entry is nobody's


def keep() -> Path | None:
    """Keep what this process compiles from now on, and load what was kept before; the folder, or None without one.

    A folder that cannot be written to, or has no room left, is no error: programs are then compiled at every start.
    """
    import jax

    if (before := jax.config.values["jax_compilation_cache_dir"]) is not None:
        return None if "://" in str(before) else _named(Path(before))  # a bucket is JAX's own business
    if os.environ.get(SWITCH, "on").lower() in ("off", "0", "false", "no"):
        return None
    try:
        kept = folder()
        kept.mkdir(parents=True, exist_ok=True)
        if not os.access(kept, os.W_OK | os.X_OK):
            return None
        _tidy(kept)
    except (OSError, RuntimeError):  # no home, a file in the way, a full disk
        return None
    _repair(kept)
    jax.config.update("jax_compilation_cache_dir", str(kept))
    jax.config.update("jax_compilation_cache_max_size", LIMIT)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    return kept


def _named(kept: Path) -> Path | None:
    """The folder that the user names, or None where that is none and can be made none."""
    import jax

    try:
        if not kept.is_dir():
            kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        jax.config.update("jax_compilation_cache_dir", None)
        print(f"fgan: JAX_COMPILATION_CACHE_DIR={kept}: {error.strerror}; no program is kept", file=sys.stderr)
        return None
    _repair(kept)
    return kept


CANNOT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '([^']*)'")
"""How JAX begins to warn of an entry of its cache. One that it cannot read it compiles anew, but never writes over."""


def _repair(kept: Path) -> None:
    """From now on remove entries of `kept` that JAX cannot read, which it does before it writes what it compiles."""
    show, said = warnings.showwarning, set[str]()

    def repair(message: Any, *rest: Any, **options: Any) -> None:
        if not (found := CANNOT.match(str(message))):
            return show(message, *rest, **options)
        doing, name = found.groups()
        if doing == "writing":  # a full disk: it is compiled again at the next start
            return None
        with contextlib.suppress(OSError):  # of a folder that others write; what is raised here would end the compile
            for entry in kept.iterdir():
                if entry.name.startswith(f"{name}-"):
                    _remove(entry)
        if not said:
            why = str(message).partition(": ")[2]
            print(f"fgan: {kept}: a damaged program is compiled anew ({why})", file=sys.stderr)
        said.add(name)

    warnings.showwarning = repair


def _remove(entry: Path) -> None:
    """Remove an entry, or a folder in its place."""
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def folder() -> Path:
    """Where programs for this processor are kept. Raises RuntimeError where there is no home."""
    return cache_home() / "xla" / f"{platform.machine()}-{hashlib.sha256(_processor().encode()).hexdigest()[:12]}"


def _processor() -> str:
    """The processor's name and the instructions it knows, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return platform.processor()
    facts = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(facts)}))


def _tidy(kept: Path) -> None:
    """Remove entries that a killed process left without the time of their use, without which JAX evicts none."""
    for entry in kept.glob("*-cache"):
        unused = not entry.with_name(entry.name.removesuffix("-cache") + "-atime").exists()
        if unused and time.time() - entry.stat().st_mtime > ABANDONED:
            entry.unlink(missing_ok=True)

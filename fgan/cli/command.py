"""What every command shares: the option --debug, an environment that JAX can read, and a device that answers."""

import functools
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimators.characters import printable
from fgan.config.fields import ConfigError


@dataclass(frozen=True, kw_only=True)
class Base:
    """The options of every command."""

    debug: bool = False
    """Show the traceback of an error."""


def complain(line: str) -> None:
    """A line on stderr about what has failed without ending the command."""
    print(f"fgan: {printable(line)}", file=sys.stderr)


def show(line: object = "") -> None:
    """Print a line on standard output, with what could steer a terminal escaped: names in it may come from files."""
    print(printable(str(line)))


def reported(directory: str | Path) -> Path | None:
    """The report of a run, a sweep or an experiment, just written; None where that fails, with a line on why."""
    from estimators.plot_style import attempted
    from fgan.run import report

    with attempted(complain):
        return report.write(directory)
    return None


def show_json(record: Mapping[str, Any]) -> None:
    """Print a record as JSON on one line, in ASCII without control characters."""
    print(json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f"))


@contextmanager
def readable_environment() -> Iterator[None]:
    """Turn a variable that keeps JAX from being imported, such as JAX_ENABLE_X64=maybe, into a ConfigError."""
    try:
        yield
    except ValueError as error:
        if "jax" in sys.modules or "jax._src" not in sys.modules:  # which its failed import leaves
            raise
        named = [name for name in os.environ if name.startswith("JAX_") and name.lower() in str(error).lower()]
        what = f"{named[0]}={os.environ[named[0]]}" if named else "a variable JAX_…"
        raise ConfigError(f"{what}: {error}; correct it, or unset it") from error


@functools.cache
def _xla_reads(flags: str) -> bool:
    """Whether XLA can read the XLA_FLAGS. It ends the process that holds others, so that a child tries."""
    from jaxlib import xla_client

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not need
        child = os.fork()
    if not child:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            xla_client.CompileOptions()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def require_device() -> None:
    """Start JAX, with its compiled programs kept. Raises ConfigError where the requested device is missing."""
    import jax

    from fgan.run import compile_cache

    if (flags := os.environ.get("XLA_FLAGS", "")) and not _xla_reads(flags):
        raise ConfigError(f"XLA_FLAGS={flags}: XLA has no such flags, or not these values; correct it, or unset it")
    compile_cache.keep()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts where a platform it knows has no plugin
        requested = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition(" (set")[0] or "its plugin is not installed"
        raise ConfigError(f"JAX_PLATFORMS={requested}: no such device here; unset it ({reason})") from None

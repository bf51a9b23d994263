"""What every command shares: the option --debug, and a device that answers."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
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


def show_json(record: Mapping[str, Any]) -> None:
    """Print a record as JSON on one line, in ASCII without control characters."""
    print(json.dumps(record, allow_nan=False).replace("\x7f", "\\u007f"))


def require_device() -> None:
    """Start JAX, with its compiled programs kept. Raises ConfigError where the requested device is missing."""
    import jax

    from fgan.run import compile_cache

    compile_cache.keep()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts where a platform it knows has no plugin
        requested = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition(" (set")[0] or "its plugin is not installed"
        raise ConfigError(f"JAX_PLATFORMS={requested}: no such device here; unset it ({reason})") from None

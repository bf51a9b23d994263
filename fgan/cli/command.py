"""What every command shares: the option --debug, and a device that answers."""

import os
import sys
from dataclasses import dataclass

from fgan.config.fields import ConfigError


@dataclass(frozen=True, kw_only=True)
class Base:
    """The options of every command."""

    debug: bool = False
    """Show the traceback of an error."""


def complain(line: str) -> None:
    """A line on stderr about what has failed without ending the command."""
    print(f"fgan: {line}", file=sys.stderr)


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

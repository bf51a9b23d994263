"""The folder in which this program keeps what can be made again."""

import os
from pathlib import Path


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/fgan`, or `~/.cache/fgan`. Raises RuntimeError where there is no home."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return home / "fgan"

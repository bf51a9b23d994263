"""How a setting is refused: the exception, and the remedy for a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

RENAMED = {
    "critic.reach": "critic.output_bound",
    "critic.leash": "critic.out_of_bound_penalty",
    "spread": "instance_noise",
    "covering": "kl_gradient",
}
"""Old name → new name of a field, of a table of fields, or of a choice."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one line with the remedy."""


def nearest(name: str, choices: Iterable[str], otherwise: str = "") -> str:
    """The remedy for an unknown `name`: its new name or the closest choice, else `otherwise`, else all choices."""
    choices = list(choices)
    if (new := _renamed(name)) in choices:
        return f"it is now called {new}"
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else otherwise or f"choose from {', '.join(choices)}"


def _renamed(name: str) -> str | None:
    """The new name of a field such as spread.start, or of an option such as --spread.start."""
    dashes, field = ("--", name[2:]) if name.startswith("--") else ("", name)
    table, dot, rest = field.partition(".")
    if field in RENAMED:
        return dashes + RENAMED[field]
    return f"{dashes}{RENAMED[table]}{dot}{rest}" if table in RENAMED else None

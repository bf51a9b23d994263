"""Divergences that are functions of the user's own Python file: `--divergence mine.py:f`.

The file is run. It is named on the command line alone: in a config, a sweep or a run
the same words are an unknown divergence, so that nobody else's file makes a command run code.
"""

import re
import runpy
from pathlib import Path
from typing import Any

from fgan.config.fields import ConfigError

FLAGS = ("--divergence", "--critic.divergence")


def in_options(words: list[str]) -> list[str]:
    """`words` with names in place of such functions after the options for divergences."""
    found = []
    for before, word in zip(["", *words], words):
        flag, equals, value = word.partition("=")
        if before in FLAGS:
            found.append(known(word))
        else:
            found.append(f"{flag}={known(value)}" if equals and flag in FLAGS else word)
    return found


def known(word: str) -> str:
    """The name by which this process knows the function FILE.py:FUNCTION from now on; any other word as it is.

    The function is the generator f of u = p/q, written with jax.numpy, or an FDivergence.

    Raises:
        ConfigError: there is no such file or function, running either fails, or f is no generator.
    """
    parts = re.fullmatch(r"(.+\.py):(\w+)", word)
    if parts is None:
        return word
    path, name = Path(parts[1]).expanduser(), parts[2]
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file; {word} means the function {name} in it")
    made = _run(path).get(name)
    if made is None:
        raise ConfigError(f"{path} defines no {name}; write def {name}(u): return ...")
    from estimators.divergences.generator import FDivergence, from_generator
    from estimators.divergences.table import known_as

    try:
        d = made if isinstance(made, FDivergence) else from_generator(f"{path.stem}.{name}", made, smooth=None)
        return known_as(d)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    except Exception as error:
        raise ConfigError(f"{word} fails: {_first(error)}; write it with jax.numpy, for arrays u") from error


def _run(path: Path) -> dict[str, Any]:
    """What the file defines."""
    try:
        return runpy.run_path(str(path))
    except SyntaxError as error:
        raise ConfigError(f"{path}:{error.lineno}: {error.msg}") from None
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path} fails: {_first(error)}") from error


def _first(error: BaseException) -> str:
    """An error in a line."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__

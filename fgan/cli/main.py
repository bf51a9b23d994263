"""The command line: parses the words into a command, runs it, and turns what it raises into an exit code.

jax is imported only once a command runs, so that help is instant. Every refusal is one line on stderr and an exit code:
2 usage or config, 3 data, 4 diverged, 5 checkpoint or run not found, 6 run locked, 7 resources, 128 + n stopped by
signal n. `--debug` shows the traceback instead. A reader of the output that leaves, such as head, ends no command and
changes no exit code (`fgan.cli.streams`).
"""

import contextlib
import dataclasses
import gc
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro

from estimators.characters import printable
from estimators.rooms import Room
from fgan.cli import own_code
from fgan.cli.command import readable_environment
from fgan.config import schema, toml
from fgan.config.exit_codes import exit_code
from fgan.config.fields import ConfigError, nearest
from fgan.devices import processes

COMMANDS = Room("fgan.cli", "COMMANDS", "Command")
"""Every command by name; each is a file of this room."""
NEGATIVE = r"-[^-].*\(.*\bu\b"  # a formula such as -log(u), which would be taken for an option
ABOUT = "f-divergences: train GANs under them, estimate them from samples, see how they cover or seek modes."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with its code."""
    gc.set_threshold(50_000)  # imports and tracing make objects that stay: visiting them took a tenth of a start
    os.environ["MPLBACKEND"] = "agg"  # pictures go into files, whatever backend is there, or is named and is not
    words = list(sys.argv[1:] if arguments is None else arguments)
    code = 1
    try:
        code = _guarded(lambda: _run(words), "--debug" in words)
    finally:
        if code:
            processes.leave(code)
    sys.exit(code)


def _run(words: list[str]) -> None:
    command: Callable[[], object] = object
    with readable_environment():
        with contextlib.suppress(SystemExit):  # help was shown
            command = _parse(words)
        command()
    if sys.stdout is not None:
        sys.stdout.flush()


def _parse(words: list[str]) -> Callable[[], None]:
    """The command with its settings; ConfigError, one line, for words that mean nothing."""
    if not words or words[0] in ("-h", "--help"):
        commands = [
            Annotated[COMMANDS[name], tyro.conf.subcommand(name, description=line)]
            for name, line in COMMANDS.about.items()
        ]
        any_command: Any = Union[tuple(commands)]  # noqa: UP007
        return tyro.cli(any_command, args=["--help"], prog="fgan", description=ABOUT)
    name, words = words[0], [f"({word})" if re.match(NEGATIVE, word) else word for word in words[1:]]
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}: {nearest(name, COMMANDS)}")
    command = COMMANDS[name]
    if not _takes_config(command) or words[:1] in ([], ["-h"], ["--help"]):
        return _filled(name, command, words)
    words = own_code.in_options(words)
    file = words[0] if not words[0].startswith("-") else _filled(name, command, words).file
    return _filled(name, command, words, default=command(file=file, settings=toml.load(file)))


def _takes_config(command: Any) -> bool:
    """Whether the command takes a config file, and any of its fields as an option."""
    return any(f.name == "settings" for f in dataclasses.fields(command))


def _filled(name: str, command: Any, words: list[str], **options: Any) -> Any:
    """The command called `name` with the settings in `words`."""
    shown = io.StringIO()
    options |= {"prog": f"fgan {name}", "description": COMMANDS.about[name]}
    try:
        with contextlib.redirect_stderr(shown):
            made, unknown = tyro.cli(command, args=words, return_unknown_args=True, **options)
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise ConfigError(_first_complaint(shown.getvalue())) from None
    if unknown:
        flags = [f"--{n}" for n in schema.names()] if _takes_config(command) else []
        flags += [f"--{f.name}" for f in dataclasses.fields(command)]
        option = unknown[0].partition("=")[0]
        raise ConfigError(f"unknown option {option!r}: {nearest(option, flags, otherwise='see --help')}")
    return made


def _first_complaint(text: str) -> str:
    """tyro's framed message as one line."""
    words = " ".join(line.strip(" │╭╮╰╯─") for line in text.splitlines())
    words = " ".join(words.split()).removeprefix("Parsing error").removeprefix("Value error").strip()
    return re.split(" For full helptext| Argument helptext", words)[0] or "the arguments cannot be read; see --help"


def _guarded(action: Callable[[], None], debug: bool) -> int:
    """Run `action`; the exit code, after one line on stderr if it failed in a way that has one."""
    try:
        action()
        return 0
    except KeyboardInterrupt:
        print("fgan: interrupted", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        code = exit_code(error)
        if code is None:
            raise
        if debug:
            traceback.print_exc()
        elif text := str(error) or "out of memory" * isinstance(error, MemoryError):  # a child has printed it itself
            print(f"fgan: {_one_line(text)}", file=sys.stderr)
        _drop_output()
        return code


def _drop_output() -> None:
    """Let what stdout still holds go nowhere, if it can go nowhere else, so that Python does not complain at exit."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(text: str) -> str:
    """`text` without line ends, and without characters that could steer a terminal."""
    return printable(" ".join(text.split()))

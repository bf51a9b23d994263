"""The command line: `fgan estimate | train | sweep | sample | reproduce | compile-check | divergences`.

Each command is a dataclass that tyro fills; jax is imported only once a command runs, so that help is instant. Every
refusal is one line on stderr and an exit code: 2 usage or config, 3 data, 4 diverged, 5 checkpoint or run not found,
6 run locked, 7 resources, 128 + n stopped by signal n. `--debug` shows the traceback instead.

Layer 9.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional, arg

from estimators.rooms import Room
from fgan.config import schema as configuration
from fgan.config.schema import Config, ConfigError

EXPERIMENTS = Room("fgan.experiments", "EXPERIMENTS", "reproduce")
"""What `fgan reproduce` knows; listing it needs no jax."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimate divergences D(P‖Q) between two sample files, in nats."""

    p: Annotated[Positional[str], arg(metavar="P")]
    """Samples of P (data): .npy .npz .csv .tsv .parquet, IDX (.gz), or - for standard input."""
    q: Annotated[Positional[str], arg(metavar="Q")]
    """Samples of Q (model), of the same dimension."""
    divergences: Annotated[tuple[str, ...], arg(aliases=["-d"])] = ("kl",)
    """Names as in `fgan divergences`, renyi(2), or all."""
    method: str = "auto"
    """How to estimate: auto, neural, nwj, dv, ratio, knn, gaussian or telescoping."""
    seed: int = 0
    confidence: float = 0.95
    """Level of the intervals."""
    json: bool = False
    """Print one JSON object instead of a table."""
    plot: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Draw log-ratios, calibration and training of the first divergence that has them."""
    key: str | None = None
    """Which array of an .npz file to read."""
    nan_policy: Literal["raise", "omit"] = "raise"
    """What to do with rows that hold NaN or inf."""
    flatten: bool = False
    """Flatten image stacks to rows."""
    groups_p: Annotated[str | None, arg(metavar="FILE")] = None
    """Labels of P's rows, one number or word a row: rows that share one are not independent."""
    groups_q: Annotated[str | None, arg(metavar="FILE")] = None
    """Labels of Q's rows."""
    debug: bool = False
    """Show the traceback of an error."""

    def __call__(self) -> None:
        self._check()
        _require_device()
        from estimators.estimation import estimate
        from estimators.samples.files import read_samples

        p, q = (
            read_samples(file, key=self.key, nan_policy=self.nan_policy, flatten=self.flatten)
            for file in (self.p, self.q)
        )
        asked = "all" if self.divergences == ("all",) else list(self.divergences)
        options = {"method": self.method, "seed": self.seed, "confidence": self.confidence, **self._groups()}
        found = estimate(p, q, asked, **options)
        facts = {"n_p": len(p.values), "n_q": len(q.values), "dim": p.values.shape[1]}
        if self.json:
            print(json.dumps({"estimates": [e.as_json() for e in found]} | facts, allow_nan=False))
        else:
            print(f"n_p = {facts['n_p']}, n_q = {facts['n_q']}, dimension {facts['dim']}; nats; {found[0].method}")
            for line in _table(found):
                print(line)
        if self.plot is not None:
            _draw(found, Path(self.plot))
            print("" if self.json else f"picture    {self.plot}\n", end="")

    def _check(self) -> None:
        if [self.p, self.q, self.groups_p, self.groups_q].count("-") > 1:
            raise ConfigError("- twice: standard input can be read once; name a file for the other")
        if (self.groups_p is None) != (self.groups_q is None):
            raise ConfigError("--groups-p and --groups-q go together; name labels for both sets")
        if self.plot is not None and not _is_picture(Path(self.plot)):
            raise ConfigError(f"--plot {self.plot}: must be a .png, .pdf or .svg file in an existing folder")

    def _groups(self) -> dict[str, Any]:
        """The labels of the rows of both sets, if they were given."""
        if self.groups_p is None or self.groups_q is None:
            return {}
        from estimators.samples.files import read_labels

        return {"groups": (read_labels(self.groups_p), read_labels(self.groups_q))}


def _is_picture(path: Path) -> bool:
    return path.suffix in (".png", ".pdf", ".svg") and path.parent.is_dir()


def _table(found: Sequence[Any]) -> Iterator[str]:
    """Estimates as lines: one a divergence, the checks of the fit, and each warning once."""
    yield f"{'divergence':<20}{'value':>12}{'low':>12}{'high':>12}{'std. error':>12}{'lower bound':>13}"
    for e in found:
        bound = e.diagnostics.get("lower_bound")
        numbers = "".join(f"{_cell(number):>12}" for number in (e.value, e.low, e.high, e.standard_error))
        yield f"{e.divergence:<20}{numbers}{'–' if bound is None else _cell(bound):>13}"
    if choice := next((e.diagnostics["choice"] for e in found if "choice" in e.diagnostics), ""):
        yield choice
    if checks := _checks(found):
        yield f"checks: {', '.join(checks)}"
    for warning in dict.fromkeys(w for e in found for w in e.warnings):
        about = [e.divergence for e in found if warning in e.warnings]
        yield f"{'' if len(about) == len(found) else ', '.join(about) + ': '}{warning}"


def _cell(number: float) -> str:
    return f"{number:.4f}" if abs(number) < 1e5 or math.isinf(number) else f"{number:.3e}"


CHECKS = {
    "effective_sample_size_p": "effective sample size {:.0f} of P",
    "effective_sample_size_q": "{:.0f} of Q",
    "mean_ratio_on_q": "mean p/q on Q {:.3g} (ideal 1)",
    "mean_inverse_ratio_on_p": "mean q/p on P {:.3g} (ideal 1)",
    "train_minus_held_out": "training less held-out bound {:.3g}",
}
"""Diagnostics that the table shows, in words."""


def _checks(found: Sequence[Any]) -> list[str]:
    """The checks that the fit behind `found` made of itself; one fit serves all, so the first that has any tells."""
    made = [[words.format(e.diagnostics[key]) for key, words in CHECKS.items() if key in e.diagnostics] for e in found]
    return next(filter(None, made), [])


def _draw(found: Sequence[Any], path: Path) -> None:
    """Save the picture of the first estimate that holds one."""
    import matplotlib.pyplot as plt

    from estimators.pictures import plot

    try:
        figure = plot(next((e for e in found if e.scores is not None), found[0]))
    except ValueError as error:
        raise ConfigError(f"--plot: {error}") from None
    figure.savefig(path)
    plt.close(figure)


@dataclass(frozen=True, kw_only=True)
class Distributed:
    """How the processes of a run on many hosts find each other; found out by themselves on TPU pods and Slurm."""

    coordinator: str = ""
    """HOST:PORT of process 0, which all can reach."""
    processes: int = 0
    """How many there are."""
    process_id: int = -1
    """Which one this is, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train an f-GAN from a config file; the same command again goes on where it stopped."""

    file: Annotated[Positional[str], arg(metavar="CONFIG")]
    """A TOML file such as configs/ring.toml."""
    run: str | None = None
    """The run's directory; runs/<config>-<divergence>-seed<k> if not given."""
    overwrite: bool = False
    """Set an existing run aside and start anew."""
    quiet: bool = False
    """Show no progress."""
    debug: bool = False
    """Show the traceback of an error."""
    distributed: bool = False
    """Take part in a run of many processes, one a host: the same command on each."""
    among: Annotated[Distributed, arg(name="distributed")] = field(default_factory=Distributed)
    settings: Annotated[Config, arg(name="")] = field(default_factory=Config)

    def __call__(self) -> None:
        from fgan.devices import processes

        if self._among_others() and not os.environ.get(processes.SUPERVISED):
            processes.supervise(sys.argv[1:])
        else:
            self._train()

    def _train(self) -> None:
        if self._among_others():
            from fgan.devices import processes

            processes.join(self.among.coordinator, self.among.processes, self.among.process_id)
        _require_device()
        from fgan.run.loop import train

        config = configuration.check(self.settings)
        run = self.run or _default_run(Path(self.file).stem, config)
        outcome = train(config, run, overwrite=self.overwrite, quiet=self.quiet)
        if not outcome.leads:
            return
        print(f"run        {outcome.run}")
        for scores in outcome.scores:
            for line in _lines(scores):
                print(line)
        figures = outcome.run / "figures"
        newest = sorted(figures.glob("samples-*.png"))[-1:]
        for heading, picture in zip(("pictures", ""), (figures / "training.png", *newest)):
            print(f"{heading:<11}{picture}")

    def _among_others(self) -> bool:
        """Whether this is one process of several."""
        told = self.among
        if told != Distributed() and not (":" in told.coordinator and 0 <= told.process_id < told.processes):
            raise ConfigError(
                "--distributed.coordinator HOST:PORT, --distributed.processes N and --distributed.process-id below N "
                f"go together: given {told.coordinator!r}, {told.processes}, {told.process_id}"
            )
        return self.distributed or told != Distributed()


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Train a grid of configs and seeds, many at once; the same command again goes on where it stopped."""

    file: Annotated[Positional[str], arg(metavar="SWEEP")]
    """A TOML file such as configs/sweeps/mixture_1d.toml: a config, and a table [grid] of lists by field."""
    run: str | None = None
    """The sweep's directory; runs/sweep-<file> if not given."""
    overwrite: bool = False
    """Set an existing sweep aside and start anew."""
    quiet: bool = False
    """Show no progress."""
    debug: bool = False
    """Show the traceback of an error."""

    def __call__(self) -> None:
        _require_device()
        from fgan.run.sweep import sweep
        from fgan.run.sweep_file import load

        run = self.run or f"runs/sweep-{Path(self.file).stem}"
        outcome = sweep(load(self.file), run, overwrite=self.overwrite, quiet=self.quiet)
        diverged = sum(member["state"] == "diverged" for member in outcome.scores)
        print(f"run        {outcome.run}")
        print(f"members    {len(outcome.scores) - diverged} finished, {diverged} diverged")
        print(f"results    {outcome.run / 'results.csv'}")
        print(f"picture    {outcome.run / 'sweep.png'}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Draw samples from a trained run, or from a member of a sweep, in the data's own units."""

    run_directory: Annotated[Positional[str], arg(metavar="RUN")]
    """The directory of a run or a sweep."""
    n: Annotated[int, arg(aliases=["-n"])] = 10_000
    """How many."""
    out: str = "samples.npy"
    """The .npy file to write."""
    seed: int = 0
    """Seed of the noise."""
    member: int = 0
    """Which of the run's seeds to sample from, or the line of a sweep's results.csv, counted from 0."""
    debug: bool = False
    """Show the traceback of an error."""

    def __call__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"-n {self.n}: must be at least 1")
        out = Path(self.out)
        if out.suffix != ".npy" or not out.parent.is_dir():
            raise ConfigError(f"--out {self.out}: must be an .npy file in an existing folder")
        _require_device()
        import numpy as np

        from fgan.run.restore import restore

        restored = restore(self.run_directory, self.member)
        rows = restored.sample(self.n, seed=self.seed)
        np.save(out, rows, allow_pickle=False)
        print(f"{out}: {rows.shape[0]} samples of dimension {rows.shape[1]}, from step {restored.step}")


@dataclass(frozen=True, kw_only=True)
class Reproduce:
    """Run a published experiment again, with exact values beside it."""

    name: Positional[str] = ""
    """Which; see --list."""
    list: bool = False
    """List the experiments."""
    run: str | None = None
    """Where to write; runs/<name> if not given."""
    quiet: bool = False
    """Show no progress."""
    debug: bool = False
    """Show the traceback of an error."""

    def __call__(self) -> None:
        if self.list or not self.name:
            for name, text in EXPERIMENTS.about.items():
                print(f"{name:<18}{text}")
            return
        if self.name not in EXPERIMENTS:
            raise ConfigError(f"unknown experiment {self.name!r}: {configuration.nearest(self.name, EXPERIMENTS)}")
        _require_device()
        made = EXPERIMENTS[self.name](self.name, Path(self.run or f"runs/{self.name}"), quiet=self.quiet)
        for path in made:
            print(f"{'picture' if path.suffix == '.png' else 'data':<8} {path.resolve()}")


@dataclass(frozen=True, kw_only=True)
class CompileCheck:
    """Compile the training step for a TPU that need not be there: its memory, work, messages and best time."""

    file: Annotated[Positional[str], arg(metavar="CONFIG")]
    """A TOML file such as configs/ring.toml."""
    topology: str = "v5e:2x4"
    """Chips and their grid: v5e:2x4 to v5e:16x16, v6e:4x4, v5p:4x4x4, v4:2x2x4, …"""
    model: bool = False
    """Model weak scaling to 1024 chips too; compiles for twice the chips as well."""
    json: bool = False
    """Print one JSON object instead of tables."""
    debug: bool = False
    """Show the traceback of an error."""
    settings: Annotated[Config, arg(name="")] = field(default_factory=Config)

    def __call__(self) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"  # the TPU is only described: libtpu need not ask which machine this is
        for name, value in {
            "SKIP_MDS_QUERY": "1",
            "WORKER_HOSTNAMES": "localhost",
            "ACCELERATOR_TYPE": "v5litepod-8",
        }.items():
            os.environ.setdefault(f"TPU_{name}", value)
        import jax

        from fgan.data.sources import load
        from fgan.devices import compile_check, scaling
        from fgan.run.program import described

        jax.config.update("jax_enable_compilation_cache", False)  # a program for an absent TPU cannot be read back
        _require_device()

        data = load(configuration.check(self.settings).data)

        def steps(config: Config, n: int, layout):
            return described(config, data, n, layout)

        found = compile_check.compile_check(self.settings, self.topology, steps)
        twice = scaling.doubled(self.settings, self.topology, steps) if self.model else None
        if self.json:
            model = {} if twice is None else {"model": [r._asdict() for r in scaling.weak_scaling(found, twice)]}
            print(json.dumps(compile_check.as_json(found) | model, allow_nan=False))
            return
        print(compile_check.table(found))
        if twice is not None:
            print(f"\n{scaling.model_table(found, twice)}")


@dataclass(frozen=True, kw_only=True)
class Divergences:
    """The table of divergences, or one of them in detail."""

    name: Positional[str] = ""
    """A name, alias or family with its parameter."""
    markdown: bool = False
    """Print the table as the README holds it."""
    debug: bool = False
    """Show the traceback of an error."""

    def __call__(self) -> None:
        _require_device()
        from fgan.cli import tables

        print(tables.detail(self.name) if self.name else tables.divergences(markdown=self.markdown))


COMMANDS: dict[str, Any] = {
    "estimate": Estimate,
    "train": Train,
    "sweep": Sweep,
    "sample": Sample,
    "reproduce": Reproduce,
    "compile-check": CompileCheck,
    "divergences": Divergences,
}
CONFIGURED = ("train", "compile-check")
"""Commands that take a config file, and any of its fields."""
_ANY: Any = Union[tuple(Annotated[c, tyro.conf.subcommand(name)] for name, c in COMMANDS.items())]  # noqa: UP007


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits with its code."""
    gc.set_threshold(50_000)  # imports and tracing make objects that stay: looking through them took a tenth of a start
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where closed; a symbol the locale lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_guarded(lambda: _run(given), "--debug" in given))


def _run(given: list[str]) -> None:
    with contextlib.suppress(SystemExit):  # help was shown
        _parse(given)()
    if sys.stdout is not None:
        sys.stdout.flush()


def _parse(given: list[str]) -> Callable[[], None]:
    """The command with its settings; ConfigError, one line, for words that mean nothing."""
    if not given or given[0] in ("-h", "--help"):
        return tyro.cli(_ANY, args=["--help"], prog="fgan", description=_ABOUT)
    name, words = given[0], given[1:]
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}: {configuration.nearest(name, COMMANDS)}")
    if name not in CONFIGURED or words[:1] in ([], ["-h"], ["--help"]):
        return _filled(name, words)
    file = words[0] if not words[0].startswith("-") else _filled(name, words).file
    return _filled(name, words, COMMANDS[name](file=file, settings=configuration.load(file)))


def _filled(name: str, words: list[str], default: Any = None) -> Any:
    """The command called `name`, or `default`, with the settings in `words`."""
    said = io.StringIO()
    options = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            made, unknown = tyro.cli(
                COMMANDS[name], args=words, prog=f"fgan {name}", return_unknown_args=True, **options
            )
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise ConfigError(_first_complaint(said.getvalue())) from None
    if unknown:
        flags = [f"--{n}" for n in configuration.names()] if name in CONFIGURED else []
        flags += [f"--{f.name}" for f in dataclasses.fields(COMMANDS[name])]
        raise ConfigError(
            f"unknown option {unknown[0]!r}: {configuration.nearest(unknown[0], flags, otherwise='see --help')}"
        )
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
    except BrokenPipeError:  # the reader of our output, such as head, has left
        _drop_output()
        return 0
    except KeyboardInterrupt:
        print("fgan: interrupted", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        code = _exit_code(error)
        if code is None:
            raise
        if debug:
            traceback.print_exc()
        elif str(error):  # a child has said it itself
            print(f"fgan: {_one_line(str(error))}", file=sys.stderr)
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
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def _exit_code(error: Exception) -> int | None:
    """The documented code of an error we raise ourselves; None for a bug, which keeps its traceback."""
    if isinstance(error, ConfigError):
        return 2
    if (code := getattr(error, "exit_code", None)) is not None:
        return code
    from estimators.divergences.table import UnknownDivergence
    from estimators.estimation import BadArgument
    from estimators.samples.arrays import DataError

    if isinstance(error, (UnknownDivergence, BadArgument)):
        return 2
    if isinstance(error, DataError):
        return 3
    if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)):
        return 7
    return None


def _require_device() -> None:
    """Wake JAX, with its compiled programs kept. Raises ConfigError where it finds no device it was told to use."""
    import jax

    from fgan.run import compile_cache as programs

    programs.keep()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # it asserts where a platform it knows has no plugin
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).partition(" (set")[0] or "its plugin is not installed"
        raise ConfigError(f"JAX_PLATFORMS={asked}: no such device here; unset it ({reason})") from None


def _default_run(stem: str, config: Config) -> str:
    from estimators.divergences.table import divergence
    from fgan.run.directory import RunDirectory

    try:
        return RunDirectory.default_name(stem, divergence(config.divergence).name, config.seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _lines(scores: dict) -> list[str]:
    """An evaluation's scores as lines: ours, then the real data's own."""
    own = {k: v for k, v in scores.items() if not isinstance(v, (dict, list))}
    lines = ["scores     " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in own.items())]
    for key, value in scores.items():
        if isinstance(value, dict):
            numbers = {k: v for k, v in value.items() if not isinstance(v, list)}
            lines.append(f"  {key.replace('_', ' ')}: " + "  ".join(f"{k} {v:.4g}" for k, v in numbers.items()))
    return lines


_ABOUT = "f-divergences: train GANs under them, estimate them from samples, see how they cover or seek modes."

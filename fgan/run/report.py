"""The report of a run, or of several side by side, as one page: what was asked, what came of it, and what to heed.

It is made from the files of the runs alone, so that it can be made at any time, of runs in training as well.
"""

import itertools
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from estimators.plot_style import PALETTE, STYLE, attempted, subplots, verbatim
from fgan.config.fields import walk
from fgan.config.schema import Config
from fgan.config.toml import differences, from_toml, literal
from fgan.run import html
from fgan.run.directory import RunDirectory
from fgan.run.json_files import damaged
from fgan.run.results_report import is_results, of_results
from fgan.run.whole_files import write_atomic

REPORT = "report.html"
SHOWN = 6  # pictures of samples over time, the first and the last among them: two lines on a wide screen
LINES = 12  # metrics that are drawn: the widest model has nine
PACKAGES = ("fgan", "jax", "flax", "optax", "numpy")
ENDS = ("_low", "_high")  # of the names of an interval's ends
REAL = ("held_out", "real")  # how names of scores of real data begin
SHARES = ("precision", "recall", "coverage", "high_quality")  # scores of which real data have the most
MISSING = 0.98  # of a perfect sampler's modes, below which some are missing: of a thousand its noise is about 1 %
FAR = 0.9  # of a share of real data, below which it is said: noise of a thousand samples is a tenth of that
UNSCORED = "there are no scores, so nothing can be said"
FINE = "nothing stands out: compare the scores with those of real data beside them, and the samples by eye"


@dataclass(frozen=True)
class Facts:
    """What the files of a run say."""

    path: Path
    name: str  # as shown, in columns

    @cached_property
    def directory(self) -> RunDirectory:
        return RunDirectory.find(self.path)

    @cached_property
    def config(self) -> Config:
        return from_toml(self.directory.config_toml, str(self.path / "config.toml"))

    @cached_property
    def settings(self) -> dict[str, str]:
        """The fields that were asked for, those that are not the defaults: name → value as TOML."""
        return {name: literal(value) for name, (_, value) in differences(Config(), self.config).items()}

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        return self.directory.records()

    @property
    def status(self) -> dict[str, Any]:
        return self.directory.last_status

    @property
    def warnings(self) -> list[str]:
        found = self.status.get("warnings")
        return [str(warning) for warning in found] if isinstance(found, list) else []

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """Those of the last evaluation, for each seed."""
        scored = [record["scores"] for record in self.records if isinstance(record.get("scores"), list)]
        return [each for each in scored[-1] if isinstance(each, dict)] if scored else []

    @cached_property
    def curves(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Metric → (steps [n], values [n, seeds])."""
        found: dict[str, tuple[list[int], list[Any]]] = {}
        for record in self.records:
            for name, values in record.items():
                if name not in ("step", "scores") and isinstance(values, list):
                    steps, lines = found.setdefault(name, ([], []))
                    steps.append(record["step"])
                    lines.append(values)
        try:
            return {name: (np.array(steps), np.array(lines, float)) for name, (steps, lines) in found.items()}
        except ValueError as error:  # lines of unlike lengths
            raise TypeError(str(error)) from error

    def pictures(self, pattern: str) -> list[Path]:
        return sorted((self.path / "figures").glob(pattern))


def write(run: str | Path) -> Path:
    """Write the report of a run, a sweep or an experiment into its directory, and return its path.

    Raises RunNotFound, CheckpointError.
    """
    path = Path(run) / REPORT
    write_atomic(path, of([run]).encode("utf-8"))
    return path


def of(runs: Sequence[str | Path]) -> str:
    """The page about a run, a sweep or an experiment, or about several runs side by side.

    Raises RunNotFound, CheckpointError.
    """
    paths = [Path(run) for run in runs]
    try:
        return of_results(paths[0]) if len(paths) == 1 and is_results(paths[0]) else _page(paths)
    except (LookupError, TypeError) as error:
        what = f"unlike what a run writes ({type(error).__name__}: {error})"
        raise damaged(", ".join(map(str, paths)), what, "copy it again, or let the run go on") from error


def _page(paths: Sequence[Path]) -> str:
    alike = len({path.resolve().name for path in paths}) < len(paths)
    facts = [Facts(path, str(path) if alike else path.resolve().name) for path in paths]
    first = facts[0]
    title = f"{first.config.minimised} on {first.config.data.name}" if len(facts) == 1 else f"{len(facts)} runs"
    return html.page(
        title,
        *(html.paragraph(_state(f), "lead") for f in facts),
        html.section("What to heed", *_heeded(facts)),
        html.section(
            "What was found", html.table(["score", *(f.name for f in facts), "real or perfect"], _rows(facts))
        ),
        html.section("Samples", *_samples(facts)),
        html.section("Training", *_training(facts)),
        html.section("What was asked", *_asked(facts)),
        html.section("Where", html.table(["", *(f.name for f in facts)], _where(facts)), _written()),
    )


def _state(f: Facts) -> str:
    status = f.status
    state = f"{f.name}: {status.get('state', 'unknown')} at step {status.get('step', 0):,} of {f.config.steps:,}"
    seeds = f"seeds {f.config.seed} to {f.config.seed + f.config.seeds - 1}" if f.config.seeds > 1 else ""
    return ", ".join(filter(None, [state, seeds or f"seed {f.config.seed}", status.get("devices", "")]))


# --- what to heed -----------------------------------------------------------------------------------------------------
def _heeded(facts: Sequence[Facts]) -> Iterator[str]:
    for f in facts:
        before = f"{f.name}: " if len(facts) > 1 else ""
        reason = [str(f.status["reason"])] if f.status.get("reason") else []
        yield html.bullets([f"{before}{line}" for line in (*reason, *f.warnings)], "warning")
        yield html.bullets([f"{before}{line}" for line in advice(f)] or [f"{before}{FINE if f.scores else UNSCORED}"])


def advice(f: Facts) -> list[str]:
    """What to try next, a line for each sign that is there."""
    state, said = f.status.get("state"), " ".join([*f.warnings, str(f.status.get("reason", ""))])
    diverged = "diverged" in said or "left out" in said or any(s.get("diverged") for s in f.scores)
    modes = [s for s in f.scores if isinstance(s.get("modes"), int) and s["modes"] < MISSING * _perfect_modes(s)]
    worse = [f"{_words(name)} {html.number(one)} of {html.number(real)}" for name, one, real in _shortfalls(f)]
    signs = {
        "training goes on: make this report again when it has ended": state == "running",
        "it has not ended: the same command goes on from its last checkpoint": state in ("preempted", "failed")
        and not diverged,
        "diverged: try a tenth of generator_optimizer.learning_rate and critic_optimizer.learning_rate, or a penalty "
        "on the critic, such as --penalty r1": diverged,
        "modes are missing: train longer, give the critic noisy inputs (--instance_noise.start 1), or try a divergence "
        "that covers, such as kl": bool(modes),
        "the critic tells data and samples apart altogether, so its gradient says little: try --penalty r1, or "
        "--instance_noise.start 1": "maximum" in said,
        f"samples fall short of real data ({', '.join(worse)}): train longer, or widen the networks": bool(worse),
        "the critic has not learned: train longer, or raise critic_optimizer.learning_rate": "constant critic" in said,
    }
    return [line for line, there in signs.items() if there]


def _perfect_modes(scores: dict[str, Any]) -> float:
    """The modes that a perfect sampler finds by as many samples."""
    return float(scores.get("modes_of_perfect") or scores.get("of_modes") or 0.0)


def _shortfalls(f: Facts) -> Iterator[tuple[str, float, float]]:
    """(name, value, that of real data) of the shares of the first seed that are far below those of real data."""
    scores = dict(flat(f.scores[0])) if f.scores else {}
    for name in SHARES:
        real = next((v for n, v in scores.items() if _reference_of(n, list(scores)) == name), None)
        if real and scores.get(name) is not None and scores[name] < FAR * real:
            yield name, scores[name], real


# --- what was found ---------------------------------------------------------------------------------------------------
def _rows(facts: Sequence[Facts]) -> Iterator[list[str]]:
    """A line for each score: its name, its value in each run, and what real data or a perfect sampler have."""
    found = [[dict(flat(scores)) for scores in f.scores] for f in facts]
    names = list(dict.fromkeys(name for members in found for scores in members for name in scores))
    ends = {f"{name}{end}" for name in names for end in ENDS}
    hidden = {name for name in names if _reference_of(name, names)} | ends | {"seed"}
    for name in names:
        if name in hidden:
            continue
        beside = [other for other in names if _reference_of(other, names) == name]
        values = [_cell(members, name) for members in found]
        if any(values):
            yield [_words(name), *values, _reference([members[:1] for members in found], sorted(beside, key=_rank))]


def _rank(name: str) -> int:
    """References in the order of what they say: of a perfect sampler of as many samples, of real data, a number."""
    return 0 if name.endswith("_of_perfect") else 2 if name.startswith("of_") else 1


def _reference(firsts: Sequence[Sequence[dict[str, Any]]], beside: Sequence[str]) -> str:
    """What the runs' first seeds are to be compared with; of runs that differ in it, no number."""
    said = {
        next((_cell([scores], other) for other in beside if scores.get(other) is not None), "")
        for scores in itertools.chain(*firsts)
    }
    return said.pop() if len(said) == 1 else "differs" * bool(said)


def _cell(members: Sequence[dict[str, Any]], name: str) -> str:
    """A score with its interval, where one seed has one; of several seeds the mean ± its standard error."""
    low, high = (f"{name}{end}" for end in ENDS)
    if len(members) == 1 and members[0].get(low) is not None and members[0][name] is not None:
        top = members[0].get(high)
        end = "∞)" if top is None else f"{html.number(top)}]"
        return f"{html.number(members[0][name])} [{html.number(members[0][low])}, {end}"
    return _shown([scores.get(name) for scores in members]) if any(name in scores for scores in members) else ""


def flat(scores: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of each score that is no list and no words; of those within others the name has both."""
    for name, value in scores.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif not isinstance(value, (list, str)):
            yield prefix + name, value


def _reference_of(name: str, names: Sequence[str]) -> str:
    """The score that `name` is to be compared with, as `of_modes` is for `modes`; "" where it is a score itself."""
    group, _, last = name.rpartition(".")
    inner = group.rpartition(".")[2]
    if group and any(inner.startswith(word) for word in REAL):
        outer = name[: len(group) - len(inner)] + last
        return outer if outer in names else ""
    others = (n for n in names if name in (f"of_{n}", f"{n}_floor", f"{n}_of_perfect", f"{n}_of_real"))
    return next(others, "")


def _shown(values: Sequence[Any]) -> str:
    """One value, or the mean over seeds ± its standard error."""
    numbers = [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    of = f" ({len(numbers)} of {len(values)} seeds)" if len(numbers) < len(values) else ""
    if not numbers:
        return next((html.number(v) for v in values if v is not None), "none")
    if len(numbers) == 1:
        return next(html.number(v) for v in values if v is not None) + of
    error = float(np.std(numbers, ddof=1)) / math.sqrt(len(numbers))
    return f"{html.number(float(np.mean(numbers)))} ± {html.number(error)}{of}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")


# --- pictures ---------------------------------------------------------------------------------------------------------
def _samples(facts: Sequence[Facts]) -> Iterator[str]:
    for f in facts:
        drawn = f.pictures("samples-*.png")
        if len(facts) > 1:
            drawn = drawn[-1:]
        elif len(drawn) > SHOWN:
            drawn = [drawn[round(k * (len(drawn) - 1) / (SHOWN - 1))] for k in range(SHOWN)]
        drawn += f.pictures("reconstructions-*.png")[-1:] + f.pictures("judged.png")
        yield html.side_by_side(html.picture(each, _caption(each, f, len(facts) > 1)) for each in drawn)


def _caption(picture: Path, f: Facts, named: bool) -> str:
    what, _, step = picture.stem.partition("-")
    when = f" at step {int(step):,}" if step.isdigit() else ""
    return f"{f.name}: {what}{when}" if named else f"{what}{when}"


def _training(facts: Sequence[Facts]) -> Iterator[str]:
    """All curves of the runs, and the last value of each."""
    names = list(dict.fromkeys(n for f in facts for n, (_, values) in f.curves.items() if values.any()))[:LINES]
    if not names:
        return
    with attempted(lambda line: None):
        yield html.side_by_side([html.drawn(_curve(facts, n), f"{_words(n)} against steps") for n in names])
    rows = [[_words(n), *(_shown(f.curves[n][1][-1].tolist()) if n in f.curves else "" for f in facts)] for n in names]
    yield html.details("The last value of each", html.table(["metric", *(f.name for f in facts)], rows))


def _curve(facts: Sequence[Facts], name: str) -> Any:
    """The figure of a metric against steps: a colour for each run, a line for each seed."""
    with rc_context(STYLE):
        figure, axis = subplots(figsize=(4.0, 2.6))
        for f, colour in zip(facts, itertools.cycle(PALETTE)):
            if name in f.curves:
                steps, values = f.curves[name]
                lines = axis.plot(steps, values, color=colour, lw=1, alpha=1.0 if values.shape[1] == 1 else 0.5)
                lines[0].set_label(verbatim(f.name))
        axis.set(title=_words(name), xlabel="step")
        if len(facts) > 1:
            axis.legend(fontsize=8)
    return figure


# --- what was asked ---------------------------------------------------------------------------------------------------
def _asked(facts: Sequence[Facts]) -> Iterator[str]:
    if len(facts) == 1:
        (f,) = facts
        yield html.code("\n".join(f"{name} = {value}" for name, value in f.settings.items()) or "all defaults")
        yield html.details("The whole configuration", html.code(f.directory.config_toml))
        return
    names = list(dict.fromkeys(name for f in facts for name in f.settings))
    whole = [{name: literal(value) for name, _, value in walk(f.config)} for f in facts]
    rows = [[name, *(settings[name] for settings in whole)] for name in names]
    unlike = [row for row in rows if len(set(row[1:])) > 1]
    yield html.table(["setting", *(f.name for f in facts)], unlike) or html.paragraph("all settings are the same")
    yield html.details(
        "What all share", html.table(["setting", "value"], [row[:2] for row in rows if row not in unlike])
    )


def _where(facts: Sequence[Facts]) -> Iterator[list[str]]:
    timed = [f.directory.records("timings.jsonl") for f in facts]
    compiled = [sum(t.get("compile_seconds") or 0.0 for t in each) for each in timed]
    spent = [sum(t.get("seconds") or 0.0 for t in each) for each in timed]
    steps = [sum(t.get("steps") or 0 for t in each) for each in timed]
    yield ["directory", *(str(f.path) for f in facts)]
    yield ["devices", *(str(f.status.get("devices", "")) for f in facts)]
    yield ["seconds of training", *(f"{s:,.1f}" for s in spent)]
    yield ["steps a second", *(f"{n / s:,.1f}" if s else "" for n, s in zip(steps, spent))]
    yield ["seconds of compilation", *(f"{s:,.1f}" for s in compiled)]


def _written() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return html.paragraph(
        f"Written by Python {platform.python_version()}, {versions}, on {platform.machine()}.", "lead"
    )

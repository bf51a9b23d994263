"""`fgan estimate P Q`."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console
from rich.markup import escape
from tyro.conf import Positional, arg

from estimators.advice import explanation
from estimators.characters import printable
from estimators.rooms import Room
from fgan.cli import own_code
from fgan.cli.command import Base, complain, require_device, show, show_json
from fgan.cli.outputs import checked_page, checked_picture, whole
from fgan.config.fields import ConfigError, OneOf

COMMANDS = {"estimate": "Estimate divergences D(P‖Q) between two sample files, in nats."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    p: Annotated[Positional[str], arg(metavar="P")]
    """Samples of P (data): .npy .npz .csv .tsv .parquet, IDX (.gz), or - for standard input."""
    q: Annotated[Positional[str], arg(metavar="Q")]
    """Samples of Q (model), of the same dimension."""
    divergences: Annotated[tuple[str, ...], arg(aliases=["-d"])] = ("kl",)
    """Names as in `fgan divergences`, renyi(2), f as a formula of u such as "(u - 1)**2", or all."""
    method: Annotated[str, OneOf(Room("estimators.methods", "METHODS", "estimate"))] = "auto"
    """How to estimate; auto chooses by the samples."""
    seed: int = 0
    """Seed of folds, networks and resamples."""
    confidence: float = 0.95
    """Level of the intervals."""
    json: bool = False
    """Print one JSON object instead of a table."""
    explain: bool = False
    """Say what the warnings mean, and what to do."""
    plot: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Draw log-ratios, calibration and training of the first divergence that has them."""
    report: Annotated[str | None, arg(metavar="FILE.html")] = None
    """Write a page with the values, their intervals as a picture, what to trust, and the checks."""
    key: str | None = None
    """Which array of an .npz file to read."""
    nan_policy: Literal["raise", "omit"] = "raise"
    """What to do with rows that hold NaN or inf."""
    round: int | None = None
    """Round both sets to so many digits after the point first."""
    flatten: bool = False
    """Flatten image stacks to rows."""
    categorical: tuple[str, ...] = ()
    """Columns whose numbers are names of categories, by name, or by number where they have none."""
    drop: tuple[str, ...] = ()
    """Columns to leave out, of both files or of the one that has them."""
    dependence: Literal["time"] | None = None
    """Rows are in the order of time and depend on their neighbours."""
    groups_p: Annotated[str | None, arg(metavar="FILE")] = None
    """Labels of P's rows, one number or word a row: rows that share one are not independent."""
    groups_q: Annotated[str | None, arg(metavar="FILE")] = None
    """Labels of Q's rows."""

    def __call__(self) -> None:
        self._check()
        with Console(stderr=True).status(f"reading {_named(self.p)} and {_named(self.q)}") as status:  # on a terminal
            require_device()
            from estimators.estimation import estimate
            from estimators.samples.files import read_samples

            reading = ("key", "nan_policy", "flatten", "drop", "categorical")
            options = {name: getattr(self, name) for name in reading} | {"absent_ok": True}  # one of both must have it
            p, q = (read_samples(file, **options) for file in (self.p, self.q))
            status.update(
                f"{len(p.values)} and {len(q.values)} rows: fitting; the first of its shape compiles for seconds"
            )
            divergences = "all" if self.divergences == ("all",) else list(map(own_code.known, self.divergences))
            options = {"method": self.method, "seed": self.seed, "confidence": self.confidence, **self._groups()}
            estimates = estimate(p, q, divergences, decimals=self.round, dependence=self.dependence, **options)
        sizes = {"n_p": len(p.values), "n_q": len(q.values), "dim": p.values.shape[1]}
        if self.json:
            show_json({"estimates": [e.as_json() for e in estimates]} | sizes)
        else:
            show("n_p = {n_p}, n_q = {n_q}, dimension {dim}; nats; ".format(**sizes) + estimates[0].method)
            for line in _table(estimates):
                show(line)
            for line in _verdicts(estimates, self.explain):
                show(line)
        if self.report is not None:
            from fgan.run import estimate_report

            page = estimate_report.page(self.p, self.q, estimates, sizes, self.confidence)
            with whole(Path(self.report)) as draft:
                draft.write_text(page, encoding="utf-8")
            if not self.json:
                show(f"report     {self.report}")
        if self.plot is not None:
            drawn = _draw(estimates, Path(self.plot))
            if drawn and not self.json:
                show(f"picture    {self.plot}")

    def _check(self) -> None:
        if [self.p, self.q, self.groups_p, self.groups_q].count("-") > 1:
            raise ConfigError("- twice: standard input can be read once; name a file for the other")
        if (self.groups_p is None) != (self.groups_q is None):
            raise ConfigError("--groups-p and --groups-q go together; name labels for both sets")
        checked_picture(self.plot)
        checked_page("report", self.report)

    def _groups(self) -> dict[str, Any]:
        """The labels of the rows of both sets, if they were given."""
        if self.groups_p is None or self.groups_q is None:
            return {}
        from estimators.samples.files import read_labels

        return {"groups": (read_labels(self.groups_p), read_labels(self.groups_q))}


def _named(file: str) -> str:
    """A file's name as rich shows it: no markup, nothing that could steer the terminal."""
    return escape(printable(file))


def _table(estimates: Sequence[Any]) -> Iterator[str]:
    """Estimates as lines: one a divergence, the checks of the fit, and each warning once."""
    yield f"{'divergence':<20}{'value':>12}{'low':>12}{'high':>12}{'std. error':>12}{'lower bound':>13}"
    for e in estimates:
        bound = e.diagnostics.get("lower_bound")
        numbers = "".join(f"{_number(x):>12}" for x in (e.value, e.low, e.high, e.standard_error))
        yield f"{e.divergence:<20}{numbers}{'–' if bound is None else _number(bound):>13}"
    if choice := next((e.diagnostics["choice"] for e in estimates if "choice" in e.diagnostics), ""):
        yield choice
    fits = ([words.format(e.diagnostics[k]) for k, words in CHECKS.items() if k in e.diagnostics] for e in estimates)
    if checks := next(filter(None, fits), []):  # of the one fit behind all estimates
        yield f"checks: {', '.join(checks)}"
    for warning in dict.fromkeys(w for e in estimates for w in e.warnings):
        concerned = [e.divergence for e in estimates if warning in e.warnings]
        yield f"{'' if len(concerned) == len(estimates) else ', '.join(concerned) + ': '}{warning}"


def _verdicts(estimates: Sequence[Any], explained: bool) -> Iterator[str]:
    """What to trust, in a line for the divergences of each verdict, and why if it is to be `explained`."""
    for trust in dict.fromkeys(e.trust for e in estimates):
        concerned = [e for e in estimates if e.trust == trust]
        names = "" if len(concerned) == len(estimates) else f" ({', '.join(e.divergence for e in concerned)})"
        yield f"trust{names}: {trust}"
        if explained:
            warnings = dict.fromkeys(w for e in concerned for w in e.warnings)
            yield from explanation(list(warnings))


def _number(x: float) -> str:
    return f"{x:.4f}" if abs(x) < 1e5 or math.isinf(x) else f"{x:.3e}"


CHECKS = {
    "effective_sample_size_p": "effective sample size {:.0f} of P",
    "effective_sample_size_q": "{:.0f} of Q",
    "mean_ratio_on_q": "mean p/q on Q {:.3g} (ideal 1)",
    "mean_inverse_ratio_on_p": "mean q/p on P {:.3g} (ideal 1)",
    "train_minus_held_out": "training less held-out bound {:.3g}",
}
"""Diagnostics that the table shows, in words."""


def _draw(estimates: Sequence[Any], path: Path) -> bool:
    """Save the picture of the first estimate that has one; whether that went well."""
    shown = next((e for e in estimates if e.scores is not None), None)
    if shown is None:
        method = estimates[0].method
        raise ConfigError(f"--plot: the {method} estimate holds no held-out log-ratios to draw; use method='neural'")
    from estimators.plot_style import attempted, save

    with attempted(complain):
        save(shown.plot(), path)
        return True
    return False

"""`fgan exact P Q`."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from fgan.cli import own_code
from fgan.cli.command import Base, complain, require_device, show
from fgan.cli.outputs import checked_picture
from fgan.config.fields import ConfigError

COMMANDS = {"exact": "Compute divergences D(P‖Q) between two named distributions, in nats."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    p: Annotated[Positional[str], arg(metavar="P")]
    """A distribution with its parameters, such as "gamma(2, 1)" or "mixture([0.5, 0.5], [normal(-1), normal(1)])"."""
    q: Annotated[Positional[str], arg(metavar="Q")]
    """Another one on the same space."""
    divergences: Annotated[tuple[str, ...], arg(aliases=["-d"])] = ("kl",)
    """Names as in `fgan divergences`, renyi(2), f as a formula of u such as "(u - 1)**2", or all."""
    json: bool = False
    """Print one JSON object instead of a table."""
    plot: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Draw both distributions, and where their divergences come from."""

    def __call__(self) -> None:
        picture = checked_picture(self.plot)
        require_device()
        from estimators.distributions.spelled import spelled
        from estimators.divergences.table import everything, functional
        from estimators.exact_values.between import exact

        try:
            p, q = spelled(self.p), spelled(self.q)
            for text, side in ((self.p, p), (self.q, q)):
                if side.batch_shape:
                    raise ConfigError(f"{text!r} is a batch of shape {side.batch_shape}: give one distribution")
            everyone = self.divergences == ("all",)
            named = map(own_code.known, self.divergences)
            names = [each.name for each in (everything() if everyone else map(functional, named))]
            results = exact(p, q, names)
            if picture:
                from estimators.exact_values.pair_picture import drawable

                drawable(p, q)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if self.json:
            rows = [_as_json(name, result) for name, result in zip(names, results)]
            print(json.dumps({"exact": rows, "p": self.p, "q": self.q}, allow_nan=False, ensure_ascii=False))
        else:
            for line in _table(names, results):
                show(line)
        if picture:
            self._draw(p, q, names, picture)

    def _draw(self, p: Any, q: Any, names: Sequence[str], path: Path) -> None:
        """Save the picture, and say so."""
        from estimators.exact_values.pair_picture import draw
        from estimators.plot_style import attempted, save

        with attempted(complain):
            save(draw(p, q, names, (f"P = {self.p}", f"Q = {self.q}")), path)
            if not self.json:
                show(f"picture    {path}")


def _table(names: Sequence[str], results: Sequence[Any]) -> Iterator[str]:
    yield f"{'divergence':<20}{'value (nats)':>16}{'std. error':>12}  method"
    for name, each in zip(names, results):
        error = "–" if each.standard_error == 0.0 else f"{each.standard_error:.1e}"
        value = "∞" if math.isinf(each.value) else f"{each.value:.10g}"
        yield f"{name:<20}{value:>16}{error:>12}  {each.method}{': ' if each.note else ''}{each.note}"


def _as_json(name: str, result: Any) -> dict[str, Any]:
    """A result with null for what is infinite, and the reason in `warnings`, as `estimate --json` has it."""
    value = float(result.value)
    return {
        "divergence": name,
        "value": value if math.isfinite(value) else None,
        "standard_error": float(result.standard_error),
        "method": result.method,
        "units": "nats",
        "warnings": [result.note] if result.note else [],
    }

"""One style for every picture, with colours that colour-blind readers can tell apart.

Source: the palette is Okabe & Ito's (2008, Color Universal Design).
"""

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cycler import cycler

from estimators.characters import printable

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
DATA = "#8A8A8A"
"""The data, the target, and other things that colours are compared with."""
EXACT: Any = {"color": "black", "lw": 1, "ls": (0, (3, 2))}
"""The line of an exact value, such as an optimum or a perfect sampler's score."""
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "legend.frameon": False,
    "savefig.dpi": 130,
    "text.usetex": False,  # a matplotlibrc may say otherwise, and LaTeX may be missing
}
"""For `matplotlib.rc_context`."""
FAILURES = (ImportError, OSError, ValueError, RuntimeError, ArithmeticError, MemoryError)
"""What a picture fails by: a backend without its library (ImportError) or of no known name (ValueError, when matplotlib
is imported), LaTeX or a font that is missing (RuntimeError, OSError), a disk that is full (OSError), numbers that no
axis can hold (ValueError, ArithmeticError), a canvas too large (ValueError, MemoryError). Others are faults of ours."""


@contextmanager
def attempted(warn: Callable[[str], Any]) -> Iterator[None]:
    """Draw and save inside. Where that fails, `warn` is called with one line on why, and work goes on.

    No picture is worth the numbers that it shows. Import inside what imports matplotlib.
    """
    try:
        yield
    except FAILURES as error:
        reason = next(iter(str(error).splitlines()), "no reason given")
        warn(f"a picture failed, all else is done: {type(error).__name__}: {reason}")


def subplots(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """(figure, axes) as `matplotlib.pyplot.subplots` makes them, but of no window: they need no backend."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=figsize)
    return figure, figure.subplots(rows, columns, **options)


def verbatim(text: str) -> str:
    """`text`, a name from a file perhaps, as a picture shows it letter by letter: dollars begin no formula, and what is
    no letter is escaped."""
    return printable(text).replace("$", r"\$")


def save(figure: Any, path: Path) -> Path:
    """`path`, where the figure is now saved, whole; its folder is made if need be, and the figure closed."""
    import matplotlib.pyplot as plt

    path.parent.mkdir(exist_ok=True)
    place = path.resolve()  # that of a link's target
    draft = place.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp{path.suffix}")
    try:
        with plt.rc_context(STYLE), warnings.catch_warnings():  # ticks are made only now
            # Where the font lacks a letter of a name, a box is drawn.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(draft)
        draft.replace(place)
    finally:
        draft.unlink(missing_ok=True)
        plt.close(figure)
    return path


def legend_below(figure: Any, *axes: Any) -> None:
    """Put one legend of all that `axes` show below the figure, every label once."""
    shown = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels())}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown))

"""Pages of HTML that stand alone: one file without scripts, its pictures inside, light or dark as the reader has it.

A page is built from pieces, each a string of HTML. Text becomes one by `text`, which escapes it, since names may come
from anyone's files.
"""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from estimators.characters import printable
from estimators.plot_style import STYLE as OF_PICTURES

STYLE = """
:root { --ink: #1b1f24; --paper: #ffffff; --soft: #f3f5f7; --line: #d5dae0; --warn: #8a4b00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --paper: #15181c; --soft: #1f242a; --line: #39414a; --warn: #f0b35a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 64rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
p, ul { margin: .5rem 0; }
.lead { color: var(--ink); opacity: .8; }
.warning { color: var(--warn); font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
.short { white-space: nowrap; }
.long { min-width: 16rem; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; font-size: .85rem; white-space: pre; }
figure { margin: .75rem 0; }
figcaption { font-size: .85rem; opacity: .8; }
img { max-width: 100%; height: auto; background: #ffffff; border-radius: 4px; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }
"""

SHORT = 26  # letters: a value with its interval


def text(words: object) -> str:
    """Words as HTML, with no sign in them that a browser or a terminal would heed."""
    return html.escape(printable(str(words)))


def number(value: object) -> str:
    """A number as people read it, four digits of one with a fraction; other words as they are."""
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−").replace("inf", "∞")
    return f"{value:,}" if type(value) is int else str(value)


def paragraph(words: object, kind: str = "") -> str:
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def bullets(lines: Iterable[object], kind: str = "") -> str:
    items = "".join(f'<li class="{kind}">{text(line)}</li>' if kind else f"<li>{text(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls within itself where the screen is narrow; "" without rows."""
    cells = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    top = "".join(f"<th>{text(cell)}</th>" for cell in head)
    return f'<div class="wide"><table><tr>{top}</tr>{cells}</table></div>' if cells else ""


def _cell(words: object) -> str:
    """A cell, whose words stay on one line where they are few."""
    return f'<td class="{"short" if len(str(words)) <= SHORT else "long"}">{text(words)}</td>'


def code(words: str) -> str:
    lines = "\n".join(map(text, words.splitlines()))
    return f"<pre>{lines}</pre>"


def details(summary: str, body: str) -> str:
    """A piece that opens when it is asked for."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def picture(image: bytes | Path, caption: str) -> str:
    """A .png inside the page, described by its caption."""
    data = base64.b64encode(image.read_bytes() if isinstance(image, Path) else image).decode("ascii")
    source = f'<img alt="{text(caption)}" src="data:image/png;base64,{data}">'
    return f"<figure>{source}<figcaption>{text(caption)}</figcaption></figure>"


def drawn(figure: Any, caption: str) -> str:
    """A figure of matplotlib inside the page."""
    image = io.BytesIO()
    with rc_context(OF_PICTURES):
        figure.savefig(image, format="png")
    return picture(image.getvalue(), caption)


def side_by_side(pieces: Iterable[str]) -> str:
    inner = "".join(pieces)
    return f'<div class="side">{inner}</div>' if inner else ""


def section(title: str, *pieces: str) -> str:
    """A titled part of a page; "" where its pieces are empty."""
    inner = "\n".join(filter(None, pieces))
    return f"<section><h2>{text(title)}</h2>\n{inner}\n</section>" if inner else ""


def page(title: str, *parts: str) -> str:
    """The whole file."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join([f"<h1>{text(title)}</h1>", *filter(None, parts)])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'

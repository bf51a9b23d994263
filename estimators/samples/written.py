"""How the cells of a column were written, so that generated values can be written likewise.

A style is one string: a pattern of strftime for dates, `no|yes` for truth values, text around `{}` or, with a decimal
comma, `{,}` for numbers. That of a column of categories holds their words, `BETWEEN` them, where these are not their
names, or `NUMBERS`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

DAY, MOMENT = "%Y-%m-%d", "%Y-%m-%d %H:%M:%S"
FINE = MOMENT + ".%f"
FLAGS = "False|True"
COMMA = "{,}"
BETWEEN = "\x1f"  # which text never holds
NUMBERS = "#"  # of categories that were numbers
EPOCH = datetime(1970, 1, 1)
_ISO = re.compile(r"\d{4}([-/])\d\d\1\d\d(?:([ T])\d\d:\d\d(?P<s>:\d\d(?P<f>\.\d+)?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?")


def date_style(example: str, day_first: bool) -> str:
    """The style of a column of dates of which `example` is the longest."""
    if found := _ISO.fullmatch(example):
        by, between = found[1], found[2]
        time = "%H:%M" + ":%S" * bool(found["s"]) + ".%f" * bool(found["f"])
        zone = {None: "", "Z": "Z"}.get(found["zone"], "+00:00")
        return f"%Y{by}%m{by}%d" + (f"{between}{time}{zone}" if between else "")
    by = next(c for c in example if not c.isdigit())
    return by.join(("%d", "%m", "%Y") if day_first else ("%m", "%d", "%Y"))


def words_of(levels: Sequence[str], style: str) -> np.ndarray:
    """The categories of a column in its style: words, or numbers."""
    if style == NUMBERS:
        numbers = np.array(levels, np.float64)
        return numbers.astype(np.int64) if (numbers == np.round(numbers)).all() else numbers
    return np.array(style.split(BETWEEN) if style else levels, object)


def is_date(style: str) -> bool:
    """Whether a style is that of dates."""
    return "%Y" in style


def is_flag(style: str) -> bool:
    """Whether a style is that of truth values."""
    return "|" in style and "{" not in style


def moments(days: np.ndarray, style: str) -> np.ndarray:
    """Days since 1970 [n] as datetime64: whole days where the style has no hours."""
    if "%H" not in style:
        return np.round(days).astype("M8[D]")
    second = 1e6 if "%f" not in style else 1.0  # as far as the style goes
    return (np.round(np.asarray(days) * 86_400e6 / second) * second).astype("M8[us]")


def spelled(values: np.ndarray, style: str) -> Sequence[str]:
    """Values [n] in a style, one cell each."""
    if is_date(style):
        since = moments(values, style).astype("M8[us]").astype(int).tolist()
        instants = [EPOCH + timedelta(microseconds=us) for us in since]
        return [instant.strftime(style.replace("%Y", f"{instant.year:04d}")) for instant in instants]
    if is_flag(style):
        words = style.split("|")
        return [words[int(value)] for value in np.clip(np.round(values), 0, 1)]
    numbers = [str(value) for value in np.asarray(values).tolist()]
    if COMMA in style:
        return [style.replace(COMMA, number.replace(".", ",")) for number in numbers]
    return [style.replace("{}", number) for number in numbers]

"""What a cell of text holds: a number, with or without a unit, a truth value, a date, a word, or nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from estimators.samples.raw import DataError

ERRORS = frozenset(("#n/a", "#div/0!", "#value!", "#ref!", "#num!", "#null!", "#name?"))
"""What spreadsheets write where a formula failed."""
AMBIGUOUS = frozenset(("na", "n/a", "none", "?", ".", "-", "--", "–", "—", "−"))
"""Missing among numbers and dates. Among words None may be the mildest grade, NA a region, - a sign."""
ABSENT = frozenset(("", "nan", "-nan", "<na>", "null")) | ERRORS
"""Missing among words too."""
MISSING = ABSENT | AMBIGUOUS
FLAGS = {"false": 0.0, "true": 1.0}
ISO = re.compile(r"\d{4}([-/])\d\d\1\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(?P<zone>Z|[+-]\d\d:?\d\d)?)?")
TYPOGRAPHY = str.maketrans({"\xa0": " ", "\u202f": " ", "’": "'", "−": "-"})
_NUMBER = r"[+-]?(?:(?:(?:\d+|[1-9]\d{0,2}(?P<by>[%s])\d{3}(?:(?P=by)\d{3})*)(?:%s)?|%s)(?:e[+-]?\d+)?|inf|infinity)"
POINT = re.compile(_NUMBER % (",' ", r"\.\d*", r"\.\d+"), re.IGNORECASE)
COMMA = re.compile(_NUMBER % (".' ", r",\d+", r",\d+"), re.IGNORECASE)
"""Numbers with a decimal point, or a decimal comma, and thousands separators."""
NUMBERS = ("whole", "point", "comma", "point?", "comma?")
WORDS = ("word", "flag", "date", "quantity")
"""Kinds of cells that hold no plain number."""
CODES = "AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HKD|HUF|ILS|INR|JPY|KRW|MXN|NOK|NZD|PLN|RUB|SEK|SGD|TRY|USD|ZAR"
CURRENCY = rf"(?:[A-Z]{{0,3}}\$|[€£¥₹₽₩₺₪₫₦₱฿₴₡₵]|(?:{CODES}|Rs\.?|kr\.?)(?![^\W\d_]))"
QUANTITY = re.compile(
    rf"(?P<sign>[+-]?) ?(?:(?P<before>{CURRENCY}) ?)?"
    r"(?P<number>[+-]?(?:\d[\d.,' ]*|[.,]\d+)(?:[eE][+-]?\d+)?(?<! )) *"
    rf"(?P<after>(?:[%‰°′″'\"²³]|{CURRENCY}|[^\W\d_])(?:[^\W\d_]|[%°²³/·^.() -]|(?<=[^\W\d_^])[23](?!\d))*)?"
)
"""A number with a currency before it, or with a unit behind it: $12, 70 %, 3.5 kg, 12 mg/dl."""
_SYMBOLS = (
    "% ‰ ° °C °F K kg g mg µg μg ug ng lb lbs oz km m cm mm µm μm um nm mi ft in yd ′ ″ s sec ms µs us ns min "
    "mins h hr hrs d day days week weeks month months mo year years yr yrs l L ml mL dl gal Hz kHz MHz GHz kW MW "
    "GW kWh MWh mV kV mA Ω Pa hPa kPa MPa bar mbar psi kJ MJ cal kcal kN mol mmol ppm ppb kB KB MB GB TB k M bn "
    "px dB rpm mph km/h kmh kph m/s mg/dl mg/dL mmol/l mmol/L mmHg m2 m² m3 m³ km2 km² ha sqft g/l bpm pt pts "
    "Mbit/s"
)
UNITS = frozenset(_SYMBOLS.split())
"""Units that say a cell is a number, where other words behind one may say that it is a name (1st, 5a)."""
SPELLINGS = {
    spelling: unit
    for unit, others in {
        "h": "hr hrs hour", "min": "mins minute", "s": "sec secs second", "day": "d", "week": "wk wks",
        "month": "mo mos mth", "year": "yr yrs", "lb": "lbs pound", "oz": "ounce", "L": "l litre liter",
        "mL": "ml", "dL": "dl", "mg/dl": "mg/dL", "mmol/l": "mmol/L", "km/h": "kmh kph", "pt": "pts",
        "µg": "μg ug mcg", "µs": "μs us", "µm": "μm um", "m²": "m2", "m³": "m3", "km²": "km2", "kB": "KB",
    }.items()
    for spelling in others.split()
}  # fmt: skip
"""Other spellings of a unit → the unit, so that 2 hr in one file and 3 hrs in another are of one unit."""
LOSS = re.compile(rf"\(((?:{CURRENCY}) ?\d.*|\d.* ?(?:{CURRENCY}))\)")
"""An amount in parentheses, as accountants write a negative one."""


LONGEST = 40  # characters of a number with its unit; more are a sentence


class Quantity(NamedTuple):
    """A number as it is written, and its unit: before it, behind it, or "" without one."""

    number: str
    unit: str = ""
    before: bool = False

    @property
    def known(self) -> bool:
        """Whether the unit is one that only numbers have."""
        return self.before or self.unit in UNITS or re.fullmatch(CURRENCY, self.unit) is not None


def quantity(cell: str) -> Quantity | None:
    """The number in a cell and its unit, None if it is something else, or missing."""
    cell = plain_type(cell)
    return _quantity(cell) if len(cell) <= LONGEST else Quantity(cell) if _number_kind(cell) else None


@lru_cache(2**12)
def _quantity(cell: str) -> Quantity | None:
    if _number_kind(cell):
        return Quantity(cell)
    if loss := LOSS.fullmatch(cell):
        amount = _quantity(loss[1])
        return amount._replace(number=f"-{amount.number}") if amount else None
    found = QUANTITY.fullmatch(cell)
    if not found or not (found["before"] or found["after"]):
        return None
    number = found["sign"] + found["number"]
    if not _number_kind(number):
        return None
    after = (found["after"] or "").strip()
    after = after.rstrip(".") if len(after) > 1 else after
    after = after.removesuffix("s") if len(after) > 3 and after.isalpha() else after  # 1 day, 2 days
    after = SPELLINGS.get(after, after)
    unit = " … ".join(filter(None, (found["before"], after)))
    return Quantity(number, unit, bool(found["before"]))


def plain_type(cell: str) -> str:
    """The cell without blanks around it and with the blanks, apostrophes and minus signs of a typewriter."""
    cell = cell.strip()
    return cell if cell.isascii() else cell.translate(TYPOGRAPHY)


def kind(cell: str) -> str:
    """What a cell holds: nothing ("missing"), a number without or with a decimal "point" or "comma" ("whole" without),
    one with a comma or point that may be a decimal sign or separate thousands ("comma?", "point?"), a "flag", a "date",
    a number with a unit ("quantity"), or a "word"."""
    cell = plain_type(cell)
    if cell.lower() in MISSING:
        return "missing"
    if number := _number_kind(cell):
        return number
    if cell.lower() in FLAGS:
        return "flag"
    return "date" if ISO.fullmatch(cell) else "quantity" if quantity(cell) else "word"


def _number_kind(cell: str) -> str:
    point, comma = POINT.fullmatch(cell), COMMA.fullmatch(cell)
    if point and comma:
        return "comma?" if "," in cell else "point?" if "." in cell else "whole"
    return "point" if point else "comma" if comma else ""


def decimal_comma(kinds: Counter[str], doubtful: str) -> bool:
    """Whether the decimal sign of numbers is a comma, by how many are of each kind; `doubtful` calls one with a comma
    that has two readings, "" without any.

    Raises DataError: it may be one, or separate thousands.
    """
    if doubtful and kinds["comma"] == kinds["point"]:
        raise DataError(f"{doubtful} may have a decimal comma or a thousands separator; write decimal points only")
    return kinds["comma"] > kinds["point"]


def level(cell: str | float) -> str:
    """The name of a category that may be written as a number or truth value: 7 is 7.0 is 07, True is 1."""
    try:
        number = FLAGS[cell.lower()] if isinstance(cell, str) and cell.lower() in FLAGS else float(cell)
    except ValueError:
        return str(cell)
    return str(int(number)) if number == np.floor(number) and np.isfinite(number) else repr(number)


class Numbers:
    """The numbers in the cells of a row. A number with thousands separators is none, unless they are allowed.

    Attributes:
        comma: whether the decimal sign is a comma.
        separated: whether one had such separators.
    """

    def __init__(self, comma: bool, thousands: bool):
        self.comma, self._pattern, self._thousands = comma, COMMA if comma else POINT, thousands
        self.separated = False

    def __call__(self, row: list[str]) -> list[float | None]:
        if not self.comma and "_" not in "".join(row):  # 1_000, which float takes, is text
            try:
                return list(map(float, row))
            except ValueError:
                pass
        return [self.cell(cell) for cell in row]

    def cell(self, cell: str) -> float | None:
        """The number in a cell, NaN if it is missing, None if it is text."""
        cell = plain_type(cell)
        if cell.lower() in MISSING:
            return math.nan
        found = self._pattern.fullmatch(cell)
        if not found or (found["by"] and not self._thousands):
            return None
        if found["by"]:
            self.separated, cell = True, cell.replace(found["by"], "")
        return float(cell.replace(",", "."))

    def notes(self) -> Iterator[str]:
        if self.comma:
            yield "decimal commas read as points"
        if self.separated:
            yield "thousands separators removed"

"""Columns that hold no numbers: text and categories as codes, dates as days, numbers and truth values as such.

A code is a name: the order of codes and their distances mean nothing, so every method that takes codes treats them so.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from estimators.samples.errors import DataError, printable

IDENTIFIER, FEW = 0.5, 20
"""Share of rows with text of their own, among more than so many values, from which on a column is an identifier: its
values would hardly occur twice in either set, and say nothing about a law."""
KNOWN = (str, bool, int, float, np.bool_, np.number, Decimal, Fraction, date)  # types that cells may have; no other
DATES = "dates: taken as days since 1970-01-01"


def coded(cells: np.ndarray) -> tuple[np.ndarray, tuple[str, ...], str]:
    """(values, categories, what they were) of a column [n] of any type: values are float64, NaN where missing.

    Categories are the names of the codes 0, 1, …, sorted; () where values are numbers or days since 1970-01-01.
    Raises DataError: objects of other types, or text that hardly repeats.
    """
    if cells.dtype.kind in "biuf":
        return cells.astype(np.float64), (), ""
    if cells.dtype.kind == "M":
        return _days(cells), (), DATES
    cells = cells.astype(object)
    missing = np.array([_missing(cell) for cell in cells], bool)
    present, values, levels, what = cells[~missing], np.full(len(cells), np.nan), (), ""
    if strange := [type(cell).__name__ for cell in present if not isinstance(cell, KNOWN)]:
        raise DataError(f"holds objects of type {printable(strange[0])}: neither numbers, text nor dates; drop it")
    if all(isinstance(cell, date) for cell in present):
        values[~missing], what = _days(np.array(present, "M8[us]")), DATES
    elif (numbers := _numbers(present)) is not None:
        values[~missing], what = numbers, "numbers as objects: taken as numbers"
    else:
        names, values[~missing] = np.unique(present.astype(str), return_inverse=True)
        levels, what = tuple(map(str, names)), f"text: taken as {len(names)} categories"
        if len(levels) > max(FEW, IDENTIFIER * len(present)):
            raise DataError(f"holds {len(levels)} different texts in {len(present)} rows, as names have; drop it")
    return values, levels, what


def _numbers(cells: np.ndarray) -> np.ndarray | None:
    """The numbers that objects or texts stand for, None if one stands for none (1_000, which float takes, is text)."""
    if any(isinstance(cell, date) or (isinstance(cell, str) and "_" in cell) for cell in cells):
        return None
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError:
        return None


def _days(times: np.ndarray) -> np.ndarray:
    return np.where(np.isnat(times), np.nan, times.astype("M8[us]").astype(np.float64) / 86_400e6)


def _missing(cell: Any) -> bool:
    """None, NaN, NaT and pandas' NA: what does not equal itself, or will not say."""
    try:
        return cell is None or bool(cell != cell)
    except (TypeError, ValueError):
        return True

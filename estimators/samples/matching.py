"""Two sample sets with the same columns in the same order, the same codes for categories and the same units."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from estimators.samples.arrays import Samples
from estimators.samples.names import listed
from estimators.samples.raw import DataError, printable


def matched(x: Samples, y: Samples) -> tuple[Samples, Samples]:
    """Both sets with the columns of y in the order of those of x, by name, and with the same codes for categories.

    Raises DataError: a column to drop that neither set has; columns whose name the other set does not know, unless
        each has one; categories in one set and numbers in the other; numbers in different units.
    """
    if absent := [name for name in x.absent if name in y.absent]:
        known = f"; the columns of {x.name} are {listed(x.columns)}" if x.columns else ""
        raise DataError(f"neither {x.name} nor {y.name} has a column {printable(absent[0])!r} to drop{known}")
    x, y = common_levels(x, _in_order(x, y))
    _require_one_unit(x, y)
    return x, y


def _in_order(x: Samples, y: Samples) -> Samples:
    if not (x.columns and y.columns) or x.columns == y.columns:
        return y
    if len(x.columns) == len(y.columns) == 1:
        return dataclasses.replace(
            y, notes=(*y.notes, f"{x.name} holds {printable(x.columns[0])}, {y.name} {printable(y.columns[0])}")
        )
    only_x, only_y = _only(x, y), _only(y, x)
    if only_x and only_y:
        raise DataError(
            f"{y.name} has a column {printable(only_y[0])}, {x.name} has {printable(only_x[0])} instead: columns are "
            "matched by name; rename them, leave them out (drop=, --drop), or give both sets without names"
        )
    for one, other, only in ((x, y, only_x), (y, x, only_y)):
        if only:
            shapes = f"{one.name} has shape {one.values.shape}, {other.name} has shape {other.values.shape}"
            raise DataError(
                f"{shapes}: both need the same number of columns, and only {one.name} has {listed(only)}; leave that "
                "out (drop=, --drop)"
            )
    order = [y.columns.index(name) for name in x.columns]
    return dataclasses.replace(
        y,
        values=np.ascontiguousarray(y.values[:, order]),
        columns=x.columns,
        levels={j: y.levels[k] for j, k in enumerate(order) if k in y.levels},
        units={j: y.units[k] for j, k in enumerate(order) if k in y.units},
        header=x.header,
        types={j: y.types[k] for j, k in enumerate(order) if k in y.types},
        written={j: y.written[k] for j, k in enumerate(order) if k in y.written},
        places=tuple(y.places[k] if y.places else k for k in order),
        notes=(*y.notes, f"{y.name}: columns put in the order of {x.name}, by name"),
    )


def _only(x: Samples, y: Samples) -> list[str]:
    """The names of the columns that x has and y has not."""
    return [name for name in x.columns if name not in y.columns]


def _require_one_unit(x: Samples, y: Samples) -> None:
    """Raise DataError where numbers were written in different units, or with one in one set only."""
    if x.values.shape[1] != y.values.shape[1]:
        return
    for j in sorted({*x.units, *y.units}):
        units = x.units.get(j, ""), y.units.get(j, "")
        if units[0] != units[1]:
            said = [f"in {printable(unit)} in {side.name}" if unit else f"without a unit in {side.name}"
                    for unit, side in zip(units, (x, y), strict=True)]  # fmt: skip
            raise DataError(f"{x.called(j)} is {' and '.join(said)}; write it in the same unit in both sets")


def common_levels(x: Samples, y: Samples) -> tuple[Samples, Samples]:
    """Both sets with one code for each category. Raises DataError: categories in one set, numbers in the other."""
    if x.values.shape[1] != y.values.shape[1] or x.levels == y.levels:
        return x, y
    for j in sorted(set(x.levels) ^ set(y.levels)):
        texts, numbers = (x, y) if j in x.levels else (y, x)
        raise DataError(
            f"{texts.called(j)} holds categories in {texts.name} and numbers in {numbers.name}; name it in "
            "categorical= (--categorical) if its numbers are codes"
        )
    union = {j: tuple(sorted({*x.levels[j], *y.levels[j]})) for j in x.levels}
    notes = tuple(
        f"{x.called(j)}: {printable(alike)} count as different categories"
        for j, names in union.items()
        if (alike := _alike(names))
    )
    x, y = _recoded(x, union), _recoded(y, union)
    return x, dataclasses.replace(y, notes=(*y.notes, *notes))


def _alike(names: Sequence[str]) -> str:
    """The first two categories that differ in capitals alone, in words; "" without any."""
    seen: dict[str, str] = {}
    for name in names:
        if (other := seen.setdefault(name.casefold(), name)) != name:
            return f"{other!r} and {name!r}"
    return ""


def _recoded(samples: Samples, levels: Mapping[int, tuple[str, ...]]) -> Samples:
    values = samples.values.copy()
    for j, names in levels.items():
        codes = {name: code for code, name in enumerate(names)}
        places = np.array([codes[name] for name in samples.levels[j]], np.float64)
        values[:, j] = places[values[:, j].astype(np.intp)]
    return dataclasses.replace(samples, values=values, levels=levels)

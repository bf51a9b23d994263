"""Arrow tables, in memory or read from Parquet: numbers, dates, words and categories. pyarrow is imported when one
comes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from estimators.samples.categories import Meaning, meaning
from estimators.samples.names import called, cell_of, find, recalling
from estimators.samples.objects import of_meanings, of_times
from estimators.samples.raw import DataError, Raw
from estimators.samples.written import DAY, FLAGS

INDEX_LEVEL = re.compile(r"__index_level_\d+__")  # names that pandas gives to an index


def of_arrow(table: Any, drop: Sequence[str], categorical: Sequence[str], absent_ok: bool, schema: Any = None) -> Raw:
    """The columns of a table as float64, nulls as NaN, without the index columns pandas adds.

    `schema` has the types that the columns were declared with, where the table holds words packed as categories.

    Raises DataError: a column of another type.
    """
    if not hasattr(table, "to_batches"):  # a single batch
        import pyarrow as pa

        table = pa.Table.from_batches([table])
    schema = table.schema if schema is None else schema
    index = {name for name in (schema.pandas_metadata or {}).get("index_columns", ()) if isinstance(name, str)}
    kept = [i for i, f in enumerate(schema) if f.name not in index and not INDEX_LEVEL.fullmatch(f.name)]
    names = tuple(schema[i].name for i in kept)
    ignored, absent = find(drop, names, len(names), 0, absent_ok)
    forced, _ = find(categorical, names, len(names), 0)
    with recalling(absent, names):
        columns = {
            j: _column(table.column(i), schema[i].type, called(j, names), j in forced)
            for j, i in enumerate(kept)
            if j not in ignored
        }
    types = {j: _type(schema[i].type) for j, i in enumerate(kept)}
    raw = of_meanings(columns, names, table.num_rows, len(kept))._replace(types=types)
    dropped = ("dropped the index written by pandas",) if len(kept) < len(schema) else ()
    return raw._replace(notes=(*dropped, *raw.notes))


def _type(kind: Any) -> str:
    """How a column was stored: numbers by the name of their type, words as text, "" for anything else."""
    import pyarrow as pa

    is_ = pa.types
    if is_.is_boolean(kind):
        return "bool"
    if is_.is_integer(kind) or is_.is_floating(kind):
        return str(np.dtype(kind.to_pandas_dtype()))
    return "text" if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind) else ""


def _column(column: Any, declared: Any, words: str, forced: bool) -> Meaning:
    """What a column that messages call `words` holds: numbers, dates, or words."""
    import pyarrow as pa

    kind, is_ = column.type, pa.types
    if is_.is_date(kind) or is_.is_timestamp(kind):
        found = of_times(column.cast(pa.timestamp("us"), safe=False).to_numpy())
        found = found._replace(written=DAY) if is_.is_date(kind) else found
        return found._replace(note=f"{found.note}, in UTC") if getattr(kind, "tz", None) else found
    if is_.is_duration(kind):
        return of_times(column.cast(pa.duration("us"), safe=False).to_numpy())
    if any(test(kind) for test in (is_.is_integer, is_.is_floating, is_.is_boolean, is_.is_decimal, is_.is_null)):
        written = FLAGS if is_.is_boolean(kind) else ""
        return Meaning(column.cast(pa.float64(), safe=False).to_numpy(), written=written)
    if is_.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif not (is_.is_dictionary(kind) or is_.is_string(kind) or is_.is_large_string(kind)):
        raise DataError(f"{words} of type {str(kind)[:80]} holds no numbers; drop or convert it")
    packed = column if is_.is_dictionary(kind) else column.dictionary_encode()
    array = packed.unify_dictionaries().combine_chunks()
    codes = array.indices.cast(pa.float64()).to_numpy(zero_copy_only=False).copy()
    at, codes[np.isfinite(codes)] = np.unique(codes[np.isfinite(codes)], return_inverse=True)
    texts = [str(word) for word in array.dictionary.take(pa.array(at.astype(np.int64))).to_pylist()]
    return meaning(texts, codes, cell_of(words), forced, numeric=not is_.is_dictionary(declared))


def exchanged(frame: Any) -> Any:
    """A frame that offers only the exchange protocol of data frames, as an Arrow table."""
    try:
        from pyarrow import interchange
    except ImportError as error:
        raise DataError("a data frame of this type needs pyarrow; pip install 'fgan[parquet]'") from error
    return interchange.from_dataframe(frame)

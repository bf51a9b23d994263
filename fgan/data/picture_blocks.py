"""Pictures in blocks, the unit of work of a thread or a process that decodes: some files, or some rows of a Parquet.

A block is described by names and numbers alone, so that another process can be told of it in a line of JSON.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fgan.data.picture import Facts, Picture, Unusable, facts, square

LENGTH = 256
"""Pictures of a block: some 0.1 s of decoding, beside which the line that describes it costs nothing, and enough blocks
of a large set that no process waits long for the last."""


@dataclass(frozen=True)
class Files:
    """Pictures in files of their own."""

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def names(self) -> list[str]:
        """What messages call the pictures."""
        return list(self.paths)

    def pictures(self) -> Iterator[Picture]:
        """The pictures themselves."""
        return map(Path, self.paths)


@dataclass(frozen=True)
class TableRows:
    """Pictures in `count` rows of a row group of a Parquet file, from its row `first` on, the file's row `number`."""

    path: str
    column: tuple[str, ...]  # its name, and that of the bytes within it where it is one of structs
    group: int
    first: int
    count: int
    number: int

    def __len__(self) -> int:
        return self.count

    def names(self) -> list[str]:
        """What messages call the pictures."""
        return [f"{self.path}, row {self.number + i}" for i in range(self.count)]

    def pictures(self) -> Iterator[Picture]:
        """The bytes of each. Raises OSError where the file is damaged."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self.path) as file:
                yield from self._cells(
                    file.iter_batches(LENGTH, row_groups=[self.group], columns=[".".join(self.column)])
                )
        except (pa.ArrowException, OSError) as error:  # which pyarrow raises for damage, too
            if isinstance(error, OSError) and error.errno:
                raise
            said = str(error).partition("\n")[0][:120]
            raise OSError(f"damaged ({said}); copy or save it again") from error

    def _cells(self, batches: Iterator[Any]) -> Iterator[Picture]:
        begin, end = self.first, self.first + self.count
        for batch in batches:
            cells = _of_struct(batch.column(0)) if len(self.column) > 1 else batch.column(0)
            yield from (cells[i].as_py() for i in range(max(begin, 0), min(end, len(cells))))
            begin, end = begin - len(cells), end - len(cells)
            if end <= 0:
                return


def _of_struct(cells: Any) -> Any:
    """The first field of structs, some of which are null."""
    import pyarrow.compute as pc

    return pc.struct_field(cells, [0])


Block = Files | TableRows


def described(block: Block) -> dict[str, Any]:
    """`block` as JSON."""
    return asdict(block)


def from_json(found: Mapping[str, Any]) -> Block:
    """The block that `described` returned."""
    if "paths" in found:
        return Files(tuple(found["paths"]))
    return TableRows(**{**found, "column": tuple(found["column"])})


def of_paths(paths: Sequence[Path]) -> list[Block]:
    """Files in blocks."""
    names = [os.fspath(path) for path in paths]
    return [Files(tuple(names[i : i + LENGTH])) for i in range(0, len(names), LENGTH)]


def headers(block: Block) -> list[Facts | str]:
    """What the header of each picture says, or what is wrong with it."""
    return [_attempted(facts, picture) for picture in block.pictures()]


def squares(block: Block, wanted: Iterable[bool], side: int, colour: bool, fit: str) -> list[np.ndarray | str | None]:
    """Each picture that is `wanted` as bytes, or what is wrong with it; None for the others, which nobody decodes."""
    pairs = zip(block.pictures(), wanted, strict=True)
    return [_attempted(square, picture, side, colour, fit) if want else None for picture, want in pairs]


def _attempted(read: Any, *arguments: Any) -> Any:
    """`read` with what makes a picture unusable returned in place of raised, so that all of them are looked at."""
    try:
        return read(*arguments)
    except Unusable as fault:
        return str(fault)

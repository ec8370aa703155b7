"""Parquet tables with a column of images: their rows are inputs."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path, PurePosixPath
from posixpath import splitext
from threading import Lock
from typing import TYPE_CHECKING, Any

from surgery.addresses import address_identity, hide_secrets, is_address, open_file_system, retry
from surgery.errors import ImageError, first_line
from surgery.inputs.input_files import FileGroup, StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from surgery.inputs.text_table import TextTable

_BATCH_ROWS = 8
"""Rows that are unpacked together."""
_KEPT_BATCHES = 8
"""Batches that are kept: threads that read in advance ask for rows nearly in order."""
_BUFFER = 2**20
"""Bytes of the file that are read at once, so that a row group is never in memory as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class ParquetTable(FileGroup):
    """The rows of a Parquet file, whose column of images is known."""

    file: str
    """Its path, or its address, which is not to be shown."""
    label: str
    """What its rows are called by."""
    column: str
    is_struct: bool
    """Whether the values of the column are structs with the field ``bytes``."""
    rows: int
    names: TextTable | None
    """The names of the rows; None for their numbers."""
    suffix: str
    """The suffix of a row whose name has none that the reader knows."""

    def __str__(self) -> str:
        return hide_secrets(self.file)

    def __len__(self) -> int:
        return self.rows

    def item(self, number: int) -> ParquetRow:
        """Return the row with a number."""
        return ParquetRow(self, number)

    def local_files(self) -> Iterable[Path]:
        """Return the file if it is one of this machine."""
        return () if is_address(self.file) else (Path(self.file),)


@dataclass(frozen=True, slots=True, eq=False)
class ParquetRow(StoredFile):
    """An image in a row of a Parquet file: ``photos.parquet/17``, called ``photos-0017``, or by its own name."""

    table: ParquetTable
    number: int

    def __str__(self) -> str:
        return f"{self.table}/{self._own_name}"

    @property
    def name(self) -> str:
        return f"{PurePosixPath(self._own_name).name}{self.table.suffix}"

    @property
    def label(self) -> str:
        if self.table.names is not None:
            return f"{self.table.label}-{splitext(self._own_name)[0]}"
        return f"{self.table.label}-{self.number:0{len(str(self.table.rows - 1))}}"

    @property
    def identity(self) -> str:
        file = self.table.file
        return f"{address_identity(file) if is_address(file) else file}::{self.table.column}/{self._own_name}"

    @property
    def _own_name(self) -> str:
        return str(self.number) if self.table.names is None else self.table.names.item(self.number)

    def copy_to(self, path: Path) -> None:
        def read() -> Any:
            try:
                return _rows(self.table, os.getpid()).read(self.number)
            except Exception:
                _rows.cache_clear()  # what was read half may be no good
                raise

        try:
            content = retry(read)
        except (OSError, ImageError):
            raise
        except Exception as error:  # pyarrow raises errors of several kinds for a damaged file
            raise ImageError(f"can't read {self}: {first_line(error)}") from error
        if content is None:
            raise ImageError(f"{self} has no image: its value is empty")
        with path.open("r+b") as target:
            target.write(content)


class _Rows:
    """Reads the rows of a table, best in their order: those around the last ones are kept."""

    def __init__(self, table: ParquetTable) -> None:
        self._table = table
        self._opened = open_parquet(table.file)
        metadata = self._opened.metadata
        self._ends = [*accumulate(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))]
        self._kept: deque[tuple[int, Any]] = deque(maxlen=_KEPT_BATCHES)
        """The number of the first row of each batch, and its values."""
        self._next = -1
        self._batches: Iterator[Any] = iter(())
        self._lock = Lock()

    def read(self, row: int) -> Any:
        """Return the bytes of a row, as a buffer; None if there are none."""
        with self._lock:
            while True:
                for start, values in self._kept:
                    if start <= row < start + len(values):
                        value = values[row - start]
                        return value.as_buffer() if value.is_valid else None
                self._advance(row)

    def _advance(self, row: int) -> None:
        """Read the next batch, from the group of the row if that is elsewhere."""
        group = next(place for place, end in enumerate(self._ends) if row < end)
        start = self._ends[group - 1] if group else 0
        if not start <= self._next <= row:
            column = f"{self._table.column}.bytes" if self._table.is_struct else self._table.column
            groups = [*range(group, len(self._ends))]
            self._batches = self._opened.iter_batches(_BATCH_ROWS, groups, [column], use_threads=False)
            self._next = start
        values = next(self._batches).column(0)
        if self._table.is_struct:
            values = values.field("bytes")
        self._kept.append((self._next, values))
        self._next += len(values)


@lru_cache(maxsize=2)
def _rows(table: ParquetTable, process: int) -> _Rows:  # noqa: ARG001 - a fork has to open the file anew
    return _Rows(table)


def open_parquet(file: str) -> Any:
    """Return a `pyarrow.parquet.ParquetFile` of a path or an address, which is read by parts.

    Raises ImageError without pyarrow, and what pyarrow and the file system raise.
    """
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImageError(
            f"{hide_secrets(file)} is read by pyarrow, which can't be imported: pip install pyarrow"
        ) from error
    if not is_address(file):
        os.stat(file)  # noqa: PTH116 - its error says what is wrong in fewer words than pyarrow's
        return ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)
    file_system, place = open_file_system(file)
    return ParquetFile(file_system.open(place, "rb"), buffer_size=_BUFFER, pre_buffer=False)

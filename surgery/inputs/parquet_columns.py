"""The column of a Parquet table that holds images, and what its rows are called."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from surgery.addresses import hide_secrets, is_address
from surgery.errors import ImageError, describe_os_error, did_you_mean, first_line
from surgery.inputs.file_selection import name_of
from surgery.inputs.parquet_tables import ParquetTable, open_parquet
from surgery.inputs.remote_files import ask
from surgery.inputs.text_table import TextTable
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.inputs.file_selection import FileSelection

_WITH_COLUMN = re.compile(r"(?P<file>.*\.parquet)::(?P<column>(?!.*://).+)", re.IGNORECASE | re.DOTALL)


def split_column(name: str) -> tuple[str, str | None]:
    """Return the name of a file, and the column that is named behind it: ``photos.parquet::image``; None if none is."""
    found = _WITH_COLUMN.fullmatch(name)
    return (name, None) if found is None else (found["file"], found["column"])


def open_table(name: str, selection: FileSelection) -> ParquetTable:
    """Return the rows of a Parquet file, by its path or address, perhaps with ``::COLUMN`` behind it.

    Raises ImageError for a file that can't be read, without pyarrow, and for one that has no column of images, several,
    or none of this name.
    """
    file, column = split_column(name)
    shown = hide_secrets(file)

    def read() -> ParquetTable:
        try:
            return _describe(file, column, selection)
        except (OSError, ImageError):
            raise
        except Exception as error:  # pyarrow raises errors of several kinds for a damaged file
            raise ImageError(f"{shown} is no Parquet file that can be read: {first_line(error)}") from error

    if is_address(file):
        return ask(read, file)
    try:
        return read()
    except OSError as error:
        reason = describe_os_error(error) if error.errno else first_line(error)
        raise ImageError(f"can't read the table {file}: {reason}") from error


def _describe(file: str, column: str | None, selection: FileSelection) -> ParquetTable:
    opened = open_parquet(file)
    shown = hide_secrets(file)
    schema = opened.schema_arrow
    column = _find_column(schema, shown) if column is None else _check_column(schema, column, shown)
    if not opened.metadata.num_rows:
        raise ImageError(f"{shown} has no rows")
    kind = schema.field(column).type
    is_struct = _is_struct(kind)
    return ParquetTable(
        file=file,
        label=PurePosixPath(name_of(file)).stem,
        column=column,
        is_struct=is_struct,
        rows=opened.metadata.num_rows,
        names=_read_names(opened, column) if is_struct and _has_paths(kind) else None,
        suffix="" if selection.description == "image" else next(iter(selection.suffixes), ""),
    )


def _find_column(schema: Any, shown: str) -> str:
    images = _declared_images(schema)
    kinds: dict[str, Any] = {field.name: field.type for field in schema}
    candidates = [name for name, kind in kinds.items() if name in images and _holds_bytes(kind)]
    candidates = candidates or [name for name, kind in kinds.items() if _is_struct(kind)]
    candidates = candidates or [name for name, kind in kinds.items() if _is_binary(kind)]
    if len(candidates) > 1:
        raise ImageError(
            f"{shown} has {len(candidates)} columns of bytes: {abbreviate_list(candidates, 6)}; name one: "
            f"{shown}::{candidates[0]}"
        )
    if not candidates:
        raise ImageError(f"{shown} has no column of images; it has {_list_columns(kinds)}")
    return candidates[0]


def _check_column(schema: Any, column: str, shown: str) -> str:
    kinds: dict[str, Any] = {field.name: field.type for field in schema}
    if column not in kinds:
        raise ImageError(
            f"{shown} has no column {column!r}{did_you_mean(column, kinds) or f'; it has {_list_columns(kinds)}'}"
        )
    if not _holds_bytes(kinds[column]):
        raise ImageError(f"the column {column!r} of {shown} holds {kinds[column]}, and images are bytes")
    return column


def _list_columns(kinds: Mapping[str, Any]) -> str:
    return abbreviate_list([f"{name} ({str(kind)[:40]})" for name, kind in kinds.items()], 6)


def _declared_images(schema: Any) -> set[str]:
    """Return the columns that the description of a data set of Hugging Face says are images."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (KeyError, ValueError, TypeError, AttributeError):
        return set()


def _is_binary(kind: Any) -> bool:
    return str(kind) in ("binary", "large_binary", "binary_view")


def _is_struct(kind: Any) -> bool:
    """Return whether a column is as Hugging Face has images: structs with bytes, and mostly a path."""
    return str(kind).startswith("struct<") and any(each.name == "bytes" and _is_binary(each.type) for each in kind)


def _has_paths(kind: Any) -> bool:
    return any(each.name == "path" and str(each.type) in ("string", "large_string") for each in kind)


def _holds_bytes(kind: Any) -> bool:
    return _is_binary(kind) or _is_struct(kind)


def _read_names(opened: Any, column: str) -> TextTable | None:
    """Return the paths beside the images; None if one is missing or is there twice."""
    names: dict[str, None] = {}
    for batch in opened.iter_batches(columns=[f"{column}.path"], use_threads=False):
        for value in batch.column(0).field("path").to_pylist():
            if not value or value in names:
                return None
            names[value] = None
    return TextTable.of(names)

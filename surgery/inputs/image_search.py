"""From the files, folders, patterns, lists and addresses that a user names to the inputs of a run."""

from __future__ import annotations

import os
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from surgery.addresses import is_address, local_path
from surgery.errors import ImageError
from surgery.inputs.file_selection import TABLE_SUFFIX, FileSelection, name_of
from surgery.inputs.input_files import InputFiles, LocalFiles
from surgery.inputs.local_files import find_local_files
from surgery.inputs.name_ranges import expand_braces
from surgery.inputs.parquet_columns import open_table, split_column
from surgery.inputs.path_lists import ListedName, is_list, read_list
from surgery.inputs.remote_files import RemoteFiles, find_remote_files
from surgery.inputs.tar_headers import open_shard
from surgery.inputs.text_table import TextTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from surgery.inputs.input_files import FileGroup

    FilePatterns: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | InputFiles
    """Files, folders, patterns, lists and addresses, as `find_images` takes them, or what it returned for them."""


def find_images(images: FilePatterns, suffixes: Collection[str] | None = None) -> InputFiles:
    """Return the inputs that `images` names: files, folders, patterns, shards and lists, here or at addresses.

    A pattern is such as ``facades/*.png``, a list such as ``@list.txt``, a text with a path or an address on each line,
    and an address is one of fsspec, such as ``s3://bucket/photos/*.png``. The inputs are in the order of `images`;
    those from one folder or pattern are sorted. A folder gives the files directly in it. A file that is named by its
    path or address is among them whether it exists or not. The members of a tar archive are inputs, and the
    rows of a Parquet table: ``photos.parquet``, ``photos.parquet::column``. ``shard-{00..99}.tar`` stands for a range
    of names.

    `suffixes` (lower case, with the dot) select files from folders and from patterns without a suffix; None selects
    image files. Hidden files and files with other suffixes are skipped, and a note says so. A pattern with ``**`` on
    this machine skips folders that hold a finished run.

    Raises ImageError for an empty name, for a folder or a pattern without a matching file, for a list that can't be
    read, for an address whose files can't be listed, and for an archive or a table that can't be read.
    """
    if isinstance(images, InputFiles):
        return images
    items = [images] if isinstance(images, (str, os.PathLike)) else images
    selection = FileSelection.of(suffixes)
    names = chain.from_iterable(_find(item, selection) for item in items)
    files = InputFiles(_group(names, selection))
    if not files:
        raise ImageError("no images were given")
    return files


def _find(item: str | os.PathLike[str], selection: FileSelection) -> Iterable[str]:
    """Return the paths and addresses of the files that an item stands for."""
    if not str(item).strip():
        raise ImageError("the name of an image is empty; is a variable of the shell not set?")
    if isinstance(item, ListedName):
        return [_as_listed(item)]
    if isinstance(item, str) and is_list(item):
        return map(_as_listed, read_list(item))
    if not isinstance(item, str) or os.path.exists(item):  # noqa: PTH110 - no error for a long name
        return find_local_files(item, selection)
    return chain.from_iterable(_find_one(name, selection) for name in expand_braces(item))


def _find_one(name: str, selection: FileSelection) -> Iterable[str]:
    file, column = split_column(name)
    if column is not None:
        return [f"{each}::{column}" for each in _find_one(file, selection)]
    if not is_address(name):
        return find_local_files(name, selection)
    path = local_path(name)
    return find_remote_files(name, selection) if path is None else find_local_files(path, selection)


def _as_listed(name: str) -> str:
    """Return the path or address that a line of a list is."""
    if is_address(name) and local_path(name) is None:
        return str(name)
    return str(Path(local_path(name) or name))


def _group(names: Iterable[str], selection: FileSelection) -> Iterator[FileGroup]:
    def kind(name: str) -> tuple[bool, bool]:
        return is_address(name), selection.is_shard(name_of(split_column(name)[0]))

    for (is_remote, is_shard), together in groupby(names, kind):
        if is_shard:
            for name in together:
                is_table = split_column(name)[0].lower().endswith(TABLE_SUFFIX)
                yield open_table(name, selection) if is_table else open_shard(name, selection)
        else:
            texts = TextTable.of(together)
            yield RemoteFiles(texts) if is_remote else LocalFiles(texts)


def reader_suffixes(reader: object) -> tuple[str, ...] | None:
    """Return the suffixes of the files that a reader reads; None for a reader without `suffixes`, as for images."""
    suffixes = getattr(reader, "suffixes", None)
    return None if suffixes is None else tuple(suffixes)

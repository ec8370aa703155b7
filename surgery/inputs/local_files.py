"""Files of this machine: what a folder or a pattern stands for."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import ImageError, describe_os_error
from surgery.output import has_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.inputs.file_selection import FileSelection


def find_local_files(name: str | os.PathLike[str], selection: FileSelection) -> Sequence[str]:
    """Return the paths of the files that a name stands for: of a file, a folder or a pattern.

    Raises ImageError for a folder or a pattern without a matching file, and for a folder that can't be read.
    """
    path = Path(name)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long
        raise ImageError(f"can't read {str(name)[:60]}: {describe_os_error(error)}") from error
    if is_folder:
        return selection.choose_from_folder(str(path), _files_in(path))
    if not exists and glob.has_magic(str(name)):
        return selection.choose_matches(str(name), path.name, _matches(str(name)))
    return [str(path)]


def _files_in(folder: Path) -> list[str]:
    """Return the paths of the files in a folder, in the order that `pathlib` has."""
    start = str(folder / "x")[:-1]
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _is_file(entry)]
    except OSError as error:
        raise ImageError(f"can't read the folder {folder}: {describe_os_error(error)}") from error
    return [f"{start}{name}" for name in sorted(names, key=os.path.normcase)]


def _is_file(entry: os.DirEntry[str]) -> bool:
    return Path(entry.path).is_file() if entry.is_symlink() else entry.is_file()  # a link may lead nowhere


def _matches(pattern: str) -> list[str]:
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if "**" in pattern:
        runs = set(filter(has_manifest, {folder for match in matches for folder in match.parents}))
        matches = [match for match in matches if runs.isdisjoint(match.parents)]
    return [str(match) for match in matches if match.is_file()]

"""From the files, folders and patterns that a user names to the paths of image files."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import ImageError, describe_os_error
from surgery.inputs.decoding import decodable_suffixes
from surgery.inputs.notes import add_note
from surgery.inputs.path_lists import ListedPath, is_list, read_list
from surgery.output import has_manifest

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def find_images(
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], suffixes: Collection[str] | None = None
) -> list[Path]:
    """Return the paths of the image files that `images` names: files, folders, patterns and lists.

    A pattern is such as ``facades/*.png``, and a list such as ``@list.txt``: a text with a path on each line. The paths
    are in the order of `images`; those from one folder or pattern are sorted. A folder gives the files directly in it.
    A file that is named by its path is in the list whether it exists or not.

    `suffixes` (lower case, with the dot) select files from folders and from patterns without a suffix; None selects
    image files. Hidden files and files with other suffixes are skipped, and a note says so. A pattern with ``**``
    skips folders that hold a finished run.

    Raises ImageError for an empty name, for a folder or a pattern without a matching file, and for a list that can't
    be read.
    """
    items = [images] if isinstance(images, (str, os.PathLike)) else images
    wanted = decodable_suffixes() if suffixes is None else suffixes
    description = "image" if suffixes is None else f"file in {', '.join(suffixes)}"
    paths: list[Path] = []
    for item in items:
        if not str(item).strip():
            raise ImageError("the name of an image is empty; is a variable of the shell not set?")
        if isinstance(item, str) and is_list(item):
            paths += read_list(item)
            continue
        if isinstance(item, ListedPath):
            paths.append(item)
            continue
        path = Path(item)
        try:
            is_folder, exists = path.is_dir(), path.exists()
        except OSError as error:  # such as a name that is too long
            raise ImageError(f"can't read {str(item)[:60]}: {describe_os_error(error)}") from error
        if is_folder:
            paths += _files_in_folder(path, wanted, description)
        elif not exists and glob.has_magic(str(item)):
            paths += _files_matching(path, str(item), wanted, description)
        else:
            paths.append(path)
    if not paths:
        raise ImageError("no images were given")
    return paths


def _files_in_folder(folder: Path, suffixes: Collection[str], description: str) -> list[Path]:
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except OSError as error:
        raise ImageError(f"can't read the folder {folder}: {describe_os_error(error)}") from error
    selected = _with_suffixes(folder, files, suffixes)
    if not selected:
        advice = "" if description.startswith("file") else "; --reader NAME reads other files (reader= in Python)"
        others = f"; it holds {_list_names(files)}{advice}" if files else ""
        raise ImageError(f"the folder {folder} has no {description} in it{others}")
    return selected


def _files_matching(path: Path, pattern: str, suffixes: Collection[str], description: str) -> list[Path]:
    matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if "**" in pattern:
        runs = set(filter(has_manifest, {folder for match in matches for folder in match.parents}))
        matches = [match for match in matches if runs.isdisjoint(match.parents)]
    files = [match for match in matches if match.is_file()]
    accepts_any_suffix = glob.has_magic(path.suffix) or not path.suffix
    selected = _with_suffixes(path, files, suffixes) if accepts_any_suffix else files
    if not selected:
        others = f"; it matches {_list_names(files)}, and no {description}" if files else ""
        raise ImageError(f"no file matches {pattern}{others}")
    return selected


def _with_suffixes(source: Path, files: Sequence[Path], suffixes: Collection[str]) -> list[Path]:
    """Return the files with one of the suffixes that are not hidden, and note how many others there are."""
    selected = [file for file in files if file.suffix.lower() in suffixes and not file.name.startswith(".")]
    chosen = set(selected)
    others = [file for file in files if file not in chosen]
    if others and selected:
        count = "1 other file is" if len(others) == 1 else f"{len(others)} other files are"
        add_note(source, f"{count} left out: {_list_names(others)}")
    return selected


def _list_names(files: Sequence[Path], limit: int = 3) -> str:
    names = ", ".join(file.name for file in files[:limit])
    return f"{names} and {len(files) - limit} more" if len(files) > limit else names


def reader_suffixes(reader: object) -> tuple[str, ...] | None:
    """Return the suffixes of the files that a reader reads; None for a reader without `suffixes`, as for images."""
    suffixes = getattr(reader, "suffixes", None)
    return None if suffixes is None else tuple(suffixes)

"""Which files of a folder or pattern are inputs."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from surgery.addresses import address_name, is_address
from surgery.errors import ImageError
from surgery.inputs.decoding import decodable_suffixes
from surgery.inputs.input_files import StoredFile
from surgery.inputs.notes import add_note
from surgery.inputs.path_names import last_name, split_suffix
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TABLE_SUFFIX = ".parquet"
SHARD_SUFFIXES = (TABLE_SUFFIX, ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Files of several inputs. In compressed archives they can't be read one by one, which a message says."""


@dataclass(frozen=True, slots=True)
class FileSelection:
    """Selects the files that a reader reads, by their suffixes."""

    suffixes: Collection[str]
    """In lower case, with the dot."""
    description: str
    """What these files are called in messages."""

    @classmethod
    def of(cls, suffixes: Collection[str] | None) -> FileSelection:
        """Return the selection of files with these suffixes; of image files for None."""
        if suffixes is None:
            return cls(decodable_suffixes(), "image")
        return cls(suffixes, f"file in {', '.join(suffixes)}")

    def has_suffix(self, name: str) -> bool:
        """Return whether the name of a file has one of the suffixes."""
        return split_suffix(name)[1].lower() in self.suffixes

    def takes(self, name: str) -> bool:
        """Return whether a file of this name has one of the suffixes, and is not hidden."""
        return self.has_suffix(name) and not name.startswith(".")

    def is_shard(self, name: str) -> bool:
        """Return whether a file of this name is an archive or a table of inputs, and is not read as it is."""
        return name.lower().endswith(SHARD_SUFFIXES) and not self.has_suffix(name)

    def choose(self, source: str, files: Sequence[str]) -> list[str]:
        """Return the files with one of the suffixes that are not hidden, and note how many others there are.

        If there are none, they are the shards among the files.
        """
        names = [*map(name_of, files)]
        is_chosen = [self.takes(name) for name in names]
        if not any(is_chosen):
            is_chosen = [self.is_shard(name) and not name.startswith(".") for name in names]
        chosen = [file for file, is_one in zip(files, is_chosen, strict=True) if is_one]
        others = [name for name, is_one in zip(names, is_chosen, strict=True) if not is_one]
        if others and chosen:
            count = "1 other file is" if len(others) == 1 else f"{len(others)} other files are"
            add_note(source, f"{count} left out: {abbreviate_list(others)}")
        return chosen

    def choose_from_folder(self, folder: str, files: Sequence[str]) -> list[str]:
        """Return those of the files in a folder. Raises ImageError if there are none."""
        if chosen := self.choose(folder, files):
            return chosen
        raise ImageError(self.explain_none(f"the folder {folder}", [*map(name_of, files)]))

    def explain_none(self, place: str, names: Sequence[str]) -> str:
        """Return why no file in a folder or a shard is chosen, where there are files of these names."""
        advice = "; --reader NAME reads other files (reader= in Python)" if self.description == "image" else ""
        others = f"; it holds {abbreviate_list(names)}{advice}" if names else ""
        return f"{place} has no {self.description} in it{others}"

    def choose_matches(self, pattern: str, name: str, files: Sequence[str]) -> Sequence[str]:
        """Return those of the files that match a pattern: all if its last part `name` has a suffix.

        Raises ImageError if there are none.
        """
        suffix = PurePath(name).suffix
        chosen = files if suffix and not glob.has_magic(suffix) else self.choose(pattern, files)
        if not chosen:
            others = f"; it matches {abbreviate_list(map(name_of, files))}, and no {self.description}" if files else ""
            raise ImageError(f"no file matches {pattern}{others}")
        return chosen


def suffix_of(file: str | os.PathLike[str] | StoredFile) -> str:
    """Return the suffix of a path, an address, a pattern of them, or an input, in lower case with the dot."""
    name = file.name if isinstance(file, StoredFile) else name_of(os.fspath(file))
    return PurePath(name).suffix.lower()


def name_of(file: str) -> str:
    """Return the last part of a path or an address."""
    return address_name(file) if is_address(file) else last_name(file)

"""The inputs of a run as a sequence that takes little memory, whether they are files here, at addresses or in archives.

InputFiles           all inputs of a run
└── its parts        `LocalFiles`, `RemoteFiles`, `TarShard`, `ParquetTable`: sequences themselves
    └── an input     a `Path`, or a `StoredFile` that `local_copy` makes a file of for a reader
"""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC, abstractmethod
from bisect import bisect_right
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from surgery.addresses import describe_address_error
from surgery.errors import ImageError, SurgeryError, describe_os_error
from surgery.inputs.notes import showing
from surgery.inputs.path_names import last_name, split_suffix
from surgery.inputs.text_table import TextTable
from surgery.text import LazySequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SUFFIX = re.compile(r"\.[A-Za-z0-9_-]{1,16}")


class StoredFile(ABC):
    """An input that is no file of its own on this machine. ``str()`` is its address, without passwords and tokens."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """What the file is called where it is stored, with its suffix. Any text."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the input is called in the output of a run."""

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The suffix of its name, with the dot."""
        return PurePosixPath(self.name).suffix

    @property
    def identity(self) -> str:
        """What tells it from other inputs. It may have what is not to be shown."""
        return str(self)

    @abstractmethod
    def copy_to(self, path: Path) -> None:
        """Write its content to a file of this machine, which is there and empty.

        It is best not truncated (mode ``r+b``): ext4 writes a file to the disk when it is closed after that, which
        takes milliseconds. Raises ImageError, or any error that `describe_address_error` describes.
        """


InputFile: TypeAlias = Path | StoredFile
"""What a reader reads, by `local_copy`."""


class FileGroup(LazySequence[InputFile]):
    """Some inputs of a run that follow each other and are stored alike."""

    __slots__ = ()

    def local_files(self) -> Iterable[Path]:
        """Return the files of this machine that are read."""
        return ()

    def identities(self) -> Iterable[str]:
        """Return what tells each input from others. It is to be hashed, not to be shown."""
        return map(identity_of, self)

    def labels(self) -> Iterable[str]:
        """Return what each input is called in the output of a run."""
        return map(label_of, self)


@dataclass(frozen=True, slots=True, eq=False)
class LocalFiles(FileGroup):
    """Files of this machine."""

    paths: TextTable

    def __len__(self) -> int:
        return len(self.paths)

    def item(self, number: int) -> Path:
        """Return the path of a file."""
        return Path(self.paths.item(number))

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self.paths)

    def local_files(self) -> Iterable[Path]:
        """Return all of them."""
        return iter(self)

    def identities(self) -> Iterable[str]:
        """Return their paths, which are as `pathlib` has them."""
        return self.paths

    def labels(self) -> Iterable[str]:
        """Return their stems."""
        return (split_suffix(last_name(path))[0] for path in self.paths)


class InputFiles(LazySequence[InputFile]):
    """The inputs of a run, in order."""

    __slots__ = ("_ends", "groups")

    def __init__(self, groups: Iterable[FileGroup]) -> None:
        self.groups = tuple(groups)
        self._ends = [*accumulate(map(len, self.groups))]

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[InputFile]:
        return chain.from_iterable(self.groups)

    def item(self, number: int) -> InputFile:
        """Return the input with a number."""
        place = bisect_right(self._ends, number)
        return self.groups[place].item(number - (self._ends[place - 1] if place else 0))

    def local_files(self) -> Iterator[Path]:
        """Yield the files of this machine that are read."""
        return chain.from_iterable(group.local_files() for group in self.groups)

    def identities(self) -> Iterator[str]:
        """Yield what tells each input from others. It is to be hashed, not to be shown."""
        return chain.from_iterable(group.identities() for group in self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class Labels(LazySequence[str]):
    """What inputs are called in the output of a run, before these names are made unique."""

    files: InputFiles

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(group.labels() for group in self.files.groups)

    def item(self, number: int) -> str:
        """Return what the input with a number is called."""
        return label_of(self.files[number])


def label_of(file: InputFile) -> str:
    """Return what an input is called in the output of a run."""
    return file.label if isinstance(file, StoredFile) else file.stem


def identity_of(file: InputFile) -> str:
    """Return what tells an input from others. It is to be hashed, not to be shown."""
    return file.identity if isinstance(file, StoredFile) else str(file)


@contextmanager
def local_copy(file: InputFile) -> Iterator[Path]:
    """Yield the path of a file of this machine with the content of an input, for as long as the block lasts.

    A path is yielded as it is. Of a stored file it is a temporary copy with the suffix of the input; notes about it and
    errors that leave the block name the input instead. Raises ImageError if the input can't be copied.
    """
    if isinstance(file, Path):
        yield file
        return
    suffix = file.suffix if _SUFFIX.fullmatch(file.suffix) else ""
    try:
        descriptor, name = tempfile.mkstemp(suffix, "surgery-")
    except OSError as error:
        raise ImageError(f"can't copy {file} to {tempfile.gettempdir()}: {describe_os_error(error)}") from error
    os.close(descriptor)
    path = Path(name)
    try:
        _copy(file, path)
        with showing(path, str(file)):
            yield path
    except SurgeryError as error:
        error.args = tuple(str(part).replace(name, str(file)) for part in error.args)
        raise
    finally:
        path.unlink(missing_ok=True)


def _copy(file: StoredFile, path: Path) -> None:
    try:
        file.copy_to(path)
    except SurgeryError:
        raise
    except Exception as error:
        raise ImageError(f"can't read {file}: {describe_address_error(error, file.identity)}") from error

"""Where the sinks of a run write: whole files or none, and directories of stores, known to the run's manifest."""

from __future__ import annotations

import errno
import itertools
import os
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError
from surgery.names import BATCH, Names, numbered, safe_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import PurePosixPath

    from surgery.types import Activation


class OutputFolder:
    """The folder of one run.

    `about` says in words what the run is (model, weights, mode, the recipe of its pictures), for sinks that write it
    into their files.
    """

    def __init__(self, path: str | os.PathLike[str], about: Mapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self.about: Mapping[str, str] = dict(about or {})
        self.batch = 0
        """Number of the batch that is offered: that of its first image among the images of the run."""
        self.written: list[tuple[str, Activation | None]] = []
        """Files and directories finished and not yet taken, relative to the folder, ``/`` between the parts of their
        names, and the activation each is of."""
        self._finished: list[Callable[[str | None], object]] = []
        self._dropped: list[Callable[[str | None], object]] = []
        self._unfinished: defaultdict[str | None, list[str]] = defaultdict(list)
        self._token = uuid4().hex
        self._parts = itertools.count()
        self._homes: dict[str, Path] = {}
        """Directories that were made, by name."""
        self._names = Names()

    def place(self, image: str | None) -> str:
        """Where files of an image belong, or of what belongs to the whole batch: relative to the folder."""
        return f"{BATCH}/{numbered(self.batch, 4)}" if image is None else safe_part(image)

    def prepare(self) -> None:
        """Make the folder, and see that files can be written to it. Raises OutputError where they can't."""
        probe = self.path / f".{uuid4().hex}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(f"can't write to {self.path}: {_reason(error)}") from error

    @contextmanager
    def file(self, name: str | PurePosixPath, of: Activation | None = None) -> Iterator[Path]:
        """A path to write one file to, which appears under its own name once the block ends well.

        `name` is relative to the folder, with ``/`` between its parts. Any text will do: a part that no file system
        takes or that would lead out of the folder is changed (`surgery.names`), and names that differ in case alone
        become different ones. `take_written` gives the name that the file has. Raises OutputError where it can't be
        written.
        """
        name = self._names.find(str(name))
        within, _, last = name.rpartition("/")
        part: Path | None = None
        try:
            home = self._homes.get(within) or self._make(within)
            part = home / f".{self._token}-{next(self._parts)}.part"  # the name alone may be as long as it can be
            yield part
            os.replace(part, f"{home}/{last}")  # noqa: PTH105 - a Path takes longer to make than the file to rename
            part = None
        except OSError as error:
            raise OutputError(f"can't write {self.path / name}: {_reason(error)}") from error
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        self.written.append((name, of))
        if of is not None:
            self._unfinished[of.image].append(name)

    @contextmanager
    def directory(self, name: str | PurePosixPath) -> Iterator[Path]:
        """The path of a directory that a store keeps files of its own in, for as long as the block lasts.

        `name` is relative to the folder, and made safe as that of a file. The store makes the directory when it has
        something to write, and sees to it that what was finished can be read at any time; what an earlier run left
        there is the store's to keep. It is listed once, under its own name, when the block ends, however that ends.
        """
        name = self._names.find(str(name), "store")
        target = self.path / name
        try:
            yield target
        finally:
            if target.is_dir():
                self.written.append((name, None))

    def _make(self, name: str) -> Path:
        """Make a directory in the folder, once."""
        home = self.path / name
        home.mkdir(parents=True, exist_ok=True)
        self._homes[name] = home
        return home

    def when_finished(self, callback: Callable[[str | None], object]) -> None:
        """Have `callback` called with an image's name once all of its activations have been offered.

        It is called with None, once a batch, for the activations that belong to the whole batch.
        """
        self._finished.append(callback)

    def when_dropped(self, callback: Callable[[str | None], object]) -> None:
        """Have `callback` called in the place of those of `when_finished` for an image that fails half-way."""
        self._dropped.append(callback)

    def take_written(self) -> list[tuple[str, Activation | None]]:
        """Take the list of the files and directories finished since it was last taken."""
        taken, self.written = self.written, []
        return taken

    def finish(self, image: str | None) -> None:
        """Tell those who asked that all activations of an image have been offered."""
        self._unfinished.pop(image, None)
        for callback in self._finished:
            callback(image)

    def drop(self, image: str | None) -> None:
        """Remove the files of an image's activations, and tell those who asked that no more of them will come."""
        for name in self._unfinished.pop(image, []):
            file = self.path / name
            file.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                file.parent.rmdir()
                self._homes.pop(name.rpartition("/")[0], None)
        self.written = [(name, of) for name, of in self.written if of is None or of.image != image]
        for callback in self._dropped:
            callback(image)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write a file to, which appears under the name `path` once the block ends well.

    The folder is made if it is not there. Raises OutputError where the file can't be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {_reason(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()

"""Where the sinks of a run write: whole files or none, and directories of stores, known to the run's manifest."""

from __future__ import annotations

import errno
import itertools
import os
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from surgery.errors import OutputError
from surgery.output.image_records import describe_os_error
from surgery.text import BATCH_FOLDER, UniquePaths, sanitize_path_part, sortable_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import PurePosixPath

    from surgery.output.workspace import Workspace
    from surgery.types import Activation


class OutputFolder:
    """The folder of one run.

    `about` says in words what the run is (model, weights, mode, the recipe of its pictures), for sinks that write it
    into their files. With a `workspace` the folder is the run's alone: what it writes is kept in a journal, and files
    of others are not written over.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        about: Mapping[str, str] | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.path = Path(path)
        self.about: Mapping[str, str] = dict(about or {})
        self.shared: dict[str, Any] = {}
        """What sinks keep for all images of the run; several processes begin with what the first image left in it."""
        self.batch = 0
        """Number of the batch that is offered: that of its first image among the images of the run."""
        self._written: list[tuple[str, Activation | None]] = []
        """Files and directories finished and not yet taken, relative to the folder, ``/`` between the parts of their
        names, and the activation each is of."""
        self._finished_callbacks: list[Callable[[str | None], object]] = []
        self._dropped_callbacks: list[Callable[[str | None], object]] = []
        self._unfinished_files: defaultdict[str | None, list[str]] = defaultdict(list)
        self._token = uuid4().hex
        self._part_numbers = itertools.count()
        self._workspace = workspace
        self._directories: dict[str, tuple[str, bool]] = {}
        """Directories that were made, by name: their paths, and whether they were not there before."""
        self._own_files: set[str] = set()
        """Files of this run in directories that were there before."""
        self._names = UniquePaths()

    def for_background_thread(self) -> OutputFolder:
        """The same folder, to be told of activations on another thread."""
        other = OutputFolder(self.path, self.about, self._workspace)
        other._directories, other._own_files, other._names = self._directories, self._own_files, self._names
        other.shared = self.shared
        return other

    def reserve_image_names(self, images: Iterable[str]) -> None:
        """Keep the names of images for their own folders."""
        self._names.reserve_folders(images)

    def forget_image(self, image: str | None) -> None:
        """Forget which names there are in the folder of an image, to which nothing more will be written."""
        self._names.forget_folder(self.place(image))
        self._directories.pop(self.place(image), None)

    @property
    def scratch(self) -> Path:
        """Where to write what is to be moved into the folder once it is whole. The next run clears it."""
        return self._workspace.path if self._workspace is not None else self.path

    def place(self, image: str | None) -> str:
        """Where files of an image belong, or of what belongs to the whole batch: relative to the folder."""
        return f"{BATCH_FOLDER}/{sortable_number(self.batch, 4)}" if image is None else sanitize_path_part(image)

    def prepare(self) -> None:
        """Make the folder, and see that files can be written to it. Raises OutputError where they can't."""
        probe = self.path / f".{uuid4().hex}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(f"can't write to {self.path}: {describe_os_error(error)}") from error

    @contextmanager
    def file(self, name: str | PurePosixPath, of: Activation | None = None) -> Iterator[Path]:
        """A path to write one file to, which appears under its own name once the block ends well.

        `name` is relative to the folder, with ``/`` between its parts. Any text will do: a part that no file system
        takes or that would lead out of the folder is changed (`file_names`), and names that differ in case alone
        become different ones. `take_written` gives the name that the file has. Raises OutputError where it can't be
        written.
        """
        name = self._names.path_for(str(name))
        directory, _, last = name.rpartition("/")
        part: Path | None = None
        try:
            home, fresh = self._directories.get(directory) or self._make_directory(directory)
            place = home if self._workspace is None else self._workspace.path
            # The name alone may be as long as it can be; several processes have the token in common.
            part = Path(f"{place}/.{os.getpid()}-{self._token}-{next(self._part_numbers)}.part")
            yield part
            target = f"{home}/{last}"
            if self._workspace is not None:
                if not fresh:
                    self._check_ownership(name, target)
                self._workspace.append_to_journal(name)
            os.replace(part, target)  # noqa: PTH105 - a Path takes longer to make than the file to rename
            part = None
        except OSError as error:
            raise OutputError(f"can't write {self.path / name}: {describe_os_error(error)}") from error
        finally:
            if part is not None:
                part.unlink(missing_ok=True)
        self._written.append((name, of))
        if of is not None:
            self._unfinished_files[of.image].append(name)

    @contextmanager
    def directory(self, name: str | PurePosixPath) -> Iterator[Path]:
        """The path of a directory that a store keeps files of its own in, for as long as the block lasts.

        `name` is relative to the folder, and made safe as that of a file. The store makes the directory when it has
        something to write, and sees to it that what was finished can be read at any time; what was there before is the
        store's to keep. It is listed once, under its own name, when the block ends, however that ends. Raises
        OutputError where the directory leads out of the folder.
        """
        name = self._names.path_for(str(name), "store")
        target = self.path / name
        try:
            if target.is_dir():
                self._check_inside(str(target))
            elif self._workspace is not None and not os.path.lexists(target):
                self._workspace.append_to_journal(f"{name}/")
        except OSError as error:
            raise OutputError(f"can't write {target}: {describe_os_error(error)}") from error
        try:
            yield target
        finally:
            if target.is_dir():
                self._written.append((name, None))

    def _make_directory(self, name: str) -> tuple[str, bool]:
        """Make a directory in the folder, once. Raises OSError."""
        home, fresh, inside = str(self.path), False, ""
        if not self.path.is_dir():
            self.path.mkdir(parents=True, exist_ok=True)
        for part in filter(None, name.split("/")):
            home, inside = f"{home}/{part}", f"{inside}/{part}" if inside else part
            try:
                os.mkdir(home)  # noqa: PTH102
                fresh = True
                if self._workspace is not None:
                    self._workspace.append_to_journal(f"{inside}/.")
            except FileExistsError:
                fresh = False
                self._check_inside(home)
        self._directories[name] = home, fresh
        return home, fresh

    def _check_inside(self, path: str) -> None:
        """Raise NotADirectoryError for what is no directory inside the folder."""
        if not os.path.isdir(path):  # noqa: PTH112
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if os.path.islink(path):  # noqa: PTH114
            root = os.path.realpath(self.path)
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise NotADirectoryError(errno.ENOTDIR, f"{path} leads out of the folder")

    def _check_ownership(self, name: str, target: str) -> None:
        """Raise FileExistsError for a file that is not of this run, in a directory that was there before."""
        if name not in self._own_files and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "a file of that name is there, which is of no run; move it away")
        self._own_files.add(name)

    def when_finished(self, callback: Callable[[str | None], object]) -> None:
        """Have `callback` called with an image's name once all of its activations have been offered.

        It is called with None, once a batch, for the activations that belong to the whole batch.
        """
        self._finished_callbacks.append(callback)

    def when_dropped(self, callback: Callable[[str | None], object]) -> None:
        """Have `callback` called in the place of those of `when_finished` for an image that fails half-way."""
        self._dropped_callbacks.append(callback)

    def take_written(self) -> list[tuple[str, Activation | None]]:
        """Take the list of the files and directories finished since it was last taken."""
        taken, self._written = self._written, []
        return taken

    def finish(self, image: str | None) -> None:
        """Tell those who asked that all activations of an image have been offered."""
        self._unfinished_files.pop(image, None)
        for callback in self._finished_callbacks:
            callback(image)

    def drop(self, image: str | None) -> None:
        """Remove the files of an image's activations, and tell those who asked that no more of them will come."""
        for name in self._unfinished_files.pop(image, []):
            file = self.path / name
            file.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                file.parent.rmdir()
                self._directories.pop(name.rpartition("/")[0], None)
        self._written = [(name, of) for name, of in self._written if of is None or of.image != image]
        for callback in self._dropped_callbacks:
            callback(image)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A path to write a file to, which appears under the name `path` once the block ends well.

    The folder is made if it is not there. Raises OutputError where the file can't be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {describe_os_error(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)

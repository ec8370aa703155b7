"""The folder that the sinks of a run write to."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.checksums import FileDigest, digest_file
from surgery.output.common_files import CommonFiles, exact_name
from surgery.output.disk_space import round_to_blocks
from surgery.output.gathered import check_free
from surgery.output.planned_images import PlannedImages, Sources
from surgery.output.run_directories import RunDirectories
from surgery.text import BATCH_FOLDER, ImageNames, UniquePaths, sanitize_path_part, sortable_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import PurePosixPath

    from surgery.output.gathered import Gathered
    from surgery.output.workspace import Workspace
    from surgery.types import Activation

    ImageCallback = Callable[[str | None], object]


class WrittenFile(NamedTuple):
    """A complete file or store."""

    name: str
    """Relative to the folder, with ``/`` between its parts."""
    activation: Activation | None = None
    """What it was written of; None for a file of several activations."""
    crc32: str | None = None
    """The checksum of a file; None for a store."""
    is_common: bool = False
    """Whether it is a file of the whole run, which has the same content whoever writes it."""


class OutputFolder:
    """The folder of one run: sinks open files and stores in it, and hear when an image is finished.

    A file appears under its name only when it is complete. `about` describes the run in words (model, weights, mode,
    recipe), for sinks that write it into their files. With a `workspace`, the folder belongs to this run alone: each
    file is noted in it before it appears, and files of others are not overwritten.
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
        """What sinks decide for all images of a run, in values that JSON can hold.

        Worker processes, and a run that goes on after it was stopped, start with what the first images left in it."""
        self.images: PlannedImages | None = None
        """The images of the run; None if it is not one of `surgery.extract`."""
        self.batch = 0
        """The number of the current batch, which is the number of its first image."""
        self.disk_bytes = 0
        """What the files of this thread take on the disk, without those in stores."""
        self._workspace = workspace
        self._directories = RunDirectories(self.path, workspace)
        self._names = UniquePaths()
        self._common = CommonFiles(self.path, self._directories, workspace)
        self._gathered: list[tuple[str, Gathered]] = []
        """What `take_gathered` returns next."""
        self._written: list[WrittenFile] = []
        """What `take_written` returns next."""
        self._on_finished: list[ImageCallback] = []
        self._on_dropped: list[ImageCallback] = []
        self._unfinished_files: defaultdict[str | None, list[str]] = defaultdict(list)
        """Files of single activations, by the image that they belong to."""
        self._token = uuid4().hex
        self._part_numbers = itertools.count()
        self._digests: dict[str, FileDigest] = {}
        """What `note_digest` was told, until its file is complete."""

    def __reduce__(self) -> tuple[Callable[..., OutputFolder], tuple[Any, ...]]:
        return _reopen, (self.path, self.about, self._workspace, self.images, self._names)

    def for_background_thread(self) -> OutputFolder:
        """Return the same folder with a batch, callbacks and written files of its own, for sinks on another thread."""
        other = OutputFolder(self.path, self.about, self._workspace)
        other.shared, other.images, other._common = self.shared, self.images, self._common
        other._directories, other._names = self._directories, self._names
        return other

    def plan_images(self, names: Sequence[str], sources: Sequence[object], batch_size: int) -> None:
        """Say which images the run has, with the name and the source of each, and reserve their names."""
        own = names if isinstance(names, ImageNames) else ImageNames(names)
        self.images = PlannedImages(own, Sources(sources), batch_size)
        self.reserve_image_names(own)

    def reserve_image_names(self, images: Sequence[str]) -> None:
        """Reserve the names of images for their own folders, so that no other file or store gets one of them."""
        self._names.reserve_folders(images if isinstance(images, ImageNames) else ImageNames(images))

    def forget_image(self, image: str | None) -> None:
        """Forget the names in the folder of an image, to which nothing more will be written."""
        self._names.forget_folder(self.place(image))
        self._directories.forget(self.place(image))

    @property
    def scratch(self) -> Path:
        """A folder for unfinished files, which are to be moved into the output folder. The next run clears it."""
        return self._workspace.path if self._workspace is not None else self.path

    def place(self, image: str | None) -> str:
        """Return the folder for files of an image, or of a whole batch for None, relative to the output folder."""
        return f"{BATCH_FOLDER}/{sortable_number(self.batch, 4)}" if image is None else sanitize_path_part(image)

    def prepare(self) -> None:
        """Make the folder. Raises OutputError if files can't be written to it."""
        probe = self.path / f".{uuid4().hex}.part"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(f"can't write to {self.path}: {describe_os_error(error)}") from error

    @contextmanager
    def file(self, name: str | PurePosixPath, of: Activation | None = None, *, exact: bool = False) -> Iterator[Path]:
        """Yield a temporary path to write to, which becomes the file `name` if the block ends without an error.

        `name` is relative to the folder, with ``/`` between its parts. Any text will do: parts that no file system
        takes, or that would lead out of the folder, are changed, and names that differ in case alone become different.
        `take_written` returns the name that the file has. `of` is the activation that the file is of, if it is of one
        alone. Raises OutputError if the file can't be written.

        With `exact` the file has this name or none: ValueError is raised for one that would be changed. That is for
        files in one of the sink's `places` whose names have a meaning, each of which is written once.
        """
        name = exact_name(str(name)) if exact else self._names.path_for(str(name))
        directory_name, _, last = name.rpartition("/")
        part: Path | None = None
        try:
            directory = self._directories.make(directory_name, self.batch)
            # In the workspace the name alone may be as long as a name can be. Worker processes share the token.
            place = directory.path if self._workspace is None else self._workspace.path
            part = Path(f"{place}/.{os.getpid()}-{self._token}-{next(self._part_numbers)}.part")
            yield part
            target = f"{directory.path}/{last}"
            if self._workspace is not None:
                if not directory.is_new:
                    self._directories.claim_file(name, target, is_written_once=exact)
                self._workspace.note_file(name, self.batch)
            digest = self._digests.pop(str(part), None)
            crc32, size = digest or digest_file(part)
            os.replace(part, target)  # noqa: PTH105 - making a Path takes longer than renaming a small file
            part = None
        except OSError as error:
            raise OutputError(f"can't write {self.path / name}: {describe_os_error(error)}") from error
        finally:
            if part is not None:
                self._digests.pop(str(part), None)
                part.unlink(missing_ok=True)
        self.disk_bytes += round_to_blocks(size)
        self._written.append(WrittenFile(name, of, crc32))
        if of is not None:
            self._unfinished_files[of.image].append(name)

    def note_digest(self, path: Path, digest: FileDigest) -> None:
        """Say what all the bytes are that were written to a path of `file`, which is then not read for its checksum."""
        self._digests[str(path)] = digest

    def common_file(self, name: str, content: bytes) -> None:
        """Write a file of the whole run, which has the same content whoever writes it: what a store describes.

        Every process and every shard that needs the file writes it. It is there when this returns. The name is used as
        it is, as in `file` with `exact`. Raises OutputError if the file can't be written, or has another content.
        """
        crc32 = self._common.write(exact_name(name), content)
        if crc32 is not None:
            self._written.append(WrittenFile(name, None, crc32, is_common=True))
            self.disk_bytes += round_to_blocks(len(content))

    def gather(self, name: str, part: Gathered) -> None:
        """Add what a sink has gathered of the current batch to what it has gathered of other batches of the run.

        `name` is the file that holds all of it at the end, at the top of the folder: one that the sink names in
        `gathers`. It is for the callbacks of `when_finished`, when they are called with None: for the whole batch.
        """
        self._gathered.append((name, part))

    def check_gathered(self, name: str) -> None:
        """Raise OutputError if a file that is of no run has the name of one in which a sink gathers something."""
        if self._workspace is not None:
            check_free(self._workspace, name)

    def take_gathered(self) -> list[tuple[str, Gathered]]:
        """Return what was gathered since the last call."""
        gathered, self._gathered = self._gathered, []
        return gathered

    def has_file(self, name: str) -> bool:
        """Return whether the run has a file of this name, relative to the folder."""
        if (self.path / name).is_file():
            return True
        uploads = self._workspace.uploads if self._workspace is not None else None
        return uploads is not None and uploads.has_file(name)

    @contextmanager
    def directory(self, name: str | PurePosixPath) -> Iterator[Path]:
        """Yield the path of a directory in which a store keeps files of its own, for as long as the block lasts.

        `name` is relative to the folder, and changed like that of a file. The store makes the directory when it first
        writes, keeps it readable at any time, and keeps what was there before. `take_written` returns its name once,
        after the block has ended, with or without an error. Raises OutputError if it leads out of the folder.
        """
        name = self._names.path_for(str(name), "store")
        target = self.path / name
        try:
            if target.is_dir():
                self._directories.check_inside(str(target))
            elif self._workspace is not None and not os.path.lexists(target):
                self._workspace.note_store(name)
        except OSError as error:
            raise OutputError(f"can't write {target}: {describe_os_error(error)}") from error
        try:
            yield target
        finally:
            if target.is_dir():
                self._written.append(WrittenFile(name))

    def when_finished(self, callback: Callable[[str | None], object]) -> None:
        """Call `callback` with the name of each image whose activations were all offered.

        It is called with None, once a batch, for the activations that belong to the whole batch.
        """
        self._on_finished.append(callback)

    def when_dropped(self, callback: Callable[[str | None], object]) -> None:
        """Call `callback` instead of those of `when_finished` for an image that fails half-way."""
        self._on_dropped.append(callback)

    def take_written(self) -> list[WrittenFile]:
        """Return the files and directories that are complete since the last call."""
        written, self._written = self._written, []
        return written

    def finish(self, image: str | None) -> None:
        """Call the `when_finished` callbacks for an image."""
        self._unfinished_files.pop(image, None)
        for callback in self._on_finished:
            callback(image)

    def drop(self, image: str | None) -> None:
        """Remove the files of an image's activations, and call the `when_dropped` callbacks."""
        for name in self._unfinished_files.pop(image, []):
            file = self.path / name
            file.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                file.parent.rmdir()
                self._directories.forget(name.rpartition("/")[0])
        self._written = [file for file in self._written if file.activation is None or file.activation.image != image]
        for callback in self._on_dropped:
            callback(image)


def _reopen(
    path: Path,
    about: Mapping[str, str],
    workspace: Workspace | None,
    images: PlannedImages | None,
    names: UniquePaths,
) -> OutputFolder:
    """Return the folder of a run for a worker in another process."""
    folder = OutputFolder(path, about, workspace)
    folder.images, folder._names = images, names  # noqa: SLF001
    return folder

"""The files of a page in a folder, which are listed in `page/files.jsonl`, one name a line."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from surgery.errors import OutputError, describe_os_error
from surgery.output.manifest_reader import PAGE_LIST, existing_files, listed_page_files
from surgery.output.recovery import recover
from surgery.output.run_directories import RunDirectories
from surgery.output.workspace import Workspace, remove_empty_folders
from surgery.page import picture_script, picture_script_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from surgery.page import PageFile

_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class PageFolder:
    """A folder whose page is written within a ``with`` block, in which no run can write to the folder.

    Each name is in the list before its file appears, so that a page that was begun can be brought up to date, and
    removed with its run. First, a run that was killed in the folder is recovered. Raises OutputError if the folder
    can't be written, and if a run writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._workspace = Workspace(folder)
        self._part = f"{self._workspace.path}/page.part"
        """The file that is not complete yet."""
        self._directories = RunDirectories(folder, None)
        self._listed = set(listed_page_files(folder))
        self._written: dict[str, None] = {}
        self._list = -1
        """The open list."""
        self._is_complete = False

    def __enter__(self) -> Self:
        try:
            if self._workspace.has_leftovers():
                recover(self._workspace)
        except BaseException:
            self._workspace.close(keep=True)
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if self._list >= 0:
                os.close(self._list)
            if self._is_complete:
                self._remove_stale_files()
        finally:
            self._workspace.close()

    def write(self, files: Iterable[PageFile], *, is_complete: bool = True) -> None:
        """Write files of the page; those that are up to date stay. With `is_complete`, no more are to come.

        Then files of an earlier page that were not written again are removed at the end of the block. Raises
        OutputError if a file can't be written, or would overwrite one that belongs to no page.
        """
        for file in files:
            try:
                self._write(file)
            except OSError as error:
                raise OutputError(f"can't write {self.folder / file.name}: {describe_os_error(error)}") from error
        self._is_complete = is_complete

    def _write(self, file: PageFile) -> None:
        home, _, last = file.name.rpartition("/")
        directory = self._directories.make(home)
        target = f"{directory.path}/{last}"
        picture = f"{self.folder}/{file.picture}.png"
        is_new = file.name not in self._listed
        if is_new:
            if not directory.is_new and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "a file of that name is there, which is of no page; move it away")
            self._append_to_list(file.name)
        self._written[file.name] = None
        content = file.content
        if file.picture is not None:
            if not is_new and _is_up_to_date(target, picture, file.picture):
                return
            content = picture_script(file.picture, read_whole(picture))
        write_whole(self._part, content)
        os.replace(self._part, target)  # noqa: PTH105

    def _append_to_list(self, name: str) -> None:
        if self._list < 0:
            home, _, last = PAGE_LIST.rpartition("/")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _FLAGS
            self._list = os.open(f"{self._directories.make(home).path}/{last}", flags, 0o666)
            self._append_to_list(PAGE_LIST)
        if name not in self._listed:
            os.write(self._list, json.dumps(name).encode() + b"\n")
            self._listed.add(name)

    def _remove_stale_files(self) -> None:
        stale = self._listed - self._written.keys() - {PAGE_LIST}
        for _, path in existing_files(self.folder, stale):
            path.unlink(missing_ok=True)
        remove_empty_folders(self.folder, stale)
        names = "".join(f"{json.dumps(name)}\n" for name in (PAGE_LIST, *self._written))
        part = Path(self._part)
        part.write_text(names, encoding="utf-8")
        part.replace(self.folder / PAGE_LIST)


def read_whole(path: str) -> bytes:
    """Return the content of a file, in half the time that a Path takes for a small one."""
    file = os.open(path, os.O_RDONLY | _FLAGS)
    try:
        size = os.fstat(file).st_size
        content = os.read(file, size)
        while len(content) < size and (more := os.read(file, size - len(content))):  # a read returns at most 2 GiB
            content += more
        return content
    finally:
        os.close(file)


def write_whole(path: str, content: bytes) -> None:
    """Write the content of a file, in half the time that a Path takes for a small one. Raises OSError if it can't."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o666)
    try:
        remaining = memoryview(content)
        while remaining:
            remaining = remaining[os.write(file, remaining) :]
    finally:
        os.close(file)


def _is_up_to_date(script: str, picture: str, key: str) -> bool:
    """Return whether the script of a picture is of its present content, by the sizes and times of the files."""
    with suppress(OSError):
        made, source = os.stat(script), os.stat(picture)  # noqa: PTH116
        is_of_size = made.st_size == picture_script_size(key, source.st_size)
        return is_of_size and made.st_mtime_ns > source.st_mtime_ns
    return False

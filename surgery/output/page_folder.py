"""The files of a page in a folder, which are listed in `page/files.jsonl`, one name a line."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.manifest_reader import PAGE_LIST, existing_files, listed_page_files
from surgery.output.recovery import recover
from surgery.output.run_directories import RunDirectories
from surgery.output.workspace import Workspace, remove_empty_folders
from surgery.page import picture_script, picture_script_size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from surgery.page import PageFile


class PageFolder:
    """A folder whose page is written within a ``with`` block, in which no run can write to the folder.

    Each name is in the list before its file appears, so that a page that was begun can be brought up to date, and
    removed with its run. First, a run that was killed in the folder is recovered. Raises OutputError if the folder
    can't be written, and if a run writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._workspace = Workspace(folder)
        self._directories = RunDirectories(folder, None)
        self._listed = set(listed_page_files(folder))
        self._written: dict[str, None] = {}
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
        if not self._written:
            self._append_to_list(PAGE_LIST)
        home, _, last = file.name.rpartition("/")
        target = f"{self._directories.make(home).path}/{last}"
        if file.name not in self._listed:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "a file of that name is there, which is of no page; move it away")
            self._append_to_list(file.name)
        self._written[file.name] = None
        if file.picture is None:
            content = file.content
        else:
            picture = f"{self.folder}/{file.picture}.png"
            if _is_up_to_date(target, picture, file.picture):
                return
            with open(picture, "rb") as png:  # noqa: PTH123 - a Path takes longer than a small picture
                content = picture_script(file.picture, png.read())
        part = f"{self._workspace.path}/{uuid4().hex}.part"
        with open(part, "wb", buffering=0) as script:  # noqa: PTH123
            script.write(content)
        os.replace(part, target)  # noqa: PTH105

    def _append_to_list(self, name: str) -> None:
        if name in self._listed:
            return
        home, _, last = PAGE_LIST.rpartition("/")
        with open(f"{self._directories.make(home).path}/{last}", "ab") as listing:  # noqa: PTH123
            listing.write(json.dumps(name).encode() + b"\n")
        self._listed.add(name)

    def _remove_stale_files(self) -> None:
        stale = self._listed - self._written.keys() - {PAGE_LIST}
        for _, path in existing_files(self.folder, stale):
            path.unlink(missing_ok=True)
        remove_empty_folders(self.folder, stale)
        names = "".join(f"{json.dumps(name)}\n" for name in (PAGE_LIST, *self._written))
        part = self._workspace.path / f"{uuid4().hex}.part"
        part.write_text(names, encoding="utf-8")
        part.replace(self.folder / PAGE_LIST)


def _is_up_to_date(script: str, picture: str, key: str) -> bool:
    """Return whether the script of a picture is of its present content, by the sizes and times of the files."""
    with suppress(OSError):
        made, source = os.stat(script), os.stat(picture)  # noqa: PTH116
        is_of_size = made.st_size == picture_script_size(key, source.st_size)
        return is_of_size and made.st_mtime_ns > source.st_mtime_ns
    return False

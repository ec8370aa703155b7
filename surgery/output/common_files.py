"""Files of a whole run that have the same content whoever writes them, such as the description of a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.checksums import checksum_of
from surgery.output.workspace import RUN
from surgery.text import sanitize_path_part

if TYPE_CHECKING:
    from surgery.output.run_directories import RunDirectories
    from surgery.output.workspace import Workspace


class CommonFiles:
    """Writes such files, each once in this process. Threads of one run share an instance."""

    def __init__(self, root: Path, directories: RunDirectories, workspace: Workspace | None) -> None:
        self._root = root
        self._directories = directories
        self._workspace = workspace
        self._known: dict[str, str] = {}
        """The checksums of the files that are there."""

    def write(self, name: str, content: bytes) -> str | None:
        """Write a file unless it is there. Return its checksum, but None if this process has written it before.

        Raises OutputError if it can't be written, or if a file of that name has another content.
        """
        crc32 = checksum_of(content)
        if self._known.get(name) == crc32:
            return None
        home, _, last = name.rpartition("/")
        try:
            target = Path(self._directories.make(home, RUN).path) / last
            if not _has_content(target, content):
                self._write(name, target, content)
        except OSError as error:
            raise OutputError(f"can't write {self._root / name}: {describe_os_error(error)}") from error
        self._known[name] = crc32
        return crc32

    def _write(self, name: str, target: Path, content: bytes) -> None:
        home = target.parent
        if self._workspace is not None:
            home = self._workspace.path
            try:
                self._directories.claim_file(name, str(target), is_written_once=True)
            except FileExistsError:
                if _has_content(target, content):  # another process of the run was faster
                    return
                raise
            self._workspace.note_file(name, RUN)
        part = home / f".{os.getpid()}-{uuid4().hex}.part"
        try:
            part.write_bytes(content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


def _has_content(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def exact_name(name: str) -> str:
    """Return a name that every file system takes as it is. Raises ValueError for another."""
    if any(part != sanitize_path_part(part) for part in name.split("/")):
        raise ValueError(f"a file can't be called {name!r} on every file system")
    return name

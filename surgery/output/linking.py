"""Brings files of shards into the folder of the whole run: links, and copies where there are none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.address import Address
from surgery.output.manifest_reader import listed_files
from surgery.output.remote_folder import RemoteFolder
from surgery.output.run_directories import RunDirectories
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from surgery.output.shard_parts import ShardPart
    from surgery.output.workspace import Workspace


def link_files(parts: Iterable[ShardPart], workspace: Workspace, batch: int, merged: Container[str] = ()) -> int:
    """Link the files of shards into the folder of the run, or copy them where there are no links.

    A file of the whole run is the same in all shards that have it, but for those that are `merged`, which stay where
    they are. `batch` is the number under which they are noted. Returns the number of files. Raises OutputError if one
    is missing, or can't be written.
    """
    directories = RunDirectories(workspace.folder, workspace)
    count = 0
    common: set[str] = set()
    for part in parts:
        own = [name for name in listed_files(part.reader.head) if name not in common and name not in merged]
        common.update(own)
        for names in (own, *map(listed_files, part.reader.images)):
            part.check_files(names)
            for name in names:
                bring_file(part, name, workspace, directories, batch)
            count += len(names)
            for home in {name.rpartition("/")[0] for name in names}:
                directories.forget(home)
    return count


def bring_file(part: ShardPart, name: str, workspace: Workspace, directories: RunDirectories, batch: int) -> None:
    """Link a file of a shard into the folder of a workspace, or copy it. Raises OutputError if that can't be done.

    `batch` is the number under which it is noted.
    """
    home, _, last = name.rpartition("/")
    copy = scratch_file(workspace)
    try:
        directory = directories.make(home, batch)
        target = f"{directory.path}/{last}"
        if name == MANIFEST_FILE or os.path.lexists(target):
            raise FileExistsError("a file of that name is there, which is of no run; move it away")
        workspace.note_file(name, batch)
        if isinstance(part.place, Address):
            if not RemoteFolder(part.place).fetch(name, copy):
                raise part.explain_missing(name)
            copy.replace(target)
            return
        try:
            os.link(part.place / name, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(part.place / name, copy)
            copy.replace(target)
    except OSError as error:
        raise OutputError(f"can't write {workspace.folder / name}: {describe_os_error(error)}") from error
    finally:
        copy.unlink(missing_ok=True)


def scratch_file(workspace: Workspace) -> Path:
    """Return the path of an unfinished file in a workspace."""
    return workspace.path / f"merge-{uuid4().hex}.part"

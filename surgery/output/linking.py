"""Links the files of shards into the folder of the whole run."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error
from surgery.output.manifest_reader import listed_files
from surgery.output.run_directories import RunDirectories
from surgery.output.shards import Shard
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

    from surgery.output.manifest_reader import ManifestReader
    from surgery.output.workspace import Workspace


def link_files(shards: Iterable[ManifestReader], workspace: Workspace, batch: int, merged: Container[str] = ()) -> int:
    """Link the files of shards into the folder of the run, or copy them where there are no links.

    A file of the whole run is the same in all shards that have it, but for those that are `merged`, which stay where
    they are. `batch` is the number under which they are noted. Returns the number of files. Raises OutputError if one
    is missing, or can't be written.
    """
    directories = RunDirectories(workspace.folder, workspace)
    count = 0
    common: set[str] = set()
    for shard in shards:
        own = [name for name in listed_files(shard.head) if name not in common and name not in merged]
        common.update(own)
        for names in (own, *map(listed_files, shard.images)):
            if len(known := {*shard.existing(names)}) < len({*names}):
                missing = next(name for name in names if name not in known)
                raise OutputError(
                    f"{shard.folder / missing} is missing, or no file inside its folder; run shard "
                    f"{Shard.from_head(shard.head)} again with --overwrite"
                )
            for name in names:
                _link_file(shard.folder / name, name, workspace, directories, batch)
            count += len(names)
            for home in {name.rpartition("/")[0] for name in names}:
                directories.forget(home)
    return count


def _link_file(source: Path, name: str, workspace: Workspace, directories: RunDirectories, batch: int) -> None:
    home, _, last = name.rpartition("/")
    part = workspace.path / "merge.part"
    try:
        directory = directories.make(home, batch)
        target = f"{directory.path}/{last}"
        if name == MANIFEST_FILE or os.path.lexists(target):
            raise FileExistsError("a file of that name is there, which is of no run; move it away")
        workspace.note_file(name, batch)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(source, part)
            part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"can't write {workspace.folder / name}: {describe_os_error(error)}") from error

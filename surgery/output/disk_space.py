"""What is free on the disk of a folder, and whether a run fits there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import OutputError
from surgery.text import format_bytes, format_count

if TYPE_CHECKING:
    from surgery.output.address import Place

BLOCK = 4096
"""Bytes in which most file systems give room to files."""


def round_to_blocks(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on the disk, if its blocks are of the usual size."""
    return -(-size // BLOCK) * BLOCK


def free_space(folder: Path) -> int | None:
    """Return the bytes that are free on the disk of a folder, which need not exist; None if the system can't tell."""
    place = next((each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir()), Path())
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return None
    return usage.free if usage.total else None


def explain_lack_of_space(folder: Place, needed: int, images: int, free: int) -> str:
    """Return a line for a run that needs more bytes for its images than are free."""
    return (
        f"{format_count(images, 'image')} take about {format_bytes(needed)} in {folder}, and its disk has "
        f"{format_bytes(free)}; choose fewer operations or images, another folder, or --force (force=True)"
    )


def check_space(folder: Path, done_bytes: int, done_images: int, left: int) -> None:
    """Raise OutputError if images that are left don't fit on the disk, when each needs what those done have needed."""
    if left <= 0:
        return
    needed, free = done_bytes * left // done_images, free_space(folder)
    if free is not None and needed > free:
        raise OutputError(explain_lack_of_space(folder, needed, left, free))

"""A disk that fills up ends a run with one line, and the run goes on when there is room. Most disks are real."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import surgery
from surgery.errors import OutputError
from tests.output.test_resumed_runs import photos, run, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["photos"]  # the fixture

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="mounts")


@pytest.fixture(params=["ext4", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of some megabytes: in a file that is mounted as a disk, or in memory."""
    image, folder = tmp_path / "disk.img", tmp_path / "disk"
    folder.mkdir()
    image.touch()
    os.truncate(image, 8 << 20)
    # Without reserved blocks, a journal and lost blocks, for which it is too small.
    commands = {
        "ext4": (f"mkfs.ext4 -q -m 0 -O ^has_journal -b 4096 -N 512 {image}", f"mount -o loop {image} {folder}"),
        "tmpfs": (f"mount -t tmpfs -o size=8m none {folder}",),
    }
    for command in commands[request.param]:
        try:
            subprocess.run(command.split(), check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"can't mount: {error}")
    yield folder
    subprocess.run(f"umount {folder}".split(), check=True, capture_output=True)


def leave(disk: Path, size: int) -> Path:
    """Fill the disk but for `size` bytes, and return the file that does it."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(bytes(max(0, free.f_bavail * free.f_frsize - size)))
        file.flush()
        os.fsync(file.fileno())
    return ballast


@LINUX
def test_a_run_on_a_disk_that_fills_up_goes_on_when_there_is_room(disk: Path, photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(photos, whole, batch_size=2)
    needed = sum(-(-len(content) // 4096) * 4096 for content in tree(whole).values())
    finished = set()
    for share in (0.03, 0.25, 0.45, 0.65, 0.8):
        out = disk / f"run-{share}"
        ballast = leave(disk, int(needed * share))
        with pytest.raises(OutputError, match="the disk is full") as caught:
            run(photos, out, batch_size=2, force=True)
        assert "\n" not in str(caught.value)
        recorded = (out / "manifest.json").exists()
        if recorded:
            assert {fault.kind for fault in surgery.verify(out).faults} <= {"unfinished"}
        ballast.unlink()
        report = run(photos, out, batch_size=2, force=True)
        finished.add(report.finished_before)
        assert recorded or not report.finished_before
        assert tree(out) == tree(whole)
        for path in sorted(out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        out.rmdir()
    assert len(finished) > 1, "it was full at different moments"


@pytest.mark.skipif(not hasattr(os, "pwrite"), reason="the lock has no content there")
def test_a_folder_that_could_not_be_locked_on_a_full_disk_is_free(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OutputError, match="the disk is full"):
            run(photos, tmp_path / "out")
    assert run(photos, tmp_path / "out").images == 7

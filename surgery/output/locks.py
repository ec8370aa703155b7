"""A lock on a file that lasts no longer than the process that holds it, however that ends."""

from __future__ import annotations

import errno
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOCK_TIMEOUT = 1.5
"""Seconds that a lock is waited for: the jobs of a run that was killed hold its lock for as long as they need to notice
it."""
_UNABLE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems without locks say."""


class LockHeldError(Exception):
    """The lock is held by another run."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder
        """``process 123``, or who else it is."""


class Lock:
    """Held from `acquire` to `release`, or until this process and all its forks have ended.

    Where the file system has no locks, the number of the process in the file stands for one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def acquire(self, patience: float | None = None) -> None:
        """Take the lock; its file is made. Raises LockHeldError where another has it, and OSError."""
        end = time.monotonic() + (LOCK_TIMEOUT if patience is None else patience)
        while True:
            self.path.parent.mkdir(exist_ok=True)
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            except FileNotFoundError:  # who held it has just removed the folder
                continue
            holder = _holder(file)
            if _lock(file, holder) and self._is(file):
                os.ftruncate(file, 0)
                os.pwrite(file, str(os.getpid()).encode(), 0) if hasattr(os, "pwrite") else None
                self._file = file
                return
            os.close(file)
            if time.monotonic() > end:
                raise LockHeldError(f"process {holder}" if holder else "another process")
            time.sleep(0.02)

    def release(self) -> None:
        """Let it go, its file removed."""
        if self._file < 0:
            return
        if sys.platform == "win32":  # where a file that is open can't be removed
            os.close(self._file)
        self.path.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(self._file)
        self._file = -1

    def _is(self, file: int) -> bool:
        """Whether the file that was opened still has its name, which who held the lock may have removed."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(file), self.path.stat())
        return False


def lock_holder(path: Path) -> str | None:
    """Who holds the lock of this file, or None."""
    if not path.exists():
        return None
    lock = Lock(path)
    try:
        lock.acquire(0)
    except LockHeldError as error:
        return error.holder
    except OSError:
        return None
    os.close(lock._file)  # noqa: SLF001 - the file stays
    return None


def _holder(file: int) -> str:
    return os.read(file, 20).decode("ascii", "replace").strip("\0 \n")


def _lock(file: int, holder: str) -> bool:
    try:
        import fcntl
    except ImportError:
        return _lock_bytes(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return not _is_alive(holder)
    return True


def _lock_bytes(file: int) -> bool:
    """Of Windows: a byte far behind the text, so that who holds it can be read."""
    import msvcrt

    os.lseek(file, 1 << 20, os.SEEK_SET)
    try:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return False
    os.lseek(file, 0, os.SEEK_SET)
    return True


def _is_alive(holder: str) -> bool:
    if not holder.isdigit() or int(holder) == os.getpid():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

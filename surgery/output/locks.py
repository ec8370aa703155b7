"""A lock on a file, which the system releases when the process that holds it ends."""

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
"""Seconds to wait for a lock: the worker processes of a killed run hold its lock until they notice that it is gone."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""The error numbers of file systems that have no locks."""


class LockHeldError(Exception):
    """The lock is held by another run."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder
        """Who holds it: ``process 123`` or ``another process``."""


class Lock:
    """A lock that is held from `acquire` to `release`, or until this process and all its forks have ended.

    The file holds the number of the process. On a file system without locks, the lock is held as long as that process
    exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def acquire(self, patience: float | None = None) -> None:
        """Make the file and take its lock. Waits for at most `patience` seconds, by default `LOCK_TIMEOUT`.

        Raises LockHeldError if another run holds the lock, and OSError if the file can't be made.
        """
        end = time.monotonic() + (LOCK_TIMEOUT if patience is None else patience)
        while True:
            self.path.parent.mkdir(exist_ok=True)
            try:
                file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            except FileNotFoundError:  # the run that held the lock has just removed the folder
                continue
            holder = ""
            try:
                holder = _holder(file)
                if _lock(file, holder) and self._still_has_name(file):
                    os.ftruncate(file, 0)
                    os.pwrite(file, str(os.getpid()).encode(), 0) if hasattr(os, "pwrite") else None
                    self._file = file
                    return
            finally:
                if self._file != file:  # the disk may be full
                    os.close(file)
            if time.monotonic() > end:
                raise LockHeldError(f"process {holder}" if holder else "another process")
            time.sleep(0.02)

    def release(self) -> None:
        """Release the lock and remove its file."""
        if self._file < 0:
            return
        if sys.platform == "win32":  # an open file can't be removed there
            os.close(self._file)
        self.path.unlink(missing_ok=True)
        if sys.platform != "win32":
            os.close(self._file)
        self._file = -1

    def _still_has_name(self, file: int) -> bool:
        """Return whether an open file still has the name of the lock: the last holder may have removed it."""
        with suppress(OSError):
            return os.path.samestat(os.fstat(file), self.path.stat())
        return False


def lock_holder(path: Path) -> str | None:
    """Return who holds the lock of a file, such as ``process 123``; None if it is free or doesn't exist."""
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


def hold_while_open(file: int) -> None:
    """Lock an open file of this process's own until it is closed, where the file system has such locks."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Return whether a process that lives has locked a file with `hold_while_open`."""
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def _holder(file: int) -> str:
    """Return the number of the process in the file of a lock; empty if there is none."""
    return os.read(file, 20).decode("ascii", "replace").strip("\0 \n")


def _lock(file: int, holder: str) -> bool:
    """Lock an open file. Return whether it worked."""
    try:
        import fcntl
    except ImportError:
        return _lock_bytes(file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return not _is_alive(holder)
    return True


def _lock_bytes(file: int) -> bool:
    """Lock a file on Windows: one byte far behind the text, so that the text can still be read."""
    import msvcrt

    os.lseek(file, 1 << 20, os.SEEK_SET)
    try:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return False
    os.lseek(file, 0, os.SEEK_SET)
    return True


def _is_alive(holder: str) -> bool:
    """Return whether a process, which is not this one, exists."""
    if not holder.isdigit() or int(holder) == os.getpid():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

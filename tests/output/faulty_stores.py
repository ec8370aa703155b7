"""A file system in memory for tests, whose calls are slow, fail at random, or fail from some call on for good."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator


class FaultyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """``faulty://``. What it does wrong is set for all its instances, by `faults`."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    writes: ClassVar[list[str]] = []
    """The calls that change something: what each does, and its path."""
    dies_at: ClassVar[int | None] = None
    """The number of the change at which the process is gone, as far as the store can see."""
    is_torn: ClassVar[bool] = False
    """Whether that change is half done."""
    torn_at: ClassVar[float] = 0.5
    """The share of a file that is written then."""
    failing: ClassVar[Random | None] = None
    """Decides which calls lose their connection."""
    share: ClassVar[float] = 0.0
    delay: ClassVar[float] = 0.0
    refused: ClassVar[str] = ""
    """What may not be written: paths with this text in them."""
    error: ClassVar[type[Exception]] = ConnectionResetError
    _lock = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).replace("faulty://", "memory://", 1))

    def _step(self, what: str, path: str, *, changes: bool = True) -> bool:
        """Fail if it is time. Return whether the change is to be left half done."""
        kind = type(self)
        if kind.delay:
            time.sleep(kind.delay)
        with kind._lock:
            if changes:
                kind.writes.append(f"{what} {path}")
            if what in ("write", "copy") and kind.refused and kind.refused in path:
                raise PermissionError("no")
            if kind.dies_at is not None and len(kind.writes) >= kind.dies_at:
                if kind.is_torn and changes and len(kind.writes) == kind.dies_at:
                    return True
                raise PermissionError("the process is gone")
            if kind.failing is not None and kind.failing.random() < kind.share:
                raise kind.error("connection lost")
        return False

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if self._step("write", path):
            super().pipe_file(path, value[: int(len(value) * type(self).torn_at)], mode)
            raise PermissionError("the process is gone")
        super().pipe_file(path, value, mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        with open(lpath, "rb") as file:  # noqa: PTH123
            self.pipe_file(rpath, file.read())

    def rm_file(self, path: str) -> None:
        self._step("remove", path)
        super()._rm(path)

    _rm = rm_file

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._step("copy", path2)
        super().cp_file(path1, path2, **kwargs)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        self._step("read", path, changes=False)
        return super().cat_file(path, *args, **kwargs)

    def get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        self._step("read", rpath, changes=False)
        super().get_file(rpath, lpath, *args, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._step("read", path, changes=False)
        return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._step("read", path, changes=False)
        return super().ls(path, detail, **kwargs)


@contextmanager
def faults(**settings: Any) -> Iterator[None]:
    """Within the block, the file system has faults; see its attributes."""
    before = {name: getattr(FaultyFileSystem, name) for name in settings}
    FaultyFileSystem.writes.clear()
    try:
        for name, value in settings.items():
            setattr(FaultyFileSystem, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(FaultyFileSystem, name, value)


def content(address: str) -> dict[str, bytes]:
    """Return the content of each file at an address of a file system in memory, by its name there."""
    protocol, _, path = address.partition("://")
    files = fsspec.filesystem(protocol)
    prefix = f"/{path}/"
    return {
        name.removeprefix(prefix): bytes(files.store[name].getvalue())
        for name in files.store
        if name.startswith(prefix)
    }


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


class DiskFileSystem(LocalFileSystem):  # type: ignore[misc]
    """``disk:///a/b``: the folder ``/a/b``, which is taken for an address, and which several processes see."""

    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("disk://"))


fsspec.register_implementation("disk", DiskFileSystem, clobber=True)

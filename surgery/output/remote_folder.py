"""A folder at an address, in calls that are made again if they fail for a moment."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from surgery.addresses import describe_address_error, open_file_system, retry
from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from surgery.output.address import Address

T = TypeVar("T")

REMOVED_AT_ONCE = 1000
"""Objects that are removed by one call, which is the most that S3 takes."""
_MAGIC = frozenset("*?[")


class RemoteFolder:
    """A folder at an address. Names are relative to it. It can be used in any thread, and after a fork.

    Every method raises OutputError, in one line, if the file system can't do what is asked.
    """

    def __init__(self, address: Address) -> None:
        self.address = address

    def write(self, name: str, content: bytes) -> None:
        """Write a file of this content."""
        self._write(name, lambda files, path: files.pipe_file(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that doesn't exist. Return whether it didn't.

        It is one step on S3, Google Cloud Storage and local disks; elsewhere another process may come between.
        """

        def create(files: Any, path: str) -> bool:
            try:
                files.pipe_file(path, content, mode="create")
            except FileExistsError:
                return False
            return True

        return self._write(name, create)

    def put(self, file: Path, name: str) -> None:
        """Write a file with the content of a local one."""
        self._write(name, lambda files, path: files.put_file(str(file), path))

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it doesn't exist."""

        def read(files: Any, path: str) -> bytes | None:
            try:
                content: bytes = files.cat_file(path)
            except FileNotFoundError:
                return None
            return content

        return self._call("read", name, read)

    def fetch(self, name: str, file: Path) -> bool:
        """Copy a file to a local one. Return whether it exists."""

        def fetch(files: Any, path: str) -> bool:
            try:
                files.get_file(path, str(file))
            except FileNotFoundError:
                file.unlink(missing_ok=True)
                return False
            return True

        return self._call("read", name, fetch)

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""

        def exists(files: Any, path: str) -> bool:
            files.invalidate_cache()
            try:  # not files.exists, which says no if it can't be known
                files.info(path)
            except FileNotFoundError:
                return False
            return True

        return self._call("read", name, exists)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of files and folders in a folder, without its own; none if it doesn't exist."""

        def names(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            try:
                found = files.ls(path, detail=False)
            except FileNotFoundError:
                return []
            own = path.strip("/")
            return sorted({str(each).strip("/").rpartition("/")[2] for each in found if str(each).strip("/") != own})

        return self._call("read", folder, names)

    def find(self) -> list[str]:
        """Return the names of all files, in folders too."""

        def find(files: Any, path: str) -> list[str]:
            files.invalidate_cache()
            root = f"{path.strip('/')}/"
            return [str(each).strip("/").removeprefix(root) for each in files.find(path)]

        return self._call("read", "", find)

    def replace(self, name: str, to: str) -> None:
        """Give a file another name, also if there is a file of that name."""
        _, target = open_file_system((self.address / to).text)

        def replace(files: Any, path: str) -> None:
            if files.async_impl:
                files.cp_file(path, target)
                files.rm_file(path)
            else:
                files.mv(path, target)

        self._write(name, replace)

    def copy_from(self, source: RemoteFolder, name: str) -> bool:
        """Copy a file of another folder to the same name. Return whether a file system could: one that has both."""

        def copy(files: Any, path: str) -> bool:
            others, found = open_file_system((source.address / name).text)
            if others is not files:
                return False
            try:
                files.cp_file(found, path)
            except NotImplementedError:
                return False
            return True

        return self._write(name, copy)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. One that doesn't exist is no error."""
        left = list(names)
        while left:
            some, left = left[:REMOVED_AT_ONCE], left[REMOVED_AT_ONCE:]
            self._remove(some)

    def remove_empty_folders(self, names: Iterable[str]) -> None:
        """Remove folders if they are empty, where the file system has folders of their own."""
        for name in names:
            with suppress(Exception):
                files, path = open_file_system((self.address / name).text)
                if not files.async_impl:  # those of object stores exist as long as something is in them
                    files.rmdir(path)

    def _remove(self, names: Sequence[str]) -> None:
        def remove(files: Any, path: str) -> None:
            paths = [f"{path.rstrip('/')}/{name}" for name in names]
            plain = [each for each in paths if _MAGIC.isdisjoint(each)]  # others would be taken for patterns
            if len(plain) > 1 and files.async_impl:
                with suppress(FileNotFoundError):
                    files.rm(plain)
                paths = [each for each in paths if not _MAGIC.isdisjoint(each)]
            for each in paths:
                with suppress(FileNotFoundError):
                    files.rm_file(each)

        self._call("remove files of", "", remove)

    def _write(self, name: str, action: Callable[[Any, str], T]) -> T:
        def write(files: Any, path: str) -> T:
            try:
                return action(files, path)
            except FileNotFoundError:
                if files.async_impl:  # makedirs would make a bucket
                    raise
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                return action(files, path)

        return self._call("write", name, write)

    def _call(self, verb: str, name: str, action: Callable[[Any, str], T]) -> T:
        address = self.address / name if name else self.address
        try:
            return retry(lambda: action(*open_file_system(address.text)))
        except Exception as error:
            raise OutputError(f"can't {verb} {address}: {_describe(error, address.text, verb)}") from error


def _describe(error: Exception, address: str, verb: str) -> str:
    if isinstance(error, NotImplementedError):
        return f"its file system can't {verb.split(maxsplit=1)[0]}; write to another address"
    reason = describe_address_error(error, address)
    return "there is no such bucket or folder" if reason == "there is no such file" else reason

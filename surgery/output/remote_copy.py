"""A run at an address, of which a few files at a time are copied to the local disk, to be read there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error
from surgery.output.address import Address
from surgery.output.manifest_reader import find_runs, is_inside
from surgery.output.remote_folder import RemoteFolder
from surgery.text import MANIFEST_FILE, WORK_FOLDER, natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from surgery.output.address import Place

_FILES_AT_ONCE = 16


class FetchError(Exception):
    """A file can't be copied; `error` says why. It is of its own kind, since a damaged manifest is an OutputError."""

    def __init__(self, error: OutputError) -> None:
        super().__init__(str(error))
        self.error = error


class RemoteCopy:
    """Copies files of a run at an address into a local folder, under the same names.

    Raises OutputError if there is no run, or if the address can't be read.
    """

    def __init__(self, address: Address, folder: Path) -> None:
        self.folder = folder
        self._remote = RemoteFolder(address)
        if not self._remote.fetch(MANIFEST_FILE, folder / MANIFEST_FILE) and not self.work_files():
            raise OutputError(f"{address} holds no run: there is no {MANIFEST_FILE} in it")

    def work_files(self) -> list[str]:
        """Return the names of what a run that is not finished keeps at the address."""
        return self._remote.names(WORK_FOLDER)

    def names(self) -> Iterator[str]:
        """Yield the names of all files, but for those of other runs inside, and of a run that is not finished."""
        names = self._remote.find()
        others = tuple(name.removesuffix(MANIFEST_FILE) for name in names if name.endswith(f"/{MANIFEST_FILE}"))
        yield from (name for name in names if not name.startswith((f"{WORK_FOLDER}/", *others)))

    @contextmanager
    def present(self, names: Iterable[str]) -> Iterator[None]:
        """Within the block, those of these files that exist are in the local folder. Raises FetchError."""
        inside = [name for name in dict.fromkeys(names) if is_inside(name)]
        try:
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                for _ in pool.map(self._fetch, inside):
                    pass
            yield
        finally:
            for name in inside:
                (self.folder / name).unlink(missing_ok=True)

    def _fetch(self, name: str) -> None:
        file = self.folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._remote.fetch(name, file)
        except OutputError as error:
            raise FetchError(error) from error
        except OSError as error:
            raise FetchError(OutputError(f"can't write {file}: {describe_os_error(error)}")) from error


def find_places(place: Place) -> Sequence[Place]:
    """Return a folder or an address itself, or those in it that hold runs if it holds none.

    Raises OutputError if there is none.
    """
    if not isinstance(place, Address):
        return find_runs(place)
    names = RemoteFolder(place).names()
    if MANIFEST_FILE in names or WORK_FOLDER in names:
        return [place]
    inside = [place / name for name in sorted(names, key=natural_key)]
    runs = [each for each in inside if RemoteFolder(each).exists(MANIFEST_FILE)]
    if not runs:
        raise OutputError(f"{place} holds no run: there is no {MANIFEST_FILE} in it, nor in a folder in it")
    return runs

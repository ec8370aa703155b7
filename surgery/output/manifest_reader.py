"""The manifest of a finished run, read line by line. It may be damaged, or written by another program."""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from surgery.errors import OutputError, describe_os_error
from surgery.output.address import check_folder
from surgery.output.json_values import encodable
from surgery.page import INDEX, PAGE
from surgery.text import MANIFEST_FILE, WORK_FOLDER, natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from surgery.output.address import Place

IMAGES_LINE = b' "images": ['
"""The line of a manifest after which each image has a line of its own."""
PAGE_LIST = f"{PAGE}/files.jsonl"
"""The list of a page's files, in a run's folder or above several."""
_NUMBER = re.compile(rb'\{"number":(\d+)[,}]')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ManifestReader:
    """Reads `manifest.json` in a folder: `head` at once, and the images when they are iterated over.

    Raises OutputError if the file can't be read, or is not the manifest of a run.
    """

    def __init__(self, folder: Path, place: Place | None = None) -> None:
        """`place` is where the run is, if the folder has but a copy of the manifest."""
        self.folder = folder
        self.path = folder / MANIFEST_FILE
        self.shown: Place = (place or folder) / MANIFEST_FILE
        """What messages call it."""
        self._whole: dict[str, Any] | None = None
        try:
            self.head = self._read_head()
        except OSError as error:
            raise OutputError(f"can't read {self.shown}: {describe_os_error(error)}") from error
        except (ValueError, RecursionError) as error:
            raise self._not_a_manifest() from error
        if not isinstance(self.head.get("surgery"), str):
            raise self._not_a_manifest()

    @property
    def images(self) -> Iterator[dict[str, Any]]:
        """Iterate over the entries of images and batches. Raises OutputError if one is damaged."""
        try:
            for image in self._read_images():
                if not isinstance(image, dict):
                    raise self._not_a_manifest()
                yield image
        except (OSError, ValueError, RecursionError) as error:
            raise self._not_a_manifest() from error

    def all_files(self) -> Iterator[str]:
        """Yield every listed file, those in stores too, without the manifest itself."""
        for image in self.images:
            yield from listed_files(image)
        yield from self.run_files()

    def run_files(self) -> Iterator[str]:
        """Yield the files that belong to no single image or batch, those in stores and of the page too."""
        stores = self.stores()
        yield from (name for name in listed_files(self.head) if name not in stores)
        for store, names in stores.items():
            yield from (f"{store}/{name}" for name in names)
        yield from listed_page_files(self.folder)

    def stores(self) -> dict[str, list[str]]:
        """Return the stores of the run, directories by name, with the files in each."""
        stores = self.head.get("stores")
        return {name: _strings(files) for name, files in stores.items()} if isinstance(stores, dict) else {}

    def existing(self, names: Iterable[str]) -> Iterator[str]:
        """Yield those names that are files inside the folder, or links to such files."""
        root = os.path.realpath(self.folder).rstrip(os.sep) + os.sep
        for name, path in _paths_inside(self.folder, names):
            with suppress(OSError, ValueError):
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and os.path.realpath(path).startswith(root)):
                    yield name

    def _not_a_manifest(self) -> OutputError:
        return OutputError(f"{self.shown} is not the manifest of a run")

    def _read_head(self) -> dict[str, Any]:
        """Read everything before the images; all of it, if the images are not on lines of their own."""
        lines: list[bytes] = []
        with self.path.open("rb") as file:
            for line in file:
                if line.rstrip() == IMAGES_LINE:
                    head = _parse(b"".join(lines).rstrip().rstrip(b",") + b"}")
                    break
                lines.append(line)
            else:
                head = self._whole = _parse(b"".join(lines))
        if not isinstance(head, dict):
            raise self._not_a_manifest()
        return head

    def numbered_entries(self) -> Iterator[tuple[int, bytes]]:
        """Yield the entry of each image or batch as it is in the file, with its number. Raises OutputError."""
        try:
            for entry in self._read_lines():
                found = _NUMBER.match(entry)
                yield int(found[1] if found else json.loads(entry)["number"]), entry
        except (OSError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise self._not_a_manifest() from error

    def _read_images(self) -> Iterator[Any]:
        if self._whole is not None:
            images = self._whole.get("images")
            yield from images if isinstance(images, list) else ()
            return
        yield from map(orjson.loads, self._read_lines())

    def _read_lines(self) -> Iterator[bytes]:
        """Yield the line of each image or batch, without the comma after it."""
        with self.path.open("rb") as file:
            for line in file:
                if line.rstrip() == IMAGES_LINE:
                    break
            for line in file:
                text = line.strip()
                if text.startswith(b"]"):
                    return
                yield text.removesuffix(b",")
        raise self._not_a_manifest()  # the end is missing


def _parse(text: bytes) -> Any:
    """Return the value of a JSON text, in which half of a surrogate pair, which can't be encoded, becomes text."""
    value = json.loads(text)
    return encodable(value) if _SURROGATE.search(text) else value


def flat_settings(head: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Yield the settings of a run by name, as sinks write them into their files."""
    yield "model", head["model"]["source"] or head["model"]["class"]
    if head["model"].get("weights"):
        yield "weights", head["model"]["weights"]
    yield "weights_sha256", head["model"]["weights_sha256"]
    yield from head["settings"].items()
    yield from head["recipe"].items()


def listed_files(entry: Mapping[str, Any]) -> list[str]:
    """Return the files that are listed in the entry of an image, or in the head."""
    return _strings(entry.get("files")) + [file["file"] for file in _activation_files(entry)]


def listed_checksums(entry: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the files that are listed in the entry of an image, or in the head, each with its checksum."""
    known = entry.get("crc32")
    checksums = known if isinstance(known, dict) else {}
    listed = {name: checksums.get(name) for name in _strings(entry.get("files"))}
    return listed | {file["file"]: file.get("crc32") for file in _activation_files(entry)}


def _activation_files(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the entry of an image says about each file of a single activation."""
    activations = entry.get("activations")
    for activation in activations if isinstance(activations, list) else ():
        files = activation.get("files") if isinstance(activation, dict) else None
        for file in files if isinstance(files, list) else ():
            if isinstance(file, dict) and isinstance(file.get("file"), str):
                yield file


def listed_page_files(folder: Path) -> Iterator[str]:
    """Yield the files of the page in a folder, as its list has them; none if there is no page."""
    try:
        lines = (folder / PAGE_LIST).read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError):  # a line that was cut when its process was killed
            name = json.loads(line)
            if isinstance(name, str) and (name == INDEX or name.startswith(f"{PAGE}/")):
                yield name


def find_runs(folder: Path) -> list[Path]:
    """Return a folder itself, or those in it that hold runs if it holds none. Raises OutputError if there is none."""
    if os.path.lexists(folder / MANIFEST_FILE) or (folder / WORK_FOLDER).is_dir():
        return [folder]
    inside = [each for each in folder_contents(folder) if has_manifest(each)]
    if not inside:
        raise OutputError(f"{folder} holds no run: there is no {MANIFEST_FILE} in it, nor in a folder in it")
    return inside


def folder_contents(folder: Path) -> list[Path]:
    """Return what is in a folder, in the natural order of the names. Raises OutputError if it can't be read."""
    try:
        return sorted(check_folder(folder).iterdir(), key=lambda each: natural_key(each.name))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise OutputError(f"there is no folder {folder}") from error
    except OSError as error:
        raise OutputError(f"can't read the folder {folder}: {describe_os_error(error)}") from error


def has_manifest(folder: Path) -> bool:
    """Return whether a folder has the manifest of a run, by its first bytes."""
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            return file.read(64).replace(b" ", b"").startswith(b'{\n"surgery":')
    except OSError:
        return False


def existing_files(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yield those names from a manifest that are files or links inside the folder, with their paths.

    Skips folders, and names that lead out of the folder, directly or by a link.
    """
    for name, path in _paths_inside(folder, names):
        if is_file_or_link(path):
            yield name, Path(path)


def _paths_inside(folder: Path, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield those names whose directories are inside the folder, with their paths. A Path of each would take longer."""
    root = os.path.realpath(folder)
    known: dict[str, bool] = {}
    for name in names:
        if not is_inside(name):
            continue
        path = f"{folder}/{name}"
        home = path.rpartition("/")[0]
        if home not in known:
            real = os.path.realpath(home)
            known[home] = real == root or real.startswith(root.rstrip(os.sep) + os.sep)
        if known[home]:
            yield name, path


def is_inside(name: str) -> bool:
    """Return whether a name from a manifest is that of a file in the folder, as far as the name tells."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return not (not parts or name.startswith("/") or ".." in parts or parts[0].lower() == WORK_FOLDER or "\0" in name)


def is_file_or_link(path: str | Path) -> bool:
    """Return whether a path is a file, or a link to anything."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _strings(values: Any) -> list[str]:
    """Return the strings in a list; nothing for another value."""
    return [value for value in values if isinstance(value, str)] if isinstance(values, (list, tuple)) else []

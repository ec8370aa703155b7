"""`verify`: the folder of a run, compared with its manifest."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.output import (
    Address,
    FetchError,
    ManifestReader,
    RemoteCopy,
    existing_files,
    flat_settings,
    has_manifest,
    listed_checksums,
    listed_files,
    lock_holder,
    parse_place,
)
from surgery.page import picture_of_script, picture_script
from surgery.text import MANIFEST_FILE, WORK_FOLDER, escape_surrogates, format_count
from surgery.verification.faults import Fault, Verification
from surgery.verification.file_check import ExpectedContent, check_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

_FILE_MANAGER_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What file managers leave in any folder."""


def verify(folder: str | os.PathLike[str] | Address) -> Verification:
    """Compare the folder of a run with its manifest. It may be at an address: then a few files at a time are copied.

    Every listed file must exist and be readable: pictures decode, and archives have a value for each operation. The
    limits, the operation and the recipe in a PNG must be those of the manifest, and so must the checksum of each file,
    but for those in stores. No other file may exist. In the folder of a run that was stopped and left files to
    recover, nothing else is compared. Raises OutputError for a folder without a run, and for a folder that a run still
    writes to.
    """
    place = parse_place(folder)
    if isinstance(place, Address):
        return _verify_address(place)
    folder = place
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}")
    if holder := lock_holder(folder / WORK_FOLDER / "lock"):
        raise OutputError(f"a run writes to {folder} ({holder}); verify it when that is done")
    if unfinished := list(_unfinished_work(folder)):
        return Verification(folder, 0, 1, tuple(unfinished))
    if os.path.lexists(folder / MANIFEST_FILE):
        return _compare_with_manifest(folder, _files_in(folder))
    raise OutputError(f"{folder} holds no run: there is no {MANIFEST_FILE} in it")


def _verify_address(address: Address) -> Verification:
    with TemporaryDirectory(prefix="surgery-", ignore_cleanup_errors=True) as temporary:
        copy = RemoteCopy(address, Path(temporary))
        if work := copy.work_files():
            files = format_count(len(work), "file")
            sentence = (
                f"{WORK_FOLDER} is of a run that goes on, or was stopped ({files}); the same command goes on with it"
            )
            return Verification(address, 0, 1, (Fault("unfinished", WORK_FOLDER, sentence),))
        try:
            found = _compare_with_manifest(copy.folder, copy.names(), copy.present)
        except FetchError as error:
            raise error.error from error
        return replace(found, folder=address)


def _compare_with_manifest(
    folder: Path,
    names: Iterable[str],
    present: Callable[[Iterable[str]], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Verification:
    """Compare the files of a run with its manifest. `names` are those of all files in the folder.

    Within the context of `present`, files are in the folder.
    """
    images, listed, faults = 0, {MANIFEST_FILE}, list[Fault]()
    try:
        manifest = ManifestReader(folder)
        settings = {name: str(value) for name, value in flat_settings(manifest.head)}
        for image in manifest.images:
            images += "name" in image  # other entries belong to a whole batch
            listed |= set(listed_files(image))
            with present(listed_files(image)):
                faults += _check_image(folder, image, settings)
        checksums = listed_checksums(manifest.head)
        for name in manifest.run_files():
            listed.add(name)
            script = picture_of_script(name)
            with present([name] if script is None else [name, f"{script}.png"]):
                faults += check_file(folder, name, ExpectedContent(settings, crc32=checksums.get(name)))
                faults += _check_script(folder, name)
    except (OutputError, LookupError, TypeError, AttributeError):
        faults.append(Fault("manifest", MANIFEST_FILE, f"{MANIFEST_FILE} is damaged, or no manifest of a run"))
    else:
        faults += (
            Fault("unlisted", name, f"{name} is in the folder and not in the manifest")
            for name in names
            if name not in listed
        )
    return Verification(folder, images, len(listed), tuple(faults))


def _check_script(folder: Path, name: str) -> Iterator[Fault]:
    """Check that a script of the page holds the picture as it is."""
    picture = picture_of_script(name)
    files = dict(existing_files(folder, [name, f"{picture}.png"])) if picture is not None else {}
    if picture is None or len(files) < 2:  # what is missing has a fault of its own
        return
    with suppress(OSError):  # what can't be read has one too
        if files[name].read_bytes() != picture_script(picture, files[f"{picture}.png"].read_bytes()):
            sentence = f"{name} does not hold {picture}.png as it is; `surgery view` brings the page up to date"
            yield Fault("different", name, sentence)


def _unfinished_work(folder: Path) -> Iterator[Fault]:
    """Yield a fault if a run that was stopped has left files to recover."""
    work = folder / WORK_FOLDER
    if work.is_dir() and (left := [path for path in work.iterdir() if path.name != "lock"]):
        sentence = f"{WORK_FOLDER} is of a run that was stopped ({format_count(len(left), 'file')})"
        yield Fault("unfinished", WORK_FOLDER, f"{sentence}; the same command goes on with it")


def _files_in(folder: Path) -> Iterator[str]:
    """Yield the files in a folder, relative to it. Skip other runs inside it, and files of this run's workspace."""
    for home, folders, files in os.walk(folder):
        place = Path(home)
        folders[:] = sorted(name for name in folders if not (place == folder and name == WORK_FOLDER))
        folders[:] = [name for name in folders if not has_manifest(place / name)]
        for name in sorted(files):
            if name not in _FILE_MANAGER_FILES:
                yield (place / name).relative_to(folder).as_posix()


def _check_image(folder: Path, image: Mapping[str, Any], settings: Mapping[str, str]) -> Iterator[Fault]:
    """Check the files of one image, or those of a whole batch."""
    activations = [entry for entry in image.get("activations") or () if isinstance(entry, dict)]
    checksums = listed_checksums(image)
    for activation in activations:
        for file in activation.get("files") or ():
            if isinstance(file, dict) and isinstance(name := file.get("file"), str):
                text = {**settings, **_picture_text(image, activation, file)}
                expected = ExpectedContent(text, crc32=checksums.get(name))
                yield from check_file(folder, name, expected)
    paths = frozenset(escape_surrogates(str(activation.get("path"))).replace("\0", "_") for activation in activations)
    for name in image.get("files") or ():
        if isinstance(name, str):
            yield from check_file(folder, name, ExpectedContent(settings, paths, checksums.get(name)))


def _picture_text(image: Mapping[str, Any], activation: Mapping[str, Any], file: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a picture of one activation must say about itself."""
    text = {
        "operation": activation.get("path"),
        "shape": activation.get("shape"),
        "image": image.get("name"),
        "dtype": activation.get("dtype"),
        "low": file.get("low"),
        "high": file.get("high"),
    }
    return {name: value for name, value in text.items() if value is not None}

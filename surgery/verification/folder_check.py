"""A folder held against its manifest: what is missing, what is not listed, what can't be read, what says otherwise."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from surgery.errors import OutputError, first_line
from surgery.output import ManifestReader, existing_files, flat_settings, has_manifest, listed_files, lock_holder
from surgery.text import MANIFEST_FILE, WORK_FOLDER, escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Kind: TypeAlias = Literal["manifest", "unfinished", "missing", "unlisted", "unreadable", "different"]
PICTURES = (".png", ".apng", ".webp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff")
_NOT_OURS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""What file managers leave in any folder."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as the manifest has it."""

    kind: Kind
    file: str
    """Relative to the folder, with ``/`` between its parts."""
    sentence: str
    """What is wrong, in words."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found in the folder of a run."""

    folder: Path
    images: int
    """Of the manifest."""
    files: int
    """Of the manifest, itself included."""
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether the folder holds what its manifest says, and nothing else."""
        return not self.faults

    def record(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "sound": self.sound,
            "images": self.images,
            "files": self.files,
            "faults": [asdict(fault) for fault in self.faults],
        }


def verify(folder: str | os.PathLike[str]) -> Verification:
    """Hold the folder of a run against its manifest.

    Every file has to be there and readable: pictures decode, and archives have a value for each operation. No other
    file may be there. The limits, the operation and the recipe in a PNG have to be those of the manifest. Raises
    OutputError for a folder that holds no run, and where a run is still going on.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}")
    if holder := lock_holder(folder / WORK_FOLDER / "lock"):
        raise OutputError(f"a run writes to {folder} ({holder}); verify it when that is done")
    faults = [*_unfinished(folder)]
    images, listed = 0, {MANIFEST_FILE}
    if not os.path.lexists(folder / MANIFEST_FILE):
        if not faults:
            raise OutputError(f"{folder} holds no run: there is no {MANIFEST_FILE} in it")
    else:
        try:
            manifest = ManifestReader(folder)
            about = {name: str(value) for name, value in flat_settings(manifest.head)}
            for image in manifest.images:
                images += "name" in image
                listed |= set(listed_files(image))
                faults += _image_faults(folder, image, about)
            own = list(manifest.run_files())
            listed |= set(own)
            faults += _file_faults(folder, own, about)
        except (OutputError, LookupError, TypeError, AttributeError):
            faults.append(Fault("manifest", MANIFEST_FILE, f"{MANIFEST_FILE} is damaged, or no manifest of a run"))
            return Verification(folder, images, len(listed), tuple(faults))
        faults += (
            Fault("unlisted", name, f"{name} is in the folder and not in the manifest")
            for name in _files_in(folder)
            if name not in listed
        )
    return Verification(folder, images, len(listed), tuple(faults))


def _unfinished(folder: Path) -> Iterator[Fault]:
    work = folder / WORK_FOLDER
    if work.is_dir() and (left := sorted(path.name for path in work.iterdir() if path.name != "lock")):
        said = f"{WORK_FOLDER} is of a run that was killed ({len(left)} files); the next run into it puts it in order"
        yield Fault("unfinished", WORK_FOLDER, said)


def _files_in(folder: Path) -> Iterator[str]:
    """The files in a folder, but for those of a run's work and of runs in folders of their own."""
    for home, folders, files in os.walk(folder):
        place = Path(home)
        folders[:] = sorted(name for name in folders if not (place == folder and name == WORK_FOLDER))
        folders[:] = [name for name in folders if not has_manifest(place / name)]
        for name in sorted(files):
            if name not in _NOT_OURS:
                yield (place / name).relative_to(folder).as_posix()


def _image_faults(folder: Path, image: Mapping[str, Any], about: Mapping[str, str]) -> Iterator[Fault]:
    """Of the files of one image, or of what belongs to a whole batch."""
    activations = [entry for entry in image.get("activations") or () if isinstance(entry, dict)]
    for activation in activations:
        for file in activation.get("files") or ():
            name = file.get("file") if isinstance(file, dict) else None
            if isinstance(name, str):
                said = {
                    "operation": activation.get("path"),
                    "shape": activation.get("shape"),
                    "image": image.get("name"),
                }
                said |= {"dtype": activation.get("dtype"), "low": file.get("low"), "high": file.get("high")}
                yield from _file_faults(folder, [name], about, said)
    paths = {escape_surrogates(str(activation.get("path"))).replace("\0", "_") for activation in activations}
    for name in image.get("files") or ():
        if isinstance(name, str):
            yield from _file_faults(folder, [name], about, paths=paths)


def _file_faults(
    folder: Path,
    names: Iterable[str],
    about: Mapping[str, str],
    said: Mapping[str, Any] | None = None,
    paths: Iterable[str] = (),
) -> Iterator[Fault]:
    """Of files that are listed. `said` is what the manifest says of a picture, `paths` what an archive has to hold."""
    for name in names:
        path = dict(existing_files(folder, [name])).get(name)
        if path is None:
            there = os.path.lexists(folder / name) if "\0" not in name else False
            why = "leads out of the folder, or is no file" if there else "is in the manifest and not in the folder"
            yield Fault("missing", name, f"{name} {why}")
            continue
        try:
            if path.suffix.lower() in PICTURES:
                for what, found, expected in _texts_unlike(_texts(path), said or {}, about):
                    sentence = f"{name} has the {what} {found}, and the manifest {expected}"
                    yield Fault("different", name, sentence)
            elif lacking := sorted(set(paths) - keys) if (keys := _keys(path)) is not None else ():
                yield Fault("different", name, f"{name} has no value of {', '.join(lacking)}")
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises for a damaged file
            yield Fault("unreadable", name, f"{name} can't be read: {first_line(error)}")


def _texts(path: Path) -> dict[str, str]:
    """The texts in a picture, all of which was decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.verify()  # its checksums
        with Image.open(path) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()
            return {str(name): str(text) for name, text in getattr(image, "text", {}).items()}


def _texts_unlike(
    texts: Mapping[str, str], said: Mapping[str, Any], about: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """What a picture says of itself that the manifest says otherwise: name, and both values."""
    note: Any = json.loads(texts["surgery"]) if "surgery" in texts else texts
    if not isinstance(note, dict):
        note = {}
    expected = {**about, **{name: value for name, value in said.items() if value is not None}}
    for name, value in expected.items():
        found = note.get(name)
        if name in note and found != value:
            yield name, *_parted(found, value)
        elif name not in note and "surgery" in texts:
            yield name, "(none)", _short(value)


def _parted(found: Any, expected: Any) -> tuple[str, str]:
    """Two values in words; of two lists the first entries that differ."""
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        place = next(place for place, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        return f"{_short(found[place])} at {place}", _short(expected[place])
    return _short(found), _short(expected)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(path: Path) -> set[str] | None:
    """The names of what an archive holds, all of which was read; None for a file of another kind."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            if bad := archive.testzip():
                raise ValueError(f"{bad} in it is damaged")
            return {name.removesuffix(".npy") for name in archive.namelist()}
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "numpy") as archive:
            return set(archive.keys())
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    return None

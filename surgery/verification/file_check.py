"""One file of a run, compared with what the manifest says about it."""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.errors import first_line
from surgery.interrupts import raising_interrupts
from surgery.output import checksum, existing_files
from surgery.verification.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PICTURE_SUFFIXES = (".png", ".apng", ".webp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff")
MAX_SHOWN_LENGTH = 60
"""Characters of a value in a sentence."""


@dataclass(frozen=True, slots=True)
class ExpectedContent:
    """What the manifest says about the content of a file."""

    picture_text: Mapping[str, Any] = field(default_factory=dict)
    """The texts that a picture carries, by name."""
    archive_names: frozenset[str] = frozenset()
    """The values that an archive holds."""
    crc32: str | None = None
    """The checksum of the file."""


def check_file(folder: Path, name: str, expected: ExpectedContent) -> Iterator[Fault]:
    """Yield what is wrong with one listed file. `name` is relative to the folder."""
    path = dict(existing_files(folder, [name])).get(name)
    if path is None:
        exists = "\0" not in name and os.path.lexists(folder / name)
        reason = "leads out of the folder, or is no file" if exists else "is in the manifest and not in the folder"
        yield Fault("missing", name, f"{name} {reason}")
        return
    try:
        with raising_interrupts():
            sentences = list(_content_differences(path, expected))
            found = None if sentences or expected.crc32 is None else checksum(path)
    except Exception as error:  # noqa: BLE001 - decoders raise many kinds of errors for a damaged file
        yield Fault("unreadable", name, f"{name} can't be read: {first_line(error)}")
    else:
        if found is not None and found != expected.crc32:
            sentences.append(f"is not the file that the run wrote (CRC-32 {found}, and the manifest {expected.crc32})")
        yield from (Fault("different", name, f"{name} {sentence}") for sentence in sentences)


def _content_differences(path: Path, expected: ExpectedContent) -> Iterator[str]:
    """Read a whole file, and yield the differences from what is expected, in words."""
    if path.suffix.lower() in PICTURE_SUFFIXES:
        text = _picture_text(path)
        is_ours = "surgery" in text
        note = json.loads(text["surgery"]) if is_ours else text
        yield from _text_differences(note if isinstance(note, dict) else {}, expected.picture_text, is_complete=is_ours)
    else:
        names = _archive_names(path)
        if names is not None and (missing := sorted(expected.archive_names - names)):
            yield f"has no value of {', '.join(missing)}"


def _picture_text(path: Path) -> dict[str, str]:
    """Return the texts in a picture. Raises an error of Pillow if its checksums or any frame are damaged."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            image.verify()  # the checksums
        with Image.open(path) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()
            return {str(name): str(text) for name, text in getattr(image, "text", {}).items()}


def _text_differences(note: Mapping[str, Any], expected: Mapping[str, Any], *, is_complete: bool) -> Iterator[str]:
    """Yield how the texts of a picture differ from the manifest. A complete note has every expected text."""
    for name, value in expected.items():
        if name in note and note[name] != value:
            found, listed = _first_difference(note[name], value)
            yield f"has the {name} {found}, and the manifest {listed}"
        elif name not in note and is_complete:
            yield f"has the {name} (none), and the manifest {_shorten(value)}"


def _first_difference(found: Any, expected: Any) -> tuple[str, str]:
    """Return two values in words; for two lists of one length, the first entries that differ."""
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        place = next(place for place, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b)
        return f"{_shorten(found[place])} at {place}", _shorten(expected[place])
    return _shorten(found), _shorten(expected)


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN_LENGTH else f"{text[: MAX_SHOWN_LENGTH - 3]}..."


def _archive_names(path: Path) -> set[str] | None:
    """Return the names of the values in an archive, after reading all of it; None for another kind of file."""
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} in it is damaged")
            return {name.removesuffix(".npy") for name in archive.namelist()}
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "numpy") as archive:
            return set(archive.keys())
    if path.suffix == ".json":
        json.loads(path.read_bytes())
    return None

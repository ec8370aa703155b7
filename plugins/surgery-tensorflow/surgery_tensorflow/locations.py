"""Which file to read for a path that a user names: a file of weights, one of a checkpoint's files, or a folder."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.errors import CheckpointError, describe_os_error
from surgery_tensorflow.bundle import SUFFIX
from surgery_tensorflow.hdf5 import SIGNATURE, is_archive
from surgery_tensorflow.stored_values import natural_key
from surgery_tensorflow.table import FOOTER_SIZE, is_table

if TYPE_CHECKING:
    from pathlib import Path

Form: TypeAlias = Literal["hdf5", "archive", "bundle"]

_STATE_FILE = "checkpoint"
"""The file in which TensorFlow notes which checkpoint of a folder is the latest."""
_MAX_STATE_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Location:
    """A file to read."""

    form: Form
    path: Path
    saved_model: Path | None = None
    """The folder of the SavedModel that the file is part of."""


def locate(path: Path) -> Location | None:
    """Return the file to read for a path; None if it is none of TensorFlow's or Keras'.

    Raises CheckpointError for a folder of several checkpoints of which none is the latest.
    """
    if path.is_dir():
        return _locate_in_folder(path)
    if path.name == "saved_model.pb":
        return _locate_in_folder(path.parent)
    head, end = _read_ends(path)
    if head.startswith(SIGNATURE) or path.suffix.lower() in (".h5", ".hdf5"):
        return Location("hdf5", path)
    if path.suffix.lower() == ".keras" or (zipfile.is_zipfile(path) and is_archive(path)):
        return Location("archive", path)
    if path.suffix == SUFFIX or is_table(end):
        return Location("bundle", path)
    stem = re.sub(r"\.(data-\d{5}-of-\d{5}|meta)$", "", path.name)
    index = path.with_name(f"{stem}{SUFFIX}")
    return Location("bundle", index) if stem != path.name and index.is_file() else None


def is_checkpoint_folder(folder: Path) -> bool:
    """Return whether a folder is a SavedModel, or has checkpoints of TensorFlow."""
    try:
        return (folder / "saved_model.pb").is_file() or any(folder.glob(f"*{SUFFIX}"))
    except OSError:
        return False


def _locate_in_folder(folder: Path) -> Location | None:
    if (folder / "saved_model.pb").is_file():
        index = folder / "variables" / f"variables{SUFFIX}"
        if not index.is_file():
            raise CheckpointError(f"{folder} is a SavedModel without {index.relative_to(folder)}, its weights")
        return Location("bundle", index, folder)
    indices = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: natural_key(path.name))
    if not indices:
        return None
    latest = folder / f"{_read_latest(folder)}{SUFFIX}"
    if latest in indices:
        return Location("bundle", latest)
    if len(indices) == 1:
        return Location("bundle", indices[0])
    names = ", ".join(path.name for path in indices[-8:])
    raise CheckpointError(
        f"{folder} has {len(indices)} checkpoints, and its file '{_STATE_FILE}' names none of them as the latest; "
        f"name one: {names}"
    )


def _read_latest(folder: Path) -> str:
    """Return the name of the latest checkpoint of a folder, without the folders that TensorFlow may write before it."""
    try:
        with (folder / _STATE_FILE).open("rb") as file:
            text = file.read(_MAX_STATE_SIZE).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'^model_checkpoint_path: "([^"\n]*)"', text, re.MULTILINE)
    return re.split(r"[/\\]", match[1])[-1] if match else ""


def _read_ends(path: Path) -> tuple[bytes, bytes]:
    """Return the first and the last bytes of a file."""
    try:
        with path.open("rb") as file:
            head = file.read(len(SIGNATURE))
            file.seek(max(0, path.stat().st_size - FOOTER_SIZE))
            return head, file.read(FOOTER_SIZE)
    except OSError as error:
        raise CheckpointError(f"can't read {path}: {describe_os_error(error)}") from error

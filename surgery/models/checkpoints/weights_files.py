"""The content of a weights file: tensors in dicts and lists, read without running code from the file."""

from __future__ import annotations

import os
import pickle
import re
import stat
import threading
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import CheckpointError, describe_os_error, first_line
from surgery.interrupts import raising_interrupts
from surgery.models.checkpoints.pickle_placeholders import PLACEHOLDERS

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from torch import Tensor

WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")
"""Suffixes of the names of weights files."""

_SAFE_GLOBALS_LOCK = threading.Lock()
"""Held while a file is read, since the names that torch accepts in a file are shared by the whole process."""

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
"""The first bytes of the two formats of `torch.save`."""

_TENSORFLOW = "the plugin surgery-tensorflow opens networks of TensorFlow and Keras"
_FAILED_DOWNLOADS = (
    (rb"version https://git-lfs", "is a git-LFS pointer, not weights: run `git lfs pull`"),
    (rb"\s*<(!doctype|html|head|\?xml)", "is a web page, not weights: the download got the page about the file"),
)
_TEXT_FORMATS = (
    *_FAILED_DOWNLOADS,
    (rb"\x1f\x8b", "is a gzip archive; unpack it first"),
)
_OTHER_FORMATS = (
    *_TEXT_FORMATS,
    (rb"\x89HDF\r\n", f"is an HDF5 file, as Keras writes, which torch can't read; {_TENSORFLOW}"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP", "is an image, not weights"),
    (rb"\s*[{\[]", "is a text file in JSON, not weights"),
)
"""First bytes of files that are often named in place of weights, and what to say about each."""


def read_weights(path: Path) -> Any:
    """Return the content of a weights file: tensors, numbers and texts in dicts and lists.

    Pickled objects of a fixed list of harmless classes are replaced by empty placeholders (see `pickle_placeholders`).
    Raises CheckpointError, which says what the file is, if it can't be read.
    """
    head = _read_head(path)
    is_safetensors = path.suffix == ".safetensors" or (head[8:9] == b"{" and not head.startswith((_ZIP[:2], _PICKLE)))
    if is_safetensors:
        _refuse_formats(path, head, _TEXT_FORMATS)
        if not head.startswith(_ZIP):
            return _read_safetensors(path)
    _refuse_formats(path, head, _OTHER_FORMATS)
    return _read_pickled(path, head)


def refuse_failed_download(path: Path) -> None:
    """Raise CheckpointError for a file, of any format by its name, that is a git-LFS pointer or a web page."""
    if path.is_file():
        _refuse_formats(path, _read_head(path), _FAILED_DOWNLOADS)


def _read_head(path: Path) -> bytes:
    """Return the first bytes of a file. Raises CheckpointError if there is no regular file, or if it is empty."""
    try:
        if not path.exists():
            raise CheckpointError(f"there is no file {path}")
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder; name the weights file in it")
        if not stat.S_ISREG(path.stat().st_mode):
            raise CheckpointError(f"{path} is not a regular file; weights are read from a file on a disk")
        with path.open("rb") as file:
            head = file.read(256)
    except (OSError, ValueError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else first_line(error)
        raise CheckpointError(f"can't read {path}: {reason}") from error
    if not head:
        raise CheckpointError(f"{path} is empty")
    return head


def _refuse_formats(path: Path, head: bytes, formats: tuple[tuple[bytes, str], ...]) -> None:
    for signature, description in formats:
        if re.match(signature, head, re.IGNORECASE | re.DOTALL):
            raise CheckpointError(f"{path} {description}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        with raising_interrupts():
            return load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({first_line(error)}); it may have been cut short"
        ) from error


def _read_pickled(path: Path, head: bytes) -> Any:
    if head.startswith(_ZIP):
        _check_archive(path)
    elif path.suffix.lower() == ".index":
        raise CheckpointError(f"{path} is the index of a TensorFlow checkpoint; {_TENSORFLOW}")
    elif not head.startswith(_PICKLE):
        raise CheckpointError(f"{path} is not a weights file that torch.save has written")
    try:
        with (
            raising_interrupts(),
            _SAFE_GLOBALS_LOCK,
            warnings.catch_warnings(),
            torch.serialization.safe_globals(PLACEHOLDERS),
        ):
            warnings.simplefilter("ignore")  # about old formats and odd values, which are reported as errors
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} {_describe_unpickling_error(str(error))}") from error
    except Exception as error:  # a damaged file can break any step of reading it
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} is cut short or damaged ({reason[:200]}); fetch it again") from error


def _describe_unpickling_error(message: str) -> str:
    """Return why torch does not unpickle a file."""
    if "truncated" in message or "Ran out of input" in message:
        return "is cut short; fetch it again"
    blocked = re.search(r"GLOBAL ([\w.]+)", message)
    if blocked is None:
        return "is not a weights file that torch.save has written"
    return (
        f"is a pickled program object ({blocked[1][:100]}), and reading one runs whatever it says; save the weights "
        "alone, with torch.save(model.state_dict(), path)"
    )


def _check_archive(path: Path) -> None:
    """Raise CheckpointError for a zip archive that `torch.save` has not written."""
    try:
        with raising_interrupts(), zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is cut short or damaged ({first_line(error)}); fetch it again") from error
    if any("/code/" in name for name in names):
        raise CheckpointError(f"{path} is a TorchScript program, not weights; save its state_dict() instead")
    if {"config.json", "model.weights.h5"} <= set(names):
        raise CheckpointError(f"{path} is a model of Keras, which torch can't read; {_TENSORFLOW}")
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        shown = ", ".join(names[:3]) or "nothing"
        raise CheckpointError(f"{path} is a zip archive without weights of torch.save in it; it holds {shown}")


def list_weights_files(folder: Path, suffixes: Collection[str] = WEIGHTS_SUFFIXES) -> list[str]:
    """Return the names of the weights files in a folder, the newest first; none if it can't be read."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file()]
        return [os.fspath(file.name) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]
    except OSError:
        return []


def describe_tensorflow_folder(folder: Path) -> str:
    """Return what a folder of TensorFlow is, which only a plugin opens; empty for any other folder."""
    try:
        if (folder / "saved_model.pb").is_file():
            return f"is a SavedModel of TensorFlow; {_TENSORFLOW}"
        if any(folder.glob("*.index")):
            return f"is a folder of TensorFlow checkpoints; {_TENSORFLOW}"
    except OSError:
        pass
    return ""

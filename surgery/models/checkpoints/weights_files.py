"""The content of a weights file: tensors in dicts and lists, read without running what is in the file."""

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

from surgery.errors import CheckpointError, first_line
from surgery.models.checkpoints.pickle_placeholders import PLACEHOLDERS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_SAFE_GLOBALS_LOCK = threading.Lock()
"""The names that torch accepts in a file are those of the whole process."""

_OTHER_FORMATS = (
    (rb"version https://git-lfs", "is a git-LFS pointer, not weights: run `git lfs pull`"),
    (rb"\s*<(!doctype|html|head|\?xml)", "is a web page, not weights: the download got the page about the file"),
    (rb"\x1f\x8b", "is a gzip archive; unpack it first"),
    (rb"\x89HDF\r\n", "is an HDF5 file, as Keras writes; torch can't read it"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF....WEBP", "is an image, not weights"),
    (rb"\s*[{\[]", "is a text file in JSON, not weights"),
)


def read_weights(path: Path) -> Any:
    """What is in a weights file: tensors, numbers and texts in dicts and lists.

    Pickled objects of a fixed list of harmless classes (`standins`) are left out. Raises CheckpointError in plain words
    for a file that can't be read.
    """
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
        raise CheckpointError(f"can't read {path}: {getattr(error, 'strerror', None) or first_line(error)}") from error
    if not head:
        raise CheckpointError(f"{path} is empty")
    if path.suffix == ".safetensors" or (head[8:9] == b"{" and not head.startswith((b"PK", b"\x80"))):
        for signature, said in _OTHER_FORMATS[:3]:
            if re.match(signature, head, re.IGNORECASE):
                raise CheckpointError(f"{path} {said}")
        if not head.startswith(b"PK\x03\x04"):
            return _read_safetensors(path)
    return _read_pickled(path, head)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({first_line(error)}); it may have been cut short"
        ) from error


def _read_pickled(path: Path, head: bytes) -> Any:
    for signature, said in _OTHER_FORMATS:
        if re.match(signature, head, re.IGNORECASE | re.DOTALL):
            raise CheckpointError(f"{path} {said}")
    zipped = head.startswith(b"PK\x03\x04")
    if not zipped and not head.startswith(b"\x80"):
        raise CheckpointError(f"{path} is no weights file that torch.save has written")
    if zipped:
        _check_archive(path)
    try:
        with _SAFE_GLOBALS_LOCK, warnings.catch_warnings(), torch.serialization.safe_globals(PLACEHOLDERS):
            warnings.simplefilter("ignore")  # of old formats and of odd values, which have their errors
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} {_describe_unpickling_error(str(error))}") from error
    except Exception as error:  # a damaged file can break any step of reading it
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} is cut short or damaged ({reason[:200]}); fetch it again") from error


def _describe_unpickling_error(said: str) -> str:
    """Why torch does not unpickle a file."""
    if "truncated" in said or "Ran out of input" in said:
        return "is cut short; fetch it again"
    blocked = re.search(r"GLOBAL ([\w.]+)", said)
    if blocked is None:
        return "is no weights file that torch.save has written"
    return (
        f"is a pickled program object ({blocked[1][:100]}), and reading one runs whatever it says; save the weights "
        "alone, with torch.save(model.state_dict(), path)"
    )


def _check_archive(path: Path) -> None:
    """Raise CheckpointError for a zip archive that is not one of `torch.save`."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is cut short or damaged ({first_line(error)}); fetch it again") from error
    if any("/code/" in name for name in names):
        raise CheckpointError(f"{path} is a TorchScript program, not weights; save its state_dict() instead")
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        shown = ", ".join(names[:3]) or "nothing"
        raise CheckpointError(f"{path} is a zip archive without weights of torch.save in it; it holds {shown}")


def is_weights_file(path: Path) -> bool:
    """Whether a file is named, or begins, as weights files do."""
    if path.suffix.lower() in WEIGHTS_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError:
        return False
    return head.startswith((b"PK\x03\x04", b"\x80\x02")) or head[8:] == b"{"


WEIGHTS_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".bin")
"""Endings of the names of weights files."""


def list_weights_files(folder: Path) -> list[str]:
    """The names of the weights files in a folder, the newest first."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in WEIGHTS_SUFFIXES and file.is_file()]
        return [os.fspath(file.name) for file in sorted(files, key=lambda file: -file.stat().st_mtime)]
    except OSError:
        return []

"""Files that hold numbers, and the tensors in them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError, first_line
from surgery.interrupts import raising_interrupts
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

TENSOR_SUFFIXES = (".npy", ".npz", ".safetensors", ".pt", ".pth")


def load_tensors(path: Path, suffixes: Sequence[str]) -> Any:
    """Return the content of a file with one of the suffixes: a tensor, or a dict of tensors by name.

    No code in the file runs. Raises ImageError if it can't be read. A `.pt` file may hold anything else.
    """
    if path.suffix.lower() not in suffixes:
        raise ImageError(f"{path} is not a file of tensors: {', '.join(suffixes)}")
    try:
        with raising_interrupts():
            return _load(path)
    except FileNotFoundError:
        raise ImageError(f"there is no file {path}") from None
    except Exception as error:
        raise ImageError(f"can't read {path}: {type(error).__name__}: {first_line(error)}") from error


def _load(path: Path) -> Any:
    import numpy as np
    import torch

    suffix = path.suffix.lower()
    if suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if suffix == ".json":
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return {name: torch.tensor(value) for name, value in content.items()}
        return torch.tensor(content)
    return torch.load(path, map_location="cpu", weights_only=True)


def check_tensor(path: Path, value: Any) -> Tensor:
    """Return a tensor of real numbers that is not quantized. Raises ImageError for anything else."""
    import torch

    if not isinstance(value, torch.Tensor) or value.is_complex():
        kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise ImageError(f"{path} holds {kind}, not a tensor of real numbers")
    return value.dequantize() if value.is_quantized else value


def select_tensor(path: Path, content: Mapping[str, Any], key: str | None, stage: str) -> Any:
    """Return the entry of a file that is called `key`, or its only one; `stage` names what has the option in messages.

    Raises ImageError if there is none of this name, or without a name, if there are several.
    """
    if key is not None:
        if key not in content:
            raise ImageError(f"{path} has no {key!r}; there is {abbreviate_list(content, 6)}")
        return content[key]
    if len(content) != 1:
        raise ImageError(f"{path} holds {abbreviate_list(content, 6) or 'nothing'}; name one: {stage}:key=NAME")
    return next(iter(content.values()))

"""The sinks that write the exact values of activations."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.text import escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation

_RESERVED = "__metadata__"
"""The key of a safetensors file that is not a tensor."""


@dataclass(frozen=True, slots=True)
class Npz:
    """`<image>/activations.npz`: the exact values of each activation under its path, for `numpy.load`.

    NumPy has no dtype for bfloat16 and the 8-bit floats; they are converted to float32, which is exact.
    """

    alone: ClassVar[bool] = True

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        import numpy as np

        def save(path: Path, values: dict[str, Tensor]) -> None:
            # Not numpy.savez: an array named like one of its parameters would be passed to that parameter.
            with zipfile.ZipFile(path, "w") as archive:
                for name, value in values.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.lib.format.write_array(file, _to_numpy(value), allow_pickle=False)

        with _open_archives(folder, "activations.npz", save) as write:
            yield write


@dataclass(frozen=True, slots=True)
class Safetensors:
    """`<image>/activations.safetensors`: the exact values of each activation under its path.

    Complex values are stored as real ones with a last axis of size 2: real and imaginary part.
    """

    alone: ClassVar[bool] = True

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        def save(path: Path, values: dict[str, Tensor]) -> None:
            real = {name: torch.view_as_real(value) if value.is_complex() else value for name, value in values.items()}
            try:
                save_file({name: value.contiguous() for name, value in real.items()}, path, metadata=dict(folder.about))
            except SafetensorError as error:
                if found := re.search(r"os error (\d+)", str(error)):
                    raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
                raise
            _sort_metadata(path)

        with _open_archives(folder, "activations.safetensors", save) as write:
            yield write


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which the library writes in an order that differs from call to call."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header[_RESERVED] = dict(sorted(header.get(_RESERVED, {}).items()))
        content = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(content) == size:
            file.seek(8)
            file.write(content)


@contextmanager
def _open_archives(
    folder: OutputFolder,
    name: str,
    save: Callable[[Path, dict[str, Tensor]], None],
) -> Iterator[Write]:
    """Yield a function that collects activations; an archive is written when an image or a batch is finished."""
    pending: defaultdict[str | None, dict[str, Tensor]] = defaultdict(dict)

    def write(activation: Activation) -> None:
        values = pending[activation.image]
        path = escape_surrogates(activation.path).replace("\0", "_")  # a zip archive cuts names at NUL
        key, number = path, 1
        while key in values or key == _RESERVED:  # another operation has the same path
            number += 1
            key = f"{path}~{number}"
        values[key] = _copy_to_cpu(activation.values)

    def finish(image: str | None) -> None:
        if values := pending.pop(image, None):
            with folder.file(f"{folder.place(image)}/{name}") as path:
                save(path, values)

    folder.when_finished(finish)
    folder.when_dropped(lambda image: pending.pop(image, None))
    yield write


def _copy_to_cpu(values: Tensor) -> Tensor:
    """Return a dense copy on the CPU that shares no memory."""
    import torch

    values = values.detach()
    if values.is_quantized:
        values = values.dequantize()
    if values.layout is not torch.strided:
        values = values.to_dense()
    return values.to("cpu", copy=True).contiguous()


def _to_numpy(values: Tensor) -> Any:
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()

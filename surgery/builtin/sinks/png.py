"""The sink that writes a PNG for every activation."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from surgery.errors import RenderError
from surgery.types import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.folder import OutputFolder
    from surgery.types import Activation, Picture, Write

_LONGEST = 120


@dataclass(frozen=True, slots=True)
class Png:
    """`<image>/<NNN>-<path>.png`, numbered in order of execution; of a batch as a whole in `batch/`.

    Palette PNGs, compressed by ISA-L. Each carries a text chunk `surgery` with JSON: the operation, the limits of its
    channels, how a code reads back to a value, the image, the weights and the recipe.
    """

    level: int = 1
    """0 to 3 are fast (ISA-L); 4 to 9 make smaller files (zlib)."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise RenderError(f"level is 0 to 9, not {self.level}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery.png import encode

        batches = 0
        used: Counter[PurePosixPath] = Counter()

        def write(activation: Activation) -> None:
            place = activation.image if activation.image is not None else f"batch/{batches:04}"
            pictures = activation.pictures
            for number, picture in enumerate(pictures):
                name = PurePosixPath(place, file_name(activation))
                if len(pictures) > 1:
                    name = name.with_name(f"{name.name}-c{number:03}")
                used[name] += 1
                if used[name] > 1:
                    name = name.with_name(f"{name.name}~{used[name]}")
                with folder.file(name.with_name(f"{name.name}.png"), activation) as path:
                    path.write_bytes(encode(picture, {"surgery": note(folder, activation, picture)}, self.level))

        def finished(image: str | None) -> None:
            nonlocal batches
            used.clear()
            batches += image is None

        folder.when_finished(finished)
        folder.when_dropped(lambda _: used.clear())
        yield write


def file_name(activation: Activation) -> str:
    """``004-down2.conv``: number and path, fit for every file system."""
    safe = re.sub(r"[^A-Za-z0-9._@\[\]-]+", "_", activation.path)
    return f"{activation.operation.index:03}-{safe[:_LONGEST]}"


def note(folder: OutputFolder, activation: Activation, picture: Picture) -> str:
    """What a picture says of itself, as JSON."""
    content: dict[str, Any] = {
        "operation": activation.path,
        "kind": activation.operation.kind,
        "image": activation.image,
        "shape": list(activation.values.shape),
        "dtype": str(activation.values.dtype).removeprefix("torch."),
        "low": picture.low.tolist(),
        "high": picture.high.tolist(),
    }
    if picture.palette is not None:
        top = LEVELS - 1
        content["value"] = f"low + code / {top} * (high - low) for code <= {top}; 252 NaN, 253 -inf, 254 +inf, 255 none"
    return json.dumps({**content, **folder.about})

"""The images of a run, read one by one and put together in batches."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError
from surgery.images import load_image
from surgery.report import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One image, ready for a network."""

    name: str
    """Of its folder among the results: unique in a run."""
    path: Path
    number: int
    """Among the images of the run, from 0."""
    values: Tensor
    """``(1, C, H, W)``."""


class Reader:
    """Reads the images of a run, in order, and keeps a list of those that can't be read."""

    def __init__(self, paths: Sequence[Path], **options: Any) -> None:
        self.names = list(zip(paths, _names(paths), strict=True))
        self.options = options
        self.failed: list[Failure] = []

    def read(self) -> Iterator[Input]:
        for number, (path, name) in enumerate(self.names):
            try:
                yield Input(name, path, number, load_image(path, **self.options))
            except ImageError as error:
                self.failed.append(Failure(str(path), str(error)))


def _names(paths: Iterable[Path]) -> Iterator[str]:
    """Unique names, whatever the case."""
    taken = {"batch"}  # where sinks keep what belongs to a whole batch
    for path in paths:
        name, number = path.stem, 1
        while name.lower() in taken:
            number += 1
            name = f"{path.stem}-{number}"
        taken.add(name.lower())
        yield name


def batches(inputs: Iterable[Input], size: int) -> Iterator[list[Input]]:
    """Neighbours of one shape, out of as many images as fill a batch: the first `size` of the run, the second ..."""
    for _, together in groupby(inputs, lambda item: (item.number // size, item.values.shape)):
        yield list(together)


def misfit(model: nn.Module, values: Tensor) -> str | None:
    """Why a network that says what sizes it takes can't take this one."""
    multiple = getattr(model, "multiple", 1)
    height, width = values.shape[2:]
    if not isinstance(multiple, int) or (height % multiple == 0 and width % multiple == 0):
        return None
    near = max(multiple, round(max(height, width) / multiple) * multiple)
    return (
        f"{type(model).__name__} takes heights and widths that are multiples of {multiple}, not {height}x{width}; "
        f"size {near} would do"
    )

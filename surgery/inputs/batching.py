"""The images of a run, read one by one and put together in batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import torch

from surgery.errors import ImageError, SurgeryError, first_line
from surgery.inputs.notes import Notes, collect_notes
from surgery.output import Failure
from surgery.text import describe_stage, unique_image_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.inputs.other_inputs import OtherInput
    from surgery.stages import Reader

InputValues: TypeAlias = "tuple[Tensor, ...]"
"""The values of an image, ``(1, C, H, W)``, and of what is given to the model beside it."""


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One image of a run."""

    name: str
    """Of its folder among the results: unique in a run."""
    path: Path
    number: int
    """Among the images of the run, from 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images of one shape, ready for a network."""

    inputs: tuple[Input, ...]
    values: Tensor
    """``(B, C, H, W)``."""
    others: Mapping[str, Tensor] = field(default_factory=dict)
    """The model's inputs beside the image, by name."""

    @classmethod
    def from_items(cls, items: Iterable[tuple[Input, InputValues]], names: Sequence[str] = ()) -> Batch:
        """Of images with their values ``(1, C, H, W)``, which are copied: what a reader gave may be its own.

        `names` are those of the inputs beside the image.
        """
        inputs, given = zip(*items, strict=True)
        values, *others = (torch.cat(parts) for parts in zip(*given, strict=True))
        return cls(inputs, values, dict(zip(names, others, strict=True)))


class Inputs:
    """Reads the inputs of a run, in order, and keeps a list of those that can't be read, and what was noticed."""

    def __init__(
        self,
        paths: Sequence[Path],
        reader: Reader,
        notes: Notes | None = None,
        reserved_names: Iterable[str] = (),
        others: Sequence[OtherInput] = (),
    ) -> None:
        """`reserved_names` are names that no image is given: those of what sinks write beside the images' folders."""
        self.named_paths = list(
            zip(paths, unique_image_names((path.stem for path in paths), reserved_names), strict=True)
        )
        self.reader = reader
        self.others = others
        self.failures: list[Failure] = []
        self.notes: Notes = dict(notes or {})

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[Input, InputValues]]:
        """The inputs of these numbers, or all of them, one by one: the image, and what is given beside it."""
        for number in range(len(self.named_paths)) if numbers is None else numbers:
            path, name = self.named_paths[number]
            try:
                values = self._values(path, self.reader)
                beside = (self._values(other.paths[number], other.reader) for other in self.others)
                given = (values, *beside)
            except ImageError as error:
                self.failures.append(Failure(str(path), str(error), number))
            else:
                yield Input(name, path, number), given

    def _values(self, path: Path, reader: Reader) -> Tensor:
        try:
            with collect_notes(self.notes):
                values = reader(path)
        except SurgeryError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {first_line(error)}"
            raise ImageError(f"reader {describe_stage(reader)} can't read {path}: {said}") from error
        if (
            not isinstance(values, torch.Tensor)
            or not values.is_floating_point()
            or values.ndim != 4
            or len(values) != 1
        ):
            shown = (
                f"{tuple(values.shape)} {values.dtype}" if isinstance(values, torch.Tensor) else type(values).__name__
            )
            raise ImageError(f"reader {describe_stage(reader)} has to give (1, C, H, W) float, not {shown}, of {path}")
        return values


def group_into_batches(
    items: Iterable[tuple[Input, InputValues]], size: int, names: Sequence[str] = ()
) -> Iterator[Batch]:
    """Neighbours of one shape, out of as many images as fill a batch: the first `size` of the run, the second ..."""
    for _, together in groupby(items, lambda item: (item[0].number // size, *(part.shape for part in item[1]))):
        yield Batch.from_items(together, names)


def input_dtype(model: nn.Module) -> torch.dtype | None:
    """The dtype of a model's weights, which its input has to have; None where it has no parameters of floats."""
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return next((parameter.dtype for parameter in model.parameters() if parameter.dtype in floats), None)


def explain_size_mismatch(model: nn.Module, values: Tensor) -> str | None:
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

"""What a study runs a model on: files as a run reads them, or the rows of a tensor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.builtin import default_reader
from surgery.errors import ImageError, ModelError
from surgery.inputs import (
    Batch,
    ForwardParameters,
    explain_size_mismatch,
    find_inputs,
    input_dtype,
    read_batches,
    read_example,
    to_model,
)
from surgery.output import merge_notes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from surgery.inputs import FilePatterns, RunInputs, Side, Size
    from surgery.output import Failure, Notes
    from surgery.stages import Reader


@dataclass(frozen=True, slots=True)
class StudyImage:
    """One image of a study, with the other inputs of the model."""

    number: int
    """Its place among the images of the study, from 0."""
    name: str
    source: str | None
    """The path of its file; None for a tensor."""
    values: Mapping[str, Any]
    """The inputs by name, on the device of the model; images have one row."""
    repeated: tuple[str, ...]
    """The inputs that are the image's own, and are repeated where several variants share a batch."""

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the image; the shape of another input."""
        main = self.values[self.repeated[0]]
        shape = tuple(main[0].shape) if isinstance(main, list) else tuple(main.shape[1:])
        return shape[1:] if len(shape) > 2 else shape


@dataclass(frozen=True, slots=True)
class ReadingArguments:
    """How inputs are read: the arguments of `surgery.extract` of these names."""

    inputs: Mapping[str, Any]
    reader: Reader | None
    readers: Mapping[str, Reader]
    size: Size
    side: Side
    range: tuple[float, float] | None

    def find(self, model: nn.Module, images: FilePatterns) -> RunInputs:
        """Return the files of images for a model. Raises ImageError and ModelError as `surgery.extract` does."""
        return find_inputs(
            model,
            images,
            reader=self.reader,
            inputs=self.inputs,
            readers=self.readers,
            default_reader=default_reader,
            size=self.size,
            side=self.side,
            value_range=self.range,
        )


@dataclass(slots=True)
class StudyInputs:
    """The images of a study. Those that can't be read are listed in `failures` when they are iterated over."""

    original: nn.Module
    """The user's model."""
    model: nn.Module
    """Its copy on the device."""
    device: str | torch.device
    files: RunInputs | None
    """None for tensors."""
    tensor: Tensor | None
    fixed: Mapping[str, Any]
    """Inputs that are the same for each row of a tensor."""
    value_range: tuple[float, float]
    """The values of black and white."""
    failures: list[Failure] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)
    """What was noted about the files that were read."""

    @classmethod
    def find(
        cls,
        original: nn.Module,
        subject: nn.Module,
        images: FilePatterns | Tensor,
        reading: ReadingArguments,
        device: str | torch.device,
    ) -> StudyInputs:
        """Return the images for `original`, whose copy `subject` runs on `device`.

        Raises ImageError and ModelError as `surgery.extract` does.
        """
        if not isinstance(images, Tensor):
            files = reading.find(original, images)
            return cls(original, subject, device, files, None, {}, files.options.value_range)
        if images.ndim == 0 or len(images) == 0:
            raise ImageError(f"images are a tensor (B, ...) with one row for each, not {tuple(images.shape)}")
        if images.is_meta or images.layout is not torch.strided:
            raise ImageError(f"images are a dense tensor with values, not one on {images.device}, {images.layout}")
        wrong = [name for name, given in reading.inputs.items() if isinstance(given, (str, list))]
        if wrong or reading.reader is not None or reading.size is not None or reading.side != "none":
            what = f"files for {wrong[0]}" if wrong else "size, side and reader"
            raise ImageError(f"{what} go with files of images; images are given as a tensor")
        return cls(original, subject, device, None, images, reading.inputs, reading.range or (-1.0, 1.0))

    @property
    def total(self) -> int:
        """The number of images, readable or not."""
        if self.files is not None:
            return len(self.files.paths)
        return 0 if self.tensor is None else len(self.tensor)

    @property
    def names(self) -> Sequence[str]:
        """The names of the images, readable or not."""
        if self.files is not None:
            return self.files.open().names
        return [str(number) for number in range(self.total)]

    @property
    def settings(self) -> dict[str, Any]:
        """How the inputs are read, for a manifest."""
        return {"images": "a tensor", "range": list(self.value_range)} if self.files is None else self.files.settings

    def example(self) -> dict[str, Any] | None:
        """Return the first inputs by name, to trace with; None if there are none. Raises ImageError and ModelError."""
        if self.files is not None:
            return read_example(self.model, self.files, self.device)
        return dict(next(iter(self)).values)

    def local_files(self) -> Iterable[Path]:
        """Return every file of this machine that is read."""
        return () if self.files is None else self.files.local_files()

    def __iter__(self) -> Iterator[StudyImage]:
        """Yield the images that can be read, each with inputs that a run may write to."""
        yield from self._rows() if self.files is None else self._read(self.files)

    def _rows(self) -> Iterator[StudyImage]:
        parameters = ForwardParameters.of(self.model)
        name = parameters.first_without(self.fixed)
        if unknown := [key for key in self.fixed if not parameters.has(key)]:
            raise ModelError(parameters.explain_unknown(unknown[0]))
        parameters.check_complete((name, *self.fixed))
        fixed = {key: to_model(value, self.device, input_dtype(self.model)) for key, value in self.fixed.items()}
        rows = () if self.tensor is None else self.tensor.detach()
        for number, row in enumerate(rows):
            values = {name: to_model(row[None].clone(), self.device, input_dtype(self.model)), **fixed}
            yield StudyImage(
                number, str(number), None, {key: values[key] for key in parameters.in_order(values)}, (name,)
            )

    def _read(self, files: RunInputs) -> Iterator[StudyImage]:
        stream = files.open()
        self.failures, self.notes = stream.failures, stream.notes
        merge_notes(self.notes, files.notes)
        for item, parts in stream.read():
            merge_notes(self.notes, item.notes)
            batch = Batch.from_items([(item, parts)], files.parameters.lists)
            values = batch.to(self.device, input_dtype(self.model)) | files.values_for(self.model, self.device)
            yield StudyImage(item.number, item.name, str(item.path), values, tuple(batch.values))


def read_single(inputs: StudyInputs, reading: ReadingArguments, image: FilePatterns | Tensor, name: str) -> StudyImage:
    """Return the one image that is given for `name`. Raises ImageError for several, and for one that can't be read."""
    others = StudyInputs.find(inputs.original, inputs.model, image, reading, inputs.device)
    if others.total != 1:
        raise ImageError(f"there is one image as {name}, not {others.total}")
    for found in others:
        return replace(found, name=name) if found.source is None else found
    raise ImageError(others.failures[0].reason)


def read_reference(
    inputs: StudyInputs, reading: ReadingArguments, images: FilePatterns | Tensor
) -> list[dict[str, Any]]:
    """Return the inputs of a reference run on images, a dict for each. Raises ImageError if one can't be read."""
    if isinstance(images, Tensor):
        others = StudyInputs.find(inputs.original, inputs.model, images, reading, inputs.device)
        return [dict(image.values) for image in others]
    return list(read_batches(inputs.model, reading.find(inputs.original, images), inputs.device))


def check_size(model: nn.Module, image: StudyImage) -> None:
    """Raise ImageError for an image of a size that the model says it can't take."""
    reason = explain_size_mismatch(model, image.values[image.repeated[0]])
    if reason:
        raise ImageError(reason)

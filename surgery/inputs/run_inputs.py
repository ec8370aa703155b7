"""All that a run reads: the images and the files of other inputs, with the readers for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import ImageError
from surgery.graph import clone_inputs
from surgery.inputs.batching import Batch, to_model
from surgery.inputs.forward_parameters import ForwardParameters
from surgery.inputs.image_reader import ImageReader
from surgery.inputs.image_search import find_images, reader_suffixes
from surgery.inputs.input_files import Labels
from surgery.inputs.input_stream import InputStream
from surgery.inputs.model_inputs import input_dtype
from surgery.inputs.notes import collect_notes
from surgery.inputs.other_inputs import check_names, find_other_inputs, split_inputs
from surgery.inputs.readers import ReadingOptions
from surgery.text import ImageNames, describe_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from surgery.inputs.image_loading import Side, Size
    from surgery.inputs.image_search import FilePatterns
    from surgery.inputs.input_files import InputFiles
    from surgery.inputs.other_inputs import OtherInput
    from surgery.output import Notes
    from surgery.stages import Reader


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """The files of a run, and how each is read."""

    parameters: ForwardParameters
    """Of the model."""
    paths: InputFiles
    """The images."""
    options: ReadingOptions
    reader: Reader
    """Reads an image as the model takes it."""
    main: str | None
    """The parameter that receives the images; None for the first that nothing else is given for."""
    others: tuple[OtherInput, ...]
    """The inputs beside the image."""
    values: Mapping[str, Any]
    """Inputs that are the same for the whole run, by name."""
    notes: Notes
    """What was noted while the files were found."""
    settings: dict[str, Any]
    """How the inputs are read, for the manifest."""

    @property
    def other_names(self) -> tuple[str, ...]:
        """The inputs beside the image."""
        return (*(other.name for other in self.others), *self.values)

    def local_files(self) -> Iterator[Path]:
        """Yield every file of this machine that the run reads."""
        return chain(self.paths.local_files(), *(other.files.local_files() for other in self.others))

    def identities(self) -> Iterator[str]:
        """Yield what tells each input of the run from others. It is to be hashed, not to be shown."""
        return chain(self.paths.identities(), *(other.identities() for other in self.others))

    def open(self, reserved_names: Iterable[str] = ()) -> InputStream:
        """Return a stream of the inputs; `reserved_names` are not given to images."""
        return self._stream(ImageNames(Labels(self.paths), reserved_names))

    def open_unnamed(self) -> InputStream:
        """Return a stream of the inputs in which several may have one name, which is faster to open."""
        return self._stream(Labels(self.paths))

    def _stream(self, names: Sequence[str]) -> InputStream:
        return InputStream(
            self.paths,
            names,
            self.reader,
            self.parameters,
            main=self.main,
            taken=self.other_names,
            others=self.others,
        )

    def values_for(self, model: nn.Module, device: str | torch.device) -> dict[str, Any]:
        """Return the values that are the same for the whole run, for a model that may write to them."""
        return {name: to_model(clone_inputs(value), device, input_dtype(model)) for name, value in self.values.items()}


def read_example(model: nn.Module, files: RunInputs, device: str | torch.device) -> dict[str, Any] | None:
    """Return the first inputs that can be read, by name, as an example to trace with; None if there are none.

    Raises ModelError if the model requires more inputs, and ImageError if none can be read and `model` can't be traced
    without them.
    """
    if isinstance(files.options.reader, ImageReader):  # a file of another kind may hold several inputs
        main = files.main or files.parameters.first_without(files.other_names)
        files.parameters.check_complete((main, *files.other_names))
    stream = files.open_unnamed()
    for item in stream.read():
        batch = Batch.from_items([item], files.parameters.lists)
        example = batch.to(device, input_dtype(model)) | files.values_for(model, device)
        files.parameters.check_complete(example)
        return example
    if files.other_names or files.main or not isinstance(files.options.reader, ImageReader):
        raise ImageError(stream.failures[0].reason)
    return None


def read_batches(model: nn.Module, files: RunInputs, device: str | torch.device) -> Iterator[dict[str, Any]]:
    """Yield the inputs of each file by name, one file at a time. Raises ImageError for a file that can't be read."""
    stream = files.open_unnamed()
    for item in stream.read():
        batch = Batch.from_items([item], files.parameters.lists)
        yield batch.to(device, input_dtype(model)) | files.values_for(model, device)
    if stream.failures:
        raise ImageError(stream.failures[0].reason)


def find_inputs(
    model: nn.Module,
    images: FilePatterns,
    *,
    reader: Reader | None,
    default_reader: Callable[[FilePatterns], Reader] = lambda _: ImageReader(),
    size: Size = None,
    side: Side = "none",
    value_range: tuple[float, float] | None = None,
    inputs: Mapping[str, Any] = MappingProxyType({}),
    readers: Mapping[str, Reader] = MappingProxyType({}),
) -> RunInputs:
    """Return what a run of `model` reads.

    `reader` reads `images`; `inputs` are the model's other inputs, by parameter of ``forward``: files, or values for
    the whole run. `readers` are the readers of the files; `default_reader` returns one for those that have none.
    Without `images`, the files of the first input take their place. `size`, `side` and `value_range` are the user's
    choices; None leaves a choice to the model.

    Raises ImageError for files that are not found or not matched, ModelError for inputs that the model lacks.
    """
    parameters = ForwardParameters.of(model)
    check_names(parameters, inputs, readers)
    files, values = split_inputs(inputs)
    readers = {name: readers.get(name) or default_reader(patterns) for name, patterns in files.items()}
    main = None
    if isinstance(images, (list, tuple)) and not images and files:
        main = next(iter(files))
        images, reader = files.pop(main), readers[main]
    reader = reader or default_reader(images)
    notes: Notes = {}
    with collect_notes(notes):
        paths = find_images(images, reader_suffixes(reader))
        others = find_other_inputs(paths, files, readers)
    options = ReadingOptions.for_model(
        model,
        reader,
        size,
        side,
        value_range,
        reads_images=any(isinstance(each.reader, ImageReader) for each in others),
    )
    settings = options.describe()
    if inputs:
        settings["inputs"] = {
            name: describe_stage(readers[name]) if name in readers else _describe(values[name]) for name in inputs
        }
    return RunInputs(
        parameters=parameters,
        paths=paths,
        options=options,
        reader=options.main_reader(model, has_other_inputs=bool(others)),
        main=main,
        others=tuple(replace(other, reader=options.other_reader(other.reader)) for other in others),
        values=values,
        notes=notes,
        settings=settings,
    )


def _describe(value: Any) -> Any:
    """Return a value for the manifest."""
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() <= 64 else f"{tuple(value.shape)} {value.dtype}"
    return value if isinstance(value, (bool, int, float, type(None))) else describe_stage(value)

"""All that a run reads: the images and the files of other inputs, with the readers for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from surgery.inputs.image_reader import ImageReader
from surgery.inputs.image_search import find_images, reader_suffixes
from surgery.inputs.input_stream import InputStream
from surgery.inputs.notes import Notes, collect_notes
from surgery.inputs.other_inputs import find_other_inputs
from surgery.inputs.readers import ReadingOptions
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from surgery.inputs.image_loading import Side, Size
    from surgery.inputs.other_inputs import FilePatterns, OtherInput
    from surgery.stages import Reader


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """The files of a run, and how each is read."""

    paths: tuple[Path, ...]
    """Of the images."""
    options: ReadingOptions
    reader: Reader
    """Reads an image as the model takes it."""
    others: tuple[OtherInput, ...]
    """The inputs beside the image."""
    notes: Notes
    """What was noted while the files were found."""
    settings: dict[str, Any]
    """How the inputs are read, for the manifest."""

    @property
    def other_names(self) -> list[str]:
        """The names of the inputs beside the image."""
        return [other.name for other in self.others]

    def all_paths(self) -> list[Path]:
        """Return every file that the run reads."""
        return [*self.paths, *(path for other in self.others for path in other.paths)]

    def open(self, reserved_names: Iterable[str] = ()) -> InputStream:
        """Return a stream of the inputs; `reserved_names` are not given to images."""
        return InputStream(self.paths, self.reader, self.notes, reserved_names, self.others)


def find_inputs(
    model: nn.Module,
    images: FilePatterns,
    *,
    reader: Reader,
    size: Size = None,
    side: Side = "none",
    value_range: tuple[float, float] | None = None,
    inputs: Mapping[str, FilePatterns] = MappingProxyType({}),
    readers: Mapping[str, Reader] = MappingProxyType({}),
) -> RunInputs:
    """Return the files that a run of `model` reads.

    `reader` reads `images`; `inputs` are the files of the model's other inputs, by parameter of ``forward``, and
    `readers` their readers (images, if there is none). `size`, `side` and `value_range` are the user's choices; None
    leaves a choice to the model.

    Raises ImageError for files that are not found or not matched, ModelError for inputs that the model lacks.
    """
    notes: Notes = {}
    with collect_notes(notes):
        paths = find_images(images, reader_suffixes(reader))
    options = ReadingOptions.for_model(model, reader, size, side, value_range)
    main_reader = options.main_reader(model, has_other_inputs=bool(inputs))
    with collect_notes(notes):
        others = find_other_inputs(model, paths, inputs, readers, ImageReader())
    settings = options.describe()
    if inputs:
        settings["inputs"] = {name: describe_stage(readers.get(name, ImageReader())) for name in inputs}
    return RunInputs(
        paths=tuple(paths),
        options=options,
        reader=main_reader,
        others=tuple(replace(other, reader=options.other_reader(other.reader)) for other in others),
        notes=notes,
        settings=settings,
    )

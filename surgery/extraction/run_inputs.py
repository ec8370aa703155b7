"""The inputs of a run: which files, how they are read, and what the manifest says about that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from surgery.inputs import (
    ImageReader,
    Inputs,
    Notes,
    collect_notes,
    default_range,
    find_images,
    find_other_inputs,
    input_limits,
    input_settings,
    model_preprocessing,
    reader_for_model,
    reader_for_other_input,
    reader_suffixes,
    resolve_size,
)
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import nn

    from surgery.inputs import FilePatterns, OtherInput, Side, Size
    from surgery.stages import Limits, Reader


@dataclass(frozen=True, slots=True, eq=False)
class RunInputs:
    """The files of a run and their readers."""

    paths: tuple[Path, ...]
    """The main input of each image."""
    reader: Reader
    others: tuple[OtherInput, ...]
    """The model's other inputs."""
    value_range: tuple[float, float]
    """The values of black and white."""
    limits: Limits | None
    """Black and white of the main input, channel by channel where they differ; None if it may not be an image."""
    settings: dict[str, Any]
    """How the inputs are read, for the manifest."""
    notes: Notes
    """What was noted while the files were found."""

    def all_paths(self) -> list[Path]:
        """Return every file that the run reads."""
        return [*self.paths, *(path for other in self.others for path in other.paths)]

    def open(self, reserved_names: Iterable[str] = ()) -> Inputs:
        """Return what reads the inputs. `reserved_names` are not given to any image."""
        return Inputs(self.paths, self.reader, self.notes, reserved_names, self.others)


def find_run_inputs(
    model: nn.Module,
    images: FilePatterns,
    inputs: Mapping[str, FilePatterns],
    reader: Reader,
    readers: Mapping[str, Reader],
    *,
    size: Size,
    side: Side,
    value_range: tuple[float, float] | None,
) -> RunInputs:
    """Find the files of a run, and decide how the model wants them. See `extract` for the arguments.

    Raises ImageError for files that don't exist, and ModelError for an input that the model doesn't have.
    """
    notes: Notes = {}
    with collect_notes(notes):
        paths = find_images(images, reader_suffixes(reader))
        others = find_other_inputs(model, paths, inputs, readers, ImageReader())
    black_and_white = value_range or default_range(reader)
    preprocessing = None
    if black_and_white == (-1.0, 1.0) and value_range is None:
        preprocessing = model_preprocessing(model)
    model_size = resolve_size(model, size, preprocessing)

    def other_reader(reader: Reader) -> Reader:
        return reader_for_other_input(reader, model_size, side, black_and_white, preprocessing)

    settings = input_settings(reader, side, black_and_white, preprocessing)
    if inputs:
        settings["inputs"] = {name: describe_stage(readers.get(name, ImageReader())) for name in inputs}
    return RunInputs(
        paths=tuple(paths),
        reader=reader_for_model(
            reader, model, size, side, black_and_white, preprocessing, has_other_inputs=bool(inputs)
        ),
        others=tuple(replace(other, reader=other_reader(other.reader)) for other in others),
        value_range=black_and_white,
        limits=input_limits(reader, side, black_and_white, preprocessing),
        settings=settings,
        notes=notes,
    )

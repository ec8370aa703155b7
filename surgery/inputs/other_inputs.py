"""Models of several inputs: which files belong to an image, and what reads them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from surgery.errors import ImageError, ModelError, did_you_mean
from surgery.inputs.decoding import file_channels
from surgery.inputs.image_loading import find_images, load_image, reader_suffixes
from surgery.inputs.image_reader import ImageReader
from surgery.inputs.notes import add_note

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.inputs.image_loading import Side, Size
    from surgery.stages import Preprocessing, Reader

    FilePatterns = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True, eq=False)
class OtherInput:
    """An input of a model beside the image."""

    name: str
    """Of the parameter of forward."""
    paths: tuple[Path, ...]
    """A file for each image of the run."""
    reader: Reader


def find_other_inputs(
    model: nn.Module,
    images: Sequence[Path],
    inputs: Mapping[str, FilePatterns],
    readers: Mapping[str, Reader],
    default: Reader,
) -> tuple[OtherInput, ...]:
    """The inputs beside the image, each with a file for every image.

    Files of the same names as the images belong to those; else the first belongs to the first image, and so on. One
    file alone belongs to all of them. Raises ModelError for a name that forward does not have.
    """
    if not inputs and not readers:
        return ()
    known = list(inspect.signature(model.forward).parameters)
    for name in (*inputs, *readers):
        if name not in known:
            near = did_you_mean(name, known)
            raise ModelError(
                f"forward of {type(model).__name__} has no input {name!r}; it has {', '.join(known)}{near}"
            )
    if unread := [name for name in readers if name not in inputs]:
        raise ModelError(
            f"there is a reader for {unread[0]}, and no files: --input {unread[0]}=FILES (inputs= in Python)"
        )
    found = []
    for name, given in inputs.items():
        reader = readers.get(name, default)
        files = find_images(given, reader_suffixes(reader))
        found.append(OtherInput(name, _paired(name, images, files), reader))
    return tuple(found)


def _paired(name: str, images: Sequence[Path], files: Sequence[Path]) -> tuple[Path, ...]:
    if len(files) == 1:
        return (files[0],) * len(images)
    stems = {file.stem: file for file in files}
    if len(stems) == len(files) and all(image.stem in stems for image in images):
        return tuple(stems[image.stem] for image in images)
    if len(files) != len(images):
        raise ImageError(
            f"{name} has {len(files)} files, and there are {len(images)} images; give one file for all of them, one "
            "for each in their order, or files of the same names"
        )
    add_note(files[0], f"the files of {name} have other names than the images, and belong to them in order")
    return tuple(files)


def order_arguments(placeholders: Sequence[str], main: Tensor, others: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The inputs of a graph, in its order."""
    return tuple(others.get(name, main) for name in placeholders)


def main_input_name(model: nn.Module, others: Sequence[str]) -> str | None:
    """The parameter of forward that is given the image; None where the model has none left."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return next((name for name in named if name not in others), None)


def needs_example(model: nn.Module, others: Sequence[str]) -> bool:
    """Whether an input is one that a graph has only where an example gives it."""
    parameters = [inspect.signature(model.forward).parameters[name] for name in others]
    return any(p.default is not p.empty or p.kind is p.KEYWORD_ONLY for p in parameters)


def build_example(model: nn.Module, named: Mapping[str, Tensor]) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Inputs by name as an example to trace with: by position where that can be."""
    parameters = list(inspect.signature(model.forward).parameters.values())[: len(named)]
    if all(p.name in named and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        return tuple(named[p.name] for p in parameters)
    return dict(named)


def reader_for_other_input(
    reader: Reader, size: Size, side: Side, value_range: tuple[float, float], preprocessing: Preprocessing | None
) -> Reader:
    """What reads an input beside the image: images in the same size and range, in the channels that they have."""
    if not isinstance(reader, ImageReader):
        return reader
    low = value_range[0] if reader.low is None else reader.low
    high = value_range[1] if reader.high is None else reader.high

    def read(path: Path) -> Tensor:
        channels = reader.channels or file_channels(path)
        same = None if preprocessing is None else replace(preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels)
        values = load_image(
            path,
            size=size,
            side=side if side in ("left", "right") else "none",
            range=(low, high),
            channels=channels,
            preprocessing=same,
            black=reader.black,
            white=reader.white,
            indices=reader.indices,
        )
        return values if same is None else values.mul(high - low).add(low)

    return read

"""The inputs of a model beside the image: which of their files belongs to which image, and values without a file."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.errors import ImageError, ModelError, first_line
from surgery.inputs.image_search import find_images, reader_suffixes
from surgery.inputs.input_files import identity_of
from surgery.inputs.notes import add_note
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery.inputs.forward_parameters import ForwardParameters
    from surgery.inputs.image_search import FilePatterns
    from surgery.inputs.input_files import InputFile, InputFiles
    from surgery.stages import Reader


@dataclass(frozen=True, slots=True, eq=False)
class OtherInput:
    """An input of a model beside the image."""

    name: str
    """Its parameter of ``forward``."""
    files: InputFiles
    numbers: Sequence[int]
    """For each image of the run, the number of its file in `files`."""
    reader: Reader

    def file_of(self, image: int) -> InputFile:
        """Return the file for the image with a number."""
        return self.files[int(self.numbers[image])]

    def identities(self) -> Iterator[str]:
        """Yield what tells the file of each image from others."""
        return (identity_of(self.file_of(image)) for image in range(len(self.numbers)))


def split_inputs(inputs: Mapping[str, Any]) -> tuple[dict[str, FilePatterns], dict[str, Any]]:
    """Return the inputs that are read from files, and those that are values for the whole run.

    Lists of numbers become tensors. Raises ModelError for a list that is neither of files nor of numbers.
    """
    files: dict[str, FilePatterns] = {}
    values: dict[str, Any] = {}
    for name, given in inputs.items():
        is_list = isinstance(given, (list, tuple))
        if isinstance(given, (str, os.PathLike)) or (
            is_list and all(isinstance(item, (str, os.PathLike)) for item in given)
        ):
            files[name] = given
        elif is_list:
            try:
                values[name] = torch.tensor(given)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ModelError(f"{name} is neither files nor numbers: {first_line(error)}") from error
        else:
            values[name] = given
    return files, values


def check_names(parameters: ForwardParameters, inputs: Mapping[str, Any], readers: Mapping[str, Any]) -> None:
    """Raise ModelError for an input that forward lacks, and for a reader without files."""
    for name in (*inputs, *readers):
        if not parameters.has(name):
            raise ModelError(parameters.explain_unknown(name))
        if name not in inputs:
            raise ModelError(f"there is a reader for {name}, and no files: --input {name}=FILES (inputs= in Python)")


def find_other_inputs(
    images: InputFiles, inputs: Mapping[str, FilePatterns], readers: Mapping[str, Reader]
) -> tuple[OtherInput, ...]:
    """Return the inputs beside the image, each with one file for every image.

    Files are matched to images by their names if every image has one, else by their order. A single file belongs to
    every image. `readers` are by input name. Raises ImageError for files that can't be matched.
    """
    others = []
    for name, patterns in inputs.items():
        reader = readers[name]
        files = find_images(patterns, reader_suffixes(reader))
        others.append(OtherInput(name, files, _match_files(name, images, files), reader))
    return tuple(others)


def _match_files(name: str, images: InputFiles, files: InputFiles) -> Sequence[int]:
    """Return the number of a file for each image."""
    if len(files) == 1:
        return np.broadcast_to(np.uint32(0), len(images))  # type: ignore[return-value] # a sequence of integers
    numbers = {file.stem: number for number, file in enumerate(files)}
    if len(numbers) == len(files) and all(image.stem in numbers for image in images):
        return array("L", (numbers[image.stem] for image in images))
    if len(files) != len(images):
        raise ImageError(
            f"{name} has {format_count(len(files), 'file')} for {format_count(len(images), 'image')}; give one file "
            "for all of them, one for each in their order, or files of the same names"
        )
    add_note(str(files[0]), f"the files of {name} have other names than the images, and belong to them in order")
    return range(len(files))

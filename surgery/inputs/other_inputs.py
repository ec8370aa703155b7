"""The inputs of a model beside the image: which of their files belongs to which image."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from surgery.errors import ImageError, ModelError, did_you_mean
from surgery.inputs.image_search import find_images, reader_suffixes
from surgery.inputs.notes import add_note

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn

    from surgery.stages import Reader

FilePatterns: TypeAlias = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""Files, folders and patterns, as `find_images` takes them."""


@dataclass(frozen=True, slots=True, eq=False)
class OtherInput:
    """An input of a model beside the image."""

    name: str
    """Its parameter of ``forward``."""
    paths: tuple[Path, ...]
    """One file for each image of the run."""
    reader: Reader


def find_other_inputs(
    model: nn.Module,
    images: Sequence[Path],
    inputs: Mapping[str, FilePatterns],
    readers: Mapping[str, Reader],
    default: Reader,
) -> tuple[OtherInput, ...]:
    """Return the inputs beside the image, each with one file for every image.

    Files are matched to images by their names if every image has one, else by their order. A single file belongs to
    every image. `readers` are by input name; `default` reads the others.

    Raises ModelError for a name that ``forward`` lacks and for a reader without files; ImageError for files that can't
    be matched.
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
    if without_files := [name for name in readers if name not in inputs]:
        name = without_files[0]
        raise ModelError(f"there is a reader for {name}, and no files: --input {name}=FILES (inputs= in Python)")
    others = []
    for name, patterns in inputs.items():
        reader = readers.get(name, default)
        files = find_images(patterns, reader_suffixes(reader))
        others.append(OtherInput(name, _match_files(name, images, files), reader))
    return tuple(others)


def _match_files(name: str, images: Sequence[Path], files: Sequence[Path]) -> tuple[Path, ...]:
    """Return one file for each image."""
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

"""The inputs of a run as tensors, read one image after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from surgery.errors import ImageError, SurgeryError, first_line
from surgery.inputs.model_inputs import build_example, input_dtype, main_input_name, needs_example
from surgery.inputs.notes import Notes, collect_notes
from surgery.output import Failure
from surgery.text import describe_stage, unique_image_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.inputs.other_inputs import OtherInput
    from surgery.stages import Reader

InputValues: TypeAlias = "tuple[Tensor, ...]"
"""The values of an image, ``(1, C, H, W)``, and of the model's other inputs."""


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One image of a run."""

    name: str
    """The name of its folder in the output; unique in a run."""
    path: Path
    number: int
    """Its place among the images of the run, from 0."""


class InputStream:
    """Reads the inputs of a run in order, and lists the files that can't be read."""

    def __init__(
        self,
        paths: Sequence[Path],
        reader: Reader,
        notes: Notes | None = None,
        reserved_names: Iterable[str] = (),
        others: Sequence[OtherInput] = (),
    ) -> None:
        """`reserved_names` are not given to images: sinks write files of these names beside the images' folders."""
        self.named_paths = list(
            zip(paths, unique_image_names((path.stem for path in paths), reserved_names), strict=True)
        )
        self.reader = reader
        self.others = others
        self.failures: list[Failure] = []
        self.notes: Notes = dict(notes or {})

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[Input, InputValues]]:
        """Yield the inputs with these numbers (None: all), each with its values.

        An image that can't be read is added to `failures` and skipped.
        """
        for number in range(len(self.named_paths)) if numbers is None else numbers:
            path, name = self.named_paths[number]
            try:
                main = self._read_file(path, self.reader)
                values = (main, *(self._read_file(other.paths[number], other.reader) for other in self.others))
            except ImageError as error:
                self.failures.append(Failure(str(path), str(error), number))
            else:
                yield Input(name, path, number), values

    def _read_file(self, path: Path, reader: Reader) -> Tensor:
        try:
            with collect_notes(self.notes):
                values = reader(path)
        except SurgeryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ImageError(f"reader {describe_stage(reader)} can't read {path}: {reason}") from error
        is_tensor = isinstance(values, torch.Tensor)
        if not is_tensor or not values.is_floating_point() or values.ndim != 4 or len(values) != 1:
            shown = f"{tuple(values.shape)} {values.dtype}" if is_tensor else type(values).__name__
            raise ImageError(f"reader {describe_stage(reader)} must return (1, C, H, W) float for {path}, not {shown}")
        return values


def read_example(model: nn.Module, inputs: InputStream, device: str | torch.device) -> Any:
    """Return the first inputs that can be read, as an example to trace with; None if there are none.

    Raises ImageError if none can be read and `model` can't be traced without them.
    """
    names = [other.name for other in inputs.others]
    for _, values in inputs.read():
        main, *others = (part.to(device, input_dtype(model)) for part in values)
        return build_example(model, {str(main_input_name(model, names)): main, **dict(zip(names, others, strict=True))})
    if inputs.failures and needs_example(model, names):
        raise ImageError(inputs.failures[0].reason)
    return None

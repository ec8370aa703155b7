"""The inputs of a run as tensors, read one image after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor

from surgery.errors import ImageError, SurgeryError, first_line
from surgery.inputs.input_files import local_copy
from surgery.inputs.notes import collect_notes
from surgery.interrupts import raising_interrupts
from surgery.output import Failure, Notes, merge_notes
from surgery.text import abbreviate_list, describe_stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from surgery.inputs.forward_parameters import ForwardParameters
    from surgery.inputs.input_files import InputFile
    from surgery.inputs.other_inputs import OtherInput
    from surgery.stages import Reader

InputValues: TypeAlias = "dict[str, Tensor]"
"""The values of an image, ``(1, ...)``, and of the model's other inputs, by parameter of forward, the image first."""


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """One image of a run."""

    name: str
    """The name of its folder in the output; unique in a run."""
    path: InputFile
    number: int
    """Its place among the images of the run, from 0."""
    notes: Notes = field(default_factory=dict)
    """What was noted while it was read."""


class InputStream:
    """Reads the inputs of a run in order, and lists the files that can't be read."""

    def __init__(
        self,
        paths: Sequence[InputFile],
        names: Sequence[str],
        reader: Reader,
        parameters: ForwardParameters,
        *,
        main: str | None = None,
        taken: Collection[str] = (),
        others: Sequence[OtherInput] = (),
    ) -> None:
        """`main` is the parameter that receives what is in `paths`; None for the first that is not in `taken`."""
        self.paths = paths
        self.names = names
        self.failures: list[Failure] = []
        self.notes: Notes = {}
        """What was noted about files that can't be read."""
        self._reader = reader
        self._parameters = parameters
        self._main = main
        self._taken = taken
        self._others = others

    @property
    def lists(self) -> frozenset[str]:
        """The inputs that the model takes as a list of tensors."""
        return self._parameters.lists

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[tuple[Input, InputValues]]:
        """Yield the inputs with these numbers (None: all), each with its values.

        An image that can't be read is added to `failures` and skipped.
        """
        for number in range(len(self.paths)) if numbers is None else numbers:
            path = self.paths[number]
            item = Input(self.names[number], path, number)
            try:
                with collect_notes(item.notes):
                    values = self._read_main(path)
                    for other in self._others:
                        values.update(self._read_named(other.name, other.file_of(number), other.reader))
            except ImageError as error:
                self.failures.append(Failure(str(path), str(error), number))
                merge_notes(self.notes, item.notes)
            else:
                yield item, values

    def _read_main(self, path: InputFile) -> InputValues:
        """Return the inputs that an image's own file holds, in the order of forward's parameters."""
        if self._main is not None:
            return self._read_named(self._main, path, self._reader)
        values = self._read_file(path, self._reader)
        if isinstance(values, Tensor) or (len(values) == 1 and not self._parameters.has(next(iter(values)))):
            return {self._parameters.first_without(self._taken): _only(values)}
        for name in values:
            if not self._parameters.has(name):
                raise ImageError(
                    f"{path} holds {abbreviate_list(values, 6)}, and {self._parameters.explain_unknown(name)}"
                )
        return {name: values[name] for name in self._parameters.in_order(values)}

    def _read_named(self, name: str, path: InputFile, reader: Reader) -> InputValues:
        """Return the input that a file holds for the parameter `name`."""
        values = self._read_file(path, reader)
        if isinstance(values, Mapping) and len(values) > 1:
            if name not in values:
                raise ImageError(f"{path} holds {abbreviate_list(values, 6)}; name the one that is {name}: key=NAME")
            return {name: values[name]}
        return {name: _only(values)}

    def _read_file(self, path: InputFile, reader: Reader) -> Tensor | Mapping[str, Tensor]:
        with local_copy(path) as file:
            try:
                with raising_interrupts():
                    values: Any = reader(file)
            except SurgeryError:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {first_line(error)}"
                raise ImageError(f"reader {describe_stage(reader)} can't read {file}: {reason}") from error
        parts = list(values.values()) if isinstance(values, Mapping) else [values]
        wrong = next((part for part in parts if not _is_model_input(part)), None if parts else values)
        if wrong is not None:
            shown = f"{tuple(wrong.shape)} {wrong.dtype}" if isinstance(wrong, Tensor) else type(wrong).__name__
            raise ImageError(
                f"reader {describe_stage(reader)} must return a tensor (1, ...), or several by name, for {path}, "
                f"not {shown}"
            )
        return values  # type: ignore[no-any-return]


def _is_model_input(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1 and value.numel() > 0


def _only(values: Tensor | Mapping[str, Tensor]) -> Tensor:
    return values if isinstance(values, Tensor) else next(iter(values.values()))

"""Batches of inputs that have one shape."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Hashable, Iterable, Iterator, Mapping

    from surgery.inputs.input_stream import Input, InputValues


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images (or other inputs) of one shape, ready for a network."""

    inputs: tuple[Input, ...]
    values: Mapping[str, Tensor | list[Tensor]]
    """By parameter of forward, the image first: ``(B, ...)``, or a list of B tensors."""

    @classmethod
    def from_items(cls, items: Iterable[tuple[Input, InputValues]], lists: Collection[str] = ()) -> Batch:
        """Concatenate inputs ``(1, ...)`` by name; those that `lists` names become lists of tensors ``(...)``.

        The values are copied, since a reader may keep the tensor that it returned.
        """
        inputs, values = zip(*items, strict=True)
        columns = {name: [each[name] for each in values] for name in values[0]}
        return cls(
            inputs,
            {
                name: [part[0].clone() for part in parts] if name in lists else torch.cat(parts)
                for name, parts in columns.items()
            },
        )

    @property
    def main(self) -> Tensor | list[Tensor]:
        """The images, or what the model takes in place of them."""
        return next(iter(self.values.values()))

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """For each image, its height and width; for other inputs, the shape."""
        shapes = [tuple(part.shape) for part in self.main]
        return [shape[1:] if len(shape) > 2 else shape for shape in shapes]

    def to(self, device: str | torch.device, dtype: torch.dtype | None) -> dict[str, Tensor | list[Tensor]]:
        """Return the values on a device; those that are floats in `dtype`, and integers and booleans as they are."""
        return {name: to_model(value, device, dtype) for name, value in self.values.items()}


def to_model(value: Any, device: str | torch.device, dtype: torch.dtype | None) -> Any:
    """Return an input on a device, and in `dtype` if it is a tensor of floats."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else None)
    return [to_model(item, device, dtype) for item in value] if isinstance(value, list) else value


def group_into_batches(
    items: Iterable[tuple[Input, InputValues]],
    size: int,
    lists: Collection[str] = (),
    finished: Container[int] = (),
) -> Iterator[Batch]:
    """Yield batches of at most `size` images that follow each other and have one shape.

    A batch never spans two groups of `size` images, counted from the start of the run, so that the batch of an image
    does not depend on how a run is divided among processes. Inputs that `lists` names may differ in shape.

    `finished` are the numbers of the images that an earlier run has finished. They end a batch as they did then.
    """

    def key(item: tuple[Input, InputValues]) -> Hashable:
        number = item[0].number
        before = sum(other in finished for other in range(number - number % size, number)) if finished else 0
        kinds = ((name, name not in lists and part.shape, part.dtype) for name, part in item[1].items())
        return (number // size, before, *kinds)

    for _, together in groupby(items, key):
        yield Batch.from_items(together, lists)

"""Batches of images that have one shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from surgery.inputs.input_stream import Input, InputValues


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Images of one shape, ready for a network."""

    inputs: tuple[Input, ...]
    values: Tensor
    """``(B, C, H, W)``."""
    others: Mapping[str, Tensor] = field(default_factory=dict)
    """The model's inputs beside the image, by name."""

    @classmethod
    def from_items(cls, items: Iterable[tuple[Input, InputValues]], names: Sequence[str] = ()) -> Batch:
        """Concatenate images ``(1, C, H, W)`` and their other inputs, which are named `names`.

        The values are copied, since a reader may keep the tensor that it returned.
        """
        inputs, values = zip(*items, strict=True)
        main, *others = (torch.cat(parts) for parts in zip(*values, strict=True))
        return cls(inputs, main, dict(zip(names, others, strict=True)))


def group_into_batches(
    items: Iterable[tuple[Input, InputValues]], size: int, names: Sequence[str] = ()
) -> Iterator[Batch]:
    """Yield batches of at most `size` images that follow each other and have one shape.

    A batch never spans two groups of `size` images, counted from the start of the run, so that the batch of an image
    does not depend on how a run is divided among processes. `names` are those of the other inputs.
    """
    for _, together in groupby(items, lambda item: (item[0].number // size, *(part.shape for part in item[1]))):
        yield Batch.from_items(together, names)

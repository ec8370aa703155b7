"""`Output`: a part of a model's output as one number, of which gradients are taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor

from surgery.builtin import check_region
from surgery.editing import region_slices
from surgery.errors import SelectionError, did_you_mean
from surgery.graph import named_tensors
from surgery.models import load_function
from surgery.plugins import configure
from surgery.text import abbreviate_list

Scalar: TypeAlias = Callable[[Any], Tensor]
"""Takes the output of a model; returns one number that it computed from it with torch, such as a loss."""

_NAME = "output"


@dataclass(frozen=True, slots=True)
class Output:
    """A part of a model's output as one number: the mean of its values in each image, summed over the batch.

    So the gradients of an image do not depend on the other images of its batch. Without options, the part is the first
    tensor of floats in the output. As a text, it is ``output``, or its options: ``channel=3,region=0,0,0.5,0.5``.

    Raises SelectionError for options that contradict each other, and EditError for a region outside of the output.
    """

    channel: int | Literal["top"] | None = None
    """The channel or class: an index on axis 1, or ``top`` for that with the greatest mean in each image."""
    region: tuple[float, float, float, float] | None = None
    """Top, left, height and width on the last two axes, in shares of them, as edits have it; at least one pixel."""
    pixel: tuple[int, int] | None = None
    """Row and column on the last two axes."""
    tensor: str = ""
    """The key of the tensor, if the output holds several: ``[logits]``, or ``[0][masks]``."""

    def __post_init__(self) -> None:
        if self.region is not None and self.pixel is not None:
            raise SelectionError("an output is a region or a pixel, not both")
        if self.pixel is not None and len(self.pixel) != 2:
            raise SelectionError(f"a pixel is row,column, not {','.join(map(str, self.pixel))}")
        if self.region is not None:
            check_region(self.region)

    def __call__(self, output: Any, /) -> Tensor:
        """Return the number for the output of a model. Raises SelectionError if the output has no such part."""
        values = self.find_tensor(output)
        if self.channel is not None and values.ndim < 2:
            raise SelectionError(f"the output {_shape(values)} has no channels; leave out channel")
        rows, columns = self._rows_and_columns(values)
        if rows is not None:
            values = values[..., rows, columns]
        flat = values.flatten(2).mean(2) if values.ndim > 2 else values
        if self.channel == "top":
            return flat.amax(1).sum()
        if self.channel is not None:
            count = flat.shape[1]
            if not 0 <= self.channel < count:
                raise SelectionError(f"the output has {count} channels, 0 to {count - 1}, not {self.channel}")
            return flat[:, self.channel].sum()
        return flat.flatten(1).mean(1).sum() if flat.ndim > 1 else flat.sum()

    def find_tensor(self, output: Any) -> Tensor:
        """Return the tensor of an output that the part is in. Raises SelectionError if there is none."""
        floats = {key: tensor for key, tensor in named_tensors(output) if tensor.is_floating_point()}
        if not floats:
            raise SelectionError("the output has no tensor of floats, so nothing has a gradient")
        if not self.tensor:
            return next(iter(floats.values()))
        if self.tensor not in floats:
            near = did_you_mean(self.tensor, floats)
            known = abbreviate_list(list(floats), 6) if any(floats) else "one tensor, without a key"
            raise SelectionError(f"the output has no tensor of floats {self.tensor!r}; it has {known}{near}")
        return floats[self.tensor]

    def _rows_and_columns(self, values: Tensor) -> tuple[slice, slice] | tuple[None, None]:
        if self.region is None and self.pixel is None:
            return None, None
        if values.ndim < 3:
            raise SelectionError(f"the output {_shape(values)} has no height and width; leave out region and pixel")
        height, width = values.shape[-2:]
        if self.region is not None:
            return region_slices(self.region, height, width)
        row, column = self.pixel or (0, 0)
        if not (0 <= row < height and 0 <= column < width):
            raise SelectionError(f"the output has {height} rows and {width} columns, and no pixel {row},{column}")
        return slice(row, row + 1), slice(column, column + 1)


def parse_scalar(of: Scalar | str) -> Scalar:
    """Return the function for a text: ``output``, options of `Output`, or ``file.py:function``; a function as it is.

    Raises SelectionError or PluginError for a text that is no such thing, and ModelError for a file that fails.
    """
    if not isinstance(of, str):
        if not callable(of):
            raise SelectionError(
                f"gradients are taken of a text, a surgery.Output or a function of the output, not {type(of).__name__}"
            )
        return of
    text = of.strip()
    if text in ("", _NAME):
        return Output()
    options = text.removeprefix(f"{_NAME}:")
    if ":" in options and "=" not in options.partition(":")[0]:
        function: Scalar = load_function(options)
        return function
    parsed: Output = configure(_NAME, Output(), options)
    return parsed


def _shape(values: Tensor) -> str:
    return str(tuple(values.shape))

"""How far an output is from another one: numbers, and a map of where."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.errors import ImageError
from surgery.graph import named_tensors
from surgery.studies.ssim import WINDOW, StructuralSimilarity

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Effect:
    """How far an output is from the original one. NaN if a value of either is NaN or infinite."""

    mean_abs: float
    """The mean absolute difference, in units of the output."""
    rms: float
    """The root mean square difference."""
    largest: float
    """The largest absolute difference of a single value."""
    ssim: float | None = None
    """The structural similarity of the two images, from -1 to 1 for equal ones; None if they are no images."""
    inside: float | None = None
    """The mean absolute difference inside of the region that was asked about."""
    outside: float | None = None
    """That outside of it; None if the region is everything."""

    @property
    def size(self) -> float:
        """What effects are ranked by: the mean absolute difference, inside of the region if there is one."""
        chosen = self.mean_abs if self.inside is None else self.inside
        return math.inf if math.isnan(chosen) else chosen


EFFECT_NAMES = tuple(field.name for field in fields(Effect))


def mean_effect(effects: Sequence[Effect]) -> Effect:
    """Return the mean of each number over images, and the largest of `largest`."""

    def mean(name: str) -> Any:
        values = [getattr(effect, name) for effect in effects]
        known = [value for value in values if value is not None]
        return math.fsum(known) / len(known) if known else None

    means = {name: mean(name) for name in EFFECT_NAMES}
    largest = [effect.largest for effect in effects]
    return Effect(**{**means, "largest": math.nan if any(map(math.isnan, largest)) else max(largest)})


class OutputComparison:
    """Compares outputs of one image with the original output."""

    def __init__(self, original: Tensor, value_range: tuple[float, float] | None, mask: Tensor | None = None) -> None:
        """`original` is ``(B, ...)``, `value_range` its black and white, if it is an image.

        `mask` is bool ``(H, W)``: the region that is asked about, of an output of maps of this size.
        """
        self.original = precise(original)
        self._mask = mask
        self._similarity: StructuralSimilarity | None = None
        if value_range is not None and min(original.shape[2:]) >= WINDOW:
            self._similarity = StructuralSimilarity(self.original[0], value_range[1] - value_range[0])

    def measure(self, output: Tensor) -> Effect:
        """Return how far an output is from the original. Raises ImageError if it has another shape."""
        if output.shape != self.original.shape:
            shape, expected = tuple(output.shape), tuple(self.original.shape)
            raise ImageError(f"the output is {shape}, and can't be compared with the original one of {expected}")
        difference = precise(output) - self.original
        distance = difference.abs()
        inside = outside = None
        if self._mask is not None:
            inside = float(distance[..., self._mask].mean())
            outside = None if bool(self._mask.all()) else float(distance[..., ~self._mask].mean())
        return Effect(
            mean_abs=_finite(float(distance.mean())),
            rms=_finite(float(difference.square().mean().sqrt())),
            largest=_finite(float(distance.max())),
            ssim=None if self._similarity is None else _finite(self._similarity.compare(output[0])),
            inside=None if inside is None else _finite(inside),
            outside=None if outside is None else _finite(outside),
        )

    def heat_map(self, output: Tensor) -> Tensor | None:
        """Return where an output of maps ``(1, C, H, W)`` differs: the mean over channels, float32 ``(H, W)``.

        None for an output without height and width.
        """
        if output.ndim != 4:
            return None
        return (precise(output) - self.original)[0].abs().mean(0).float().cpu()


def main_output(output: object) -> tuple[str, Tensor] | None:
    """Return the tensor of an output that is compared, and its key: the first of floats, or else the first.

    None for an output without tensors.
    """
    tensors = list(named_tensors(output))
    floats = (pair for pair in tensors if pair[1].is_floating_point())
    return next(floats, tensors[0] if tensors else None)


def find_image_range(
    output: Tensor, value_range: tuple[float, float], size: Sequence[int]
) -> tuple[float, float] | None:
    """Return `value_range` if an output is an image in it: floats ``(B, C, H, W)`` of 1 or 3 channels, all within it.

    `size` is the height and width of the input, which an image is not smaller than. None for other outputs.
    """
    if not output.is_floating_point() or output.ndim != 4 or output.shape[1] not in (1, 3) or not output.numel():
        return None
    low, high = value_range
    is_large = len(size) == 2 and output.shape[2] >= size[0] and output.shape[3] >= size[1]
    return value_range if is_large and bool(output.min() >= low) and bool(output.max() <= high) else None


def precise(values: Tensor) -> Tensor:
    """Return values as float32, or as float64 if they are such or no floats."""
    return values.to(torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else torch.float64)


def _finite(number: float) -> float:
    return number if math.isfinite(number) else math.nan

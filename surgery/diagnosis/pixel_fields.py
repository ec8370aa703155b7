"""`PixelField`: the positions of one value that a pixel of the output depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.types import Operation


@dataclass(frozen=True, slots=True, eq=False)
class PixelField:
    """The positions of one operation's maps that can reach a pixel of the output, and those that do.

    Radii are in pixels of the image. They are distances from the middle of the pixel to the middles of positions, where
    the output and the maps are spread over the image.
    """

    operation: Operation
    """The operation; for the image, one with the path ``input`` and the index 0."""
    path: str
    """The path of the operation, followed by a key if its value has several tensors."""
    reach: Tensor | None = field(repr=False)
    """The theoretical receptive field: bool ``(H, W)``, on the CPU; None if it is not known."""
    gradient: Tensor | None = field(repr=False)
    """The effective one: the absolute gradient of the pixel, summed over channels, float64 ``(H, W)``, on the CPU; None
    where autograd does not follow the value."""
    size: tuple[int, int]
    """The height and width of the maps."""
    image_size: tuple[int, int]
    """The height and width of the image."""
    center: tuple[float, float]
    """The middle of the pixel, from the top and the left of the image, in pixels of the image."""

    def __repr__(self) -> str:
        return f"PixelField({self.path!r}, {self.describe()})"

    @property
    def rectangle(self) -> tuple[int, int, int, int] | None:
        """Top, left, height and width of the positions that can reach the pixel; None if none can, or if not known."""
        if self.reach is None or not self.reach.any():
            return None
        rows, columns = (self.reach.any(axis).nonzero() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        return top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1

    @property
    def area(self) -> int | None:
        """How many positions can reach the pixel."""
        return None if self.reach is None else int(self.reach.sum())

    @property
    def pixels(self) -> tuple[int, int] | None:
        """Height and width of the rectangle in pixels of the image, rounded."""
        if self.rectangle is None:
            return None
        height, width = self.rectangle[2:]
        return round(height * self.image_size[0] / self.size[0]), round(width * self.image_size[1] / self.size[1])

    @property
    def total(self) -> float:
        """The sum of the gradient; 0 where there is none."""
        return 0.0 if self.gradient is None else float(self.gradient.sum())

    def radius(self, share: float = 0.95) -> float | None:
        """Return the smallest radius that holds a share of the gradient; None if there is no gradient.

        Raises ModelError for a share that is not above 0 and at most 1.
        """
        _check_share(share)
        if self.gradient is None or not 0 < self.total < float("inf"):
            return None
        distances, order = self._distances().flatten().sort()
        sums = self.gradient.flatten()[order].cumsum(0)
        return float(distances[_first_reaching(sums, share)])

    def share_within(self, radius: float) -> float | None:
        """Return the share of the gradient at most so many pixels of the image away; None if there is no gradient."""
        if self.gradient is None or not 0 < self.total < float("inf"):
            return None
        return float(self.gradient[self._distances() <= radius].sum()) / self.total

    def effective_area(self, share: float = 0.95) -> int | None:
        """Return the smallest number of positions that hold a share of the gradient; None if there is no gradient."""
        _check_share(share)
        if self.gradient is None or not 0 < self.total < float("inf"):
            return None
        sums = self.gradient.flatten().sort(descending=True).values.cumsum(0)
        return _first_reaching(sums, share) + 1

    def describe(self) -> str:
        """Return it in words: ``70x70 of 256x256 can reach it, 95 % of the gradient within 21 pixels``."""
        size = f"{self.size[0]}x{self.size[1]}"
        if self.reach is None:
            words = [f"not known which of {size} can reach it"]
        elif self.rectangle is None:
            words = [f"none of {size} can reach it"]
        else:
            words = [f"{self.rectangle[2]}x{self.rectangle[3]} of {size} can reach it"]
        radius = self.radius()
        words.append("no gradient" if radius is None else f"95 % of the gradient within {radius:.3g} pixels")
        return ", ".join(words)

    def record(self) -> dict[str, Any]:
        """Return it as plain data: the operation, the maps' size, the rectangle, areas and radii."""
        top, left, rows, columns = self.rectangle or (None, None, None, None)
        pixels = self.pixels or (None, None)
        return {
            "path": self.path,
            "kind": self.operation.kind,
            "index": self.operation.index,
            "map_height": self.size[0],
            "map_width": self.size[1],
            "top": top,
            "left": left,
            "height": rows,
            "width": columns,
            "area": self.area,
            "height_in_image": pixels[0],
            "width_in_image": pixels[1],
            "gradient": self.total if self.gradient is not None else None,
            "effective_area": self.effective_area(),
            "radius_50": self.radius(0.5),
            "radius_95": self.radius(),
        }

    def _distances(self) -> Tensor:
        """Return the distance of each position from the pixel, ``(H, W)``, in pixels of the image."""
        rows, columns = (
            (torch.arange(count, dtype=torch.float64) + 0.5) * length / count - middle
            for count, length, middle in zip(self.size, self.image_size, self.center, strict=True)
        )
        return (rows[:, None].square() + columns[None].square()).sqrt()


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ModelError(f"a share of the gradient is above 0 and at most 1, not {share:g}")


def _first_reaching(sums: Tensor, share: float) -> int:
    """Return the first position of rising sums that has a share of the last one, but for rounding."""
    return int(torch.searchsorted(sums, share * sums[-1] * (1 - 1e-12)))

"""`Maximized`: the images for some channels of an operation, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import make_image_activations
from surgery.extraction import make_manifest, write_files
from surgery.graph import tensor_specs
from surgery.synthesis.sheets import draw_sheet
from surgery.text import encode_png, file_name, format_count, sortable_number
from surgery.types import Operation

if TYPE_CHECKING:
    import os

    from torch import Tensor, nn

    from surgery.stages import Limits
    from surgery.synthesis.settings import AscentSettings
    from surgery.types import Picture


@dataclass(frozen=True, slots=True, eq=False)
class Maximized:
    """Images that excite channels of an operation, one for each channel in the order in which they were chosen."""

    model: nn.Module = field(repr=False)
    """The traced model."""
    operation: Operation
    channels: tuple[int, ...]
    images: Tensor = field(repr=False)
    """``(N, C, H, W)``, as the model takes them."""
    before: tuple[float, ...]
    """The mean of each channel for its first image, which is nearly gray."""
    after: tuple[float, ...]
    """The mean of each channel for its image."""
    limits: Limits = field(repr=False)
    """The values of black and of white in the images."""
    settings: AscentSettings

    def __repr__(self) -> str:
        first = f"channel {self.channels[0]} from {self.before[0]:.3g} to {self.after[0]:.3g}"
        more = f", {format_count(len(self.channels) - 1, 'more channel')}" if len(self.channels) > 1 else ""
        return f"Maximized({self.operation.path!r}, {first}{more})"

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """A picture of each image in its own colors; of an input with several images, they are side by side."""
        drawn = Operation("input", "input", "input", 0, tensors=tensor_specs(self.images))
        names = [str(channel) for channel in self.channels]
        activations = make_image_activations(drawn, self.images, names, self.limits, DEFAULT_RECIPE)
        return tuple(activation.pictures[0] for activation in activations)

    @property
    def sheet(self) -> Picture:
        """All pictures on one page, each with the number of its channel, and the means that were reached."""
        title = f"inputs that maximize channels of {self.operation.path} in {type(self.model).__name__}"
        details = self.settings.describe()
        return draw_sheet(title, details, self.operation, self.channels, self.after, self.pictures)

    def describe(self, position: int) -> dict[str, Any]:
        """Return what the image at a position shows, as JSON can hold it."""
        return {
            "shows": f"an input that maximizes channel {self.channels[position]} of {self.operation.path}",
            "operation": self.operation.path,
            "kind": self.operation.kind,
            "channel": self.channels[position],
            "mean_before": self.before[position],
            "mean_after": self.after[position],
            "shape": list(self.images.shape[1:]),
            "black": self.limits[0],
            "white": self.limits[1],
        }

    def save(
        self,
        out: str | os.PathLike[str] = "maximized",
        *,
        source: str | None = None,
        original: nn.Module | None = None,
        overwrite: bool = False,
    ) -> tuple[str, ...]:
        """Write a PNG for each image, a sheet and a manifest into a folder, and return the names of the pictures.

        Each PNG has a text `surgery` with what `describe` returns, the settings and the model. `source` says where the
        model comes from, and `original` is the model that was traced, which may know where its weights come from.
        Raises OutputError for a folder that holds a run, unless `overwrite` is true, and for one that can't be written.
        """
        settings = {"maximized": self.operation.path, "channels": list(self.channels), **self.settings.record()}
        manifest = make_manifest(self.model, original, source, settings)
        start = file_name(self.operation.path, self.operation.index)
        pictures = {
            f"{start}-c{sortable_number(channel)}.png": (picture, self.describe(position))
            for position, (channel, picture) in enumerate(zip(self.channels, self.pictures, strict=True))
        }
        return write_files(out, manifest, [self.operation], pictures, self.sheet, overwrite=overwrite)

    def _repr_png_(self) -> bytes:
        """Return the sheet as PNG for a notebook, at most 2048 pixels wide and high."""
        return encode_png(self.sheet.image(), 2048)

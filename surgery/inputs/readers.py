"""Readers that return files in the size, range and channels that a model takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError
from surgery.inputs.decoding import file_channels
from surgery.inputs.image_loading import load_image
from surgery.inputs.image_reader import ImageReader
from surgery.inputs.model_inputs import input_channels, model_preprocessing, model_size, normalizes_image_lists
from surgery.text import describe_stage

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from surgery.inputs.image_loading import Side, Size
    from surgery.stages import Limits, Preprocessing, Reader


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """How the files of a run become tensors."""

    reader: Reader
    """The reader of the run's images, as the user chose it."""
    size: Size
    side: Side
    value_range: tuple[float, float]
    """The values of black and white."""
    preprocessing: Preprocessing | None
    """What the model requires, if the user did not set another range."""

    @classmethod
    def for_model(
        cls,
        model: nn.Module,
        reader: Reader,
        size: Size,
        side: Side,
        value_range: tuple[float, float] | None,
        *,
        reads_images: bool = False,
    ) -> ReadingOptions:
        """Fill in the choices that the user left out (None) from the reader and the model.

        `reads_images` says whether another input is read as images. Raises ImageError for a size or side where nothing
        is.
        """
        if not (reads_images or isinstance(reader, ImageReader)) and (size is not None or side != "none"):
            raise ImageError(
                f"size and side are options of the image reader; set options of {describe_stage(reader)} instead"
            )
        resolved = value_range or _default_range(reader, model)
        preprocessing = model_preprocessing(model) if value_range is None and resolved == (-1.0, 1.0) else None
        if size is None and preprocessing is None:
            size = model_size(model)
        return cls(reader, size, side, resolved, preprocessing)

    def main_reader(self, model: nn.Module, *, has_other_inputs: bool) -> Reader:
        """Return the reader of the run's images, with the options that `model` requires."""
        reader = self.reader
        if not isinstance(reader, ImageReader):
            return reader
        channels = reader.channels or input_channels(model)
        # If there are other inputs, the first convolution may take them concatenated with the image.
        if has_other_inputs and channels not in (1, 3):
            low, high = self.value_range
            return self.other_reader(replace(reader, low=low, high=high))
        return partial(
            load_image,
            size=self.size,
            side=self.side,
            range=self.value_range,
            channels=channels,
            preprocessing=self.preprocessing,
            **reader.decoding,
        )

    def other_reader(self, reader: Reader) -> Reader:
        """Return the reader of an input beside the image: same size and range, with the channels that a file has."""
        return partial(self._read_other, reader) if isinstance(reader, ImageReader) else reader

    def _read_other(self, reader: ImageReader, path: Path) -> Tensor:
        low = self.value_range[0] if reader.low is None else reader.low
        high = self.value_range[1] if reader.high is None else reader.high
        channels = reader.channels or file_channels(path)
        # The same crop as the image's, but no normalization: its mean and std are those of colors.
        geometry = self.preprocessing and replace(self.preprocessing, mean=(0.0,) * channels, std=(1.0,) * channels)
        values = load_image(
            path,
            size=self.size,
            side=self.side if self.side in ("left", "right") else "none",
            range=(low, high),
            channels=channels,
            preprocessing=geometry,
            **reader.decoding,
        )
        return values if geometry is None else values.mul(high - low).add(low)

    @property
    def limits(self) -> Limits | None:
        """The values that are drawn as black and white where the input is drawn; None if it is not an image."""
        if not isinstance(self.reader, ImageReader):
            return None
        if self.preprocessing is None:
            return self.value_range
        low, high = self.preprocessing.limits
        side = self.preprocessing.pair_side if self.side == "none" else self.side
        return (low, high) if side in ("none", "left", "right") else (low * 2, high * 2)

    def describe(self) -> dict[str, Any]:
        """Return these options for the manifest."""
        if not isinstance(self.reader, ImageReader):
            return {"reader": describe_stage(self.reader), "range": list(self.value_range)}
        chosen = {} if self.reader == ImageReader() else {"reader": describe_stage(self.reader)}
        if self.preprocessing is not None:
            return {**chosen, "preprocessing": asdict(self.preprocessing), "range": None, "side": self.side}
        return {**chosen, "range": list(self.value_range), "side": self.side}


def _default_range(reader: Reader, model: nn.Module) -> tuple[float, float]:
    """Return the values of black and white of a reader, if the user requests no range."""
    low, high = (getattr(reader, end, None) for end in ("low", "high"))
    black = 0.0 if normalizes_image_lists(model) else -1.0
    return black if low is None else low, 1.0 if high is None else high

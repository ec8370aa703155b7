"""The codes of a batch's maps, and their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.host_copies import HostCopy
from surgery.drawing.limits import check_limits
from surgery.drawing.tiling import untile_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.stages import Normalizer, TileLayout


class QuantizedMaps:
    """The codes of a batch's maps, in the memory of the host or on the way there, and their limits.

    `limits` are ``(2, B, C)``. They are checked as early as possible: at once if they are on the host, else when they
    are first read. `compute_codes` is called after that. `shape` is that of the maps.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        limits: Tensor | NDArray[np.float64],
        compute_codes: Callable[[], Tensor | NDArray[np.uint8]],
        shape: torch.Size,
        layout: TileLayout | None = None,
        *,
        are_limits_checked: bool = False,
        are_vectors: bool = False,
    ) -> None:
        self._normalizer = normalizer
        self._limits = HostCopy(limits)
        self._are_limits_checked = are_limits_checked
        if self._limits.is_complete:
            self._check_limits()
        self._codes = HostCopy(compute_codes())
        self.shape = shape
        """Shape of the maps, ``(B, C, H, W)``."""
        self.layout = layout
        """How the codes are tiled; None if they have the shape of the maps."""
        self.are_vectors = are_vectors
        """Whether each map is a vector, which is drawn as a near-square picture."""
        self.nbytes = self._codes.nbytes

    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the low and the high limits, each ``(B, C)``. Raises RenderError if they are not valid."""
        self._check_limits()
        low, high = self._limits.numpy()
        return low, high

    def numpy(self) -> NDArray[np.uint8]:
        """Return all codes: ``(B, C, H, W)``, or, with a `layout`, ``(B, N, H', 1 + W')`` as by `tile_codes`."""
        self._check_limits()
        return self._codes.numpy()

    def codes_of_image(self, position: int) -> NDArray[np.uint8]:
        """Return the codes ``(C, H, W)`` of one image."""
        codes = torch.from_numpy(self.numpy()[position : position + 1])
        if self.layout is not None:
            codes = untile_codes(codes, self.layout, self.shape)
        return codes[0].numpy()

    def codes_of_channels(self, position: int, channels: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Return the codes ``(N, H, W)`` of some channels of one image; of all, if `channels` is None."""
        if channels is None:
            return self.codes_of_image(position)
        codes: NDArray[np.uint8] = self.numpy()[position]
        if self.layout is None:
            return codes[list(channels)]
        return np.stack([self._tile(codes, channel, self.layout) for channel in channels])

    def _tile(self, pictures: NDArray[np.uint8], channel: int, layout: TileLayout) -> NDArray[np.uint8]:
        """Return the codes of a channel from where they lie in pictures ``(N, H', 1 + W')``."""
        picture, tile = divmod(channel, layout.tiles)
        row, column = divmod(tile, layout.columns)
        height, width = self.shape[2:]
        top, left = row * (height + layout.gap), 1 + column * (width + layout.gap)
        return pictures[picture, top : top + height, left : left + width]

    def _check_limits(self) -> None:
        if not self._are_limits_checked:
            check_limits(self._normalizer, *self._limits.numpy())
            self._are_limits_checked = True

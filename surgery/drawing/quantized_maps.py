"""The codes of a batch's maps, and the limits they lie between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.drawing.host_copies import HostCopy
from surgery.drawing.quantization import check_limits, find_limits
from surgery.drawing.tiling import untile_codes
from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.stages import Normalizer, TileLayout


class QuantizedMaps:
    """The codes of a batch, and the limits they lie between."""

    def __init__(
        self,
        normalizer: Normalizer,
        limits: Tensor | NDArray[np.float64],
        make: Callable[[], Tensor | NDArray[np.uint8]],
        shape: torch.Size,
        layout: TileLayout | None = None,
        *,
        checked: bool = False,
        folded: bool = False,
    ) -> None:
        self._normalizer = normalizer
        self._limits = HostCopy(limits)
        self._checked = checked
        if self._limits.is_complete:
            self._check()
        self._codes = HostCopy(make())
        self.shape = shape
        """Of the maps."""
        self.layout = layout
        """None where the codes lie as the maps do."""
        self.folded = folded
        """Whether each map is a line that is to be folded to a near-square picture."""
        self.nbytes = self._codes.nbytes

    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(B, C)`` low and high."""
        self._check()
        low, high = self._limits.numpy()
        return low, high

    def numpy(self) -> NDArray[np.uint8]:
        """``(B, C, H, W)`` codes, or, with a layout, ``(B, N, H', 1 + W')``, as `tile_codes` gives them."""
        self._check()
        return self._codes.numpy()

    def indices(self, position: int) -> NDArray[np.uint8]:
        """``(C, H, W)`` codes of one image."""
        codes = torch.from_numpy(self.numpy()[position : position + 1])
        if self.layout is not None:
            codes = untile_codes(codes, self.layout, self.shape)
        return codes[0].numpy()

    def _check(self) -> None:
        if not self._checked:
            check_limits(self._normalizer, *self._limits.numpy())
            self._checked = True


def limits_of(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None = None) -> Tensor:
    """``(2, B, C)`` low and high, as the normalizer gives them. Raises RenderError where it gives none."""
    try:
        return find_limits(normalizer, maps, extremes)
    except RenderError:
        raise
    except Exception as error:
        said = f"normalizer {describe_stage(normalizer)} can't take {tuple(maps.shape)}: {describe_error(error)}"
        raise RenderError(said) from error

"""The limits that a normalizer chooses: the values that are drawn as code 0 and as code 250."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.drawing.declared_attributes import declared_attribute
from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.text import describe_stage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.stages import Normalizer


def find_limits(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None = None) -> Tensor:
    """Return ``(2, B, C)`` float64 limits, low and high, of finite maps ``(B, C, H, W)``.

    If the `extremes` ``(2, B, C)`` are given, a normalizer with a method ``of_extremes`` does not read the values.
    Raises RenderError if the normalizer raises, or returns something other than a pair that can be broadcast to
    ``(B, C, 1, 1)``. `check_limits` checks the numbers.
    """
    low, high = _call_normalizer(normalizer, maps, extremes)
    shape = (*maps.shape[:2], 1, 1)
    limits = torch.empty((2, *shape), dtype=torch.float64, device=maps.device)
    try:
        limits[0] = torch.as_tensor(low, device=maps.device)
        limits[1] = torch.as_tensor(high, device=maps.device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} returned limits that can't be broadcast to {shape}: {error}"
        ) from error
    return limits[..., 0, 0]


def _call_normalizer(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None) -> tuple[Any, Any]:
    of_extremes = declared_attribute(normalizer, "of_extremes")
    try:
        if extremes is None or of_extremes is None:
            limits = normalizer(maps)
        else:
            limits = of_extremes(*extremes[..., None, None].unbind())
    except RenderError:
        raise
    except Exception as error:
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} can't take {tuple(maps.shape)}: {describe_error(error)}"
        ) from error
    try:
        low, high = limits
    except (TypeError, ValueError) as error:
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} did not return a pair (low, high): {error}"
        ) from error
    return low, high


def check_limits(normalizer: Normalizer, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Raise RenderError if the limits are not finite, or a low one is greater than its high one."""
    if not (low <= high).all() or not (np.isfinite(low) & np.isfinite(high)).all():
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} returned limits that are not finite with low <= high"
        )

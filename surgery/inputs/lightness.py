"""The lightness of colors, as networks that color gray images take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_LUMINANCE = (0.212671, 0.715160, 0.072169)
"""The share of red, green and blue of sRGB in the luminance Y, of the white point D65."""


def compute_lightness(colors: Tensor) -> Tensor:
    """Return the lightness L* of CIELAB divided by 100, ``(1, H, W)``, of sRGB colors ``(3, H, W)`` from 0 to 1.

    The formulas are those of CIE 15 and IEC 61966-2-1.
    """
    linear = torch.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    luminance = torch.tensordot(torch.tensor(_LUMINANCE, dtype=colors.dtype), linear, 1)
    delta = 6 / 29
    root = torch.where(luminance > delta**3, luminance.clamp(min=0) ** (1 / 3), luminance / (3 * delta**2) + 4 / 29)
    return (1.16 * root - 0.16).unsqueeze(0)

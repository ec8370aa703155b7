"""Images as the numbers that gradient ascent changes: frequencies, or pixels, mapped into the range of a model's input.

Olah, Mordvintsev and Schubert, "Feature Visualization", Distill 2017: in the frequencies of an image whose colors are
decorrelated, steps of one size change coarse structure as easily as fine structure, so that the image is no noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.stages import Limits

Shape: TypeAlias = "tuple[int, int, int]"

# The square root of the covariance of the colors of photographs (ImageNet), as the code of the article has it.
_COLORS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
_START = 0.01
"""The standard deviation of the numbers of a first image, which is nearly gray."""
_CONTRAST = 0.25
"""The factor that gives images of frequencies the contrast that steps of 0.05 suit, as in the code of the article."""


class ImageParameters:
    """N images of one shape, each of numbers from a seed of its own."""

    def __init__(
        self, shape: Shape, seeds: Sequence[int], limits: Limits, device: torch.device, *, frequencies: bool = True
    ) -> None:
        """`shape` is ``(C, H, W)``; `limits` are the values of black and white. Without `frequencies` it has pixels."""
        channels, height, width = shape
        self._size = (height, width)
        self._scales = _frequency_scales(height, width).to(device) if frequencies else None
        numbers = (channels, height, width // 2 + 1, 2) if frequencies else shape
        drawn = [torch.randn(numbers, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.numbers = torch.stack(drawn).mul_(_START).to(device).requires_grad_()
        """``(N, ...)`` float32: what gradient ascent changes."""
        self._low, self._high = (torch.tensor(limit, device=device).reshape(-1, 1, 1) for limit in limits)

    def colors(self) -> Tensor:
        """Return the images, ``(N, C, H, W)`` float32, with 0 for black and 1 for white."""
        pixels = self.numbers
        if self._scales is not None:
            spectrum = torch.view_as_complex(self.numbers) * self._scales
            pixels = torch.fft.irfft2(spectrum, s=self._size, norm="ortho") * _CONTRAST
        if pixels.shape[1] % 3 == 0:  # colors, or those of a pair of images
            mixing = torch.tensor(_COLORS, device=pixels.device)
            mixing = mixing / mixing.norm(dim=0).max()
            pixels = torch.einsum("nichw,dc->nidhw", pixels.unflatten(1, (-1, 3)), mixing).flatten(1, 2)
        return pixels.sigmoid()

    def inputs(self, colors: Tensor) -> Tensor:
        """Return images in the range of the model's input for those of `colors`."""
        return colors * (self._high - self._low) + self._low


def _frequency_scales(height: int, width: int) -> Tensor:
    """Return one over each frequency, ``(H, W // 2 + 1)``, as in natural images; no more than for the lowest one."""
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    frequencies = (rows.square() + columns.square()).sqrt().clamp(min=1 / max(height, width))
    scales: Tensor = 1 / frequencies
    return scales


def total_variation(colors: Tensor) -> Tensor:
    """Return the mean absolute difference of neighboring pixels of each image, ``(N,)``."""
    total = colors.new_zeros(len(colors))
    for axis in (2, 3):
        if colors.shape[axis] > 1:
            total = total + colors.diff(dim=axis).abs().flatten(1).mean(1)
    return total

"""The compiled kernels over values and pixels, and whether they can be used.

`kernels` is None if the package was installed without a C compiler. Then torch computes the same, bit for bit, in more
passes, and zlib packs the pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from surgery.drawing import _kernels
except ImportError:
    _kernels = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

if not hasattr(_kernels, "encode_png"):  # an editable install may contain an older build
    _kernels = None  # type: ignore[assignment]
kernels = _kernels


def can_use_kernels(maps: Tensor) -> bool:
    """Return whether the kernels can read these maps: contiguous float32 in the memory of the CPU, and not empty."""
    import torch

    is_plain = maps.dtype == torch.float32 and maps.device.type == "cpu" and not maps.is_neg()
    return kernels is not None and is_plain and maps.is_contiguous() and maps.numel() > 0

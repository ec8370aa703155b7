"""Masks: files that say how much something counts at each position."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin.tensor_files import TENSOR_SUFFIXES, check_tensor, load_tensors, select_tensor
from surgery.errors import EditError, ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


def load_mask(path: Path) -> Tensor:
    """Return the shares of a mask, float32 ``(H, W)``: an image from black, 0, to white, 1; or an array in a file.

    Raises EditError for a file that can't be read, and for an array of another shape or with values outside 0 to 1.
    """
    try:
        if path.suffix.lower() not in TENSOR_SUFFIXES:
            from surgery.inputs import load_image

            return load_image(path, channels=1, range=(0.0, 1.0))[0, 0].clamp(0, 1)
        content = load_tensors(path, TENSOR_SUFFIXES)
        shares = check_tensor(
            path, select_tensor(path, content, None, "mask") if isinstance(content, dict) else content
        )
    except ImageError as error:
        raise EditError(str(error)) from error
    if shares.ndim != 2 or not shares.numel():
        raise EditError(f"{path} holds {tuple(shares.shape)}, and a mask is (H, W)")
    if not bool(((shares >= 0) & (shares <= 1)).all()):
        raise EditError(f"{path} holds {shares.min():g} to {shares.max():g}, and a mask has values from 0 to 1")
    return shares.float()

"""Regions of an output that a study asks about, from files, arrays or tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from surgery.builtin import load_mask
from surgery.errors import EditError

if TYPE_CHECKING:
    from torch import Tensor


def read_region(within: Any) -> Tensor | None:
    """Return the shares ``(H, W)`` of a region from 0 to 1; None for None.

    `within` is a file as `load_mask` takes it, or an array or tensor. Raises EditError for anything else, and for one
    without a share of a half or more.
    """
    if within is None:
        return None
    if isinstance(within, (str, Path)):
        shares, name = load_mask(Path(within)), str(within)
    else:
        name = "the mask"
        try:
            shares = torch.as_tensor(within).detach().cpu().float()
        except (TypeError, ValueError, RuntimeError) as error:
            raise EditError(f"a mask is a file or an array (H, W), not {type(within).__name__}") from error
        shares = shares.reshape(shares.shape[-2:]) if shares.ndim > 2 and shares[..., 0, 0].numel() == 1 else shares
        if shares.ndim != 2 or not shares.numel() or not bool(((shares >= 0) & (shares <= 1)).all()):
            raise EditError(f"a mask is (H, W) with values from 0 to 1, not {tuple(shares.shape)}")
    if not bool((shares >= 0.5).any()):
        raise EditError(f"{name} marks nothing: no value is a half or more")
    return shares


def explain_resizing(shares: Tensor | None, output: Tensor) -> list[str]:
    """Return a line for a region that is resized to the output ``(C, H, W)`` of an image; none for one of its size."""
    if shares is None or shares.shape == output.shape[-2:]:
        return []
    given, there = ("x".join(map(str, size)) for size in (shares.shape, output.shape[-2:]))
    return [f"the region of {given} is resized to the output of {there}"]


def fit_region(shares: Tensor, output: Tensor) -> Tensor:
    """Return the region of an output of maps ``(1, C, H, W)``, bool ``(H, W)``: where the mean share is a half or more.

    Raises EditError for an output of another kind, and if nothing is left of the region at its size.
    """
    if output.ndim != 4:
        raise EditError(f"a region (within) needs an output of maps (1, C, H, W), not {tuple(output.shape)}")
    size = (output.shape[2], output.shape[3])
    resized = torch.nn.functional.interpolate(shares[None, None], size=size, mode="area")[0, 0]
    region = resized >= 0.5
    if not bool(region.any()):
        given, there = "x".join(map(str, shares.shape)), "x".join(map(str, size))
        raise EditError(f"the region of {given} marks no pixel of an output of {there}; mark a larger one")
    return region.to(output.device)

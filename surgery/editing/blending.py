"""How an edit's replacement is mixed with the value as it was: the shares of each channel, row and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.builtin import Replace, check_amount, check_region, find_channel_ranges
from surgery.errors import EditError, SurgeryError
from surgery.plugins import describe_error
from surgery.text import abbreviate_list, describe_stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.builtin import ChannelNumbers
    from surgery.stages import Edit

_TOLERANCE = 1e-6
"""In shares of a map: what float32 can't tell apart."""


@dataclass(frozen=True, eq=False)
class Blend:
    """An edit whose share differs from position to position: it paints an activation (GAN dissection).

    `shares` is a tensor or an array with values from 0 to 1, ``(C, H, W)`` or a shape that broadcasts to it, such as
    ``(H, W)`` or ``(C, 1, 1)``. `replacement` is an edit, whose own channels, region and amount count too, or a tensor
    of values as `Replace` takes them. Raises EditError for other shares, and for maps of another size than they have.
    """

    shares: Any
    replacement: Edit | Tensor

    def __post_init__(self) -> None:
        shares = torch.as_tensor(self.shares)
        shares = shares if shares.is_floating_point() else shares.to(torch.float32)
        if shares.ndim > 3 or not bool(((shares >= 0) & (shares <= 1)).all()):
            raise EditError(f"the shares of a blend are (C, H, W) from 0 to 1, not {_describe_shares(shares)}")
        is_whole = bool(((shares == 0) | (shares == 1)).all())
        object.__setattr__(self, "shares", shares.bool() if is_whole else shares.detach().clone())
        if isinstance(self.replacement, Tensor):
            object.__setattr__(self, "replacement", Replace(values=self.replacement))

    @property
    def needs_reference(self) -> bool:
        """Whether the replacement needs values of a reference run."""
        return bool(getattr(self.replacement, "needs_reference", False))

    def of_reference(self, values: Tensor, /) -> Blend:
        """Return the blend for the values ``(N, C, H, W)`` of a reference run, if the replacement takes them."""
        of_reference = getattr(self.replacement, "of_reference", None)
        return self if of_reference is None else Blend(self.shares, of_reference(values))

    def __call__(self, values: Tensor, /) -> Tensor:
        replaced = edit_values(self.replacement, values)  # type: ignore[arg-type]
        try:
            shares = self.shares.to(values.device).expand(values.shape[1:])
        except RuntimeError:
            given, size = tuple(self.shares.shape), tuple(values.shape[1:])
            raise EditError(f"shares of {given} don't fit maps of {size}; give them that size") from None
        return blend(values, replaced, shares)


def edit_values(edit: Edit, values: Tensor, name: str = "the value", text: str | None = None) -> Tensor:
    """Return maps ``(B, C, H, W)`` as an edit leaves them, in new memory.

    In messages, `name` names their operation, and `text` the edit. Raises EditError for channels that the maps don't
    have, for an edit that raises any error, and for a replacement of another shape, dtype or device.
    """
    weights = blend_weights(edit, values.shape, values.device, values.dtype, name)
    if torch.compiler.is_compiling():
        return blend(values, edit(values), weights)
    text = describe_stage(edit) if text is None else text
    try:
        replacement = edit(values)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except SurgeryError as error:
        raise EditError(f"{name} can't be edited: {error}") from error
    except Exception as error:
        raise EditError(f"{text} can't take {tuple(values.shape)} of {name}: {describe_error(error)}") from error
    if not isinstance(replacement, Tensor):
        raise EditError(f"{text} gives {type(replacement).__name__} for {name}, not a tensor")
    if (replacement.shape, replacement.dtype, replacement.device) != (values.shape, values.dtype, values.device):
        raise EditError(
            f"{text} gives {_describe(replacement, values)} for {name}, which is {_describe(values, replacement)}"
        )
    return blend(values, replacement, weights, name)


def parse_channels(channels: ChannelNumbers, count: int, name: str) -> list[int]:
    """Return the numbers of channels in ascending order; `name` names the operation in messages.

    Raises EditError if one of them is not below `count`.
    """
    runs = find_channel_ranges(channels, count)
    if runs is None:
        return list(range(count))
    if runs[-1][1] >= count:
        given = [str(first) if first == last else f"{first}-{last}" for first, last in runs if last >= count]
        there = f"{count} channels, 0 to {count - 1}" if count > 1 else "one channel, 0"
        raise EditError(f"{name} has {there}, not {abbreviate_list(given, 3)}")
    return [number for first, last in runs for number in range(first, last + 1)]


def blend_weights(
    edit: Edit, shape: Sequence[int], device: torch.device, dtype: torch.dtype, name: str = "the value"
) -> Tensor:
    """Return the shares of an edit for maps ``(B, C, H, W)``: a tensor that broadcasts to ``(C, H, W)``.

    It is bool if the shares are 0 and 1 alone, and otherwise of the dtype in which such values are blended, float32 or
    float64. A pixel is in a region if its center is; a region too small for that covers the pixel that its own center
    lies in. A mask has the mean of its shares in each pixel. `name` names the operation in messages.

    Raises EditError for channels that the maps don't have, and for a region or an amount that make no sense.
    """
    _, count, height, width = shape
    channels, region = getattr(edit, "channels", None), check_region(getattr(edit, "region", None))
    amount = check_amount(getattr(edit, "amount", 1.0))
    weights = torch.ones(1, 1, 1, dtype=torch.bool, device=device)
    if channels is not None:
        is_chosen = torch.zeros(count, dtype=torch.bool, device=device)
        is_chosen[parse_channels(channels, count, name)] = True
        weights = weights & is_chosen[:, None, None]
    if region is not None:
        top, left, rows, columns = region
        weights = weights & _covered(top, rows, height, device)[:, None] & _covered(left, columns, width, device)
    mask = getattr(edit, "mask_shares", None)
    if amount == 1 and mask is None:
        return weights
    shares = weights.to(_blending_dtype(dtype)) * amount
    return shares if mask is None else shares * _resize(mask, height, width).to(shares)


def blend(values: Tensor, replacement: Tensor, weights: Tensor, name: str = "the value") -> Tensor:
    """Return ``(1 - weights) * values + weights * replacement`` in new memory with the strides of `values`.

    `values` and `replacement` are ``(B, C, H, W)`` of one dtype, `weights` is bool, or floats from 0 to 1, and
    broadcasts to ``(C, H, W)``. Where a weight is 0, the result has the bits of the value, and where it is 1, those of
    the replacement; where these two are equal, it has those of the value. `name` names their operation in messages.
    Raises EditError if weights between 0 and 1 meet values that are no floats.
    """
    if weights.dtype is torch.bool:
        result = torch.where(weights, replacement, values)
    elif not values.is_floating_point():
        raise EditError(
            f"{name} has values of {values.dtype}, which can be replaced, and not be blended: shares other than 0 and "
            "1 need floats"
        )
    else:
        dtype = _blending_dtype(values.dtype)
        shares = weights.to(dtype)
        mixed = (1 - shares) * values.to(dtype) + shares * replacement.to(dtype)
        mixed = torch.where(values == replacement, values, mixed.to(values.dtype))
        result = torch.where(shares >= 1, replacement, torch.where(shares <= 0, values, mixed))
    has_strides = result.stride() == values.stride()
    return result if has_strides else torch.empty_like(values).copy_(result)


def region_slices(region: Sequence[float], height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and the columns of a map that belong to a region, by the rule of `blend_weights`.

    Raises EditError for numbers that are not a part of the map.
    """
    top, left, rows, columns = check_region(region) or (0.0, 0.0, 1.0, 1.0)
    cpu = torch.device("cpu")
    return _run_of(_covered(top, rows, height, cpu)), _run_of(_covered(left, columns, width, cpu))


def _run_of(is_covered: Tensor) -> slice:
    places = is_covered.nonzero().flatten().tolist()
    return slice(places[0], places[-1] + 1)


def _covered(start: float, extent: float, size: int, device: torch.device) -> Tensor:
    """Return which of `size` pixels in a row belong to the part of it from `start`, bool ``(size,)``."""
    begins = torch.arange(size, dtype=torch.float32, device=device) / size
    centers, ends = begins + 0.5 / size, begins + 1 / size
    is_inside = (centers >= start - _TOLERANCE) & (centers < start + extent - _TOLERANCE)
    middle = start + extent / 2 - _TOLERANCE
    return is_inside | ((begins < middle) & (ends >= middle))


def _resize(shares: Tensor, height: int, width: int) -> Tensor:
    """Return shares ``(H, W)`` at another size: the mean over the area of each new pixel."""
    return torch.nn.functional.interpolate(shares[None, None], size=(height, width), mode="area")[0]


def _blending_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _describe(tensor: Tensor, other: Tensor) -> str:
    """Return the shape and dtype of a tensor, and its device if it differs from that of another one."""
    device = f" on {tensor.device}" if tensor.device != other.device else ""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{device}"


def _describe_shares(shares: Tensor) -> str:
    if shares.ndim > 3 or not shares.numel():
        return f"of shape {tuple(shares.shape)}"
    return f"from {float(shares.min()):g} to {float(shares.max()):g}"

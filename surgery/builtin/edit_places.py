"""Where an edit takes effect: the fields that every edit of the project has, and what they may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.builtin.masks import load_mask
from surgery.errors import EditError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

ChannelNumbers: TypeAlias = Sequence[int | str] | None
"""Numbers of channels and ranges of them: ``range(16)``, ``("0-15", 20)``, ``"0-15,20"``; or a part of all, as in
``"0-50%"``, the first half. None stands for all."""
Region: TypeAlias = tuple[float, float, float, float] | None
"""Top, left, height and width in shares of the map, from 0 to 1. None stands for everywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedEdit:
    """An edit that may be confined to some channels and a part of the map, and mixed with the values as they were.

    Raises EditError for channels, a region or an amount that make no sense, and for a mask that can't be read.
    """

    channels: ChannelNumbers = None
    """Numbers and ranges of channels, such as 0-15,20, or a part of them, 0-50%; none for all of them."""
    region: Region = None
    """Top, left, height and width in shares of the map, from 0 to 1; none for everywhere."""
    amount: float = 1.0
    """The share of the edit in the result, from 0 to 1; the rest is the value as it was."""
    mask: Path | None = None
    """An image, or a file of numbers from 0 to 1: the share of the edit at each position. It is resized to the map."""
    mask_shares: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", format_channels(self.channels))
        object.__setattr__(self, "region", check_region(self.region))
        object.__setattr__(self, "amount", check_amount(self.amount))
        if self.mask is not None:
            object.__setattr__(self, "mask", Path(self.mask))
            object.__setattr__(self, "mask_shares", load_mask(Path(self.mask)))

    @property
    def place(self) -> dict[str, Any]:
        """The arguments that say where this edit takes effect, for another one that does so there."""
        return {name: getattr(self, name) for name in ("channels", "region", "amount", "mask")}


def check_region(region: Sequence[float] | None) -> Region:
    """Return top, left, height and width as floats. Raises EditError if they are not a part of the map."""
    if region is None:
        return None
    try:
        top, left, height, width = map(float, region)
    except (TypeError, ValueError):
        raise EditError(f"a region is top, left, height and width in shares of the map, not {region!r:.60}") from None
    is_within = min(top, left) >= 0 and max(top + height, left + width) <= 1 + 1e-9
    if not (is_within and min(height, width) > 0):
        raise EditError(
            f"a region is top, left, height and width within 0 to 1, not {top:g}, {left:g}, {height:g}, {width:g}"
        )
    return top, left, height, width


def check_amount(amount: float) -> float:
    """Return the amount as a float. Raises EditError if it is not from 0 to 1."""
    try:
        share = float(amount)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise EditError(f"the amount of an edit is a number from 0 to 1, not {amount!r:.60}")
    return share


def check_number(name: str, value: float, least: float = -math.inf) -> None:
    """Raise EditError if a number of an edit is not finite, or is below `least`."""
    if not (math.isfinite(value) and value >= least):
        limit = f", at least {least:g}" if least > -math.inf else ""
        raise EditError(f"{name} is a finite number{limit}, not {value:g}")


def find_channel_ranges(channels: ChannelNumbers, count: int = 100) -> list[tuple[int, int]] | None:
    """Return the first and the last number of each run of channels, in ascending order; None for all channels.

    `count` is the number of all channels, which percentages are of. Raises EditError for anything else than whole
    numbers from 0, and ranges of them.
    """
    if channels is None:
        return None
    if isinstance(channels, range):  # which may be long
        channels = tuple(channels) if channels.step != 1 or not channels else (f"{channels[0]}-{channels[-1]}",)
    items: Iterable[int | str] = channels.split(",") if isinstance(channels, str) else channels
    try:
        bounds = sorted(_find_bounds(item, count) for item in items)
    except TypeError:
        raise _wrong_channels(channels) from None
    if not bounds:
        raise EditError("an edit of no channels changes nothing; name some, or none for all of them")
    runs = [bounds[0]]
    for first, last in bounds[1:]:
        if first <= runs[-1][1] + 1:
            runs[-1] = runs[-1][0], max(runs[-1][1], last)
        else:
            runs.append((first, last))
    return runs


def format_channels(channels: ChannelNumbers) -> tuple[int | str, ...] | None:
    """Return channels in their shortest form, ``("0-15", 20)``: equal sets of channels give the same. None for all."""
    runs = find_channel_ranges(channels)
    items = channels.split(",") if isinstance(channels, str) else channels
    if items is not None and any(isinstance(item, str) and "%" in item for item in items):
        texts = [re.sub(r"\s", "", item) if isinstance(item, str) else str(item) for item in items]
        return tuple(int(text) if text.isdecimal() else text for text in texts)
    return None if runs is None else tuple(first if first == last else f"{first}-{last}" for first, last in runs)


def _find_bounds(item: int | str, count: int) -> tuple[int, int]:
    if not isinstance(item, str):
        number = index(item)
        if number < 0 or isinstance(item, bool):
            raise _wrong_channels(item)
        return number, number
    if len(item) <= 40 and (shares := re.fullmatch(r"\s*(\d{1,3})\s*-\s*(\d{1,3})\s*%\s*", item, re.ASCII)):
        first, end = (round(int(share) * count / 100) for share in shares.groups())
        if first >= end or int(shares[2]) > 100:
            raise EditError(f"{item.strip()} of {count} channels are none; write a part such as 0-50%")
        return first, end - 1
    match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", item, re.ASCII)
    if match is None or len(item) > 40:
        raise _wrong_channels(item)
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise _wrong_channels(item)
    return first, last


def _wrong_channels(given: object) -> EditError:
    return EditError(f"channels are whole numbers and ranges from 0, such as 0-15,20, or 0-50%, not {given!r:.60}")

"""The pictures of a channel in all runs: its maps with one scale, and their differences from the first one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from surgery.builtin import Symmetric
from surgery.studies import MAP_COLORS, NotedPicture, find_limits, map_picture
from surgery.text import file_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from surgery.comparison.kept_maps import KeptChannel
    from surgery.types import Picture

DIFFERENCE_COLORS = Symmetric.colormap
Limits = tuple[float, float]


@dataclass(frozen=True)
class ChannelPictures:
    """Draws a map in all runs with the same limits, and the differences from the first run with others."""

    maps: Sequence[Tensor | None]
    """For each run: a map ``(H, W)``, or None."""

    @cached_property
    def limits(self) -> Limits:
        """The least and the greatest finite value of all runs."""
        return find_limits(torch.stack([each for each in self.maps if each is not None]))

    @cached_property
    def differences(self) -> Sequence[Tensor | None]:
        """For each other run: its map minus that of the first run."""
        first = self.maps[0]
        return [None if each is None or first is None else each - first for each in self.maps[1:]]

    @cached_property
    def difference_limits(self) -> Limits:
        """The same distance on both sides of zero, for all runs."""
        known = [find_limits(each) for each in self.differences if each is not None]
        most = max((abs(value) for limits in known for value in limits), default=0.0)
        return -most, most

    def draw(self) -> list[Picture | None]:
        """Return a picture for each run."""
        return [None if each is None else map_picture(each, MAP_COLORS, self.limits) for each in self.maps]

    def draw_differences(self) -> list[Picture | None]:
        """Return a picture for each other run."""
        limits = self.difference_limits
        return [None if each is None else map_picture(each, DIFFERENCE_COLORS, limits) for each in self.differences]


def named_pictures(kept: KeptChannel, names: Sequence[str]) -> Iterator[tuple[str, NotedPicture]]:
    """Yield the pictures of a channel with the names of their files: ``048-up3.cat-7-latest``. `names` are of runs."""
    pictures = ChannelPictures(kept.maps)
    operation = kept.operation
    stem = file_name(f"{operation.path}-{kept.channel}", operation.index)
    note = {"operation": operation.path, "kind": operation.kind, "channel": kept.channel}
    for name, picture in zip(names, pictures.draw(), strict=True):
        if picture is not None:
            shows = {"shows": "a channel, with the limits of all runs", "run": name}
            yield f"{stem}-{file_name(name)}", NotedPicture(picture, {**shows, **note})
    for name, picture in zip(names[1:], pictures.draw_differences(), strict=True):
        if picture is not None:
            shows = {"shows": f"a channel of {name} minus that of {names[0]}", "run": name, "minus": names[0]}
            yield f"{stem}-{file_name(name)}-difference", NotedPicture(picture, {**shows, **note})

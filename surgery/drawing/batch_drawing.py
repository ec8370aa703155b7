"""The pictures of a batch, made step by step when they are asked for: maps, extremes, limits, codes, pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.host_copies import HostCopy
from surgery.drawing.picture_assembly import PictureAssembler
from surgery.drawing.quantization import (
    as_maps,
    as_real,
    has_compiled_pass,
    mark_nonfinite,
    quantize,
    quantize_between_extremes,
    replace_nonfinite,
    split_by_image,
)
from surgery.drawing.quantized_maps import QuantizedMaps, limits_of
from surgery.drawing.statistics import Extremes, FactsSource, compute_statistics
from surgery.drawing.tiling import find_tile_layout, is_written_directly
from surgery.drawing.transforms import apply_transforms, is_color
from surgery.errors import RenderError
from surgery.layouts import LayoutHints, decide_layout
from surgery.stages import declared_attribute
from surgery.types import LayoutDecision, Levels

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Recipe, TileLayout
    from surgery.types import Facts, Picture


WHOLE = LayoutDecision("whole", "all images of a batch, for facts alone")


class BatchDrawing:
    """Draws ``(B, ...)`` values for all who ask: each step is done once for the batch, and none before it is needed.

    `layout_decision` says how they are read as maps; None is by their number of axes, or as the recipe asks.
    """

    def __init__(
        self, values: Tensor, recipe: Recipe, *, windows: bool = False, layout_decision: LayoutDecision | None = None
    ) -> None:
        self.recipe = recipe
        self.windows = windows
        self.batch = values.shape[0]
        if layout_decision is None:
            layout_decision = decide_layout(
                tuple(values.shape), self.batch, LayoutHints(requested=recipe.layout_for(None))
            )
        self.layout_decision = layout_decision
        self._axes = values.ndim
        self._values: Tensor | None = values
        self._drawn: tuple[int, tuple[Picture, ...]] | None = None

    def levels(self, position: int, /) -> Levels:
        if self._empty:
            channels, height, width = self._shape[1:]
            low, high = np.zeros((2, channels))
            return Levels(np.zeros((channels, height, width), np.uint8), low, high)
        low, high = self._codes.limits()
        return Levels(self._codes.indices(position), low[position], high[position])

    def pictures(self, position: int, /) -> tuple[Picture, ...]:
        # Kept for the next sink that asks, and no longer: a batch of them would leave the cache, and come back.
        if self._drawn is None or self._drawn[0] != position:
            self._drawn = position, () if self._empty else self._draw(position)
        return self._drawn[1]

    def _draw(self, position: int) -> tuple[Picture, ...]:
        return self._frames.pictures(position)

    def facts(self, position: int, /) -> Facts:
        return self._facts[position]

    def quantize_now(self, *, pixels: bool) -> int:
        if self._values is None:
            return 0
        if pixels:
            self._quantize_between_extremes()
        self._facts_source  # noqa: B018 - made when it is asked for
        if pixels and not self._empty:
            self._codes  # noqa: B018
        self._values = None
        for name in ("_raw", "_maps"):
            self.__dict__.pop(name, None)
        codes = self.__dict__.get("_codes")  # for a sink that was called at once, perhaps
        return codes.nbytes if codes is not None else 0

    def _quantize_between_extremes(self) -> None:
        """Find extremes and codes together, where the limits are the extremes, and neither was asked for yet."""
        normalizer = self.recipe.normalizer
        if self.recipe.transforms or not declared_attribute(normalizer, "are_extremes"):
            return
        if "_extremes" in self.__dict__ or "_codes" in self.__dict__:
            return
        layout = self._direct_layout(self._maps)
        found = quantize_between_extremes(self._maps, layout)
        if found is not None:
            extremes, codes = found
            raw = torch.from_numpy(extremes)
            self._extremes = Extremes(raw, raw, None, finite=True)
            limits = extremes.astype(np.float64)
            folded = self._is_folded(self._maps)
            self._codes = QuantizedMaps(
                normalizer, limits, lambda: codes, self._maps.shape, layout, checked=True, folded=folded
            )

    @cached_property
    def _raw(self) -> Tensor:
        """``(B, C, H, W)``, as the layout_decision reads the values."""
        if self._values is None:
            raise RenderError("the values of an activation are gone once the model has run on; draw it while it runs")
        if self.layout_decision.layout is None:
            return as_maps(self._values, windows=self.windows)
        maps = self.layout_decision.layout(as_real(self._values))
        if maps is None:
            raise RenderError(f"layout {self.layout_decision.name} does not fit {tuple(self._values.shape)}")
        return as_maps(maps).contiguous()  # which the compiled passes take alone

    @cached_property
    def _maps(self) -> Tensor:
        """What is drawn where there is no transform."""
        return as_vectors(self._raw)

    @cached_property
    def _shape(self) -> torch.Size:
        return self._raw.shape

    @cached_property
    def _empty(self) -> bool:
        return 0 in self._shape

    @cached_property
    def _extremes(self) -> Extremes:
        return Extremes.from_maps(self._maps)

    @cached_property
    def _facts_source(self) -> FactsSource:
        """What facts are made of; of a device other than the CPU on its way to the host."""
        if self._empty:
            return FactsSource(0, has_several_values=False, extremes=None, statistics=None)
        statistics = None
        if self.recipe.stats:
            whole = self._maps if self._left_out is None else as_real(self._live_values())
            statistics = HostCopy(torch.stack([compute_statistics(image) for image in whole]))
        extremes = (
            self._extremes if self._left_out is None else self._extremes.including(Extremes.from_maps(self._left_out))
        )
        channels, height, width = self._shape[1:]
        return FactsSource(
            channels, has_several_values=height * width > 1, extremes=extremes.copy_to_host(), statistics=statistics
        )

    @cached_property
    def _left_out(self) -> Tensor | None:
        """``(B, 1, 1, N)``: values that are in no map, such as those of a class token."""
        find = getattr(self.layout_decision.layout, "left_out", None)
        values = None if find is None else find(as_real(self._live_values()))
        return None if values is None else values.reshape(self.batch, 1, 1, -1)

    def _live_values(self) -> Tensor:
        assert self._values is not None  # noqa: S101 - facts are found while they are there
        return self._values

    @cached_property
    def _facts(self) -> tuple[Facts, ...]:
        return self._facts_source.facts(self.batch)

    @cached_property
    def _codes(self) -> QuantizedMaps:
        maps, extremes, normalizer = self._maps, self._extremes, self.recipe.normalizer
        if self.recipe.transforms:
            maps = apply_transforms(self._raw, self.recipe.transforms)
            maps = maps if is_color(self.recipe.transforms) else as_vectors(maps)
            extremes = Extremes.from_maps(maps)
        folded = self._is_folded(maps)
        if extremes.finite:
            limits, layout = limits_of(normalizer, maps, extremes.raw), self._direct_layout(maps)
            make = partial(quantize, maps, limits, extremes.raw, layout)
            return QuantizedMaps(normalizer, limits, make, maps.shape, layout, folded=folded)
        repaired = replace_nonfinite(maps)
        limits = limits_of(normalizer, repaired)
        return QuantizedMaps(
            normalizer, limits, lambda: mark_nonfinite(quantize(repaired, limits), maps), maps.shape, folded=folded
        )

    @cached_property
    def _frames(self) -> PictureAssembler:
        return PictureAssembler(self._codes, self.recipe)

    def _is_folded(self, maps: Tensor) -> bool:
        """Whether maps are lines that are no lines of anything: vectors, to be folded to near-square pictures."""
        single = maps.shape[1] == 1 and (self._axes == 3 or self._shape[2:] == (1, 1))
        return maps.shape[2] == 1 and (self._axes <= 2 or single)

    def _direct_layout(self, maps: Tensor) -> TileLayout | None:
        """The layout of maps whose codes are best made where they lie in the pictures; None where they are not."""
        if self._is_folded(maps) or is_color(self.recipe.transforms) or not has_compiled_pass(maps):
            return None
        layout = find_tile_layout(self.recipe.tiler, maps.shape)
        return layout if layout is not None and is_written_directly(layout, maps.shape) else None


def as_vectors(maps: Tensor) -> Tensor:
    """``(B, C, 1, 1)`` as ``(B, 1, 1, C)``: each channel by itself would be drawn in the middle of its own scale."""
    return maps.reshape(len(maps), 1, 1, -1) if maps.shape[2:] == (1, 1) and maps.shape[1] else maps


class WholeBatchDrawing:
    """The images of a batch taken as one."""

    def __init__(self, values: Tensor, recipe: Recipe, layout_decision: LayoutDecision | None = None) -> None:
        if values.layout not in (torch.strided, torch.sparse_coo):
            values = values.to_dense()  # since the others take no further axis
        self.as_one = BatchDrawing(values[None], recipe, layout_decision=WHOLE)
        windows = False
        if layout_decision is not None and values.ndim and values.layout is torch.strided:
            values = values.movedim(layout_decision.batch_axis, 0)
            parts = split_by_image(values, layout_decision.images or len(values))
            windows = parts is not None and parts.ndim > values.ndim
            values = values if parts is None else parts
        one = values if values.ndim else values[None]
        self.drawing = BatchDrawing(one, recipe, windows=windows, layout_decision=layout_decision)
        self.layout_decision = self.drawing.layout_decision

    def levels(self, _: int, /) -> Levels:
        parts = [self.drawing.levels(position) for position in range(self.drawing.batch)]
        return Levels(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "low", "high")))

    def pictures(self, _: int, /) -> tuple[Picture, ...]:
        return tuple(picture for position in range(self.drawing.batch) for picture in self.drawing.pictures(position))

    def facts(self, _: int, /) -> Facts:
        each = [self.drawing.facts(position) for position in range(self.drawing.batch)]
        if not each:
            return self.as_one.facts(0)
        constant = max(facts.constant_channels for facts in each)
        return replace(self.as_one.facts(0), channels=each[0].channels, constant_channels=constant)

    def quantize_now(self, *, pixels: bool) -> int:
        return self.as_one.quantize_now(pixels=False) + self.drawing.quantize_now(pixels=pixels)

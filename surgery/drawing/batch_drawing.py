"""The drawing of a batch's values, step by step: maps, extremes, limits, codes, pictures."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.channel_codes import ChannelCodes
from surgery.drawing.compiled_kernels import can_use_kernels
from surgery.drawing.declared_attributes import declared_attribute
from surgery.drawing.extremes import Extremes
from surgery.drawing.host_copies import HostCopy
from surgery.drawing.limits import find_limits
from surgery.drawing.live_maps import LiveMaps
from surgery.drawing.maps import as_real, as_vectors, replace_nonfinite
from surgery.drawing.palettes import recipe_palette
from surgery.drawing.picture_assembly import PictureAssembler
from surgery.drawing.quantization import mark_nonfinite, quantize, quantize_between_extremes
from surgery.drawing.quantized_maps import QuantizedMaps
from surgery.drawing.statistics import FactsSource, compute_statistics
from surgery.drawing.tiling import find_tile_layout, is_written_directly
from surgery.drawing.transforms import apply_transforms, is_color
from surgery.layouts import LayoutHints, decide_layout
from surgery.types import Levels

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Recipe, TileLayout
    from surgery.types import Facts, LayoutDecision, Picture


class BatchDrawing:
    """Draws ``(B, ...)`` values. Each step is done once for the whole batch, when it is first needed.

    Without a `layout_decision`, the recipe's layout or the number of axes decides how the values are read as maps. If
    `windows`, the second axis counts windows.
    """

    def __init__(
        self, values: Tensor, recipe: Recipe, *, windows: bool = False, layout_decision: LayoutDecision | None = None
    ) -> None:
        self.recipe = recipe
        self.batch = values.shape[0]
        if layout_decision is None:
            hints = LayoutHints(requested=recipe.layout_for(None))
            layout_decision = decide_layout(tuple(values.shape), self.batch, hints)
        self.layout_decision = layout_decision
        self._live = LiveMaps(values, layout_decision, windows=windows)
        self._last_pictures: tuple[int, tuple[Picture, ...]] | None = None

    def levels(self, position: int, /) -> Levels:
        """Return the codes and the limits of one image."""
        if self._live.is_empty:
            channels, height, width = self._live.shape[1:]
            low, high = np.zeros((2, channels))
            return Levels(np.zeros((channels, height, width), np.uint8), low, high)
        low, high = self._quantized.limits()
        return Levels(self._quantized.codes_of_image(position), low[position], high[position])

    def channel_codes(self, position: int, /) -> ChannelCodes:
        """Return the codes of one image, of which single channels can be read."""
        if self._live.is_empty:
            return ChannelCodes(0, None, lambda _: self.levels(position).codes)
        palette = None if self._has_colors else recipe_palette(self.recipe)
        return ChannelCodes(self._quantized.shape[1], palette, partial(self._quantized.codes_of_channels, position))

    @property
    def _has_colors(self) -> bool:
        """Whether the pictures have colors of their own."""
        return is_color(self.recipe.transforms)

    def pictures(self, position: int, /) -> tuple[Picture, ...]:
        """Return the pictures of one image."""
        # Those of the last image are kept for the next sink. Those of a whole batch would not stay in the cache.
        last = self._last_pictures  # read once, since other threads draw other images
        if last is None or last[0] != position:
            last = self._last_pictures = position, () if self._live.is_empty else self._draw(position)
        return last[1]

    def facts(self, position: int, /) -> Facts:
        """Return the facts of one image."""
        return self._facts[position]

    def quantize_now(self, *, pixels: bool) -> int:
        """Compute all that the facts, and, if `pixels`, the pictures need, and release the values.

        Returns the size in bytes of the codes that are kept; 0 if this was done before.
        """
        if self._live.is_released:
            return 0
        if pixels:
            self._quantize_between_extremes()
        self._facts_source  # noqa: B018 - a cached property
        if pixels and not self._live.is_empty:
            self._quantized  # noqa: B018 - a cached property
        self._live.release()
        quantized = self.__dict__.get("_quantized")  # an earlier sink may have needed it, even if not `pixels`
        return quantized.nbytes if quantized is not None else 0

    def _draw(self, position: int) -> tuple[Picture, ...]:
        return self._assembler.pictures(position)

    def _quantize_between_extremes(self) -> None:
        """Compute extremes and codes in one pass, if the limits are the extremes and neither was computed before."""
        normalizer = self.recipe.normalizer
        if self.recipe.transforms or not declared_attribute(normalizer, "are_extremes"):
            return
        if "_extremes" in self.__dict__ or "_quantized" in self.__dict__:
            return
        maps = self._live.maps
        layout = self._direct_layout(maps)
        result = quantize_between_extremes(maps, layout)
        if result is None:
            return
        extremes, codes = result
        raw = torch.from_numpy(extremes)
        self._extremes = Extremes(raw, raw, None, all_finite=True)
        self._quantized = QuantizedMaps(
            normalizer,
            extremes.astype(np.float64),
            lambda: codes,
            maps.shape,
            layout,
            are_limits_checked=True,
            are_vectors=self._live.are_vectors(maps),
        )

    @cached_property
    def _extremes(self) -> Extremes:
        """The extremes of the maps before transforms."""
        return Extremes.from_maps(self._live.maps)

    @cached_property
    def _facts_source(self) -> FactsSource:
        live = self._live
        if live.is_empty:
            return FactsSource(0, has_several_values=False, extremes=None, statistics=None)
        statistics = None
        if self.recipe.stats:
            images = live.maps if live.outside is None else as_real(live.values)
            statistics = HostCopy(torch.stack([compute_statistics(image) for image in images]))
        extremes = self._extremes
        if live.outside is not None:
            extremes = extremes.including(Extremes.from_maps(live.outside))
        channels, height, width = live.shape[1:]
        has_several_values = height * width > 1
        return FactsSource(channels, has_several_values, extremes.copy_to_host(), statistics)

    @cached_property
    def _facts(self) -> tuple[Facts, ...]:
        return self._facts_source.facts(self.batch)

    @cached_property
    def _quantized(self) -> QuantizedMaps:
        maps, extremes, normalizer = self._live.maps, self._extremes, self.recipe.normalizer
        if self.recipe.transforms:
            maps = apply_transforms(self._live.raw, self.recipe.transforms)
            maps = maps if is_color(self.recipe.transforms) else as_vectors(maps)
            extremes = Extremes.from_maps(maps)
        are_vectors = self._live.are_vectors(maps)
        if extremes.all_finite:
            limits, layout = find_limits(normalizer, maps, extremes.raw), self._direct_layout(maps)
            compute_codes = partial(quantize, maps, limits, extremes.raw, layout)
            return QuantizedMaps(normalizer, limits, compute_codes, maps.shape, layout, are_vectors=are_vectors)
        finite_maps = replace_nonfinite(maps)
        limits = find_limits(normalizer, finite_maps)
        return QuantizedMaps(
            normalizer,
            limits,
            lambda: mark_nonfinite(quantize(finite_maps, limits), maps),
            maps.shape,
            are_vectors=are_vectors,
        )

    @cached_property
    def _assembler(self) -> PictureAssembler:
        return PictureAssembler(self._quantized, self.recipe)

    def _direct_layout(self, maps: Tensor) -> TileLayout | None:
        """Return the layout in which codes are computed; None if they are computed as maps and tiled afterwards."""
        if self._live.are_vectors(maps) or is_color(self.recipe.transforms) or not can_use_kernels(maps):
            return None
        layout = find_tile_layout(self.recipe.tiler, maps.shape)
        return layout if layout is not None and is_written_directly(layout, maps.shape) else None

"""The sheet of an ablation study: each ablated output beside its difference from the original one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from surgery.studies.sheet_page import StudyCell, StudyPage
from surgery.studies.study_pictures import (
    DIFFERENCE_COLORS,
    MAP_COLORS,
    color_bar,
    draw_map,
    draw_outline,
    draw_output,
    output_limits,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from surgery.studies.unit_pictures import ImagePictures, UnitPicture

_QUANTILE = 0.998
"""Of all pixels of the differences on a sheet, which are darker than the brightest color."""


def draw_ablation_sheet(pictures: ImagePictures, title: list[str], details: list[str]) -> Image.Image:
    """Return the page of one image, whose output is ``(C, H, W)``."""
    most = _find_most([each.heat_map for each in pictures.units if each.heat_map is not None])
    longest = max((each.effect.size for each in pictures.units if math.isfinite(each.effect.size)), default=0.0)
    limits = output_limits(pictures.output, pictures.value_range)
    original = draw_output(pictures.output, pictures.value_range, limits)
    heading = [("output", original if pictures.mask is None else draw_outline(original, pictures.mask))]
    if pictures.input.ndim == 3 and pictures.input.is_floating_point():
        shows_input = pictures.input.shape[0] in (1, 3) and pictures.value_range is not None
        heading.insert(0, ("input", draw_output(pictures.input, pictures.value_range if shows_input else None)))
    has_maps = any(each.maps is not None for each in pictures.units)
    legend = [
        "From left to right:",
        *(["the channels themselves, before the edit"] if has_maps else []),
        "the output after the edit",
        "where it differs: the mean |difference| of its channels",
        f"Number and bar: the mean of that{'' if pictures.mask is None else ' inside of the outline'}.",
    ]
    return StudyPage(
        title=title,
        details=details,
        heading=heading,
        legend=legend,
        scale=(color_bar(DIFFERENCE_COLORS), "0", f"{most:.3g} and more"),
        cells=[_make_cell(each, pictures, most, longest, limits) for each in pictures.units],
    ).draw()


def _find_most(heat_maps: Sequence[Tensor]) -> float:
    """Return the difference that the brightest color stands for: few pixels are above it."""
    values = np.concatenate([heat_map.flatten().numpy() for heat_map in heat_maps]) if heat_maps else np.zeros(0)
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, _QUANTILE)) if finite.size else 0.0


def _make_cell(
    picture: UnitPicture, pictures: ImagePictures, most: float, longest: float, limits: tuple[float, float] | None
) -> StudyCell:
    effect = picture.effect
    shown = [] if picture.maps is None else [draw_map(picture.maps.mean(0), MAP_COLORS)]
    shown.append(draw_output(picture.output, pictures.value_range, limits))
    if picture.heat_map is not None:
        shown.append(_draw_heat_map(picture.heat_map, most, pictures.mask))
    details = [] if effect.inside is None else [f"everywhere {effect.mean_abs:.3g}"]
    details += [] if effect.ssim is None else [f"SSIM {effect.ssim:.3f}"]
    details += [f"rms {effect.rms:.3g}", f"largest {effect.largest:.3g}"]
    number = effect.mean_abs if effect.inside is None else effect.inside
    share = None if not math.isfinite(effect.size) else effect.size / longest if longest else 0.0
    return StudyCell(picture.unit.label, f"{number:.3g}", share, "   ".join(details), shown)


def _draw_heat_map(heat_map: Tensor, most: float, mask: Tensor | None) -> Image.Image:
    drawn = draw_map(heat_map, DIFFERENCE_COLORS, (0.0, most))
    return drawn if mask is None else draw_outline(drawn, mask)

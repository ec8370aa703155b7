"""Palettes of colormaps."""

from __future__ import annotations

import numpy as np
import pytest

from surgery.drawing.palettes import make_palette
from surgery.errors import RenderError
from surgery.types import BACKGROUND, LEVELS, MINUS_INF, NAN, PLUS_INF


def test_a_palette_has_the_colors_of_its_colormap_and_four_distinct_special_ones() -> None:
    colors = make_palette(lambda values: np.stack([values, values, values], 1))
    assert colors[:LEVELS:125].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    apart = [tuple(colors[code]) for code in (NAN, MINUS_INF, PLUS_INF, BACKGROUND)]
    assert len(set(apart)) == 4
    assert make_palette("viridis")[0].tolist() == [68, 1, 84]
    assert make_palette(["black", "white"])[250].tolist() == [255, 255, 255]


def test_an_unknown_colormap_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RenderError, match="no colormap is called 'virdis'; did you mean 'viridis'"):
        make_palette("virdis")

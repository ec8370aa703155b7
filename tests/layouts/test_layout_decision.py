"""The layout of values whose axes are known, guessed from sizes, or without spatial meaning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import surgery
from surgery.builtin.normalizers import NORMALIZERS, Fixed
from surgery.layouts.axes import Axis, Factor, named_axes, reshape_axes, simple_axis
from surgery.layouts.layout_decision import LayoutHints, decide_layout
from surgery.layouts.layout_functions import ChannelsLast


@pytest.mark.parametrize(
    ("shape", "image", "name", "guessed"),
    [
        ((1, 197, 768), (224, 224), "tokens:14x14", True),
        ((1, 196, 768), (224, 224), "tokens:14x14", True),
        ((1, 201, 384), (224, 224), "tokens:14x14", True),
        ((1, 280, 64), (224, 320), "tokens:14x20", True),
        ((64, 49, 96), (224, 224), "windows:7x7", True),
        ((1, 100, 256), (224, 224), "flat", False),
        ((1, 128, 768), None, "flat", False),
        ((1, 56, 56, 96), (224, 224), "channels-first", False),
    ],
)
def test_a_layout_is_guessed_from_sizes_if_no_operation_determines_it(
    shape: tuple[int, ...], image: tuple[int, int] | None, name: str, guessed: bool
) -> None:
    found = decide_layout(shape, 1, LayoutHints(image_size=image))
    assert (found.name, found.is_guessed) == (name, guessed)
    assert guessed or "by default" in found.reason


def test_guessed_windows_are_put_together_to_the_original_maps() -> None:
    maps = torch.randn(1, 3, 56, 56)
    windows = maps.view(1, 3, 8, 7, 8, 7).permute(0, 2, 4, 3, 5, 1).reshape(64, 49, 3)
    found = decide_layout(tuple(windows.shape), 1, LayoutHints(image_size=(224, 224)))
    assert found.layout is not None
    assert torch.equal(found.layout(windows[None]), maps)  # type: ignore[arg-type]


def test_a_reshape_merges_and_splits_factors() -> None:
    axes = named_axes((2, 6, 8, 8), ("batch", "channel", "height", "width"), "")
    windows = reshape_axes(axes, (2, 6, 4, 2, 4, 2))
    assert windows is not None
    assert windows.items[3].factors == (Factor("height", 2, (1,)),)
    merged = reshape_axes(windows, (2, 6, 64))
    assert merged is not None
    assert merged.items[2].names == {"height", "width"}
    assert reshape_axes(axes, (2, 6, 5, 13)) is None
    tokens = named_axes((1, 9, 4), ("batch", "", "channel"), "")
    mixed = (tokens.items[0], Axis((Factor("height", 2), Factor("width", 4)), before=1), simple_axis("channel", 4))
    assert reshape_axes(type(tokens)(mixed), (1, 3, 3, 4)) is None


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("shape", [(2, 30, 1, 1), (2, 30), (2, 1, 30), (2, 1, 1, 30)], ids=str)
def test_values_without_spatial_axes_are_drawn_in_one_picture(name: str, shape: tuple[int, ...]) -> None:
    values = torch.randn(2, 30)
    layout = ChannelsLast() if shape[1:3] == (1, 1) and len(shape) == 4 and shape[3] > 1 else None
    expected = surgery.draw(values, normalizer=NORMALIZERS[name])
    drawn = surgery.draw(values.reshape(shape), normalizer=NORMALIZERS[name], layout=layout)
    for ours, theirs in zip(drawn, expected, strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert (ours.low, ours.high) == (theirs.low, theirs.high)
        assert len(np.unique(ours.pixels)) > 3


def test_transforms_receive_maps_of_one_value_and_may_return_a_vector() -> None:
    from surgery.builtin.transforms import Abs, TopK

    values = torch.linspace(-3, 0, 40).reshape(1, 40, 1, 1)
    (picture,) = surgery.draw(values, transforms=[TopK(9), Abs()], normalizer=Fixed(0, 3))
    assert len(picture.low) == 1
    assert len(np.unique(picture.pixels)) == 9
    pooled = surgery.draw(torch.randn(1, 40, 5, 5), transforms=[lambda maps: maps.mean((2, 3), keepdim=True)])
    assert len(np.unique(pooled[0].pixels)) > 10
    assert len(pooled[0].low) == 1

"""Checks of the stages of a picture: transforms, normalizers, tilers and colormaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from surgery.drawing import (
    check_limits,
    declared_attribute,
    find_extremes,
    find_limits,
    find_tile_layout,
    make_palette,
    replace_nonfinite,
    tile_codes,
)
from surgery.errors import RenderError
from surgery.testing.sample_tensors import generate_codes, generate_finite_maps, generate_nonfinite_maps
from surgery.testing.violations import Violation, describe_exception, describe_value, detect_state_changes, is_equal
from surgery.text import describe_stage, format_count
from surgery.types import BACKGROUND, LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Colormap, Normalizer, Tiler, Transform


def transform_violations(transform: Transform) -> Iterator[Violation]:
    """Yield a violation for each input of which a transform makes wrong maps.

    Maps are ``(B, C', H', W')`` float, the same at every call, and independent of the other images of the batch.
    """
    for name, values in (*generate_finite_maps(), *generate_nonfinite_maps()):
        argument = values.clone()
        try:
            with detect_state_changes(name) as found:
                maps, again, last = transform(argument), transform(argument), transform(argument[-1:])
        except Exception as error:  # noqa: BLE001
            yield Violation(describe_exception(error), name)
            continue
        yield from found
        if not isinstance(maps, Tensor) or not maps.is_floating_point() or maps.ndim != 4:
            yield Violation(f"gives {describe_value(maps)}, not (B, C, H, W) float", name)
            continue
        if len(maps) != len(values) or maps.numel() == 0:
            yield Violation(f"gives maps of shape {tuple(maps.shape)}, given {tuple(values.shape)}", name)
            continue
        if getattr(transform, "color", False) and maps.shape[1] != 3:
            count = format_count(maps.shape[1], "channel")
            yield Violation(f"says that it gives colors, and gives {count}, not 3", name)
        if maps.device != argument.device:
            yield Violation(f"gives maps on {maps.device}", name)
        if not is_equal(argument, values):
            yield Violation("writes to its input", name)
            continue
        if not is_equal(maps, again):
            yield Violation("gives other maps the second time", name)
        # Sums over a batch may be rounded differently from sums over one image.
        elif not torch.allclose(maps[-1:], last, rtol=1e-3, atol=1e-5 * _largest_magnitude(last), equal_nan=True):
            yield Violation("lets the other images of a batch change an image's maps", name)


def _largest_magnitude(maps: Tensor) -> float:
    finite = maps[maps.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0


def normalizer_violations(normalizer: Normalizer) -> Iterator[Violation]:
    """Yield a violation for each input of which a normalizer computes wrong limits.

    Limits are finite, ordered, broadcastable, the same at every call, and the same by the declared shortcuts.
    """
    repaired = ((f"{name}, repaired", replace_nonfinite(values)) for name, values in generate_nonfinite_maps())
    for name, values in (*generate_finite_maps(), *repaired):
        argument = values.clone()
        try:
            with detect_state_changes(name) as found:
                limits = find_limits(normalizer, argument)
                again = find_limits(normalizer, argument)
                check_limits(normalizer, *limits.cpu().numpy())
                fast = find_limits(normalizer, argument, find_extremes(argument))
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            yield Violation(describe_exception(error).removeprefix(f"normalizer {describe_stage(normalizer)} "), name)
            continue
        yield from found
        if not is_equal(argument, values):  # the second call received other values
            yield Violation("writes to its input", name)
            continue
        if not is_equal(limits, again):
            yield Violation("gives other limits the second time", name)
        elif not is_equal(limits, fast):
            yield Violation("gives other limits by of_extremes than when it is called", name)
        elif declared_attribute(normalizer, "are_extremes") and not is_equal(limits, find_extremes(argument).double()):
            yield Violation("says that its limits are the extremes of each channel, and they are not", name)


def tiler_violations(tiler: Tiler) -> Iterator[Violation]:
    """Yield a violation for each input of which a tiler makes wrong pictures.

    Pictures are ``(B, N, H', W')`` uint8 with codes of the input or background, the same at every call, independent of
    the other images of the batch, and as the declared layout describes them.
    """
    for name, values in generate_codes():
        argument = values.clone()
        try:
            with detect_state_changes(name) as found:
                tiles, again, last = tiler(argument), tiler(argument), tiler(argument[-1:])
        except Exception as error:  # noqa: BLE001
            yield Violation(describe_exception(error), name)
            continue
        yield from found
        if not isinstance(tiles, Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            yield Violation(f"gives {describe_value(tiles)}, not (B, N, H, W) uint8", name)
            continue
        if len(tiles) != len(values) or tiles.numel() == 0:
            yield Violation(f"gives pictures of shape {tuple(tiles.shape)}", name)
            continue
        if not is_equal(argument, values):
            yield Violation("writes to its input", name)
            continue
        if not is_equal(tiles, again):
            yield Violation("gives other pictures the second time", name)
        yield from _layout_violations(tiler, argument, tiles, name)
        if not is_equal(tiles[-1:], last):
            yield Violation("lets the other images of a batch change an image's pictures", name)
        if made := set(tiles.unique().tolist()) - {*values.unique().tolist(), BACKGROUND}:
            yield Violation(f"makes up the code {min(made)}", name)


def _layout_violations(tiler: Tiler, codes: Tensor, tiles: Tensor, name: str) -> Iterator[Violation]:
    """Check that the layout that a tiler declares, if any, describes the pictures that it returned."""
    try:
        layout = find_tile_layout(tiler, codes.shape)
    except RenderError as error:
        yield Violation(str(error).removeprefix(f"tiler {describe_stage(tiler)} "), name)
        return
    if layout is not None and not is_equal(tile_codes(codes, layout)[..., 1:], tiles):
        yield Violation("gives a layout of other pictures than when it is called", name)


def colormap_violations(colormap: Colormap) -> Iterator[Violation]:
    """Yield a violation if a colormap is not one that `cmap` takes, or for each N for which its colors are wrong.

    Colors are ``(N, 3)`` or ``(N, 4)`` in [0, 1], the same at every call, and each depends only on its own level.
    """
    try:
        with detect_state_changes(f"{LEVELS} levels") as found:
            make_palette(colormap)
    except Exception as error:  # noqa: BLE001
        yield Violation(describe_exception(error).removeprefix(f"colormap {describe_stage(colormap)} "))
        return
    yield from found
    if not callable(colormap):
        return
    whole = np.asarray(colormap(np.linspace(0, 1, LEVELS)))
    if whole.min() < 0 or whole.max() > 1:
        yield Violation(f"gives colors from {whole.min():.3g} to {whole.max():.3g}, not within [0, 1]")
    if not np.array_equal(whole, np.asarray(colormap(np.linspace(0, 1, LEVELS)))):
        yield Violation("gives other colors the second time")
    for count in (1, 2, 1000):
        levels = np.linspace(0, 1, count)
        argument = levels.copy()
        try:
            colors = np.asarray(colormap(argument))
        except Exception as error:  # noqa: BLE001
            yield Violation(describe_exception(error), f"{count} levels")
            continue
        if colors.shape not in ((count, 3), (count, 4)):
            yield Violation(f"gives {colors.shape}, not ({count}, 3) or ({count}, 4)", f"{count} levels")
        elif not np.allclose(colors[:1], whole[:1]) or (count > 1 and not np.allclose(colors[-1], whole[-1])):
            yield Violation(f"gives a level another color when there are {count} levels")
        if not np.array_equal(argument, levels):
            yield Violation("writes to its input", f"{count} levels")

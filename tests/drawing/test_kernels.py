from __future__ import annotations

import math
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.normalizers import MinMax, Percentile
from surgery.builtin.tilers import TILERS
from surgery.drawing import compiled_kernels
from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.extremes import find_extremes
from surgery.drawing.quantization import quantize, quantize_between_extremes
from surgery.drawing.tiling import tile_codes, untile_codes
from surgery.stages import Recipe, TileLayout
from surgery.types import BACKGROUND, LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surgery.stages import Normalizer, Transform

COMPILER = shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists()

kernels: Any
if COMPILER:
    from surgery.drawing import _kernels as kernels  # a test failure if it was not built
else:
    kernels = pytest.importorskip("surgery.drawing._kernels", reason="there was no compiler on installation")

TOP = LEVELS - 1
SCALES = (0.0, 1e-45, 1e-38, 1e-6, 1.0, 1e5, 1e36, 3e38)


def random_maps(seed: int, rows: int, size: int, scale: float, offset: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(1, rows, 1, size, generator=generator, dtype=torch.float64) * scale + offset
    return drawn.clamp(-3.4e38, 3.4e38).float()


def without_kernels(call: Any, *args: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_kernels, "kernels", None)
        return call(*args)


@settings(max_examples=200, deadline=None)
@given(
    some.integers(0, 1000),
    some.integers(1, 40),
    some.integers(1, 200),
    some.sampled_from(SCALES),
    some.sampled_from((0.0, 1.0, -1e6, 2.5e38)),
)
def test_codes_between_extremes_equal_those_of_torch(
    seed: int, rows: int, size: int, scale: float, offset: float
) -> None:
    maps = random_maps(seed, rows, size, scale, offset)
    extremes = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    assert torch.equal(find_extremes(maps), extremes)
    expected = without_kernels(quantize, maps, extremes.double(), extremes)
    assert torch.equal(quantize(maps, extremes.double()), expected)
    found = quantize_between_extremes(maps)
    if found is not None:
        assert np.array_equal(found[0], extremes.numpy())
        assert np.array_equal(found[1], expected.numpy())
    else:
        span = (extremes[1].double() - extremes[0].double()).clamp(min=1e-300)
        assert extremes.abs().max() > 1.7e38 or (TOP / span[extremes[0] != extremes[1]]).max() > 3.4e38


@settings(max_examples=100, deadline=None)
@given(some.integers(0, 1000), some.integers(1, 9), some.integers(1, 99), some.floats(0, 2), some.floats(0, 2))
def test_values_outside_their_limits_get_the_first_and_last_code_as_by_torch(
    seed: int, rows: int, size: int, below: float, above: float
) -> None:
    maps = random_maps(seed, rows, size, 1e6, 0)
    limits = torch.tensor([-below, above], dtype=torch.float64)[:, None, None].expand(2, 1, rows).contiguous()
    assert torch.equal(quantize(maps, limits), without_kernels(quantize, maps, limits))


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "place", [0, 30, 60, 90, 102]
)  # in each of the four parts that are read side by side, and after them
def test_a_nonfinite_value_is_found_at_every_position(value: float, place: int) -> None:
    maps = random_maps(0, 3, 103, 1, 0)
    maps[0, 1, 0, place] = value
    assert not kernels.find_extremes(maps.numpy(), np.empty((2, 3), np.float32))
    assert quantize_between_extremes(maps) is None
    extremes = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    assert torch.equal(find_extremes(maps).nan_to_num(), extremes.nan_to_num())
    one, other = BatchDrawing(maps, DEFAULT_RECIPE), BatchDrawing(maps, DEFAULT_RECIPE)
    one.quantize_now(pixels=True)
    expected = without_kernels(lambda: other.pictures(0)[0].pixels)
    assert np.array_equal(one.pictures(0)[0].pixels, expected)
    assert one.facts(0) == other.facts(0)


def test_maps_that_are_not_contiguous_float32_are_left_to_torch() -> None:
    maps = torch.randn(2, 6, 5, 4)
    for other in (
        maps.contiguous(memory_format=torch.channels_last),
        maps[:, ::2],
        maps.double(),
        torch._neg_view(maps),
        maps[:, :0],
    ):
        assert quantize_between_extremes(other) is None
    extremes = find_extremes(torch._neg_view(maps))
    assert torch.equal(extremes, torch.stack((-maps.amax((2, 3)), -maps.amin((2, 3)))))


@settings(max_examples=300, deadline=None)
@given(
    some.tuples(some.integers(1, 3), some.integers(1, 14), some.integers(1, 7), some.integers(1, 7)),
    some.integers(1, 14),
    some.integers(1, 5),
    some.integers(0, 3),
    some.booleans(),
)
def test_compiled_tiles_equal_those_of_torch(
    shape: tuple[int, int, int, int], columns: int, factor: int, gap: int, each: bool
) -> None:
    codes = torch.arange(math.prod(shape)).remainder(LEVELS).byte().reshape(shape)
    layout = TileLayout(shape[1], 1 if each else shape[1], columns, factor, gap)
    lines = tile_codes(codes, layout)
    assert torch.equal(lines, without_kernels(tile_codes, codes, layout))
    assert not lines[..., 0].any()
    assert torch.equal(tile_codes(codes.short(), layout), lines.short())  # not read by the compiled kernels


@settings(max_examples=200, deadline=None)
@given(
    some.tuples(some.integers(1, 3), some.integers(1, 10), some.integers(1, 5), some.integers(1, 600)),
    some.integers(1, 10),
    some.integers(0, 3),
    some.booleans(),
)
def test_codes_written_directly_to_tiles_equal_codes_that_are_tiled_later(
    shape: tuple[int, int, int, int], columns: int, gap: int, each: bool
) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(math.prod(shape)))
    maps[:, 0] = 1
    layout = TileLayout(shape[1], 1 if each else shape[1], columns, 1, gap)
    limits = find_extremes(maps).double()
    codes = without_kernels(quantize, maps, limits)
    lines = without_kernels(tile_codes, codes, layout)
    assert torch.equal(quantize(maps, limits, layout=layout), lines)
    assert torch.equal(without_kernels(lambda: quantize(maps, limits, layout=layout)), lines)
    found = quantize_between_extremes(maps, layout)
    assert found is not None
    assert np.array_equal(found[1], lines.numpy())
    assert torch.equal(untile_codes(lines, layout, maps.shape), codes)


@pytest.mark.parametrize("name", ["grid", "strip", "channels"])
@pytest.mark.parametrize("normalizer", [MinMax(), Percentile()])
@pytest.mark.parametrize("transforms", [(), (lambda maps: maps.flip(1)[..., ::2],)])
@pytest.mark.parametrize("scale", [1, 1e38])
def test_levels_and_pictures_quantized_at_once_equal_those_of_torch(
    name: str, normalizer: Normalizer, transforms: tuple[Transform, ...], scale: float
) -> None:
    values = torch.randn(3, 5, 9, 130, generator=torch.Generator().manual_seed(1)).mul_(scale)
    recipe = Recipe(normalizer, TILERS[name], transforms=transforms)
    one, other = BatchDrawing(values, recipe), BatchDrawing(values, recipe)
    one.quantize_now(pixels=True)

    def drawn(drawing: BatchDrawing) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = []
        for position in range(3):
            levels = drawing.levels(position)
            found += [levels.codes, levels.low, *(picture.pixels for picture in drawing.pictures(position))]
        return found

    expected = without_kernels(drawn, other)
    for array, same in zip(drawn(one), expected, strict=True):
        assert np.array_equal(array, same)


def test_buffers_that_do_not_fit_are_refused_before_anything_is_written() -> None:
    values, codes = np.zeros(12, np.float32), np.full(12, 7, np.uint8)
    plain = (1, 1, 3, 1, 1, 0, 0, 0)  # four maps of three values
    grid = (3, 2, 2, 2, 1, 1, 1, BACKGROUND)  # one picture of three maps
    canvas, scales, found = np.empty(30, np.uint8), np.empty((3, 4), np.float32), np.empty((2, 4), np.float32)

    def other(grid: tuple[int, ...], place: int, value: int) -> tuple[int, ...]:
        return (*grid[:place], value, *grid[place + 1 :])

    kernels.quantize(values, scales, codes.copy(), TOP, plain)
    kernels.quantize_between_extremes(values, found, codes.copy(), TOP, plain)
    kernels.tile_codes(codes, canvas, grid)
    kernels.quantize(values, scales[:, :3].copy(), canvas, TOP, grid)
    wrong: list[tuple[Any, ...]] = [
        (kernels.find_extremes, values, np.empty((2, 5), np.float32)),
        (kernels.find_extremes, values, np.empty(0, np.float32)),
        (kernels.quantize, values, scales, codes[:11], TOP, plain),
        (kernels.quantize, values, np.empty((3, 5), np.float32), codes, TOP, plain),
        (kernels.quantize, values, scales[:, :3].copy(), np.empty(90, np.uint8), TOP, other(grid, 4, 2)),
        (kernels.quantize_between_extremes, values, found, codes[:11], TOP, plain),
        (kernels.quantize_between_extremes, values[:0], found, codes[:0], TOP, plain),
        (kernels.quantize_between_extremes, values, found[:1].copy(), codes, TOP, plain),
        (kernels.tile_codes, codes, canvas[:29], grid),
        *((kernels.tile_codes, codes, canvas, other(grid, place, 0)) for place in range(5)),
        (kernels.tile_codes, codes, np.empty(12, np.uint8), other(grid, 5, -1)),
        (kernels.tile_codes, codes, np.empty(20, np.uint8), other(grid, 6, -1)),
    ]
    for kernel, *arguments in wrong:
        with pytest.raises(ValueError, match="do not fit"):
            kernel(*arguments)
    with pytest.raises(TypeError, match="a grid is a tuple"):
        kernels.tile_codes(codes, canvas, list(grid))
    with pytest.raises((ValueError, BufferError)):
        kernels.find_extremes(values[::2], np.empty((2, 2), np.float32))
    assert (codes == 7).all()

from __future__ import annotations

import math
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from surgery import quantising
from surgery.builtin import tilers
from surgery.drawing import BatchDrawing
from surgery.quantising import find_extremes, quantise, quantise_between_extremes
from surgery.rendering import STANDARD
from surgery.types import BACKGROUND, LEVELS

COMPILER = shutil.which("cc") and Path(sysconfig.get_paths()["include"], "Python.h").exists()

kernels: Any
if COMPILER:
    from surgery import _kernels as kernels  # built on installation, and missed here where it was not
else:
    kernels = pytest.importorskip("surgery._kernels", reason="there was no compiler on installation")

TOP = LEVELS - 1
SCALES = (0.0, 1e-45, 1e-38, 1e-6, 1.0, 1e5, 1e36, 3e38)


def random_maps(seed: int, rows: int, size: int, scale: float, offset: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(1, rows, 1, size, generator=generator, dtype=torch.float64) * scale + offset
    return drawn.clamp(-3.4e38, 3.4e38).float()


def without_kernels(call: Any, *args: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantising, "_kernels", None)
        patch.setattr(tilers, "_kernels", None)
        return call(*args)


@settings(max_examples=200, deadline=None)
@given(
    some.integers(0, 1000),
    some.integers(1, 40),
    some.integers(1, 200),
    some.sampled_from(SCALES),
    some.sampled_from((0.0, 1.0, -1e6, 2.5e38)),
)
def test_codes_between_extremes_are_those_of_torch_to_the_bit(
    seed: int, rows: int, size: int, scale: float, offset: float
) -> None:
    maps = random_maps(seed, rows, size, scale, offset)
    extremes = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    assert torch.equal(find_extremes(maps), extremes)
    expected = without_kernels(quantise, maps, extremes.double(), extremes)
    assert torch.equal(quantise(maps, extremes.double()), expected)
    found = quantise_between_extremes(maps)
    if found is not None:
        assert np.array_equal(found[0], extremes.numpy())
        assert np.array_equal(found[1], expected.numpy())
    else:
        span = (extremes[1].double() - extremes[0].double()).clamp(min=1e-300)
        assert extremes.abs().max() > 1.7e38 or (TOP / span[extremes[0] != extremes[1]]).max() > 3.4e38


@settings(max_examples=100, deadline=None)
@given(some.integers(0, 1000), some.integers(1, 9), some.integers(1, 99), some.floats(0, 2), some.floats(0, 2))
def test_values_outside_their_limits_become_the_last_codes_as_by_torch(
    seed: int, rows: int, size: int, below: float, above: float
) -> None:
    maps = random_maps(seed, rows, size, 1e6, 0)
    limits = torch.tensor([-below, above], dtype=torch.float64)[:, None, None].expand(2, 1, rows).contiguous()
    assert torch.equal(quantise(maps, limits), without_kernels(quantise, maps, limits))


@pytest.mark.parametrize("value", [torch.nan, -torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("place", [0, 31, 32, 95, 99])
def test_a_value_that_is_not_finite_is_seen_wherever_it_is(value: float, place: int) -> None:
    maps = random_maps(0, 3, 100, 1, 0)
    maps[0, 1, 0, place] = value
    assert not kernels.extremes(maps.numpy(), np.empty((2, 3), np.float32))
    assert quantise_between_extremes(maps) is None
    extremes = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    assert torch.equal(find_extremes(maps).nan_to_num(), extremes.nan_to_num())
    one, other = BatchDrawing(maps, STANDARD), BatchDrawing(maps, STANDARD)
    one.settle(pixels=True)
    expected = without_kernels(lambda: other.pictures(0)[0].pixels)
    assert np.array_equal(one.pictures(0)[0].pixels, expected)
    assert one.facts(0) == other.facts(0)


def test_maps_that_lie_otherwise_are_left_to_torch() -> None:
    maps = torch.randn(2, 6, 5, 4)
    for other in (
        maps.contiguous(memory_format=torch.channels_last),
        maps[:, ::2],
        maps.double(),
        torch._neg_view(maps),
        maps[:, :0],
    ):
        assert quantise_between_extremes(other) is None
    extremes = find_extremes(torch._neg_view(maps))
    assert torch.equal(extremes, torch.stack((-maps.amax((2, 3)), -maps.amin((2, 3)))))


@settings(max_examples=300, deadline=None)
@given(
    some.tuples(some.integers(1, 3), some.integers(1, 14), some.integers(1, 7), some.integers(1, 7)),
    some.integers(1, 14),
    some.integers(1, 5),
    some.integers(0, 3),
)
def test_tiles_lie_as_torch_lays_them(shape: tuple[int, int, int, int], columns: int, factor: int, gap: int) -> None:
    codes = torch.arange(math.prod(shape)).remainder(LEVELS).byte().reshape(shape)
    columns = min(columns, shape[1])
    lines = tilers._lay(codes, columns, factor, gap)
    assert torch.equal(lines, tilers._lay_by_torch(codes, columns, factor, gap))
    assert not lines[..., 0].any()


def test_buffers_that_do_not_fit_are_refused_before_anything_is_written() -> None:
    values, codes = np.zeros(12, np.float32), np.full(12, 7, np.uint8)
    wrong: list[tuple[Any, ...]] = [
        (kernels.extremes, values, np.empty((2, 5), np.float32)),
        (kernels.extremes, values, np.empty(0, np.float32)),
        (kernels.quantise, values, np.empty((3, 4), np.float32), codes[:11], TOP),
        (kernels.quantise, values, np.empty((3, 5), np.float32), codes, TOP),
        (kernels.quantise_between_extremes, values, np.empty((2, 4), np.float32), codes[:11], TOP),
        (kernels.quantise_between_extremes, values[:0], np.empty((2, 4), np.float32), codes[:0], TOP),
        (kernels.lay, codes, np.empty(19, np.uint8), 1, 3, 2, 2, 2, 1, 1, BACKGROUND),
        (kernels.lay, codes, np.empty(20, np.uint8), 0, 3, 2, 2, 2, 1, 1, BACKGROUND),
        (kernels.lay, codes, np.empty(20, np.uint8), 1, 3, 2, 2, 0, 1, 1, BACKGROUND),
        (kernels.lay, codes, np.empty(20, np.uint8), 1, 3, 2, 2, 2, 1, -1, BACKGROUND),
    ]
    for kernel, *arguments in wrong:
        with pytest.raises(ValueError, match="do not fit"):
            kernel(*arguments)
    with pytest.raises((ValueError, BufferError)):
        kernels.extremes(values[::2], np.empty((2, 2), np.float32))
    assert (codes == 7).all()

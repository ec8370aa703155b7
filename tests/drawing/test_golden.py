"""Golden pixels: pictures of fixed tensors, compared byte for byte with those that were once reviewed by eye."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.normalizers import Fixed, MinMax, Percentile, Symmetric
from surgery.builtin.tilers import Channels, Grid, Strip
from surgery.drawing import compiled_kernels
from surgery.drawing.batch_drawing import BatchDrawing


def waves(*shape: int, scale: float = 1.0, shift: float = 0.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor computed by integer arithmetic alone, so that it is the same on every machine."""
    count = int(np.prod(shape))
    steps = (np.arange(count, dtype=np.int64) * 7919 + np.arange(count, dtype=np.int64) ** 2 % 10007) % 65536
    return (torch.from_numpy(steps).double().reshape(shape) / 32768 * scale + shift).to(dtype)


def spoiled() -> Tensor:
    values = waves(2, 5, 9, 7)
    values[0, 0, 0, 0], values[1, 2, 3, 3], values[1, 2, 0, 3] = torch.nan, torch.inf, -torch.inf
    values[0, 1] = 4.25
    values[0, 2] = torch.nan
    return values


CASES: dict[str, tuple[Tensor, dict[str, Any]]] = {
    "maps": (waves(2, 12, 33, 40), {}),
    "many small maps": (waves(2, 300, 2, 2), {}),
    "maps of one value": (waves(3, 70, 1, 1), {}),
    "large maps": (waves(1, 3, 300, 500), {}),
    "more than a block": (waves(2, 40, 70, 90, scale=1e-3, shift=5), {}),
    "strided": (waves(2, 16, 24, 6).permute(0, 3, 1, 2), {}),
    "spoiled": (spoiled(), {}),
    "vector": (waves(2, 1000), {}),
    "tokens": (waves(2, 50, 96), {}),
    "volume": (waves(2, 4, 3, 10, 11), {}),
    "half": (waves(2, 6, 20, 20, dtype=torch.float16), {}),
    "double": (waves(2, 6, 20, 20, scale=1e-9, shift=1e6, dtype=torch.float64), {}),
    "integers": (waves(2, 6, 20, 20, scale=1e6, dtype=torch.int64), {}),
    "per layer": (waves(2, 6, 20, 20), {"normalizer": MinMax("layer")}),
    "per batch": (waves(2, 6, 20, 20), {"normalizer": MinMax("batch")}),
    "symmetric": (waves(2, 6, 20, 20, shift=-0.5), {"normalizer": Symmetric()}),
    "fixed": (waves(2, 6, 20, 20), {"normalizer": Fixed(0.25, 1.5)}),
    "percentile": (waves(2, 6, 20, 20), {"normalizer": Percentile(2, 98)}),
    "percentile per layer": (waves(2, 6, 10, 10), {"normalizer": Percentile(2, 98, "layer")}),
    "strip": (waves(2, 6, 5, 5), {"tiler": Strip(gap=2)}),
    "channels": (waves(2, 6, 20, 20), {"tiler": Channels()}),
    "columns": (waves(2, 7, 20, 20), {"tiler": Grid(columns=3, gap=0, limit=5)}),
    "colormap": (waves(2, 6, 20, 20), {"colormap": "magma"}),
}

GOLDEN = {
    "maps": "e80a5e0f2b3b54ad",
    "many small maps": "30f350a1e282518f",
    "maps of one value": "dcc9b475230c0a8b",
    "large maps": "2b57bfdfc3f273ce",
    "more than a block": "2e42f1e6d567e28a",
    "strided": "bb146e4a1f323b75",
    "spoiled": "23022265c6a6a2cc",
    "vector": "0ab0c3cfba5d7872",
    "tokens": "c7fdc7bec0670987",
    "volume": "179c188de2aeb057",
    "half": "ff148b96807fc2cc",
    "double": "e6dd544aab17911f",
    "integers": "0753ee9562943f60",
    "per layer": "27e1db2b58bbdf37",
    "per batch": "2aed31c0f8825218",
    "symmetric": "6c78e2c16464e174",
    "fixed": "67e6b27cfd4521cd",
    "percentile": "7eb4ff0928ef7b6b",
    "percentile per layer": "cc90dfa79f3c1bf4",
    "strip": "4f1c4c742206258b",
    "channels": "6a1d244e0b14560b",
    "columns": "3aa96e78a14c1053",
    "colormap": "581e095a61215013",
}


def digest(pictures: tuple[surgery.Picture, ...]) -> str:
    total = hashlib.sha256()
    for picture in pictures:
        assert picture.palette is not None
        total.update(str(picture.pixels.shape).encode())
        total.update(np.ascontiguousarray(picture.pixels).tobytes())
        total.update(picture.palette.tobytes())
        total.update(np.stack([picture.low, picture.high]).tobytes())
    return total.hexdigest()[:16]


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "by torch"])
@pytest.mark.parametrize("name", CASES)
def test_pictures_have_their_golden_pixels(name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not compiled:
        monkeypatch.setattr(compiled_kernels, "kernels", None)
    values, stages = CASES[name]
    assert digest(surgery.draw(values, **stages)) == GOLDEN[name]
    quantized = BatchDrawing(values, replace(DEFAULT_RECIPE, **stages))
    quantized.quantize_now(pixels=True)
    pictures = tuple(picture for position in range(len(values)) for picture in quantized.pictures(position))
    assert digest(pictures) == GOLDEN[name]

"""Runs of models that have no graph: they take another way from image to image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.errors import TraceError


class Branch(nn.Module):
    """Takes bright images and dark images through different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bright = nn.Conv2d(4, 3, 1)
        self.dark = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        if x.mean() > 0:
            return self.bright(h)
        return self.dark(torch.relu(h))


@pytest.fixture
def make_images(tmp_path: Path) -> Any:
    """Return a function that makes gray images of given brightnesses from 0 to 255, and returns their folder."""

    def make(*levels: int, size: int = 8) -> Path:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for number, level in enumerate(levels):
            pixels = np.full((size, size, 3), level, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return folder

    return make


def test_the_first_image_is_the_example_of_a_model_that_only_observing_takes(tmp_path: Path, make_images: Any) -> None:
    report = surgery.extract(Branch(), make_images(10), out=tmp_path / "out")
    assert [summary.operation.path for summary in report.summaries] == [
        *("input", "stem", "mean", "gt", "relu", "dark", "output")
    ]


def test_a_first_image_that_the_model_cant_take_is_one_failure_among_others(tmp_path: Path, make_images: Any) -> None:
    folder = make_images(10, 20, 30)
    Image.new("RGB", (3, 3)).save(folder / "0.png")
    model = nn.Sequential(nn.Conv2d(3, 3, 5), nn.ReLU())
    report = surgery.extract(model, folder, out=tmp_path / "out")
    assert (report.images, [Path(failure.path).name for failure in report.failed]) == (2, ["0.png"])
    with pytest.raises(TraceError, match=r"the example of shape \(1, 3, 3, 3\) does not run: "):
        surgery.extract(model, folder, out=tmp_path / "other", front_end="observed")

"""A drawing for the tests."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.drawing.batch_drawing import BatchDrawing
from surgery.stages import Recipe
from surgery.types import Operation

OPERATION = Operation("f", "f", "f", 1)


def make_drawing(values: Tensor, **stages: Any) -> BatchDrawing:
    """Return a drawing of the values with other stages than the default ones."""
    return BatchDrawing(values, Recipe(stages.pop("normalizer", MinMax()), stages.pop("tiler", Grid()), **stages))

"""How activations are drawn where nothing else is asked for."""

from __future__ import annotations

from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.stages import Recipe

DEFAULT_RECIPE: Recipe = Recipe(MinMax(), Grid())

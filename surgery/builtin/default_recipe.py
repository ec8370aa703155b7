"""How activations are drawn by default."""

from __future__ import annotations

from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.stages import Recipe

DEFAULT_RECIPE: Recipe = Recipe(MinMax(), Grid())
"""Each channel from its least to its greatest value, all channels in one grid."""

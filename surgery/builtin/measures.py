"""The measures that come with the project, by name: numbers of the channels of an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin.channel_measures import Constant, Dead, ModeGap, NotFinite, Outliers, Rank, Saturated, Sparsity
from surgery.builtin.pattern_measures import Aliasing, Checkerboard, Grid, Overlap
from surgery.builtin.periodic_patterns import Periodic

if TYPE_CHECKING:
    from surgery.stages import Measure

MEASURES: dict[str, Measure] = {
    "dead": Dead(),
    "constant": Constant(),
    "sparsity": Sparsity(),
    "saturated": Saturated(),
    "not-finite": NotFinite(),
    "outliers": Outliers(),
    "rank": Rank(),
    "mode-gap": ModeGap(),
    "checkerboard": Checkerboard(),
    "periodic": Periodic(),
    "overlap": Overlap(),
    "grid": Grid(),
    "aliasing": Aliasing(),
}

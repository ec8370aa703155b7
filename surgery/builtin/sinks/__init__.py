"""The sinks that come with the project: pictures, sheets, the page for a browser, archives and statistics of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin.sinks.page import Page
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.statistics import Statistics
from surgery.builtin.sinks.tensor_archives import Npz, Safetensors

if TYPE_CHECKING:
    from surgery.stages import Sink

SINKS: dict[str, Sink] = {
    "png": Png(),
    "sheet": Sheet(),
    "page": Page(),
    "npz": Npz(),
    "safetensors": Safetensors(),
    "stats": Statistics(),
}

__all__ = ["SINKS", "Npz", "Page", "Png", "Safetensors", "Sheet", "Statistics"]

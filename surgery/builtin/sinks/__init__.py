"""The sinks that come with the project: pictures, overview sheets, the page for a browser, archives of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin.sinks.page import Page
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz, Safetensors

if TYPE_CHECKING:
    from surgery.stages import Sink

SINKS: dict[str, Sink] = {
    "png": Png(),
    "sheet": Sheet(),
    "page": Page(),
    "npz": Npz(),
    "safetensors": Safetensors(),
}

__all__ = ["SINKS", "Npz", "Page", "Png", "Safetensors", "Sheet"]

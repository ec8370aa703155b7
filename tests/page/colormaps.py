"""The colormaps of the page. `python -m tests.page.colormaps` makes `surgery/page/app/colormaps.js` of cmap's."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cmap
import numpy as np
import orjson
from numpy.typing import NDArray

SCRIPT = Path(__file__).parents[2] / "surgery" / "page" / "app" / "colormaps.js"
STOPS = (2, 3, 5, 9, 17, 33, 65, 129)
"""Numbers of evenly spaced colors between which the page interpolates."""
TOLERANCE = 8
"""How far an interpolated color may be from the true one, of 255; 4 for fewer than 129 stops."""
_VARIANT = re.compile(r"_?\d+$")


def sample(name: str, count: int) -> NDArray[np.float64]:
    """Return `count` colors of a colormap of cmap, ``(count, 3)``, from 0 to 255."""
    return (np.asarray(cmap.Colormap(name)(np.linspace(0, 1, count)))[:, :3] * 255).round()


def interpolate(stops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the colors at all 251 levels, ``(251, 3)``, as the page does."""
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(np.linspace(0, 1, 251), places, stops[:, channel]) for channel in range(3)], 1)


def find_stops(name: str) -> NDArray[np.float64] | None:
    """Return the fewest stops that are near enough to a colormap; None if there are none."""
    true = sample(name, 251)
    for count in STOPS:
        stops = sample(name, count)
        if abs(interpolate(stops) - true).max() <= (TOLERANCE if count == STOPS[-1] else 4):
            return stops
    return None


def make_script() -> bytes:
    """Return the script with all colormaps of cmap that have few stops, but those of discrete colors."""
    catalog = cmap.Catalog()
    colormaps: dict[str, list[str]] = {}
    for name in sorted(catalog.unique_keys(prefer_short_names=True), key=str.lower):
        item = catalog[name]
        is_variant = item.namespace in ("colorbrewer", "tol") and _VARIANT.search(name)
        if item.category != "qualitative" and not is_variant and (stops := find_stops(name)) is not None:
            colormaps[name] = [item.category, stops.astype(np.uint8).tobytes().hex()]
    note = "// Made of the colormaps of cmap by `python -m tests.page.colormaps`: category, and evenly spaced colors.\n"
    lines = ",\n".join(orjson.dumps({name: value})[1:-1].decode() for name, value in colormaps.items())
    return f"{note}surgeryPage.colormaps({{\n{lines}\n}});\n".encode()


if __name__ == "__main__":
    sys.stdout.write(f"{SCRIPT.write_bytes(make_script())} bytes\n")

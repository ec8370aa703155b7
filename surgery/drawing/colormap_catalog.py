"""The names of the colormaps in the `cmap` library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache


class _Catalog(Mapping[str, str]):
    """Name of a colormap -> its name in cmap. Case is ignored, and the suffix ``_r`` reverses a colormap."""

    def __getitem__(self, name: str) -> str:
        names = _names()
        bare = name.lower().removesuffix("_r")
        if name.lower() in names:
            return names[name.lower()]
        if bare in names:
            return names[bare] + "_r"
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(set(_names().values()), key=str.lower))

    def __len__(self) -> int:
        return len(set(_names().values()))


@cache
def _names() -> dict[str, str]:
    """Return lower-case name -> name in cmap, for short and qualified names (``magma``, ``bids:magma``)."""
    import cmap

    catalog = cmap.Catalog()
    return {name.lower(): name for name in catalog}


COLORMAPS: Mapping[str, str] = _Catalog()

"""The colormaps that come with the project: all that the `cmap` library knows, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache


class _Catalog(Mapping[str, str]):
    """The names of cmap's catalog, each its own value, in any case; `_r` behind a name turns it around."""

    def __getitem__(self, name: str) -> str:
        known = _names()
        bare = name.lower().removesuffix("_r")
        if name.lower() in known:
            return known[name.lower()]
        if bare in known:
            return known[bare] + "_r"
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(set(_names().values()), key=str.lower))

    def __len__(self) -> int:
        return len(set(_names().values()))


@cache
def _names() -> dict[str, str]:
    """Lower-case name -> name as cmap has it; `magma` and `bids:magma` alike."""
    import cmap

    catalog = cmap.Catalog()
    return {name.lower(): name for name in catalog}


COLORMAPS: Mapping[str, str] = _Catalog()

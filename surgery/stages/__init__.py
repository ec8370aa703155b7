"""The protocols that plugins implement, the preprocessing that a model needs, and the recipe of a picture.

Nothing is computed here: plugins write functions and classes of these forms, and the rooms above call them. The letters
in shapes are those of `surgery.types`: B images, C channels, H height, W width, N pictures.
"""

from typing import Any
from warnings import warn

import lazy_loader

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def _former_layout(shown: int, *args: Any, **options: Any) -> Any:
    return _find("TileLayout")(shown, *args, **options)


def __getattr__(name: str) -> Any:
    """Return a public name; under the former name `Layout`, for one release, a function that makes a `TileLayout`."""
    if name != "Layout":
        if name not in __all__ and not name.endswith("_stages"):
            raise AttributeError(f"module 'surgery.stages' has no attribute {name!r}")
        return _find(name)
    warn("surgery.stages.Layout is now called TileLayout", DeprecationWarning, stacklevel=2)
    return _former_layout

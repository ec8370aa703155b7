"""Stages by their names, in Python as on the command line: ``"percentile:low=2"`` is a `Percentile(low=2)`."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from surgery.drawing import palette
from surgery.errors import RenderError
from surgery.plugins import Plugins
from surgery.stages import Recipe

if TYPE_CHECKING:
    from surgery.plugins import Kind


class StageResolver:
    """What a function was given as stages: values as they are, and for names what `plugins` offer.

    Without `plugins` they are looked for as the command line looks for them, once a name is asked for.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._explicit_plugins = plugins

    def resolve(self, kind: Kind, given: Any) -> Any:
        """The stage of a kind. Raises PluginError for a name that nobody offers, RenderError for what is no stage."""
        if isinstance(given, str):
            if kind == "colormap":  # a name that no plugin offers may be one that `cmap` reads, such as "red"
                found = self._plugins.find(kind, given)
                if found is not None:
                    return found[1]
                palette(given)  # which raises for what is none
                return given
            return self._plugins.resolve(kind, given)
        if kind != "colormap" and not callable(given):
            raise RenderError(f"a {kind} is a name, such as {_EXAMPLES[kind]!r}, or a function, not {given!r:.60}")
        return given

    def resolve_all(self, kind: Kind, given: Any) -> tuple[Any, ...]:
        """The stages of a kind, of one or a sequence of them."""
        if isinstance(given, str) or callable(given):
            return (self.resolve(kind, given),)
        try:
            return tuple(self.resolve(kind, each) for each in given)
        except TypeError as error:
            if hasattr(given, "__iter__"):
                raise
            raise RenderError(f"{kind}s are a list of names or functions, not {given!r:.60}") from error

    def recipe(self, normalizer: Any, tiler: Any, colormap: Any, transforms: Any) -> Recipe:
        """How activations are drawn by these stages."""
        return Recipe(
            self.resolve("normalizer", normalizer),
            self.resolve("tiler", tiler),
            self.resolve("colormap", colormap),
            transforms=self.resolve_all("transform", transforms),
        )

    @cached_property
    def _plugins(self) -> Plugins:
        return self._explicit_plugins or Plugins()


_EXAMPLES = {
    "transform": "topk:k=4",
    "normalizer": "percentile:low=2",
    "tiler": "grid:columns=8",
    "sink": "png",
    "reader": "tensor:key=x",
}

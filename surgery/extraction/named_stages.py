"""Stages by name, in Python as on the command line: ``"percentile:low=2"`` becomes ``Percentile(low=2)``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from surgery.drawing import make_palette
from surgery.errors import RenderError
from surgery.plugins import Plugins, format_stage
from surgery.stages import Recipe
from surgery.text import describe_stage

if TYPE_CHECKING:
    from surgery.plugins import Kind


class StageResolver:
    """Returns stages for the arguments of a function: values as they are, and for names what `plugins` offer.

    Without `plugins`, the first name loads those that the command line finds.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._explicit_plugins = plugins

    def resolve(self, kind: Kind, stage: Any) -> Any:
        """Return a stage for a value or a name.

        Raises PluginError for a name that no plugin offers, and RenderError for a value that can't be a stage.
        """
        if isinstance(stage, str):
            if kind == "colormap":  # a name that no plugin offers may be one that `cmap` reads, such as "red"
                found = self._plugins.find(kind, stage)
                if found is not None:
                    return found[1]
                make_palette(stage)  # raises an error for any other text
                return stage
            return self._plugins.resolve(kind, stage)
        if kind != "colormap" and not callable(stage):
            article = "an" if kind[0] in "aeiou" else "a"
            raise RenderError(
                f"{article} {kind} is a name, such as {_EXAMPLES[kind]!r}, or a function, not {stage!r:.60}"
            )
        if isinstance(stage, type) and any("__call__" in vars(each) for each in stage.__mro__):
            raise RenderError(f"{kind} {stage.__name__} is a class; give a value of it, such as {stage.__name__}()")
        return stage

    def resolve_all(self, kind: Kind, stages: Any) -> tuple[Any, ...]:
        """Return stages for one value or name, or for a sequence of them."""
        if isinstance(stages, str) or callable(stages):
            return (self.resolve(kind, stages),)
        try:
            return tuple(self.resolve(kind, each) for each in stages)
        except TypeError as error:
            if hasattr(stages, "__iter__"):
                raise
            raise RenderError(f"{kind}s are a list of names or functions, not {stages!r:.60}") from error

    def measures(self, measures: Any) -> dict[str, Any]:
        """Return measures by name: the text of each, or for one that has none, what it is."""
        given = [measures] if isinstance(measures, str) or callable(measures) else measures
        texts = [each if isinstance(each, str) else format_stage("measure", each, self._plugins) for each in given]
        resolved = self.resolve_all("measure", measures)
        return {text or describe_stage(each): each for text, each in zip(texts, resolved, strict=True)}

    def recipe(self, normalizer: Any, tiler: Any, colormap: Any, transforms: Any) -> Recipe:
        """Return the recipe of these stages, which are values or names."""
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
    "edit": "zero:channels=0-15",
    "measure": "checkerboard:stride=4",
    "sink": "png",
    "reader": "tensor:key=x",
    "engine": "processes:workers=4",
}

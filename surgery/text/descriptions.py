"""Stages in words, as messages and manifests name them."""

from __future__ import annotations

FILE_PLUGIN_PREFIX = "surgery_plugin_"
"""With this begins the name of the package that the file of a plugin is imported into."""


def describe_stage(stage: object) -> str:
    """A stage in words: ``MinMax(per='channel')`` of a dataclass, ``module.name`` of a function, a name as it is."""
    if isinstance(stage, str):
        return stage
    if stage is None:
        return "default"
    name = getattr(stage, "__qualname__", None)
    return f"{displayed_module_name(getattr(stage, '__module__', '?'))}.{name}" if name is not None else repr(stage)


def displayed_module_name(module: str) -> str:
    """A module's name as its author knows it, ``ember`` of ``surgery_plugin_colors.ember``."""
    return module.partition(".")[2] or module if module.startswith(FILE_PLUGIN_PREFIX) else module

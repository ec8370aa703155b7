"""Stages as text, for messages and manifests."""

from __future__ import annotations

FILE_PLUGIN_PREFIX = "surgery_plugin_"
"""The prefix of the package that a plugin's file is imported into."""


def describe_stage(stage: object) -> str:
    """Return ``module.name`` of a function, the repr of a dataclass (``MinMax(per='channel')``), or a text as it is."""
    if isinstance(stage, str):
        return stage
    if stage is None:
        return "default"
    name = getattr(stage, "__qualname__", None)
    return f"{displayed_module_name(getattr(stage, '__module__', '?'))}.{name}" if name is not None else repr(stage)


def displayed_module_name(module: str) -> str:
    """Return the name by which its author knows a module: ``ember`` for ``surgery_plugin_colors.ember``."""
    return module.partition(".")[2] or module if module.startswith(FILE_PLUGIN_PREFIX) else module

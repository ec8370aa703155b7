"""The text of a stage, by which a user would ask for it: the inverse of looking up a name with options."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import SurgeryError
from surgery.plugins.options import format_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.plugins.object_kinds import Kind
    from surgery.plugins.registry import Plugins


def format_stage(kind: Kind, stage: Any, plugins: Plugins) -> str | None:
    """Return the text that `plugins` resolve to this stage, ``zero:channels=0-15``, with the options that it needs.

    The plugin is named only if the name alone means another object. None if no text gives this stage: one that no
    plugin offers, or one with an option that can't be written, such as a tensor.
    """
    if isinstance(stage, str):
        return stage
    for plugin, objects in plugins.iterate_offers(kind):
        texts = sorted(_texts(stage, objects), key=len)
        for text in (*texts, *(f"{plugin.name}:{text}" for text in texts)):
            if _resolves_to(stage, kind, text, plugins):
                return text
    return None


def _texts(stage: Any, objects: Any) -> Iterator[str]:
    """Yield the texts of a stage by the names that a plugin offers."""
    for name, offered in objects.items():
        if offered is stage:
            yield name
        elif is_dataclass(stage) and type(offered) is type(stage):
            options = format_options(stage, offered)
            if options is not None:
                yield f"{name}:{options}" if options else name


def _resolves_to(stage: Any, kind: Kind, text: str, plugins: Plugins) -> bool:
    try:
        found = plugins.resolve(kind, text)
        return found is stage or (type(found) is type(stage) and bool(found == stage))
    except SurgeryError:
        return False

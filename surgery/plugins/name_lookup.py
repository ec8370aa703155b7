"""The lookup of a name, with options, among the objects that plugins offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.errors import PluginError
from surgery.plugins.discovery import normalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from surgery.plugins.object_kinds import Kind
    from surgery.plugins.plugin import Plugin

Offers: TypeAlias = "tuple[Plugin, Mapping[str, Any]]"
"""A plugin and the objects of one kind that it offers, by name."""


@dataclass(frozen=True, slots=True)
class Match:
    """An object that was found by name."""

    name: str
    plugin: Plugin
    value: Any
    options: str
    """The text after the name: ``columns=8,gap=2``; empty if there is none."""


def find_match(kind: Kind, text: str, offers: Sequence[Offers], builtin: Plugin) -> Match | None:
    """Find the object that a text names: ``grid``, ``grid:columns=8``, ``surgery-ember:embers``.

    A colon may be part of the name, or separate the plugin or the options from it; the longest name is tried first.
    Returns None if no plugin offers the name. Raises PluginError if several plugins do; only of colormaps, another
    plugin's precedes the built-in one, since the built-in catalog has 1,500 names.
    """
    for name, options in _split(text):
        matches = [Match(name, plugin, objects[name], options) for plugin, objects in offers if name in objects]
        if not matches and ":" in name:
            owner, _, bare_name = name.partition(":")
            matches = [
                Match(name, plugin, objects[bare_name], options)
                for plugin, objects in offers
                if normalize_name(plugin.name) == normalize_name(owner) and bare_name in objects
            ]
        if len(matches) > 1 and kind == "colormap":
            matches = [match for match in matches if match.plugin is not builtin]
        if len(matches) > 1:
            names = " and ".join(match.plugin.name for match in matches)
            both = "both " if len(matches) == 2 else ""
            raise PluginError(f"{kind} {name!r} is offered by {both}{names}; write {matches[-1].plugin.name}:{name}")
        if matches:
            return matches[0]
    return None


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Yield each way to split a text into a name and options, the longest name first."""
    colons = [index for index, character in enumerate(text) if character == ":"]
    for end in (len(text), *reversed(colons)):
        name, options = text[:end], text[end + 1 :]
        if not options or "=" in options:
            yield name, options

"""All that a name stands for: of which kind, whose it is, what it says of itself, its options, and a sample."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError, did_you_mean
from surgery.plugins.options import Option, list_options
from surgery.plugins.plugin import KINDS
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from surgery.plugins.plugin import Kind, Plugin
    from surgery.plugins.registry import Plugins


CONFIGURABLE_KINDS = ("transform", "normalizer", "tiler", "sink", "reader")
"""Kinds of which a command line sets options."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One thing that a name stands for."""

    kind: Kind
    name: str
    """As it was asked for, with options."""
    plugin: Plugin
    value: Any
    summary: str
    """The first line of its docstring, or what it is in a few words."""
    options: tuple[Option, ...]
    option_notes: dict[str, str]
    """What its author wrote below an option."""


def find_entries(name: str, plugins: Plugins) -> list[CatalogEntry]:
    """Everything that is called `name`, with the options behind its colon, whatever its kind.

    Raises PluginError where nothing is called so, or where its options are wrong.
    """
    found: list[CatalogEntry] = []
    refused: PluginError | None = None
    for kind in KINDS:
        try:
            known = plugins.find(kind, name) or (_find_family_member(name, plugins) if kind == "model" else None)
        except PluginError as error:  # its options may be those of another kind
            refused = refused or error
            continue
        if known is not None:
            owner, thing = known
            options = tuple(list_options(thing)) if kind in CONFIGURABLE_KINDS else ()
            found.append(CatalogEntry(kind, name, owner, thing, summarize(thing), options, _read_option_notes(thing)))
    if found:
        return found
    if refused is not None:
        raise refused
    asked = name.partition(":")[0] if "=" in name else name
    names = [known for kind in KINDS for known in plugins.names(kind)]
    near = did_you_mean(asked, names) or "; `surgery plugins` lists what there is"
    raise PluginError(f"nothing is called {asked!r}{near}")


def _find_family_member(name: str, plugins: Plugins) -> tuple[Plugin, Any] | None:
    """One of a family of models, under ``family/name``."""
    family, slash, bare = name.partition("/")
    known = plugins.find("model", family) if slash else None
    if known is None or not isinstance(known[1], ModelFamily):
        return None
    return known[0], partial(known[1].build, bare)


def summarize(thing: Any) -> str:
    """The first line of a thing's docstring; of colors, how many and which; else nothing."""
    if isinstance(thing, str):
        return f"cmap's {thing}"
    if isinstance(thing, (list, tuple)):
        shown = ", ".join(map(str, thing[:6]))
        return f"{len(thing)} colors: {shown}{' and more' if len(thing) > 6 else ''}"
    if isinstance(thing, partial):
        return summarize(thing.func)
    described = thing if inspect.isroutine(thing) or inspect.isclass(thing) else type(thing)
    text = inspect.cleandoc(described.__doc__ or "")
    generated = is_dataclass(described) and text.startswith(f"{described.__name__}(")
    ours = getattr(described, "__module__", None) not in ("builtins", "numpy", "surgery.types")
    return text.partition("\n")[0] if ours and not generated else ""


def _read_option_notes(thing: Any) -> dict[str, str]:
    """The strings that stand below the fields of a dataclass, as far as its source can be had."""
    if not is_dataclass(thing):
        return {}
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(type(thing)))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    notes = {}
    for field, note in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
            text = note.value.value if isinstance(note.value, ast.Constant) else None
            if isinstance(text, str):
                notes[field.target.id] = " ".join(text.split())
    return notes

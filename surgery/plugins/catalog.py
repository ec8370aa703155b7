"""Everything that a name refers to: for each kind the object, its plugin, its documentation and its options."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from dataclasses import dataclass, is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError, did_you_mean
from surgery.plugins.object_kinds import KINDS
from surgery.plugins.options import Option, list_options
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from surgery.plugins.object_kinds import Kind
    from surgery.plugins.plugin import Plugin
    from surgery.plugins.registry import Plugins


_KINDS_WITH_OPTIONS = ("transform", "normalizer", "tiler", "edit", "measure", "sink", "reader", "engine")


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One object that a name refers to."""

    kind: Kind
    name: str
    """The name as it was requested, with options."""
    plugin: Plugin
    value: Any
    summary: str
    """The first line of its docstring, or a few words on what it is; empty if it has no docstring."""
    options: tuple[Option, ...]
    option_notes: dict[str, str]
    """The string that its author wrote below the field of an option, by the name of the option."""


def find_entries(name: str, plugins: Plugins) -> list[CatalogEntry]:
    """Return the objects of every kind that a name refers to, with the options after its colon set.

    Raises PluginError for an unknown name, and for options that no kind accepts.
    """
    entries: list[CatalogEntry] = []
    first_error: PluginError | None = None
    for kind in KINDS:
        try:
            found = plugins.find(kind, name) or (_find_family_member(name, plugins) if kind == "model" else None)
        except PluginError as error:  # the options may be those of another kind
            first_error = first_error or error
            continue
        if found is not None:
            plugin, value = found
            options = tuple(list_options(value)) if kind in _KINDS_WITH_OPTIONS else ()
            entries.append(CatalogEntry(kind, name, plugin, value, _summarize(value), options, _option_notes(value)))
    if entries:
        return entries
    if first_error is not None:
        raise first_error
    bare_name = name.partition(":")[0] if "=" in name else name
    known = [known for kind in KINDS for known in plugins.names(kind)]
    hint = did_you_mean(bare_name, known) or "; `surgery plugins` lists what there is"
    raise PluginError(f"nothing is called {bare_name!r}{hint}")


def _find_family_member(name: str, plugins: Plugins) -> tuple[Plugin, Any] | None:
    """Return the plugin and a factory of the model ``family/name``, or None if there is no such family."""
    family, slash, member = name.partition("/")
    found = plugins.find("model", family) if slash else None
    if found is None or not isinstance(found[1], ModelFamily):
        return None
    return found[0], partial(found[1].build, member)


def _summarize(value: Any) -> str:
    """Return the first line of an object's docstring; of a list of colors, their number and the first six."""
    if isinstance(value, str):
        return f"cmap's {value}"
    if isinstance(value, (list, tuple)):
        first = ", ".join(map(str, value[:6]))
        return f"{len(value)} colors: {first}{' and more' if len(value) > 6 else ''}"
    if isinstance(value, partial):
        return _summarize(value.func)
    documented = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    if getattr(documented, "__module__", None) in ("builtins", "numpy", "surgery.stages"):
        return ""  # the docstring is that of a general type
    text = inspect.cleandoc(documented.__doc__ or "")
    is_generated = is_dataclass(documented) and text.startswith(f"{documented.__name__}(")
    return "" if is_generated else text.partition("\n")[0]


def _option_notes(value: Any) -> dict[str, str]:
    """Return the strings below the fields of a dataclass and of its bases; none where a source can't be read."""
    notes: dict[str, str] = {}
    for kind in reversed(type(value).__mro__):
        if is_dataclass(kind):
            notes |= _field_notes(kind)
    return notes


def _field_notes(kind: type) -> dict[str, str]:
    """Return the strings below the fields in the body of a class; none if its source can't be read."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
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

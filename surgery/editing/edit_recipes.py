"""Recipes of edits as plain data: texts such as ``up3.cat = zero:channels=0-15``, from files and models too."""

from __future__ import annotations

import ast
import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from torch import nn

from surgery.editing.edits import edit, edit_text, resolve_edit
from surgery.errors import EditError, OutputError
from surgery.output import ManifestReader
from surgery.rewriting import Selection, find_edits, original_path, parse_selection
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from surgery.layouts import RequestedLayouts
    from surgery.plugins import Plugins
    from surgery.stages import Edit

MAX_EDITS = 1000
"""The most edits that are read from a file. Each is a copy of the model."""
EditRecipe: TypeAlias = "Sequence[str | tuple[Selection | str, Edit | str]]"
"""Edits in the order in which they are applied: a text, or a selection and an edit, each as `edit` takes it."""

T = TypeVar("T", bound=nn.Module)


def apply_edits(
    traced: T,
    recipe: EditRecipe,
    *,
    layout: RequestedLayouts = None,
    reference: Any = None,
    seed: int = 0,
    plugins: Plugins | None = None,
) -> T:
    """Return a copy of `traced` with all edits of a recipe. `edit` explains the arguments.

    Raises EditError for a text that is no edit, and if a reference is given that no edit needs.
    """
    uses_reference = False
    for selection, change in parse_edits(recipe):
        needed = reference if hasattr(resolve_edit(change, plugins), "of_reference") else None
        uses_reference = uses_reference or needed is not None
        traced = edit(traced, selection, change, layout=layout, reference=needed, seed=seed, plugins=plugins)
    if reference is not None and not uses_reference:
        raise EditError("a reference is given, but no edit takes anything from a reference run")
    return traced


def parse_edits(recipe: EditRecipe) -> list[tuple[Selection | str, Edit | str]]:
    """Return the selection and the edit of each item of a recipe. Raises EditError and SelectionError."""
    if isinstance(recipe, str) or not isinstance(recipe, Sequence):
        raise EditError(f"edits are a list of texts such as {_EXAMPLE!r}, not {recipe!r:.60}")
    return [parse_edit(item) if isinstance(item, str) else item for item in recipe]


def parse_edit(text: str) -> tuple[Selection, str]:
    """Return the selection and the edit in a text such as ``up3.cat = zero``. Raises EditError and SelectionError."""
    at, equals, change = (part.strip() for part in text.partition("="))
    if not (at and equals and change):
        raise EditError(f"an edit is SELECTION = NAME:OPTIONS, such as {_EXAMPLE!r}, not {text!r}")
    return parse_selection(at), change


_EXAMPLE = "up3.cat = zero:channels=0-15"


def edit_texts(recipe: EditRecipe, plugins: Plugins | None = None) -> list[str]:
    """Return the edits of a recipe as texts."""
    parse_edits(recipe)
    return [item if isinstance(item, str) else f"{item[0]} = {edit_text(item[1], plugins)}" for item in recipe]


def edits_of(model: nn.Module) -> list[str]:
    """Return the edits in a rewritten model as a recipe, one text for each edited operation."""
    return [f"{original_path(each.operation.path)} = {each.change.text}" for each in find_edits(model)]


def read_edits(source: str | os.PathLike[str]) -> list[str]:
    """Return the edits with which a run was made, from its folder, its manifest, or a PNG of it.

    The result is empty for a run without edits. Raises EditError for a file that has nothing of a run.
    """
    path = Path(source)
    is_folder = os.path.isdir(path)  # noqa: PTH112 - no error for a name that is too long
    if is_folder or path.name == MANIFEST_FILE:
        try:
            settings = ManifestReader(path if is_folder else path.parent).head.get("settings")
        except OutputError as error:
            raise EditError(str(error)) from error
        found: Any = settings.get("edits", []) if isinstance(settings, dict) else None
    else:
        found = _read_png(path)
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise EditError(f"{path} has no recipe of edits: it is no run of surgery, or it is damaged")
    if len(found) > MAX_EDITS:
        raise EditError(f"{path} has {len(found):,} edits, and a recipe has at most {MAX_EDITS:,}")
    for item in found:
        parse_edit(item)
    return found


def _read_png(path: Path) -> Any:
    """Return what a PNG file says about edits, which may be anything."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as picture:
                note = json.loads(picture.text["surgery"])  # type: ignore[attr-defined]
    except (OSError, Image.DecompressionBombError) as error:
        raise EditError(f"can't read edits from {path}: it is no folder, manifest or PNG of a run") from error
    except (KeyError, ValueError, SyntaxError, RecursionError):
        return None
    edits = note.get("edits", "[]") if isinstance(note, dict) else None
    try:
        return ast.literal_eval(edits) if isinstance(edits, str) else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None

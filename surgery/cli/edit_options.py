"""The options of commands that change what a model computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from surgery.plugins import Plugins

EDITS = "Edits"
"""The panel of these options in the help text."""


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Options that say which values are changed while the model runs."""

    edit: Annotated[
        list[str],
        typer.Option(
            metavar="EDIT",
            help="Change values: 'up3.cat = zero:channels=0-15', 'op:cat = scale:by=2'. Repeatable, in this order.",
            rich_help_panel=EDITS,
        ),
    ] = field(default_factory=list)
    edits_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="The edits of an earlier run: its folder, its manifest or a PNG of it.",
            rich_help_panel=EDITS,
        ),
    ] = None

    def recipe(self, plugins: Plugins) -> list[str]:
        """Return the edits as texts. Raises EditError, SelectionError and PluginError for one that can't be read."""
        from surgery.editing import parse_edits, read_edits, resolve_edit

        texts = [*(read_edits(self.edits_from.expanduser()) if self.edits_from is not None else ()), *self.edit]
        for _, change in parse_edits(texts):
            resolve_edit(change, plugins)
        return texts


@dataclass(frozen=True, kw_only=True)
class ReferenceOptions(EditOptions):
    """The options of a command that can also run a reference set of images."""

    reference: Annotated[
        list[str],
        typer.Option(
            metavar="FILES",
            help="Images for edits that need a reference run, such as mean:over=reference. Repeatable.",
            rich_help_panel=EDITS,
        ),
    ] = field(default_factory=list)

"""The options of commands that change what a model computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from torch import nn

    from surgery.cli.input_options import InputOptions
    from surgery.layouts import RequestedLayouts
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
    reference: Annotated[
        list[str],
        typer.Option(
            metavar="FILES",
            help="Images for edits that need a reference run, such as mean:over=reference. Repeatable.",
            rich_help_panel=EDITS,
        ),
    ] = field(default_factory=list)

    def recipe(self, plugins: Plugins) -> list[str]:
        """Return the edits as texts. Raises EditError, SelectionError and PluginError for one that can't be read."""
        from surgery.editing import parse_edits, read_edits, resolve_edit

        texts = [*(read_edits(self.edits_from.expanduser()) if self.edits_from is not None else ()), *self.edit]
        for _, change in parse_edits(texts):
            resolve_edit(change, plugins)
        return texts

    def apply(
        self,
        traced: nn.Module,
        model: nn.Module,
        reading: InputOptions,
        plugins: Plugins,
        *,
        layout: RequestedLayouts = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> nn.Module:
        """Return a copy of a traced model with the edits. `model` tells how the files of the reference run are read."""
        from surgery.extraction import edit_for_run

        files = reading.find_files(model, self.reference, plugins) if self.reference else None
        return edit_for_run(
            traced, self.recipe(plugins), layout, files, model, device=device, seed=seed, plugins=plugins
        )

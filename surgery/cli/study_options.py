"""The options of commands that run a model in variants: `ablate` and `patch`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from surgery.plugins import Plugins

_STUDY = "Study"


class Order(StrEnum):
    """The order of the rows of a table and of the pictures on a sheet."""

    effect = "effect"
    execution = "execution"


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    """Options that say what is edited in one variant, how variants run, and how they are shown."""

    each: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What is edited in one variant: operation, module, channel, group:N (neighbouring channels), or all.",
            rich_help_panel=_STUDY,
        ),
    ] = "operation"
    top: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Rows of the table and pictures of the sheet, at most.", rich_help_panel=_STUDY
        ),
    ] = 16
    order: Annotated[
        Order, typer.Option(metavar="ORDER", help="By effect, or in order of execution.", rich_help_panel=_STUDY)
    ] = Order.effect
    layout: Annotated[
        list[str],
        typer.Option(
            metavar="NAME", help="How values are read as maps, as in `surgery extract`.", rich_help_panel=_STUDY
        ),
    ] = field(default_factory=list)
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Variants in a batch, at most.", rich_help_panel=_STUDY)
    ] = 8
    memory: Annotated[
        str,
        typer.Option(metavar="SIZE", help="What the values of the runs may hold: 500MB.", rich_help_panel=_STUDY),
    ] = "2GB"

    def arguments(self, plugins: Plugins) -> dict[str, Any]:
        """Return the arguments of `surgery.ablate` for these options."""
        from surgery.layouts import parse_layouts

        return {
            "each": self.each,
            "top": self.top,
            "order": self.order.value,
            "layout": parse_layouts(self.layout),
            "batch": self.batch,
            "memory": self.memory,
            "plugins": plugins,
        }

"""The options of `extract` about what a run needs, before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

_PRICE = "Price"


@dataclass(frozen=True, kw_only=True)
class EstimateOptions:
    """Options for an estimate in place of a run, and for a run that doesn't fit on the disk."""

    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Tell what the run will write and need, without running the model, and write nothing.",
            rich_help_panel=_PRICE,
        ),
    ] = False
    sample: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="With --dry-run: run N images into a temporary folder, and measure bytes, memory and seconds.",
            rich_help_panel=_PRICE,
        ),
    ] = 0
    json: Annotated[
        bool, typer.Option("--json", help="With --dry-run: print JSON, a line for each model.", rich_help_panel=_PRICE)
    ] = False
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Run even if the first batch shows that the files won't fit on the disk.",
            rich_help_panel=_PRICE,
        ),
    ] = False

    def check(self) -> None:
        """Raise BadParameter for an option that needs --dry-run."""
        if not self.dry_run and (self.sample or self.json):
            raise typer.BadParameter(f"{'--sample' if self.sample else '--json'} goes with --dry-run")

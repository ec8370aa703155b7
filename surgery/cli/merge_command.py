"""The command `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.standard_streams import print_failures, print_note


def merge(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="The folders of the shards, or a folder that holds them. [dim]\\[default: activations][/dim]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The folder of the whole run. [dim]\\[default: the one that holds the shards][/dim]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that the folder holds: the files in its manifest.")
    ] = False,
) -> None:
    """Put the shards of a run (extract --shard) together: one folder, byte for byte that of one run."""
    from surgery.cli.console import open_console
    from surgery.cli.run_views import report_view
    from surgery.extraction import merge as run

    chosen = [folder.expanduser() for folder in folders or [Path("activations")]]
    report = run(*chosen, out=None if out is None else out.expanduser(), overwrite=overwrite)
    for note in report.notes:
        print_note(note)
    console = open_console()
    console.print(report_view(report, console.width), soft_wrap=False)
    print_failures(report.failed, report.images)
    if report.failed:
        raise typer.Exit(1)

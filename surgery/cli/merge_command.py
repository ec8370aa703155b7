"""The command `merge`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from surgery.cli.standard_streams import print_failures, print_note


def merge(
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="The folders or addresses of the shards, or of what holds them. [dim]\\[default: activations][/dim]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="The folder or address of the whole run. [dim]\\[default: the one that holds the shards][/dim]",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run that the folder holds: the files in its manifest.")
    ] = False,
) -> None:
    """Put the shards of a run (extract --shard) together: its files and manifest, byte for byte those of one run."""
    from surgery.cli.console import open_console
    from surgery.cli.run_views import report_view
    from surgery.extraction import merge as run

    places = [os.path.expanduser(folder) for folder in folders or ["activations"]]  # noqa: PTH111 - may be no path
    report = run(*places, out=None if out is None else os.path.expanduser(out), overwrite=overwrite)  # noqa: PTH111
    for note in report.notes:
        print_note(note)
    console = open_console()
    console.print(report_view(report, console.width), soft_wrap=False)
    print_failures(report.failed, report.images)
    if report.failed:
        raise typer.Exit(1)

"""The command `verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.options import JsonOption
from surgery.cli.standard_streams import print_message, print_output
from surgery.text import format_count


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")] = Path("activations"),
    as_json: JsonOption = False,
) -> None:
    """Compare a folder with its manifest: missing, unlisted and damaged files, and pictures that contradict it."""
    from surgery.verification import verify as run

    verification = run(folder)
    if as_json:
        print_output(json.dumps(verification.record(), indent=1))
    else:
        for fault in verification.faults:
            print_message(fault.sentence)
        counts = f"{format_count(verification.images, 'image')}, {format_count(verification.files, 'file')}"
        problems = format_count(len(verification.faults), "problem") if verification.faults else "matches the manifest"
        print_output(f"{folder}/  {counts}  {problems}")
    if not verification.sound:
        raise typer.Exit(1)

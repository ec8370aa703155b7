"""The commands that look after what runs have written: `verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.streams import complain, say


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")] = Path("activations"),
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Compare a folder with its manifest: files missing, unlisted or damaged, and pictures that say otherwise."""
    from surgery.verification import verify as run

    found = run(folder)
    if as_json:
        say(json.dumps(found.record(), indent=1))
    else:
        for fault in found.faults:
            complain(fault.sentence)
        images = f"{found.images} image{'s' * (found.images != 1)}, {found.files} file{'s' * (found.files != 1)}"
        state = f"{len(found.faults)} not as the manifest says" if found.faults else "as the manifest says"
        say(f"{folder}/  {images}  {state}")
    if not found.sound:
        raise typer.Exit(1)

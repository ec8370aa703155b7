"""The command `verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.options import JsonOption
from surgery.cli.standard_streams import print_message, print_output
from surgery.text import format_count

if TYPE_CHECKING:
    from surgery.verification import Verification


def verify(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The folder or address of a run, or one whose folders hold runs.")
    ] = "activations",
    as_json: JsonOption = False,
) -> None:
    """Compare a folder with its manifest: missing, unlisted and damaged files, and pictures that contradict it."""
    from surgery.output import find_places, parse_place
    from surgery.verification import verify as run

    place = parse_place(folder)
    verifications = [run(each) for each in find_places(place)]
    if as_json:
        records = [verification.record() for verification in verifications]
        print_output(json.dumps(records[0] if verifications[0].folder == place else records, indent=1))
    else:
        for verification in verifications:
            _print(verification)
    if not all(verification.sound for verification in verifications):
        raise typer.Exit(1)


def _print(verification: Verification) -> None:
    for fault in verification.faults:
        print_message(fault.sentence)
    counts = f"{format_count(verification.images, 'image')}, {format_count(verification.files, 'file')}"
    problems = format_count(len(verification.faults), "problem") if verification.faults else "matches the manifest"
    print_output(f"{verification.folder}/  {counts}  {problems}")

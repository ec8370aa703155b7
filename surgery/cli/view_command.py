"""The command `view`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from surgery.cli.standard_streams import print_note, print_output


def view(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="Folders of runs, or a folder that holds several. [dim]\\[default: activations][/dim]",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Write the page, and don't open a browser.")] = False,
) -> None:
    """Write the page of finished runs, or bring it up to date, and open it in a browser. Several runs share a page."""
    from surgery.output import write_page

    page = write_page(*(folder.expanduser() for folder in folders or [Path("activations")]))
    print_output(f"{page}")
    if not no_open and not open_in_browser(page):
        print_note(f"there is no display to open it on; its address is {page.resolve().as_uri()}")


def open_in_browser(page: Path) -> bool:
    """Open a page in the user's browser. Return whether there is one, and a display to show it on."""
    import webbrowser

    needs_display = sys.platform not in ("win32", "darwin") and "BROWSER" not in os.environ
    if needs_display and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False

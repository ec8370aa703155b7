"""The page of finished runs, written into their folders."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from surgery import __version__
from surgery.errors import OutputError
from surgery.output.manifest_reader import ManifestReader, find_runs
from surgery.output.page_folder import PageFolder
from surgery.page import INDEX, RunEntries, page_files, run_files
from surgery.text import MANIFEST_FILE, escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence


def write_page(*folders: str | os.PathLike[str]) -> Path:
    """Write the page of finished runs, or bring it up to date, and return the path of its ``index.html``.

    The page shows the PNG files of the runs in a browser, from files, offline. That of one run lies in its folder. That
    of several runs lies in the innermost folder that contains all of them, and shows them beside each other; then each
    run has a page of its own too. A folder without a run stands for the runs in the folders in it, if there are any.

    Raises OutputError for a folder without a finished run or without PNG files, for a run that another process still
    writes to, where a file that belongs to no page would be overwritten, and for several runs if the name of one's
    folder is not UTF-8.
    """
    paths = list(dict.fromkeys(run for folder in folders for run in find_runs(Path(folder))))
    if not paths:
        raise OutputError("a page needs the folder of a run")
    with ExitStack() as stack:
        runs = [_write_run(stack.enter_context(PageFolder(path))) for path in paths]
        if len(paths) == 1 == len(folders) and paths[0] == Path(folders[0]):
            return paths[0] / INDEX
        home, names = _find_home(paths)
        with PageFolder(home) as page:
            page.write(
                page_files([(name, f"{name}/", run) for name, run in zip(names, runs, strict=True)], __version__)
            )
        return home / INDEX


def _write_run(page: PageFolder) -> RunEntries:
    """Write the page of one run."""
    folder = page.folder
    if not os.path.lexists(folder / MANIFEST_FILE):
        raise OutputError(f"{folder} holds no run: there is no {MANIFEST_FILE} in it")
    run = ManifestReader(folder)
    found = RunEntries(run.head)
    page.write(run_files(run, found), is_complete=False)
    if not found.has_pictures:
        raise OutputError(
            f"{folder} has no PNG files of activations, which a page shows; run `surgery extract` with the sink png"
        )
    page.write(page_files([(found.label, "", found)], __version__))
    return found


def _find_home(folders: Sequence[Path]) -> tuple[Path, list[str]]:
    """Return the innermost folder that contains several folders, and their names relative to it."""
    absolute = [Path(os.path.abspath(folder)) for folder in folders]  # noqa: PTH100 - links stay
    home = Path(os.path.commonpath([path.parent for path in absolute]))
    names = [path.relative_to(home).as_posix() for path in absolute]
    for name in names:
        if escape_surrogates(name) != name:
            raise OutputError(f"a page of several runs can't lead to {name}, whose name is not UTF-8; rename it")
    shown = Path(os.path.relpath(home))
    return home if shown.parts[:1] == ("..",) else shown, names

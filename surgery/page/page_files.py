"""The files of a page: those of each run in its folder, and those of the page itself."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Protocol

from surgery.page.operation_entries import entries
from surgery.page.run_entries import picture_names
from surgery.page.scripts import data_script
from surgery.page.summaries import summarize
from surgery.text import escape_html

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from surgery.page.run_entries import RunEntries

PAGE, INDEX = "page", "index.html"
"""The folder of a page's files, and the page itself."""
FORMAT = 1
"""The version of the format of ``run.js``, which is written with the application that reads it."""


class RunFolder(Protocol):
    """The folder of a finished run."""

    @property
    def head(self) -> Mapping[str, Any]:
        """The manifest without its images."""

    @property
    def images(self) -> Iterator[Mapping[str, Any]]:
        """The entries of its images and batches."""

    def existing(self, names: Iterable[str]) -> Iterator[str]:
        """Yield those names that are files inside of the folder."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of a page."""

    name: str
    """Relative to the folder, with ``/`` between its parts."""
    content: bytes = b""
    picture: str | None = None
    """The PNG file in the folder of which `picture_script` makes the content; None if `content` is it."""


def run_files(run: RunFolder, found: RunEntries) -> Iterator[PageFile]:
    """Yield the files of a page that lie in the folder of one run: a script for each picture and for measured images.

    What is found on the way is added to `found`, which `page_files` takes.
    """
    for image in run.images:
        names = [name for activation in entries(image.get("activations")) for name in picture_names(activation)]
        entry = found.add(image, run.existing(names))
        for stem in entry.pictures:
            key = f"{entry.folder}/{stem}"
            yield PageFile(f"{PAGE}/pixels/{key}.js", picture=key)
        if entry.folder is not None and (measures := entry.measures()):
            name = f"{PAGE}/measures/{entry.folder}.js"
            yield PageFile(name, data_script("measures", entry.folder, measures))


def picture_of_script(name: str) -> str | None:
    """Return the picture, without its suffix, whose script has this name; None for another file."""
    start, end = f"{PAGE}/pixels/", ".js"
    return name[len(start) : -len(end)] if name.startswith(start) and name.endswith(end) else None


def page_files(runs: Sequence[tuple[str, str, RunEntries]], version: str) -> Iterator[PageFile]:
    """Yield the files of a page that shows runs: the application, their data, and ``index.html`` at the end.

    Each run comes with its label, and its folder relative to the page: empty, or with a slash at the end. `version` is
    that of the project.
    """
    data = [found.data(number, label, folder) for number, (label, folder, found) in enumerate(runs)]
    index = ""
    for name, content in application():
        if name == INDEX:
            index = content.decode()
        else:
            yield PageFile(f"{PAGE}/app/{name}", content)
    content = data_script("run", {"format": FORMAT, "surgery": version, "runs": data})
    yield PageFile(f"{PAGE}/run.js", content)
    labels = ", ".join(str(run["label"]) for run in data)
    page = Template(index).substitute(
        title=escape_html(f"{labels} \N{EN DASH} surgery"),
        summary=summarize(data),
        runs=f'<script defer src="{PAGE}/run.js"></script>',
    )
    yield PageFile(INDEX, page.encode())


def application() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the application by name."""
    for file in sorted(files("surgery.page").joinpath("app").iterdir(), key=lambda file: file.name):
        if file.is_file() and not file.name.startswith((".", "_")):
            yield file.name, file.read_bytes()

"""The folder of a study: sheets and outputs of each image, tables of all, and a manifest."""

from __future__ import annotations

import csv
import io
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import encode_png
from surgery.graph import trace_info
from surgery.interrupts import watch_interrupts
from surgery.models import get_provenance
from surgery.output import (
    Manifest,
    OutputFolder,
    acquire_workspace,
    as_json,
    check_overwrite,
    describe_codes,
    picture_limits,
)
from surgery.text import WORK_FOLDER
from surgery.types import Picture

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from surgery.interrupts import Interrupts
    from surgery.output import Failure, Workspace
    from surgery.studies.study_inputs import StudyImage, StudyInputs
    from surgery.studies.study_setup import StudySetup
    from surgery.types import Operation


class LoopEnd(Protocol):
    """How a loop over the images of a study ended."""

    failures: list[Failure]
    interrupted: bool
    error: Exception | None


@dataclass(frozen=True, slots=True, eq=False)
class NotedPicture:
    """A picture whose pixels can be read back, and what its file says beside its limits."""

    picture: Picture
    note: Mapping[str, Any] = field(default_factory=dict)


class StudyFolder:
    """Writes the files of a study, by the rules that `surgery.extract` has for its folder."""

    def __init__(self, folder: OutputFolder, manifest: Manifest, workspace: Workspace, interrupts: Interrupts) -> None:
        self._folder = folder
        self._manifest = manifest
        self._workspace = workspace
        self._interrupts = interrupts
        self.sheet: Path | None = None
        """The first sheet."""

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @property
    def about(self) -> Mapping[str, str]:
        """The study in words: model, weights, mode, what is edited."""
        return self._folder.about

    def finish_image(
        self, image: StudyImage, sheets: Mapping[str, Image.Image], pictures: Mapping[str, Image.Image | NotedPicture]
    ) -> None:
        """Write the sheets and the pictures of an image by their names. Ctrl-C waits until they are recorded."""
        self._interrupts.hold()
        self._folder.batch = image.number
        place = self._folder.place(image.name)
        about = {"image": image.name, **self._folder.about}
        for name, shown in {**sheets, **pictures}.items():
            with self._folder.file(f"{place}/{name}.png") as path:
                path.write_bytes(_encode(shown, about))
        written = self._folder.take_written()
        if sheets and self.sheet is None:
            self.sheet = self._folder.path / written[0].name
        self._manifest.start_image(image.name)
        self._manifest.add_files(written)
        self._manifest.finish_image(image.name, Path(image.source or image.name), image.size, image.number)
        self._manifest.commit()
        self._folder.forget_image(image.name)
        self._interrupts.allow()

    def write(self, name: str, content: bytes) -> Path:
        """Write a file that belongs to no single image. Return its path."""
        with self._folder.file(name) as path:
            path.write_bytes(content)
        return self._folder.path / name

    def finish(
        self, name: str, content: Mapping[str, Any], records: Sequence[Mapping[str, Any]], loop: LoopEnd
    ) -> None:
        """Write the tables `name.json` and `name.csv` and the manifest. Ctrl-C waits until then.

        `records` are the rows of the table, and `loop` has run the images.
        """
        self._interrupts.hold()
        with self._folder.file(f"{name}.json") as path:
            path.write_bytes(json.dumps(json.loads(as_json(content)), indent=1).encode())
        text = io.StringIO()
        columns = [key for key in records[0] if any(record[key] is not None for record in records)] if records else []
        writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        with self._folder.file(f"{name}.csv") as path:
            path.write_bytes(text.getvalue().encode())
        self._manifest.set_run_files(self._folder.take_written())
        interrupted = loop.interrupted or loop.error is not None
        finished = self._manifest.write(loop.failures, interrupted=interrupted, error=loop.error).finished
        if loop.failures or interrupted:
            self._workspace.remove_unfinished_files(finished)


@contextmanager
def open_study_folder(
    out: str | os.PathLike[str] | None, setup: StudySetup, settings: Mapping[str, Any], *, overwrite: bool
) -> Iterator[StudyFolder | None]:
    """Yield the folder of a study for as long as the block lasts; None for no folder.

    `settings` say what the study does. Raises OutputError for a folder that holds a run, unless `overwrite` is true,
    for one that another run writes to, and for one that can't be written.
    """
    if out is None:
        yield None
        return
    arguments = setup.arguments
    leaves = [leaf if isinstance(leaf, str) else leaf.__name__ for leaf in arguments.leaves]
    traced_with = {name: given for name, given in (("leaves", leaves), ("allow", list(arguments.allow))) if given}
    manifest = Manifest.for_run(
        setup.subject,
        source=arguments.source,
        settings={**settings, "mode": arguments.mode, "seed": arguments.seed, **traced_with, **setup.inputs.settings},
        recipe=DEFAULT_RECIPE.describe(),
        trace=trace_info(setup.traced),
        weights=get_provenance(setup.original).describe_weights(setup.original),
    )
    with open_folder(out, manifest, setup.inputs, setup.chosen, overwrite=overwrite) as folder:
        yield folder


@contextmanager
def open_folder(
    out: str | os.PathLike[str],
    manifest: Manifest,
    inputs: StudyInputs,
    chosen: Sequence[Operation],
    *,
    overwrite: bool,
) -> Iterator[StudyFolder]:
    """Yield a folder for the files of a study of `inputs` and the operations `chosen`, as `open_study_folder` does."""
    check_overwrite(Path(out), overwrite=overwrite or (Path(out) / WORK_FOLDER).exists())
    with (
        watch_interrupts(held=True) as interrupts,
        acquire_workspace(Path(out), overwrite=overwrite, inputs=inputs.local_files()) as workspace,
    ):
        interrupts.allow()
        folder = OutputFolder(out, manifest.about, workspace)
        folder.reserve_image_names(inputs.names)
        with manifest.recording(workspace, chosen):
            manifest.record_in("study")
            yield StudyFolder(folder, manifest, workspace, interrupts)


def _encode(shown: Image.Image | NotedPicture, about: Mapping[str, Any]) -> bytes:
    """Return the bytes of a PNG file, whose text chunk holds `about`."""
    if isinstance(shown, NotedPicture):
        limits = {**picture_limits(shown.picture), "value": describe_codes()}
        return encode_png(shown.picture, {"surgery": as_json({**shown.note, **limits, **about})}, level=2)
    # Not np.asarray, which copies the pixels twice.
    pixels = np.frombuffer(shown.tobytes(), np.uint8).reshape(shown.height, shown.width, 3)
    picture = Picture(pixels, None, np.zeros(1), np.ones(1))
    return encode_png(picture, {"surgery": as_json(about)}, level=2)

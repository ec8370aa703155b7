"""Maximized channels as files: a PNG for each, a sheet, and a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import encode_png, save_png
from surgery.graph import trace_info
from surgery.interrupts import watch_interrupts
from surgery.models import get_provenance
from surgery.output import Manifest, OutputFolder, acquire_workspace, as_json
from surgery.text import file_name, sortable_number

if TYPE_CHECKING:
    import os

    from surgery.synthesis.results import Maximized

SHEET = "sheet.png"


def save(maximized: Maximized, out: str | os.PathLike[str], *, source: str | None, overwrite: bool) -> tuple[str, ...]:
    """Write the files of maximized channels into a folder, by the rules of `surgery.extract`; return their names."""
    operation, model = maximized.operation, maximized.model
    manifest = Manifest.for_run(
        model,
        source=source,
        settings={"maximized": operation.path, "channels": list(maximized.channels), **maximized.settings.record()},
        recipe=DEFAULT_RECIPE.describe(),
        weights=get_provenance(model).describe_weights(model),
        trace=trace_info(model),
    )
    with watch_interrupts(held=True) as interrupts, acquire_workspace(Path(out), overwrite=overwrite) as workspace:
        interrupts.allow()
        folder = OutputFolder(out, manifest.about, workspace)
        with manifest.recording(workspace, [operation]):
            for position, picture in enumerate(maximized.pictures):
                channel = sortable_number(maximized.channels[position])
                with folder.file(f"{file_name(operation.path, operation.index)}-c{channel}.png") as path:
                    save_png(path, picture, {"surgery": as_json({**maximized.describe(position), **folder.about})})
            with folder.file(SHEET) as path:
                path.write_bytes(encode_png(maximized.sheet, {"surgery": as_json(dict(folder.about))}, level=2))
            interrupts.hold()
            written = folder.take_written()
            manifest.set_run_files(written)
            manifest.write([], [], interrupted=False)
            workspace.discard_previous_run()
    return tuple(name for name, _ in written)

"""The folder of a result that has pictures: a PNG for each, a sheet, other files, and a manifest."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import encode_png, save_png
from surgery.editing import edits_of
from surgery.graph import trace_info
from surgery.interrupts import watch_interrupts
from surgery.models import get_provenance
from surgery.output import Manifest, OutputFolder, acquire_workspace, as_json

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

    from surgery.types import Operation, Picture

SHEET = "sheet.png"


def make_manifest(
    traced: nn.Module, original: nn.Module | None, source: str | None, settings: Mapping[str, Any]
) -> Manifest:
    """Return the manifest of a run. `original` is the model that was traced; it may know where its weights are from."""
    model = traced if original is None else original
    edits = edits_of(traced)
    return Manifest.for_run(
        model,
        source=source,
        settings={**settings, **({"edits": edits} if edits else {})},
        recipe=DEFAULT_RECIPE.describe(),
        weights=get_provenance(model).describe_weights(model),
        trace=trace_info(traced),
    )


def write_files(
    out: str | os.PathLike[str],
    manifest: Manifest,
    operations: Sequence[Operation],
    pictures: Mapping[str, tuple[Picture, Mapping[str, Any]]],
    sheet: Picture,
    *,
    files: Mapping[str, bytes] = MappingProxyType({}),
    overwrite: bool,
) -> tuple[str, ...]:
    """Write pictures, each with what it shows, other files and a sheet into a folder, and return the names of all.

    The rules are those of `surgery.extract`; the sheet is the last file. Raises OutputError for a folder that holds a
    run, unless `overwrite` is true, and for one that can't be written.
    """
    with watch_interrupts(held=True) as interrupts, acquire_workspace(Path(out), overwrite=overwrite) as workspace:
        interrupts.allow()
        folder = OutputFolder(out, manifest.about, workspace)
        with manifest.recording(workspace, operations):
            for name, (picture, shown) in pictures.items():
                with folder.file(name) as path:
                    save_png(path, picture, {"surgery": as_json({**shown, **folder.about})})
            for name, content in files.items():
                with folder.file(name) as path:
                    path.write_bytes(content)
            with folder.file(SHEET) as path:
                path.write_bytes(encode_png(sheet, {"surgery": as_json(dict(folder.about))}, level=2))
            interrupts.hold()
            written = folder.take_written()
            manifest.set_run_files(written)
            manifest.write([], interrupted=False)
            workspace.discard_previous_run()
    return tuple(file.name for file in written)

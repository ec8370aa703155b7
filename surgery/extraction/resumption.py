"""How a run goes on that was stopped: what it is, and what it has finished."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.output import ManifestReader, Tally, has_manifest
from surgery.text import describe_stage, format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surgery.inputs import RunInputs
    from surgery.output import OutputFolder
    from surgery.stages import Sink
    from surgery.types import Operation


def describe_plan(
    files: RunInputs, operations: Sequence[Operation], sinks: Sequence[Sink], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a run is to do, for its manifest: what another run must have in common to go on with it.

    `settings` are those that decide the values or files and that the manifest has nowhere else.
    """
    digest = hashlib.sha256()
    for number, name in enumerate(files.identities()):
        digest.update((f"\n{name}" if number else name).encode(errors="surrogatepass"))
    return {
        "images": len(files.paths),
        "images_sha256": digest.hexdigest(),
        "operations": [operation.path for operation in operations],
        "sinks": [describe_stage(sink) for sink in sinks],
        **settings,
    }


def find_finished(folder: OutputFolder, images: int, sinks: Iterable[Sink]) -> frozenset[int]:
    """Return the numbers of the images that an earlier run of the same has finished, and give the sinks its decisions.

    `images` is how many the run has to do. The folder has been compared with this run.
    Raises OutputError if images are left that a sink can't add to it.
    """
    if not has_manifest(folder.path):
        return frozenset()
    earlier = Tally.from_manifest(ManifestReader(folder.path).head)
    folder.shared.update(copy.deepcopy(earlier.shared))
    left = images - len(earlier.finished)
    unable = [sink for sink in sinks if not (getattr(sink, "alone", False) or getattr(sink, "resumes", False))]
    if left and unable:
        raise OutputError(
            f"{folder.path} holds a part of this run, and {format_count(left, 'image')} that are left can't be added "
            f"by the sink {describe_stage(unable[0])}, whose files are of several images; add --overwrite "
            "(overwrite=True) to begin anew"
        )
    return frozenset(earlier.finished)

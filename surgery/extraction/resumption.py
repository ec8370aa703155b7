"""How a run goes on that was stopped: what it is, and what it has finished."""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.output import KILLED, Address, ManifestReader, Tally, has_manifest
from surgery.stages import can_be_divided
from surgery.text import describe_stage, format_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surgery.inputs import RunInputs
    from surgery.output import OutputFolder, Place
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


def find_finished(folder: OutputFolder, images: int, sinks: Iterable[Sink], place: Place) -> frozenset[int]:
    """Return the numbers of the images that an earlier run of the same has finished, and give the sinks its decisions.

    `images` is how many the run has to do. The folder, which is that of `place`, has been compared with this run.
    Raises OutputError if images are left that a sink can't add to it.
    """
    if not has_manifest(folder.path):
        return frozenset()
    head = ManifestReader(folder.path).head
    earlier = Tally.from_manifest(head)
    folder.shared.update(copy.deepcopy(earlier.shared))
    left = images - len(earlier.finished)
    is_remote = isinstance(place, Address)
    unable = [
        sink for sink in sinks if not (can_be_divided(sink) or (getattr(sink, "resumes", False) and not is_remote))
    ]
    was_killed = is_remote and head.get("error") == KILLED  # before files of several images were at the address
    if (left or was_killed) and unable:
        raise OutputError(
            f"{place} holds a part of this run, and {format_count(left, 'image')} that are left can't be added "
            f"by the sink {describe_stage(unable[0])}, whose files are of several images; add --overwrite "
            "(overwrite=True) to begin anew"
        )
    if left:
        _check_gathered(earlier, folder, place)
    return frozenset(earlier.finished)


def _check_gathered(earlier: Tally, folder: OutputFolder, place: Place) -> None:
    """Raise OutputError if a file is missing of what sinks have gathered of the images that are finished."""
    for name in (name for names in earlier.gathered.values() for name in names):
        if not (folder.path / name).is_file():
            raise OutputError(
                f"{place / name} is missing, which holds what was gathered of the images that are finished; add "
                "--overwrite (overwrite=True) to begin anew"
            )

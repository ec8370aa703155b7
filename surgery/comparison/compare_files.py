"""The files of a comparison: for each image its sheets and pictures, and tables of all."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.builtin import DEFAULT_RECIPE
from surgery.comparison.compare_pictures import named_pictures
from surgery.comparison.compare_sheet import MAX_RUNS, CompareSheet
from surgery.comparison.kept_maps import KeptMaps
from surgery.comparison.timeline_sheet import draw_timeline
from surgery.errors import OutputError
from surgery.graph import named_tensors
from surgery.models import get_provenance
from surgery.output import Manifest
from surgery.studies import draw_output, find_image_range, find_limits, open_folder
from surgery.text import file_name, format_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from surgery.comparison.compare_setup import CompareSetup
    from surgery.comparison.pair_table import PairTable
    from surgery.comparison.side_by_side import StepValues
    from surgery.studies import NotedPicture, StudyFolder, StudyImage

TIMELINE_RUNS = 3
"""The least number of runs that are drawn as a timeline."""


class FileWriter:
    """Keeps what is drawn of an image while it runs, and writes its files."""

    def __init__(self, folder: StudyFolder, setup: CompareSetup, table: PairTable, top: int, channels: int) -> None:
        self._folder = folder
        self._setup = setup
        self._table = table
        self._top, self._channels = top, channels
        self._kept: KeptMaps

    def start(self) -> None:
        """Begin with the next image."""
        has_timeline = len(self._setup.runs) >= TIMELINE_RUNS
        self._kept = KeptMaps(self._table.maps, self._top, self._channels, means=has_timeline)

    def add(self, step: StepValues) -> None:
        """Keep what is drawn of an operation."""
        self._kept.add(step)

    def finish(self, image: StudyImage, outputs: Sequence[Any]) -> None:
        """Write the files of an image. `outputs` are what the runs returned."""
        names = self._setup.names
        first = next((tensor for _, tensor in named_tensors(outputs[0])), None)
        size = image.size if len(image.size) == 2 else ()
        value_range = None if first is None else find_image_range(first, self._setup.inputs.value_range, size)
        maps = [_output_maps(output) for output in outputs]
        about = self._folder.about
        title = [" and ".join(names) if len(names) == 2 else format_count(len(names), "run"), image.name]
        shown = format_count(len(self._kept.operations), "operation")
        details = [about.get("model", "model"), f"the {shown} that differ most", f"at {about['at']}"]
        sheets: dict[str, Image.Image] = {}
        if len(names) <= MAX_RUNS:
            sheets["sheet"] = CompareSheet(title, details, names, self._kept, maps, value_range).draw()
        if len(names) >= TIMELINE_RUNS:
            lines = [*details[:1], f"mean |value| of the channels, with one scale in a row; against {names[0]}"]
            sheets["timeline"] = draw_timeline(title, lines, names, self._kept.means, maps, value_range)
        pictures: dict[str, Image.Image | NotedPicture] = {}
        limits = None if value_range is not None or maps[0] is None else find_limits(maps[0].mean(0))
        for name, each in zip(names, maps, strict=True):
            if each is not None:
                pictures[f"output-{file_name(name)}"] = draw_output(each, value_range, limits)
        for kept in self._kept.operations:
            for channel in kept.channels:
                pictures |= dict(named_pictures(channel, names))
        self._folder.finish_image(image, sheets, pictures)


@contextmanager
def open_compare_folder(
    out: str | os.PathLike[str] | None, setup: CompareSetup, settings: Mapping[str, Any], *, overwrite: bool
) -> Iterator[StudyFolder | None]:
    """Yield the folder of a comparison for as long as the block lasts; None for no folder.

    Raises OutputError as `surgery.extract` does, and for numbers in `settings` that are negative or not finite.
    """
    for name in ("top", "channels"):
        if settings[name] < 0:
            raise OutputError(f"{name} is 0 or more, not {settings[name]}")
    if out is None:
        yield None
        return
    first = setup.runs[0]
    runs = [
        {**properties, "name": run.name, "weights": get_provenance(run.original).describe_weights(run.original)}
        for run, properties in zip(setup.runs, setup.described, strict=True)
    ]
    leaves = [leaf if isinstance(leaf, str) else leaf.__name__ for leaf in setup.tracing["leaves"]]
    traced_with = {name: given for name, given in (("leaves", leaves), ("allow", [*setup.tracing["allow"]])) if given}
    manifest = Manifest.for_run(
        first.subject,
        source=setup.described[0]["model"],
        settings={
            "study": "compare",
            "runs": ", ".join(setup.names),
            "at": setup.selection,
            **settings,
            **traced_with,
            **setup.inputs.settings,
        },
        recipe=DEFAULT_RECIPE.describe(),
        trace=first.trace,
        weights=get_provenance(first.original).describe_weights(first.original),
    )
    manifest.head["runs"] = runs
    with open_folder(out, manifest, setup.inputs, setup.chosen, overwrite=overwrite) as folder:
        yield folder


def _output_maps(output: Any) -> Tensor | None:
    """Return the first tensor of an output as float32 maps ``(C, H, W)`` on the CPU; None for another shape."""
    tensor = next((tensor for _, tensor in named_tensors(output)), None)
    if tensor is None or tensor.ndim != 4 or tensor.is_complex() or not math.prod(tensor.shape):
        return None
    return tensor[0].detach().float().cpu()

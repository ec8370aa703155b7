"""The last stage of a run, on the writers' threads: deferred sinks, the manifest, and summaries."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import reduce
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING

from surgery.extraction.sink_group import SinkGroup, locate_errors
from surgery.output import (
    OperationSummary,
    Tally,
    as_json,
    count_picture_parts,
    merge_facts,
    merge_notes,
    merge_summaries,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from surgery.inputs import Input
    from surgery.output import Gathered, Manifest, OutputFolder, WrittenFile
    from surgery.types import Activation


@dataclass(slots=True, eq=False)
class LaneBatch:
    """What a lane has done for one batch."""

    summaries: dict[str, list[tuple[int, OperationSummary]]] = field(default_factory=dict)
    """By path: a summary for each image, with its place in the batch."""
    whole: list[tuple[Activation, Sequence[WrittenFile]]] = field(default_factory=list)
    """Activations of the whole batch with their files; those of an image are in the manifest already."""
    files: Sequence[WrittenFile] = ()
    """The files that were finished with the images."""
    gathered: Sequence[tuple[str, Gathered]] = ()
    """What sinks have gathered of the images."""


class Lane:
    """What one writer's thread does: it has sinks of its own, and all activations of some of the images."""

    def __init__(self, folder: OutputFolder) -> None:
        self.sinks = SinkGroup(folder)
        self.done = LaneBatch()

    def summarize(self, activation: Activation, files: Sequence[WrittenFile]) -> None:
        """Add what is known about an activation, once its files are written."""
        summaries = self.done.summaries.setdefault(activation.path, [])
        if summaries:
            summary = replace(summaries[0][1], facts=activation.facts)
        else:
            operation = activation.operation
            if operation.path != activation.path:  # one of several tensors in the value
                operation = replace(operation, path=activation.path)
            has_several_files = len(files) > 1 and files[1].activation is activation
            parts = count_picture_parts(activation) if has_several_files else 1
            batch = self.sinks.folder.batch
            summary = OperationSummary(operation, activation.facts, activation.layout, parts, batch)
        summaries.append((activation.position, summary))


@dataclass(slots=True, eq=False)
class FinishedBatch:
    """A batch whose activations were all given to the lanes, until all of them are done with it."""

    inputs: Sequence[Input]
    sizes: Sequence[tuple[int, ...]]
    """Heights and widths of its images."""
    written: Sequence[WrittenFile]
    """Files that other sinks have finished with it."""
    not_reached: Sequence[str]
    """The selected operations that did not run."""
    gathered: Sequence[tuple[str, Gathered]] = ()
    """What other sinks have gathered of its images."""
    done: dict[int, LaneBatch] = field(default_factory=dict)
    """What the lanes did that are done with it."""
    lock: Lock = field(default_factory=Lock)


class Recorder:
    """Gives activations without values to the deferred sinks, then records them in the manifest.

    Each lane is for one thread. What is recorded does not depend on the number of lanes. `images` counts the images
    whose files are all written.
    """

    def __init__(self, folder: OutputFolder, manifest: Manifest, lanes: int = 1) -> None:
        self.lanes = tuple(Lane(folder.for_background_thread()) for _ in range(lanes))
        self.images = 0
        self.unfinished: list[str] = []
        """Images that the model has started and whose files are not all written."""
        self._manifest = manifest
        self._folder = folder.for_background_thread()
        self._summaries: dict[str, OperationSummary] = {}
        """Of the images that are finished."""
        self._shared = b""
        """What sinks had decided for all images when it was recorded last, as JSON."""

    def write(self, lane: int, activations: Iterable[tuple[Activation, Sequence[WrittenFile]]], batch: int) -> None:
        """Write and record activations, each with the files that other sinks have written. `batch` is its number."""
        own = self.lanes[lane]
        own.sinks.folder.batch = batch
        for activation, written in activations:
            with locate_errors(activation):
                files = [*written, *own.sinks.write(activation)]
                if activation.image is None:  # the batch before may not be in the manifest yet
                    own.done.whole.append((activation, files))
                else:
                    self._manifest.add_activation(activation, files)
                own.summarize(activation, files)

    def finish_lane(self, lane: int, images: Sequence[str], batch: FinishedBatch) -> None:
        """Finish those images of a batch that a lane has written all of. The last lane finishes the batch."""
        own = self.lanes[lane]
        own.sinks.folder.batch = batch.inputs[0].number
        done, own.done = own.done, LaneBatch()
        done.files = own.sinks.finish_images(images)
        done.gathered = own.sinks.folder.take_gathered()
        with batch.lock:
            batch.done[lane] = done
            is_last = len(batch.done) == len(self.lanes)
        if is_last:
            self._finish_batch(batch)

    def drop_unfinished(self) -> None:
        """Remove the files of unfinished images, and forget what was recorded of them."""
        for image in (*self.unfinished, None):
            for lane in self.lanes:
                lane.sinks.folder.drop(image)
            self._manifest.drop_image(image)
        self.unfinished = []
        for lane in self.lanes:
            lane.done = LaneBatch()

    def _finish_batch(self, batch: FinishedBatch) -> None:
        """Record a batch whose activations are all written. It is called for one batch after the other."""
        lanes = [batch.done[lane] for lane in range(len(self.lanes))]
        for activation, written in (each for lane in lanes for each in lane.whole):
            self._manifest.add_activation(activation, written)
        files = [*batch.written, *(file for lane in lanes for file in lane.files)]
        self._manifest.add_files(files)
        self._folder.batch = batch.inputs[0].number
        for item, size in zip(batch.inputs, batch.sizes, strict=True):
            self._manifest.finish_image(item.name, item.path, size, item.number, batch.not_reached)
        gathered = [*batch.gathered, *(part for lane in lanes for part in lane.gathered)]
        self._manifest.commit(self._tally(batch, files, _merge_lanes(lanes)), gathered)
        for item in batch.inputs:
            self.unfinished.remove(item.name)
            self._folder.forget_image(item.name)
        self._folder.forget_image(None)
        self.images += len(batch.inputs)

    def _tally(
        self, batch: FinishedBatch, files: Sequence[WrittenFile], summaries: dict[str, OperationSummary]
    ) -> Tally:
        """Return what a batch adds to what the finished images add up to, beside what the manifest counts."""
        tally = Tally()
        homes = {self._folder.place(item.name) for item in batch.inputs}
        shown = (file.name for file in files if file.activation is None and file.name.partition("/")[0] in homes)
        overview = next(shown, None)
        if overview is not None and not self.images:
            tally.overview = batch.inputs[0].number, overview
        for item in batch.inputs:
            merge_notes(tally.notes, item.notes)
        before = dict(self._summaries)
        merge_summaries(self._summaries, summaries)
        tally.summaries = {
            path: summary for path, summary in summaries.items() if self._summaries[path] != before.get(path)
        }
        if self._folder.shared and (shared := as_json(self._folder.shared)) != self._shared:
            self._shared, tally.shared = shared, self._folder.shared
        return tally


def _merge_lanes(lanes: Sequence[LaneBatch]) -> dict[str, OperationSummary]:
    """Return a summary for each path, merged in the order of the images, on which sums of floats depend."""
    merged: dict[str, OperationSummary] = {}
    for path in dict.fromkeys(path for lane in lanes for path in lane.summaries):
        parts = [part for lane in lanes for part in lane.summaries.get(path, ())]
        (_, first), *others = sorted(parts, key=itemgetter(0))
        facts = reduce(merge_facts, (summary.facts for _, summary in others), first.facts)
        merged[path] = replace(first, facts=facts)
    return merged

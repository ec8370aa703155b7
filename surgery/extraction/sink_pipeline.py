"""From the model's activations to files: sinks inside the forward pass, then sinks on the writers' threads.

An activation passes each stage once, in this order:

    immediate sinks    inside the model's forward pass, with live values
    drawing            facts and codes are computed from the values, which the model may then overwrite
    buffer             activations without values wait for the writers' threads
    recorder           deferred sinks, then the manifest; each writer's thread has some of the images
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from surgery.drawing import strip_values
from surgery.extraction.recorder import FinishedBatch, Recorder
from surgery.extraction.sink_group import SinkGroup, locate_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from surgery.extraction.writer_pool import WriterPool
    from surgery.inputs import Input
    from surgery.output import Manifest, OutputFolder, WrittenFile
    from surgery.stages import Sink, Write
    from surgery.types import Activation

BUFFER_BYTES = 4 << 20
"""Activations are collected up to this many bytes, because waking the writer takes as long as drawing a small picture.
"""


class SinkPipeline:
    """Takes the activations of a run to its sinks and its manifest."""

    def __init__(self, folder: OutputFolder, manifest: Manifest, pool: WriterPool) -> None:
        self.recorder = Recorder(folder, manifest, len(pool.writers))
        self._sinks = SinkGroup(folder)
        self._buffer = _ActivationBuffer(pool, self.recorder)
        self._manifest = manifest
        self._pool = pool
        self._first_image_decides = False
        self._dropped_places: set[str] = set()
        """Directories of images that were dropped, with a slash at the end."""

    @contextmanager
    def open(self, sinks: Iterable[Sink], watches: Iterable[Write]) -> Iterator[None]:
        """Within the block, the sinks are open. An error in the block drops the images that are not finished.

        The callbacks `watches` of watchers are called like immediate sinks. Files that sinks write when they close
        belong to the run.
        """
        lanes = [lane.sinks for lane in self.recorder.lanes]
        try:
            with ExitStack() as stack:
                for sink in sinks:
                    self._first_image_decides |= getattr(sink, "decides_on_first_image", False)
                    for group in lanes if getattr(sink, "deferred", False) else (self._sinks,):
                        group.writes.append(stack.enter_context(sink(group.folder)))
                self._sinks.writes += watches
                try:
                    yield
                    self._pool.drain()
                    self._manifest.drain()
                except BaseException:
                    with suppress(Exception):
                        self._pool.drain()
                    with suppress(Exception):
                        self._manifest.drain()
                    self.drop_unfinished()
                    raise
        finally:
            written = [file for group in (self._sinks, *lanes) for file in group.folder.take_written()]
            dropped = tuple(self._dropped_places)
            self._manifest.set_run_files([file for file in written if not file.name.startswith(dropped)])

    @property
    def disk_bytes(self) -> int:
        """What the files that were written take on the disk, once the writers are drained."""
        return sum(group.folder.disk_bytes for group in (self._sinks, *(lane.sinks for lane in self.recorder.lanes)))

    def start_batch(self, inputs: Sequence[Input]) -> None:
        """Prepare for the activations of a batch."""
        count = len(self.recorder.lanes)
        if self._first_image_decides and not self.recorder.images and count > 1:
            if self.recorder.unfinished:
                self._pool.drain()  # then its first image has decided
            count = count if self.recorder.images else 1
        self._buffer.lane_of_image = {item.name: item.number % count for item in inputs}
        self.recorder.unfinished += [item.name for item in inputs]
        self._sinks.folder.batch = inputs[0].number

    def write(self, activations: Iterable[Activation]) -> None:
        """Write the activations of one operation. Their values may be overwritten after this returns."""
        pending = []
        for activation in activations:
            with locate_errors(activation):
                pending.append((activation, self._sinks.write(activation)))
        has_deferred_sinks = bool(self.recorder.lanes[0].sinks.writes)
        for activation, written in pending:  # drawn from one tensor, which must not change before this point
            with locate_errors(activation):
                kept_bytes = activation.drawing.quantize_now(pixels=has_deferred_sinks)
            self._buffer.append(strip_values(activation), written, kept_bytes)
        self._buffer.submit_if_full(self._sinks.folder.batch)

    def finish_batch(
        self, inputs: Sequence[Input], sizes: Sequence[tuple[int, ...]], not_reached: Sequence[str]
    ) -> None:
        """Finish the images of a batch whose activations were all written.

        `sizes` are their heights and widths; `not_reached` are the selected operations that did not run.
        """
        written = self._sinks.finish_images(item.name for item in inputs)
        self._buffer.submit(self._sinks.folder.batch)
        batch = FinishedBatch(inputs, sizes, written, not_reached, self._sinks.folder.take_gathered())
        for lane, writer in enumerate(self._pool.writers):
            images = [image for image, own in self._buffer.lane_of_image.items() if own == lane]
            writer.submit(partial(self.recorder.finish_lane, lane, images, batch))

    def reject_batch(self) -> None:
        """Drop a batch that the model can't take, after the batches before it are finished."""
        self._pool.drain()
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Remove what was written of images that are not finished, and forget them."""
        self._buffer.clear()
        with suppress(Exception):  # that error is the reason for the drop, and is raised elsewhere
            self._pool.drain()
        for image in (*self.recorder.unfinished, None):
            groups = (self._sinks, *(lane.sinks for lane in self.recorder.lanes))
            self._dropped_places |= {f"{sinks.folder.place(image)}/" for sinks in groups}
            self._sinks.folder.drop(image)
        self.recorder.drop_unfinished()


class _ActivationBuffer:
    """Activations without values that wait to be submitted to the writers' threads."""

    def __init__(self, pool: WriterPool, recorder: Recorder) -> None:
        self.lane_of_image: dict[str, int] = {}
        """For the images of the current batch."""
        self._pool = pool
        self._recorder = recorder
        self._activations: list[tuple[Activation, Sequence[WrittenFile]]] = []
        self._bytes = 0

    def append(self, activation: Activation, written: Sequence[WrittenFile], kept_bytes: int) -> None:
        """Add an activation with the files that were written of it, and the bytes that its drawing keeps."""
        self._activations.append((activation, written))
        self._bytes += kept_bytes

    def submit_if_full(self, batch: int) -> None:
        """Submit the activations if they keep many bytes."""
        if self._bytes >= BUFFER_BYTES:
            self.submit(batch)

    def submit(self, batch: int) -> None:
        """Have the recorder write the activations on the writers' threads. `batch` is the number of their batch."""
        activations, kept_bytes = self._activations, self._bytes
        self.clear()
        parts: dict[int, list[tuple[Activation, Sequence[WrittenFile]]]] = {}
        for each in activations:
            image = each[0].image
            parts.setdefault(0 if image is None else self.lane_of_image[image], []).append(each)
        for lane, part in parts.items():
            self._pool.writers[lane].submit(partial(self._recorder.write, lane, part, batch), kept_bytes // len(parts))

    def clear(self) -> None:
        """Forget the activations."""
        self._activations, self._bytes = [], 0

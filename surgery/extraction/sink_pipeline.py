"""From the model's activations to files: sinks inside the forward pass, then sinks on the writer's thread.

An activation passes each stage once, in this order:

    immediate sinks    inside the model's forward pass, with live values
    drawing            facts and codes are computed from the values, which the model may then overwrite
    buffer             activations without values wait for the writer's thread
    recorder           deferred sinks, then the manifest
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from surgery.drawing import strip_values
from surgery.extraction.recorder import Recorder
from surgery.extraction.sink_group import SinkGroup, locate_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from surgery.extraction.background_writer import BackgroundWriter
    from surgery.inputs import Input
    from surgery.output import Manifest, OutputFolder, WrittenFile
    from surgery.stages import Sink, Write
    from surgery.types import Activation

BUFFER_BYTES = 4 << 20
"""Activations are collected up to this many bytes, because waking the writer takes as long as drawing a small picture.
"""


class SinkPipeline:
    """Takes the activations of a run to its sinks and its manifest."""

    def __init__(self, folder: OutputFolder, manifest: Manifest, writer: BackgroundWriter) -> None:
        self.recorder = Recorder(folder.for_background_thread(), manifest)
        self._sinks = SinkGroup(folder)
        self._buffer = _ActivationBuffer(writer, self.recorder)
        self._manifest = manifest
        self._writer = writer
        self._dropped_places: set[str] = set()
        """Directories of images that were dropped, with a slash at the end."""

    @contextmanager
    def open(self, sinks: Iterable[Sink], watches: Iterable[Write]) -> Iterator[None]:
        """Within the block, the sinks are open. An error in the block drops the images that are not finished.

        The callbacks `watches` of watchers are called like immediate sinks. Files that sinks write when they close
        belong to the run.
        """
        deferred = self.recorder.sinks
        try:
            with ExitStack() as stack:
                for sink in sinks:
                    group = deferred if getattr(sink, "deferred", False) else self._sinks
                    group.writes.append(stack.enter_context(sink(group.folder)))
                self._sinks.writes += watches
                try:
                    yield
                    self._writer.drain()
                except BaseException:
                    self.drop_unfinished()
                    raise
        finally:
            written = [*self._sinks.folder.take_written(), *deferred.folder.take_written()]
            dropped = tuple(self._dropped_places)
            self._manifest.set_run_files([entry for entry in written if not entry[0].startswith(dropped)])

    def start_batch(self, inputs: Sequence[Input]) -> None:
        """Prepare for the activations of a batch."""
        self.recorder.unfinished += [item.name for item in inputs]
        self._sinks.folder.batch = inputs[0].number

    def write(self, activations: Iterable[Activation]) -> None:
        """Write the activations of one operation. Their values may be overwritten after this returns."""
        pending = []
        for activation in activations:
            with locate_errors(activation):
                pending.append((activation, self._sinks.write(activation)))
        has_deferred_sinks = bool(self.recorder.sinks.writes)
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
        self._writer.submit(partial(self.recorder.finish_batch, inputs, sizes, written, not_reached))

    def reject_batch(self) -> None:
        """Drop a batch that the model can't take, after the batches before it are finished."""
        self._writer.drain()
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Remove what was written of images that are not finished, and forget them."""
        self._buffer.clear()
        with suppress(Exception):  # that error is the reason for the drop, and is raised elsewhere
            self._writer.drain()
        for image in (*self.recorder.unfinished, None):
            self._dropped_places |= {f"{sinks.folder.place(image)}/" for sinks in (self._sinks, self.recorder.sinks)}
            self._sinks.folder.drop(image)
        self.recorder.drop_unfinished()


class _ActivationBuffer:
    """Activations without values that wait to be submitted to the writer's thread."""

    def __init__(self, writer: BackgroundWriter, recorder: Recorder) -> None:
        self._writer = writer
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
        """Have the recorder write the activations on the writer's thread. `batch` is the number of their batch."""
        activations, kept_bytes = self._activations, self._bytes
        self.clear()
        self._writer.submit(partial(self._recorder.write, activations, batch), kept_bytes)

    def clear(self) -> None:
        """Forget the activations."""
        self._activations, self._bytes = [], 0

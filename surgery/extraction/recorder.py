"""The last stage of a run, on the writer's thread: deferred sinks, the manifest, and summaries."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.extraction.sink_group import SinkGroup, locate_errors
from surgery.output import OperationSummary, count_picture_parts, merge_facts, merge_summaries

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from surgery.inputs import Input
    from surgery.output import Manifest, OutputFolder, WrittenFile
    from surgery.types import Activation


class Recorder:
    """Gives activations without values to the deferred sinks, then records them in the manifest.

    `images`, `summaries`, `not_reached` and `overview` cover the images whose files are all written.
    """

    def __init__(self, folder: OutputFolder, manifest: Manifest) -> None:
        self.sinks = SinkGroup(folder)
        self.images = 0
        self.summaries: dict[str, OperationSummary] = {}
        self.not_reached: Counter[str] = Counter()
        """How many images did not reach an operation, by its path."""
        self.overview: str | None = None
        """The first file of several activations, such as a sheet."""
        self.unfinished: list[str] = []
        """Images that the model has started and whose files are not all written."""
        self._manifest = manifest
        self._batch_summaries: dict[str, OperationSummary] = {}

    def write(self, activations: Iterable[tuple[Activation, Sequence[WrittenFile]]], batch: int) -> None:
        """Write and record activations, each with the files that other sinks have written. `batch` is its number."""
        self.sinks.folder.batch = batch
        for activation, written in activations:
            with locate_errors(activation):
                files = [*written, *self.sinks.write(activation)]
                self._manifest.add_activation(activation, files)
                self._summarize(activation, files)

    def finish_batch(
        self,
        inputs: Sequence[Input],
        sizes: Sequence[tuple[int, ...]],
        written: Sequence[WrittenFile],
        not_reached: Sequence[str],
    ) -> None:
        """Record that all activations of a batch are written, with the files that finished last.

        `sizes` are the heights and widths of its images; `not_reached` are the selected operations that did not run.
        """
        folder = self.sinks.folder
        folder.batch = inputs[0].number
        files = [*written, *self.sinks.finish_images(item.name for item in inputs)]
        self._manifest.add_files(files)
        self.overview = self.overview or next((name for name, activation in files if activation is None), None)
        for item, size in zip(inputs, sizes, strict=True):
            self._manifest.finish_image(item.name, item.path, size, item.number, not_reached)
            self.unfinished.remove(item.name)
            folder.forget_image(item.name)
        folder.forget_image(None)
        merge_summaries(self.summaries, self._batch_summaries)
        self._batch_summaries = {}
        self.images += len(inputs)
        self.not_reached.update(dict.fromkeys(not_reached, len(inputs)))

    def drop_unfinished(self) -> None:
        """Remove the files of unfinished images, and forget what was recorded of them."""
        for image in (*self.unfinished, None):
            self.sinks.folder.drop(image)
            self._manifest.drop_image(image)
        self.unfinished = []
        self._batch_summaries = {}

    def _summarize(self, activation: Activation, files: Sequence[WrittenFile]) -> None:
        summary = self._batch_summaries.get(activation.path)
        if summary is not None:
            facts = merge_facts(summary.facts, activation.facts)
            self._batch_summaries[activation.path] = replace(summary, facts=facts)
            return
        operation = activation.operation
        if operation.path != activation.path:  # one of several tensors in the value
            operation = replace(operation, path=activation.path)
        has_several_files = len(files) > 1 and files[1][1] is activation
        parts = count_picture_parts(activation) if has_several_files else 1
        self._batch_summaries[activation.path] = OperationSummary(
            operation, activation.facts, activation.layout, parts, self.sinks.folder.batch
        )

"""Batches through a rewritten model, and what its extractors see to the sinks."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from surgery.drawing import make_activations, make_image_activations, strip_values
from surgery.errors import SurgeryError, TraceError, first_line
from surgery.graph import (
    bitwise_equal,
    contexts,
    copy_sharing_parameters,
    describe_difference,
    named_tensors,
    operations,
    tensor_specs,
)
from surgery.inputs import input_dtype, main_input_name, order_arguments
from surgery.layouts import FollowedModel
from surgery.output import OperationSummary, count_picture_parts, merge_facts, merge_summaries
from surgery.rewriting import listening
from surgery.types import Activation, Operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, fx, nn

    from surgery.extraction.threads import BackgroundWriter
    from surgery.inputs import Batch, Input
    from surgery.output import Manifest, OutputFolder
    from surgery.stages import Limits, Recipe, Sink, Write

HANDOVER_BYTES = 4 << 20
"""Bytes of pictures that are handed over at once: to wake another thread takes as long as to draw a small one."""

Written: TypeAlias = "Sequence[tuple[str, Activation | None]]"
"""Files that were finished, and the activation each is of."""


class BatchRunner:
    """Runs batches through a rewritten model, and hands what passes to the sinks.

    Those that take values are called at once, inside the model's forward. All others, and the manifest, follow on the
    thread of `writer`, in the same order.
    """

    def __init__(
        self,
        opened: fx.GraphModule,
        manifest: Manifest,
        recipe: Recipe,
        limits: tuple[float, float],
        colors: Limits | None,
        original: nn.Module | None,
        writer: BackgroundWriter,
    ) -> None:
        self.opened = opened
        self.original = original
        """To be compared with on the first batch; None once that is done, or not wanted."""
        self.manifest = manifest
        self.recipe = recipe
        self.limits = limits
        self.colors = colors
        """Black and white of the input; None where it may be no image."""
        self.writer = writer
        self.drawn: list[tuple[Activation, Written]] = []
        """What was taken and not yet handed to `writer`."""
        self.cost = 0
        """Its bytes."""
        self.now: list[Write] = []
        self.folder: OutputFolder
        """Of the sinks that are called at once."""
        self.later: list[Write] = []
        self.folder_later: OutputFolder
        self.overview: str | None = None
        """The first file that is of no single activation: a sheet, an archive."""
        self.done = 0
        """Images whose files are all written."""
        self.summaries: dict[str, OperationSummary] = {}
        self.found: dict[str, OperationSummary] = {}
        """Those of the batch that is being written."""
        self.unfinished: list[str] = []
        """Images that were begun."""
        self.dropped: set[str] = set()
        """Where the files of images lie that were begun and are not kept: what is there is removed in the end."""
        self.names: list[str] = []
        """Images of the batch that is running."""
        self.error: Exception | None = None
        self.buffers = [(buffer, buffer.clone()) for buffer in opened.buffers()]
        self.last = len(operations(opened))
        self.placeholders = [str(node.target) for node in opened.graph.nodes if node.op == "placeholder"]
        self.model = FollowedModel(opened)
        self.dtype = input_dtype(opened)

    @contextmanager
    def sinks(self, sinks: Sequence[Sink], folder: OutputFolder) -> Iterator[None]:
        """Within the block, the sinks are open and hear of what the model computes."""
        self.folder, self.folder_later = folder, folder.for_background_thread()
        try:
            with ExitStack() as stack:
                for sink in sinks:
                    deferred = bool(getattr(sink, "deferred", False))
                    writes, place = (self.later, self.folder_later) if deferred else (self.now, self.folder)
                    writes.append(stack.enter_context(sink(place)))
                try:
                    with listening(self.opened, self.take):
                        yield
                    self.writer.drain()
                except BaseException:
                    self.drop()
                    raise
        finally:
            written = [*self.folder.take_written(), *self.folder_later.take_written()]
            self.manifest.set_run_files([each for each in written if not each[0].startswith(tuple(self.dropped))])

    def batch(self, batch: Batch, seed: int, device: str | torch.device, *, output: bool) -> str | None:
        """Run one batch. Returns why the model can't take it, or None when all went well."""
        inputs = batch.inputs
        self.names = [item.name for item in inputs]
        self.unfinished += self.names
        self.folder.batch = inputs[0].number
        others = {name: values.to(device, self.dtype) for name, values in batch.others.items()}
        reason = self.forward(batch.values.to(device, self.dtype), others, seed, output=output)
        if reason:
            self.writer.drain()
            self.drop()
            return reason
        for name in (*self.names, None):
            self.folder.finish(name)
        self.hand_over()
        size = tuple(batch.values.shape[2:])
        self.writer.submit(partial(self.finish, inputs, size, self.folder.take_written()))
        return None

    def finish(self, inputs: Sequence[Input], size: tuple[int, ...], written: Written) -> None:
        """Finish a batch, once all of it was offered: on the thread that writes."""
        self.folder_later.batch = inputs[0].number
        for name in (*(item.name for item in inputs), None):
            self.folder_later.finish(name)
        files = [*written, *self.folder_later.take_written()]
        self.manifest.add_files(files)
        self.overview = self.overview or next((name for name, of in files if of is None), None)
        for item in inputs:
            self.manifest.finish_image(item.name, item.path, size, item.number)
            self.unfinished.remove(item.name)
            self.folder_later.forget_image(item.name)
        self.folder_later.forget_image(None)
        merge_summaries(self.summaries, self.found)
        self.found = {}
        self.done += len(inputs)

    def drop(self) -> None:
        """Leave nothing of the images that were begun and not finished."""
        self.drawn, self.cost = [], 0
        with suppress(Exception):  # that is why they are dropped
            self.writer.drain()
        for name in (*self.unfinished, None):
            self.dropped |= {f"{folder.place(name)}/" for folder in (self.folder, self.folder_later)}
            self.folder.drop(name)
            self.folder_later.drop(name)
            self.manifest.drop_image(name)
        self.unfinished, self.found = [], {}

    def forward(self, values: Tensor, others: Mapping[str, Tensor], seed: int, *, output: bool) -> str | None:
        for buffer, before in self.buffers:
            buffer.copy_(before)
        devices = [values.device] if values.device.type == "cuda" else []
        fresh, fresh_others = values, others
        if self.original is not None:  # a model may write to its input
            fresh, fresh_others = values.clone(), {name: other.clone() for name, other in others.items()}
        with torch.random.fork_rng(devices=devices), torch.no_grad(), contexts.closing():
            torch.manual_seed(seed)
            given = Operation("input", "input", "input", 0, tensors=tensor_specs(values))
            self.offer(self.shown_input(given, values))
            for name, other in others.items():
                beside = Operation(f"input_{name}", f"input.{name}", "input", 0, tensors=tensor_specs(other))
                self.offer(self.shown_input(beside, other, self.limits))
            try:
                result = self.model.run(*order_arguments(self.placeholders, values, others))
            except Exception as error:
                if isinstance(error, SurgeryError) or error is self.error:
                    raise
                shown = [f", {name} as {tuple(other.shape)}" for name, other in others.items()]
                return f"the model does not take it as {tuple(values.shape)}{''.join(shown)}: {first_line(error)}"
            if output:
                self.take_output(values, result)
        if self.original is not None:
            self.compare(self.original, fresh, fresh_others, result, seed)
        return None

    def compare(
        self, original: nn.Module, values: Tensor, others: Mapping[str, Tensor], result: Any, seed: int
    ) -> None:
        """Hold the output against that of the original model, on the same batch with the same random numbers."""
        devices = [values.device] if values.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            named = {str(main_input_name(original, list(others))): values, **others} if others else {}
            truth = copy_sharing_parameters(original)(**named) if named else copy_sharing_parameters(original)(values)
        found, expected = list(named_tensors(result)), list(named_tensors(truth))
        if [key for key, _ in found] != [key for key, _ in expected]:
            raise TraceError(
                f"the rewritten model gives {len(found)} tensors, the original {len(expected)}, or in another order; "
                "`surgery check` shows where they part"
            )
        for (key, ours), (_, theirs) in zip(found, expected, strict=True):
            if not bitwise_equal(ours, theirs):
                raise TraceError(
                    f"the rewritten model does not give the output{key} of the original: "
                    f"{describe_difference(ours, theirs)}; `surgery check` shows where they part"
                )
        self.manifest.head["check"] = "the output of the first batch is the original model's, bit for bit"
        self.original = None

    def take(self, operation: Operation, value: Any) -> None:
        try:
            tensors = tensor_specs(value)
            if tensors != operation.tensors:  # of another size, or another number of images
                operation = replace(operation, tensors=tensors)
            known = partial(self.model.evidence, operation.name)
            self.offer(make_activations(operation, value, self.names, self.recipe, known=known))
        except Exception as error:
            self.error = error
            raise

    def shown_input(self, operation: Operation, values: Tensor, beside: Limits | None = None) -> Iterable[Activation]:
        """The input, or one beside it, in its own colors if it is an image."""
        known = self.colors if beside is None else None
        colors = known or (self.limits if is_image(values, values, self.limits) else None)
        if colors is None:
            return make_activations(operation, values, self.names, self.recipe)
        return make_image_activations(operation, values, self.names, colors, self.recipe)

    def take_output(self, values: Tensor, result: Any) -> None:
        operation = Operation("output", "output", "output", self.last + 1, tensors=tensor_specs(result))
        if is_image(values, result, self.limits):
            self.offer(make_image_activations(operation, result, self.names, self.limits, self.recipe))
        else:
            known = partial(self.model.evidence, "output")
            self.offer(make_activations(operation, result, self.names, self.recipe, known=known))

    def offer(self, activations: Iterable[Activation]) -> None:
        """Take what facts and pictures need of the values of one operation, before they are overwritten."""
        given: list[tuple[Activation, Written]] = []
        for activation in activations:
            with _telling_where(activation):
                for write in self.now:
                    write(activation)
            given.append((activation, self.folder.take_written()))
        for activation, written in given:  # once all were given, since the images of a batch are drawn of one tensor
            with _telling_where(activation):
                self.cost += activation.drawing.quantize_now(pixels=bool(self.later))
            self.drawn.append((strip_values(activation), written))
        if self.cost >= HANDOVER_BYTES:
            self.hand_over()

    def hand_over(self) -> None:
        """Leave what was taken to `writer`."""
        drawn, cost, self.drawn, self.cost = self.drawn, self.cost, [], 0
        self.writer.submit(partial(self.keep, drawn, self.folder.batch), cost)

    def keep(self, drawn: Iterable[tuple[Activation, Written]], batch: int) -> None:
        """Give activations to the sinks that need no values, and record them: on the thread that writes."""
        self.folder_later.batch = batch
        for activation, written in drawn:
            with _telling_where(activation):
                for write in self.later:
                    write(activation)
                files = [*written, *self.folder_later.take_written()]
                self.manifest.add_activation(activation, files)
                parts = max((count_picture_parts(activation) for _, of in files[1:2] if of is activation), default=1)
            known = self.found.get(activation.path)
            if known is None:
                operation = activation.operation
                if operation.path != activation.path:  # one tensor of several
                    operation = replace(operation, path=activation.path)
                self.found[activation.path] = OperationSummary(operation, activation.facts, activation.layout, parts)
            else:
                self.found[activation.path] = replace(known, facts=merge_facts(known.facts, activation.facts))


@contextmanager
def _telling_where(activation: Activation) -> Iterator[None]:
    """Have an error say at which activation it was: in its line, where it is one of ours, or else below it."""
    try:
        yield
    except Exception as error:
        where = f"at {activation.path}" + (f" of {activation.image}" if activation.image is not None else "")
        if isinstance(error, SurgeryError):
            error.args = (f"{where}: {error}",)
        else:
            error.add_note(where)
        raise


def is_image(values: Tensor, result: Any, limits: tuple[float, float]) -> bool:
    """Whether an output is colors: of the input's size, 3 channels or 1, and within the range of the images."""
    tensors = [tensor for _, tensor in named_tensors(result)]
    if len(tensors) != 1 or tensors[0] is not result or not result.is_floating_point() or result.ndim != 4:
        return False
    if result.shape[1] not in (1, 3) or result.shape[2:] != values.shape[2:]:
        return False
    low, high = limits
    return bool(result.min() >= low) and bool(result.max() <= high)

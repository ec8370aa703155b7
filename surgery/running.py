"""Batches through a rewritten model, and what its extractors see to the sinks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from surgery import contexts
from surgery.bits import apart, same_bits
from surgery.errors import SurgeryError, TraceError, first_line
from surgery.extractor import listening
from surgery.nodes import operations, specs
from surgery.rendering import activations_of, image_activations
from surgery.report import Finding, merge
from surgery.twins import twin
from surgery.types import Operation
from surgery.values import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, fx, nn

    from surgery.batches import Input
    from surgery.folder import OutputFolder
    from surgery.manifest import Manifest
    from surgery.types import Activation, Recipe, Write


class Run:
    """Runs batches through a rewritten model, and hands what passes to the sinks."""

    def __init__(
        self,
        opened: fx.GraphModule,
        folder: OutputFolder,
        manifest: Manifest,
        recipe: Recipe,
        limits: tuple[float, float],
        original: nn.Module | None,
    ) -> None:
        self.opened = opened
        self.original = original
        """To be compared with on the first batch; None once that is done, or not wanted."""
        self.folder = folder
        self.manifest = manifest
        self.recipe = recipe
        self.limits = limits
        self.writes: list[Write] = []
        self.findings: dict[str, Finding] = {}
        self.found: dict[str, Finding] = {}
        """Those of the batch that is running."""
        self.names: list[str] = []
        self.error: Exception | None = None
        self.buffers = [(buffer, buffer.clone()) for buffer in opened.buffers()]
        self.last = len(operations(opened))

    def batch(self, batch: Sequence[Input], seed: int, device: str | torch.device, *, output: bool) -> str | None:
        """Run one batch. Returns why the model can't take it, or None when all went well."""
        self.names = [item.name for item in batch]
        self.found = {}
        try:
            reason = self.forward(torch.cat([item.values for item in batch]).to(device), seed, output=output)
        except BaseException:
            self.drop()
            raise
        if reason:
            self.drop()
            return reason
        for name in (*self.names, None):
            self.folder.finish(name)
        self.manifest.files(self.folder.take_written())
        for item in batch:
            self.manifest.finish(item.name, item.path, tuple(item.values.shape[2:]))
        for path, finding in self.found.items():
            known = self.findings.get(path)
            self.findings[path] = replace(finding, facts=merge(known.facts, finding.facts)) if known else finding
        return None

    def drop(self) -> None:
        """Leave nothing behind of a batch that failed."""
        for name in (*self.names, None):
            self.folder.drop(name)
            self.manifest.drop(name)

    def forward(self, values: Tensor, seed: int, *, output: bool) -> str | None:
        for buffer, before in self.buffers:
            buffer.copy_(before)
        devices = [values.device] if values.device.type == "cuda" else []
        fresh = values.clone() if self.original is not None else values  # a model may write to its input
        with (
            torch.random.fork_rng(devices=devices),
            torch.no_grad(),
            contexts.closing(),
            listening(self.opened, self.take),
        ):
            torch.manual_seed(seed)
            given = Operation("input", "input", "input", 0, tensors=specs(values))
            self.offer(image_activations(given, values, self.names, self.limits, self.recipe))
            try:
                # Not a call: that would print the generated code when the model raises, and drop the traceback.
                result = self.opened.forward(values)
            except Exception as error:
                if isinstance(error, SurgeryError) or error is self.error:
                    raise
                return f"the model does not take it as {tuple(values.shape)}: {first_line(error)}"
            if output:
                self.take_output(values, result)
        if self.original is not None:
            self.compare(self.original, fresh, result, seed)
        return None

    def compare(self, original: nn.Module, values: Tensor, result: Any, seed: int) -> None:
        """Hold the output against that of the original model, on the same batch with the same random numbers."""
        devices = [values.device] if values.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            truth = twin(original)(values)
        for (key, ours), (_, theirs) in zip(tensors_in(result), tensors_in(truth), strict=True):
            if not same_bits(ours, theirs):
                raise TraceError(
                    f"the rewritten model does not give the output{key} of the original: {apart(ours, theirs)}; "
                    "`surgery check` shows where they part"
                )
        self.manifest.head["check"] = "the output of the first batch is the original model's, bit for bit"
        self.original = None

    def take(self, operation: Operation, value: Any) -> None:
        try:
            self.offer(activations_of(replace(operation, tensors=specs(value)), value, self.names, self.recipe))
        except Exception as error:
            self.error = error
            raise

    def take_output(self, values: Tensor, result: Any) -> None:
        operation = Operation("output", "output", "output", self.last + 1, tensors=specs(result))
        if is_image(values, result, self.limits):
            self.offer(image_activations(operation, result, self.names, self.limits, self.recipe))
        else:
            self.offer(activations_of(operation, result, self.names, self.recipe))

    def offer(self, activations: Iterable[Activation]) -> None:
        for activation in activations:
            for write in self.writes:
                write(activation)
            self.manifest.activation(activation, self.folder.take_written())
            known = self.found.get(activation.path)
            facts = merge(known.facts, activation.facts) if known else activation.facts
            self.found[activation.path] = Finding(replace(activation.operation, path=activation.path), facts)


def is_image(values: Tensor, result: Any, limits: tuple[float, float]) -> bool:
    """Whether an output is colors: of the input's size, 3 channels or 1, and within the range of the images."""
    tensors = [tensor for _, tensor in tensors_in(result)]
    if len(tensors) != 1 or tensors[0] is not result or not result.is_floating_point() or result.ndim != 4:
        return False
    if result.shape[1] not in (1, 3) or result.shape[2:] != values.shape[2:]:
        return False
    low, high = limits
    return bool(result.min() >= low) and bool(result.max() <= high)

"""The whole job: images through a model, and what every chosen operation computed into sinks."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from surgery.builtin.normalizers import MinMax
from surgery.builtin.sinks import Png, Sheet
from surgery.builtin.tilers import Grid
from surgery.errors import ImageError, ModelError, OutputError, SurgeryError, first_line
from surgery.extractor import listening
from surgery.folder import OutputFolder
from surgery.images import Side, find_images, load_image
from surgery.insertion import insert, until_last
from surgery.manifest import Manifest
from surgery.rendering import activations_of, image_activations
from surgery.selection import everything, parse, select
from surgery.tracing import operations, specs, trace, unwrap
from surgery.twins import twin
from surgery.types import Facts, Operation, Recipe
from surgery.values import tensors_in

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, fx

    from surgery.images import Size
    from surgery.selection import Selection
    from surgery.types import Activation, Colormap, Normalizer, Sink, Tiler, Write

Mode: TypeAlias = Literal["eval", "train", "as-is"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in images."""

    done: int
    failed: int
    total: int
    image: str
    """Name of the image that was finished last."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, or that the model could not take."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found at one operation, over all images of a run."""

    operation: Operation
    facts: Facts
    """Least and greatest over all images; the greatest number of constant channels in one."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    folder: Path
    images: int
    files: int
    failed: tuple[Failure, ...]
    findings: tuple[Finding, ...]
    seconds: float
    """Wall time."""
    interrupted: bool
    """Whether Ctrl-C ended it: what was finished stays."""


def extract(
    model: nn.Module,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    at: Selection | str | Sequence[Selection | str] = everything,
    out: str | os.PathLike[str] = "activations",
    normalizer: Normalizer = MinMax(),  # noqa: B008 - frozen
    tiler: Tiler = Grid(),  # noqa: B008
    colormap: Colormap = None,
    sinks: Sequence[Sink] = (Png(), Sheet()),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] = (-1.0, 1.0),  # noqa: A002
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    stats: bool = False,
    output: bool = True,
    leaves: Sequence[str | type[nn.Module]] = (),
    source: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run `model` on images, and give what the operations chosen by `at` compute to the sinks, with a manifest.

    `images` are files, folders and patterns. `at` may be several selections; each must match something. `size` None
    is the network's own (an attribute `size`), else each image's own. `mode` says whether the model runs as in
    evaluation, as in training (the test mode of the public pix2pix code: batch statistics, dropout on), or as it is;
    the model itself stays in its mode. The random generators are seeded with `seed` before every batch, and buffers
    (running statistics) are put back, so that what an image gives depends on its batch alone. Without `output` the
    model is run no further than its last chosen operation. `source` is recorded as where the model came from.

    An image that can't be read, or that the model can't take, is left out and reported; all else that goes wrong
    raises a SurgeryError. Ctrl-C ends the run after what is finished.
    """
    started = time.perf_counter()
    _check_settings(mode, batch_size, side)
    paths = find_images(images)
    original = unwrap(model)
    subject = _prepare(original, mode, device)
    opened = _open(subject, at, leaves, output=output)
    recipe = Recipe(normalizer, tiler, colormap, stats)
    manifest = Manifest.of(
        subject,
        source=source,
        settings={"mode": mode, "seed": seed, "batch_size": batch_size, "range": list(range), "side": side},
        recipe=recipe,
    )
    folder = OutputFolder(out, manifest.about)
    folder.prepare()
    wanted = getattr(original, "size", None) if size is None else size
    reader = _Reader(paths, size=wanted, side=side, range=range, channels=input_channels(original))
    failed = reader.failed
    done, interrupted = 0, False
    run = _Run(opened, folder, manifest, recipe, range)
    with manifest:
        try:
            with ExitStack() as stack:
                run.writes = [stack.enter_context(sink(folder)) for sink in sinks]
                try:
                    for batch in _batches(reader.read(), batch_size):
                        reason = _misfit(original, batch[0].values) or run.batch(batch, seed, device, output=output)
                        if reason:
                            failed += [Failure(str(item.path), reason) for item in batch]
                            continue
                        done += len(batch)
                        if progress:
                            progress(Progress(done, len(failed), len(paths), batch[-1].name))
                except KeyboardInterrupt:
                    interrupted = True
        except Exception:
            if done:
                with suppress(OutputError):
                    manifest.write(folder, run.findings, failed, interrupted=True)
            raise
        files = manifest.write(folder, run.findings, failed, interrupted=interrupted)
    return Report(
        folder=folder.path,
        images=done,
        files=files,
        failed=tuple(failed),
        findings=tuple(run.findings.values()),
        seconds=time.perf_counter() - started,
        interrupted=interrupted,
    )


def input_channels(model: nn.Module) -> int:
    """How many channels a model takes: its `in_channels`, else those of its first convolution, else 3."""
    if isinstance(declared := getattr(model, "in_channels", None), int):
        return declared
    first = next((m for m in model.modules() if isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d))), None)
    return first.in_channels if first is not None else 3


def _check_settings(mode: str, batch_size: int, side: str) -> None:
    if mode not in ("eval", "train", "as-is"):
        raise ModelError(f"mode is eval, train or as-is, not {mode!r}")
    if batch_size < 1:
        raise ModelError(f"a batch has at least 1 image, not {batch_size}")
    if side not in get_args(Side):
        raise ImageError(f"side is left, right or none, not {side!r}")


def _prepare(model: nn.Module, mode: Mode, device: str | torch.device) -> nn.Module:
    """A twin of the model, on the device and in the mode of the run."""
    subject = twin(model)
    if mode != "as-is":
        subject.train(mode == "train")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
        return subject.to(target)
    except (RuntimeError, AssertionError) as error:
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ModelError(f"there is no device {str(device)!r}; here there is {' and '.join(here)}") from error


def _open(
    subject: nn.Module,
    at: Selection | str | Sequence[Selection | str],
    leaves: Sequence[str | type[nn.Module]],
    *,
    output: bool,
) -> fx.GraphModule:
    traced = trace(subject, leaves=leaves)
    inputs = [node.name for node in traced.graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ModelError(
            f"{type(subject).__name__} takes {len(inputs)} inputs ({', '.join(inputs) or 'none'}), and images are one; "
            "use surgery.trace, insert and record"
        )
    selections = at if isinstance(at, (list, tuple)) else [at]
    chosen = {
        operation.index: operation
        for selection in selections
        for operation in select(traced, parse(selection) if isinstance(selection, str) else selection)  # type: ignore[arg-type]
    }
    opened = insert(traced, [chosen[index] for index in sorted(chosen)])
    return opened if output else until_last(opened)


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    name: str
    path: Path
    values: Tensor
    """``(1, C, H, W)``."""


class _Reader:
    """Reads the images of a run, in order, and keeps a list of those that can't be read."""

    def __init__(self, paths: Sequence[Path], **options: Any) -> None:
        self.paths = paths
        self.options = options
        self.failed: list[Failure] = []

    def read(self) -> Iterator[_Input]:
        taken = {"batch"}  # where sinks keep what belongs to a whole batch
        for path in self.paths:
            name, number = path.stem, 1
            while name.lower() in taken:
                number += 1
                name = f"{path.stem}-{number}"
            taken.add(name.lower())
            try:
                yield _Input(name, path, load_image(path, **self.options))
            except ImageError as error:
                self.failed.append(Failure(str(path), str(error)))


def _batches(inputs: Iterable[_Input], size: int) -> Iterator[list[_Input]]:
    """Neighbours of one shape, at most `size` of them."""
    inputs = iter(inputs)
    waiting = list(islice(inputs, 1))
    while waiting:
        batch, waiting = waiting, []
        for item in islice(inputs, size - len(batch)) if size > 1 else ():
            if item.values.shape != batch[0].values.shape:
                waiting = [item]
                break
            batch.append(item)
        yield batch
        waiting = waiting or list(islice(inputs, 1))


def _misfit(model: nn.Module, values: Tensor) -> str | None:
    """Why a network that says what sizes it takes can't take this one."""
    multiple = getattr(model, "multiple", 1)
    height, width = values.shape[2:]
    if not isinstance(multiple, int) or (height % multiple == 0 and width % multiple == 0):
        return None
    near = max(multiple, round(max(height, width) / multiple) * multiple)
    return (
        f"{type(model).__name__} takes heights and widths that are multiples of {multiple}, not {height}x{width}; "
        f"size {near} would do"
    )


class _Run:
    """Runs batches through a rewritten model, and hands what passes to the sinks."""

    def __init__(
        self,
        opened: fx.GraphModule,
        folder: OutputFolder,
        manifest: Manifest,
        recipe: Recipe,
        limits: tuple[float, float],
    ) -> None:
        self.opened = opened
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

    def batch(self, batch: Sequence[_Input], seed: int, device: str | torch.device, *, output: bool) -> str | None:
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
        with torch.random.fork_rng(devices=devices), torch.no_grad(), listening(self.opened, self.take):
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
        return None

    def take(self, operation: Operation, value: Any) -> None:
        try:
            self.offer(activations_of(replace(operation, tensors=specs(value)), value, self.names, self.recipe))
        except Exception as error:
            self.error = error
            raise

    def take_output(self, values: Tensor, result: Any) -> None:
        operation = Operation("output", "output", "output", self.last + 1, tensors=specs(result))
        if _is_image(values, result, self.limits):
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


def _is_image(values: Tensor, result: Any, limits: tuple[float, float]) -> bool:
    """Whether an output is colors: of the input's size, 3 channels or 1, and within the range of the images."""
    tensors = [tensor for _, tensor in tensors_in(result)]
    if len(tensors) != 1 or tensors[0] is not result or not result.is_floating_point() or result.ndim != 4:
        return False
    if result.shape[1] not in (1, 3) or result.shape[2:] != values.shape[2:]:
        return False
    low, high = limits
    return bool(result.min() >= low) and bool(result.max() <= high)


def merge(one: Facts, other: Facts) -> Facts:
    """The facts of both together: extremes of both, the greater number of constant channels."""
    least = [value for value in (one.min, other.min) if value is not None]
    most = [value for value in (one.max, other.max) if value is not None]
    return Facts(
        min=min(least, default=None),
        max=max(most, default=None),
        channels=max(one.channels, other.channels),
        constant_channels=max(one.constant_channels, other.constant_channels),
        nan=one.nan or other.nan,
        inf=one.inf or other.inf,
    )


__all__ = ["Failure", "Finding", "Mode", "Progress", "Report", "extract", "input_channels"]

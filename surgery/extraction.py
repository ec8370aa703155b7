"""The whole job: images through a model, and what every chosen operation computed into sinks."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch
from torch import nn

from surgery.batches import Reader, batches, misfit
from surgery.builtin.normalizers import MinMax
from surgery.builtin.sinks import Png, Sheet
from surgery.builtin.tilers import Grid
from surgery.errors import ImageError, ModelError, OutputError
from surgery.folder import OutputFolder
from surgery.hazards import hazards
from surgery.images import Side, find_images
from surgery.insertion import insert, until_last
from surgery.manifest import Manifest
from surgery.pipeline import Ahead, Behind
from surgery.report import Failure, Progress, Report
from surgery.running import Run
from surgery.selection import everything, parse, select
from surgery.tracing import trace, unwrap
from surgery.twins import own_parameters, twin
from surgery.types import Recipe

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from torch import fx

    from surgery.images import Size
    from surgery.selection import Selection
    from surgery.types import Colormap, Normalizer, Sink, Tiler

Mode: TypeAlias = Literal["eval", "train", "as-is"]


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
    check: bool = False,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    source: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run `model` on images, and give what the operations chosen by `at` compute to the sinks, with a manifest.

    `images` are files, folders and patterns. `at` may be several selections; each must match something. `size` None
    is the network's own (an attribute `size`), else each image's own. `mode` says whether the model runs as in
    evaluation, as in training (the test mode of the public pix2pix code: batch statistics, dropout on), or as it is;
    the model itself stays in its mode. The random generators are seeded with `seed` before every batch, and buffers
    (running statistics) are put back, so that what an image gives depends on its batch alone. Without `output` the
    model is run no further than its last chosen operation. With `check` the original runs on the first batch as well,
    and its output has to be the same, bit for bit; that is recorded. `source` is recorded as where the model came from.

    An image that can't be read, or that the model can't take, is left out and reported; all else that goes wrong
    raises a SurgeryError. Ctrl-C ends the run after what is finished.
    """
    started = time.perf_counter()
    _check_settings(mode, batch_size, side)
    paths = find_images(images)
    original = unwrap(model)
    subject = _prepare(original, mode, device)
    opened = _open(subject, at, leaves, allow, output=output)
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
    reader = Reader(paths, size=wanted, side=side, range=range, channels=input_channels(original))
    failed = reader.failed
    interrupted = False
    with manifest, Behind() as behind:
        run = Run(opened, manifest, recipe, range, subject if check and output else None, behind)
        try:
            with run.sinks(sinks, folder), Ahead(reader.read(), 2 * batch_size) as inputs:
                begun = 0
                try:
                    for batch in batches(inputs, batch_size):
                        reason = misfit(original, batch[0].values) or run.batch(batch, seed, device, output=output)
                        if reason:
                            failed += [Failure(str(item.path), reason) for item in batch]
                            continue
                        begun += len(batch)
                        if progress:
                            progress(Progress(begun, len(failed), len(paths), batch[-1].name))
                except KeyboardInterrupt:
                    interrupted = True
                    run.drop()
        except Exception:
            if run.done:
                with suppress(OutputError):
                    manifest.write(folder, run.findings, failed, interrupted=True)
            raise
        files = manifest.write(folder, run.findings, failed, interrupted=interrupted)
    return Report(
        folder=folder.path,
        images=run.done,
        files=files,
        failed=tuple(failed),
        findings=tuple(run.findings.values()),
        seconds=time.perf_counter() - started,
        hazards=hazards(opened),
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
    try:
        target = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ModelError(f"there is no device {str(device)!r}; here there is {' and '.join(here)}") from error
    subject = twin(model)
    own_parameters(subject)
    subject.to(target)
    return subject if mode == "as-is" else subject.train(mode == "train")


def _open(
    subject: nn.Module,
    at: Selection | str | Sequence[Selection | str],
    leaves: Sequence[str | type[nn.Module]],
    allow: Sequence[str],
    *,
    output: bool,
) -> fx.GraphModule:
    traced = trace(subject, leaves=leaves, allow=allow)
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

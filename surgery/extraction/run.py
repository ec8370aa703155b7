"""The whole job: images through a model, and what every chosen operation computed into sinks."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch import nn

from surgery.builtin import Grid, MinMax, Png, Sheet
from surgery.errors import ImageError, ModelError
from surgery.extraction.execution import RunPlan, run_in_this_process, run_in_worker_processes
from surgery.extraction.named_stages import StageResolver
from surgery.extraction.watchers import WatcherList
from surgery.graph import copy_sharing_parameters, hazards, unshare_parameters
from surgery.inputs import (
    ImageReader,
    Inputs,
    Notes,
    Side,
    collect_notes,
    default_range,
    find_images,
    find_other_inputs,
    format_notes,
    input_limits,
    input_settings,
    main_input_name,
    model_preprocessing,
    read_example,
    reader_for_model,
    reader_for_other_input,
    reader_suffixes,
    resolve_size,
)
from surgery.layouts import layout_rules
from surgery.models import check_seed, get_provenance
from surgery.output import Manifest, OutputFolder, Progress, Report, RunStart, acquire_workspace, check_overwrite
from surgery.rewriting import (
    ALL_OPERATIONS,
    find_extractors,
    insert,
    parse_selection,
    select,
    stop_after_last_extractor,
)
from surgery.text import WORK_FOLDER, describe_stage
from surgery.tracing import trace, unwrap_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import fx

    from surgery.inputs import FilePatterns, Size
    from surgery.layouts import Layouts
    from surgery.output import Watcher
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Colormap, Normalizer, Reader, Sink, Tiler, Transform

Mode: TypeAlias = Literal["eval", "train", "as-is"]


def extract(
    model: nn.Module,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    out: str | os.PathLike[str] = "activations",
    normalizer: Normalizer | str = MinMax(),  # noqa: B008 - frozen
    tiler: Tiler | str = Grid(),  # noqa: B008
    colormap: Colormap = None,
    transforms: Transform | str | Sequence[Transform | str] = (),
    layout: Layouts = None,
    sinks: Sink | str | Sequence[Sink | str] = (Png(), Sheet()),  # noqa: B008
    inputs: Mapping[str, FilePatterns] = MappingProxyType({}),
    reader: Reader | str = ImageReader(),  # noqa: B008
    readers: Mapping[str, Reader | str] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    stats: bool = False,
    output: bool = True,
    jobs: int = 1,
    check: bool = True,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    source: str | None = None,
    overwrite: bool = False,
    watchers: Sequence[Watcher] = (),
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run `model` on images, and give what the operations chosen by `at` compute to the sinks, with a manifest.

    `images` are files, folders and patterns. `at` may be several selections; each must match something. `size` and
    `range` None are the network's own (an attribute `preprocessing`, or `size`), else each image's own size, and -1 to
    1. `size` and `side`, as `surgery.load_image` has them, are of the default reader, which reads images; another
    `reader` takes options of its own. `mode` says whether the model runs as in evaluation, as in training (the test
    mode of the public pix2pix code: batch statistics, dropout on), or as it is; the model itself stays in its mode. The
    random generators are seeded with `seed` before every batch, and buffers (running statistics) are put back, so that
    what an image gives depends on its batch alone. Without `output` the model is run no further than its last chosen
    operation. With `check` the original runs on the first batch as well, and its output has to be the same, bit for
    bit; that is recorded. `source` is recorded as where the model came from.

    Normalizer, tiler, colormap, transforms, sinks and reader are values, or names that `plugins` offer (None: those of
    the command line), with options: ``normalizer="percentile:low=2"``, ``sinks=["png", "npz"]``.

    `inputs` are what a model of several inputs takes beside the image: the name of forward's parameter, and files as in
    `images`, one for each image (by their names, or in order) or one for all. They are read as images, or by what
    `readers` has for the name; the manifest and the sinks have them as ``input.NAME``.

    With one of `jobs` images are read and pictures written on threads beside the one that runs the model. Several are
    processes that share the images, batch by batch, each with one thread for everything: faster where there are many
    images for each core. Every sink has to be one that keeps images apart.

    `layout` says how values are read as maps, such as ``surgery.layouts.ChannelsLast()``, for all operations that it
    fits, or, as a mapping from selections to layouts, for some. None is to find it: what the axes of a value are is
    followed through the graph, and told by their number where that is not known. What was decided stands in the
    manifest, and why.

    `out` is made if it is not there. A folder with a finished run is refused, with OutputError, unless `overwrite` is
    true: then the files that its manifest lists are removed, and nothing else, once an image of this run is finished.
    A run that finishes no image leaves the folder as it was. Two runs can't write to one folder at once.

    `watchers` are told of the run while it goes on; one that raises is left out of the rest and stands in the report.
    An image that can't be read, or that the model can't take, is left out and reported; all else that goes wrong
    raises a SurgeryError. Ctrl-C ends the run after what is finished.
    """
    started = time.perf_counter()
    _check_settings(mode, batch_size, side, jobs, device, seed)
    watcher_list = WatcherList(watchers)
    stages = StageResolver(plugins)
    reading: Reader = stages.resolve("reader", reader)
    writing: tuple[Sink, ...] = stages.resolve_all("sink", sinks)
    drawn = stages.recipe(normalizer, tiler, colormap, transforms)
    if jobs > 1:
        _check_shared(jobs, writing, watcher_list)
    found: Notes = {}
    with collect_notes(found):
        paths = find_images(images, reader_suffixes(reading))
    original = unwrap_model(model)
    span = range or default_range(reading)
    preprocessing = model_preprocessing(original) if span == (-1.0, 1.0) and range is None else None
    read = reader_for_model(reading, original, size, side, span, preprocessing, has_other_inputs=bool(inputs))
    named = {name: stages.resolve("reader", each) for name, each in readers.items()}
    with collect_notes(found):
        beside = find_other_inputs(original, paths, inputs, named, ImageReader())
    sized = resolve_size(original, size, preprocessing)
    beside = tuple(
        replace(each, reader=reader_for_other_input(each.reader, sized, side, span, preprocessing)) for each in beside
    )
    check_overwrite(Path(out), overwrite=overwrite or (Path(out) / WORK_FOLDER).exists())
    subject = _prepare(original, mode, device)
    example = read_example(subject, Inputs(paths, read, others=beside), device)
    opened = _open(subject, at, leaves, allow, [each.name for each in beside], example, output=output)
    rules = layout_rules(layout, [extractor.operation for extractor in find_extractors(opened)])
    recipe = replace(drawn, stats=stats, layouts=rules)
    manifest = Manifest.for_run(
        subject,
        source=source,
        settings={
            "mode": mode,
            "seed": seed,
            "batch_size": batch_size,
            **input_settings(reading, side, span, preprocessing),
            **({"inputs": {n: describe_stage(named.get(n, ImageReader())) for n in inputs}} if inputs else {}),
        },
        recipe=recipe.describe(),
        weights=get_provenance(original).describe_weights(original),
    )
    read_from = [*paths, *(path for each in beside for path in each.paths)]
    with acquire_workspace(Path(out), overwrite=overwrite, inputs=read_from) as workspace:
        folder = OutputFolder(out, manifest.about, workspace)
        places = [name for sink in writing for name in getattr(sink, "places", ())]
        taken = Inputs(paths, read, found, places, beside)
        folder.reserve_image_names(name for _, name in taken.named_paths)
        plan = RunPlan(
            opened=opened,
            original=original,
            subject=subject if check and output else None,
            recipe=recipe,
            span=span,
            colors=input_limits(reading, side, span, preprocessing),
            sinks=writing,
            folder=folder,
            workspace=workspace,
            inputs=taken,
            batch_size=batch_size,
            device=torch.device(device),
            seed=seed,
            output=output,
        )
        operations = tuple(each.operation for each in find_extractors(opened))
        with manifest.recording(workspace, operations):
            watcher_list.started(RunStart(folder.path, tuple(paths), operations, folder.about))
            if (shares := _shares(jobs, len(paths), batch_size)) == 1:
                done = run_in_this_process(plan, manifest, watcher_list.writes, progress)
            else:
                done = run_in_worker_processes(plan, manifest, shares, progress)
    report = Report(
        folder=folder.path,
        images=done.images,
        files=done.files,
        failed=done.failed,
        summaries=done.summaries,
        seconds=time.perf_counter() - started,
        hazards=hazards(opened),
        notes=(*get_provenance(original).notes(original, source or type(original).__name__), *format_notes(done.notes)),
        interrupted=done.interrupted,
        overview=None if done.overview is None else folder.path / done.overview,
    )
    return watcher_list.finished(report)


def _check_settings(mode: str, batch_size: int, side: str, jobs: int, device: str | torch.device, seed: int) -> None:
    check_seed(seed)
    if mode not in ("eval", "train", "as-is"):
        raise ModelError(f"mode is eval, train or as-is, not {mode!r}")
    if not 1 <= batch_size < 2**31:
        raise ModelError(f"a batch has at least 1 image and fewer than 2**31, not {str(batch_size)[:40]}")
    if side not in get_args(Side):
        raise ImageError(f"side is left, right or none, or both, left,right or right,left; not {side!r}")
    if jobs < 1:
        raise ModelError(f"there is at least 1 job, not {jobs}")
    if jobs > 1 and not str(device).startswith("cpu"):
        raise ModelError(f"{jobs} jobs are for the CPU, not for {device}; use one job")
    if str(device).partition(":")[0] == "meta":
        raise ModelError("the device 'meta' computes shapes and no values; there is nothing to draw")


def _check_shared(jobs: int, sinks: Sequence[Sink], watcher_list: WatcherList) -> None:
    """Raise ModelError for what several jobs can't share."""
    for sink in sinks:
        if not getattr(sink, "alone", False):
            raise ModelError(
                f"sink {describe_stage(sink)} writes what is of several images, which {jobs} jobs can't share; "
                "use one job"
            )
    if watcher_list.writes:
        raise ModelError(f"a plugin watches activations, which {jobs} jobs can't share; use one job, or block it")


def _shares(jobs: int, images: int, batch_size: int) -> int:
    """Processes that have something to do: there are no more batches than that, and few more cores."""
    return max(1, min(jobs, -(-images // batch_size), 4 * (os.cpu_count() or 1)))


def _prepare(model: nn.Module, mode: Mode, device: str | torch.device) -> nn.Module:
    """A twin of the model, on the device and in the mode of the run."""
    try:
        target = torch.empty(0, device=device).device
    except Exception as error:  # each kind of device that is not there has an error of its own
        here = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ModelError(f"there is no device {str(device)!r}; here there is {' and '.join(here)}") from error
    subject = copy_sharing_parameters(model)
    unshare_parameters(subject)
    subject.to(target)
    return subject if mode == "as-is" else subject.train(mode == "train")


def _open(
    subject: nn.Module,
    at: Selection | str | Sequence[Selection | str],
    leaves: Sequence[str | type[nn.Module]],
    allow: Sequence[str],
    others: Sequence[str],
    example: Any,
    *,
    output: bool,
) -> fx.GraphModule:
    traced = trace(subject, example, leaves=leaves, allow=allow)
    inputs = [str(node.target) for node in traced.graph.nodes if node.op == "placeholder"]
    missing = [name for name in inputs if name not in others and name != main_input_name(subject, others)]
    if missing or len(inputs) != 1 + len(others):
        told = f"give {missing[0]} too: --input {missing[0]}=FILES (inputs= in Python)" if missing else "images are one"
        raise ModelError(f"{type(subject).__name__} takes {len(inputs)} inputs ({', '.join(inputs) or 'none'}); {told}")
    selections = at if isinstance(at, (list, tuple)) else [at]
    chosen = {
        operation.index: operation
        for selection in selections
        for operation in select(traced, parse_selection(selection) if isinstance(selection, str) else selection)  # type: ignore[arg-type]
    }
    opened = insert(traced, [chosen[index] for index in sorted(chosen)])
    return opened if output else stop_after_last_extractor(opened)

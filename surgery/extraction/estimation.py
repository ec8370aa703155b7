"""`estimate`: what a run will write and need, from a trial of its first images."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from surgery.builtin import Statistics
from surgery.errors import ImageError, ModelError
from surgery.extraction.named_stages import StageResolver
from surgery.extraction.run import extract
from surgery.extraction.run_estimate import OTHER, Estimate, OperationEstimate
from surgery.extraction.sink_completion import check_sinks
from surgery.extraction.trial import Trial, trying
from surgery.output import (
    Address,
    ManifestReader,
    Uploads,
    free_space,
    listed_files,
    parse_place,
    round_to_blocks,
    staging_home,
)
from surgery.page import INDEX, PAGE
from surgery.text import BATCH_FOLDER, format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from surgery.inputs import FilePatterns
    from surgery.output import Place, Progress, Report

NOISE_NOTE = "the size is that of noise, which compresses least; --sample 2 (sample=2) measures that of the pictures"
START_NOTE = "the seconds include those of the start; a sample of more images than a batch has leaves them out"

_PAGE_PICTURES = (f"{PAGE}/pixels/", f"{PAGE}/measures/")
"""Where the page has files for each image."""


def estimate(
    model: nn.Module,
    images: FilePatterns = (),
    *,
    out: str | os.PathLike[str] | Address = "activations",
    sample: int = 0,
    **settings: Any,
) -> Estimate:
    """Return what `surgery.extract` will write and need for the same arguments, without writing into `out`.

    - `model`, `images`: As in `surgery.extract`.
    - `out`: The folder of the run, on whose disk the files have to fit, or an address. It is not made.
    - `sample`: How many images to run, in a temporary folder, whose files are measured. With 0 the model does not run:
      shapes are computed by torch's fake tensors, and the sinks draw and write one batch of noise in place of values.
    - `settings`: The other arguments of `surgery.extract`. `jobs`, `engine`, `watchers`, `overwrite` and `check`
      have no effect.

    Values, pixels and files are exact if all images have the size of the first, and if none fails; those of values that
    belong to a whole batch, if the last batch is full. In a store such as Zarr's, all files but the JSON are taken to
    grow with the images. Bytes are scaled from the sample. Without a sample they are those of noise, which compresses
    least, so that they are about the most that the run can need.

    Raises ModelError or TraceError for a model that needs values to run or to be traced, and for gradients, if `sample`
    is 0; otherwise what `surgery.extract` raises.
    """
    if sample < 0:
        raise ModelError(f"a sample has 0 images or more, not {sample}")
    batch_size = settings.get("batch_size", 1)
    trial = Trial(sample or batch_size, runs_model=sample > 0)
    progress = settings.pop("progress", None)

    def on_progress(now: Progress) -> None:
        trial.note_progress(now.done)
        if progress is not None:
            progress(now)

    ignored = ("jobs", "engine", "watchers", "overwrite", "check", "force")
    settings = {name: value for name, value in settings.items() if name not in ignored}
    device = torch.device(settings.get("device", "cpu"))
    if device.type == "cuda" and sample:
        torch.cuda.reset_peak_memory_stats(device)
    place = parse_place(out)
    check_sinks(StageResolver(settings.get("plugins")).resolve_all("sink", settings.get("sinks", ())), place)
    with TemporaryDirectory(prefix="surgery-", ignore_cleanup_errors=True) as folder, trying(trial):
        report = extract(model, images, out=folder, check=False, force=True, progress=on_progress, **settings)
        if report.interrupted:
            raise KeyboardInterrupt
        if not report.images:
            if not report.failed:
                raise ImageError("the shard has no image: the run has fewer batches than shards")
            raise ImageError(f"{report.failed[0].path}: {report.failed[0].reason}")
        operations, disk_bytes = _measure(Path(str(report.folder)), report, trial.total, batch_size)
    return Estimate(
        folder=place,
        images=trial.total,
        sample=report.images if sample else 0,
        operations=operations,
        disk_bytes=disk_bytes,
        free_bytes=None if isinstance(place, Address) else free_space(place),
        memory=_peak_memory(device) if sample else trial.live_bytes,
        seconds_per_image=trial.seconds_per_image(report.images) if sample else None,
        notes=(*_staging_notes(place, disk_bytes, trial.total, batch_size), *_notes(trial, report.images)),
    )


def _staging_notes(place: Place, size: int, images: int, batch_size: int) -> tuple[str, ...]:
    """Return a line on the local disk of a run that writes to an address."""
    if not isinstance(place, Address):
        return ()
    batch = min(batch_size, images)
    waiting = min(size, size * Uploads.count_waiting(batch, size * batch // images) // images)
    home = staging_home(place)
    free = free_space(home)
    has = "" if free is None else f", whose disk has {format_bytes(free)}"
    return (f"at most about {format_bytes(waiting)} wait at once in {home}{has}",)


def _notes(trial: Trial, done: int) -> tuple[str, ...]:
    if not trial.runs_model:
        return (NOISE_NOTE,)
    return () if trial.has_later_batches(done) else (START_NOTE,)


def _measure(folder: Path, report: Report, total: int, batch_size: int) -> tuple[tuple[OperationEstimate, ...], int]:
    """Return what the files of a trial show of the whole run, by operation, and the bytes on the disk."""
    manifest = ManifestReader(folder)
    summaries = {summary.operation.path: summary.operation for summary in report.summaries}
    by_path = {path: _Sum() for path in (*summaries, OTHER)}
    batches = math.ceil(total / batch_size)
    done_batches = math.ceil(report.images / batch_size)
    for entry in manifest.images:
        factor = Fraction(total, report.images) if "name" in entry else Fraction(batches, done_batches)
        of_operations = set()
        for activation in entry.get("activations", ()):
            own = by_path.setdefault(activation["path"], _Sum())
            own.values += factor * math.prod(activation["shape"])
            names = [file["file"] for file in activation.get("files", ())]
            of_operations.update(names)
            own.add(folder, names, factor)
        by_path[OTHER].add(folder, (name for name in listed_files(entry) if name not in of_operations), factor)
    other = by_path[OTHER]
    stored = {f"{store}/{name}" for store, names in manifest.stores().items() for name in names}
    growth = Fraction(total, report.images)
    common = manifest.head["progress"].get("common_files", {})
    for name in stored:
        last = name.rpartition("/")[2]
        describes_store = last.startswith(".") or last.endswith(".json")  # zarr.json, .zarray: one however many images
        other.add(folder, [name], Fraction(1) if describes_store else growth)
    for name in manifest.run_files():
        if name in stored:
            continue
        if name.startswith(_PAGE_PICTURES):
            is_of_batch = name.startswith(f"{PAGE}/pixels/{BATCH_FOLDER}/")
            other.add(folder, [name], Fraction(batches, done_batches) if is_of_batch else growth)
        else:
            is_fixed = name in (INDEX, *Statistics.places, *common) or name.startswith(f"{PAGE}/app/")
            other.add(folder, [name], Fraction(1), size_factor=Fraction(1) if is_fixed else growth)
    lines = sum(len(line) + 3 for _, line in manifest.numbered_entries())
    size = manifest.path.stat().st_size
    other.add_manifest(size - lines + lines * growth)
    rows = tuple(
        OperationEstimate(summaries.get(path), path, *map(round, (own.values, own.pixels, own.files, own.bytes)))
        for path, own in by_path.items()
    )
    return rows, round(sum(own.disk_bytes for own in by_path.values()))


class _Sum:
    """What files of a trial add up to, each as often as the run will write one like it."""

    def __init__(self) -> None:
        self.values = self.pixels = self.files = self.bytes = self.disk_bytes = Fraction()

    def add(self, folder: Path, names: Iterable[str], factor: Fraction, *, size_factor: Fraction | None = None) -> None:
        """Add files, of which the run will write `factor` times as many, or as large by `size_factor`."""
        for name in names:
            size = (folder / name).stat().st_size
            scale = factor if size_factor is None else size_factor
            self.files += factor
            self.bytes += scale * size
            self.disk_bytes += scale * round_to_blocks(size)
            self.pixels += factor * _count_pixels(folder / name)

    def add_manifest(self, size: Fraction) -> None:
        """Add the manifest, with the size that it will have."""
        self.files += 1
        self.bytes += size
        self.disk_bytes += round_to_blocks(round(size))


def _count_pixels(file: Path) -> int:
    if file.suffix != ".png":
        return 0
    with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError), Image.open(file) as picture:
        return picture.width * picture.height
    return 0


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

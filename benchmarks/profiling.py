"""Where the CPU time of a run goes, by stage: measured inside one process, with its clock of each thread."""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from benchmarks.baselines import benchmark_images, calibrated_network
from benchmarks.measurement import SCRATCH_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

IMAGES, BATCH = 24, 8


def profile(console: Console) -> None:
    """Print what each stage of `surgery extract` takes of an image, in batches of 8."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    import surgery
    from surgery.builtin.sinks.png import Png
    from surgery.drawing import batch_drawing as drawing
    from surgery.drawing import extremes, picture_assembly
    from surgery.drawing import png_files as png
    from surgery.extraction import background_writer, model_runner, recorder
    from surgery.inputs import readers

    torch.set_num_threads(1)
    model = calibrated_network()
    taken: dict[str, float] = defaultdict(float)
    stages = [
        ("model and all inside it", model_runner.ModelRunner, "run"),
        ("extremes and codes, at once", drawing, "quantize_between_extremes"),
        ("extremes, alone", extremes, "find_extremes"),
        ("quantize, alone", drawing, "quantize"),
        ("quantize_now, in all", drawing.BatchDrawing, "quantize_now"),
        ("tiles that are laid by themselves", picture_assembly.PictureAssembler, "_tile"),
        ("PNG, packed and written", png, "save_lines"),
        ("draw, encode, write, record: in all", recorder.Recorder, "write"),
        ("read ahead", readers, "load_image"),
    ]
    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        surgery.extract(model, benchmark_images(BATCH), out=folder, sinks=[Png()], batch_size=BATCH)
        waited = 0.0
        with timed_stages(stages, taken), _waiting(background_writer.BackgroundWriter) as waits:
            started = time.perf_counter()
            images = benchmark_images(IMAGES)
            surgery.extract(model, images, out=folder, sinks=[Png()], batch_size=BATCH, overwrite=True)
            wall = time.perf_counter() - started
            waited = sum(waits)
    table = Table("stage", "CPU of an image", box=box.MARKDOWN)
    for name, *_ in stages:
        table.add_row(name, f"{1000 * taken[name] / IMAGES:.1f} ms")
    table.add_row("the model waits for the writer (wall)", f"{1000 * waited / IMAGES:.1f} ms")
    table.add_row("everything (wall)", f"{1000 * wall / IMAGES:.1f} ms")
    console.print(table)


@contextmanager
def timed_stages(stages: list[tuple[str, Any, str]], taken: dict[str, float]) -> Iterator[None]:
    before = [(owner, attribute, getattr(owner, attribute)) for _, owner, attribute in stages]
    for (name, owner, attribute), (_, _, function) in zip(stages, before, strict=True):
        setattr(owner, attribute, _timing(function, name, taken))
    try:
        yield
    finally:
        for owner, attribute, function in before:
            setattr(owner, attribute, function)


def _timing(function: Callable[..., Any], name: str, taken: dict[str, float]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            taken[name] += time.thread_time() - started

    return timed


@contextmanager
def _waiting(owner: Any) -> Iterator[list[float]]:
    """Wall time that is spent handing work over."""
    waits: list[float] = []
    submit = owner.submit

    def timed(self: Any, *args: Any) -> None:
        started = time.perf_counter()
        submit(self, *args)
        waits.append(time.perf_counter() - started)

    owner.submit = timed
    try:
        yield waits
    finally:
        owner.submit = submit

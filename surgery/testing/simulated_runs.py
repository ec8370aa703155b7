"""Simulated runs of a sink: every kind of value, several images, of which one may fail half-way."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

import torch
from PIL import Image, ImageSequence, UnidentifiedImageError

from surgery.builtin import DEFAULT_RECIPE, Channels, MinMax
from surgery.drawing import make_activations, make_image_activations
from surgery.extraction import BackgroundWriter
from surgery.output import OutputFolder
from surgery.stages import Recipe
from surgery.testing.sample_tensors import MANY_CHANNELS, generate_values
from surgery.testing.violations import describe_exception, is_equal
from surgery.types import Operation, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.output import Gathered
    from surgery.stages import Sink, Write
    from surgery.types import Activation

RunOnThread: TypeAlias = "Callable[[Callable[[], object]], None]"

ABOUT = {"model": "net", "weights_sha256": "0" * 64, "mode": "eval"}
IMAGES = (("one", "two words, é"), ("three",))
"""Names of the images of a simulated run, by batch."""
BATCH_SIZE = 2
FAILED_IMAGE = "lost"
"""Name of the image that fails half-way."""
ONE_PICTURE_PER_CHANNEL = Recipe(MinMax(), Channels(limit=3))
"""A recipe that draws several pictures of one activation."""


class SinkCallError(Exception):
    """A sink raised an exception when it was called with an activation."""


class _RunFailureError(Exception):
    """The failure of a simulated run, which has to leave the sink's context."""


@dataclass(slots=True)
class SimulatedRun:
    """What a sink did in one simulated run."""

    files: dict[str, object] = field(default_factory=dict)
    """The content of each file at the end: of images the pixels and texts, since encoders need not write the same bytes
    each time; of other files the bytes."""
    sizes_before: dict[str, int] = field(default_factory=dict)
    """Sizes of the files before the last image failed, in bytes."""
    sizes_after: dict[str, int] = field(default_factory=dict)
    """Sizes of the files at the end, in bytes."""
    files_by_batch: list[list[str]] = field(default_factory=list)
    """The names of the files that were finished with each batch, but for those of the whole run."""
    files_at_end: list[str] = field(default_factory=list)
    """The names of the files and directories that were finished when the sink was closed."""
    gathered: list[tuple[str, Gathered]] = field(default_factory=list)
    """What the sink has gathered of each batch, with the name of the file that holds all of it."""
    directories: tuple[str, ...] = ()
    """Directories that the sink reserved for files of its own, with a slash at the end."""
    stray_files: list[str] = field(default_factory=list)
    """Files that were not written through the folder."""
    changed_values: list[str] = field(default_factory=list)
    """Names of the values that the sink wrote to."""
    raised: BaseException | None = None
    hides_error: bool = False
    """Whether the failure of the run did not leave the sink's context."""


def simulate_run(
    sink: Sink,
    images: Sequence[Sequence[str]] = IMAGES,
    *,
    folder: Path | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    seed: int = 0,
    failure: str = "",
    overwrite: bool = True,
    many_channels: bool = True,
    before_each: Callable[[], object] = lambda: None,
) -> SimulatedRun:
    """Run a sink on every kind of value, in a temporary folder or in `folder`, and return what it did.

    With the `failure` "in the middle", one image fails half-way and others follow; "at the end", the run fails with it.
    With `overwrite`, values are set to zero after the sink received them, as an in-place operation would do. Without
    `many_channels`, the value of 2,000 channels is left out. `before_each` is called before each activation.
    """
    with TemporaryDirectory() as temporary:
        output = OutputFolder(folder or temporary, ABOUT)
        names = [*chain.from_iterable(images), FAILED_IMAGE]
        output.plan_images(names, [f"{name}.png" for name in names], BATCH_SIZE)
        run = SimulatedRun()
        written: set[str] = set()
        try:
            with _thread_of(sink) as run_on_thread, sink(output) as write:
                batches = _Batches(output, write, run_on_thread, recipe, seed, many_channels, before_each)
                for number, batch in enumerate(images):
                    if number and failure == "in the middle":
                        batches.fail()
                    run.changed_values += batches.send(batch, number=BATCH_SIZE * number, overwrite=overwrite)
                    run.gathered += output.take_gathered()
                    files = output.take_written()
                    written |= {file.name for file in files}
                    run.files_by_batch.append([file.name for file in files if not file.is_common])
                if failure == "at the end":
                    run.sizes_before = _list_sizes(output.path)
                    batches.fail()
                    run.hides_error = True
                    raise _RunFailureError  # noqa: TRY301 - it has to pass through the sink's context
        except _RunFailureError:
            run.hides_error = False
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            run.hides_error, run.raised = False, error
        if run.raised is None:
            written |= set(_save_gathered(run, output.path))
        run.sizes_after = _list_sizes(output.path)
        run.files = {name: _read_content(output.path / name) for name in run.sizes_after}
        run.files_at_end = [file.name for file in output.take_written() if not file.is_common]
        written |= set(run.files_at_end)
        run.directories = tuple(f"{name}/" for name in written if (output.path / name).is_dir())
        run.stray_files = sorted(
            name for name in run.files if name not in written and not name.startswith(run.directories)
        )
    return run


def _save_gathered(run: SimulatedRun, folder: Path) -> Iterator[str]:
    """Write what the sink has gathered of all batches, as a run does at its end. Yield the names of the files."""
    for name in dict(run.gathered):
        parts = [part for other, part in run.gathered if other == name]
        try:
            reduce(lambda one, other: one.merge(other), parts).save(folder / name, is_part=False)
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            run.raised = error
        yield name


@dataclass(slots=True)
class _Batches:
    """The batches of one simulated run, as they are sent to a sink."""

    folder: OutputFolder
    write: Write
    run_on_thread: RunOnThread | None
    recipe: Recipe
    seed: int
    many_channels: bool
    before_each: Callable[[], object]

    def send(self, images: Sequence[str], *, number: int, overwrite: bool) -> list[str]:
        """Send every kind of value of one batch and finish its images. Returns the names of the values that changed."""
        changed = self._write_values(images, number, half=False, overwrite=overwrite)
        for image in (*images, None):
            finish = partial(self.folder.finish, image)
            if self.run_on_thread is None:
                finish()
            else:
                self.run_on_thread(finish)
        return changed

    def fail(self) -> None:
        """Send half of the values of `FAILED_IMAGE`, then drop it."""
        last = 0 if self.folder.images is None else len(self.folder.images.names) - 1
        self._write_values((FAILED_IMAGE,), last, half=True, overwrite=True)
        for image in (FAILED_IMAGE, None):
            self.folder.drop(image)

    def _write_values(self, images: Sequence[str], number: int, *, half: bool, overwrite: bool) -> list[str]:
        changed: list[str] = []
        self.folder.batch = number
        activations = generate_activations(
            images, self.recipe, self.seed, half=half, overwrite=overwrite, many_channels=self.many_channels
        )
        for name, activation in activations:
            before = activation.values.clone()
            self.before_each()
            try:
                self._write_one(activation)
            except Exception as error:
                raise SinkCallError(f"{describe_exception(error)}, given {name}") from error
            if not is_equal(activation.values, before):
                changed.append(name)
        return changed

    def _write_one(self, activation: Activation) -> None:
        if self.run_on_thread is None:
            self.write(activation)
            return
        activation.drawing.quantize_now(pixels=True)
        without_values = torch.empty(activation.values.shape, dtype=activation.values.dtype, device="meta")
        self.run_on_thread(partial(self.write, replace(activation, values=without_values)))


@contextmanager
def _thread_of(sink: Sink) -> Iterator[RunOnThread | None]:
    """Yield a function that calls a deferred sink on another thread than the one that opened it; None for others."""
    if not getattr(sink, "deferred", False):
        yield None
        return
    with BackgroundWriter() as writer:

        def run_on_thread(function: Callable[[], object]) -> None:
            writer.submit(function)
            writer.drain()

        yield run_on_thread


def generate_activations(
    images: Sequence[str],
    recipe: Recipe = DEFAULT_RECIPE,
    seed: int = 0,
    *,
    half: bool = False,
    overwrite: bool = False,
    many_channels: bool = True,
) -> Iterator[tuple[str, Activation]]:
    """Yield activations of every kind of value, or of half of them, for a batch of images, each with its name.

    With `overwrite`, values are set to zero once the next activation is asked for.
    """
    kinds = generate_values(len(images), seed + len(images))
    values = [(name, value) for name, value in kinds if many_channels or name != MANY_CHANNELS]
    for index, (name, value) in enumerate(values[: len(values) // 2] if half else values):
        tensors = (TensorSpec("", tuple(value.shape), str(value.dtype).removeprefix("torch.")),)
        operation = Operation(f"op_{index}", f"block.{name}", "kind", index, ("block",), "net.py:1", tensors)
        if index:
            made = make_activations(operation, value, images, recipe)
        else:
            model_input = replace(operation, name="input", path="input", kind="input", scopes=(), source=None)
            made = make_image_activations(model_input, value, images, (-1.0, 1.0), recipe)
        for activation in made:
            yield name, activation
        if overwrite:
            value.zero_()


def _list_sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of all files in a folder, by their names relative to it."""
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in folder.rglob("*") if file.is_file()}


def _read_content(file: Path) -> object:
    if file.suffix.lower() in (".png", ".apng", ".webp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff"):
        with suppress(UnidentifiedImageError, OSError), Image.open(file) as image:
            frames = [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(image)]
            return image.size, frames, getattr(image, "text", None)
    return file.read_bytes()

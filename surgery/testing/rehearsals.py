"""Runs for a sink to prove itself in: every kind of value, several images, one of which may fail half-way."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
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
from surgery.testing.promises import devices, said, same
from surgery.types import Operation, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from surgery.stages import Sink, Write
    from surgery.types import Activation

Call: TypeAlias = "Callable[[Callable[[], object]], None]"

ABOUT = {"model": "net", "weights_sha256": "0" * 64, "mode": "eval"}
IMAGES = (("one", "two words, é"), ("three",))
"""Names of the images of a rehearsal, by batch."""
LOST = "lost"
"""The image that fails half-way, where one does."""
WIDE = "2,000 channels"
"""The value of which a sink of one file a channel writes 2,000."""
A_PICTURE_EACH = Recipe(MinMax(), Channels(limit=3))
"""Draws several pictures of one activation."""


class RefusedError(Exception):
    """A sink raised when it was given an activation."""


class _StopError(Exception):
    """What a rehearsal fails with."""


@dataclass(slots=True)
class Rehearsal:
    """What a sink did in one run."""

    files: dict[str, object] = field(default_factory=dict)
    """What is in its folder at the end: of images their pixels and texts, which an encoder does not pack alike each
    time, of other files their bytes."""
    before: dict[str, int] = field(default_factory=dict)
    """Sizes of the files that were there before the last image failed."""
    after: dict[str, int] = field(default_factory=dict)
    """Sizes of the files that are there at the end."""
    stores: tuple[str, ...] = ()
    """Directories that keep files of their own, with a slash at the end."""
    strays: list[str] = field(default_factory=list)
    """Files that the folder does not know of."""
    written_to: list[str] = field(default_factory=list)
    """Kinds of values that it wrote to."""
    raised: BaseException | None = None
    hidden: bool = False
    """Whether the error that the run ended with never came out of the sink."""


def rehearse(
    sink: Sink,
    images: Sequence[Sequence[str]] = IMAGES,
    *,
    place: Path | None = None,
    recipe: Recipe = DEFAULT_RECIPE,
    seed: int = 0,
    lost: str = "",
    overwrite: bool = True,
    wide: bool = True,
    step: Callable[[], object] = lambda: None,
) -> Rehearsal:
    """A run in a folder of its own, or in `place`.

    With `lost` "in the middle", an image fails half-way and others follow; "at the end", the run fails with it.
    Values are overwritten once they have been taken, as a later operation that works in place would do. Without `wide`
    there is no value of 2,000 channels. `step` is called before each activation.
    """
    with TemporaryDirectory() as made:
        folder = OutputFolder(place or made, ABOUT)
        played = Rehearsal()
        known: set[str] = set()
        try:
            with _calling(sink) as call, sink(folder) as write:
                offer = partial(_offer, folder, write, call, recipe=recipe, seed=seed, wide=wide, step=step)
                for number, batch in enumerate(images):
                    if number and lost == "in the middle":
                        offer((LOST,), number=9, half=True)
                    played.written_to += offer(batch, number=2 * number, overwrite=overwrite)
                    known |= {path for path, _ in folder.take_written()}
                if lost == "at the end":
                    played.before = sizes(folder.path)
                    offer((LOST,), number=9, half=True)
                    played.hidden = True
                    raise _StopError  # noqa: TRY301 - it has to pass through the sink
        except _StopError:
            played.hidden = False
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
            played.hidden, played.raised = False, error
        played.files = {name: _content(folder.path / name) for name in sizes(folder.path)}
        played.after = sizes(folder.path)
        known |= {path for path, _ in folder.take_written()}
        played.stores = tuple(f"{name}/" for name in known if (folder.path / name).is_dir())
        played.strays = sorted(
            name for name in played.files if name not in known and not name.startswith(played.stores)
        )
    return played


def sizes(place: Path) -> dict[str, int]:
    """Sizes of the files in a folder, by their names relative to it."""
    return {file.relative_to(place).as_posix(): file.stat().st_size for file in place.rglob("*") if file.is_file()}


def _content(file: Path) -> object:
    if file.suffix.lower() in (".png", ".apng", ".webp", ".gif", ".jpg", ".jpeg", ".tif", ".tiff"):
        with suppress(UnidentifiedImageError, OSError), Image.open(file) as image:
            frames = [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(image)]
            return image.size, frames, getattr(image, "text", None)
    return file.read_bytes()


@contextmanager
def _calling(sink: Sink) -> Iterator[Call | None]:
    """How a deferred sink is called: on a thread that is not the one on which it was opened. None for others."""
    if not getattr(sink, "deferred", False):
        yield None
        return
    with BackgroundWriter() as writer:

        def call(function: Callable[[], object]) -> None:
            writer.submit(function)
            writer.drain()

        yield call


def _offer(
    folder: OutputFolder,
    write: Write,
    call: Call | None,
    images: Sequence[str],
    *,
    recipe: Recipe,
    seed: int,
    number: int,
    half: bool = False,
    overwrite: bool = True,
    wide: bool = True,
    step: Callable[[], object] = lambda: None,
) -> list[str]:
    """One batch, with every kind of value; only half of them, and then it is dropped, if so wanted."""
    written_to: list[str] = []
    folder.batch = number
    for name, activation in activations(images, recipe, seed, half=half, overwrite=overwrite, wide=wide):
        before = activation.values.clone()
        step()
        try:
            if call is None:
                write(activation)
            else:
                activation.drawing.quantize_now(pixels=True)
                shape, dtype = activation.values.shape, activation.values.dtype
                call(partial(write, replace(activation, values=torch.empty(shape, dtype=dtype, device="meta"))))
        except Exception as error:
            raise RefusedError(f"{said(error)}, given {name}") from error
        if not same(activation.values, before):
            written_to.append(name)
    for image in (*images, None):
        if half:
            folder.drop(image)
        elif call is None:
            folder.finish(image)
        else:
            call(partial(folder.finish, image))
    return written_to


def activations(
    images: Sequence[str],
    recipe: Recipe = DEFAULT_RECIPE,
    seed: int = 0,
    *,
    half: bool = False,
    overwrite: bool = False,
    wide: bool = True,
) -> Iterator[tuple[str, Activation]]:
    """Every kind of value, or half of them, for a batch of images, and what each is in words."""
    values = [value for value in _values(len(images), seed + len(images)) if wide or value[0] != WIDE]
    for index, (name, whole) in enumerate(values[: len(values) // 2] if half else values):
        tensors = (TensorSpec("", tuple(whole.shape), str(whole.dtype).removeprefix("torch.")),)
        operation = Operation(f"op_{index}", f"block.{name}", "kind", index, ("block",), "net.py:1", tensors)
        if index:
            made = make_activations(operation, whole, images, recipe)
        else:
            given = replace(operation, name="input", path="input", kind="input", scopes=(), source=None)
            made = make_image_activations(given, whole, images, (-1.0, 1.0), recipe)
        for activation in made:
            yield name, activation
        if overwrite:
            whole.zero_()


def _values(batch: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, 5, 7, 6, generator=random)
    yield "an image", maps[:, :3].clamp(-1, 1)
    yield "maps", maps
    spoiled = maps.clone()
    spoiled[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield "maps with NaN and infinities", spoiled
    yield "only NaN", torch.full((batch, 2, 3, 3), torch.nan)
    yield "a constant", torch.full((batch, 2, 3, 3), 0.5)
    yield "one channel", maps[:, :1].clone()
    yield "maps of 1x1", maps[:, :, :1, :1].clone()
    yield WIDE, maps[:, :1, :1, :1].repeat(1, 2000, 1, 1)
    yield "vectors", maps[:, :, 0, 0].clone()
    yield "tokens", maps[:, 0].clone()
    yield "volumes", maps.unflatten(1, (1, 5)).clone()
    yield "windows", torch.cat([maps, maps])
    yield "numbers", maps[:, 0, 0, 0].clone()
    yield "one number for the batch", maps[0, 0, 0, 0].clone()
    yield "no values", maps[:, :, :0].clone()
    yield "half", maps.half()
    yield "bfloat16", maps.bfloat16()
    yield "float64", maps.double()
    yield "int64", (maps * 9).long()
    yield "bool", maps > 0
    yield "complex", torch.complex(maps, maps)
    yield "a/strange: name, é, " + "long " * 60, maps.clone()
    if "cuda" in devices():
        yield "maps on a GPU", maps.cuda()
    yield "maps", maps.clone()  # an operation that runs again

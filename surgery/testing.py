"""What a plugin's stages have to keep, as checks for its tests.

    from surgery.testing import check_colormap

    def test_ember() -> None:
        check_colormap(["black", "darkred", "orange", "white"])

Each check tries a stage on ordinary and on awkward inputs, and raises AssertionError with a line for each promise that
it breaks and the input that broke it. What each stage promises stands in `surgery.types` and `surgery.hookspecs`.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from surgery.errors import SurgeryError, first_line
from surgery.folder import OutputFolder
from surgery.quantising import check_limits, find_limits
from surgery.rendering import STANDARD, activations_of, palette
from surgery.types import BACKGROUND, LEVELS, MINUS_INF, NAN, PLUS_INF, ModelFamily, Operation, TensorSpec, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from surgery.types import Colormap, ModelFactory, Normalizer, Sink, Tiler, Write

__all__ = ["check_colormap", "check_model", "check_normalizer", "check_sink", "check_tiler"]


def check_normalizer(normalizer: Normalizer) -> None:
    """Limits that are finite, ordered and broadcastable, the same each time; the input is not written to."""
    _fail("normalizer", normalizer, _normalizer_faults(normalizer))


def check_tiler(tiler: Tiler) -> None:
    """``(B, N, H, W)`` codes of the input or background, each image's own, the same each time; its input is kept."""
    _fail("tiler", tiler, _tiler_faults(tiler))


def check_colormap(colormap: Colormap) -> None:
    """``(N, 3)`` or ``(N, 4)`` in [0, 1] for any N levels, each level's color its own, or what `cmap` takes."""
    _fail("colormap", colormap, _colormap_faults(colormap))


def check_sink(sink: Sink) -> None:
    """Takes every kind of value, unchanged; writes whole files, each through the folder; does not hide an error."""
    _fail("sink", sink, _sink_faults(sink))


def check_model(model: ModelFactory | ModelFamily) -> None:
    """Gives an ``nn.Module``; a family does so under each of its names, of which the first is tried."""
    _fail("model", model, _model_faults(model))


def _fail(kind: str, stage: object, faults: Iterable[str]) -> None:
    lines = list(dict.fromkeys(faults))
    if lines:
        raise AssertionError("\n".join(f"{kind} {describe(stage)}: {line}" for line in lines))


def _normalizer_faults(normalizer: Normalizer) -> Iterator[str]:
    for name, values in _maps():
        given = values.clone()
        try:
            low, high = find_limits(normalizer, given)
            again = find_limits(normalizer, given)
            check_limits(normalizer, low.numpy(), high.numpy())
        except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
            yield f"{_said(error)}, given {name}"
            continue
        if not _same(given, values):
            yield f"writes to its input, given {name}"
        if not (_same(low, again[0]) and _same(high, again[1])):
            yield f"gives other limits the second time, given {name}"


def _maps() -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=dtype)

    yield "three images of four channels", normal(3, 4, 8, 6)
    yield "one value", normal(1, 1, 1, 1)
    yield "zeros", torch.zeros(1, 2, 3, 3)
    yield "a constant", torch.full((2, 2, 3, 3), -7.5)
    yield "maps of 1x1", normal(2, 5, 1, 1)
    yield "2,000 channels", normal(1, 2000, 2, 2)
    yield "positive values", normal(1, 2, 9, 9).abs() + 1
    yield "negative values", -normal(1, 2, 9, 9).abs() - 1
    yield "float64", normal(2, 3, 5, 7, dtype=torch.float64)
    yield "values of 1e30", normal(1, 3, 5, 5) * 1e30
    yield "values of 1e-30", normal(1, 3, 5, 5) * 1e-30
    yield "strided maps", normal(2, 6, 6, 4).permute(0, 3, 1, 2)


def _tiler_faults(tiler: Tiler) -> Iterator[str]:
    for shape in ((3, 4, 8, 6), (1, 1, 1, 1), (2, 5, 1, 1), (1, 2000, 2, 2), (2, 3, 1, 700), (2, 1, 300, 1)):
        codes = _codes(shape)
        given = codes.clone()
        name = f"codes of shape {shape}"
        try:
            tiles, again, last = tiler(given), tiler(given), tiler(given[-1:])
        except Exception as error:  # noqa: BLE001
            yield f"{_said(error)}, given {name}"
            continue
        if not isinstance(tiles, Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            yield f"gives {_shown(tiles)}, not (B, N, H, W) uint8, given {name}"
            continue
        if len(tiles) != shape[0] or tiles.numel() == 0:
            yield f"gives pictures of shape {tuple(tiles.shape)}, given {name}"
            continue
        if not _same(given, codes):
            yield f"writes to its input, given {name}"
        if not _same(tiles, again):
            yield f"gives other pictures the second time, given {name}"
        if not _same(tiles[-1:], last):
            yield f"lets the other images of a batch change an image's pictures, given {name}"
        allowed = {*codes.unique().tolist(), BACKGROUND}
        if made := set(tiles.unique().tolist()) - allowed:
            yield f"makes up the code {min(made)}, given {name}"


def _codes(shape: tuple[int, ...]) -> Tensor:
    """Codes of value, most of them even, and some of what is no value."""
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, LEVELS // 2, shape, generator=random, dtype=torch.uint8) * 2
    flat = codes.view(-1)
    if len(flat) > 30:
        flat[:3] = torch.tensor([NAN, PLUS_INF, MINUS_INF], dtype=torch.uint8)
    return codes


def _colormap_faults(colormap: Colormap) -> Iterator[str]:
    try:
        palette(colormap)
    except Exception as error:  # noqa: BLE001
        yield _said(error)
        return
    if not callable(colormap):
        return
    whole = np.asarray(colormap(np.linspace(0, 1, LEVELS)))
    if whole.min() < 0 or whole.max() > 1:
        yield f"gives colors from {whole.min():.3g} to {whole.max():.3g}, not within [0, 1]"
    for count in (1, 2, 1000):
        levels = np.linspace(0, 1, count)
        given = levels.copy()
        try:
            colors = np.asarray(colormap(given))
        except Exception as error:  # noqa: BLE001
            yield f"{_said(error)}, given {count} levels"
            continue
        if colors.shape not in ((count, 3), (count, 4)):
            yield f"gives {colors.shape}, not ({count}, 3) or ({count}, 4), given {count} levels"
        elif not np.allclose(colors[:1], whole[:1]) or (count > 1 and not np.allclose(colors[-1], whole[-1])):
            yield f"gives a level another color when there are {count} levels"
        if not np.array_equal(given, levels):
            yield f"writes to its input, given {count} levels"


class _Stop(Exception):  # noqa: N818
    """What a run fails with."""


def _sink_faults(sink: Sink) -> Iterator[str]:
    for name, fails in (("a run", False), ("a run that fails half-way", True)):
        with TemporaryDirectory() as place:
            folder = OutputFolder(place, {"model": "net", "weights_sha256": "0" * 64, "mode": "eval"})
            faults: list[str] = []
            raised: BaseException | None = None
            try:
                with sink(folder) as write:
                    faults += _offer(folder, write)
                    if fails:
                        raise _Stop  # noqa: TRY301
            except Exception as error:  # noqa: BLE001
                raised = error
            yield from faults
            if fails and raised is None:
                yield f"hides the error of {name}"
            elif raised is not None and not isinstance(raised, _Stop):
                yield f"{_said(raised)}, in {name}"
            else:
                known = {path for path, _ in folder.take_written()}
                there = {PurePosixPath(file.relative_to(place)) for file in Path(place).rglob("*") if file.is_file()}
                strays = sorted(str(file) for file in there if known.isdisjoint({file, *file.parents}))
                for stray in strays[:3]:
                    yield f"writes {stray} past folder.file() and folder.directory(), in {name}"
    with TemporaryDirectory() as place, ExitStack() as stack:
        try:
            stack.enter_context(sink(OutputFolder(place)))
            stack.close()
        except Exception as error:  # noqa: BLE001
            yield f"{_said(error)}, in a run without an activation"


def _offer(folder: OutputFolder, write: Write) -> Iterator[str]:
    """Three images in two batches, with every kind of value; the values are overwritten as soon as they were taken."""
    for images in (["one", "two"], ["three"]):
        for index, (name, whole) in enumerate(_values(len(images)), 1):
            tensors = (TensorSpec("", tuple(whole.shape), str(whole.dtype).removeprefix("torch.")),)
            operation = Operation(f"op_{index}", f"block.{name}", "kind", index, ("block",), "net.py:1", tensors)
            for activation in activations_of(operation, whole, images, STANDARD):
                before = activation.values.clone()
                try:
                    write(activation)
                except Exception as error:
                    raise _RefusedError(f"{_said(error)}, given {name}") from error
                if not _same(activation.values, before):
                    yield f"writes to the values that it is given: {name}"
            whole.zero_()
        for image in (*images, None):
            folder.finish(image)


class _RefusedError(SurgeryError):
    """A sink raised when it was given an activation."""


def _values(batch: int) -> Iterator[tuple[str, Tensor]]:
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(batch, 5, 7, 6, generator=random)
    yield "maps", maps
    spoiled = maps.clone()
    spoiled[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield "maps with NaN and infinities", spoiled
    yield "only NaN", torch.full((batch, 2, 3, 3), torch.nan)
    yield "maps of 1x1", maps[:, :, :1, :1].clone()
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
    yield "maps", maps.clone()  # an operation that runs again


def _model_faults(model: ModelFactory | ModelFamily) -> Iterator[str]:
    if isinstance(model, ModelFamily):
        names = list(model.names())
        if not names:
            yield "is a family without a name"
            return
    try:
        built: object = model.build(names[0]) if isinstance(model, ModelFamily) else model()
    except Exception as error:  # noqa: BLE001
        yield _said(error)
        return
    if not isinstance(built, nn.Module):
        yield f"gives {_shown(built)}, not a torch.nn.Module"


def _same(one: Tensor, other: Tensor) -> bool:
    """Equal values, NaN equal to NaN."""
    return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())  # noqa: PLR0124


def _said(error: BaseException) -> str:
    return (
        first_line(error) if isinstance(error, SurgeryError) else f"raises {type(error).__name__}: {first_line(error)}"
    )


def _shown(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__

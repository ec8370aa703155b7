"""The built-in stages keep the contracts of plugins, and the checks find each violation."""

from __future__ import annotations

import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from surgery import testing
from surgery.builtin.channel_measures import Saturated
from surgery.builtin.edits import EDITS, Mean, Noise
from surgery.builtin.engines import Local, Processes
from surgery.builtin.measures import MEASURES
from surgery.builtin.models import MODELS
from surgery.builtin.normalizers import NORMALIZERS, Fixed, MinMax, Percentile, Symmetric
from surgery.builtin.pattern_measures import Checkerboard
from surgery.builtin.sinks import SINKS
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.tilers import TILERS, Channels, Grid, Strip
from surgery.stages import ModelFamily

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.output.folder import OutputFolder
    from surgery.stages import Sink, Write
    from surgery.types import Activation

STAGES = [
    *[("normalizer", stage) for stage in NORMALIZERS.values()],
    *[("normalizer", kind(per=per)) for kind in (MinMax, Percentile, Symmetric, Fixed) for per in ("layer", "batch")],
    ("normalizer", Percentile(0, 100)),
    ("normalizer", lambda values: (torch.tensor(0.0), torch.tensor(1.0))),
    *[("tiler", stage) for stage in TILERS.values()],
    *[("tiler", stage) for stage in (Grid(columns=3, gap=0, limit=2, least=1), Strip(limit=7), Channels(limit=1))],
    ("tiler", lambda levels: levels[:, :1]),
    *[("colormap", name) for name in ("viridis", "magma_r", "colorbrewer:RdBu_r")],
    ("colormap", ["black", "darkred", "orange", "white"]),
    ("colormap", lambda levels: np.stack([levels, levels, 1 - levels], 1)),
    *[("edit", stage) for stage in EDITS.values()],
    *[("edit", stage) for stage in (Mean(over="batch"), Mean(over="reference"), Noise(relative=False, channels="0"))],
    ("edit", lambda values: values),
    *[("measure", stage) for stage in MEASURES.values()],
    *[("measure", stage) for stage in (Checkerboard(4), Saturated(None, 6.0))],
    *[("sink", stage) for stage in SINKS.values()],
    ("sink", Png(level=6)),
    ("sink", Sheet(channels=3, size=32)),
    *[("engine", stage) for stage in (Local(), Processes(workers=2))],
    *[
        ("model", MODELS[name])
        for name in ("facades", "facades_discriminator", "patchgan_basic", "patchgan_n_layers", "patchgan_pixel")
    ],
    ("model", ModelFamily(lambda name: nn.Identity(), lambda: ["one"])),
]


def stage_id(value: Any) -> str:
    """Return a name without the address of a function, which differs between processes."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize(("kind", "stage"), STAGES, ids=stage_id)
def test_what_comes_with_the_project_keeps_the_contract(kind: str, stage: Any) -> None:
    getattr(testing, f"check_{kind}")(stage)


def writes_over(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.sub_(1).amin(), values.amax()


UNSEEDED = torch.Generator()


def random_limits(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.amin() - torch.rand((), generator=UNSEEDED), values.amax()


def drops_an_image(levels: Tensor) -> Tensor:
    return levels[1:, :1]


def averages(levels: Tensor) -> Tensor:
    return (levels.float().mean(1, keepdim=True) + 1).byte()


def shuffles(levels: Tensor) -> Tensor:
    return levels.flip(0)[:, :1]


def paints_on_its_input(levels: Tensor) -> Tensor:
    levels[:, 0, 0, 0] = 255
    return levels[:, :1]


BROKEN = [
    ("normalizer", lambda values: values.mean(), "did not return a pair"),
    ("normalizer", lambda values: (values.amax(), values.amin()), "not finite with low <= high, given three images"),
    ("normalizer", lambda values: (values.amin() / 0, values.amax()), "not finite"),
    ("normalizer", lambda values: (values, values), "can't be broadcast"),
    ("normalizer", lambda values: (values[:, :, 1, 1] * 0, 1), "can't take .*IndexError: .*given one value"),
    (
        "normalizer",
        lambda values: (values.std((2, 3), keepdim=True), values.amax() + 9),
        "not finite.*given one value",
    ),
    ("normalizer", writes_over, "writes to its input"),
    ("normalizer", random_limits, "other limits the second time"),
    ("tiler", lambda levels: levels[:, 0], r"gives \(3, 8, 6\) torch.uint8"),
    ("tiler", lambda levels: levels.float(), "torch.float32"),
    ("tiler", lambda levels: levels[:, 1:2], "pictures of shape .*given codes of shape"),
    ("tiler", lambda levels: levels.reshape(3, 4, 4, 12), "raises RuntimeError"),
    ("tiler", drops_an_image, "pictures of shape"),
    ("tiler", averages, "makes up the code"),
    ("tiler", shuffles, "lets the other images of a batch change"),
    ("tiler", paints_on_its_input, "writes to its input"),
    ("colormap", "viridiss", "did you mean"),
    ("colormap", lambda levels: levels, "has to return"),
    ("colormap", lambda levels: np.zeros((251, 3)), "given 1 levels"),
    ("colormap", lambda levels: np.stack([levels * 255] * 3, 1), "not within"),
    (
        "colormap",
        lambda levels: np.stack([levels / levels.max() / 2] * 3, 1),
        "can't be sampled|another color|nan|has to",
    ),
    ("model", lambda: "resnet", "gives str, not a torch.nn.Module"),
    ("model", lambda: 1 / 0, "raises ZeroDivisionError"),
    ("model", ModelFamily(lambda name: nn.Identity(), list), "without a name"),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "stage", "fault"), BROKEN)
def test_a_broken_promise_is_found(kind: str, stage: Any, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        getattr(testing, f"check_{kind}")(stage)


@contextmanager
def writes_past_the_folder(folder: OutputFolder) -> Iterator[Write]:
    def write(activation: Activation) -> None:
        (folder.path / "x.txt").write_text("x")

    yield write


@contextmanager
def writes_beside_its_directory(folder: OutputFolder) -> Iterator[Write]:
    with folder.directory("store") as place:

        def write(activation: Activation) -> None:
            for path in (place / "deep" / "x", place.with_name("store-2") / "x"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()

        yield write


@contextmanager
def hides_errors(folder: OutputFolder) -> Iterator[Write]:
    with suppress(Exception):
        yield lambda activation: None


@contextmanager
def scales_values(folder: OutputFolder) -> Iterator[Write]:
    def write(activation: Activation) -> None:
        if activation.values.is_floating_point():
            activation.values.mul_(2)

    yield write


@dataclass(frozen=True)
class TakesMapsAlone:
    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        def write(activation: Activation) -> None:
            activation.values.mean((1, 2))

        yield write


@contextmanager
def needs_an_activation(folder: OutputFolder) -> Iterator[Write]:
    seen: list[str] = []
    yield lambda activation: seen.append(activation.path)
    seen[0].upper()


@pytest.mark.parametrize(
    ("sink", "fault"),
    [
        (writes_past_the_folder, r"writes x.txt past folder.file\(\)"),
        (writes_beside_its_directory, r"writes store-2/x past folder.file\(\)"),
        (hides_errors, "hides the error"),
        (scales_values, "writes to the values that it is given, given an image"),
        (TakesMapsAlone(), "raises .*given (vectors|tokens|int64)"),
        (needs_an_activation, "raises IndexError: .*given a run without an activation"),
        (lambda folder: None, "raises"),
    ],
)
def test_a_broken_sink_is_found(sink: Sink, fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        testing.check_sink(sink)


def test_the_old_names_of_the_checks_work_and_tell_the_new_ones() -> None:
    room: Any = testing
    with pytest.warns(DeprecationWarning, match=r"surgery\.testing\.verdicts is now surgery\.testing\.run_checks"):
        assert room.verdicts is testing.run_checks
    with pytest.warns(DeprecationWarning, match=r"surgery\.testing\.Verdict is now surgery\.testing\.CheckResult"):
        result = room.Verdict("sink", "png", ("writes nothing",))
    with pytest.warns(DeprecationWarning, match=r"CheckResult\.faults is now CheckResult\.violations"):
        assert result.faults == result.violations
    with pytest.raises(AttributeError, match="attribute verdict"):
        _ = room.verdict

"""`patch`: the values that one image has at an operation, put into the run of another image."""

from __future__ import annotations

import time
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from surgery.builtin import Replace
from surgery.errors import ImageError, ModelError
from surgery.rewriting import ALL_OPERATIONS
from surgery.studies.effects import Effect, OutputComparison
from surgery.studies.image_loop import ImageLoop, StudiedImage
from surgery.studies.image_study import ImageStudy, read_channel_maps
from surgery.studies.memory_limits import DEFAULT_MEMORY
from surgery.studies.patch_files import write_patches
from surgery.studies.patch_study import Patch, PatchStudy, carried_share
from surgery.studies.study import check_order
from surgery.studies.study_folder import open_study_folder
from surgery.studies.study_inputs import read_single
from surgery.studies.study_setup import RunArguments, StudySetup
from surgery.studies.variants import check_each

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from surgery.extraction import Mode
    from surgery.graph import FrontEnd
    from surgery.inputs import Side, Size
    from surgery.layouts import RequestedLayouts
    from surgery.output import Progress
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Reader
    from surgery.studies.study import Order
    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.unit_pictures import ImagePictures
    from surgery.studies.unit_runs import UnitRuns
    from surgery.studies.variants import Unit


def patch(
    model: nn.Module,
    a: str | Path | Tensor,
    b: str | Path | Tensor,
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    each: str = "operation",
    top: int = 16,
    order: Order = "effect",
    layout: RequestedLayouts = None,
    inputs: Mapping[str, Any] = MappingProxyType({}),
    reader: Reader | str | None = None,
    readers: Mapping[str, Reader | str] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    batch: int = 8,
    memory: int | str = DEFAULT_MEMORY,
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    front_end: FrontEnd | Literal["auto"] = "auto",
    source: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> PatchStudy:
    """Put the values that `b` has at operations into the run of `a`, and measure how much of b's output they carry.

    - `a`, `b`: Two images of one size, each a file as `surgery.extract` takes it, or a tensor ``(1, ...)``.
    - `at`: Which operations: one selection or several, each of which must match something.
    - `each`: What is patched in one variant, as in `surgery.ablate`; with ``all``, all operations at once.
    - `order`: The order of the rows: by ``effect``, the greatest share first, or of ``execution``.

    The other arguments are those of `surgery.ablate`. The files are ``patches.json``, ``patches.csv``, a sheet, and the
    patched outputs.

    The share of a row is ``1 - |patched - b| / |a - b|``, of mean absolute differences between outputs: 0 where nothing
    is carried over, 1 where the output is that of b. Raises ImageError for images that can't be read, that the model
    can't take, or of two sizes, and the errors of `surgery.ablate`.
    """
    started = time.perf_counter()
    check_order(order)
    check_each(each)
    if not 0 <= top < 2**31:
        raise ModelError(f"top is how many units have pictures, 0 or more, not {top}")
    arguments = RunArguments(
        inputs=inputs,
        reader=reader,
        readers=readers,
        size=size,
        side=side,
        range=range,
        batch=batch,
        memory=memory,
        device=device,
        mode=mode,
        seed=seed,
        leaves=leaves,
        allow=allow,
        front_end=front_end,
        layout=layout,
        source=source,
        plugins=plugins,
    )
    setup = StudySetup(model, a, at, arguments)
    donor = read_single(setup.inputs, arguments.reading(), b, "b")
    image = read_single(setup.inputs, arguments.reading(), a, "a")
    if image.size != donor.size:
        one, other = ("x".join(map(str, found.size)) for found in (image, donor))
        raise ImageError(f"a is {one} and b is {other}; give both one size: --size N (size=N)")
    units, groups, _ = setup.group_units(Replace(), each, b)
    runs = setup.unit_runs(groups)
    loop = ImageLoop(setup.inputs, units, progress)
    positions = {unit: place for place, unit in enumerate(units)}
    found: list[_PatchedImage] = []
    text = f"{donor.name} into {image.name}"
    settings: dict[str, Any] = {"study": "patching", "edit": text, "b": donor.source or "a tensor", "each": each}
    settings |= {"at": setup.selection, "order": order, "top": top}

    with open_study_folder(out, setup, settings, overwrite=overwrite) as folder:

        def study(image: StudyImage, on_unit: Callable[[Unit], None]) -> StudiedImage:
            patched = _PatchedImage(image, donor, setup.inputs.value_range, top, runs)
            patched.run(runs, on_unit)
            found.append(patched)
            maps = read_channel_maps(setup.runner, donor, patched.kept_units, setup.views)
            patched.shown = patched.pictures(order, positions, maps)
            if folder is None:
                return StudiedImage(patched.effects)
            rows = patched.rows()
            write = partial(write_patches, folder, image, donor, patched.shown, rows, patched.other)
            return StudiedImage(patched.effects, write)

        loop.run(study)
        [patched] = found
        rows = patched.rows()
        result = PatchStudy(
            model=source or type(setup.original).__name__,
            edit=text,
            each=each,
            rows=tuple(rows[unit] for unit in units if unit in rows),
            images=tuple(loop.effects),
            order=order,
            notes=(*setup.all_notes(runs), *([] if patched.distance else [_SAME_OUTPUT])),
            seconds=time.perf_counter() - started,
            folder=None if folder is None else folder.path,
            sheet=None if folder is None else folder.sheet,
            interrupted=loop.interrupted,
            distance=patched.distance,
            pictures=patched.shown,
            other=patched.other,
        )
        if folder is not None:
            folder.finish("patches", result.content(settings), result.records(), loop)
    if loop.error is not None:
        raise loop.error
    return result


_SAME_OUTPUT = "the outputs of a and b are the same, so there is nothing to carry over"


class _PatchedImage(ImageStudy):
    """Compares patched outputs with those of a and b. The kept ones are those that carry most of b."""

    shown: ImagePictures

    def __init__(
        self, image: StudyImage, donor: StudyImage, value_range: tuple[float, float], top: int, runs: UnitRuns
    ) -> None:
        super().__init__(image, value_range, None, top)
        self._donor = donor
        self._runs = runs
        self._to_b: OutputComparison
        self._b: Tensor
        self._from_b: dict[Unit, Effect] = {}
        self.distance = 0.0

    @property
    def other(self) -> tuple[Tensor, Tensor]:
        """The input and the output of b."""
        main = self._donor.values[self._donor.repeated[0]]
        return main[0].detach().cpu(), self._b[0].detach().cpu() if self._b.ndim else self._b.cpu()

    def rows(self) -> dict[Unit, Patch]:
        """Return the row of each unit."""
        rows: dict[Unit, Patch] = {}
        for unit, from_a in self.effects.items():
            from_b = self._from_b[unit]
            share = carried_share(from_b.mean_abs, self.distance)
            rows[unit] = Patch(unit, share, from_a, from_b, self._image.name)
        return rows

    def start(self, original: Tensor, width: int) -> None:
        """Take the output of a, and compute that of b, in a batch of the same size."""
        super().start(original, width)
        self._b = self._runs.row_output(self._donor, width)
        if self._b.shape != original.shape:
            one, other = tuple(original.shape), tuple(self._b.shape)
            raise ImageError(f"the output of a is {one} and that of b is {other}, so they can't be compared")
        self._to_b = OutputComparison(self._b, self._image_range)
        self.distance = self._to_b.measure(original).mean_abs

    def rank(self, unit: Unit, effect: Effect, output: Tensor) -> float:
        """Return how much of b's output is carried over."""
        from_b = self._from_b[unit] = self._to_b.measure(output)
        share = carried_share(from_b.mean_abs, self.distance)
        return effect.size if share is None else share

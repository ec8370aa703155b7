"""`ablate`: what the output becomes when operations, modules or channels are edited one by one."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from surgery.builtin import Zero
from surgery.errors import ModelError
from surgery.rewriting import ALL_OPERATIONS
from surgery.studies.ablation_files import write_pictures
from surgery.studies.ablation_study import Ablation, AblationStudy
from surgery.studies.effects import mean_effect
from surgery.studies.image_loop import ImageLoop, StudiedImage
from surgery.studies.image_study import ImageStudy, read_channel_maps
from surgery.studies.memory_limits import DEFAULT_MEMORY
from surgery.studies.regions import explain_resizing, read_region
from surgery.studies.study import check_order
from surgery.studies.study_folder import open_study_folder
from surgery.studies.study_setup import RunArguments, StudySetup
from surgery.studies.variants import check_each

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from surgery.extraction import Mode
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.layouts import RequestedLayouts
    from surgery.output import Progress
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Edit, Reader
    from surgery.studies.study import Order
    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.unit_pictures import ImagePictures
    from surgery.studies.variants import Unit


def ablate(
    model: nn.Module,
    images: FilePatterns | Tensor = (),
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    each: str = "operation",
    edit: Edit | str = Zero(),  # noqa: B008 - frozen
    reference: FilePatterns | Tensor = (),
    within: Any = None,
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
) -> AblationStudy:
    """Edit operations of a model one by one, and measure how far the output goes from the original one.

    - `model`: The model, which stays as it is.
    - `images`: Files as `surgery.extract` takes them, or a tensor ``(B, ...)`` with a row for each image.
    - `at`: Which operations: one selection or several, each of which must match something.
    - `each`: What is edited in one variant: ``operation``, each in turn; ``module``, the value of the last operation of
      each innermost module around them; ``channel``, each channel of each operation; ``group:N``, groups of N
      neighbouring channels; ``all``, all operations at once.
    - `edit`: What is done to it, as `surgery.edit` takes it. By default it is set to zero.
    - `reference`: Images for an edit that needs a reference run, as in `images`.
    - `within`: A region of the output, whose effect is measured and ranked: a mask as a file, or an array ``(H, W)``
      from 0 to 1. One of another size is resized.
    - `top`: How many units have pictures, those with the largest effects.
    - `order`: The order of the rows: by ``effect``, or of ``execution``.
    - `layout`: How values are read as maps, as in `surgery.extract`.
    - `inputs`, `reader`, `readers`, `size`, `side`, `range`: How images and other inputs are read, as in
      `surgery.extract`. A model on a tensor takes values as other inputs, not files.
    - `batch`: How many variants run in one batch at most. More take longer for a small model, whose values then fill
      more than the caches of a CPU. If the entries of a batch are not independent of each other, which is tried out,
      variants run one at a time, and a note says so.
    - `memory`: How many bytes the values of the runs may hold at once, such as ``"500MB"``; fewer variants share a
      batch then. The model itself and the scratch memory of torch's kernels are not counted.
    - `device`, `mode`, `seed`, `leaves`, `allow`, `front_end`, `source`, `plugins`: As in `surgery.extract`. Each
      variant starts from the same seed and the same buffers.
    - `out`, `overwrite`: A folder for the files, as in `surgery.extract`: for each image a sheet and the outputs, and
      for all ``ablations.json``, ``ablations.csv`` and the manifest. Without it, no file is written.
    - `progress`: Called after each variant, with how many are done on all images.

    What comes before an edit is computed once, and each variant runs from there, to the same bits that the whole edited
    model computes. Models without a graph run as a whole. Compared is the first tensor of floats in the output.

    A unit is left out, with a note, if the edit does not fit its value, or if the model fails with the edit or returns
    an output of another shape. An image that can't be read, or that the model can't take, is skipped and listed in
    `failed`. Ctrl-C ends the study; the images that were finished stay. Raises SelectionError if a selection matches
    nothing, EditError for an edit that fits no value and for a mask that marks nothing, ModelError if one variant needs
    more than the memory, and ImageError if no image is left. An error after some images were finished is raised when
    their files are complete.
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
    region = read_region(within)
    setup = StudySetup(model, images, at, arguments)
    units, groups, text = setup.group_units(edit, each, reference)
    runs = setup.unit_runs(groups)
    loop = ImageLoop(setup.inputs, units, progress)
    positions = {unit: place for place, unit in enumerate(units)}
    first: list[ImagePictures] = []
    settings = {"study": "ablation", "edit": text, "each": each, "at": setup.selection, "order": order, "top": top}
    settings |= {} if within is None else {"within": str(within) if isinstance(within, (str, Path)) else "a mask"}

    with open_study_folder(out, setup, settings, overwrite=overwrite) as folder:

        def study(image: StudyImage, on_unit: Callable[[Unit], None]) -> StudiedImage:
            of_image = ImageStudy(image, setup.inputs.value_range, region, top)
            of_image.run(runs, on_unit)
            if first and folder is None:
                return StudiedImage(of_image.effects)
            maps = read_channel_maps(setup.runner, image, of_image.kept_units, setup.views)
            pictures = of_image.pictures(order, positions, maps)
            first[:] = first or [pictures]
            if folder is None:
                return StudiedImage(of_image.effects)
            return StudiedImage(of_image.effects, partial(write_pictures, folder, image, pictures, len(units)))

        loop.run(study)
        by_image = loop.by_unit(units)
        result = AblationStudy(
            model=source or type(setup.original).__name__,
            edit=text,
            each=each,
            rows=tuple(Ablation(unit, mean_effect([*found.values()]), found) for unit, found in by_image.items()),
            images=tuple(loop.effects),
            order=order,
            failed=tuple(loop.failures),
            notes=(*setup.all_notes(runs), *explain_resizing(region, first[0].output)),
            pictures=first[0],
            seconds=time.perf_counter() - started,
            folder=None if folder is None else folder.path,
            sheet=None if folder is None else folder.sheet,
            interrupted=loop.interrupted,
        )
        if folder is not None:
            folder.finish("ablations", result.content(settings), result.records(), loop)
    if loop.error is not None:
        raise loop.error
    return result

"""The sheet and the files of patching: the outputs of a and b, and the patched ones between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from surgery.studies.ablation_files import describe_page, unit_file_name
from surgery.studies.patch_study import format_share
from surgery.studies.sheet_page import StudyCell, StudyPage
from surgery.studies.study_pictures import MAP_COLORS, draw_map, draw_output, output_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image
    from torch import Tensor

    from surgery.studies.patch_study import Patch
    from surgery.studies.study_folder import StudyFolder
    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.unit_pictures import ImagePictures, UnitPicture
    from surgery.studies.variants import Unit


def write_patches(
    folder: StudyFolder,
    image: StudyImage,
    donor: StudyImage,
    pictures: ImagePictures,
    rows: Mapping[Unit, Patch],
    other: tuple[Tensor, Tensor],
) -> None:
    """Write the sheet of patching and the outputs on it. `other` are the input and the output of b, the `donor`."""
    if pictures.output.ndim != 3:
        folder.finish_image(image, {}, {})
        return
    about = folder.about
    title = [f"{about.get('model', 'model')}: {donor.name} patched into {image.name}"]
    details = describe_page(about, len(pictures.units), len(rows), "carry most")
    sheet = draw_patch_sheet(pictures, rows, other, title, details, donor.name)
    limits = output_limits(pictures.output, pictures.value_range)
    outputs = {"a": pictures.output, "b": other[1]}
    outputs |= {unit_file_name(picture.unit): picture.output for picture in pictures.units}
    drawn = {name: draw_output(output, pictures.value_range, limits) for name, output in outputs.items()}
    folder.finish_image(image, {"sheet": sheet}, drawn)


def draw_patch_sheet(
    pictures: ImagePictures,
    rows: Mapping[Unit, Patch],
    other: tuple[Tensor, Tensor],
    title: list[str],
    details: list[str],
    name: str,
) -> Image.Image:
    """Return the page of patching. `other` are the input and the output of b, whose name is `name`."""
    value_range = pictures.value_range
    limits = output_limits(pictures.output, value_range)
    heading: list[tuple[str, Image.Image]] = []
    named = (("a", pictures.name, pictures.input, pictures.output), ("b", name, *other))
    for which, shown_name, given, output in named:
        if given.ndim == 3 and given.is_floating_point():
            is_image = given.shape[0] in (1, 3) and value_range is not None
            heading.append((f"{which}: {shown_name}", draw_output(given, value_range if is_image else None)))
        heading.append((f"output of {which}", draw_output(output, value_range, limits)))
    has_maps = any(each.maps is not None for each in pictures.units)
    legend = [
        "The run of a with values of b in it:",
        *(["the channels of b, and the output"] if has_maps else ["the output of each"]),
        "Number and bar: the share of b's",
        "output that is carried over.",
        "0% is the output of a, 100% of b.",
    ]
    cells = [_make_cell(each, rows[each.unit], value_range, limits) for each in pictures.units]
    return StudyPage(title=title, details=details, heading=heading, legend=legend, scale=None, cells=cells).draw()


def _make_cell(
    picture: UnitPicture, row: Patch, value_range: tuple[float, float] | None, limits: tuple[float, float] | None
) -> StudyCell:
    shown = [] if picture.maps is None else [draw_map(picture.maps.mean(0), MAP_COLORS)]
    shown.append(draw_output(picture.output, value_range, limits))
    share = row.share if row.share is not None and math.isfinite(row.share) else None
    number = format_share(row.share)
    details = f"from a {row.from_a.mean_abs:.3g}   from b {row.from_b.mean_abs:.3g}"
    bar = None if share is None and row.share is not None else min(1.0, max(0.0, share or 0.0))
    return StudyCell(picture.unit.label, number, bar, details, shown)

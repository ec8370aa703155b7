"""The files of one image of an ablation study: its sheet, and the outputs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.studies.ablation_sheet import draw_ablation_sheet
from surgery.studies.study_pictures import draw_output, output_limits
from surgery.text import file_name, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.studies.study_folder import StudyFolder
    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.unit_pictures import ImagePictures
    from surgery.studies.variants import Unit


def write_pictures(folder: StudyFolder, image: StudyImage, pictures: ImagePictures, units: int) -> None:
    """Write the sheet of an image and each output on it. `units` is the number of units of the study."""
    if pictures.output.ndim != 3:
        folder.finish_image(image, {}, {})
        return
    about = folder.about
    title = [f"{about.get('model', 'model')}: {about['edit']}", image.name]
    sheet = draw_ablation_sheet(pictures, title, describe_page(about, len(pictures.units), units))
    limits = output_limits(pictures.output, pictures.value_range)
    outputs = {"output": draw_output(pictures.output, pictures.value_range, limits)}
    for picture in pictures.units:
        outputs[unit_file_name(picture.unit)] = draw_output(picture.output, pictures.value_range, limits)
    folder.finish_image(image, {"sheet": sheet}, outputs)


def describe_page(about: Mapping[str, str], shown: int, units: int, most: str = "change it most") -> list[str]:
    """Return what a page says below its title. `about` are the settings of the study, `most` what the shown ones do."""
    noun = {"operation": "operation", "module": "module", "channel": "channel"}.get(about["each"], "variant")
    ordered = "the largest effect first" if about["order"] == "effect" else "in order of execution"
    count = format_count(units, noun)
    count = count if shown == units else f"the {shown} of {count} that {most}"
    random = ["random weights"] if about.get("weights", "").startswith("random") else []
    return [f"{count}, {ordered}", f"at {about['at']}", f"mode {about['mode']}", *random]


def unit_file_name(unit: Unit) -> str:
    """Return the name of a file of one unit, without suffix: ``048-up3.cat-7``."""
    parts = [unit.module or unit.path, *([unit.channel_text] if unit.channel_text else [])]
    return file_name("-".join(parts), unit.operations[0].index)

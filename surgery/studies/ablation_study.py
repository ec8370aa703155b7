"""What an ablation study found: a row for each unit, and pictures of the first image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from surgery.studies.study import Study, effect_cells, unit_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.studies.effects import Effect
    from surgery.studies.unit_pictures import ImagePictures
    from surgery.studies.variants import Unit


@dataclass(frozen=True, slots=True)
class Ablation:
    """One row of a study: what was edited, and how far the output went."""

    unit: Unit
    effect: Effect
    """Over all images: means, and the largest pixel of all."""
    by_image: Mapping[str, Effect]
    """The effect on each image, by its name."""

    @property
    def size(self) -> float:
        """What it is ranked by: the mean absolute difference, inside of the region if there is one."""
        return self.effect.size

    def cells(self) -> dict[str, str]:
        """Return its numbers as texts, by the name of their column."""
        return effect_cells(self.effect)

    def record(self) -> dict[str, Any]:
        """Return the row as plain data: path, kind, index, channels, module, and the numbers of its effect."""
        return {**unit_record(self.unit), **asdict(self.effect)}

    def __repr__(self) -> str:
        return f"Ablation({self.unit.label!r}, {', '.join(f'{name} {text}' for name, text in self.cells().items())})"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class AblationStudy(Study[Ablation]):
    """What an ablation study found. It is the sequence of its rows, in the order that was asked for.

    With `pandas.DataFrame(study.records())` it is a table.
    """

    pictures: ImagePictures | None = None
    """Of the first image."""

"""What patching found: how much of one image's output each operation carries into that of another."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from surgery.studies.study import Study, unit_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from surgery.studies.effects import Effect
    from surgery.studies.unit_pictures import ImagePictures
    from surgery.studies.variants import Unit


@dataclass(frozen=True, slots=True)
class Patch:
    """One row of a study: whose values were put into the run, and where the output came out between a's and b's."""

    unit: Unit
    share: float | None
    """How much of b's output is carried over: ``1 - |output - b| / |a - b|`` of mean absolute differences. 0 for a's
    output, 1 for b's, negative where it is further from b than a is. None if a and b have the same output."""
    from_a: Effect
    """How far the output is from that of a."""
    from_b: Effect
    """How far it is from that of b."""
    name: str
    """The name of a."""

    @property
    def size(self) -> float:
        """What it is ranked by: the share, or how far it is from a's output where there is no share."""
        return self.from_a.size if self.share is None else -math.inf if math.isnan(self.share) else self.share

    @property
    def by_image(self) -> Mapping[str, Effect]:
        """How far the output is from that of a, by the name of a."""
        return {self.name: self.from_a}

    def cells(self) -> dict[str, str]:
        """Return its numbers as texts, by the name of their column."""
        share = {} if self.share is None else {"carried": format_share(self.share)}
        distances = {"from a": f"{self.from_a.mean_abs:.3g}", "from b": f"{self.from_b.mean_abs:.3g}"}
        ssim = {} if self.from_b.ssim is None else {"SSIM to b": f"{self.from_b.ssim:.3f}"}
        return {**share, **distances, **ssim}

    def record(self) -> dict[str, Any]:
        """Return the row as plain data: path, kind, index, channels, module, share, and how far it is from a and b."""
        names = ("mean_abs", "rms", "largest", "ssim")
        effects = {"a": asdict(self.from_a), "b": asdict(self.from_b)}
        distances = {f"{name}_from_{which}": effects[which][name] for which in effects for name in names}
        return {**unit_record(self.unit), "share": self.share, **distances}

    def __repr__(self) -> str:
        return f"Patch({self.unit.label!r}, {', '.join(f'{name} {text}' for name, text in self.cells().items())})"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class PatchStudy(Study[Patch]):
    """What patching found. It is the sequence of its rows, in the order that was asked for.

    With `pandas.DataFrame(study.records())` it is a table.
    """

    distance: float
    """How far the outputs of a and b are apart: the mean absolute difference."""
    pictures: ImagePictures
    """Those of a."""
    other: tuple[Tensor, Tensor]
    """The input and the output of b, in the shapes of a's."""


def format_share(share: float | None) -> str:
    """Return a share as text: ``59.5%``; ``none`` for None."""
    return "none" if share is None else f"{round(share, 3) + 0.0:.1%}"  # not -0.0%


def carried_share(from_b: float, distance: float) -> float | None:
    """Return the share of b's output in one that is `from_b` from it, where a's output is `distance` from it."""
    return None if distance == 0 else 1 - from_b / distance

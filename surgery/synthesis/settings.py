"""The settings of gradient ascent on an image."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from surgery.builtin import check_region
from surgery.errors import ModelError
from surgery.models import check_seed
from surgery.text import format_count


@dataclass(frozen=True, slots=True)
class AscentSettings:
    """How an image is changed. Raises ModelError or EditError for a value out of its range."""

    steps: int = 128
    rate: float = 0.05
    """The size of a step, of Adam (Kingma and Ba, ICLR 2015)."""
    jitter: int = 8
    """The most pixels that a step moves the image by."""
    variation: float = 1.0
    """The weight of the total variation."""
    frequencies: bool = True
    """Whether the frequencies of the image are changed; otherwise its pixels."""
    seed: int = 0
    region: tuple[float, float, float, float] | None = None
    """The part of the map whose mean counts: top, left, height and width in shares; None for all of it."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ModelError(f"there is at least 1 step, not {self.steps}")
        if not 0 < self.rate < float("inf"):
            raise ModelError(f"the rate is above 0, not {self.rate:g}")
        if self.jitter < 0:
            raise ModelError(f"the jitter is at least 0 pixels, not {self.jitter}")
        if not 0 <= self.variation < float("inf"):
            raise ModelError(f"the weight of the variation is at least 0, not {self.variation:g}")
        check_seed(self.seed)
        check_region(self.region)

    def describe(self) -> list[str]:
        """Return the settings in words."""
        region = [f"region {','.join(f'{share:g}' for share in self.region)}"] if self.region is not None else []
        return [
            format_count(self.steps, "step"),
            f"seed {self.seed}",
            f"rate {self.rate:g}",
            f"jitter {self.jitter}",
            f"variation {self.variation:g}",
            "frequencies" if self.frequencies else "pixels",
            *region,
        ]

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

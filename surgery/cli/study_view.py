"""Views of studies: a table with a bar for each row. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from surgery.studies import Ablation, AblationStudy, Patch, PatchStudy

_NARROW, _WIDE = 12, 24
"""Characters of the longest bar, in a terminal of less than 100 columns and in others."""


def ablation_view(study: AblationStudy, top: int, width: int) -> RenderableType:
    """Return a view of an ablation study: its first `top` rows, each with a bar, and where the files are."""
    longest = max((row.effect.size for row in study.rows if math.isfinite(row.effect.size)), default=0.0)

    def share(row: Ablation) -> float:
        return row.effect.size / longest if longest and math.isfinite(row.effect.size) else row.effect.size

    return _study_view(study, ("inside", "outside", "difference", "SSIM", "rms", "largest"), share, top, width)


def patch_view(study: PatchStudy, top: int, width: int) -> RenderableType:
    """Return a view of patching: its first `top` rows, each with a bar for what is carried over, and the files."""

    def share(row: Patch) -> float:
        return math.inf if row.share is not None and math.isnan(row.share) else min(1.0, max(0.0, row.share or 0.0))

    return _study_view(study, ("carried", "from a", "from b", "SSIM to b"), share, top, width)


def make_bar(share: float, length: int) -> Text:
    """Return a bar for a share from 0 to 1 of the longest one; what is above 0 has a character at least."""
    if not math.isfinite(share):
        return Text("not finite", style="bold red")
    return Text("█" * max(math.ceil(share) if share > 0 else 0, round(share * length)), style="blue")


def _study_view(
    study: AblationStudy | PatchStudy, names: tuple[str, ...], share: Callable[[Any], float], top: int, width: int
) -> RenderableType:
    shown = study[: max(1, top)]
    length = _WIDE if width >= 100 else _NARROW
    rows = [
        {
            "unit": Text(row.unit.label, style="bold"),
            "effect": make_bar(share(row), length),
            "kind": Text(row.unit.operations[0].kind, style="cyan"),
            **{name: Text(text) for name, text in row.cells().items()},
        }
        for row in shown
    ]
    table = fitted_table(rows, ["unit", "effect", *names, "kind"], width)
    rest = len(study) - len(shown)
    lines = [Text(f"and {rest} more, in the tables in the folder", style="dim")] if rest > 0 else []
    if study.folder is not None:
        lines.append(Text(f"{study.folder}/", style="bold green"))
        if study.interrupted:
            lines[-1].append("  interrupted: the finished images are complete", style="bold yellow")
    if study.sheet is not None:
        lines.append(Text.assemble(("look at ", "dim"), f"{study.sheet}"))
    return Group(Text(study.title(), style="bold"), Text(), table, Text(), *lines)

"""Views of studies: a table with a bar for each row. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

    from surgery.comparison import Ablation, AblationStudy

_NARROW, _WIDE = 12, 24
"""Characters of the longest bar, in a terminal of less than 100 columns and in others."""


def ablation_view(study: AblationStudy, top: int, width: int) -> RenderableType:
    """Return a view of an ablation study: its first `top` rows with bars, and where the files are."""
    shown = study[: max(1, top)]
    longest = max((row.effect.size for row in study.rows if math.isfinite(row.effect.size)), default=0.0)
    rows = [_ablation_row(row, longest, _WIDE if width >= 100 else _NARROW) for row in shown]
    columns = ["unit", "effect", "inside", "outside", "difference", "SSIM", "rms", "largest", "kind"]
    table = fitted_table(rows, columns, width)
    return Group(
        Text(study.title(), style="bold"),
        Text(),
        table,
        Text(),
        *study_footer(len(study) - len(shown), study.folder, study.sheet, interrupted=study.interrupted),
    )


def study_footer(rest: int, folder: Path | None, sheet: Path | None, *, interrupted: bool) -> list[Text]:
    """Return the lines below a table: how many rows are left out, where the files are, and what to look at."""
    lines = [Text(f"and {rest} more, in the tables in the folder", style="dim")] if rest > 0 else []
    if folder is not None:
        lines.append(Text(f"{folder}/", style="bold green"))
        if interrupted:
            lines[-1].append("  interrupted: the finished images are complete", style="bold yellow")
    if sheet is not None:
        lines.append(Text.assemble(("look at ", "dim"), f"{sheet}"))
    return lines


def make_bar(share: float, length: int) -> Text:
    """Return a bar for a share from 0 to 1 of the longest one; what is above 0 has a character at least."""
    if not math.isfinite(share):
        return Text("not finite", style="bold red")
    return Text("█" * max(math.ceil(share) if share > 0 else 0, round(share * length)), style="blue")


def _ablation_row(row: Ablation, longest: float, length: int) -> dict[str, Text]:
    effect = row.effect
    share = effect.size / longest if longest and math.isfinite(effect.size) else effect.size
    cells = {
        "unit": Text(row.unit.label, style="bold"),
        "effect": make_bar(share, length),
        "difference": Text(f"{effect.mean_abs:.3g}"),
        "rms": Text(f"{effect.rms:.3g}"),
        "largest": Text(f"{effect.largest:.3g}"),
        "kind": Text(row.unit.operations[0].kind, style="cyan"),
    }
    optional = {"inside": effect.inside, "outside": effect.outside}
    cells |= {name: Text(f"{value:.3g}") for name, value in optional.items() if value is not None}
    return cells | ({} if effect.ssim is None else {"SSIM": Text(f"{effect.ssim:.3f}")})

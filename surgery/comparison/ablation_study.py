"""What an ablation study found: a row for each unit, and pictures of the first image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from surgery.comparison.effects import Effect
from surgery.errors import ModelError
from surgery.text import MAX_TABLE_ROWS, Html, escape_html, format_count, html_table, image_tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.comparison.variants import Unit
    from surgery.output import Failure

Order: TypeAlias = Literal["effect", "execution"]
_SHOWN_ROWS = 12


@dataclass(frozen=True, slots=True)
class Ablation:
    """One row of a study: what was edited, and how far the output went."""

    unit: Unit
    effect: Effect
    """Over all images: means, and the largest pixel of all."""
    by_image: Mapping[str, Effect]
    """The effect on each image, by its name."""

    def __repr__(self) -> str:
        return f"Ablation({self.unit.label!r}, {describe_effect(self.effect)})"

    def record(self) -> dict[str, Any]:
        """Return the row as plain data: path, kind, index, channels, module, and the numbers of its effect."""
        operation = self.unit.operations[0]
        return {
            "path": self.unit.path,
            "kind": operation.kind,
            "index": operation.index,
            "channels": self.unit.channel_text or None,
            "module": self.unit.module,
            **asdict(self.effect),
        }


@dataclass(frozen=True, slots=True, eq=False)
class UnitPicture:
    """What the edit of one unit did to one image."""

    unit: Unit
    effect: Effect
    output: Tensor
    """The output, ``(C, H, W)`` for an output of maps, on the CPU."""
    heat_map: Tensor | None
    """Where it differs from the original: the mean absolute difference over channels, float32 ``(H, W)``."""
    maps: Tensor | None = None
    """The channels themselves before the edit, ``(C, H, W)``, in a study of channels."""


@dataclass(frozen=True, slots=True, eq=False)
class ImagePictures:
    """The pictures of one image: its input, its original output, and what the edits did that changed it most."""

    name: str
    input: Tensor
    """``(C, H, W)`` for an image, on the CPU."""
    output: Tensor
    value_range: tuple[float, float] | None
    """Black and white of the output; None if it is no image."""
    units: tuple[UnitPicture, ...]
    """In the order of the study."""
    mask: Tensor | None = None
    """The region that was asked about, bool ``(H, W)``."""


@dataclass(frozen=True, slots=True, eq=False)
class AblationStudy(Sequence[Ablation]):
    """What an ablation study found. It is the sequence of its rows, in the order that was asked for.

    With `pandas.DataFrame(study.records())` it is a table.
    """

    model: str
    edit: str
    """What was done to each unit."""
    each: str
    rows: tuple[Ablation, ...]
    """In order of execution."""
    images: tuple[str, ...]
    order: Order = "effect"
    failed: tuple[Failure, ...] = ()
    """The images that could not be read, or that the model could not take."""
    notes: tuple[str, ...] = ()
    """How the runs were made, and what was left out, a line each."""
    pictures: ImagePictures | None = None
    """Of the first image."""
    seconds: float = 0.0
    folder: Path | None = None
    """Where its files are; None if it wrote none."""
    sheet: Path | None = None
    """The first sheet."""
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.sorted()[index]

    def __iter__(self) -> Iterator[Ablation]:
        return iter(self.sorted())

    def sorted(self, order: Order | None = None) -> tuple[Ablation, ...]:
        """Return the rows by effect, the largest first, or in order of execution."""
        return sort_rows(self.rows, order or self.order)

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each row: path, kind, index, channels, module, and the numbers of its effect."""
        return [row.record() for row in self]

    def content(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of it as plain data, with the settings that it was made with and the effects on each image."""
        about = {"model": self.model, "settings": dict(settings), "images": self.images, "notes": self.notes}
        by_image = ({name: asdict(effect) for name, effect in row.by_image.items()} for row in self)
        rows = [{**row.record(), "by_image": effects} for row, effects in zip(self, by_image, strict=True)]
        return {**about, "rows": rows}

    def __repr__(self) -> str:
        lines = [self.title()]
        shown = self.sorted()[:_SHOWN_ROWS]
        width = max((len(row.unit.label) for row in shown), default=0)
        lines += [f"  {row.unit.label:{width}}  {describe_effect(row.effect)}" for row in shown]
        lines += [f"  ... and {len(self) - _SHOWN_ROWS} more"] if len(self) > _SHOWN_ROWS else []
        return "\n".join(lines)

    def title(self) -> str:
        """Return one line: the model, what was done to how many units, on how many images."""
        counts = (
            f"{format_count(len(self.rows), _NOUNS.get(self.each, 'unit'))}, {format_count(len(self.images), 'image')}"
        )
        rest = [f"{len(self.failed)} failed"] if self.failed else []
        rest += ["interrupted"] if self.interrupted else []
        return f"{self.model}, {self.edit}: {', '.join([counts, *rest])}, {self.seconds:.1f} s"

    def _repr_html_(self) -> str:
        """Return a table for notebooks, with the sheet if it was written."""
        header, *rows = table_cells(self.sorted()[:MAX_TABLE_ROWS])
        failures = [f"{failure.path}: {failure.reason}" for failure in self.failed]
        lines = "".join(f"<div>{escape_html(line)}</div>" for line in [*failures, *self.notes][:MAX_TABLE_ROWS])
        return html_table(self.title(), header, rows) + lines + self._sheet_tag()

    def _sheet_tag(self) -> str:
        from PIL import Image

        if self.sheet is None or not self.sheet.is_file():
            return Html("")
        with Image.open(self.sheet) as sheet:
            return image_tag(sheet.convert("RGB"), 1024)


_NOUNS = {"operation": "operation", "module": "module", "channel": "channel", "all": "variant"}


def sort_rows(rows: Sequence[Ablation], order: Order) -> tuple[Ablation, ...]:
    """Return rows, given in order of execution, in an order. Rows of the same effect stay in order of execution."""
    return tuple(rows) if order == "execution" else tuple(sorted(rows, key=lambda row: -row.effect.size))


def check_order(order: str) -> None:
    """Raise ModelError for an unknown order."""
    if order not in get_args(Order):
        raise ModelError(f"order is {' or '.join(get_args(Order))}, not {order!r:.60}")


def describe_effect(effect: Effect) -> str:
    """Return the numbers of an effect as text: ``difference 0.123, rms 0.2, largest 1.5, SSIM 0.61``."""
    inside = [] if effect.inside is None else [f"inside {effect.inside:.3g}"]
    outside = [] if effect.outside is None else [f"outside {effect.outside:.3g}"]
    ssim = [] if effect.ssim is None else [f"SSIM {effect.ssim:.3f}"]
    numbers = [f"difference {effect.mean_abs:.3g}", f"rms {effect.rms:.3g}", f"largest {effect.largest:.3g}"]
    return ", ".join([*inside, *outside, *numbers, *ssim])


def table_cells(rows: Sequence[Ablation]) -> list[tuple[str, ...]]:
    """Return a header and the cells of rows, without columns that no row has."""
    columns = {
        "operation": [row.unit.label for row in rows],
        "inside": [_number(row.effect.inside) for row in rows],
        "outside": [_number(row.effect.outside) for row in rows],
        "difference": [_number(row.effect.mean_abs) for row in rows],
        "rms": [_number(row.effect.rms) for row in rows],
        "largest": [_number(row.effect.largest) for row in rows],
        "SSIM": ["" if row.effect.ssim is None else f"{row.effect.ssim:.3f}" for row in rows],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    return [tuple(kept), *zip(*kept.values(), strict=True)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"

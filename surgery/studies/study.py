"""What studies have in common: rows in an order, as text, as a table for notebooks, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from surgery.errors import ModelError
from surgery.text import MAX_TABLE_ROWS, Html, escape_html, format_count, html_table, image_tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from surgery.output import Failure
    from surgery.studies.effects import Effect
    from surgery.studies.variants import Unit

Order: TypeAlias = Literal["effect", "execution"]
_SHOWN_ROWS = 12
_NOUNS = {"operation": "operation", "module": "module", "channel": "channel", "all": "variant"}


class StudyRow(Protocol):
    """One row of a study: what was edited in one variant, and what came of it."""

    @property
    def unit(self) -> Unit: ...

    @property
    def size(self) -> float:
        """What rows are ranked by."""
        ...

    @property
    def by_image(self) -> Mapping[str, Effect]:
        """How far the output of each image went, by the image's name."""
        ...

    def cells(self) -> Mapping[str, str]:
        """Return its numbers as texts, by the name of their column."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the row as plain data."""
        ...


R = TypeVar("R", bound=StudyRow)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Study(Sequence[R]):
    """What a study found. It is the sequence of its rows, in the order that was asked for.

    With `pandas.DataFrame(study.records())` it is a table.
    """

    model: str
    edit: str
    """What was done to each unit."""
    each: str
    rows: tuple[R, ...]
    """In order of execution."""
    images: tuple[str, ...]
    order: Order = "effect"
    failed: tuple[Failure, ...] = ()
    """The images that could not be read, or that the model could not take."""
    notes: tuple[str, ...] = ()
    """How the runs were made, and what was left out, a line each."""
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

    def __iter__(self) -> Iterator[R]:
        return iter(self.sorted())

    def sorted(self, order: Order | None = None) -> tuple[R, ...]:
        """Return the rows by effect, the largest first, or in order of execution."""
        if (order or self.order) == "execution":
            return self.rows
        return tuple(sorted(self.rows, key=lambda row: -row.size))  # stable: of equal effects, the first come first

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each row: path, kind, index, channels, module, and its numbers."""
        return [row.record() for row in self]

    def content(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of it as plain data, with the settings that it was made with and the effects on each image."""
        about = {"model": self.model, "settings": dict(settings), "images": self.images, "notes": self.notes}
        by_image = ({name: asdict(effect) for name, effect in row.by_image.items()} for row in self)
        rows = [{**row.record(), "by_image": effects} for row, effects in zip(self, by_image, strict=True)]
        return {**about, "rows": rows}

    def title(self) -> str:
        """Return one line: the model, what was done to how many units, on how many images."""
        units, images = format_count(len(self.rows), _NOUNS.get(self.each, "unit")), len(self.images)
        parts = [units, format_count(images, "image")]
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        parts += ["interrupted"] if self.interrupted else []
        return f"{self.model}, {self.edit}: {', '.join(parts)}, {self.seconds:.1f} s"

    def __repr__(self) -> str:
        shown = self.sorted()[:_SHOWN_ROWS]
        width = max((len(row.unit.label) for row in shown), default=0)
        lines = [self.title()]
        for row in shown:
            numbers = ", ".join(f"{name} {text}" for name, text in row.cells().items())
            lines.append(f"  {row.unit.label:{width}}  {numbers}")
        lines += [f"  ... and {len(self) - _SHOWN_ROWS} more"] if len(self) > _SHOWN_ROWS else []
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return a table for notebooks, with the sheet if it was written."""
        rows = self.sorted()[:MAX_TABLE_ROWS]
        columns = list(dict.fromkeys(name for row in rows for name in row.cells()))
        cells = [(row.unit.label, *(row.cells().get(name, "") for name in columns)) for row in rows]
        failures = [f"{failure.path}: {failure.reason}" for failure in self.failed]
        rest = [f"and {len(self) - len(rows)} more"] if len(self) > len(rows) else []
        lines = [*rest, *failures, *self.notes][:MAX_TABLE_ROWS]
        texts = "".join(f"<div>{escape_html(line)}</div>" for line in lines)
        return html_table(self.title(), ("unit", *columns), cells) + texts + self._sheet_tag()

    def _sheet_tag(self) -> str:
        from PIL import Image

        if self.sheet is None or not self.sheet.is_file():
            return Html("")
        with Image.open(self.sheet) as sheet:
            return image_tag(sheet.convert("RGB"), 1024)


def check_order(order: str) -> None:
    """Raise ModelError for an unknown order."""
    if order not in get_args(Order):
        raise ModelError(f"order is {' or '.join(get_args(Order))}, not {order!r:.60}")


def unit_record(unit: Unit) -> dict[str, Any]:
    """Return a unit as plain data."""
    operation = unit.operations[0]
    return {
        "path": unit.path,
        "kind": operation.kind,
        "index": operation.index,
        "channels": unit.channel_text or None,
        "module": unit.module,
    }


def effect_cells(effect: Effect) -> dict[str, str]:
    """Return the numbers of an effect as texts, without those that are None."""
    values = {
        "inside": effect.inside,
        "outside": effect.outside,
        "difference": effect.mean_abs,
        "rms": effect.rms,
        "largest": effect.largest,
    }
    cells = {name: f"{value:.3g}" for name, value in values.items() if value is not None}
    return cells if effect.ssim is None else {**cells, "SSIM": f"{effect.ssim:.3f}"}

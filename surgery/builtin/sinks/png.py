"""The sink that writes a PNG file for every activation."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import RenderError
from surgery.output import as_json, describe_codes, picture_limits
from surgery.text import file_name as safe_file_name
from surgery.text import sortable_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation, Picture


@dataclass(frozen=True, slots=True)
class Png:
    """`<image>/<NNN>-<path>.png`, numbered in order of execution; activations of a whole batch are in `batch/`.

    The files are palette PNGs. At level 1, texts and pixels that are nearly noise are stored uncompressed, since
    compressing them takes longer than writing them.

    Each file has a PNG text `surgery` with JSON: the operation, the limits of its channels, how to convert a code to a
    value, the image, the weights and the recipe.
    """

    level: int = 1
    """0 stores; 1 is the fastest; 2 and 3 also compress noise and texts; 4 to 9 make smaller files (zlib)."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise RenderError(f"level is 0 to 9, not {self.level}")

    deferred: ClassVar[bool] = True
    alone: ClassVar[bool] = True

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery.drawing import save_png

        used: Counter[str] = Counter()

        def write(activation: Activation) -> None:
            pictures = activation.pictures
            for number, picture in enumerate(pictures):
                name = f"{folder.place(activation.image)}/{file_name(activation)}"
                if len(pictures) > 1:
                    name = f"{name}-{picture.label or f'c{sortable_number(number)}'}"
                used[name] += 1
                if used[name] > 1:
                    name = f"{name}~{used[name]}"
                with folder.file(f"{name}.png", activation) as path:
                    texts = {"surgery": picture_metadata(folder, activation, picture)}
                    folder.note_digest(path, save_png(path, picture, texts, self.level))

        folder.when_finished(lambda _: used.clear())
        folder.when_dropped(lambda _: used.clear())
        yield write


def file_name(activation: Activation) -> str:
    """Return the number and path of an operation as a name for every file system: ``004-down2.conv``."""
    return safe_file_name(activation.path, activation.operation.index)


def picture_metadata(folder: OutputFolder, activation: Activation, picture: Picture) -> bytes:
    """Return the JSON of the PNG text: what a picture shows, and how its codes become values."""
    content: dict[str, Any] = {
        "operation": activation.path,
        "kind": activation.operation.kind,
        "image": activation.image,
        "shape": list(activation.values.shape),
        "dtype": str(activation.values.dtype).removeprefix("torch."),
        "layout": activation.layout.name,
        "layout_reason": activation.layout.reason,
        **picture_limits(picture),
    }
    if picture.palette is not None:
        content["value"] = describe_codes()
    return as_json({**content, **folder.about})

"""The sink: what TensorBoard shows of an image is kept until the image is finished, and is one step then."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_tensorboard.events import EventFile


@dataclass(frozen=True, slots=True)
class TensorBoard:
    """`tensorboard/`: an event file with a step for each image, in order, for ``tensorboard --logdir``.

    Of every operation there are its pictures, under its path; its facts, under ``path/min``, ``path/max`` and so on,
    exact statistics among them where the run has them (``--stats``); and a histogram, under its path, of its finite
    values. Text has the images' names, by step, under ``surgery/image``, and what the run is, under ``surgery/run``.
    What belongs to a whole batch stands at the step of the batch's first image.

    A second run into the folder, where it is allowed, takes the place of the first in what TensorBoard shows; the files
    of both stay.
    """

    images: bool = True
    scalars: bool = True
    histograms: int = 30
    """Bins of each; 0 for no histograms."""

    places: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.histograms < 0:
            raise OutputError(f"histograms have at least 0 bins, not {self.histograms}")

    @property
    def deferred(self) -> bool:
        """Whether it does without the values themselves."""
        return not self.histograms

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery_tensorboard.events import EventFile, text

        kept: defaultdict[str | None, list[Any]] = defaultdict(list)
        used: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        step, first = 0, 0
        file: EventFile | None = None
        with folder.directory("tensorboard") as directory, ExitStack() as stack:

            def write(activation: Activation) -> None:
                used[activation.image][activation.path] += 1
                times = used[activation.image][activation.path]
                tag = activation.path if times == 1 else f"{activation.path}~{times}"
                kept[activation.image] += self._values(tag, activation)

            def finished(image: str | None) -> None:
                nonlocal step, first, file
                values = kept.pop(image, [])
                used.pop(image, None)
                if values:
                    if file is None:
                        file = EventFile(directory)
                        stack.callback(file.close)
                        file.add(0, [text("surgery/run", _table(folder.about))])
                    names = [text("surgery/image", image)] if image is not None else []
                    file.add(first if image is None else step, [*names, *values])
                step += image is not None
                first = step if image is None else first

            def dropped(image: str | None) -> None:
                kept.pop(image, None)
                used.pop(image, None)

            folder.when_finished(finished)
            folder.when_dropped(dropped)
            yield write

    def _values(self, tag: str, activation: Activation) -> Iterator[Any]:
        from surgery_tensorboard.events import histogram, image, scalar

        facts = activation.facts
        if self.images:
            pictures = activation.pictures
            for number, picture in enumerate(pictures):
                yield image(tag if len(pictures) == 1 else f"{tag}/{number:03}", picture)
        if self.scalars:
            for name in (field.name for field in fields(facts)):
                value = getattr(facts, name)
                if value is not None:
                    yield scalar(f"{tag}/{name}", float(value))
        if self.histograms and facts.min is not None:
            yield histogram(tag, activation.values, self.histograms)


def _table(about: Mapping[str, str]) -> str:
    rows = [f"| {name} | {value} |" for name, value in about.items()]
    return "\n".join(["| | |", "| --- | --- |", *rows])

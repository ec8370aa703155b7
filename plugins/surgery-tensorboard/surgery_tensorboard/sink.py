"""The sink: the values of an image are collected until it is finished, and are then written as one step."""

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
    """A sink that writes an event file in ``tensorboard/``, for ``tensorboard --logdir``. Each image is one step.

    For each operation it writes the pictures, tagged with the operation's path; its facts, tagged ``path/min``,
    ``path/max`` and so on, with exact statistics if the run computes them (``--stats``); and a histogram of its finite
    values, tagged with the path. The texts are ``surgery/image``, the name of the image at each step, and
    ``surgery/run``, a description of the run. Values of a whole batch are at the step of the batch's first image.

    After a second run into the same folder, TensorBoard shows the second run; the files of both are kept.
    """

    images: bool = True
    scalars: bool = True
    histograms: int = 30
    """The number of bins; 0 for no histograms."""

    places: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.histograms < 0:
            raise OutputError(f"histograms have at least 0 bins, not {self.histograms}")

    @property
    def deferred(self) -> bool:
        """Whether the sink needs no values, only pictures and facts."""
        return not self.histograms

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery_tensorboard.events import EventFile, text

        pending: defaultdict[str | None, list[Any]] = defaultdict(list)
        counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
        step, first = 0, 0
        file: EventFile | None = None
        with folder.directory("tensorboard") as directory, ExitStack() as stack:

            def write(activation: Activation) -> None:
                counts[activation.image][activation.path] += 1
                times = counts[activation.image][activation.path]
                tag = activation.path if times == 1 else f"{activation.path}~{times}"
                pending[activation.image] += self._values(tag, activation)

            def finished(image: str | None) -> None:
                nonlocal step, first, file
                values = pending.pop(image, [])
                counts.pop(image, None)
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
                pending.pop(image, None)
                counts.pop(image, None)

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

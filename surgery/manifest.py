"""The record of a run: `manifest.json`."""

from __future__ import annotations

import hashlib
import heapq
import json
import platform
import tempfile
from dataclasses import asdict, fields
from importlib.metadata import version
from operator import attrgetter, itemgetter
from typing import IO, TYPE_CHECKING, Any, Self

import torch

import surgery
from surgery.folder import whole_file
from surgery.names import MANIFEST
from surgery.texts import as_json, encodable, limits
from surgery.types import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from torch import nn

    from surgery.folder import OutputFolder
    from surgery.report import Failure, Finding
    from surgery.types import Activation, Recipe


class Manifest:
    """Collects what a run did, image by image, on disk, so that memory does not grow with their number."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.head = encodable(head)
        self.about = {name: str(value) for name, value in flat(self.head)}
        self._numbers: list[int] = []
        """Of the image of each line in the file, among the images of the run."""
        self._files = 0
        self._open: dict[str | None, dict[str, Any]] = {}
        self._closing: list[str] = []
        self._parts: list[Manifest] = []

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        source: str | None,
        settings: dict[str, Any],
        recipe: Recipe,
        weights: str | None = None,
    ) -> Manifest:
        """The manifest of a run that is about to begin; `weights` says where those of the model come from."""
        return cls(
            {
                "surgery": surgery.__version__,
                "model": {
                    "class": type(model).__name__,
                    "source": source,
                    "weights": weights,
                    "weights_sha256": digest(model),
                },
                "settings": settings,
                "recipe": dict(recipe.describe()),
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "pillow": version("pillow"),
                },
            }
        )

    def __enter__(self) -> Self:
        self._images: IO[bytes] = tempfile.TemporaryFile()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._images.close()
        for part in self._parts:
            part._images.close()  # noqa: SLF001

    def part(self) -> Manifest:
        """A manifest of a part of the run, for a fork of this process: written with this one, after `take`."""
        part = Manifest(self.head).__enter__()
        self._parts.append(part)
        return part

    def state(self) -> tuple[Any, ...]:
        """What a part knows at the end that is not in its file."""
        self._images.flush()
        return self._numbers, self._files, self._closing, self.head.get("check")

    def take(self, part: Manifest, state: tuple[Any, ...]) -> None:
        """Let a part know what its fork knew at the end."""
        part._numbers, part._files, part._closing, check = state
        if check is not None:
            self.head["check"] = check

    def activation(self, activation: Activation, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record one activation and the files that were written of it."""
        entry: dict[str, Any] = {"path": activation.path, "index": activation.operation.index}
        entry |= {"shape": list(activation.values.shape), "dtype": str(activation.values.dtype).removeprefix("torch.")}
        entry |= {"layout": activation.layout.name, "layout_reason": activation.layout.reason}
        entry |= known(activation.facts)
        pictures = []
        for number, (name, of) in enumerate(written):
            picture: dict[str, Any] = {"file": name}
            if of is not None and number < len(of.pictures):
                picture |= limits(of.pictures[number])
            pictures.append(picture)
        entry["files"] = pictures
        self._files += len(pictures)
        self._image(activation.image)["activations"].append(entry)

    def files(self, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record files that are of no single activation: a sheet, an archive. They belong to the folder they are in."""
        for name, _ in written:
            image = name.partition("/")[0]
            self._image(image if image in self._open else None)["files"].append(name)
            self._files += 1

    def close(self, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record files that were written when the sinks were closed: they are the run's."""
        self._closing = [name for name, _ in written]
        self._files += len(self._closing)

    def finish(self, image: str, source: Path, size: tuple[int, ...], number: int) -> None:
        """Record that an image is done, the `number`-th of the run, and forget it."""
        for name in (image, None):
            if name in self._open:
                entry = self._open.pop(name)
                if name is not None:
                    entry = {"name": image, "source": str(source), "size": list(size), **entry}
                self._images.write(as_json(entry) + b"\n")
                self._numbers.append(number)

    def drop(self, image: str | None) -> None:
        """Forget what was recorded of an image that failed."""
        entry = self._open.pop(image, None)
        if entry is not None:
            self._files -= sum(len(activation["files"]) for activation in entry["activations"])

    def write(
        self,
        folder: OutputFolder,
        findings: Mapping[str, Finding],
        failed: Iterable[Failure],
        *,
        interrupted: bool,
    ) -> int:
        """Write `manifest.json`. Returns the number of files of the run, itself included."""
        rest = {
            "operations": [_operation(finding) for finding in findings.values()],
            "failed": [asdict(failure) for failure in failed],
            "interrupted": interrupted,
            "files": [file for part in (self, *self._parts) for file in part._closing],  # noqa: SLF001
        }
        head = json.dumps(encodable({**self.head, **rest}), indent=1, allow_nan=False)
        with whole_file(folder.path / MANIFEST) as path, path.open("wb") as file:
            file.write(head.removesuffix("\n}").encode() + b',\n "images": [')
            lines = heapq.merge(*(part._lines() for part in (self, *self._parts)), key=itemgetter(0))  # noqa: SLF001
            for place, (_, line) in enumerate(lines):
                file.write((b",\n" if place else b"\n") + line)
            file.write(b"\n ]\n}\n")
        return sum(part._files for part in (self, *self._parts)) + 1  # noqa: SLF001

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """The number of each image, in order, and what was recorded of it."""
        self._images.seek(0)
        for number, line in zip(self._numbers, self._images, strict=True):
            yield number, line.rstrip(b"\n")

    def _image(self, name: str | None) -> dict[str, Any]:
        return self._open.setdefault(name, {"files": [], "activations": []})


def digest(model: nn.Module) -> str:
    """SHA-256 over every entry of the state_dict, in order: name, dtype, shape and bytes."""
    total = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            if value.numel():
                total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def flat(head: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """The settings of a run one by one, for the files that sinks write."""
    yield "model", head["model"]["source"] or head["model"]["class"]
    if head["model"].get("weights"):
        yield "weights", head["model"]["weights"]
    yield "weights_sha256", head["model"]["weights_sha256"]
    yield from head["settings"].items()
    yield from head["recipe"].items()


def _operation(finding: Finding) -> dict[str, Any]:
    operation = finding.operation
    entry: dict[str, Any] = {"path": operation.path, "kind": operation.kind, "index": operation.index}
    entry["source"] = operation.source
    entry["tensors"] = [asdict(spec) for spec in operation.tensors or ()]
    if finding.layout is not None:
        entry |= {"layout": finding.layout.name, "layout_reason": finding.layout.reason}
    return entry | known(finding.facts)


def known(facts: Facts) -> dict[str, Any]:
    """The facts that are known, by name."""
    named = zip(_FACTS, _values(facts), strict=True)
    return {name: value for name, value in named if value is not None}


_FACTS = tuple(field.name for field in fields(Facts))
_values = attrgetter(*_FACTS)

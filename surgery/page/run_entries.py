"""What a page knows about one run, collected from its manifest, which may be old, damaged or made by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from surgery.page.operation_entries import OperationList, entries, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PICTURE_SUFFIX = ".png"
_HEAD_ENTRIES = ("surgery", "settings", "recipe", "check", "versions", "trace", "hazards", "notes", "failed")


class RunEntries:
    """Collects the data of a run for its page, image by image. Memory grows with the names of the images alone."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        self._head = head
        self._operations = OperationList(head)
        self._images: list[dict[str, Any]] = []
        self._stems: list[frozenset[str]] = []
        """The stems of each image's pictures. Images with the same ones share a set."""
        self._known_stems: dict[frozenset[str], frozenset[str]] = {}
        self._batches: list[tuple[int, dict[str, Any]]] = []
        """What whole batches have, each with the position of the first image in its batch."""

    def add(self, image: Mapping[str, Any], pictures: Iterable[str]) -> ImageEntry:
        """Add the entry of an image or a batch, with the names of those of its files that exist and are pictures."""
        entry = ImageEntry(image, pictures)
        if entry.folder is None:
            return entry
        for activation in entry.activations:
            self._operations.add_pictures(activation, entry.stems_of(activation))
        if entry.is_batch:
            shared = {"folder": entry.folder, "pictures": entry.pictures}
            self._batches.append((len(self._images) - 1, shared | ({"measures": True} if entry.measures() else {})))
            return entry
        stems = frozenset(entry.pictures)
        self._stems.append(self._known_stems.setdefault(stems, stems))
        self._images.append(entry.describe())
        return entry

    @property
    def label(self) -> str:
        """What the run is called: its model, without the folder of a weights file."""
        model = self._head.get("model")
        name = (model.get("source") or model.get("class")) if isinstance(model, dict) else None
        return PurePosixPath(name.replace("\\", "/")).name if isinstance(name, str) and name else "run"

    @property
    def has_pictures(self) -> bool:
        """Whether any image has a picture."""
        return bool(self._images)

    def data(self, number: int, label: str, folder: str) -> dict[str, Any]:
        """Return the data of the run for ``run.js``. `number` is its place among the runs of the page.

        `folder` is relative to the page: empty, or with a slash at the end.
        """
        operations, edges = self._operations.data()
        every = {stem for operation in operations for stem in operation["picture"]}
        self._share_batches()
        for image, stems in zip(self._images, self._stems, strict=True):
            if missing := every - stems - set(image.get("shared", {}).get("pictures", ())):
                image["missing"] = sorted(missing)
        model = self._head.get("model")
        data = {
            "id": f"r{number}",
            "label": label,
            "folder": folder,
            "model": model if isinstance(model, dict) else {},
            **{name: self._head[name] for name in _HEAD_ENTRIES if self._head.get(name)},
            "interrupted": self._head.get("interrupted") is True,
            "measures": self._measures(),
            "images": self._images,
            "operations": operations,
            "edges": [list(pair) for pair in (pairwise(range(len(operations))) if edges is None else edges)],
        }
        return data if edges is not None else {**data, "chain": True}

    def _share_batches(self) -> None:
        """Add to each image what its batch has. In a manifest, a batch comes after its first image."""
        ends = [*(first for first, _ in self._batches[1:]), len(self._images)]
        for (first, shared), end in zip(self._batches, ends, strict=False):
            for image in self._images[max(0, first) : end]:
                image["shared"] = shared

    def _measures(self) -> dict[str, Any]:
        settings = self._head.get("settings")
        measures = settings.get("measures") if isinstance(settings, dict) else None
        return measures if isinstance(measures, dict) else {}


class ImageEntry:
    """An image of a run: its folder, its pictures, and what was measured of it."""

    def __init__(self, image: Mapping[str, Any], pictures: Iterable[str]) -> None:
        self._image = image
        self.is_batch = "name" not in image
        """Whether its values belong to a whole batch."""
        self.activations = entries(image.get("activations"))
        existing = set(pictures)
        self._stems: dict[int, list[str]] = {}
        self.pictures: list[str] = []
        """The stems of the pictures, in order."""
        self.folder: str | None = None
        """The folder of the pictures, relative to the run's; None without a picture."""
        for activation in self.activations:
            for name in picture_names(activation):
                folder, _, file = name.rpartition("/")
                if name in existing and (self.folder is None or folder == self.folder):
                    self.folder = folder
                    stem = file.removesuffix(PICTURE_SUFFIX)
                    self._stems.setdefault(id(activation), []).append(stem)
                    self.pictures.append(stem)

    def stems_of(self, activation: Mapping[str, Any]) -> list[str]:
        """Return the stems of the pictures of one of the activations."""
        return self._stems.get(id(activation), [])

    def measures(self) -> dict[str, Any]:
        """Return the numbers of each measure by name, by the path of the operation."""
        found = ((text(each.get("path")), each.get("measures")) for each in self.activations)
        return {path: numbers for path, numbers in found if isinstance(numbers, dict)}

    def describe(self) -> dict[str, Any]:
        """Return the data of the image for ``run.js``."""
        folder = self.folder or ""
        inputs = (stem for each in self.activations if each.get("index") == 0 for stem in self.stems_of(each))
        first_input = next(inputs, None)
        entry: dict[str, Any] = {
            "name": text(self._image.get("name")),
            "folder": folder,
            "source": PurePosixPath(text(self._image.get("source")).replace("\\", "/")).name,
            "size": self._image.get("size"),
            "input": None if first_input is None else f"{folder}/{first_input}{PICTURE_SUFFIX}",
        }
        return {**entry, "measures": True} if self.measures() else entry


def picture_names(activation: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the files of an activation that are pictures in a folder of their own."""
    for file in entries(activation.get("files")):
        name = file.get("file")
        if isinstance(name, str) and name.endswith(PICTURE_SUFFIX) and "/" in name:
            yield name

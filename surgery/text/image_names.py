"""The names of a run's images: as many as there are, in little memory."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from surgery.text.file_names import (
    BATCH_FOLDER,
    MANIFEST_FILE,
    MAX_NAME_BYTES,
    WORK_FOLDER,
    collision_key,
    sanitize_path_part,
    unique_image_names,
)
from surgery.text.lazy_sequence import LazySequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class ImageNames(LazySequence[str]):
    """A unique, safe name for each image, as `unique_image_names` makes them, in 12 bytes an image.

    A name is made when it is asked for. Only those that differ from their stems, since these are taken, are kept.
    """

    def __init__(self, stems: Sequence[str], reserved: Iterable[str] = ()) -> None:
        """`stems` are what the images are called. No image gets a `reserved` name, or one of the run's own names."""
        import numpy as np

        self._stems = stems
        self._renamed: dict[int, str] = {}
        reserved = (*reserved, BATCH_FOLDER, MANIFEST_FILE, WORK_FOLDER)
        keys = np.fromiter((_digest(_base(stem)) for stem in stems), np.uint64, len(stems))
        taken = np.array([*map(_digest, reserved)], np.uint64)
        if len(np.unique(keys)) < len(keys) or np.isin(taken, keys).any():
            for number, name in enumerate(unique_image_names(stems, reserved)):
                if name != _base(stems[number]):
                    self._renamed[number] = name
                    keys[number] = _digest(name)
        self._order = np.argsort(keys).astype(np.uint32)
        self._keys = keys[self._order]
        """Digests of the names, sorted; `_order` has the numbers of their images."""

    def __len__(self) -> int:
        return len(self._stems)

    def item(self, number: int) -> str:
        """Return the name of the image with a number."""
        return self._renamed.get(number) or _base(self._stems[number])

    def find_equal(self, name: str) -> str | None:
        """Return the name of an image that some file system can't tell from `name`; None if there is none."""
        number = self.find_number(name)
        return None if number is None else self[number]

    def find_number(self, name: str) -> int | None:
        """Return the number of the image whose name some file system can't tell from `name`; None if there is none."""
        import numpy as np

        digest = np.uint64(_digest(name))
        for place in range(int(np.searchsorted(self._keys, digest)), len(self)):
            if self._keys[place] != digest:
                break
            number = int(self._order[place])
            if collision_key(self[number]) == collision_key(name):
                return number
        return None


def _base(stem: str) -> str:
    return sanitize_path_part(stem, MAX_NAME_BYTES)


def _digest(name: str) -> int:
    """Return 64 bits that are equal for names that some file system can't tell apart."""
    return int.from_bytes(blake2b(collision_key(name).encode("utf-8", "surrogatepass"), digest_size=8).digest())

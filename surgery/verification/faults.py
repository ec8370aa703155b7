"""What `verify` finds in the folder of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from surgery.output import Place

FaultKind: TypeAlias = Literal["manifest", "unfinished", "missing", "unlisted", "unreadable", "different"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One difference between a folder and its manifest."""

    kind: FaultKind
    file: str
    """Relative to the folder, with ``/`` between its parts."""
    sentence: str
    """What is wrong, in words."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `verify`: every difference between a folder and its manifest."""

    folder: Place
    images: int
    """How many images the manifest lists."""
    files: int
    """How many files the manifest lists, itself included."""
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Whether the folder holds what its manifest lists, and nothing else."""
        return not self.faults

    def record(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "sound": self.sound,
            "images": self.images,
            "files": self.files,
            "faults": [asdict(fault) for fault in self.faults],
        }

"""What a run will write and need, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.output import Address, explain_lack_of_space
from surgery.text import format_bytes, format_count, html_table

if TYPE_CHECKING:
    from surgery.output import Place
    from surgery.types import Operation

OTHER = "other files"
"""The row of the files that are of no single operation: sheets, archives, the page and the manifest."""


@dataclass(frozen=True, slots=True)
class OperationEstimate:
    """What a run will write of one operation, for all its images."""

    operation: Operation | None
    """None for the files that are of no single operation."""
    path: str
    values: int = 0
    """Numbers that are computed."""
    pixels: int = 0
    """Of its PNG files."""
    files: int = 0
    bytes: int = 0

    def record(self) -> dict[str, Any]:
        """Return the numbers by name, for a table."""
        kind = "" if self.operation is None else self.operation.kind
        numbers = {"values": self.values, "pixels": self.pixels, "files": self.files, "bytes": self.bytes}
        return {"operation": self.path, "kind": kind, **numbers}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What `surgery.extract` will write into a folder, and what it will need for that."""

    folder: Place
    images: int
    """All images of the run."""
    sample: int
    """How many of them were run; 0 if the model was not run."""
    operations: tuple[OperationEstimate, ...]
    """In order of execution, then the files that are of no single operation."""
    disk_bytes: int
    """What the files take on a disk with blocks of 4 KiB."""
    free_bytes: int | None
    """What is free on the disk of the folder; None if the system can't tell, as of an address."""
    memory: int
    """Bytes. Of a sample, the peak of the process, or of the GPU's tensors. Otherwise of the weights and of the values
    that the forward pass of a batch holds at once, without what Python, kernels and waiting pictures
    take. 0 where the system does not tell the peak."""
    seconds_per_image: float | None = None
    """Wall time in one process, with reading and writing; None if no sample was run."""
    notes: tuple[str, ...] = ()
    """A line for each thing to know about the numbers."""

    @property
    def values(self) -> int:
        """Numbers that are computed."""
        return sum(each.values for each in self.operations)

    @property
    def pixels(self) -> int:
        """Pixels of all PNG files."""
        return sum(each.pixels for each in self.operations)

    @property
    def files(self) -> int:
        """Files, the manifest included."""
        return sum(each.files for each in self.operations)

    @property
    def bytes(self) -> int:
        """Bytes of all files. Without a sample, those of noise in place of the values, which compresses least."""
        return sum(each.bytes for each in self.operations)

    @property
    def seconds(self) -> float | None:
        """Wall time for all images in one process; None if no sample was run."""
        return None if self.seconds_per_image is None else self.seconds_per_image * self.images

    @property
    def fits(self) -> bool:
        """Whether the files fit on the disk."""
        return self.free_bytes is None or self.disk_bytes <= self.free_bytes

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each operation, and one for other files: operation, kind, values, pixels, files, bytes."""
        return [each.record() for each in self.operations]

    def content(self) -> dict[str, Any]:
        """Return everything for JSON."""
        totals = {"values": self.values, "pixels": self.pixels, "files": self.files, "bytes": self.bytes}
        return {
            "folder": str(self.folder),
            "images": self.images,
            "sample": self.sample,
            **totals,
            "bytes_from": "sample" if self.sample else "noise",
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "fits": self.fits,
            "memory": self.memory,
            "memory_of": "peak" if self.sample else "tensors",
            "seconds_per_image": self.seconds_per_image,
            "operations": self.records(),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return what the run needs in all, in a few lines."""
        about = "about" if self.sample else "at most about"
        counts = f"{format_count(self.images, 'image')}, {format_count(self.files, 'file')}"
        free = "unknown" if self.free_bytes is None else format_bytes(self.free_bytes)
        where = "free there" if isinstance(self.folder, Address) else "free on the disk"
        memory = "peak memory" if self.sample else "weights and values alive at once"
        lines = [
            f"{counts}, {about} {format_bytes(self.bytes)}; {where}: {free}",
        ]
        lines += [f"{memory}: {format_bytes(self.memory)}"] if self.memory else []
        if self.seconds is not None and self.seconds_per_image is not None:
            total = format_seconds(self.seconds)
            lines.append(f"{self.seconds_per_image:.3g} s an image in one process, {total} in all")
        return [*lines, *self.notes]

    def explain_lack_of_space(self) -> str | None:
        """Return a line if the files don't fit on the disk; None if they do."""
        if self.free_bytes is None or self.fits:
            return None
        return explain_lack_of_space(self.folder, self.disk_bytes, self.images, self.free_bytes)

    def __repr__(self) -> str:
        return f"Estimate({str(self.folder)!r}: {'; '.join(self.lines())})"

    def _repr_html_(self) -> str:
        """Return a table for notebooks."""
        rows = [
            (each["operation"], each["kind"], *(each[name] for name in ("values", "pixels", "files")), size)
            for each in self.records()
            for size in [format_bytes(each["bytes"])]
        ]
        header = ("operation", "kind", "values", "pixels", "files", "size")
        return html_table("; ".join([*self.lines(), *filter(None, [self.explain_lack_of_space()])]), header, rows)


def format_seconds(seconds: float) -> str:
    """Return a duration: ``42 s``, ``3 min``, ``5.2 h``."""
    if seconds < 99.5:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.3g} h"

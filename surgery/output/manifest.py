"""The manifest of a run: its records during the run, and the file `manifest.json` at the end."""

from __future__ import annotations

import json
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError, describe_os_error, first_line
from surgery.output.image_records import ImageRecords, read_records, release_reserved_disk
from surgery.output.json_values import as_json, encodable
from surgery.output.manifest_entries import activation_entry, operation_entry, run_entry, summary_entry, trace_entries
from surgery.output.manifest_reader import IMAGES_LINE, flat_settings
from surgery.output.workspace import HEAD
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from surgery.graph import TraceInfo
    from surgery.output.failures import Failure
    from surgery.output.folder import WrittenFile
    from surgery.output.summaries import OperationSummary
    from surgery.output.workspace import Workspace
    from surgery.types import Activation, Operation


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker process knows for the manifest beside its records on disk."""

    run_files: list[str]
    """Files that belong to no single image."""
    check: str | None
    """What was compared with the original model; None for a worker that did not compare."""


class Manifest:
    """Records what a run does, image by image, in its workspace. Memory does not grow with the number of images."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.head: dict[str, Any] = json.loads(json.dumps(encodable(head)))  # the same values as in the file
        self.about = {name: str(value) for name, value in flat_settings(self.head)}
        self._open: dict[str | None, dict[str, Any]] = {}
        """Entries of unfinished images by name, and under None that of the batch."""
        self._run_files: list[str] = []
        self._workers: list[Manifest] = []
        self._workspace: Workspace
        self._records: ImageRecords

    @classmethod
    def for_run(
        cls,
        model: nn.Module,
        *,
        source: str | None,
        settings: dict[str, Any],
        recipe: Mapping[str, str],
        weights: str | None = None,
        trace: TraceInfo | None = None,
        graph: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Return the manifest of a run. `source` and `weights` say where the model and its weights come from.

        `trace` says how the model was traced, and `graph` is its `graph_entry`.
        """
        head = run_entry(model, source, weights, settings, recipe)
        head |= trace_entries(trace) if trace is not None else {}
        return cls(head | ({"graph": graph} if graph is not None else {}))

    @contextmanager
    def recording(self, workspace: Workspace, operations: Iterable[Operation]) -> Iterator[None]:
        """Within the block, write records to the workspace. `operations` are the selected ones.

        Raises OutputError if the workspace can't be written.
        """
        self._workspace = workspace
        head = as_json({**self.head, "operations": [operation_entry(operation) for operation in operations]})
        try:
            (workspace.path / HEAD).write_bytes(head)
        except OSError as error:
            raise OutputError(f"can't write to {workspace.folder}: {describe_os_error(error)}") from error
        self._records = ImageRecords(workspace.path, 0, reserved_bytes=4 * len(head) + (64 << 10))
        try:
            yield
        finally:
            for manifest in (self, *self._workers):
                manifest._records.close()  # noqa: SLF001

    def for_worker(self) -> Manifest:
        """Return the manifest of a worker process, which has records of its own in the same workspace.

        `write` includes those records. The rest comes back by `worker_state` and `add_worker_state`.
        """
        worker = Manifest(self.head)
        worker._workspace = self._workspace
        worker._records = ImageRecords(self._workspace.path, len(self._workers) + 1)
        self._workers.append(worker)
        return worker

    def worker_state(self) -> WorkerState:
        """Return what the manifest of a worker knows beside its records."""
        return WorkerState(self._run_files, self.head.get("check"))

    def add_worker_state(self, state: WorkerState) -> None:
        """Add what the manifest of a worker knows beside its records."""
        self._run_files += state.run_files
        if state.check is not None:
            self.head["check"] = state.check

    def record_check(self) -> None:
        """Record that the first output is that of the original model."""
        without = "without the edits, " if self.head["settings"].get("edits") else ""
        self.head["check"] = f"{without}the output of the first batch is the original model's, bit for bit"

    def record_notes(self, notes: Sequence[str]) -> None:
        """Record notes about the inputs, one line each."""
        self.head["notes"] = notes

    def start_image(self, image: str) -> None:
        """Let files in the folder of an image belong to it, even if none is of a single activation."""
        self._entry(image)

    def add_activation(self, activation: Activation, written: Iterable[WrittenFile]) -> None:
        """Record an activation and the files that were written of it."""
        self._entry(activation.image)["activations"].append(activation_entry(activation, written))

    def add_files(self, written: Iterable[WrittenFile]) -> None:
        """Record files of several activations, such as a sheet; each belongs to the image whose folder it is in."""
        for name, _ in written:
            image = name.partition("/")[0]
            self._entry(image if image in self._open else None)["files"].append(name)

    def set_run_files(self, written: Iterable[WrittenFile]) -> None:
        """Record the files that were written when the sinks were closed. They belong to no image."""
        self._run_files = [name for name, _ in written]

    def finish_image(
        self, image: str, source: Path, size: tuple[int, ...], number: int, not_reached: Sequence[str] = ()
    ) -> None:
        """Write the record of an image, and of its batch. Raises OutputError if the disk is full.

        `size` is the height and width of its input, `number` its place among the images of the run. `not_reached` are
        the paths of the selected operations that it did not reach.
        """
        for name in (image, None):
            if name in self._open:
                entry = self._open[name]
                files = len(entry["files"]) + sum(len(activation["files"]) for activation in entry["activations"])
                if name is not None:
                    about = {"name": image, "source": str(source), "size": list(size)}
                    entry = {**about, **({"not_reached": not_reached} if not_reached else {}), **entry}
                self._records.add(number, files, as_json(entry))
                del self._open[name]
        self._workspace.discard_previous_run()

    def drop_image(self, image: str | None) -> None:
        """Forget an image that failed."""
        self._open.pop(image, None)

    def write(
        self,
        summaries: Iterable[OperationSummary],
        failed: Iterable[Failure],
        *,
        interrupted: bool,
        error: BaseException | None = None,
    ) -> int:
        """Write `manifest.json`. Return the number of files of the run, itself included.

        Raises OutputError if it can't be written.
        """
        content = {
            **self.head,
            "operations": [summary_entry(summary) for summary in summaries],
            "failed": [asdict(failure) for failure in failed],
            "interrupted": interrupted,
        }
        if error is not None:
            content["error"] = first_line(error)
        return write_manifest(self._workspace, content, self._run_files)

    def _entry(self, image: str | None) -> dict[str, Any]:
        return self._open.setdefault(image, {"files": [], "activations": []})


def write_manifest(workspace: Workspace, content: dict[str, Any], files: Iterable[str]) -> int:
    """Write `manifest.json` from `content`, `files` of the whole run, and the image records of all processes.

    Return the number of files of the run, the manifest included. Raises OutputError if it can't be written.
    """
    run_files = list(files)
    contents = {name: _store_contents(workspace.folder / name) for name in run_files}
    stores = {name: names for name, names in contents.items() if names is not None}
    more: dict[str, Any] = {"files": run_files} | ({"stores": stores} if stores else {})
    graph = content.pop("graph", None)
    head = json.dumps(encodable({**content, **more}), indent=1, allow_nan=False).removesuffix("\n}")
    if graph is not None:  # on one line, since it may have thousands of edges
        head = f'{head},\n "graph": {as_json(graph).decode()}'
    part = workspace.path / f"{MANIFEST_FILE}.part"
    total = len(run_files) + 1
    try:
        release_reserved_disk(workspace.path)
        with part.open("wb") as file:
            file.write(head.encode() + b",\n" + IMAGES_LINE)
            for place, (_, count, entry) in enumerate(read_records(workspace.path)):
                file.write((b",\n" if place else b"\n") + entry)
                total += count
            file.write(b"\n ]\n}\n")
        part.replace(workspace.folder / MANIFEST_FILE)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"can't write {workspace.folder / MANIFEST_FILE}: {describe_os_error(error)}") from error
    return total


def _store_contents(store: Path) -> list[str] | None:
    """Return the files in the directory of a store, relative to it; None for a path that is a file."""
    if not store.is_dir():
        return None
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())

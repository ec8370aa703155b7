"""The record of a run: `manifest.json`."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch

from surgery import __version__
from surgery.errors import OutputError, first_line
from surgery.output.image_records import ImageRecords, describe_os_error, write_manifest
from surgery.output.json_values import as_json, encodable, picture_limits
from surgery.output.manifest_reader import flat_settings
from surgery.output.workspace import HEAD
from surgery.types import Facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from surgery.output.report import Failure, OperationSummary
    from surgery.output.workspace import Workspace
    from surgery.types import Activation, Operation


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker process knows at its end that is not in its records."""

    run_files: list[str]
    """Files that belong to no single image."""
    check: str | None


class Manifest:
    """Collects what a run did, image by image, in its workspace, so that memory does not grow with their number."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.head: dict[str, Any] = json.loads(json.dumps(encodable(head)))  # as who reads the manifest has it
        self.about = {name: str(value) for name, value in flat_settings(self.head)}
        self._open: dict[str | None, dict[str, Any]] = {}
        self._run_files: list[str] = []
        self._parts: list[Manifest] = []
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
    ) -> Manifest:
        """The manifest of a run that is about to begin; `weights` says where those of the model come from."""
        return cls(
            {
                "surgery": __version__,
                "model": {
                    "class": type(model).__name__,
                    "source": source,
                    "weights": weights,
                    "weights_sha256": weights_sha256(model),
                },
                "settings": settings,
                "recipe": dict(recipe),
                "versions": {
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                    "pillow": version("pillow"),
                },
            }
        )

    @contextmanager
    def recording(self, workspace: Workspace, operations: Iterable[Operation]) -> Iterator[None]:
        """Within the block, what is recorded is kept in the workspace. `operations` are those that were chosen."""
        self._workspace = workspace
        chosen = [_operation_entry(operation) for operation in operations]
        begun = as_json({**self.head, "operations": chosen})
        try:
            (workspace.path / HEAD).write_bytes(begun)
        except OSError as error:
            raise OutputError(f"can't write to {workspace.folder}: {describe_os_error(error)}") from error
        self._records = ImageRecords(workspace.path, 0, room=4 * len(begun) + (64 << 10))
        try:
            yield
        finally:
            for each in (self, *self._parts):
                each._records.close()  # noqa: SLF001

    def for_worker(self) -> Manifest:
        """Return a manifest for a worker process; `add_worker_state` adds what the worker recorded to this one."""
        part = Manifest(self.head)
        part._workspace = self._workspace
        part._records = ImageRecords(self._workspace.path, len(self._parts) + 1)
        self._parts.append(part)
        return part

    def worker_state(self) -> WorkerState:
        """Return what a worker's manifest knows beside the records on disk."""
        return WorkerState(self._run_files, self.head.get("check"))

    def add_worker_state(self, state: WorkerState) -> None:
        """Add what the manifest of a worker process knows."""
        self._run_files += state.run_files
        if state.check is not None:
            self.head["check"] = state.check

    def record_check(self) -> None:
        """Record that the first output was compared with the original model's."""
        self.head["check"] = "the output of the first batch is the original model's, bit for bit"

    def record_notes(self, notes: Sequence[str]) -> None:
        """Record notes about the inputs, one line each."""
        self.head["notes"] = notes

    def add_activation(self, activation: Activation, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record one activation and the files that were written of it."""
        entry: dict[str, Any] = {"path": activation.path, "index": activation.operation.index}
        entry |= {"shape": list(activation.values.shape), "dtype": str(activation.values.dtype).removeprefix("torch.")}
        entry |= {"layout": activation.layout.name, "layout_reason": activation.layout.reason}
        entry |= known_facts(activation.facts)
        pictures = []
        for number, (name, of) in enumerate(written):
            picture: dict[str, Any] = {"file": name}
            if of is not None and number < len(of.pictures):
                picture |= picture_limits(of.pictures[number])
            pictures.append(picture)
        entry["files"] = pictures
        self._image(activation.image)["activations"].append(entry)

    def add_files(self, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record files that are of no single activation: a sheet, an archive. They belong to the folder they are in."""
        for name, _ in written:
            image = name.partition("/")[0]
            self._image(image if image in self._open else None)["files"].append(name)

    def set_run_files(self, written: Iterable[tuple[str, Activation | None]]) -> None:
        """Record files that were written when the sinks were closed: they are the run's."""
        self._run_files = [name for name, _ in written]

    def finish_image(self, image: str, source: Path, size: tuple[int, ...], number: int) -> None:
        """Record that an image is done, the `number`-th of the run, and forget it. Raises OutputError."""
        for name in (image, None):
            if name in self._open:
                entry = self._open[name]
                files = len(entry["files"]) + sum(len(activation["files"]) for activation in entry["activations"])
                if name is not None:
                    entry = {"name": image, "source": str(source), "size": list(size), **entry}
                self._records.add(number, files, as_json(entry))
                del self._open[name]
        self._workspace.discard_previous_run()

    def drop_image(self, image: str | None) -> None:
        """Forget what was recorded of an image that failed."""
        self._open.pop(image, None)

    def write(
        self,
        summaries: Mapping[str, OperationSummary],
        failed: Iterable[Failure],
        *,
        interrupted: bool,
        error: BaseException | None = None,
    ) -> int:
        """Write `manifest.json`. Returns the number of files of the run, itself included. Raises OutputError."""
        operations = [_summary_entry(summary) for summary in summaries.values()]
        content = {**self.head, "operations": operations, "failed": [asdict(failure) for failure in failed]}
        content["interrupted"] = interrupted
        if error is not None:
            content["error"] = first_line(error)
        return write_manifest(self._workspace, content, self._run_files)

    def _image(self, name: str | None) -> dict[str, Any]:
        return self._open.setdefault(name, {"files": [], "activations": []})


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 over every entry of the state_dict, in order: name, dtype, shape and bytes."""
    total = hashlib.sha256()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            if value.numel():
                total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _operation_entry(operation: Operation) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": operation.path, "kind": operation.kind, "index": operation.index}
    entry["source"] = operation.source
    entry["tensors"] = [asdict(spec) for spec in operation.tensors or ()]
    return entry


def _summary_entry(summary: OperationSummary) -> dict[str, Any]:
    entry = _operation_entry(summary.operation)
    if summary.layout is not None:
        entry |= {"layout": summary.layout.name, "layout_reason": summary.layout.reason}
    return entry | known_facts(summary.facts)


def known_facts(facts: Facts) -> dict[str, Any]:
    """The facts that are known, by name."""
    named = zip(_FACTS, _values(facts), strict=True)
    return {name: value for name, value in named if value is not None}


_FACTS = tuple(field.name for field in fields(Facts))
_values = attrgetter(*_FACTS)

"""The graph of the model of a run, as the manifest records it: all operations, selected or not, and their edges."""

from __future__ import annotations

import inspect
import linecache
from typing import TYPE_CHECKING, Any

from surgery.graph import find_edges, operations
from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from surgery.types import Operation, TensorSpec

MAX_TEXT = 200
"""Characters of a module's description, and of a line of source code."""


def graph_entry(traced: nn.Module, model: nn.Module, inputs: Sequence[str] = ()) -> dict[str, Any]:
    """Return the operations of a traced model with its inputs and its output, in order of execution, and the edges.

    `model` has the modules that the operations call. `inputs` are the names of the inputs in the order of a run, whose
    first one has the path ``input``. An edge is a pair of positions in the list: an operation, and one that reads its
    value.
    """
    edges, listed = find_edges(traced), operations(traced)
    names = list(dict.fromkeys([*inputs, *(source.path for source in edges.inputs)]))
    input_paths = {name: f"input.{name}" if number else "input" for number, name in enumerate(names)}
    used = [source for source in edges.inputs if not inputs or source.path in inputs]
    lines = SourceLines(model)
    entries: list[dict[str, Any]] = [
        {"path": input_paths[source.path], "kind": "input", "index": 0, "tensors": _tensor_entries(source.tensors)}
        for source in used
    ]
    entries += [_entry(operation, model, lines) for operation in listed]
    last = max((operation.index for operation in listed), default=0)
    entries.append({"path": "output", "kind": "output", "index": last + 1})
    positions = {("input", source.path): place for place, source in enumerate(used)}
    positions |= {("operation", operation.path): place for place, operation in enumerate(listed, len(used))}
    reads = [(edges.operands.get(operation.name, ()), place) for place, operation in enumerate(listed, len(used))]
    reads.append((edges.output, len(entries) - 1))
    pairs = [
        [positions[source.kind, source.path], place]
        for sources, place in reads
        for source in sources
        if (source.kind, source.path) in positions
    ]
    return {"operations": entries, "edges": pairs}


def _entry(operation: Operation, model: nn.Module, lines: SourceLines) -> dict[str, Any]:
    entry = {
        "path": operation.path,
        "kind": operation.kind,
        "index": operation.index,
        "scopes": list(operation.scopes),
        "target": _describe_module(operation, model),
        "source": operation.source,
        "line": lines.find(operation.source),
        "tensors": _tensor_entries(operation.tensors),
    }
    return {name: value for name, value in entry.items() if value is not None}


def _tensor_entries(tensors: tuple[TensorSpec, ...] | None) -> list[dict[str, Any]] | None:
    if tensors is None:
        return None
    return [{"key": spec.key, "shape": list(spec.shape), "dtype": spec.dtype} for spec in tensors]


def _describe_module(operation: Operation, model: nn.Module) -> str | None:
    """Return the leaf module that an operation calls as PyTorch prints it, on one line; None for a function."""
    path = operation.path.rstrip("'").partition("@")[0]
    if path not in operation.scopes:
        return None
    try:
        module = model.get_submodule(path)
        return _shorten(f"{type(module).__name__}({module.extra_repr()})")
    except Exception:  # noqa: BLE001 - the user's code describes the module
        return None


class SourceLines:
    """The lines of source code that operations name in short: ``models/unet.py:41``."""

    def __init__(self, model: nn.Module) -> None:
        """The classes of `model` tell which files these are."""
        self._files: list[str] = []
        for owner in {owner for module in model.modules() for owner in type(module).__mro__}:
            try:
                file = inspect.getsourcefile(owner)
            except (TypeError, OSError):  # built in, or made by a notebook that is gone
                continue
            if file is not None and file not in self._files:
                self._files.append(file)
        self._files.sort()

    def find(self, source: str | None) -> str | None:
        """Return the text of a line; None if its file is not known for certain."""
        if source is None:
            return None
        name, _, line = source.rpartition(":")
        matching = [file for file in self._files if f"/{file.replace(chr(92), '/')}".endswith(f"/{name.lstrip('/')}")]
        if len(matching) != 1 or not line.isdigit():
            return None
        return _shorten(linecache.getline(matching[0], int(line)).strip()) or None


def _shorten(text: str) -> str:
    text = escape_unprintable(" ".join(text.split()))
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"

"""The axes of a value that the operations which use it require."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter
from typing import TYPE_CHECKING

from surgery.graph import find_edges, operations
from surgery.layouts.axes import Axes, named_axes
from surgery.layouts.operation_kinds import (
    AXIS_PRESERVING_KINDS,
    CHANNELS_FIRST_AXES,
    CHANNELS_LAST_AXES,
    CHANNELS_LAST_KINDS,
    SIGNAL_AXES,
    is_channels_first,
    is_on_signals,
    module_kind,
)

if TYPE_CHECKING:
    from torch import nn

    from surgery.graph import ValueSource
    from surgery.types import Operation

MAX_PASSED_OPERATIONS = 12


class RequiredAxes:
    """Finds the axes of values from the operations that use them: those of the graph, or of the run of the example."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._sources = find_edges(model).operands
        self._users: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
        for operation in operations(model):
            for source in self._sources[operation.name]:
                self._users[source.kind, source.path].append(operation)

    def find(self, source: ValueSource, shape: tuple[int, ...]) -> Axes | None:
        """Return the axes required by the nearest operation that uses a value and needs particular axes.

        `shape` is the shape of the value. The search passes through at most `MAX_PASSED_OPERATIONS` operations, which
        preserve axes. Returns None if it finds no such operation.
        """
        waiting = list(self._users[source.kind, source.path])
        passed: set[str] = set()
        while waiting and len(passed) < MAX_PASSED_OPERATIONS:
            user = waiting.pop(0)
            kind, module = self._kind_and_module(user)
            names = None
            if is_channels_first(kind):
                names = CHANNELS_FIRST_AXES.get(len(shape))
            elif is_on_signals(kind):
                names = SIGNAL_AXES if len(shape) == len(SIGNAL_AXES) else None
            elif kind in CHANNELS_LAST_KINDS and not self._normalizes_several_axes(user, module):
                names = CHANNELS_LAST_AXES.get(len(shape))
            if names is not None:
                return named_axes(shape, names, f"{user.path} ({kind}), which takes it")
            if kind in AXIS_PRESERVING_KINDS and user.path not in passed:
                passed.add(user.path)
                waiting += self._users["operation", user.path]
        return None

    def _kind_and_module(self, operation: Operation) -> tuple[str, nn.Module | None]:
        """Return the kind of an operation, and the module that it calls; None if it calls a function."""
        path = operation.path.partition("@")[0]
        if operation.scopes[-1:] != (path,):
            return operation.kind, None
        module = self._model.get_submodule(path)
        return module_kind(module), module

    def _normalizes_several_axes(self, user: Operation, module: nn.Module | None) -> bool:
        """Return whether a layer norm may normalize over more than the last axis. A function's first weight tells."""
        if module is not None:
            shape = getattr(module, "normalized_shape", None)
            return isinstance(shape, (tuple, list)) and len(shape) > 1
        if "norm" not in user.kind:
            return False
        weight = next((each.path for each in self._sources[user.name] if each.kind == "attribute"), None)
        return weight is None or getattr(attrgetter(weight)(self._model), "ndim", None) != 1

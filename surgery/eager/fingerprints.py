"""Marks of what a model holds, which change when it does, and the line that changes one."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from surgery.graph import MODULE_ATTRIBUTES, contained_values, is_user_file, is_user_object

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable

Marks = dict[str, object]

_DEPTH, _MANY = 8, 10_000


def buffers(model: nn.Module) -> Marks:
    """A mark for each buffer."""
    return {name: (id(buffer), version(buffer)) for name, buffer in model.named_buffers()}


def version(tensor: Tensor) -> int:
    """A number that grows with each write to a tensor; those made in inference mode, and stand-ins, have none."""
    return 0 if issubclass(type(tensor), fx.Proxy) or tensor.is_inference() else tensor._version  # noqa: SLF001


def attributes(model: nn.Module) -> Marks:
    """A mark for each attribute of each module, of what is in it too; the mode is one."""
    budget = [_MANY]
    return {
        _path(path, name): _mark(value, _DEPTH, budget)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if (name not in MODULE_ATTRIBUTES or name == "training")
        and not name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    }


def hooks(model: nn.Module) -> Marks:
    """A mark for the hooks of each kind of each module."""
    return {
        _path(path, name): tuple(value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name.endswith("_hooks") and isinstance(value, dict)
    }


def changed(before: Marks, after: Marks) -> list[str]:
    """The names whose marks differ."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def line_that_changes(
    look: Callable[[], object], run: Callable[[], object], *, among: Callable[[types.CodeType], bool] = lambda _: True
) -> tuple[str, int] | None:
    """The user's line that first changes what `look` gives, while `run` runs; None where none does.

    Only the lines of the code that `among` accepts are looked at.
    """
    before, found = look(), None
    lines: dict[types.FrameType, tuple[str, int]] = {}
    last: tuple[str, int] | None = None

    def step(frame: types.FrameType, event: str, _argument: Any) -> Any:
        nonlocal found, last
        if found is None and look() != before:
            found = lines.get(frame, last)
        if event == "line":
            last = lines[frame] = (frame.f_code.co_filename, frame.f_lineno)
        return step

    def call(frame: types.FrameType, _event: str, _argument: Any) -> Any:
        return step if is_user_file(frame.f_code.co_filename) and among(frame.f_code) else None

    tracing = sys.gettrace()
    sys.settrace(call)
    try:
        run()
    finally:
        sys.settrace(tracing)
    return found or (last if look() != before else None)


def _path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _mark(value: Any, depth: int, budget: list[int]) -> object:
    kind = type(value)
    budget[0] -= 1
    if kind in (int, float, complex, str, bytes, bool, type(None)):
        return kind, repr(value)
    if issubclass(kind, Tensor):
        return id(value), version(value)
    if depth == 0 or budget[0] < 0 or issubclass(kind, (fx.Proxy, nn.Module)):
        return id(value)
    return kind, *(_mark(item, depth - 1, budget) for item in _contents(value, kind))


def _contents(value: Any, kind: type) -> Iterable[object]:
    """What is in a container, or in an object of the user's; of anything else, which it is."""
    if issubclass(kind, AbstractSet):
        return sorted(map(id, value))
    if is_user_object(value):
        return [id(value), *vars(value), *contained_values(value)]
    return contained_values(value) if issubclass(kind, (Mapping, list, tuple, deque)) else [id(value)]

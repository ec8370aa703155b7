"""Fingerprints of a model's buffers, attributes and hooks: values that differ after a run has changed something.

They are cheap: tensors are not read. A tensor's fingerprint is its identity and its version, which torch increments
with each write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, fx, nn

from surgery.graph import MODULE_ATTRIBUTES, contained_values, is_user_object, list_modules

if TYPE_CHECKING:
    from collections.abc import Iterable

Fingerprints: TypeAlias = "dict[str, object]"
"""For the path of each entry, such as ``down1.conv.weight``, a value that is compared with `==`."""

_MAX_DEPTH, _MAX_VALUES = 8, 10_000


def fingerprint_buffers(model: nn.Module) -> Fingerprints:
    """Return a fingerprint of each buffer."""
    return {name: _fingerprint_tensor(buffer) for name, buffer in model.named_buffers()}


def fingerprint_attributes(model: nn.Module) -> Fingerprints:
    """Return a fingerprint of each attribute of each module, including `training` and the contents of containers.

    Containers are followed to a depth of 8, and over all attributes for 10,000 values; deeper values are compared by
    identity.
    """
    budget = [_MAX_VALUES]
    return {
        _join_path(path, name): _fingerprint(value, _MAX_DEPTH, budget)
        for path, module in list_modules(model)
        for name, value in vars(module).items()
        if (name not in MODULE_ATTRIBUTES or name == "training")
        and not name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    }


def fingerprint_hooks(model: nn.Module) -> Fingerprints:
    """Return a fingerprint of the hooks of each module, one for each kind of hook."""
    return {
        _join_path(path, name): tuple(value)
        for path, module in list_modules(model)
        for name, value in vars(module).items()
        if name.endswith("_hooks") and isinstance(value, dict)
    }


def changed_entries(before: Fingerprints, after: Fingerprints) -> list[str]:
    """Return the paths whose fingerprints differ or are missing on one side."""
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _join_path(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fingerprint_tensor(tensor: Tensor) -> tuple[int, int]:
    """Return identity and version. Tensors of inference mode have no version, and a proxy would record an operation."""
    has_version = not issubclass(type(tensor), fx.Proxy) and not tensor.is_inference()
    return id(tensor), tensor._version if has_version else 0  # noqa: SLF001


def _fingerprint(value: Any, depth: int, budget: list[int]) -> object:
    kind = type(value)
    budget[0] -= 1
    if kind in (int, float, complex, str, bytes, bool, type(None)):
        return kind, repr(value)
    if issubclass(kind, Tensor):
        return _fingerprint_tensor(value)
    if depth == 0 or budget[0] < 0 or issubclass(kind, (fx.Proxy, nn.Module)):
        return id(value)
    return kind, *(_fingerprint(item, depth - 1, budget) for item in _contents(value, kind))


def _contents(value: Any, kind: type) -> Iterable[object]:
    """Return the contents of a container or an object of a user's class; for any other value, its identity."""
    if issubclass(kind, AbstractSet):
        return sorted(map(id, value))
    if is_user_object(value):
        return [id(value), *vars(value), *contained_values(value)]
    return contained_values(value) if issubclass(kind, (Mapping, list, tuple, deque)) else [id(value)]

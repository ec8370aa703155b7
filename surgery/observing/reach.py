"""How much of a model is seen: the share of its calls of torch's operators that are part of an operation."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.eager import DispatchMode
from surgery.graph import Reach

if TYPE_CHECKING:
    from torch import nn

    from surgery.eager import OperationObserver
    from surgery.observing.parameter_guard import ParameterGuard


class ReachCounter(DispatchMode):
    """Counts the calls of torch's operators that return a tensor, and those of them inside of an operation.

    Torch's dispatcher sees every computation, whoever asks for it: TorchScript, extensions and transforms too.
    """

    def __init__(self, observer: OperationObserver, guard: ParameterGuard) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._observer = observer
        self._guard = guard
        self._seen: Counter[str] = Counter()
        self._unseen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        self._guard.before_call(func, args, kwargs)
        value = func(*args, **kwargs)
        if _has_tensor(value):
            counts = self._seen if self._observer.is_inside else self._unseen
            counts[self._observer.scopes[-1]] += 1
        return value

    def call_elsewhere(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module in another thread, where nothing is seen, and count the calls in it."""
        with nullcontext() if _has_counter() else _UnseenCounter(self._unseen, path):
            return module._call_impl(*args, **kwargs)  # noqa: SLF001

    def reach(self) -> Reach:
        """Return what was counted."""
        seen = self._seen.total()
        blind = [scope for scope in self._unseen if scope and not any(_is_in(part, scope) for part in self._seen)]
        return Reach(seen, seen + self._unseen.total(), tuple(blind))


class _UnseenCounter(DispatchMode):
    """Counts the calls of torch's operators in a thread in which nothing is seen."""

    def __init__(self, unseen: Counter[str], path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._unseen = unseen
        self._path = path

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        self._unseen[self._path] += _has_tensor(value)
        return value


def _has_counter() -> bool:
    """Whether a module around this one is being counted in this thread."""
    modes = torch.utils._python_dispatch._get_current_dispatch_mode_stack()  # noqa: SLF001
    return any(isinstance(mode, _UnseenCounter) for mode in modes)


def _has_tensor(value: Any) -> bool:
    parts = value if isinstance(value, (tuple, list)) else (value,)
    return any(isinstance(part, Tensor) for part in parts)


def _is_in(path: str, scope: str) -> bool:
    return path == scope or path.startswith(f"{scope}.")

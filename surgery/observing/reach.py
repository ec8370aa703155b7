"""How much of a model is seen: the share of its calls of torch's operators that are part of an operation."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from surgery.graph import Reach

if TYPE_CHECKING:
    from surgery.eager import OperationObserver
    from surgery.observing.parameter_guard import ParameterGuard


class ReachCounter(TorchDispatchMode):
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
        if isinstance(value, Tensor) or (
            isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value)
        ):
            counts = self._seen if self._observer.is_inside else self._unseen
            counts[self._observer.scopes[-1]] += 1
        return value

    def reach(self) -> Reach:
        """Return what was counted."""
        seen = self._seen.total()
        blind = [scope for scope in self._unseen if scope and not any(_is_in(part, scope) for part in self._seen)]
        return Reach(seen, seen + self._unseen.total(), tuple(blind))


def _is_in(path: str, scope: str) -> bool:
    return path == scope or path.startswith(f"{scope}.")

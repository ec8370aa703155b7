"""The operations of an eager run, observed in their order and under the paths that a graph gives them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch.fx._symbolic_trace import _wrapped_fns_to_patch
from torch.overrides import TorchFunctionMode

from surgery.graph import inplace, named_tensors, run_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import Tensor, nn

UNOBSERVABLE_KINDS = {
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"),
    "get_rng_state",
}
"""Kinds of operations that can't be compared: their values are uninitialized, or no mode of torch sees them."""


class OperationObserver(TorchFunctionMode):
    """Observes the model's calls of torch functions, and clones the returned values.

    A leaf module is one operation, as in a graph. While it runs, the observer is no longer a mode of torch: torch's own
    modules may take another path under a mode, as `nn.MultiheadAttention` leaves its fast path.
    """

    def __init__(self, leaf_paths: set[str]) -> None:
        super().__init__()
        self.values: defaultdict[str, list[list[Tensor]]] = defaultdict(list)
        """Path of an operation without ``@n`` -> for each call, clones of the returned tensors."""
        self.leaf_paths = leaf_paths
        self.scopes = [""]
        """Paths of the running modules that are traced into, the innermost last."""
        self.running_leaves: list[str] = []
        """Names of the running leaf and of the modules running inside it; empty outside leaves."""
        self._is_active = False

    def resume(self) -> None:
        """Observe calls from now on."""
        if not self._is_active:
            self.__enter__()  # type: ignore[no-untyped-call]
            self._is_active = True

    def pause(self) -> None:
        """Stop observing. Torch's modes form a stack, so the observer stays if another mode is above it."""
        if self._is_active and torch.overrides._get_current_function_mode() is self:  # noqa: SLF001
            self.__exit__(None, None, None)
            self._is_active = False

    def pre_hook(self, path: str) -> Callable[..., None]:
        """Return the forward pre-hook of the module at a path."""

        def hook(_module: nn.Module, _inputs: Any) -> None:
            if self.running_leaves or path in self.leaf_paths:
                self.running_leaves.append(path)
                self.pause()
            else:
                self.scopes.append(path)

        return hook

    def post_hook(self, path: str) -> Callable[..., None]:
        """Return the forward hook of the module at a path."""

        def hook(_module: nn.Module, _inputs: Any, value: Any) -> None:
            if not self.running_leaves:
                self.scopes.pop()
                return
            self.running_leaves.pop()
            if not self.running_leaves or path in self.leaf_paths:
                self.on_value(path, value)
            if not self.running_leaves:
                self.resume()

        return hook

    def as_leaf(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` as one operation: the calls inside it are not observed."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.running_leaves:
                return function(*args, **kwargs)
            self.running_leaves.append(function.__name__)
            try:
                value = function(*args, **kwargs)
            finally:
                self.running_leaves.pop()
            self.on_value(self.path_of(function), value)
            return value

        return call

    def path_of(self, function: Callable[..., Any]) -> str:
        """Return the path of a call of a function in the module that is running, without ``@n``."""
        scope, kind = self.scopes[-1], operation_kind(function)
        return f"{scope}.{kind}" if scope else kind

    def on_value(self, path: str, value: Any) -> None:
        """Receive the value of an operation as soon as it is computed."""
        if tensors := [tensor.detach().clone() for _, tensor in named_tensors(value)]:
            self.values[path].append(tensors)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        value = func(*args, **(kwargs or {}))
        if not self.running_leaves:
            self.on_value(self.path_of(func), value)
        return value


def run_observed(
    model: nn.Module,
    observer: OperationObserver,
    inputs: Sequence[Any],
    functions: Collection[object] = (),
    keywords: Mapping[str, Any] | None = None,
) -> Any:
    """Run `model` with its operations observed by `observer`, and return its output.

    Functions in `functions` that are registered with `torch.fx.wrap` are observed as one operation each. The observer's
    hooks are removed after the run.
    """
    handles = []
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):  # takes no hooks
            continue
        handles.append(module.register_forward_pre_hook(observer.pre_hook(path), prepend=True))
        handles.append(module.register_forward_hook(observer.post_hook(path)))
    try:
        observer.resume()
        with _observe_as_leaves(functions, observer):
            return run_model(model, inputs, keywords)
    finally:
        observer.pause()
        for handle in handles:
            handle.remove()


@contextmanager
def _observe_as_leaves(functions: Collection[object], observer: OperationObserver) -> Iterator[None]:
    """Within the block, the functions that `torch.fx.wrap` has registered are one operation each."""
    registered = [
        (namespace, name, namespace[name])
        for (_, name), namespace in _wrapped_fns_to_patch.items()
        if any(namespace.get(name) is function for function in functions)
    ]
    try:
        for namespace, name, function in registered:
            namespace[name] = observer.as_leaf(function)
        yield
    finally:
        for namespace, name, function in registered:
            namespace[name] = function


def operation_kind(function: Callable[..., Any]) -> str:
    """Return the kind that a graph gives to calls of a function: ``add`` for ``add_`` and for ``__radd__``."""
    name: str = getattr(function, "__name__", type(function).__name__)
    kind = name.strip("_").lower()
    if name.startswith("__"):
        kind = _KINDS_OF_SPECIAL_METHODS.get(kind, kind)
    return kind or "call"


_KINDS_OF_SPECIAL_METHODS = {
    "get": "getattr",
    **{function.__name__: function.__name__[1:] for function in inplace.AUGMENTED_ASSIGNMENTS},
    **{f"r{name}": name for name in ("add", "sub", "mul", "truediv", "div", "floordiv", "mod", "pow", "matmul")},
    **{f"r{name}": name for name in ("and", "or", "xor", "lshift", "rshift")},
}

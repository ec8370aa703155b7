"""The operations of an eager run, observed in their order and under the paths that a graph gives them."""

from __future__ import annotations

from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.fx._symbolic_trace import _wrapped_fns_to_patch
from torch.overrides import TorchFunctionMode

from surgery.eager.thread_overrides import run_uninterrupted
from surgery.graph import inplace, list_modules, named_tensors, run_model

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import nn

    from surgery.graph import LeafRule

UNINITIALIZED_KINDS = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
"""Kinds of operations that return uninitialized memory."""
UNOBSERVABLE_KINDS = {*UNINITIALIZED_KINDS, "new", "get_rng_state"}
"""Kinds of operations that can't be compared: their values may be uninitialized, or no mode of torch sees them."""


class ObservedCall(NamedTuple):
    """A call of a torch function or of a leaf."""

    path: str
    """The path of the operation, without ``@n``."""
    kind: str
    value: Any
    """What it returned."""
    args: Sequence[Any]
    """The positional arguments, after the call: an operation that works in place has written to them."""
    kwargs: Mapping[str, Any]
    is_module: bool = False
    written: Sequence[Tensor] = ()
    """The tensors in the arguments that the call wrote to, if the observer asks for them."""
    function: Any = None
    """The torch function or the leaf that was called."""


class OperationObserver(TorchFunctionMode):
    """Observes a model's calls of torch functions and of leaves: a subclass receives each call with its value.

    A leaf module is one operation, as in a graph. While it runs, the observer is no longer a mode of torch: torch's own
    modules may take another path under a mode, as `nn.MultiheadAttention` leaves its fast path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scopes = [""]
        """Paths of the running modules that are no leaves, the innermost last."""
        self.is_inside = False
        """Whether an operation is running. The calls inside it are not observed."""
        self._is_active = False
        self._finds_writes = False
        """Whether calls tell which of their arguments they wrote to."""

    def on_call(self, call: ObservedCall) -> Any:
        """Receive a call as soon as its value is computed, and return the value that the model gets."""
        raise NotImplementedError

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

    def stop(self) -> None:
        """Stop observing for good, wherever an interrupt came."""
        while torch.overrides._get_current_function_mode() is self:  # noqa: SLF001
            self.__exit__(None, None, None)
        self._is_active = self.is_inside = False

    def call_module(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module that is not a leaf, whose operations are observed."""
        if self.is_inside:
            return module._call_impl(*args, **kwargs)  # noqa: SLF001
        self.scopes.append(path)
        try:
            return module._call_impl(*args, **kwargs)  # noqa: SLF001
        finally:
            self.scopes.pop()

    def call_leaf(self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a leaf, which is one operation."""
        if self.is_inside or is_transformed():
            return module._call_impl(*args, **kwargs)  # noqa: SLF001
        self.is_inside, was_active = True, self._is_active
        self.pause()
        try:
            versions = self._note_versions(args, kwargs)
            value = module._call_impl(*args, **kwargs)  # noqa: SLF001
            kind, written = type(module).__name__.lower(), _find_written(versions)
            call = ObservedCall(path, kind, value, args, kwargs, is_module=True, written=written, function=module)
            return self.on_call(call)
        finally:
            self.is_inside = False
            if was_active:
                self.resume()

    def as_leaf(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` as one operation: the calls inside it are not observed."""

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self.__torch_function__(function, (), args, kwargs)

        return call

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if self.is_inside or is_transformed():
            return func(*args, **kwargs)
        self.is_inside = True
        try:
            versions = self._note_versions(args, kwargs)
            value = func(*args, **kwargs)
            kind, scope, written = operation_kind(func), self.scopes[-1], _find_written(versions)
            if kind == "getattr":  # the getter of an attribute is called without its name
                args = (*args, getattr(getattr(func, "__self__", None), "__name__", ""))
            path = f"{scope}.{kind}" if scope else kind
            return self.on_call(ObservedCall(path, kind, value, args, kwargs, written=written, function=func))
        finally:
            self.is_inside = False

    def _note_versions(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Tensor, int]]:
        """Return the tensors in the arguments of a call, each with the number of times that it was written to."""
        if not self._finds_writes:
            return []
        tensors = (tensor for _, tensor in named_tensors([args, kwargs]))
        return [(tensor, tensor._version) for tensor in tensors if not tensor.is_inference()]  # noqa: SLF001


def _find_written(versions: list[tuple[Tensor, int]]) -> list[Tensor]:
    return [tensor for tensor, version in versions if tensor._version != version]  # noqa: SLF001


def is_transformed() -> bool:
    """Return whether a transform such as `torch.vmap` is running: a value inside it is of no use outside."""
    return torch._C._functorch.peek_interpreter_stack() is not None  # noqa: SLF001


class _ThreadState(local):
    observer: OperationObserver | None = None


_thread = _ThreadState()


@contextmanager
def observing(observer: OperationObserver) -> Iterator[None]:
    """Within the block, `observer` observes this thread's calls, also of the modules of `observe_modules`."""
    before = _thread.observer if is_observing() else None

    def leave() -> None:
        observer.stop()
        _thread.observer = before

    try:
        _thread.observer = observer
        observer.resume()
        yield
    finally:
        run_uninterrupted(leave)


def is_observing() -> bool:
    """Return whether an observer observes this thread. One that an interrupt left behind does not."""
    observer = _thread.observer
    modes = torch.overrides._get_current_function_mode_stack()  # noqa: SLF001
    return observer is not None and (observer.is_inside or observer in modes)


CallElsewhere: TypeAlias = "Callable[[str, nn.Module, tuple[Any, ...], dict[str, Any]], Any]"
"""Calls a module with its path, in a thread that no observer observes."""


def observe_modules(model: nn.Module, leaves: LeafRule, call_elsewhere: CallElsewhere | None = None) -> None:
    """Let the observer of a thread see the calls of the submodules of `model`, which belong to nobody else.

    A copy of a module is not seen until this is called again. `call_elsewhere` makes the calls in other threads.
    """
    for path, module in list_modules(model):
        if path and vars(module).get(_CALL) is None:
            # `nn.Module.__call__` calls this attribute if there is one: it is where `nn.Module.compile` puts its own.
            # A hook won't do: torch's transformer leaves its fast path if one of its modules has a hook.
            call = _call_leaf if leaves.is_leaf(module, path) else _call_module
            vars(module)[_CALL] = partial(call, path, module, call_elsewhere or _call_unobserved)


_CALL = "_compiled_call_impl"


def _call_unobserved(_path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return module._call_impl(*args, **kwargs)  # noqa: SLF001


def _call_module(path: str, module: nn.Module, call_elsewhere: CallElsewhere, /, *args: Any, **kwargs: Any) -> Any:
    observer = _thread.observer
    return (call_elsewhere if observer is None else observer.call_module)(path, module, args, kwargs)


def _call_leaf(path: str, module: nn.Module, call_elsewhere: CallElsewhere, /, *args: Any, **kwargs: Any) -> Any:
    observer = _thread.observer
    return (call_elsewhere if observer is None else observer.call_leaf)(path, module, args, kwargs)


def run_observed(
    model: nn.Module,
    observer: OperationObserver,
    inputs: Sequence[Any],
    keywords: Mapping[str, Any] | None = None,
    *,
    leaves: LeafRule,
    call_elsewhere: CallElsewhere | None = None,
) -> Any:
    """Run a copy of a model with its operations observed by `observer`, and return its output.

    `call_elsewhere` makes the calls of modules in other threads, whose operations are not observed.

    Of the functions in `leaves`, those that are registered with `torch.fx.wrap` are observed as one operation each.
    """
    observe_modules(model, leaves, call_elsewhere)
    with observing(observer), _observe_as_leaves(leaves.functions, observer):
        return run_model(model, inputs, keywords)


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


@lru_cache(maxsize=4096)
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

"""A torch mode that records calls of torch functions while a model is traced.

Plain torch.fx sees a call only if a proxy is among its arguments. Calls without one run at once, and their results are
constants of the graph: a new tensor, random numbers, the square of a weight that was reached through
``self.parameters()``. The mode records those calls as well.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from surgery.graph import contexts, inplace
from surgery.tracing.proxy_types import FACTORIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.tracing.tracer import ModelTracer


class TracingFunctionMode(TorchFunctionMode):
    """Records calls of functions of torch that have no proxy among their arguments."""

    def __init__(self, tracer: ModelTracer) -> None:
        super().__init__()
        self.tracer = tracer
        self._open_blocks: dict[int, tuple[object, fx.Proxy]] = {}
        """Blocks such as `no_grad` that the model has entered: each with the node of its beginning."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:  # noqa: SLF001
            self._record_grad_mode(*args)
            return None if isinstance(args[0], fx.Proxy) else func(*args, **kwargs)
        if func in FACTORIES:
            # Each run makes its own tensor, as the model does, so that no run writes to the tensor of another.
            return self.tracer.create_proxy("call_function", func, args, kwargs)
        if (name := self._find_written_parameter(func, args, kwargs)) is not None:
            self.tracer.note_parameter_write(name)
            return args[0] if args else None  # without the call: the parameter is the user's own
        if any(part in getattr(func, "__name__", "") for part in _RANDOM_NAME_PARTS):
            return _record_call(self.tracer, func, args, kwargs)  # each run draws its own numbers
        if not _reads_metadata(func) and (arguments := self._with_state_proxies(args, kwargs)) is not None:
            return _record_call(self.tracer, func, *arguments)
        return func(*args, **kwargs)

    def _record_grad_mode(self, enabled: bool) -> None:
        """Record the beginning or the end of a block with or without gradients, or a permanent change.

        Torch's `no_grad`, `enable_grad` and `set_grad_enabled` all call one function. The frames of ``grad_mode.py``
        show which block calls it, and whether that begins or ends.
        """
        frame, owner, method = sys._getframe(2), None, ""  # noqa: SLF001
        while frame.f_back is not None and frame.f_code.co_filename.endswith("grad_mode.py"):
            owner, method = frame.f_locals.get("self"), frame.f_code.co_name
            frame = frame.f_back
        if method == "__enter__" and id(owner) in self._open_blocks:
            return  # `set_grad_enabled` has set it already when the block was made
        if method in ("__exit__", "__call__"):
            if id(owner) in self._open_blocks:
                _, beginning = self._open_blocks.pop(id(owner))
                self.tracer.create_proxy("call_function", contexts.leave_grad, (beginning,), {})
            return
        beginning = self.tracer.create_proxy("call_function", contexts.enter_grad, (enabled,), {})
        if owner is not None:
            self._open_blocks[id(owner)] = owner, beginning

    def _with_state_proxies(self, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Return the arguments of a call with proxies for parameters and buffers; None if it receives none of these.

        A model that reads them as attributes gets proxies. Through `parameters()`, a `state_dict` or a closure it gets
        the tensors themselves, and a call with them would be a constant of the graph.
        """
        has_state = False

        def replace(value: Any) -> Any:
            nonlocal has_state
            proxy = self.tracer.find_state_proxy(value) if isinstance(value, Tensor) else None
            has_state |= proxy is not None
            return value if proxy is None else proxy

        arguments = pytree.tree_map(replace, (args, kwargs))
        return arguments if has_state else None

    def _find_written_parameter(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> str | None:
        """Return the path of the parameter that a call without proxies would write to, perhaps through a view."""
        name = getattr(func, "__name__", "")
        is_in_place = (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE_OPERATORS
        target = kwargs.get("out", args[0] if args and is_in_place else None)
        if not isinstance(target, Tensor) or isinstance(target, fx.Proxy) or name == "requires_grad_":
            return None
        address = _storage_address(target)
        return next(
            (path for path, value in self.tracer.parameters.items() if address and _storage_address(value) == address),
            None,
        )


def _record_call(tracer: ModelTracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record a call as a node: a function, a method, or a `getattr` for a property."""
    if func.__name__ == "__get__":
        return tracer.create_proxy("call_function", getattr, (args[0], func.__self__.__name__), {})  # type: ignore[attr-defined]
    if torch.overrides.is_tensor_method_or_property(func):
        return tracer.create_proxy("call_method", func.__name__, args, kwargs)
    return tracer.create_proxy("call_function", func, args, kwargs)


def _reads_metadata(func: Callable[..., Any]) -> bool:
    """Return whether a call reads only metadata of a tensor, so that its result does not depend on the values."""
    name = getattr(func, "__name__", "")
    return name in _METADATA_METHODS or (name == "__get__" and func.__self__.__name__ in _METADATA_PROPERTIES)  # type: ignore[attr-defined]


def _storage_address(tensor: Tensor) -> int:
    """Return the address of a tensor's storage; 0 if it has none, as for a sparse tensor."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):
        return 0


_RANDOM_NAME_PARTS = (
    *("rand", "normal", "uniform", "dropout", "bernoulli", "multinomial", "poisson", "binomial", "exponential"),
    *("geometric", "cauchy", "rrelu", "gumbel", "dirichlet", "init", "fractional"),
)
"""Parts of the names of torch's functions that draw random numbers."""
_IN_PLACE_OPERATORS = {f"__{function.__name__}__" for function in inplace.AUGMENTED_ASSIGNMENTS} | {"__setitem__"}
_METADATA_METHODS = {
    *("dim", "size", "stride", "numel", "nelement", "ndimension", "element_size", "is_floating_point", "is_complex"),
    *("is_inference", "requires_grad_", "__hash__", "__repr__", "__format__", "__deepcopy__", "__reduce_ex__"),
    *("__set__", "detach_"),
}
_METADATA_PROPERTIES = {
    *("shape", "ndim", "itemsize", "nbytes", "is_leaf", "requires_grad", "grad_fn", "grad", "names", "layout"),
    *("dtype", "device", "is_cuda", "is_cpu", "is_meta", "is_sparse", "is_quantized", "is_nested", "_version"),
}

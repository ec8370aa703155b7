"""The functions of torch that are called while a model is traced, those that are given no proxy too."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._device import _device_constructors

from surgery.graph import contexts, inplace

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.tracing.tracer import ModelTracer


FACTORIES: set[Callable[..., Any]] = {*filter(None, _device_constructors()), torch.normal}
"""Functions that make a tensor out of none."""
_rng_state = torch.random.get_rng_state


class Calls(TorchFunctionMode):
    """Sees the functions of torch that are called while a model is traced, those without a proxy too."""

    def __init__(self, tracer: ModelTracer) -> None:
        super().__init__()
        self.tracer = tracer
        self.blocks: dict[int, tuple[object, fx.Proxy]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func is torch._C._set_grad_enabled:  # noqa: SLF001
            self.block(*args)
            return None if isinstance(args[0], fx.Proxy) else func(*args, **kwargs)
        if self.tracer.factories and func in FACTORIES:
            # Made anew in each run, as the model makes it: random numbers are drawn, and nothing is kept between runs.
            return self.tracer.create_proxy("call_function", func, args, kwargs)
        if (name := self.parameter_written(func, args, kwargs)) is not None:
            self.tracer.note_parameter(name)
            return args[0] if args else None
        if not _only_asks(func) and (known := self.with_state(args, kwargs)) is not None:
            return record(self.tracer, func, *known)
        before = _rng_state()
        value = func(*args, **kwargs)
        drawn = isinstance(kwargs.get("generator"), torch.Generator) or not torch.equal(before, _rng_state())
        if drawn and threading.active_count() > 1:  # another thread may have drawn meanwhile
            drawn = any(word in getattr(func, "__name__", "") for word in _DRAWING)
        self.tracer.drew |= drawn
        if drawn and not isinstance(value, fx.Proxy):
            self.tracer.note(
                "random",
                f"random numbers are drawn by {getattr(func, '__name__', func)} and used as plain numbers, and a graph "
                "keeps those that were drawn while tracing",
                "keep the module around it whole with leaves=[...]",
            )
        return value

    def block(self, enabled: bool) -> None:
        """The beginning or the end of a block without or with gradients, or a call that sets them."""
        frame, owner, step = sys._getframe(2), None, ""  # noqa: SLF001
        while frame.f_back is not None and frame.f_code.co_filename.endswith("grad_mode.py"):
            owner, step = frame.f_locals.get("self"), frame.f_code.co_name
            frame = frame.f_back
        if step == "__enter__" and id(owner) in self.blocks:
            return  # `set_grad_enabled` sets it when it is made
        if step in ("__exit__", "__call__"):
            if id(owner) in self.blocks:
                _, before = self.blocks.pop(id(owner))
                self.tracer.create_proxy("call_function", contexts.leave_grad, (before,), {})
            return
        before = self.tracer.create_proxy("call_function", contexts.enter_grad, (enabled,), {})
        if owner is not None:
            self.blocks[id(owner)] = owner, before

    def with_state(self, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """The arguments of a call, its parameters and buffers as proxies; None where it is given none.

        A model reaches them by its attributes, where they are proxies already, and by `parameters()`, a `state_dict` or
        a function that was given them, where they are the tensors themselves.
        """
        found = False

        def proxy_of(value: Any) -> Any:
            nonlocal found
            known = self.tracer.known_state(value) if isinstance(value, Tensor) else None
            found |= known is not None
            return value if known is None else known

        given = pytree.tree_map(proxy_of, (args, kwargs))
        return given if found else None

    def parameter_written(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The parameter that a call without proxies would write to."""
        name = getattr(func, "__name__", "")
        writes = (name.endswith("_") and not name.endswith("__")) or name in _WRITING
        target = kwargs.get("out", args[0] if args and writes else None)
        if not isinstance(target, Tensor) or isinstance(target, fx.Proxy) or name == "requires_grad_":
            return None
        memory = _memory(target)
        return next(
            (path for path, value in self.tracer.parameters.items() if memory and _memory(value) == memory), None
        )


def record(tracer: ModelTracer, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The node of a call of a function, method or property of tensors."""
    if func.__name__ == "__get__":
        return tracer.create_proxy("call_function", getattr, (args[0], func.__self__.__name__), {})  # type: ignore[attr-defined]
    if torch.overrides.is_tensor_method_or_property(func):
        return tracer.create_proxy("call_method", func.__name__, args, kwargs)
    return tracer.create_proxy("call_function", func, args, kwargs)


def _only_asks(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    return name in _ABOUT or (name == "__get__" and func.__self__.__name__ in _PROPERTIES)  # type: ignore[attr-defined]


_DRAWING: tuple[str, ...] = (
    "rand",
    "normal",
    "uniform",
    "dropout",
    "bernoulli",
    "multinomial",
    "poisson",
    "binomial",
    "exponential",
)
_DRAWING += ("geometric", "cauchy", "rrelu", "gumbel", "dirichlet", "init", "fractional")
"""Parts of the names of torch's functions that draw random numbers."""
_WRITING = {f"__{function.__name__}__" for function in inplace.AUGMENTED_ASSIGNMENTS} | {"__setitem__"}


_ABOUT = {"dim", "size", "stride", "numel", "nelement", "ndimension", "element_size", "is_floating_point", "is_complex"}
_ABOUT |= {
    "is_inference",
    "requires_grad_",
    "__hash__",
    "__repr__",
    "__format__",
    "__deepcopy__",
    "__reduce_ex__",
    "__set__",
    "detach_",
}
"""Names of methods that ask about a tensor, not for its values, and whose answers no other weights change."""
_PROPERTIES = {"shape", "ndim", "itemsize", "nbytes", "is_leaf", "requires_grad", "grad_fn", "grad", "names", "layout"}
_PROPERTIES |= {"dtype", "device", "is_cuda", "is_cpu", "is_meta", "is_sparse", "is_quantized", "is_nested", "_version"}
"""Properties of the kind."""


def _memory(tensor: Tensor) -> int:
    """Where the values of a tensor are; 0 where it has none."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse ones have no storage
        return 0

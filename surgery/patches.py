"""What of torch is another while a model is traced, so that it is recorded. Each puts all back at its end."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery import contexts, functions, inplace
from surgery.calls import FACTORIES
from surgery.proxies import PROXIES, ModelProxy, known_or_noted
from surgery.sources import is_users, user_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.tracer import ModelTracer


@contextmanager
def recorded_contexts(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, autocast and inference mode are recorded where the model enters and leaves them."""
    entered: dict[int, fx.Proxy] = {}

    def recording(owner: Any, enter: Callable[[Any], fx.Proxy]) -> Callable[[], None]:
        before = owner.__enter__, owner.__exit__

        def entering(self: Any) -> Any:
            entered[id(self)] = enter(self)
            return before[0](self)

        def leaving(self: Any, *error: Any) -> Any:
            if (block := entered.pop(id(self), None)) is not None:
                tracer.create_proxy("call_function", contexts.leave, (block,), {})
            return before[1](self, *error)

        owner.__enter__, owner.__exit__ = entering, leaving

        def restore() -> None:
            owner.__enter__, owner.__exit__ = before

        return restore

    def autocast(block: Any) -> fx.Proxy:
        settings = (block.device, block.fast_dtype, block._enabled, block._cache_enabled)  # noqa: SLF001
        return tracer.create_proxy("call_function", contexts.enter_autocast, settings, {})

    def inference(block: Any) -> fx.Proxy:
        return tracer.create_proxy("call_function", contexts.enter_inference, (block.mode,), {})

    with ExitStack() as stack:
        stack.callback(recording(torch.autocast, autocast))
        stack.callback(recording(torch.inference_mode, inference))
        yield


@contextmanager
def _replaced(new: dict[tuple[Any, str], Any]) -> Iterator[None]:
    """Within the block, other attributes of modules and classes."""
    # torch remembers its functions when it is first asked for them, which must not be while there are others.
    torch.overrides.get_overridable_functions()
    before = {(home, name): vars(home).get(name) for home, name in new}
    try:
        for (home, name), value in new.items():
            setattr(home, name, value)
        yield
    finally:
        for (home, name), value in before.items():
            if value is None:
                delattr(home, name)
            else:
                setattr(home, name, value)


@contextmanager
def recorded_settings(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, what the model sets for all of torch, and asks about it, is recorded."""

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1).f_code  # noqa: SLF001
            if is_users(caller.co_filename) or caller.co_name == "fork_rng":
                return tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return call

    with _replaced({(home, name): recording(getattr(home, name)) for home, name in _SETTINGS}):
        yield


_SETTINGS = (
    *((home, name) for home in (torch, torch.random) for name in ("manual_seed", "get_rng_state", "set_rng_state")),
    *((torch, name) for name in ("set_default_dtype", "get_default_dtype", "is_grad_enabled")),
)


@contextmanager
def answered_by_torch() -> Iterator[None]:
    """Within the block, `torch.is_tensor` knows proxies, and the model is not told that it is traced."""

    def is_tensor(value: Any, /) -> bool:
        return issubclass(known_or_noted(value), Tensor) if type(value) in PROXIES else isinstance(value, Tensor)

    def answering(function: Callable[..., bool]) -> Callable[..., bool]:
        return lambda: not is_users(sys._getframe(1).f_code.co_filename) and function()  # noqa: SLF001

    symbolic: Any = torch.fx._symbolic_trace  # noqa: SLF001
    names = [name for name in ("is_fx_tracing", "is_fx_symbolic_tracing") if hasattr(symbolic, name)]
    tracing = {(symbolic, name): answering(getattr(symbolic, name)) for name in names}
    with _replaced({(torch, "is_tensor"): is_tensor, **tracing}):
        yield


@contextmanager
def recorded_functions(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, functions with a gradient of their own are recorded whole, and cached weights are noticed."""
    owner: Any = torch.autograd.Function
    applied = vars(owner).get("apply")
    parametrize: Any = torch.nn.utils.parametrize
    original = parametrize.cached

    def apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
        if kind.__module__.startswith("torch.") or not any(type(value) in PROXIES for value in args):
            call = super(owner, kind).apply if applied is None else applied.__get__(None, kind)
            return call(*args, **kwargs)
        return tracer.create_proxy("call_function", functions.apply, (functions.name_of(kind), *args), kwargs)

    def cached() -> Any:
        what = "parametrize.cached() ends: a graph computes the weights anew, and their gradients differ a little"
        tracer.note("state", what, "keep the module around it whole with leaves=[...]")
        return original()

    with _replaced({(owner, "apply"): classmethod(apply), (parametrize, "cached"): cached}):
        yield


@contextmanager
def recorded_factories(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, torch's factories take proxies (``torch.zeros(3, device=x.device)``), which C code refuses."""

    def recording(factory: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if tracer.factories:
                return tracer.create_proxy("call_function", factory, args, kwargs)
            return factory(*args, **kwargs)

        return make

    factories = [factory for factory in FACTORIES if getattr(torch, factory.__name__, None) is factory]
    with _replaced({(torch, factory.__name__): recording(factory) for factory in factories}):
        yield


@contextmanager
def buffers_in_place(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, ``self.calls += 1`` on a buffer is what it is: a write in place, and no new buffer."""
    before = nn.Module.__setattr__

    def set_attribute(self: nn.Module, name: str, value: Any) -> None:
        tracer.sets.setdefault((self, name), user_line(sys._getframe(1)))  # noqa: SLF001
        if type(value) is ModelProxy and name in self._buffers and value.node.target in inplace.AUGMENTED:
            written = value.node.args[0]
            if isinstance(written, fx.Node) and written.op == "get_attr":
                home, _, attribute = str(written.target).rpartition(".")
                if tracer.root.get_submodule(home) is self and attribute == name:
                    return
        before(self, name, value)

    nn.Module.__setattr__ = set_attribute  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__setattr__ = before  # type: ignore[method-assign]

"""The functions of torch that behave otherwise in the thread that traces a model, so that their calls are recorded."""

from __future__ import annotations

import builtins
import functools
import math
import sys
from contextlib import contextmanager
from threading import get_ident
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx._symbolic_trace import _wrapped_fns_to_patch, _wrapped_methods_to_patch

from surgery.eager import in_this_thread, overridden, uninterrupted, user_classes, user_namespaces
from surgery.graph import autograd_functions as functions
from surgery.graph import contexts, find_user_line, inplace, is_user_file
from surgery.tracing.function_mode import FACTORIES
from surgery.tracing.proxies import PROXIES, ModelProxy, known_or_noted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.tracing.tracer import ModelTracer


@contextmanager
def torch_overridden(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, the thread that traces records what plain tracing would lose or freeze."""
    # Torch lists its functions when it is first asked for them, which must not be while they are replaced.
    torch.overrides.get_overridable_functions()
    replaced = [
        *_modules(tracer),
        *_contexts(tracer),
        *_settings(tracer),
        *_answers(),
        *_functions_with_gradients(tracer),
        *_factories(tracer),
        *_functions_kept_whole(),
        *_functions_of_einops(tracer),
    ]
    new = [(home, name, in_this_thread(before, after)) for home, name, before, after in replaced]
    apply = _apply(tracer)
    for home, name, before, after in _aliases_of_apply(tracer, apply):
        call = in_this_thread(before, after)
        new.append((home, name, staticmethod(call) if isinstance(home, type) else call))
    new.append((torch.autograd.Function, "apply", apply))
    with overridden(new):
        yield


@contextmanager
def thread_as_it_was() -> Iterator[None]:
    """At the end of the block this thread has the modes, the hooks of Python and the gradients that it had before."""
    depth = torch._C._len_torch_function_stack()  # noqa: SLF001
    tracing, profiling, enabled = sys.gettrace(), sys.getprofile(), torch.is_grad_enabled()
    autocast = _autocast()

    def put_back() -> None:
        while torch._C._len_torch_function_stack() > depth:  # noqa: SLF001
            torch._C._pop_torch_function_stack()  # noqa: SLF001
        torch._C._set_grad_enabled(enabled)  # noqa: SLF001
        if sys.gettrace() is not tracing:
            sys.settrace(tracing)
        if sys.getprofile() is not profiling:
            sys.setprofile(profiling)
        if _autocast() != autocast:
            _set_autocast(autocast)

    try:
        yield
    finally:
        uninterrupted(put_back)


def _autocast() -> tuple[Any, ...]:
    """The state of autocast in this thread: how many blocks are open, and what they have set."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    devices = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST_DEVICES]
    return depth, torch.is_autocast_cache_enabled(), *devices


def _set_autocast(state: tuple[Any, ...]) -> None:
    depth, caching, *devices = state
    while _autocast()[0] > depth:
        torch.autocast_decrement_nesting()
    torch.set_autocast_cache_enabled(caching)
    for kind, (enabled, dtype) in zip(_AUTOCAST_DEVICES, devices, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.clear_autocast_cache()


_AUTOCAST_DEVICES = ("cpu", "cuda")
_Replacement = tuple[Any, str, "Callable[..., Any]", "Callable[..., Any]"]
"""A module or class, a name in it, what it means now and what it means to the thread that traces."""


def _modules(tracer: ModelTracer) -> Iterator[_Replacement]:
    """Calls of modules, and their parameters and buffers, become nodes."""
    call, get, put = nn.Module.__call__, nn.Module.__getattr__, nn.Module.__setattr__

    def call_module(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            return call(self, *args, **kwargs)

        return tracer.call_module(self, forward, args, kwargs)

    def get_attribute(self: nn.Module, name: str) -> Any:
        return tracer.getattr(name, get(self, name), {})

    def set_attribute(self: nn.Module, name: str, value: Any) -> None:
        """``self.calls += 1`` on a buffer is what it is: a write in place, and no new buffer."""
        tracer.sets.setdefault((self, name), find_user_line(sys._getframe(1)))  # noqa: SLF001
        if type(value) is ModelProxy and name in self._buffers and value.node.target in inplace.AUGMENTED_ASSIGNMENTS:
            written = value.node.args[0]
            if isinstance(written, fx.Node) and written.op == "get_attr":
                home, _, attribute = str(written.target).rpartition(".")
                if tracer.root.get_submodule(home) is self and attribute == name:
                    return
        put(self, name, value)

    get_parameter, get_buffer = nn.Module.get_parameter, nn.Module.get_buffer

    def known(getter: Callable[[nn.Module, str], Any]) -> Callable[[nn.Module, str], Any]:
        def get_known(self: nn.Module, target: str) -> Any:
            home, _, name = target.rpartition(".")
            owner = self.get_submodule(home)
            value = (owner._parameters if getter is get_parameter else owner._buffers).get(name)  # noqa: SLF001
            return getter(self, target) if value is None else tracer.getattr(name, value, {})

        return get_known

    yield nn.Module, "get_parameter", get_parameter, known(get_parameter)
    yield nn.Module, "get_buffer", get_buffer, known(get_buffer)
    yield nn.Module, "__call__", call, call_module
    yield nn.Module, "__getattr__", get, get_attribute
    yield nn.Module, "__setattr__", put, set_attribute


def _contexts(tracer: ModelTracer) -> Iterator[_Replacement]:
    """The model enters and leaves blocks of autocast and inference mode."""
    entered: dict[int, fx.Proxy] = {}

    def autocast(block: Any) -> fx.Proxy:
        settings = (block.device, block.fast_dtype, block._enabled, block._cache_enabled)  # noqa: SLF001
        return tracer.create_proxy("call_function", contexts.enter_autocast, settings, {})

    def inference(block: Any) -> fx.Proxy:
        return tracer.create_proxy("call_function", contexts.enter_inference, (block.mode,), {})

    def block_of(owner: Any, record: Callable[[Any], fx.Proxy]) -> Iterator[_Replacement]:
        enter, leave = owner.__enter__, owner.__exit__

        def entering(self: Any) -> Any:
            entered[id(self)] = record(self)
            return enter(self)

        def leaving(self: Any, *error: Any) -> Any:
            if (block := entered.pop(id(self), None)) is not None:
                tracer.create_proxy("call_function", contexts.leave, (block,), {})
            return leave(self, *error)

        yield owner, "__enter__", enter, entering
        yield owner, "__exit__", leave, leaving

    yield from block_of(torch.autocast, autocast)
    yield from block_of(torch.inference_mode, inference)


def _settings(tracer: ModelTracer) -> Iterator[_Replacement]:
    """What the model sets for all of torch, and asks about it."""

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(2).f_code  # noqa: SLF001 - behind the wrapper of `in_this_thread`
            if is_user_file(caller.co_filename) or caller.co_name == "fork_rng":
                return tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return call

    for home, name in _SETTINGS:
        yield home, name, getattr(home, name), recording(getattr(home, name))


_SETTINGS = (
    *((home, name) for home in (torch, torch.random) for name in ("manual_seed", "get_rng_state", "set_rng_state")),
    *((torch, name) for name in ("set_default_dtype", "get_default_dtype", "is_grad_enabled")),
    *((torch, name) for name in ("is_autocast_enabled", "is_autocast_cpu_enabled", "is_inference_mode_enabled")),
    *((torch, name) for name in ("get_autocast_dtype", "get_autocast_cpu_dtype", "get_autocast_gpu_dtype")),
)


def _answers() -> Iterator[_Replacement]:
    """`torch.is_tensor` knows proxies, and torch itself, but not the model, is told that a model is traced."""

    def is_tensor(value: Any, /) -> bool:
        return issubclass(known_or_noted(value), Tensor) if type(value) in PROXIES else isinstance(value, Tensor)

    def answering(function: Callable[..., bool]) -> Callable[..., bool]:
        return lambda: not is_user_file(sys._getframe(2).f_code.co_filename) and function()  # noqa: SLF001

    yield torch, "is_tensor", torch.is_tensor, is_tensor
    symbolic: Any = torch.fx._symbolic_trace  # noqa: SLF001
    for name in ("is_fx_tracing", "is_fx_symbolic_tracing"):
        if function := getattr(symbolic, name, None):
            yield symbolic, name, function, answering(function)


def _functions_with_gradients(tracer: ModelTracer) -> Iterator[_Replacement]:
    """Cached weights are noticed."""
    parametrize: Any = torch.nn.utils.parametrize
    original = parametrize.cached

    def cached() -> Any:
        what = "parametrize.cached() ends: a graph computes the weights anew, and their gradients differ a little"
        tracer.note("state", what, "keep the module around it whole with leaves=[...]")
        return original()

    yield parametrize, "cached", original, cached


def _aliases_of_apply(tracer: ModelTracer, apply: Any) -> Iterator[_Replacement]:
    """Other names of `apply`, such as ``blur = Blur.apply``: global names, attributes of classes and of modules."""
    homes: list[Any] = [*user_namespaces(tracer.root), *user_classes(tracer.root)]
    homes += [vars(module) for module in tracer.root.modules()]
    for home in homes:
        for name, value in list((home if isinstance(home, dict) else vars(home)).items()):
            method = value.__func__ if isinstance(value, staticmethod) else value
            owner = getattr(method, "__self__", None)
            of_function = isinstance(owner, type) and issubclass(owner, torch.autograd.Function)
            if of_function and getattr(method, "__name__", "") == "apply":
                yield home, name, method, apply.__get__(None, owner)


def _apply(tracer: ModelTracer) -> Any:
    """`torch.autograd.Function.apply`: a function with a gradient of its own is recorded whole."""
    owner: Any = torch.autograd.Function
    applied, thread = vars(owner).get("apply"), get_ident()

    def apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
        own = not kind.__module__.startswith("torch.")
        if get_ident() == thread and own and any(type(value) in PROXIES for value in (*args, *kwargs.values())):
            return tracer.create_proxy("call_function", functions.apply, (functions.import_path(kind), *args), kwargs)
        call = super(owner, kind).apply if applied is None else applied.__get__(None, kind)
        return call(*args, **kwargs)

    return classmethod(apply)


def _factories(tracer: ModelTracer) -> Iterator[_Replacement]:
    """Torch's factories take proxies (``torch.zeros(3, device=x.device)``), which C code refuses."""

    def recording(factory: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if tracer.factories:
                return tracer.create_proxy("call_function", factory, args, kwargs)
            return factory(*args, **kwargs)

        return make

    for factory in FACTORIES:
        if getattr(torch, factory.__name__, None) is factory:
            yield torch, factory.__name__, factory, recording(factory)


def _functions_kept_whole() -> Iterator[_Replacement]:
    """Functions of `math`, and those that `torch.fx.wrap` was told of, are recorded whole where they take a proxy."""
    for name, function in vars(math).items():
        if not name.startswith("_") and callable(function):
            yield math, name, function, recorded_whole(function)
    for (_, name), home in _wrapped_fns_to_patch.copy().items():
        function = home[name] if name in home else getattr(builtins, name, None)
        if function is not None:
            yield home, name, function, recorded_whole(function)
    for kind, name in _wrapped_methods_to_patch:
        yield kind, name, getattr(kind, name), _method_recorded_whole(kind, name)


def _functions_of_einops(tracer: ModelTracer) -> Iterator[_Replacement]:
    """The functions of einops, under the names that the user's modules have for them: they ask for sizes."""
    einops: Any = sys.modules.get("einops")
    names = getattr(einops, "__all__", ())
    functions = {id(f): f for name in names if isinstance(f := getattr(einops, name), FunctionType)}
    if functions:
        for home in (vars(einops), *user_namespaces(tracer.root)):
            for name, value in list(home.items()):
                if id(value) in functions:
                    yield home, name, value, recorded_whole(value)


def recorded_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, one node of the graph where it is given a proxy."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if (proxy := _proxy_in((args, kwargs))) is not None:
            return proxy.tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return call


def _method_recorded_whole(kind: type, name: str) -> Callable[..., Any]:
    method = getattr(kind, name)

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if (proxy := _proxy_in((args, kwargs))) is not None:
            return proxy.tracer.create_proxy("call_method", name, args, kwargs)
        return method(*args, **kwargs)

    return call


def _proxy_in(value: Any) -> fx.Proxy | None:
    """A proxy in the arguments of a call."""
    found: list[fx.Proxy] = []

    def look(item: Any) -> Any:
        if type(item) in PROXIES:
            found.append(item)
        return item

    fx.node.map_aggregate(value, look)
    return found[0] if found else None

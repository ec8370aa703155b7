"""Functions and classes of torch that behave differently in a thread that traces, so that their calls are recorded.

Most calls of torch are recorded by a proxy among their arguments or by `surgery.tracing.function_mode`. The calls here
reach neither: they are plain Python, or C functions that take no tensor. Torch may rename them; ``tests/traps`` tests a
model with each of them.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from surgery.eager import Override, override_in_this_thread, override_names, user_namespaces
from surgery.graph import contexts, is_user_file
from surgery.tracing.autograd_overrides import override_autograd
from surgery.tracing.module_overrides import override_modules
from surgery.tracing.proxies import PROXIES, resolve_type
from surgery.tracing.proxy_types import FACTORIES
from surgery.tracing.whole_functions import override_whole_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from surgery.tracing.tracer import ModelTracer


@contextmanager
def override_torch(tracer: ModelTracer) -> Iterator[None]:
    """Within the block, this thread records in `tracer` what plain tracing would lose or freeze."""
    # The first call lists torch's overridable functions; the list must not contain the replacements.
    torch.overrides.get_overridable_functions()
    overrides = [
        *override_modules(tracer),
        *_override_blocks(tracer),
        *_override_global_settings(tracer),
        *_override_predicates(),
        *_override_factories(tracer),
        *override_whole_functions(tracer.root),
        *override_autograd(tracer),
    ]
    overrides += _override_imported_names(overrides, tracer.root)
    with override_names(overrides):
        yield


def _override_imported_names(overrides: list[Override], root: nn.Module) -> list[Override]:
    """Return the overrides of the user's own names for overridden functions, as after ``from torch import is_tensor``.

    Such a name is bound to the original, so that an override of ``torch.is_tensor`` does not reach it. The search
    covers global names of the user's modules, but no attributes or default arguments.
    """
    replacements = {id(getattr(home, name)): value for home, name, value in overrides if isinstance(home, ModuleType)}
    return [
        (namespace, name, replacements[id(value)])
        for namespace in user_namespaces(root)
        for name, value in namespace.items()
        if id(value) in replacements
    ]


def _override_blocks(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of the blocks of `autocast` and `inference_mode`, which plain tracing leaves out.

    The graph gets a call for the beginning and one for the end, since it has no blocks. An end without a recorded
    beginning, of a block that was entered before the trace, is not recorded.
    """

    def record_autocast(block: Any) -> fx.Proxy:
        settings = (block.device, block.fast_dtype, block._enabled, block._cache_enabled)  # noqa: SLF001
        return tracer.create_proxy("call_function", contexts.enter_autocast, settings, {})

    def record_inference_mode(block: Any) -> fx.Proxy:
        return tracer.create_proxy("call_function", contexts.enter_inference, (block.mode,), {})

    yield from _override_block(tracer, torch.autocast, record_autocast)
    yield from _override_block(tracer, torch.inference_mode, record_inference_mode)


def _override_block(tracer: ModelTracer, kind: Any, record: Callable[[Any], fx.Proxy]) -> Iterator[Override]:
    enter, leave = kind.__enter__, kind.__exit__
    beginnings: dict[int, fx.Proxy] = {}

    def record_beginning(self: Any) -> Any:
        beginnings[id(self)] = record(self)
        return enter(self)

    def record_end(self: Any, *error: Any) -> Any:
        if (beginning := beginnings.pop(id(self), None)) is not None:
            tracer.create_proxy("call_function", contexts.leave, (beginning,), {})
        return leave(self, *error)

    yield override_in_this_thread(kind, "__enter__", record_beginning)
    yield override_in_this_thread(kind, "__exit__", record_end)


def _override_global_settings(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of functions that set or read a state of torch: a seed, a default dtype, the gradient mode.

    They take no tensor, so that plain tracing calls them once, while tracing. Calls by torch's own code are not
    recorded, except those of `fork_rng`, whose block seeds and restores the generator for the model.
    """

    def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            caller = _caller_of_override().f_code
            if is_user_file(caller.co_filename) or caller.co_name == "fork_rng":
                return tracer.create_proxy("call_function", function, args, kwargs)
            return function(*args, **kwargs)

        return call

    for module, name in _GLOBAL_SETTINGS:
        yield override_in_this_thread(module, name, recorded(getattr(module, name)))


_GLOBAL_SETTINGS = (
    *((home, name) for home in (torch, torch.random) for name in ("manual_seed", "get_rng_state", "set_rng_state")),
    *((torch, name) for name in ("set_default_dtype", "get_default_dtype", "is_grad_enabled")),
    *((torch, name) for name in ("is_autocast_enabled", "is_autocast_cpu_enabled", "is_inference_mode_enabled")),
    *((torch, name) for name in ("get_autocast_dtype", "get_autocast_cpu_dtype", "get_autocast_gpu_dtype")),
)


def _override_predicates() -> Iterator[Override]:
    """Yield the overrides of `torch.is_tensor`, and of the functions that return whether a model is being traced.

    The latter return False to the model, since its branch for tracing would differ from an eager run. Torch's own code
    gets the true result.
    """

    def is_tensor(value: Any, /) -> bool:
        return issubclass(resolve_type(value), Tensor) if type(value) in PROXIES else isinstance(value, Tensor)

    def hidden_from_users(function: Callable[..., bool]) -> Callable[..., bool]:
        return lambda: not is_user_file(_caller_of_override().f_code.co_filename) and function()

    yield override_in_this_thread(torch, "is_tensor", is_tensor)
    symbolic: Any = torch.fx._symbolic_trace  # noqa: SLF001
    for name in ("is_fx_tracing", "is_fx_symbolic_tracing"):
        if function := getattr(symbolic, name, None):
            yield override_in_this_thread(symbolic, name, hidden_from_users(function))


def _override_factories(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of torch's factories, as in ``torch.zeros(3, device=x.device)``.

    C code refuses the proxy of the device before any mode of torch sees the call.
    """

    def recorded(factory: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            return tracer.create_proxy("call_function", factory, args, kwargs)

        return make

    for factory in FACTORIES:
        if getattr(torch, factory.__name__, None) is factory:
            yield override_in_this_thread(torch, factory.__name__, recorded(factory))


def _caller_of_override() -> Any:
    """Return the frame that called an override from outside: behind this call, the override, and its thread check."""
    return sys._getframe(3)  # noqa: SLF001

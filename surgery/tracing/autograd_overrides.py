"""`torch.autograd.Function.apply` while a model is traced: a function with its own gradient is one node.

Plain tracing goes into the function's forward. The graph then computes the same values, but its gradients are those of
the operations inside.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import Override, override_in_this_thread, user_classes, user_namespaces
from surgery.graph import autograd_functions as functions
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.proxies import PROXIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.tracing.tracer import ModelTracer


def override_autograd(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of `apply`, of its aliases in the user's code, and of `parametrize.cached`."""
    yield _override_cached_parametrizations(tracer)
    apply = _recorded_apply(tracer)
    yield from _override_aliases(tracer, apply)
    yield torch.autograd.Function, "apply", apply


def _recorded_apply(tracer: ModelTracer) -> Any:
    """Return a class method in place of `apply`, which records calls with proxies in this thread.

    `functions.apply`, the target of the node, calls the original when the graph runs.
    """
    owner: Any = torch.autograd.Function
    original, thread = vars(owner).get("apply"), get_ident()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        is_own_function = not cls.__module__.startswith("torch.")
        if (
            get_ident() == thread
            and is_own_function
            and any(type(value) in PROXIES for value in (*args, *kwargs.values()))
        ):
            return tracer.create_proxy("call_function", functions.apply, (functions.import_path(cls), *args), kwargs)
        call = super(owner, cls).apply if original is None else original.__get__(None, cls)
        return call(*args, **kwargs)

    return classmethod(apply)


def _override_aliases(tracer: ModelTracer, apply: Any) -> Iterator[Override]:
    """Yield the overrides of other names for `apply`, as in ``blur = Blur.apply``.

    They are bound to the original, so the override of `apply` does not affect them. The search covers global names of
    the user's modules, and attributes of the model's classes and modules; `surgery.tracing.call_monitor` detects the
    others.
    """
    namespaces: list[Any] = [*user_namespaces(tracer.root), *user_classes(tracer.root)]
    namespaces += [vars(module) for module in tracer.root.modules()]
    for namespace in namespaces:
        for name, value in list((namespace if isinstance(namespace, dict) else vars(namespace)).items()):
            method = value.__func__ if isinstance(value, staticmethod) else value
            owner = getattr(method, "__self__", None)
            is_of_function = isinstance(owner, type) and issubclass(owner, torch.autograd.Function)
            if is_of_function and getattr(method, "__name__", "") == "apply":
                _, _, call = override_in_this_thread(namespace, name, apply.__get__(None, owner), method)
                yield namespace, name, staticmethod(call) if isinstance(namespace, type) else call


def _override_cached_parametrizations(tracer: ModelTracer) -> Override:
    """Return the override of `parametrize.cached`, which records a hazard: a graph computes the weights at each use."""
    parametrize: Any = torch.nn.utils.parametrize
    original = parametrize.cached

    def cached() -> Any:
        what = "parametrize.cached() has no effect: a graph computes weights at each use, and gradients differ slightly"
        tracer.note_hazard("state", what, KEEP_WHOLE)
        return original()

    return override_in_this_thread(parametrize, "cached", cached)

"""Functions that are recorded as one node when they receive a proxy, instead of being traced into.

They are the functions of `math`, which convert a proxy to a float and fail; the functions and methods that a user or a
library has registered with `torch.fx.wrap`; and those of einops, which compute with sizes.
"""

from __future__ import annotations

import builtins
import functools
import math
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch.fx._symbolic_trace import _wrapped_fns_to_patch, _wrapped_methods_to_patch

from surgery.eager import Override, override_in_this_thread, user_namespaces
from surgery.tracing.proxies import find_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


def override_whole_functions(root: nn.Module) -> Iterator[Override]:
    """Yield the overrides of all these functions, for a model in the module `root`."""
    for name, function in vars(math).items():
        if not name.startswith("_") and callable(function):
            yield _override_function(math, name, function)
    for (_, name), namespace in _wrapped_fns_to_patch.copy().items():
        function = namespace[name] if name in namespace else getattr(builtins, name, None)
        if function is not None:
            yield _override_function(namespace, name, function)
    for kind, name in _wrapped_methods_to_patch:
        yield override_in_this_thread(kind, name, _record_method_whole(kind, name))
    yield from _override_einops(root)


def _override_einops(root: nn.Module) -> Iterator[Override]:
    """Yield the overrides of einops' functions, under whatever names the user's modules have imported them."""
    einops: Any = sys.modules.get("einops")
    names = getattr(einops, "__all__", ())
    functions = {id(f): f for name in names if isinstance(f := getattr(einops, name), FunctionType)}
    if functions:
        for namespace in (vars(einops), *user_namespaces(root)):
            for name, value in list(namespace.items()):
                if id(value) in functions:
                    yield _override_function(namespace, name, value)


def _override_function(namespace: Any, name: str, function: Callable[..., Any]) -> Override:
    return override_in_this_thread(namespace, name, _record_whole("call_function", function, function), function)


def _record_method_whole(kind: type, name: str) -> Callable[..., Any]:
    return _record_whole("call_method", name, getattr(kind, name))


def _record_whole(op: str, target: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that records a call with a proxy as one node, and otherwise calls `function`."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if (proxy := find_proxy((args, kwargs))) is not None:
            return proxy.tracer.create_proxy(op, target, args, kwargs)
        return function(*args, **kwargs)

    return call

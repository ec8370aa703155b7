"""`nn.Module` while a model is traced: calls of modules, and reads and writes of their attributes, are recorded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.eager import Override, override_in_this_thread
from surgery.graph import find_user_line, inplace
from surgery.tracing.proxies import ModelProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.tracing.tracer import ModelTracer


def override_modules(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of `nn.Module`.

    `torch.fx.Tracer.trace` overrides `__call__` and `__getattr__` in the same way, but for all threads. A user's class
    may override any of these methods. Its method is not recorded, but those of `nn.Module` that it calls are.
    """
    yield override_in_this_thread(nn.Module, "__call__", _call_module(tracer))
    yield override_in_this_thread(nn.Module, "__getattr__", _get_attribute(tracer))
    yield override_in_this_thread(nn.Module, "__setattr__", _set_attribute(tracer))


def _call_module(tracer: ModelTracer) -> Callable[..., Any]:
    original = nn.Module.__call__

    def call_module(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            return original(self, *args, **kwargs)

        return tracer.call_module(self, forward, args, kwargs)

    return call_module


def _get_attribute(tracer: ModelTracer) -> Callable[..., Any]:
    original = nn.Module.__getattr__

    def get_attribute(self: nn.Module, name: str) -> Any:
        return tracer.getattr(name, original(self, name), {})

    return get_attribute


def _set_attribute(tracer: ModelTracer) -> Callable[..., Any]:
    """Remember where forward assigns attributes, and let ``self.calls += 1`` stay a write in place.

    Python assigns the result of `+=` to the attribute. In an eager run, that is the buffer itself; here it is a proxy,
    and the assignment would replace the buffer by it.
    """
    original = nn.Module.__setattr__

    def set_attribute(self: nn.Module, name: str, value: Any) -> None:
        tracer.assignment_lines.setdefault((self, name), find_user_line(sys._getframe(1)))  # noqa: SLF001
        if type(value) is ModelProxy and name in self._buffers and value.node.target in inplace.AUGMENTED_ASSIGNMENTS:
            written = value.node.args[0]
            if isinstance(written, fx.Node) and written.op == "get_attr":
                home, _, attribute = str(written.target).rpartition(".")
                if tracer.root.get_submodule(home) is self and attribute == name:
                    return
        original(self, name, value)

    return set_attribute

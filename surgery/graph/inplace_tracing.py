"""A tracer and proxies of torch.fx that record in-place operators and assignments as such."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx

from surgery.graph import inplace

if TYPE_CHECKING:
    from collections.abc import Callable


class InPlaceProxy(fx.Proxy):
    """A proxy that records augmented, item and attribute assignments."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", inplace.setitem, (self, key, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("tracer", "node"):
            object.__setattr__(self, name, value)
        else:
            self.tracer.create_proxy("call_function", inplace.set_attribute, (self, name, value), {})


def _add_augmented_assignment(function: Callable[[Any, Any], Any]) -> None:
    def record(self: InPlaceProxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    setattr(InPlaceProxy, f"__{function.__name__}__", record)


for _function in inplace.AUGMENTED_ASSIGNMENTS:
    _add_augmented_assignment(_function)


class InPlaceTracer(fx.Tracer):
    """The tracer of torch.fx, with `InPlaceProxy` as its proxy."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

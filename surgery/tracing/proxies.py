"""The proxies that represent values while a model is traced, and how they answer what a model asks about a value.

A proxy of plain torch.fx answers Python's questions for itself: it is no tensor, it has every attribute, and it equals
no key of a dict. A model that asks takes another branch than in an eager run, without any error. The proxies here
answer as the value would, where that is known, and record a hazard where it is not.
"""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx

from surgery.graph import InPlaceProxy, find_user_line, is_user_file
from surgery.tracing.bytecode import current_opcode, is_compared_by_identity
from surgery.tracing.explanations import KEEP_WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator


class ModelProxy(InPlaceProxy):
    """A proxy that answers questions about type, attributes and shape as the value that it represents would."""

    __array_ufunc__ = None  # numpy's scalars then leave an operator to the proxy, as they do for a tensor

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The type of the value for ``x.__class__`` and ``match`` in the user's code; elsewhere the type of the proxy.

        Torch's C code must not take a proxy for a tensor: it would read the proxy's memory as that of one.
        """
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_user_file(frame.f_code.co_filename) or current_opcode(frame) not in _READING_CLASS:
            return type(self)
        return resolve_type(self)

    def __getattr__(self, name: str) -> Any:
        """Return the shape of a parameter or buffer itself, and a proxy for any other attribute.

        `hasattr`, and `getattr` with a default, call this method as well. They must get an AttributeError for an
        attribute that the value's type does not have. The result of `is` on an attribute is that of two proxies, False,
        and so a hazard.
        """
        tracer: Any = self.tracer
        if name in _SHAPE_ATTRIBUTES and (tensor := tracer.find_state_tensor(self)) is not None:
            return getattr(tensor, name)
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_user_file(frame.f_code.co_filename):
            return ModelAttribute(self, name)
        if current_opcode(frame) not in _ACCESSING_ATTRIBUTE:
            kind = tracer.infer_type(self)
            if kind is not None and not hasattr(kind, name) and name not in tracer.assigned_attributes:
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            if kind is None:
                tracer.note_hazard(
                    "isinstance",
                    f"{self.node.name} is asked for an attribute {name!r}; its type is not known while tracing, and "
                    "the graph holds one branch",
                    KEEP_WHOLE,
                )
        elif name != "shape" and is_compared_by_identity(frame.f_code, frame.f_lasti):
            what = (
                f"`is` compares the {name} of a value, which is not known while tracing, and the graph holds one branch"
            )
            tracer.note_hazard("identity", what, "compare with ==")
        return ModelAttribute(self, name)

    def __copy__(self) -> Any:
        return self.tracer.create_proxy("call_function", copy.copy, (self,), {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.tracer.create_proxy("call_function", copy.deepcopy, (self,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            self.tracer.assigned_attributes.add(name)  # type: ignore[attr-defined]
        super().__setattr__(name, value)

    def __hash__(self) -> int:
        """Hash by identity, as a tensor does. Any other value would be found in a dict by its equality: a hazard."""
        tracer: Any = self.tracer
        if is_user_file(sys._getframe(1).f_code.co_filename) and tracer.infer_type(self) is not Tensor:  # noqa: SLF001
            what = "a value that is not known while tracing is looked up in a dict or set, and never found there"
            tracer.note_hazard("identity", what, KEEP_WHOLE)
        return id(self)

    def __repr__(self) -> str:
        """Return the proxy's own text, and remember it: a hazard where it becomes part of what is computed."""
        text = super().__repr__()
        if line := find_user_line(sys._getframe(1)):  # noqa: SLF001
            self.tracer.proxy_texts.setdefault(text, line)  # type: ignore[attr-defined]
        return text


class ModelAttribute(fx.proxy.Attribute, ModelProxy):
    """An attribute of a proxy, or a method that is about to be called; it becomes a node when its value is used."""

    def __init__(self, root: fx.Proxy, attr: str) -> None:
        for name, value in (("root", root), ("attr", attr), ("tracer", root.tracer), ("_node", None)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_node":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


PROXIES = (ModelProxy, ModelAttribute)
"""The classes of proxies, to be compared with `type(value)`: `isinstance` asks the proxy for its value's type."""

_SHAPE_ATTRIBUTES = {"shape", "ndim", "size", "dim", "numel", "nelement", "ndimension"}
"""Attributes of a parameter or buffer that do not depend on its values."""
_READING_CLASS = {"MATCH_CLASS", "LOAD_ATTR", "LOAD_METHOD"}
_ACCESSING_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"}


def resolve_type(proxy: Any) -> type:
    """Return the type of the value that a proxy represents; where it is unknown, record a hazard and return its own."""
    tracer = proxy.tracer
    kind: type | None = tracer.infer_type(proxy)
    if kind is None:
        what = (
            f"the type of {proxy.node.name} is asked for; it is not known while tracing, and the graph holds one branch"
        )
        tracer.note_hazard("isinstance", what, KEEP_WHOLE)
        return type(proxy)
    return kind


def find_proxy(arguments: Any) -> fx.Proxy | None:
    """Return a proxy in the arguments of a call, in nested containers too; None where there is none."""
    proxies: list[fx.Proxy] = []

    def collect(item: Any) -> Any:
        if type(item) in PROXIES:
            proxies.append(item)
        return item

    fx.node.map_aggregate(arguments, collect)
    return proxies[0] if proxies else None


def find_strings(value: Any) -> Iterator[str]:
    """Yield the strings in the arguments of a node, including the keys of dicts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from find_strings(key)
            yield from find_strings(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from find_strings(item)

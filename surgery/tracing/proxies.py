"""The proxies that represent values while a model is traced.

For a proxy of plain torch.fx, ``isinstance(x, Tensor)`` is False, `hasattr` is True for every name, and no dict has it
as a key. A model that checks one of these takes another branch than in an eager run, without any error. The proxies
here give the result that the value would give if it is known, and record a hazard if it is not.
"""

from __future__ import annotations

import copy
import dis
import functools
import sys
from abc import ABCMeta
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, fx

from surgery.graph import InPlaceProxy, find_user_line, is_user_file
from surgery.tracing.explanations import KEEP_WHOLE

if TYPE_CHECKING:
    from types import CodeType, FrameType


class ModelProxy(InPlaceProxy):
    """A proxy with the type, attributes and shape of the value that it represents, as far as they are known."""

    __array_ufunc__ = None  # numpy's scalars then leave an operator to the proxy, as they do for a tensor

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """The type of the value for ``x.__class__`` and ``match`` in the user's code; elsewhere the type of the proxy.

        Torch's C code must not take a proxy for a tensor: it would read the proxy's memory as a tensor's.
        """
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_user_file(frame.f_code.co_filename) or current_opcode(frame) not in _READING_CLASS:
            return type(self)
        return resolve_type(self)

    def __getattr__(self, name: str) -> Any:
        """Return the shape of a parameter or buffer itself, and a proxy for any other attribute.

        `hasattr`, and `getattr` with a default, call this method as well. They must get an AttributeError for an
        attribute that the value's type does not have. `is` compares an attribute without calling a method of it, and
        is always False, so it is a hazard to read one in a function that compares by `is`.
        """
        tracer: Any = self.tracer
        if name in _SHAPE_ATTRIBUTES and (tensor := tracer.find_state_tensor(self)) is not None:
            return getattr(tensor, name)
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_user_file(frame.f_code.co_filename):
            return make_attribute(self, name)
        if current_opcode(frame) not in _ACCESSING_ATTRIBUTE:
            kind = tracer.infer_type(self)
            if kind is not None and not hasattr(kind, name) and name not in tracer.assigned_attributes:
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            if kind is None:
                tracer.note_hazard(
                    "isinstance",
                    f"forward checks whether {self.node.name} has an attribute {name!r}; its type is not known while "
                    "tracing, and the graph holds one branch",
                    KEEP_WHOLE,
                )
        elif name in _MAY_BE_NONE or (
            name != "shape" and not callable(getattr(Tensor, name, None)) and compares_by_identity(frame.f_code)
        ):
            what = f"`is` may compare the {name} of a value, which is not known while tracing"
            tracer.note_hazard("identity", what, "compare with ==")
        return make_attribute(self, name)

    def __copy__(self) -> Any:
        return self.tracer.create_proxy("call_function", copy.copy, (self,), {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.tracer.create_proxy("call_function", copy.deepcopy, (self,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            self.tracer.assigned_attributes.add(name)  # type: ignore[attr-defined]
        super().__setattr__(name, value)

    def __hash__(self) -> int:
        """Hash by identity, as a tensor does. For a value that is looked up by equality, record a hazard."""
        tracer: Any = self.tracer
        if is_user_file(sys._getframe(1).f_code.co_filename) and tracer.infer_type(self) is not Tensor:  # noqa: SLF001
            what = "a value that is not known while tracing is looked up in a dict or set, and never found there"
            tracer.note_hazard("identity", what, KEEP_WHOLE)
        return id(self)

    def __repr__(self) -> str:
        """Return the proxy's own text, and remember it: it is a hazard unless only a message contains it."""
        text, tracer, frame = super().__repr__(), cast("Any", self.tracer), sys._getframe(1)  # noqa: SLF001
        if is_user_file(frame.f_code.co_filename):
            tracer.proxy_texts.append((text, find_user_line(frame)))
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


class SequenceProxy(ModelProxy, metaclass=ABCMeta):
    """A proxy of a shape or of several tensors.

    ``match`` reads a flag of the class to decide whether a value is a sequence. With the flag, it then calls `len`,
    which raises an error that names the line. Without it, another branch would be taken silently.
    """

    __abc_tpflags__ = 1 << 5


class SequenceAttribute(ModelAttribute, metaclass=ABCMeta):
    """The shape of a proxy, a sequence for ``match``."""

    __abc_tpflags__ = 1 << 5


def make_proxy(node: fx.Node, tracer: Any) -> ModelProxy:
    """Return the proxy of a node's value."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    source = node.args[0] if node.args else None
    is_sliced = name == "getitem" and isinstance(node.args[1], slice) and isinstance(source, fx.Node)
    is_part_of_shape = is_sliced and (source.target == "size" or "shape" in source.args)  # type: ignore[union-attr]
    is_shape = name == "size" and len(node.args) + len(node.kwargs) == 1
    is_sequence = is_shape or is_part_of_shape or name in _RETURNING_SEQUENCES
    return SequenceProxy(node, tracer) if is_sequence else ModelProxy(node, tracer)


def make_attribute(proxy: fx.Proxy, name: str) -> ModelAttribute:
    """Return the proxy of an attribute of a proxy's value."""
    return SequenceAttribute(proxy, name) if name == "shape" else ModelAttribute(proxy, name)


PROXIES = (ModelProxy, ModelAttribute, SequenceProxy, SequenceAttribute)
"""The classes of proxies, to be compared with `type(value)`: `isinstance` would use the type of the value."""

_SHAPE_ATTRIBUTES = {"shape", "ndim", "size", "dim", "numel", "nelement", "ndimension"}
"""Attributes of a parameter or buffer that do not depend on its values."""
_RETURNING_SEQUENCES = {"chunk", "split", "unbind", "tensor_split", "topk"}
_READING_CLASS = {"MATCH_CLASS", "LOAD_ATTR", "LOAD_METHOD"}
_ACCESSING_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"}
_MAY_BE_NONE = {"grad", "grad_fn", "names"}
"""Attributes of tensors that may be None."""


def current_opcode(frame: FrameType) -> str:
    """Return the name of the instruction that a frame executes, such as ``LOAD_ATTR``."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


@functools.lru_cache(maxsize=4096)
def compares_by_identity(code: CodeType) -> bool:
    """Return whether a function compares by `is`, other than with None."""
    previous = None
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IS_OP" and previous is not None:
            return True
        previous = instruction.argval
    return False


def resolve_type(proxy: Any) -> type:
    """Return the type of the value that a proxy represents.

    If it is unknown, record a hazard and return the proxy's own type.
    """
    tracer = proxy.tracer
    kind: type | None = tracer.infer_type(proxy)
    if kind is None:
        what = (
            f"forward checks the type of {proxy.node.name}; it is not known while tracing, and the graph holds one "
            "branch"
        )
        tracer.note_hazard("isinstance", what, KEEP_WHOLE)
        return type(proxy)
    return kind


def find_proxy(arguments: Any) -> fx.Proxy | None:
    """Return a proxy in the arguments of a call, in nested containers too; None if there is none."""
    proxies: list[fx.Proxy] = []

    def collect(item: Any) -> Any:
        if type(item) in PROXIES:
            proxies.append(item)
        return item

    fx.node.map_aggregate(arguments, collect)
    return proxies[0] if proxies else None

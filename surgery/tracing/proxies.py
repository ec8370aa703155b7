"""The stand-ins for values while a model is traced, and what a model may ask about them."""

from __future__ import annotations

import copy
import dis
import functools
import sys
from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.graph import InPlaceProxy, find_user_line, is_user_file

if TYPE_CHECKING:
    import types
    from collections.abc import Collection, Iterator, Mapping

_WHOLE = "keep the module around it whole with leaves=[...]"


class ModelProxy(InPlaceProxy):
    """A proxy that answers as the tensor that it stands for, where it is known to be one."""

    __array_ufunc__ = None  # so that numpy's numbers leave an operator to us, as they do to a tensor

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        frame = sys._getframe(1)  # noqa: SLF001
        # Not where C code asks: it would take this for the memory of a tensor.
        if not is_user_file(frame.f_code.co_filename) or _instruction(frame) not in _ASKING:
            return type(self)
        return known_or_noted(self)

    def __getattr__(self, name: str) -> Any:
        if name in _SHAPES and (tensor := self.tracer.tensor_of(self)) is not None:  # type: ignore[attr-defined]
            return getattr(tensor, name)
        frame = sys._getframe(1)  # noqa: SLF001
        if not is_user_file(frame.f_code.co_filename):
            return ModelAttribute(self, name)
        if _instruction(frame) not in _ATTRIBUTES:  # hasattr(x, name), or getattr
            tracer: Any = self.tracer
            given = tracer.type_of(self)
            if given is not None and not hasattr(given, name) and name not in tracer.attributes:
                raise AttributeError(f"{given.__name__!r} object has no attribute {name!r}")
            if given is None:
                tracer.note(
                    "isinstance",
                    f"{self.node.name}, of a type not known while tracing, is asked for an "
                    f"attribute {name!r}, and one branch is taken",
                    _WHOLE,
                )
        elif name not in _NEVER_COMPARED and _compared_by_identity(frame.f_code, frame.f_lasti):
            tracer = self.tracer
            what = f"`is` compares the {name} of a value, which is not known while tracing, and one branch is taken"
            tracer.note("identity", what, "compare with ==")
        return ModelAttribute(self, name)

    def __copy__(self) -> Any:
        return self.tracer.create_proxy("call_function", copy.copy, (self,), {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.tracer.create_proxy("call_function", copy.deepcopy, (self,), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("tracer", "node"):
            self.tracer.attributes.add(name)  # type: ignore[attr-defined]
        super().__setattr__(name, value)

    def __hash__(self) -> int:
        tracer: Any = self.tracer
        if is_user_file(sys._getframe(1).f_code.co_filename) and tracer.type_of(self) is not Tensor:  # noqa: SLF001
            what = "a value that is not known while tracing is looked for in a table or set, and not found there"
            tracer.note("identity", what, _WHOLE)
        return id(self)

    def __repr__(self) -> str:
        text = super().__repr__()
        if place := find_user_line(sys._getframe(1)):  # noqa: SLF001
            self.tracer.texts.setdefault(text, place)  # type: ignore[attr-defined]
        return text


class ModelAttribute(fx.proxy.Attribute, ModelProxy):
    """An attribute of a proxy, or a method that is about to be called."""

    def __init__(self, root: fx.Proxy, attr: str) -> None:
        for name, value in (("root", root), ("attr", attr), ("tracer", root.tracer), ("_node", None)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_node":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


PROXIES = (ModelProxy, ModelAttribute)


def known_or_noted(proxy: Any) -> type:
    """The type of what a proxy stands for. Where that is not known, a hazard is noted, and it is a proxy."""
    tracer = proxy.tracer
    found: type | None = tracer.type_of(proxy)
    if found is None:
        what = f"the type of {proxy.node.name}, not known while tracing, is asked for, and one branch is taken"
        tracer.note("isinstance", what, _WHOLE)
        return type(proxy)
    return found


def type_of(proxy: fx.Proxy, root: nn.Module, inputs: Mapping[str, type], factories: Collection[Any]) -> type | None:
    """What a proxy stands for, where that is known. `inputs` are the types that the example gave."""
    if isinstance(proxy, ModelAttribute):
        of_tensor = type_of(proxy.root, root, inputs, factories)
        return _ATTRIBUTE_TYPES.get(proxy.attr) if of_tensor is Tensor else None
    return _type_of_node(proxy.node, root, inputs, factories)


def _type_of_node(
    node: fx.Node, root: nn.Module, inputs: Mapping[str, type], factories: Collection[Any]
) -> type | None:
    """The type of what a node gives, where that is known."""

    def known(argument: fx.Node) -> type | None:
        return _type_of_node(argument, root, inputs, factories)

    if node.op == "placeholder":
        return inputs.get(node.name, Tensor)
    if node.op == "get_attr" or node.target in factories:
        return Tensor
    if node.op == "call_module":
        return _type_of_modules(root.get_submodule(str(node.target)))
    first = node.args[0] if node.args else None
    if node.target in (getattr, getitem) and isinstance(first, fx.Node):
        return _type_of_part(known(first), node.args[1])
    return _type_of_call(node, [known(argument) for argument in node.all_input_nodes])


def _type_of_modules(module: nn.Module) -> type | None:
    several = isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) or getattr(module, "return_indices", False)
    return Tensor if type(module).__module__.startswith("torch.nn") and not several else None


def _type_of_part(whole: type | None, part: Any) -> type | None:
    """Of an attribute by its name, or an item by its index."""
    if whole is torch.Size and isinstance(part, int):
        return int
    if whole is not Tensor:
        return None
    return _ATTRIBUTE_TYPES.get(part) if isinstance(part, str) else Tensor


def _type_of_call(node: fx.Node, given: list[type | None]) -> type | None:
    method = node.op == "call_method"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if method and name in _INTEGERS:
        return torch.Size if name == "size" and len(node.args) + len(node.kwargs) == 1 else int
    home = "torch" if method else getattr(node.target, "__module__", None) or "torch"
    known = name.strip("_") not in _NOT_ONE_TENSOR and home.partition(".")[0] in _KNOWN_HOMES
    return Tensor if known and Tensor in given else None


_ATTRIBUTE_TYPES: dict[str, type] = {
    "shape": torch.Size,
    "dtype": torch.dtype,
    "device": torch.device,
    "layout": torch.layout,
    **dict.fromkeys(("ndim", "itemsize", "nbytes"), int),
    **dict.fromkeys(("requires_grad", "is_cuda", "is_sparse", "is_quantized", "is_leaf", "is_meta", "is_nested"), bool),
    **dict.fromkeys(("T", "H", "mT", "mH", "data", "real", "imag"), Tensor),
}
_INTEGERS = {"size", "dim", "ndimension", "numel", "nelement", "get_device", "element_size"}
_NOT_ONE_TENSOR = {
    *("split", "chunk", "unbind", "topk", "sort", "max", "min", "median", "mode", "kthvalue", "cummax", "cummin"),
    *("aminmax", "svd", "qr", "eigh", "eig", "slogdet", "lu", "getitem", "getattr", "size", "dim", "ndimension"),
    *("numel", "stride", "item", "tolist", "unique", "meshgrid", "broadcast_tensors", "tensor_split", "hsplit"),
    *("vsplit", "dsplit", "nonzero", "frexp", "std_mean", "var_mean", "is_floating_point", "is_complex", "data_ptr"),
    *("type", "multi_head_attention_forward", "gradient", "histogram", "histogramdd", "lu_factor", "inv_ex", "lstsq"),
    *("unsafe_split", "unsafe_chunk", "split_with_sizes", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag"),
    *("is_contiguous", "is_nonzero", "is_signed", "is_set_to", "is_same_size", "equal", "allclose", "is_inference"),
    *("is_conj", "is_neg", "element_size", "nelement", "storage_offset", "get_device", "numpy", "result_type"),
    *("can_cast", "is_grad_enabled", "unique_consecutive", "cdist_forward", "triangular_solve", "geqrf", "linalg_svd"),
}
"""Names of functions and methods that give several tensors, or none, or may do so."""

_KNOWN_HOMES = {"torch", "_operator", "surgery", "einops", "copy"}
"""Packages whose functions give a tensor for a tensor."""
_SHAPES = {"shape", "ndim", "size", "dim", "numel", "nelement", "ndimension"}
"""What is asked about a parameter or buffer and is the same whatever its values are."""
_ASKING = {"MATCH_CLASS", "LOAD_ATTR", "LOAD_METHOD"}
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR"}
_NEVER_COMPARED = {"shape"}
_PUSHING = {"LOAD_GLOBAL", "LOAD_FAST", "LOAD_CONST", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST_BORROW", "LOAD_SMALL_INT"}
_NOTHING = {"PRECALL", "CACHE", "NOP", "RESUME", "NOT_TAKEN", "EXTENDED_ARG"}
_NONE = {f"POP_JUMP_{way}IF_{word}" for way in ("", "FORWARD_", "BACKWARD_") for word in ("NONE", "NOT_NONE")}
_MAY_BE_NONE = {"grad", "grad_fn", "names"}


def _instruction(frame: types.FrameType) -> str:
    """What a frame is about to do."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


@functools.lru_cache(maxsize=4096)
def _compared_by_identity(code: types.CodeType, last: int) -> bool:
    """Whether what an instruction loads is compared by `is`, at once or by the name that it gets, but not with None."""
    instructions = [found for found in dis.get_instructions(code) if found.opname not in _NOTHING]
    place = next(n for n, found in enumerate(instructions) if found.offset >= last)
    name = str(instructions[place].argval)
    use, end = _use(instructions, place)
    uses = [use]
    if use == "STORE_FAST":
        stored = instructions[end].argval
        loads = [n for n, i in enumerate(instructions) if i.opname.startswith("LOAD_FAST") and i.argval == stored]
        uses = [_use(instructions, n)[0] for n in loads]
    return "IS_OP" in uses or (name in _MAY_BE_NONE and "IS NONE" in uses)


def _use(instructions: list[dis.Instruction], place: int) -> tuple[str, int]:
    """What takes the value that an instruction loads, as far as it can be seen in a straight line."""
    above = 0
    none = place > 0 and instructions[place - 1].argval is None and instructions[place - 1].opname == "LOAD_CONST"
    for number in range(place + 1, len(instructions)):
        found = instructions[number]
        if found.opname in _PUSHING:
            above += 1
            none = found.opname == "LOAD_CONST" and found.argval is None
        elif found.opname == "LOAD_ATTR" and above:
            none = False
        elif found.opname == "IS_OP" and above <= 1:
            return "IS NONE" if none else "IS_OP", number
        elif found.opname in _NONE and not above:
            return "IS NONE", number
        elif found.opname == "STORE_FAST" and not above:
            return "STORE_FAST", number
        else:
            break
    return "", place


def texts_in(value: Any) -> Iterator[str]:
    """The strings in the arguments of a node, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts_in(key)
            yield from texts_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from texts_in(item)

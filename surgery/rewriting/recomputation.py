"""Which values a part of a graph computes itself, instead of taking them as inputs."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING

from torch import fx

from surgery.graph import computes_nothing, contexts, target_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from surgery.graph import SharedMemory
    from surgery.rewriting.places import Places

_BLOCKS = (contexts.enter_grad, contexts.enter_inference, contexts.enter_autocast)
_MEASURES = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "get_device"),
    *("is_floating_point", "is_complex", "is_contiguous", "sym_size", "sym_numel", "sym_stride", "sym_storage_offset"),
}
"""Functions and methods that tell something about a tensor other than its values."""
_MEASURING_ATTRIBUTES = {"shape", "ndim", "dtype", "device", "layout", "is_cuda"}
_RESHAPING = {"t", "transpose", "swapaxes", "swapdims", "squeeze", "unsqueeze", "resize", "resize_as", "as_strided"}
"""Functions that change the shape of a tensor itself when they work in place."""
_COPYING = {"reshape", "flatten", "ravel", "contiguous", "to", "float", "double", "reshape_as"}
"""Functions and methods that return a view, or a copy if there can't be one."""
_VALUE_READERS = {"item", "tolist", "numpy"}
_PYTHON = ("builtins", "_operator", "math", "surgery.graph.inplace")
"""Modules whose functions compute numbers from numbers."""


def is_measure(node: fx.Node) -> bool:
    """Whether a value is no tensor, and follows from the shapes, dtypes and devices of tensors: ``x.shape[0] // 2``."""
    if not node.op.startswith("call_") or node.op == "call_module":
        return False
    if node.target is getattr:
        return node.args[1] in _MEASURING_ATTRIBUTES
    if target_name(node) in _MEASURES:
        return True
    home = getattr(node.target, "__module__", None)
    return home in _PYTHON and bool(node.all_input_nodes) and all(map(is_measure, node.all_input_nodes))


def reads_values(node: fx.Node) -> bool:
    """Whether a node computes a Python number from the values of a tensor."""
    return node.op.startswith("call_") and target_name(node) in _VALUE_READERS


def changes_shape(node: fx.Node) -> bool:
    """Whether a node may change the shape of a tensor in place: ``x.unsqueeze_(0)``, ``x.data = y``."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    is_in_place = name.partition(".")[0].endswith("_")
    return (is_in_place and target_name(node) in _RESHAPING) or name in ("set_attribute", "set_")


def is_view(node: fx.Node, memory: SharedMemory) -> bool:
    """Whether a node calls a function or method that returns a view, or may return one, and writes to nothing."""
    is_function = node.op in ("call_function", "call_method") and target_name(node) != "dropout"
    return is_function and bool(memory.parents(node)) and not memory.written_by(node)


def may_copy(node: fx.Node) -> bool:
    """Whether what a node returns may be a copy instead of a view."""
    return target_name(node) in _COPYING


def is_recomputed(node: fx.Node, places: Places) -> bool:
    """Whether a part computes a value itself that it needs from before the part: a size, a part of a tuple, a holder.

    The beginning of a block such as ``with torch.no_grad():`` is repeated too.
    """
    if node.op in ("placeholder", "get_attr"):
        return False
    is_part = node.target is getitem and node not in places.of_node
    return is_measure(node) or is_part or node.target in _BLOCKS or computes_nothing(node.target)


def open_blocks(nodes: Iterable[fx.Node]) -> Iterator[fx.Node]:
    """Yield the nodes that begin a block which does not end among `nodes`."""
    known = set(nodes)
    return (node for node in nodes if node.target in _BLOCKS and not known.intersection(node.users))

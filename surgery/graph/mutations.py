"""Which values a node of a graph writes to in place."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.graph import inplace

if TYPE_CHECKING:
    from collections.abc import Iterator

_VIEWS = {
    *("view", "reshape", "flatten", "unflatten", "ravel", "detach", "t", "transpose", "permute", "movedim", "moveaxis"),
    *("swapaxes", "swapdims", "select", "narrow", "diagonal", "expand", "expand_as", "view_as", "squeeze", "unsqueeze"),
    *("unbind", "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "unfold", "as_strided", "contiguous"),
    *("to", "float", "double", "view_as_real", "view_as_complex", "conj", "positive", "split_with_sizes", "index"),
    *("iadd", "isub", "imul", "itruediv"),
}
"""Functions and methods whose result is, or may be, a view of their first argument."""
_VIEW_ATTRIBUTES = {"data", "T", "mT", "H", "mH", "real", "imag"}


def mutated_nodes(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    """Yield the nodes whose values `node` writes to, and the nodes that these values are views of.

    `root` is the module that has the submodules of the graph.
    """
    for target in _direct_targets(node, root):
        base: fx.Node | None = target
        while base is not None:
            yield base
            base = _view_base(base)


def _direct_targets(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    first = node.args[0] if node.args else None
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if getattr(module, "inplace", False) and isinstance(first, fx.Node):
            yield first
        return
    out = node.kwargs.get("out")
    yield from (target for target in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(target, fx.Node))
    name = _called_name(node)
    in_place = name.endswith("_") and not name.endswith("__")
    assignment = node.target in inplace.AUGMENTED_ASSIGNMENTS or node.target in (inplace.setitem, inplace.set_attribute)
    if isinstance(first, fx.Node) and (in_place or assignment or node.kwargs.get("inplace") is True):
        yield first


def _view_base(node: fx.Node) -> fx.Node | None:
    """Return the node that `node` is, or may be, a view of."""
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node) or node.op not in ("call_method", "call_function"):
        return None
    if node.target is getattr:
        return first if node.args[1] in _VIEW_ATTRIBUTES else None
    if node.target is getitem:
        key = node.args[1]
        by_tensor = any(isinstance(part, (fx.Node, list)) for part in (key if isinstance(key, tuple) else (key,)))
        return None if by_tensor else first  # indexing with a tensor or a list copies
    name = _called_name(node)
    return first if name in _VIEWS or (name.endswith("_") and name != "requires_grad_") else None


def _called_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")

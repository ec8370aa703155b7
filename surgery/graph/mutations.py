"""Which values a node of a graph writes to in place."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.graph import inplace

if TYPE_CHECKING:
    from collections.abc import Iterator


def mutated_nodes(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    """The values that a node writes to, and those that they are views of."""
    for written in _directly_mutated(node, root):
        found: fx.Node | None = written
        while found is not None:
            yield found
            found = _viewed_node(found)


def _directly_mutated(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    first = node.args[0] if node.args else None
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if getattr(module, "inplace", False) and isinstance(first, fx.Node):
            yield first
        return
    out = node.kwargs.get("out")
    yield from (target for target in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(target, fx.Node))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    augmented = node.target in inplace.AUGMENTED_ASSIGNMENTS or node.target in (inplace.setitem, inplace.set_attribute)
    if isinstance(first, fx.Node) and (in_place or augmented or node.kwargs.get("inplace") is True):
        yield first


def _viewed_node(node: fx.Node) -> fx.Node | None:
    """What a node is a view of, or may be."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node) or node.op not in ("call_method", "call_function"):
        return None
    if node.target is getattr:
        return first if node.args[1] in ("data", "T", "mT", "H", "mH", "real", "imag") else None
    if node.target is getitem:
        key = node.args[1]
        by_tensor = any(isinstance(part, (fx.Node, list)) for part in (key if isinstance(key, tuple) else (key,)))
        return None if by_tensor else first  # what is picked out by a tensor is a copy
    return first if name in _VIEWS or (name.endswith("_") and name != "requires_grad_") else None


_VIEWS = {
    *("view", "reshape", "flatten", "unflatten", "ravel", "detach", "t", "transpose", "permute", "movedim", "moveaxis"),
    *("swapaxes", "swapdims", "select", "narrow", "diagonal", "expand", "expand_as", "view_as", "squeeze", "unsqueeze"),
    *("unbind", "split", "chunk", "tensor_split", "hsplit", "vsplit", "dsplit", "unfold", "as_strided", "contiguous"),
    *("to", "float", "double", "view_as_real", "view_as_complex", "conj", "positive", "split_with_sizes", "index"),
    *("iadd", "isub", "imul", "itruediv"),
}

"""Which values a node of a graph writes to in place."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
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
_WRITING_ASSIGNMENTS = {*inplace.AUGMENTED_ASSIGNMENTS} - {inplace.imatmul}
"""Without ``x @= y``, for which a tensor makes another one."""
_VIEW_ATTRIBUTES = {"data", "T", "mT", "H", "mH", "real", "imag"}


def mutated_nodes(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    """Yield the nodes whose values `node` writes to, and the nodes that these values are views of.

    `root` is the module that has the submodules of the graph.
    """
    for target in written_nodes(node, root):
        base: fx.Node | None = target
        while base is not None:
            yield base
            base = view_base(base)


def written_nodes(node: fx.Node, root: nn.Module) -> Iterator[fx.Node]:
    """Yield the nodes whose values `node` writes to, without those that they are views of."""
    first = node.args[0] if node.args else None
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        if getattr(module, "inplace", False) and isinstance(first, fx.Node):
            yield first
        return
    if isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001
        yield from (value for argument, value in _schema_arguments(node) if argument.is_write)
        return
    out = node.kwargs.get("out")
    yield from (target for target in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(target, fx.Node))
    name = called_name(node)
    in_place = name.endswith("_") and not name.endswith("__")
    assignment = node.target in _WRITING_ASSIGNMENTS or node.target in (inplace.setitem, inplace.set_attribute)
    if isinstance(first, fx.Node) and (in_place or assignment or node.kwargs.get("inplace") is True):
        yield first


def view_base(node: fx.Node) -> fx.Node | None:
    """Return the node that `node` is, or may be, a view of."""
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node) or node.op not in ("call_method", "call_function"):
        return None
    if isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001
        return next((value for _, value in _schema_arguments(node)), None)
    if node.target is getattr:
        return first if node.args[1] in _VIEW_ATTRIBUTES else None
    if node.target is getitem:
        key = node.args[1]
        by_tensor = any(isinstance(part, (fx.Node, list)) for part in (key if isinstance(key, tuple) else (key,)))
        return None if by_tensor else first  # indexing with a tensor or a list copies
    name = called_name(node)
    return first if name in _VIEWS or (name.endswith("_") and name != "requires_grad_") else None


def called_name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls; an empty text for a module and an input."""
    if node.op not in ("call_function", "call_method"):
        return ""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _schema_arguments(node: fx.Node) -> Iterator[tuple[Any, fx.Node]]:
    """Yield each argument of an operator that it writes to or returns, or a view of which it returns."""
    for position, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]  # noqa: SLF001
        value = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
        if argument.alias_info is not None and isinstance(value, fx.Node):
            yield argument.alias_info, value

"""The kinds of operations: what a node calls, in lower case, the same for a function, a method and an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.graph import inplace

if TYPE_CHECKING:
    from torch import fx

OPERATORS = (torch._ops.OpOverload, torch._ops.HigherOrderOperator)  # noqa: SLF001
"""The classes of what the nodes of an exported graph call: ``torch.ops.aten.relu_.default``."""


def target_name(node: fx.Node) -> str:
    """Return the name of a called function or method: ``add`` for ``add_``, ``+=``, ``torch.add`` and ``aten.add_``."""
    if node.target in inplace.AUGMENTED_ASSIGNMENTS:
        return node.target.__name__.removeprefix("i")
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", type(node.target).__name__)
    if isinstance(node.target, OPERATORS):
        name = name.partition(".")[0]  # without the overload
    return name.strip("_").lower() or "call"


def exported_kind(node: fx.Node) -> str:
    """Return the kind of the call that a node of an exported graph belongs to.

    `torch.export` notes for each node the function that the model called, such as ``function.interpolate`` where the
    node calls ``aten.upsample_nearest2d``. It has one name for ``x / y`` and ``x.div(y)``, which is read as the
    operator.
    """
    function = torch_function(node)
    if function is None:
        return target_name(node)
    return _KINDS_OF_OPERATORS.get(function, function.rpartition(".")[2].strip("_").lower()) or "call"


def torch_function(node: fx.Node) -> str | None:
    """Return the function of torch that a node of an exported graph comes from: ``method_descriptor.add_``.

    Returns None if `torch.export` has noted none, or if the model called the operator of the node itself.
    """
    function = node.meta.get("torch_fn", (None, None))[1]
    if not isinstance(function, str) or function.startswith("OpOverload."):
        return None
    return None if isinstance(node.target, torch._ops.HigherOrderOperator) else function  # noqa: SLF001


_KINDS_OF_OPERATORS = {
    "method_descriptor.div": "truediv",
    "method_descriptor.div_": "truediv",
    "method_descriptor.remainder": "mod",
    "method_descriptor.remainder_": "mod",
    "function.__rdiv__": "truediv",
    **{f"function.__r{name}__": name for name in ("sub", "floordiv", "mod", "pow", "matmul", "lshift", "rshift")},
}

"""Graphs that `torch.export` has made: the nodes of one call, the value of the call, its shapes and its line.

Such a graph calls no modules, but the operators inside them, and several operators for one function of torch. All nodes
of a call of a leaf module, or else of a function, are one operation, as `surgery.trace` records it. The value of the
operation is what leaves these nodes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from operator import getitem
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from surgery.errors import ModelError
from surgery.graph.kinds import OPERATORS, exported_kind, target_name, torch_function
from surgery.graph.source_lines import is_user_file
from surgery.graph.tensors import tensor_specs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from surgery.types import TensorSpec

_FRAME = re.compile(r'^ *File "(.+)", line (\d+)', re.MULTILINE)
_NUMBERS = (int, float, torch.SymInt, torch.SymFloat, torch.SymBool)


def is_export(module: nn.Module) -> bool:
    """Whether a module is a graph of `torch.export`. It has the parameters of the model, and calls no modules."""
    return isinstance(module, fx.GraphModule) and any(map(is_exported, module.graph.nodes))


def is_exported(node: fx.Node) -> bool:
    """Whether `torch.export` has made a node."""
    return isinstance(node.target, OPERATORS) or "torch_fn" in node.meta


def computes_no_tensor(node: fx.Node) -> bool:
    """Whether a node of an exported graph computes a number, such as a size, or only checks something."""
    schema = getattr(node.target, "_schema", None)
    return isinstance(node.meta.get("val"), _NUMBERS) or (schema is not None and not schema.returns)


def leaf_call(node: fx.Node) -> tuple[str, str, str] | None:
    """Return the outermost call of a leaf module that a node belongs to: its key, the module's path, and its class.

    By the rule of torch.fx, the modules of `torch.nn` are leaves, except `nn.Sequential` and the model itself.
    """
    for key, (path, module_class) in node.meta.get("nn_module_stack", {}).items():
        name = module_class if isinstance(module_class, str) else f"{module_class.__module__}.{module_class.__name__}"
        if path and name.startswith(("torch.nn.", "torch.ao.nn.")) and not name.endswith(".Sequential"):
            return key, path, name.rpartition(".")[2]
    return None


def call_key(node: fx.Node) -> object:
    """Return a value that is the same for two nodes in a row of an exported graph if they belong to the same call."""
    if leaf := leaf_call(node):
        return leaf
    source = _indexed(node)
    if source is not None:
        return call_key(source)
    return node.meta["torch_fn"] if torch_function(node) else node


def call_values(nodes: Sequence[fx.Node]) -> tuple[fx.Node, ...]:
    """Return the nodes of a call whose values are used outside of it; its last node if none is; none for ``x[0] = 1``.

    If the call is that of a function with several results, such as `chunk`, it is the node with all of them.
    """
    inside = set(nodes)
    if exported_kind(nodes[0]) == "setitem" and not leaf_call(nodes[0]):
        return ()
    leaving = [node for node in nodes if _is_used_outside(node, inside)] or nodes[-1:]
    return tuple(dict.fromkeys(_results(node) for node in leaving))


def _is_used_outside(node: fx.Node, inside: Collection[fx.Node]) -> bool:
    return any(user not in inside and not (is_exported(user) and computes_no_tensor(user)) for user in node.users)


def _results(node: fx.Node) -> fx.Node:
    """Return the node with all results of a function if `node` is one of them, else `node` itself.

    An operator that has more results than the function, as `native_layer_norm` has, does not count.
    """
    source = _indexed(node)
    if source is None:
        return node
    return source if target_name(source) == (torch_function(source) or "").rpartition(".")[2].strip("_") else node


def _indexed(node: fx.Node) -> fx.Node | None:
    """Return the node of the same call whose results a node indexes; None for any other node."""
    source = node.args[0] if node.target is getitem else None
    same_call = isinstance(source, fx.Node) and source.meta.get("torch_fn") == node.meta.get("torch_fn")
    return source if same_call and isinstance(source, fx.Node) else None


def node_tensors(node: fx.Node) -> tuple[TensorSpec, ...] | None:
    """Return the tensors in the value of a node of any graph; None if no example has run."""
    return node.meta["surgery_tensors"] if "surgery_tensors" in node.meta else value_tensors(node.meta.get("val"))


def value_tensors(value: Any) -> tuple[TensorSpec, ...] | None:
    """Return the tensors in a value that `torch.export` has noted, with the sizes of its example if it knows them."""
    specs = [] if value is None else [replace(spec, shape=_example_shape(spec.shape)) for spec in tensor_specs(value)]
    return None if value is None or any(None in spec.shape for spec in specs) else tuple(specs)


def _example_shape(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """Return a shape with the sizes of the example (None for an unknown one) for the symbols of dynamic axes."""
    hints: tuple[Any, ...] = tuple(size.node.hint if isinstance(size, torch.SymInt) else size for size in shape)
    return hints


def node_line(node: fx.Node) -> tuple[str, int] | None:
    """Return the file and line of the user's code that a node of any graph comes from, if it is known."""
    if "surgery_source" in node.meta:
        return node.meta["surgery_source"]  # type: ignore[no-any-return]
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    return next(((file, int(line)) for file, line in reversed(frames) if is_user_file(file)), None)


class InputCheck(nn.Module):
    """The check of inputs in an exported graph, with an error that says what the graph takes."""

    _is_impure = True

    def __init__(self, check: nn.Module) -> None:
        super().__init__()
        self.check = check

    def forward(self, *inputs: Any) -> None:
        if torch.compiler.is_compiling():  # the compiler reads the conditions
            self.check(*inputs)
            return
        try:
            self.check(*inputs)
        except AssertionError as error:
            condition = str(error).removeprefix("Guard failed: ")
            raise ModelError(
                f"this graph was exported for inputs with {condition}; for others, pass torch.export.export "
                "dynamic_shapes, such as Dim.AUTO"
            ) from None


def is_input_check(module: nn.Module) -> bool:
    """Whether a module is the check of inputs that `torch.export` adds to a graph (``_guards_fn``)."""
    return isinstance(module, InputCheck) or type(module).__name__ == "GuardsFn"


def explain_input_checks(owner: nn.Module) -> None:
    """Replace the check of inputs among the children of a module by an `InputCheck`."""
    for name, child in list(owner.named_children()):
        if type(child).__name__ == "GuardsFn":
            setattr(owner, name, InputCheck(child))

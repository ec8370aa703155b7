"""Converts the graph of a holder to a graph of the model in it: targets, names and constants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.graph import bitwise_equal, target_name
from surgery.tracing.tracer import HOLDER, without_holder

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.tracing.tracer import ModelTracer


def move_constants(tracer: ModelTracer, owner: nn.Module) -> None:
    """Register the tensors that tracing made constants as buffers of `owner`, under names that are free in it."""
    for node in tracer.graph.nodes:
        if node.op == "get_attr" and not str(node.target).startswith(f"{HOLDER}."):
            name = str(node.target)
            value = getattr(tracer.root, name)
            while hasattr(owner, name) and not _is_same_constant(owner, name, value):
                name += "_"
            owner.register_buffer(name, value, persistent=False)
            node.target = f"{HOLDER}.{name}"


def _is_same_constant(owner: nn.Module, name: str, value: Tensor) -> bool:
    """Return whether `owner` already has this constant under the name, from the graph of another mode."""
    buffer = owner._buffers.get(name)  # noqa: SLF001
    is_constant = name in owner._non_persistent_buffers_set and name.startswith("_tensor_constant")  # noqa: SLF001
    return is_constant and buffer is not None and bitwise_equal(buffer, value)


def retarget_graph(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph whose targets are paths in the model, and whose nodes are named after their paths."""
    result = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        stack = {
            without_holder(key): (without_holder(path), kind)
            for key, (path, kind) in node.meta.get("nn_module_stack", {}).items()
        }
        target = without_holder(str(node.target)) if node.op in ("call_module", "get_attr") else node.target
        copy = result.create_node(
            node.op,
            target,
            fx.map_arg(node.args, copies.__getitem__),
            fx.map_arg(node.kwargs, copies.__getitem__),
            _node_name(node, stack).replace(".", "_"),
            node.type if node.op != "output" else None,  # the annotation of the output is the holder's
        )
        copy.meta = {**node.meta, "nn_module_stack": stack}
        copies[node] = copy
    return result


def _node_name(node: fx.Node, stack: dict[str, tuple[str, object]]) -> str:
    """Return a module's path, or for a function its kind after the path of the module that calls it."""
    if node.op in ("call_module", "get_attr"):
        return without_holder(str(node.target))
    if not node.op.startswith("call_"):
        return node.name
    scope = next((path for path, _ in reversed(stack.values()) if path), "")
    return f"{scope}.{target_name(node)}" if scope else target_name(node)

"""Values that a model stores for its next run, such as tables of biases, or grids by image size.

They are in an attribute or a dict. A graph can't store them, and computes them in each run. The result is the same if a
stored value depends only on parameters, buffers and constants, and wrong if it depends on an earlier input.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import fx

from surgery.graph import inplace
from surgery.tracing.recording import record_graph
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn


def is_same_when_retraced(graph: fx.Graph, tracer: ModelTracer, holder: nn.Module, outside: Sequence[Any] = ()) -> bool:
    """Return whether another trace of the model, in its state after the first trace, gives the same graph.

    `graph` is that of the first trace, `holder` the module that was traced, and `tracer` a new one for the second.
    `outside` are containers outside its attributes that the model has written to. Stored values that are
    constant across runs are computed again in the second trace, as a graph does in each run.
    """
    kept = list(_find_kept_values(graph, holder, outside))

    def recompute_kept_values(_module: nn.Module, _inputs: Any) -> None:
        for container, key, node in kept:
            container[key] = _copy_node(node, tracer)

    handle = holder.get_submodule(HOLDER).register_forward_pre_hook(recompute_kept_values, prepend=True)
    try:
        again = record_graph(tracer, holder)
    except Exception:  # noqa: BLE001 - a model may raise anything on a value of an earlier run
        return False
    finally:
        handle.remove()
    return _list_steps(graph) == _list_steps(again)


def _find_kept_values(graph: fx.Graph, holder: nn.Module, outside: Sequence[Any]) -> Iterator[tuple[Any, Any, fx.Node]]:
    """Yield the constant values that a trace has stored: the container, the key or index in it, and the value's node.

    The search covers the attributes of all modules, and the items of lists and dicts among them.
    """
    attributes = [vars(module) for module in holder.modules()]
    nested = [value for names in attributes for value in names.values() if type(value) in (dict, list)]
    for container in (*attributes, *nested, *outside):
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            node = _node_of(value)
            if node is not None and node.graph is graph and _is_constant(node):
                yield container, key, node


def _node_of(value: Any) -> fx.Node | None:
    """Return the node of a proxy; None for any other value, and for an attribute that was never used.

    Such an attribute has no node yet; reading `node` would create one.
    """
    is_proxy = issubclass(type(value), fx.Proxy)
    return vars(value).get("node") or vars(value).get("_node") if is_proxy else None


def _copy_node(node: fx.Node, tracer: ModelTracer) -> fx.Proxy:
    """Record a node and the nodes of its arguments in another tracer."""
    copy_source: Callable[[fx.Node], Any] = partial(_copy_node, tracer=tracer)
    args, kwargs = fx.map_arg((node.args, node.kwargs), copy_source)
    return tracer.create_proxy(node.op, node.target, args, kwargs)


def _is_constant(node: fx.Node) -> bool:
    """Return whether a node's value is the same in each run if the parameters stay the same."""
    is_deterministic = node.op == "get_attr" or (
        node.op in ("call_function", "call_method") and _target_name(node) in _DETERMINISTIC
    )
    return is_deterministic and not _may_be_written(node) and all(map(_is_constant, node.all_input_nodes))


def _may_be_written(node: fx.Node) -> bool:
    """Return whether an operation writes to a value, or to something that may be a view of it."""
    views, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop().users:
            if _may_write(user):
                return True
            if user.op != "output" and _target_name(user) not in _GIVING_COPIES and user not in views:
                views.add(user)
                waiting.append(user)
    return False


def _may_write(node: fx.Node) -> bool:
    has_in_place_name = _target_name(node).endswith("_") and not _target_name(node).endswith("__")
    has_in_place_argument = bool(node.kwargs.get("inplace")) or "out" in node.kwargs
    return has_in_place_name or has_in_place_argument or node.op == "call_module" or node.target in _WRITING


def _target_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


_WRITING = {*inplace.AUGMENTED_ASSIGNMENTS, inplace.setitem, inplace.set_attribute}
_GIVING_COPIES = {
    *("add", "sub", "mul", "truediv", "div", "neg", "matmul", "exp", "sin", "cos", "cat", "stack", "softmax"),
    *("linear", "conv1d", "conv2d", "conv3d", "scaled_dot_product_attention", "einsum", "bmm", "embedding"),
}
"""Names of functions whose result is never a view of an argument."""
_DETERMINISTIC = {
    *("getitem", "reshape", "view", "permute", "transpose", "t", "flatten", "unsqueeze", "squeeze", "expand"),
    *("contiguous", "to", "float", "half", "add", "sub", "mul", "truediv", "div", "neg", "matmul", "exp"),
    *("sin", "cos", "cat", "stack", "arange", "zeros", "ones", "full", "eye", "linspace", "tensor"),
}
"""Names of functions and methods whose result depends on their arguments alone."""


def _list_steps(graph: fx.Graph) -> list[tuple[str, Any, str]]:
    """Return the steps of a graph, for a comparison with another graph.

    Constant values are not steps. They are written out where they are used, since two graphs may compute them at
    different places.
    """
    steps: list[tuple[str, Any, str]] = []
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        arguments = repr(fx.map_arg((node.args, node.kwargs), lambda source: names.get(source, "of the run before")))
        if _is_constant(node):
            names[node] = f"{node.op} {node.target} {arguments}"
        else:
            names[node] = f"step {len(steps)}"
            steps.append((node.op, node.target, arguments))
    return steps

"""What a model keeps from one run for the next, which a graph does not: whether that is only what it would compute."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from torch import fx

from surgery.graph import inplace
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import nn


def computes_the_same_again(
    graph: fx.Graph, tracer: ModelTracer, holder: nn.Module, outside: Sequence[Any] = ()
) -> bool:
    """Whether another tracing, of the model as the first has left it, gives the same graph.

    A value that depends on parameters, buffers and constants alone, such as a table of biases that is kept for the next
    run, is what it would be if it were computed again, as a graph does. `outside` are containers that are no attributes
    of the model and that it has written to.
    """
    kept = list(_kept(graph, holder, outside))

    def recall(_module: nn.Module, _inputs: Any) -> None:
        for container, key, node in kept:
            container[key] = _anew(node, tracer)

    handle = holder.get_submodule(HOLDER).register_forward_pre_hook(recall, prepend=True)
    try:
        again = tracer.run(holder)
    except Exception:  # noqa: BLE001 - whatever a model does with a value of the run before
        return False
    finally:
        handle.remove()
    return _spelled(graph) == _spelled(again)


def _kept(graph: fx.Graph, holder: nn.Module, outside: Sequence[Any]) -> Iterator[tuple[Any, Any, fx.Node]]:
    """The settled values in the attributes of modules, and in lists and dicts there: what holds it, where, and it."""
    held = [vars(module) for module in holder.modules()]
    within = [value for attributes in held for value in attributes.values() if type(value) in (dict, list)]
    for container in (*held, *within, *outside):
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            node = _node_of(value)
            if node is not None and node.graph is graph and _is_settled(node):
                yield container, key, node


def _node_of(value: Any) -> fx.Node | None:
    """The node of a proxy; one for an attribute that nobody has used has none, and would make it if it were asked."""
    proxy = issubclass(type(value), fx.Proxy)
    return vars(value).get("node") or vars(value).get("_node") if proxy else None


def _anew(node: fx.Node, tracer: ModelTracer) -> fx.Proxy:
    sources: Callable[[fx.Node], Any] = partial(_anew, tracer=tracer)
    args, kwargs = fx.map_arg((node.args, node.kwargs), sources)
    return tracer.create_proxy(node.op, node.target, args, kwargs)


def _is_settled(node: fx.Node) -> bool:
    """Whether a value is the same in each run, as long as nobody changes the parameters."""
    known = node.op == "get_attr" or (node.op in ("call_function", "call_method") and _name(node) in _SETTLING)
    return known and not _is_written(node) and all(map(_is_settled, node.all_input_nodes))


def _is_written(node: fx.Node) -> bool:
    """Whether something writes to a value or, for all that is known, to a view of it."""
    views, waiting = {node}, [node]
    while waiting:
        for user in waiting.pop().users:
            if _may_write(user):
                return True
            if user.op != "output" and _name(user) not in _COPYING and user not in views:
                views.add(user)
                waiting.append(user)
    return False


def _may_write(node: fx.Node) -> bool:
    named = _name(node).endswith("_") and not _name(node).endswith("__")
    asked = bool(node.kwargs.get("inplace")) or "out" in node.kwargs
    return named or asked or node.op == "call_module" or node.target in _WRITING


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


_WRITING = {*inplace.AUGMENTED_ASSIGNMENTS, inplace.setitem, inplace.set_attribute}
_COPYING = {"add", "sub", "mul", "truediv", "div", "neg", "matmul", "exp", "sin", "cos", "cat", "stack", "softmax"}
_COPYING |= {"linear", "conv1d", "conv2d", "conv3d", "scaled_dot_product_attention", "einsum", "bmm", "embedding"}
_SETTLING = {"getitem", "reshape", "view", "permute", "transpose", "t", "flatten", "unsqueeze", "squeeze", "expand"}
_SETTLING |= {"contiguous", "to", "float", "half", "add", "sub", "mul", "truediv", "div", "neg", "matmul", "exp"}
_SETTLING |= {"sin", "cos", "cat", "stack", "arange", "zeros", "ones", "full", "eye", "linspace", "tensor"}
"""Names of functions and methods whose value depends on their arguments alone."""


def _spelled(graph: fx.Graph) -> list[tuple[str, Any, str]]:
    """What a graph does, step by step; a settled value stands where it is used."""
    steps: list[tuple[str, Any, str]] = []
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        arguments = repr(fx.map_arg((node.args, node.kwargs), lambda source: names.get(source, "of the run before")))
        if _is_settled(node):
            names[node] = f"{node.op} {node.target} {arguments}"
        else:
            names[node] = f"step {len(steps)}"
            steps.append((node.op, node.target, arguments))
    return steps

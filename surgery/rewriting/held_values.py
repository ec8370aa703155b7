"""Inputs of a part that are held at what a run of the whole model gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.errors import ModelError, SurgeryError, TraceError, first_line
from surgery.graph import call_arguments, clone_inputs, input_names
from surgery.rewriting.parts import CROSSING

if TYPE_CHECKING:
    from surgery.rewriting.places import Place

_CONSTANTS = (bool, int, float, complex, str, type(None), torch.dtype, torch.device)


def run_reference(head: fx.GraphModule, reference: Any) -> tuple[Any, ...]:
    """Return what a part of a model computes for a reference: an input, a tuple of inputs, or a mapping by name.

    The reference is not written to. Raises ModelError unless it is what the model takes.
    """
    names = input_names(head)
    if isinstance(reference, Mapping):
        given = dict(reference)
    else:
        values = tuple(reference) if isinstance(reference, (tuple, list)) else (reference,)
        if len(values) != len(names):
            raise ModelError(f"the reference has {len(values)} inputs; the model takes {', '.join(names)}")
        given = dict(zip(names, values, strict=True))
    if set(given) != set(names):
        raise ModelError(f"the reference has inputs called {', '.join(given)}; the model takes {', '.join(names)}")
    arguments, keywords = call_arguments(head, clone_inputs(given))
    try:
        result: tuple[Any, ...] = head(*arguments, **keywords)  # with gradients or not, as the caller runs the model
    except SurgeryError:
        raise
    except Exception as error:
        raise ModelError(f"the model does not take the reference: {first_line(error)}") from error
    return result


class HeldValues:
    """Values that stand in the graphs of a part for some of its inputs, and the buffers that have their tensors."""

    def __init__(self, values: Mapping[Place, Any], home: str) -> None:
        """`home` is the path that `buffers` will have in the model."""
        self._values = values
        self._home = home
        self.buffers = nn.Module()

    def replace_inputs(self, graph: fx.Graph) -> None:
        """Replace inputs of a graph by their values. Raises TraceError for a value that a graph can't hold."""
        placeholders = graph.find_nodes(op="placeholder")
        for placeholder in placeholders:
            place = placeholder.meta.get(CROSSING)
            if place not in self._values:
                continue
            with graph.inserting_after(placeholders[-1]):
                value = self._as_argument(graph, self._values[place], placeholder.name, place)
            for user in list(placeholder.users):
                _replace(user, placeholder, value)
            graph.erase_node(placeholder)

    def _as_argument(self, graph: fx.Graph, value: Any, name: str, place: Place) -> Any:
        """Return a value as an argument of nodes, with its tensors as buffers."""
        if isinstance(value, Tensor):
            with torch.inference_mode(mode=False):
                self.buffers.register_buffer(name, value.detach().clone(), persistent=False)
            return graph.get_attr(f"{self._home}.{name}")
        if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
            items = [self._as_argument(graph, item, f"{name}_{number}", place) for number, item in enumerate(value)]
            return tuple(items) if isinstance(value, tuple) else items
        if type(value) is dict:
            return {key: self._as_argument(graph, item, f"{name}_{key}", place) for key, item in value.items()}
        if isinstance(value, _CONSTANTS):
            return value
        raise TraceError(
            f"the value of {place.path} is a {type(value).__name__}, which a graph can't hold; leave out reference="
        )


def _replace(user: fx.Node, placeholder: fx.Node, value: Any) -> None:
    def replacement(node: fx.Node) -> Any:
        return value if node is placeholder else node

    user.args = fx.map_arg(user.args, replacement)
    user.kwargs = fx.map_arg(user.kwargs, replacement)

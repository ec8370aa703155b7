"""Runs of a rewritten model that tell of each call: of a graph node by node, and of an observed model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, singledispatch
from typing import Any, NamedTuple

from torch import fx

from surgery.eager import ObservedCall
from surgery.graph import GraphInterpreter, operation_nodes
from surgery.observing import CallListener, ObservedModel, listening_to_calls


class WatchedRun(NamedTuple):
    """How to run a model so that its calls are told."""

    run: Callable[[CallListener | None, tuple[Any, ...], dict[str, Any]], Any]
    """Takes positional and keyword arguments. The listener receives each call before an extractor has its value."""
    is_static: bool
    """Whether all runs on inputs of the same shapes call the same: those of a graph do, a model's own Python may not.
    """


@singledispatch
def find_watched_run(model: object) -> WatchedRun | None:  # noqa: ARG001
    """Return what runs a model and tells of its calls; None for a model that is compiled, no graph, or has hooks."""
    return None


@find_watched_run.register(ObservedModel)
def _(model: ObservedModel) -> WatchedRun:
    return WatchedRun(partial(_run_observed_model, model), is_static=False)


@find_watched_run.register(fx.GraphModule)
def _(model: fx.GraphModule) -> WatchedRun | None:
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks, model._backward_pre_hooks)  # noqa: SLF001
    is_plain = type(model.graph._codegen) is fx.graph.CodeGen  # noqa: SLF001
    return WatchedRun(partial(_run_graph, model), is_static=True) if is_plain and not any(hooks) else None


def _run_observed_model(
    model: ObservedModel, listener: CallListener | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with listening_to_calls(model, listener):
        return model(*args, **kwargs)


def _run_graph(
    model: fx.GraphModule, listener: CallListener | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    if listener is None:
        # forward, since calling the module prints the generated code and drops the traceback if the model raises.
        return model.forward(*args, **kwargs)
    bound = inspect.signature(model.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return _CallInterpreter(model, listener).run(*bound.args)


class _CallInterpreter(GraphInterpreter):
    """Runs a graph node by node, and tells of each operation as an observed call."""

    def __init__(self, module: fx.GraphModule, listener: CallListener) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors read as they do without a listener
        self._listener = listener
        self._operations = dict(operation_nodes(module))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._operations:
            operation, is_module = self._operations[n], n.op == "call_module"
            path = str(n.target) if is_module else operation.path
            call = ObservedCall(path, operation.kind, value, *self.fetch_args_kwargs_from_env(n), is_module)
            self._listener(operation.path, call)
        return value

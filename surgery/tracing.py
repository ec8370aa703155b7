"""From a model to a traced graph."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import fx, nn

from surgery import contexts
from surgery.bits import same_bits
from surgery.errors import TraceError, first_line
from surgery.graphs import assemble, same_graph
from surgery.hazards import KINDS, Hazard
from surgery.inputs import input_names, refuse_unready
from surgery.interpreter import NodeByNode
from surgery.nodes import called, specs
from surgery.reasons import explain
from surgery.sources import shown
from surgery.tracer import HOLDER, ModelTracer
from surgery.twins import in_its_mode, twin
from surgery.values import copied
from surgery.watching import watched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from surgery.graphs import Graphs

Leaves: TypeAlias = "Sequence[str | type[nn.Module]]"


def trace(
    model: nn.Module,
    example: Tensor | Sequence[Any] | None = None,
    *,
    leaves: Leaves = (),
    allow: Sequence[str] = (),
) -> fx.GraphModule:
    """`model` as a graph, which does in train and in eval mode what the model does.

    The graph module has the model's `state_dict` keys and shares its parameters until it is moved or converted; its
    buffers and modules are copies. So running it, changing its mode or moving it does not touch the model. Hooks of the
    model run as part of the graph.

    `example`, a tensor or the sequence of the model's positional inputs, is run once, without a trace in buffers or
    random numbers, to learn the shapes. Without it the inputs are the parameters of `forward` that have no default;
    all others keep their defaults.

    `leaves` are modules to be kept whole: classes, names of classes, or paths with the wildcards of a shell.

    Blocks such as ``no_grad`` and ``autocast``, tensors and random numbers that are made in forward, buffers that it
    writes and in-place operators are recorded, and run in the graph as in the model. What can't be, and may change
    what is computed, is an error that names the line, unless `allow` names its kind (`surgery.hazards`).

    Raises TraceError, naming the line that stands in the way.
    """
    model = unwrap(model)
    for kind in set(allow) - set(KINDS):
        raise TraceError(f"no hazard is called {kind!r}; there is {', '.join(KINDS)}")
    inputs = None if example is None else tuple(example) if isinstance(example, (tuple, list)) else (example,)
    names = input_names(inspect.signature(model.forward), inputs)
    types = {name: type(value) for name, value in zip(names, inputs or (), strict=False)}
    refuse_unready(model, names, inputs)
    owner = twin(model)

    def graph_of(one: nn.Module) -> tuple[fx.Graph, tuple[Hazard, ...]]:
        traced = _symbolic_graph(one, names, leaves, types)
        for hazard in traced.hazards:
            _refuse(model, hazard, allow)
        _take_constants(traced, owner)
        return _retarget(traced.graph), traced.hazards

    first, noticed = graph_of(model)
    graphs: Graphs = {None: first}
    modes = _modes(model)
    for mode in (model.training, not model.training):
        in_mode = in_its_mode(twin(model), mode)
        if _modes(in_mode) == modes:
            graphs[mode] = first
            graphs.pop(None, None)
            continue
        try:
            graph, more = graph_of(in_mode)
        except TraceError as error:
            words = {True: "train", False: "eval"}
            here = "mixed" if None in graphs else words[not mode]
            graphs[mode] = f"traced in {here} mode, and there is no {words[mode]} mode: {error}"
        else:
            graphs[mode] = first if same_graph(first, graph) else graph
            noticed = tuple(dict.fromkeys((*noticed, *more)))
    if any(graph is not first for graph in graphs.values()) and (hazard := _outside(first, graph_of(model)[0])):
        _refuse(model, hazard, allow)
        noticed = (*noticed, hazard)
    traced = assemble(owner, graphs)
    traced.hazards = noticed
    traced.modes = {mode: _kept(in_its_mode(twin(model), mode), mode) for mode in (True, False)}
    if inputs is not None:
        _learn_shapes(traced, inputs)
    return traced


def _modes(model: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in model.named_modules()}


def _kept(model: nn.Module, mode: bool) -> dict[str, bool]:
    """The modules that a model keeps in the other mode when it is put into one."""
    return {path: training for path, training in _modes(model).items() if training is not mode}


def _refuse(model: nn.Module, hazard: Hazard, allow: Sequence[str]) -> None:
    if hazard.changes and hazard.kind not in allow:
        raise TraceError(
            f"{type(model).__name__} would not be traced as it is: {hazard}; {hazard.remedy}, or accept it "
            f"with allow=[{hazard.kind!r}] (--allow {hazard.kind})"
        )


def _outside(graph: fx.Graph, again: fx.Graph) -> Hazard | None:
    """What follows where another tracing in the same mode, of a fresh copy of the model, gives another graph."""
    if same_graph(graph, again):
        return None
    for one, other in zip(graph.nodes, again.nodes, strict=False):
        if (one.op, one.target, str(one.args), str(one.kwargs)) != (
            other.op,
            other.target,
            str(other.args),
            str(other.kwargs),
        ):
            break
    place = one.meta.get("surgery_source")
    what = "forward computes something else each time it is called, by something outside the model"
    return Hazard("state", shown(place), what, "make it part of the model, or an input", changes=True)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of torch.compile, DataParallel and DistributedDataParallel.

    Raises TraceError for TorchScript, which has no Python to trace.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]  # noqa: SLF001
        elif isinstance(model, torch.jit.ScriptModule):
            raise TraceError("a TorchScript module can't be traced; trace the Python module that it was made from")
        elif not isinstance(model, nn.Module):
            raise TraceError(f"only an nn.Module can be traced, not {type(model).__name__}")
        else:
            return model


def _symbolic_graph(model: nn.Module, names: Sequence[str], leaves: Leaves, inputs: Mapping[str, type]) -> _Traced:
    """The graph of a holder of `model`, where targets and scopes begin with the holder's name for it.

    First everything is recorded: tensors that are made, buffers that are read and written. Code that needs their values
    while it is traced (a loop over a list of rates, say) is given them in a second and a third attempt.
    """
    for factories, buffers in ((True, True), (True, False), (False, False)):
        make_tracer = partial(ModelTracer, names, leaves, factories=factories, buffers=buffers, inputs=inputs)
        try:
            graph, tracer, holder = watched(make_tracer, partial(_holding, model))
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises
            failure = error
            continue
        for unused in set(leaves) - tracer.leaves_used:
            raise TraceError(f"{_leaf_name(unused)!r} is neither the path nor the class of a module that is called")
        return _Traced(graph, holder, tuple(dict.fromkeys(tracer.hazards)))
    raise TraceError(explain(model, failure)) from failure


def _holding(model: nn.Module) -> nn.Module:
    holder = nn.Module()
    setattr(holder, HOLDER, twin(model))
    holder.training = model.training
    return holder


@dataclass(frozen=True, slots=True)
class _Traced:
    graph: fx.Graph
    holder: nn.Module
    hazards: tuple[Hazard, ...]


def _is_constant(owner: nn.Module, name: str, value: Tensor) -> bool:
    """Whether a name stands for this very constant: the graph of the other mode has it too."""
    known = owner._buffers.get(name)  # noqa: SLF001
    is_ours = name in owner._non_persistent_buffers_set and name.startswith("_tensor_constant")  # noqa: SLF001
    return is_ours and known is not None and same_bits(known, value)


def _leaf_name(leaf: str | type[nn.Module]) -> str:
    return leaf if isinstance(leaf, str) else leaf.__name__


def _take_constants(traced: _Traced, owner: nn.Module) -> None:
    """Make the tensors that tracing made constants buffers of `owner`, under names that are free in it."""
    for node in traced.graph.nodes:
        if node.op == "get_attr" and not str(node.target).startswith(f"{HOLDER}."):
            value = getattr(traced.holder, str(node.target))
            name = str(node.target)
            while hasattr(owner, name) and not _is_constant(owner, name, value):
                name += "_"
            owner.register_buffer(name, value, persistent=False)
            node.target = f"{HOLDER}.{name}"


def _retarget(graph: fx.Graph) -> fx.Graph:
    """The graph of the model itself, its nodes named after their paths."""
    result = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        stack = {
            _inside(key): (_inside(path), kind) for key, (path, kind) in node.meta.get("nn_module_stack", {}).items()
        }
        scope = next((path for path, _ in reversed(stack.values()) if path), "")
        target = node.target
        name = node.name
        if node.op in ("call_module", "get_attr"):
            target = _inside(str(target))
            name = target
        elif node.op.startswith("call_"):
            kind = called(node)
            name = f"{scope}.{kind}" if scope else kind
        copy = result.create_node(
            node.op,
            target,
            fx.map_arg(node.args, copies.__getitem__),
            fx.map_arg(node.kwargs, copies.__getitem__),
            name.replace(".", "_"),
            None
            if node.op == "output"
            else node.type,  # what the output is said to be is the holder's, not the model's
        )
        copy.meta = {**node.meta, "nn_module_stack": stack}
        copies[node] = copy
    return result


def _inside(path: str) -> str:
    return path.removeprefix(HOLDER).removeprefix(".")


class _Shapes(NodeByNode):
    """Keeps, with each node, what tensors came out."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "output":
            n.meta["surgery_tensors"] = specs(value)
        return value


def _learn_shapes(traced: fx.GraphModule, inputs: tuple[Any, ...]) -> None:
    devices = {tensor.device for tensor in inputs if isinstance(tensor, torch.Tensor) and tensor.is_cuda}
    run = twin(traced)  # whose buffers, hooks and attributes may change
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices, key=str)), contexts.closing():
            _Shapes(run).run(*(copied(value) for value in inputs))
    except Exception as error:
        shown = ", ".join(str(tuple(spec.shape)) for spec in specs(inputs))
        raise TraceError(f"the example of shape {shown} does not run: {first_line(error)}") from error
    for node, ran in zip(traced.graph.nodes, run.graph.nodes, strict=True):
        if "surgery_tensors" in ran.meta:
            node.meta["surgery_tensors"] = ran.meta["surgery_tensors"]

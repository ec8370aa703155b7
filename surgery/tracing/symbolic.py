"""From a model to a traced graph."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import fx, nn

from surgery.eager import ExternalState, one_at_a_time
from surgery.errors import TraceError
from surgery.graph import (
    HAZARD_KINDS,
    Hazard,
    bitwise_equal,
    build_traced_module,
    copy_isolating_hooks,
    copy_sharing_parameters,
    format_location,
    is_same_graph,
    set_mode,
    target_name,
    tensor_specs,
)
from surgery.tracing.example_inputs import inputs_of, refuse_unready
from surgery.tracing.example_run import Comparison, ExampleError, learn_shapes
from surgery.tracing.explanations import clearest, explain
from surgery.tracing.parting import parting
from surgery.tracing.side_effects import watched
from surgery.tracing.torch_overrides import thread_as_it_was
from surgery.tracing.tracer import HOLDER, ModelTracer, is_leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from surgery.eager import Kept
    from surgery.graph import GraphsByMode, TracedModule
    from surgery.tracing.example_inputs import Inputs

Leaves: TypeAlias = "Sequence[str | type[nn.Module]]"


def trace(
    model: nn.Module,
    example: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    leaves: Leaves = (),
    allow: Sequence[str] = (),
) -> fx.GraphModule:
    """`model` as a graph, which does in train and in eval mode what the model does.

    The graph module has the model's `state_dict` keys and shares its parameters until it is moved or converted; its
    buffers and modules are copies. So running it, changing its mode or moving it does not touch the model. Hooks of the
    model run as part of the graph.

    `example` is a tensor, the sequence of the model's positional inputs, or a dict of its inputs by the names of
    `forward`'s parameters. The model and its graph both run on copies of it, once in each mode, without a trace in
    buffers or random numbers: a graph that does something else than the model is not returned, and its operations know
    their shapes. Flags, numbers and None in the example become part of the graph where it can't be traced otherwise.
    Without an example the inputs are the parameters of `forward` that have no default, and nothing is compared.

    `leaves` are modules to be kept whole: classes, names of classes, or paths with the wildcards of a shell.

    Blocks such as ``no_grad`` and ``autocast``, tensors and random numbers that are made in forward, buffers that it
    writes and in-place operators are recorded, and run in the graph as in the model. What can't be, and may change
    what is computed, is an error that names the line, unless `allow` names its kind (`surgery.graph.hazard_kinds`).

    Models may be traced in several threads; each waits for the one before. Other threads may run models meanwhile.

    Raises TraceError, naming the line that stands in the way.
    """
    with one_at_a_time(), thread_as_it_was(), torch.inference_mode(False):
        return _trace(unwrap(model), example, leaves, allow)


def _trace(model: nn.Module, example: Any, leaves: Leaves, allow: Sequence[str]) -> fx.GraphModule:
    for kind in set(allow) - set(HAZARD_KINDS):
        raise TraceError(f"no hazard is called {kind!r}; there is {', '.join(HAZARD_KINDS)}")
    inputs = inputs_of(model, example)
    refuse_unready(model)
    owner, outside = copy_sharing_parameters(model), ExternalState(model)

    kept: defaultdict[str, list[Tensor]] = defaultdict(list)

    def graph_of(one: nn.Module) -> tuple[fx.Graph, tuple[Hazard, ...]]:
        traced = _symbolic_graph(one, inputs, leaves, outside)
        for name, tensors in traced.kept.items():
            kept[name] += tensors
        for hazard in traced.hazards:
            _refuse(model, hazard, allow)
        _take_constants(traced, owner)
        return _retarget(traced.graph), traced.hazards

    graphs, noticed = _in_each_mode(model, graph_of, allow)
    traced = build_traced_module(owner, graphs)
    for part in ("_parameters", "_buffers", "_modules"):  # for hooks that have closed over the model
        setattr(owner, part, getattr(traced, part))
    traced.hazards = noticed
    traced.modes = {mode: _kept(set_mode(copy_sharing_parameters(model), mode), mode) for mode in (True, False)}
    if inputs.example is not None:
        traced.hazards = (*noticed, *_compare_runs(model, traced, inputs, allow, outside, kept))
    return traced


def _in_each_mode(
    model: nn.Module, graph_of: Callable[[nn.Module], tuple[fx.Graph, tuple[Hazard, ...]]], allow: Sequence[str]
) -> tuple[GraphsByMode, tuple[Hazard, ...]]:
    """The graph of the model as it is, in train and in eval mode, and what was noticed in all of them."""
    first, noticed = graph_of(model)
    graphs: GraphsByMode = {None: first}
    modes = _modes(model)
    for mode in (model.training, not model.training):
        in_mode = set_mode(copy_sharing_parameters(model), mode)
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
            graphs[mode] = first if is_same_graph(first, graph) else graph
            noticed = tuple(dict.fromkeys((*noticed, *more)))
    if any(graph is not first for graph in graphs.values()) and (hazard := _outside(first, graph_of(model)[0])):
        _refuse(model, hazard, allow)
        noticed = (*noticed, hazard)
    return graphs, noticed


def _compare_runs(
    model: nn.Module,
    traced: TracedModule,
    inputs: Inputs,
    allow: Sequence[str],
    outside: ExternalState,
    kept: Kept,
) -> tuple[Hazard, ...]:
    """Refuse a graph that does something else on the example than the model; what was allowed is returned.

    In a mode in which the model itself does not take the example (a batch norm in train mode wants more than one value
    a channel) nothing is compared, unless that is the mode it is in.
    """
    if any(hazard.changes_result for hazard in traced.hazards):  # it was allowed to be another
        learn_shapes(traced, inputs, outside)
        return ()
    found: list[Hazard] = []
    seen: set[int] = set()
    here = None if None in traced.graphs else model.training
    for mode in (here, *({True, False} - {here})):
        graph = traced.graphs[mode]
        if isinstance(graph, str):
            continue
        # A graph for both modes holds the same values in both: it runs again in one.
        comparison = Comparison(model, traced, inputs, mode, outside, kept, twice=id(graph) not in seen)
        try:
            parted = parting(comparison)
        except ExampleError as error:
            if mode == here:
                shapes = ", ".join(str(tuple(spec.shape)) for spec in tensor_specs(inputs.example))
                of_shape = f" of shape {shapes}" if shapes else ""
                raise TraceError(f"the example{of_shape} does not run: {error}") from error
            continue
        seen.add(id(graph))
        if parted is not None:
            hazard = Hazard(parted.kind, parted.source, parted.what, parted.remedy, changes_result=True)
            _refuse(model, hazard, allow)
            found.append(hazard)
    return tuple(dict.fromkeys(found))


def _modes(model: nn.Module) -> dict[str, bool]:
    return {path: module.training for path, module in model.named_modules()}


def _kept(model: nn.Module, mode: bool) -> dict[str, bool]:
    """The modules that a model keeps in the other mode when it is put into one."""
    return {path: training for path, training in _modes(model).items() if training is not mode}


def _refuse(model: nn.Module, hazard: Hazard, allow: Sequence[str]) -> None:
    if hazard.changes_result and hazard.kind not in allow:
        raise TraceError(
            f"{type(model).__name__} would not be traced as it is: {hazard}; {hazard.remedy}, or accept it "
            f"with allow=[{hazard.kind!r}] (--allow {hazard.kind})"
        )


def _outside(graph: fx.Graph, again: fx.Graph) -> Hazard | None:
    """What follows where another tracing in the same mode, of a fresh copy of the model, gives another graph."""
    if is_same_graph(graph, again):
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
    return Hazard("state", format_location(place), what, "make it part of the model, or an input", changes_result=True)


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


def _symbolic_graph(model: nn.Module, inputs: Inputs, leaves: Leaves, outside: ExternalState) -> _Traced:
    """The graph of a holder of `model`, where targets and scopes begin with the holder's name for it.

    First everything is recorded: tensors that are made, and flags and numbers among the inputs. Code that needs their
    values while it is traced (a loop over a list of rates, say) is given them in further attempts.
    """
    failures: list[tuple[int, Exception]] = []
    for factories, settings in _ATTEMPTS:
        if settings and not inputs.settings:
            continue
        make_tracer = partial(ModelTracer, inputs, leaves, factories=factories, settings=settings)
        tracer = make_tracer()
        try:
            graph, holder = watched(tracer, make_tracer, partial(_holding, model), outside)
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises
            failures.append((tracer.progress, error))
            continue
        _refuse_unused(model, leaves, tracer)
        return _Traced(graph, holder, tuple(dict.fromkeys(tracer.hazards)), tracer.kept)
    failure = clearest(failures)
    raise TraceError(explain(model, failure)) from failure


_ATTEMPTS = ((True, False), (True, True), (False, False), (False, True))
"""Whether tensors that are made are recorded, and whether settings are part of the graph."""


def _refuse_unused(model: nn.Module, leaves: Leaves, tracer: ModelTracer) -> None:
    """Raise TraceError for a leaf that is no module, or is not called. One inside another is kept with it."""
    modules = [(path, module) for path, module in model.named_modules() if path]
    whole = [path for path, module in modules if any(is_leaf(leaf, module, path) for leaf in tracer.leaves_used)]
    for leaf in set(leaves) - tracer.leaves_used:
        paths = [path for path, module in modules if is_leaf(leaf, module, path)]
        if not paths:
            raise TraceError(f"{_leaf_name(leaf)!r} is neither the path nor the class of a module of the model")
        if not any(path.startswith(f"{outer}.") for path in paths for outer in whole):
            raise TraceError(
                f"{_leaf_name(leaf)!r} can't be kept whole: forward does not call {paths[0]}; its attributes or other "
                "methods may be used: name the module around it"
            )


def _holding(model: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    holder = nn.Module()
    setattr(holder, HOLDER, copy_isolating_hooks(model, memo))
    holder.training = model.training
    return holder


@dataclass(frozen=True, slots=True)
class _Traced:
    graph: fx.Graph
    holder: nn.Module
    hazards: tuple[Hazard, ...]
    kept: Kept


def _is_constant(owner: nn.Module, name: str, value: Tensor) -> bool:
    """Whether a name stands for this very constant: the graph of the other mode has it too."""
    known = owner._buffers.get(name)  # noqa: SLF001
    is_ours = name in owner._non_persistent_buffers_set and name.startswith("_tensor_constant")  # noqa: SLF001
    return is_ours and known is not None and bitwise_equal(known, value)


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
            kind = target_name(node)
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

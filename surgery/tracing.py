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
from surgery.hazards import KINDS
from surgery.interpreter import NodeByNode
from surgery.nodes import called, specs
from surgery.sources import is_users, shown
from surgery.tracer import HOLDER, ModelTracer
from surgery.twins import twin
from surgery.values import copied
from surgery.watching import watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.graphs import Graphs
    from surgery.hazards import Hazard

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
    names = _input_names(inspect.signature(model.forward), inputs)
    owner = twin(model)

    def graph_of(training: bool) -> tuple[fx.Graph, tuple[Hazard, ...]]:
        traced = _symbolic_graph(model, training, names, leaves)
        for hazard in traced.hazards:
            if hazard.changes and hazard.kind not in allow:
                raise TraceError(
                    f"{type(model).__name__} would not be traced as it is: {hazard}; {hazard.remedy}, or accept it "
                    f"with allow=[{hazard.kind!r}] (--allow {hazard.kind})"
                )
        _take_constants(traced, owner)
        return _retarget(traced.graph), traced.hazards

    graph, noticed = graph_of(model.training)
    graphs: Graphs = {model.training: graph, not model.training: graph}
    try:
        other, more = graph_of(not model.training)
    except TraceError as error:
        modes = ("eval", "train") if model.training else ("train", "eval")
        graphs[not model.training] = f"traced in {modes[1]} mode, and there is no {modes[0]} mode: {error}"
    else:
        noticed = tuple(dict.fromkeys((*noticed, *more)))
        if not same_graph(graph, other):
            graphs[not model.training] = other
    traced = assemble(owner, graphs, hazards=noticed)
    if inputs is not None:
        _learn_shapes(traced, inputs)
    return traced


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


def _symbolic_graph(model: nn.Module, training: bool, names: Sequence[str], leaves: Leaves) -> _Traced:
    """The graph of a holder of `model`, where targets and scopes begin with the holder's name for it.

    First everything is recorded: tensors that are made, buffers that are read and written. Code that needs their values
    while it is traced (a loop over a list of rates, say) is given them in a second and a third attempt.
    """
    for factories, buffers in ((True, True), (True, False), (False, False)):
        holder = nn.Module()
        holder.training = training
        # Modules may be in different modes by themselves, which is the mode of none but the model as it came.
        setattr(holder, HOLDER, twin(model) if training == model.training else twin(model).train(training))
        make_tracer = partial(ModelTracer, names, leaves, factories=factories, buffers=buffers)
        try:
            graph, tracer = watched(make_tracer, holder)
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises
            failure = error
            continue
        for unused in set(leaves) - tracer.leaves_used:
            raise TraceError(f"{_leaf_name(unused)!r} is neither the path nor the class of a module that is called")
        return _Traced(graph, holder, tuple(dict.fromkeys(tracer.hazards)))
    raise TraceError(_explain(model, failure)) from failure


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


def _input_names(signature: inspect.Signature, inputs: tuple[Any, ...] | None) -> list[str]:
    """Names of the inputs: those that the example gives, or those that must be given."""
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    rest = next((name for name, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    if inputs is None:
        return [parameter.name for parameter in positional if parameter.default is parameter.empty]
    names = [parameter.name for parameter in positional[: len(inputs)]]
    extra = len(inputs) - len(names)
    if extra and rest is None:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward takes {len(names)}: {', '.join(names)}")
    missing = [p.name for p in positional[len(inputs) :] if p.default is p.empty]
    if missing:
        raise TraceError(f"the example has {len(inputs)} inputs, but forward also needs {', '.join(missing)}")
    return names + [f"{rest}_{number}" for number in range(extra)]


class _Shapes(NodeByNode):
    """Keeps, with each node that calls something, what tensors came out."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call_"):
            n.meta["surgery_tensors"] = specs(value)
        return value


def _learn_shapes(traced: fx.GraphModule, inputs: tuple[Any, ...]) -> None:
    before = [(buffer, buffer.clone()) for buffer in traced.buffers()]
    devices = {tensor.device for tensor in inputs if isinstance(tensor, torch.Tensor) and tensor.is_cuda}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices, key=str)), contexts.closing():
            _Shapes(traced).run(*(copied(value) for value in inputs))
    except Exception as error:
        shown = ", ".join(str(tuple(spec.shape)) for spec in specs(inputs))
        raise TraceError(f"the example of shape {shown} does not run: {first_line(error)}") from error
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _explain(model: nn.Module, error: Exception) -> str:
    """One line: where tracing stopped, why, and what to do."""
    where, caller = None, None
    trail = error.__traceback__
    while trail is not None:
        frame = trail.tb_frame
        if is_users(frame.f_code.co_filename):
            where = (frame.f_code.co_filename, trail.tb_lineno)
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                caller = owner
        trail = trail.tb_next
    place = shown(where) or type(model).__name__
    whole = type(caller if caller is not None else model).__name__
    remedy = (
        f"write it without, or keep a module around it whole: leaves=[{whole!r}], or --leaf {whole} on the command line"
        if caller is not None and caller is not model and whole != type(model).__name__
        else "write it without, or move it into a module of its own that is kept whole with leaves=[...]"
    )
    return f"{type(model).__name__} can't be traced: {place}: {_reason(error)}; {remedy}"


_REASONS = (
    ("control flow", "a branch or loop that depends on the values of a tensor or on its shape"),
    ("cannot be iterated", "a loop, or an unpacking, over a tensor whose length is not known while tracing"),
    (
        "Proxy object cannot be iterated",
        "a loop, or an unpacking, over a tensor whose length is not known while tracing",
    ),
    ("'len' is not supported", "len() of a tensor, which is not known while tracing"),
    ("cannot be interpreted as an integer", "a number is needed that is not known while tracing, in range() perhaps"),
    ("Proxy", "a function that takes no tensor whose values are not known yet"),
)


def _reason(error: Exception) -> str:
    message = first_line(error).partition(". ")[0]
    plain = next((reason for sign, reason in _REASONS if sign in message), None)
    return f"{plain} ({message})" if plain else f"{type(error).__name__}: {message}"

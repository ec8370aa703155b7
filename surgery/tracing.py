"""From a model to a traced graph."""

from __future__ import annotations

import inspect
import os
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from surgery import graphs, inplace
from surgery.bits import same_bits
from surgery.errors import TraceError, first_line
from surgery.graphs import InPlaceTracer, assemble, same_graph
from surgery.nodes import called, shown, specs
from surgery.twins import twin

if TYPE_CHECKING:
    import types
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.graphs import Graphs

_HOLDER = "model"
_TORCH = f"{Path(torch.__file__).parent}{os.sep}"


def trace(
    model: nn.Module,
    example: Tensor | Sequence[Any] | None = None,
    *,
    leaves: Sequence[str | type[nn.Module]] = (),
) -> fx.GraphModule:
    """`model` as a graph, in the mode (train or eval) that it is in.

    The graph module has the model's `state_dict` keys and shares its parameters until it is moved or converted; its
    buffers and modules are copies. So running it, changing its mode or moving it does not touch the model. Hooks of the
    model run as part of the graph.

    `example`, a tensor or the sequence of the model's positional inputs, is run once, without a trace in buffers or
    random numbers, to learn the shapes. Without it the inputs are the parameters of `forward` that have no default;
    all others keep their defaults.

    `leaves` are modules to be kept whole: classes, names of classes, or paths with the wildcards of a shell.

    Raises TraceError, naming the line that stands in the way.
    """
    model = unwrap(model)
    inputs = None if example is None else tuple(example) if isinstance(example, (tuple, list)) else (example,)
    owner = twin(model)
    graph = _graph_of(owner, model, inputs, leaves)
    graphs: Graphs = {model.training: graph, not model.training: _other_graph(owner, model, inputs, leaves, graph)}
    traced = assemble(owner, graphs)
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


def _graph_of(
    owner: nn.Module, model: nn.Module, inputs: tuple[Any, ...] | None, leaves: Sequence[str | type[nn.Module]]
) -> fx.Graph:
    """The graph of `model` in its mode; the constants in it become buffers of `owner`."""
    graph, constants = _symbolic_graph(model, inputs, leaves, owner)
    for name, value in constants.items():
        owner.register_buffer(name, value, persistent=False)
    return _retarget(graph)


def _other_graph(
    owner: nn.Module,
    model: nn.Module,
    inputs: tuple[Any, ...] | None,
    leaves: Sequence[str | type[nn.Module]],
    graph: fx.Graph,
) -> fx.Graph | str:
    """The graph of the other mode: `graph` itself where it is the same, and the reason where there is none."""
    other = twin(model).train(not model.training)
    try:
        found = _graph_of(owner, other, inputs, leaves)
    except TraceError as error:
        return f"{error} (in {'eval' if model.training else 'train'} mode; it was traced in the other)"
    if same_graph(graph, found):
        return graph
    return found


class _ModelTracer(InPlaceTracer):
    """Traces a holder of the model, so that the model itself is called, with its hooks."""

    def __init__(self, signature: inspect.Signature, inputs: tuple[Any, ...] | None, leaves: Sequence[object]) -> None:
        super().__init__()
        self.signature = signature
        self.inputs = inputs
        self.leaves = leaves
        self.leaves_used: set[object] = set()

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:  # noqa: ARG002
        names = _input_names(self.signature, self.inputs)
        values = [self.create_proxy("placeholder", name, (), {}) for name in names]

        def call(root: nn.Module, *values: Any) -> Any:
            return root.get_submodule(_HOLDER)(*values)

        return call, [self.root, *values]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        path = module_qualified_name.removeprefix(_HOLDER).removeprefix(".")
        if not path:
            return False
        for leaf in self.leaves:
            if _is_leaf(leaf, m, path):
                self.leaves_used.add(leaf)
                return True
        return super().is_leaf_module(m, module_qualified_name)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["surgery_source"] = _user_line(sys._getframe(1))  # noqa: SLF001
        return node


def _is_leaf(leaf: object, module: nn.Module, path: str) -> bool:
    if isinstance(leaf, str):
        return fnmatchcase(path, leaf) or type(module).__name__ == leaf
    return isinstance(leaf, type) and isinstance(module, leaf)


def _symbolic_graph(
    model: nn.Module,
    inputs: tuple[Any, ...] | None,
    leaves: Sequence[str | type[nn.Module]],
    owner: nn.Module,
) -> tuple[fx.Graph, dict[str, Tensor]]:
    """The graph of a holder of `model`, where targets and scopes begin with the holder's name for it; its constants."""
    for proxied in (False, True):
        holder = nn.Module()
        holder.train(model.training)
        setattr(holder, _HOLDER, twin(model))
        buffers = tuple(holder.buffers())
        versions = [buffer._version for buffer in buffers]  # noqa: SLF001
        tracer = _ModelTracer(inspect.signature(model.forward), inputs, leaves)
        tracer.proxy_buffer_attributes = proxied
        try:
            graph = tracer.trace(holder)
        except TraceError:
            raise
        except Exception as error:
            raise TraceError(_explain(model, error)) from error
        for unused in set(leaves) - tracer.leaves_used:
            raise TraceError(f"{_leaf_name(unused)!r} is neither the path nor the class of a module that is called")
        # A buffer that was written while tracing would not be written again: only as a proxy is that recorded.
        if proxied or versions == [buffer._version for buffer in buffers]:  # noqa: SLF001
            break
    return graph, _take_constants(holder, graph, owner)


def _is_constant(owner: nn.Module, name: str, value: Tensor) -> bool:
    """Whether a name stands for this very constant: the graph of the other mode has it too."""
    known = owner._buffers.get(name)  # noqa: SLF001
    is_ours = name in owner._non_persistent_buffers_set and name.startswith("_tensor_constant")  # noqa: SLF001
    return is_ours and known is not None and same_bits(known, value)


def _leaf_name(leaf: str | type[nn.Module]) -> str:
    return leaf if isinstance(leaf, str) else leaf.__name__


def _take_constants(holder: nn.Module, graph: fx.Graph, owner: nn.Module) -> dict[str, Tensor]:
    """The tensors that tracing made constants, under names that are free in their owner to be."""
    constants: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op == "get_attr" and not str(node.target).startswith(f"{_HOLDER}."):
            value = getattr(holder, str(node.target))
            name = str(node.target)
            while hasattr(owner, name) and not _is_constant(owner, name, value):
                name += "_"
            constants[name] = value
            node.target = f"{_HOLDER}.{name}"
    return constants


def _retarget(graph: fx.Graph) -> fx.Graph:
    """The graph of the model itself, its nodes named after their paths."""
    result = fx.Graph(tracer_cls=InPlaceTracer)
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
    return path.removeprefix(_HOLDER).removeprefix(".")


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


class _Shapes(fx.Interpreter):
    """Runs a graph and keeps, with each node that calls something, what tensors came out."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call_"):
            n.meta["surgery_tensors"] = specs(value)
        return value


def _learn_shapes(traced: fx.GraphModule, inputs: tuple[Any, ...]) -> None:
    before = [(buffer, buffer.clone()) for buffer in traced.buffers()]
    devices = {tensor.device for tensor in inputs if isinstance(tensor, torch.Tensor) and tensor.is_cuda}
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=sorted(devices, key=str)):
            _Shapes(traced).run(*inputs)
    except Exception as error:
        shown = ", ".join(str(tuple(spec.shape)) for spec in specs(inputs))
        raise TraceError(f"the example of shape {shown} does not run: {first_line(error)}") from error
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _user_line(frame: types.FrameType | None) -> tuple[str, int] | None:
    """File and line of the innermost frame that is neither torch's nor ours."""
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def _is_users(filename: str) -> bool:
    return not (filename.startswith((_TORCH, "<")) or filename in _OURS)


_OURS = {__file__, graphs.__file__, inplace.__file__}


def _explain(model: nn.Module, error: Exception) -> str:
    """One line: where tracing stopped, why, and what to do."""
    where, caller = None, None
    trail = error.__traceback__
    while trail is not None:
        frame = trail.tb_frame
        if _is_users(frame.f_code.co_filename):
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

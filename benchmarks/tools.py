"""The values that other tools record of a model, compared with an eager run.

In the eager run, the value of each module is cloned as soon as it is produced. torchvision's extractor records values
of functions too; it is compared with its own graph, run node by node, with each value cloned.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from importlib.util import find_spec
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

import surgery
from surgery.errors import first_line
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.interpreter import GraphInterpreter
from surgery.graph.leaves import leaf_rule
from surgery.graph.tensors import clone_inputs, named_tensors
from surgery.rewriting.extractor import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Value = tuple[str, Any, Sequence[Sequence[Tensor]]]
    """The path of a value, the value that the tool recorded, and the candidates for the right one; [] if unknown."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The values that one tool recorded of one model, and how many of them are wrong."""

    values: int = 0
    """Number of tensors."""
    known: int = 0
    """Number of those that the eager run knows."""
    wrong: int = 0
    """Number of known ones that differ from the eager run in any bit."""
    first: str = ""
    """The path of the first wrong value."""
    failure: str = ""
    """Why the tool recorded nothing; "" if it did."""
    seconds: float = 0.0
    """CPU time."""


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """The values of a model's modules in an eager run, cloned as soon as they are produced."""

    calls: dict[str, list[list[Tensor]]]
    """The tensors of each call, by the path of the module."""
    leaves: tuple[str, ...]
    """The paths of the called modules without submodules, in order of their first calls."""
    tensors: frozenset[str]
    """The paths of the modules that return a single tensor."""

    def candidates(self, path: str, call: int | None = None) -> list[list[Tensor]]:
        """Return the tensors that a module returned in one call, or in each of its calls."""
        calls = self.calls.get(path, [])
        return calls if call is None else calls[call : call + 1]


def compute_reference(model: nn.Module, inputs: Sequence[Any]) -> ReferenceValues:
    """Run a copy of `model` eagerly, and return the values of its modules."""
    model = copy.deepcopy(model)
    calls: dict[str, list[list[Tensor]]] = {}
    single: dict[str, bool] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, value: Any) -> None:
            calls.setdefault(path, []).append([tensor.detach().clone() for _, tensor in named_tensors(value)])
            single[path] = single.get(path, True) and isinstance(value, Tensor)

        return hook

    for path, module in model.named_modules():
        module.register_forward_hook(keep(path))
    model(*map(clone_inputs, inputs))
    leaves = tuple(path for path in calls if path and not list(model.get_submodule(path).children()))
    return ReferenceValues(calls, leaves, frozenset(path for path, is_single in single.items() if is_single))


def run_tool(name: str, model: nn.Module, inputs: Sequence[Any], reference: ReferenceValues) -> ToolResult:
    """Record every value that one of `TOOLS` can record of a copy of `model`, and compare them with the reference."""
    package, record = TOOLS[name]
    if find_spec(package) is None:
        return ToolResult(failure=f"{package} is not installed")
    started = time.process_time()
    try:
        with torch.no_grad():
            recorded = list(record(copy.deepcopy(model), [clone_inputs(value) for value in inputs], reference))
    except Exception as error:  # noqa: BLE001 - a tool may raise anything
        failure = f"{type(error).__name__}: {first_line(error)}"
        return ToolResult(failure=failure, seconds=time.process_time() - started)
    seconds = time.process_time() - started
    values = known = 0
    wrong: list[str] = []
    for path, value, candidates in recorded:
        tensors = [tensor for _, tensor in named_tensors(value)]
        values += len(tensors)
        if candidates:
            known += len(tensors)
            wrong += [path] * min(_count_differences(tensors, candidate) for candidate in candidates)
    return ToolResult(values, known, len(wrong), wrong[0] if wrong else "", seconds=seconds)


def _count_differences(tensors: Sequence[Tensor], candidate: Sequence[Tensor]) -> int:
    """Return how many tensors differ from those of a candidate; all of them, if it has another number of tensors."""
    if len(tensors) != len(candidate):
        return len(tensors)
    return sum(not bitwise_equal(one, other) for one, other in zip(tensors, candidate, strict=True))


def _surgery(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    """Record with `surgery`. Values of functions count as unknown here; the certificate compares them."""
    opened = surgery.insert(traced := surgery.trace(model, inputs), surgery.operations(traced))
    kept: list[tuple[str, str, Any]] = []

    def keep(operation: surgery.Operation, value: Any) -> None:
        kept.append((operation.path, operation.kind, [tensor.clone() for _, tensor in named_tensors(value)]))

    with listening(opened, keep):
        opened(*inputs)
    rule = leaf_rule(traced)
    whole = {path for path, module in model.named_modules() if rule.is_leaf(module, path)}
    for path, _, value in kept:
        module, _, call = path.partition("@")
        yield path, value, reference.candidates(module, int(call or 0)) if module in whole else []


def _hooks(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    """Record with `register_forward_hook` and a list, the common snippet."""
    kept: list[tuple[str, Any]] = []
    for path in reference.leaves:
        model.get_submodule(path).register_forward_hook(lambda _m, _i, value, path=path: kept.append((path, value)))
    model(*inputs)
    calls = dict.fromkeys(reference.leaves, 0)
    for path, value in kept:
        yield path, value, reference.candidates(path, calls[path])
        calls[path] += 1


class _Cloning(GraphInterpreter):
    """Runs a graph node by node, and keeps a clone of each value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.kept: dict[fx.Node, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.kept[n] = [tensor.clone() for _, tensor in named_tensors(value)]
        return value


def _torchvision(model: nn.Module, inputs: list[Any], _reference: ReferenceValues) -> Iterator[Value]:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    nodes = {name: name for name in get_graph_node_names(model)[1]}
    extractor = create_feature_extractor(model, return_nodes=nodes)
    values = extractor(*map(clone_inputs, inputs))
    cloning = _Cloning(extractor)
    cloning.run(*inputs)
    sources = next(node for node in extractor.graph.nodes if node.op == "output").args[0]
    for name, value in values.items():
        if sources[name].op != "placeholder":
            yield name, value, [cloning.kept[sources[name]]]


def _torchextractor(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    from torchextractor import Extractor

    _, features = Extractor(model, reference.leaves)(*inputs)
    for path, value in features.items():
        yield path, value, reference.candidates(path)


def _surgeon(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    from surgeon_pytorch import Inspect

    _, values = Inspect(model, layer=list(reference.leaves))(*inputs)
    for path, value in zip(reference.leaves, values, strict=True):
        yield path, value, reference.candidates(path)


def _captum(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    from captum.attr import LayerActivation

    paths = [path for path in reference.leaves if path in reference.tensors]
    values = LayerActivation(model, [model.get_submodule(path) for path in paths]).attribute(tuple(inputs))
    for path, value in zip(paths, values, strict=True):
        yield path, value, reference.candidates(path)


def _nnsight(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    import nnsight

    opened = nnsight.NNsight(model)
    parts = [attrgetter(path)(opened) for path in reference.leaves]
    with opened.trace(*inputs):
        values = nnsight.save([])
        for part in parts:
            values.append(part.output)
    for path, value in zip(reference.leaves, values, strict=True):
        yield path, value, reference.candidates(path)


def _torchlens(model: nn.Module, inputs: list[Any], reference: ReferenceValues) -> Iterator[Value]:
    import torchlens
    from torchlens.options import CaptureOptions

    log = torchlens.trace(model, inputs, capture=CaptureOptions(unwrap_when_done=True, inference_only=True))
    for operation in log.layer_list:
        if operation.is_compute_op:
            modules = [label.rpartition(":") for label in operation.output_of_module_calls]
            known = [
                reference.candidates(path, int(call) - 1) for path, _, call in modules if path in reference.tensors
            ]
            yield operation.layer_label, operation.out, known[0] if known else []


TOOLS: dict[str, tuple[str, Callable[[nn.Module, list[Any], ReferenceValues], Iterator[Value]]]] = {
    "surgery": ("surgery", _surgery),
    "forward hooks": ("torch", _hooks),
    "torchvision": ("torchvision", _torchvision),
    "torchextractor": ("torchextractor", _torchextractor),
    "surgeon-pytorch": ("surgeon_pytorch", _surgeon),
    "nnsight": ("nnsight", _nnsight),
    "captum": ("captum", _captum),
    "torchlens": ("torchlens", _torchlens),
}
"""The package that a tool imports and the function that records with it, by the name of the tool."""

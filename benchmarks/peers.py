"""What the usual tools give when they are asked for every value of a model, and what of it was never computed.

The yardstick is one eager run in which each module's value is cloned the moment it is produced. torchvision's extractor
gives values of functions too, and is held against its own graph, run node by node, each value cloned.
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
from surgery.graph.tensors import clone_inputs, named_tensors
from surgery.rewriting.extractor import listening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Value = tuple[str, Any, Sequence[Sequence[Tensor]]]
    """Where a value comes from, the value as a tool gives it, and what it may be: one of these, or unknown."""


@dataclass(frozen=True, slots=True)
class Given:
    """What one tool gave for one model."""

    values: int = 0
    """Tensors."""
    known: int = 0
    """How many of them the yardstick knows."""
    wrong: int = 0
    """How many of those are not, bit for bit, what was computed."""
    first: str = ""
    """The first that is wrong."""
    failure: str = ""
    """Why it gave nothing."""
    seconds: float = 0.0
    """Of CPU."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the modules of a model compute, cloned when it is produced: for each path the tensors of each call."""

    calls: dict[str, list[list[Tensor]]]
    leaves: tuple[str, ...]
    """The called modules without submodules, in order."""
    tensors: frozenset[str]
    """The modules that give one tensor, and nothing else."""

    def of(self, path: str, call: int | None = None) -> list[list[Tensor]]:
        """What a module gave in a call, or in any."""
        calls = self.calls.get(path, [])
        return calls if call is None else calls[call : call + 1]


def truth_of(model: nn.Module, inputs: Sequence[Any]) -> Truth:
    """Run a copy of `model` eagerly."""
    model = copy.deepcopy(model)
    calls: dict[str, list[list[Tensor]]] = {}
    plain: dict[str, bool] = {}

    def keep(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, value: Any) -> None:
            calls.setdefault(path, []).append([tensor.detach().clone() for _, tensor in named_tensors(value)])
            plain[path] = plain.get(path, True) and isinstance(value, Tensor)

        return hook

    for path, module in model.named_modules():
        module.register_forward_hook(keep(path))
    model(*map(clone_inputs, inputs))
    leaves = tuple(path for path in calls if path and not list(model.get_submodule(path).children()))
    return Truth(calls, leaves, frozenset(path for path, whether in plain.items() if whether))


def ask(name: str, model: nn.Module, inputs: Sequence[Any], truth: Truth) -> Given:
    """Ask one of `PEERS` for every value that it can give, of a copy of `model` in eval mode."""
    needs, give = PEERS[name]
    if find_spec(needs) is None:
        return Given(failure=f"{needs} is not installed")
    begun = time.process_time()
    try:
        with torch.no_grad():
            given = list(give(copy.deepcopy(model), [clone_inputs(value) for value in inputs], truth))
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is what it gives
        failure = f"{type(error).__name__}: {first_line(error)}"
        return Given(failure=failure, seconds=time.process_time() - begun)
    seconds = time.process_time() - begun
    values = known = 0
    wrong: list[str] = []
    for path, value, candidates in given:
        tensors = [tensor for _, tensor in named_tensors(value)]
        values += len(tensors)
        if candidates:
            known += len(tensors)
            others = min((_others(tensors, candidate) for candidate in candidates), key=len)
            wrong += [path for _ in others]
    return Given(values, known, len(wrong), wrong[0] if wrong else "", seconds=seconds)


def _others(tensors: Sequence[Tensor], candidate: Sequence[Tensor]) -> list[int]:
    """Which of some tensors are not those that were computed."""
    if len(tensors) != len(candidate):
        return list(range(len(tensors)))
    return [n for n, (one, other) in enumerate(zip(tensors, candidate, strict=True)) if not bitwise_equal(one, other)]


def _surgery(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    """Ours, by the same yardstick: the values of modules; those of functions are the certificate's business."""
    opened = surgery.insert(traced := surgery.trace(model, inputs), surgery.operations(traced))
    kept: list[tuple[str, str, Any]] = []

    def keep(operation: surgery.Operation, value: Any) -> None:
        kept.append((operation.path, operation.kind, [tensor.clone() for _, tensor in named_tensors(value)]))

    with listening(opened, keep):
        opened(*inputs)
    whole = {str(node.target) for node in traced.graph.nodes if node.op == "call_module"}
    for path, _, value in kept:
        module, _, call = path.partition("@")
        yield path, value, truth.of(module, int(call or 0)) if module in whole else []


def _hooks(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    """`register_forward_hook` and a list, as it is passed around."""
    kept: list[tuple[str, Any]] = []
    for path in truth.leaves:
        model.get_submodule(path).register_forward_hook(lambda _m, _i, value, path=path: kept.append((path, value)))
    model(*inputs)
    calls = dict.fromkeys(truth.leaves, 0)
    for path, value in kept:
        yield path, value, truth.of(path, calls[path])
        calls[path] += 1


class _Cloning(GraphInterpreter):
    """Keeps a clone of each node's value."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.kept: dict[fx.Node, list[Tensor]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.kept[n] = [tensor.clone() for _, tensor in named_tensors(value)]
        return value


def _torchvision(model: nn.Module, inputs: list[Any], _truth: Truth) -> Iterator[Value]:
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


def _torchextractor(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    from torchextractor import Extractor

    _, features = Extractor(model, truth.leaves)(*inputs)
    for path, value in features.items():
        yield path, value, truth.of(path)


def _surgeon(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    from surgeon_pytorch import Inspect

    _, values = Inspect(model, layer=list(truth.leaves))(*inputs)
    for path, value in zip(truth.leaves, values, strict=True):
        yield path, value, truth.of(path)


def _captum(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    from captum.attr import LayerActivation

    paths = [path for path in truth.leaves if path in truth.tensors]
    values = LayerActivation(model, [model.get_submodule(path) for path in paths]).attribute(tuple(inputs))
    for path, value in zip(paths, values, strict=True):
        yield path, value, truth.of(path)


def _nnsight(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    import nnsight

    opened = nnsight.NNsight(model)
    parts = [attrgetter(path)(opened) for path in truth.leaves]
    with opened.trace(*inputs):
        values = nnsight.save([])
        for part in parts:
            values.append(part.output)
    for path, value in zip(truth.leaves, values, strict=True):
        yield path, value, truth.of(path)


def _torchlens(model: nn.Module, inputs: list[Any], truth: Truth) -> Iterator[Value]:
    import torchlens
    from torchlens.options import CaptureOptions

    log = torchlens.trace(model, inputs, capture=CaptureOptions(unwrap_when_done=True, inference_only=True))
    for operation in log.layer_list:
        if operation.is_compute_op:
            modules = [label.rpartition(":") for label in operation.output_of_module_calls]
            known = [truth.of(path, int(call) - 1) for path, _, call in modules if path in truth.tensors]
            yield operation.layer_label, operation.out, known[0] if known else []


PEERS: dict[str, tuple[str, Callable[[nn.Module, list[Any], Truth], Iterator[Value]]]] = {
    "surgery": ("surgery", _surgery),
    "forward hooks": ("torch", _hooks),
    "torchvision": ("torchvision", _torchvision),
    "torchextractor": ("torchextractor", _torchextractor),
    "surgeon-pytorch": ("surgeon_pytorch", _surgeon),
    "nnsight": ("nnsight", _nnsight),
    "captum": ("captum", _captum),
    "torchlens": ("torchlens", _torchlens),
}
"""The tools, by the names of their distributions, what they import, and how they are asked."""

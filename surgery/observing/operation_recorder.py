"""The observer of the run of an example: it records the operations, and where their arguments come from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ref

from surgery.eager import OperationObserver
from surgery.graph import Edges, Operations, ValueSource, named_tensors, tensor_specs
from surgery.observing.observed_calls import make_operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor, nn

    from surgery.eager import ObservedCall
    from surgery.types import Operation


class OperationRecorder(OperationObserver):
    """Records the operations of a run, with their shapes, and the edges between them.

    An edge is found by identity: the argument of an operation is the object that another one returned. A tensor that
    was made where nothing is observed has no source.
    """

    def __init__(self, inputs: Mapping[str, Any], model: nn.Module) -> None:
        """`inputs` are the inputs of the run by name, and `model` is the model that runs."""
        super().__init__()
        self._operations: list[Operation] = []
        self._operands: dict[str, tuple[ValueSource, ...]] = {}
        self._names: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._sources: dict[int, tuple[ref[Tensor], ValueSource]] = {}
        """By the identity of a tensor: the tensor, and where it comes from."""
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._add_source(tensor, ValueSource(name, "attribute", tensor_specs(tensor)))
        self._inputs = tuple(ValueSource(name, "input", tensor_specs(value)) for name, value in inputs.items())
        for source in self._inputs:
            for _, tensor in named_tensors(inputs[source.path]):
                self._add_source(tensor, source)

    def on_call(self, call: ObservedCall) -> Any:
        """Record one operation, unless it computes no tensor."""
        path = call.path
        tensors = [tensor for _, tensor in named_tensors(call.value)]
        if not tensors:
            return call.value
        number = self._calls[path]
        self._calls[path] += 1
        full_path = f"{path}@{number}" if number else path
        operation = make_operation(self, call, full_path, len(self._operations) + 1)
        repeats = self._names[operation.name]  # `a.b` and `a_b` have the same identifier
        self._names[operation.name] += 1
        if repeats:
            operation = replace(operation, name=f"{operation.name}__{repeats}")
        self._operations.append(operation)
        self._operands[operation.name] = self._sources_of([call.args, call.kwargs])
        source = ValueSource(full_path, "operation", operation.tensors)
        for tensor in tensors:
            self._add_source(tensor, source)
        return call.value

    def operations(self) -> Operations:
        """Return the operations of the run in order."""
        return Operations(self._operations)

    def edges(self, output: Any) -> Edges:
        """Return the edges of the run, whose output is given."""
        return Edges(self._inputs, self._operands, self._sources_of(output))

    def _add_source(self, tensor: Tensor, source: ValueSource) -> None:
        self._sources[id(tensor)] = ref(tensor), source

    def _sources_of(self, value: Any) -> tuple[ValueSource, ...]:
        return tuple(dict.fromkeys(self._find_sources(tensor for _, tensor in named_tensors(value))))

    def _find_sources(self, tensors: Iterable[Tensor]) -> Iterable[ValueSource]:
        for tensor in tensors:
            known, source = self._sources.get(id(tensor), (None, None))
            if known is not None and source is not None and known() is tensor:
                yield source

"""Which elements of each value of a run can reach its output: a walk back over the run's calls of torch's kernels.

The walk knows which elements a kernel reads for those that it writes, and not what the numbers are: an element is
reached if there is a way from it to the output, whatever the weights are. What Python does with numbers that it reads
from tensors (``.item()``, ``if x.sum() > 0``, numpy) is not on the tape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_iter, tree_map

from surgery.diagnosis.dependency_rules import find_rule, spread_everywhere
from surgery.diagnosis.kernel_calls import Given, KernelCall, bind_arguments, kernel_name, written_tensors
from surgery.diagnosis.linear_kernels import LINEAR
from surgery.diagnosis.memory import MemorySet, Place
from surgery.eager import DispatchMode
from surgery.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Reached(NamedTuple):
    """What a walk back found."""

    values: list[Tensor | None]
    """For each value that was marked, which of its elements can reach the end: bool of its shape; None if none can."""
    assumed: tuple[str, ...]
    """The kernels on the way that have no rule. All that they read is taken to reach all that they write."""


class _Mark(NamedTuple):
    position: int
    """The number of calls before it."""
    place: Place


class DependencyTape(DispatchMode):
    """Records the calls of torch's kernels within a ``with`` block. It holds the memory of all tensors of the run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[KernelCall] = []
        self._marks: list[_Mark] = []
        self._memory: dict[int, Any] = {}
        """Each memory by its identity, which no other gets while it is held."""
        self._units: dict[int, int] = {}
        """The smallest element of each memory, in bytes."""
        self._followed: set[int] = set()
        """The memories that may depend on a value that was marked."""
        self._not_followed: set[str] = set()

    def mark(self, value: Tensor) -> None:
        """Remember a value as it is now: an input, or what an operation computed just now.

        Raises TraceError for a tensor that has no strides, such as a sparse one.
        """
        place = self._place(value)
        if place is None:
            raise TraceError(f"a tensor of the layout {value.layout} can't be followed")
        self._followed.add(place.storage)
        self._marks.append(_Mark(len(self._calls), place))

    def walk_back(self, end: Tensor, elements: Tensor) -> Reached:
        """Return what can reach some elements of a tensor, bool of its shape, as it is at the end of the run.

        Raises TraceError if the run computed with tensors that can't be followed.
        """
        place = self._place(end)
        if place is None or self._not_followed:
            kernels = ", ".join(sorted(self._not_followed)) or "the output"
            raise TraceError(f"sparse tensors can't be followed: {kernels}")
        sizes = {key: memory.nbytes() for key, memory in self._memory.items()}
        memory = MemorySet(sizes, self._units)
        memory.add(place, elements.cpu())
        found: list[Tensor | None] = [None] * len(self._marks)
        assumed: dict[str, None] = {}
        left = len(self._marks)
        for position in range(len(self._calls), -1, -1):
            while left and self._marks[left - 1].position == position:
                left -= 1
                found[left] = memory.read(self._marks[left].place)
            if position:
                _walk_over(self._calls[position - 1], memory, assumed)
        return Reached(found, tuple(assumed))

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        arguments = bind_arguments(func, args, kwargs)
        are_indices_kept = kernel_name(func) in LINEAR

        def place(item: Any) -> Any:
            found = self._place(item, func) if isinstance(item, Tensor) else None
            if found is None:
                return None if isinstance(item, Tensor) else item
            keeps = are_indices_kept and not (item.is_floating_point() or item.is_complex())
            return Given(found, found.storage in self._followed, item.detach().clone() if keeps else None)

        given = tree_map(place, arguments)
        result = func(*args, **kwargs)
        written = written_tensors(func, arguments)
        outputs = [self._place(item, func) for item in [*tree_iter(result), *written] if isinstance(item, Tensor)]
        call = KernelCall(func, given, tuple(output for output in outputs if output is not None))
        read = {tensor.place.storage for _, tensor in call.tensors()}
        if read & self._followed:
            self._followed.update(output.storage for output in call.outputs)
        if written or any(output.storage not in read for output in call.outputs):  # otherwise it makes views
            self._calls.append(call)
        return result

    def _place(self, tensor: Tensor, kernel: Any = None) -> Place | None:
        """Return the place of a tensor, and hold its memory; None for a tensor without strides."""
        if tensor.layout is not torch.strided or tensor.is_nested:
            if kernel is not None:
                self._not_followed.add(kernel_name(kernel))
            return None
        place = Place.of(tensor)
        self._memory.setdefault(place.storage, tensor.untyped_storage())
        self._units[place.storage] = min(place.item, self._units.get(place.storage, place.item))
        return place


def _walk_over(call: KernelCall, memory: MemorySet, assumed: dict[str, None]) -> None:
    """Replace what a call wrote by what it read for it."""
    reached = [memory.read(place) for place in call.outputs]
    if all(part is None for part in reached):
        return
    for place in call.outputs:
        memory.remove(place)
    shape = call.outputs[0].size
    elements = torch.zeros(shape, dtype=torch.bool)
    is_first_alone = True
    for place, part in zip(call.outputs, reached, strict=True):
        if part is not None and place.size == shape:
            elements |= part
        is_first_alone &= part is None or place.size == shape
    rule = find_rule(call) if is_first_alone else None
    try:
        found = None if rule is None else list(rule(call, elements))
    except RuntimeError:  # autograd lacks the derivative of a few odd calls
        found = None
    if found is None:
        found = list(spread_everywhere(call, elements))
        if found:
            assumed[call.name] = None
    for given, read in found:
        memory.add(given.place, read)

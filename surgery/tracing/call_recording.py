"""The calls of an eager run on the example, recorded with their arguments and values, for a comparison with a graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.eager import (
    ExampleError,
    ExternalState,
    OperationObserver,
    changed_entries,
    fingerprint_attributes,
    fingerprint_hooks,
    generator_states,
    have_drawn_since,
    isolate_caches,
    observe_modules,
    run_observed,
    seed_generators,
)
from surgery.errors import first_line
from surgery.graph import (
    copy_isolating_hooks,
    graph_leaf_rule,
    hook_dicts,
    list_modules,
    named_tensors,
    set_mode,
    storage_id,
)
from surgery.observing import guard_parameters

if TYPE_CHECKING:
    from surgery.eager import ObservedCall
    from surgery.tracing.example_runs import Comparison

MAX_RECORDED_BYTES = 1 << 30
"""A run that computes more is not recorded, since all its values are kept until the graph was compared."""


class UnrecordableRun(BaseException):
    """Raised inside a run that does what no record shows. It is no error of the model."""


@dataclass(slots=True)
class RecordedRun:
    """A run: what it computed with, and what it computed."""

    model: nn.Module
    """The copy that ran."""
    inputs: dict[str, Any]
    calls: list[ObservedCall] = field(default_factory=list)
    """Those that return tensors, or write to one. Containers in the arguments are as they were at the call."""
    output: Any = None


def record_run(comparison: Comparison) -> RecordedRun | None:
    """Run a copy of the model, and return the record of its calls; None if the run does what no record shows.

    These are runs that read values of tensors into Python, write to a parameter, change anything outside of tensors,
    or depend on state that can't be compared. Raises ExampleError if the model does not run on the example.
    """
    outside = comparison.outside
    model = set_mode(copy_isolating_hooks(comparison.model), comparison.mode)
    if not outside.is_complete or _has_closed_hooks(model):
        return None
    run = RecordedRun(model, comparison.copy_inputs())
    recorder = CallRecorder(run.calls)
    arguments, keywords = comparison.inputs.split(run.inputs)
    leaves = graph_leaf_rule(comparison.traced, comparison.graph)
    observe_modules(model, leaves)
    before, inside, generators = _fingerprints(model), ExternalState(model, outside), generator_states()
    with torch.no_grad(), isolate_caches(model), outside.restart(), seed_generators(arguments):
        with guard_parameters(model) as guard:
            try:
                run.output = run_observed(model, recorder, arguments, keywords, leaves=leaves)
            except UnrecordableRun:
                return None
            except Exception as error:
                if recorder.is_over:
                    return None
                raise ExampleError(first_line(error)) from error
        is_untouched = (
            outside.is_untouched() and inside.is_untouched() and not changed_entries(before, _fingerprints(model))
        )
        is_known = is_untouched and not (recorder.is_over or guard.written or have_drawn_since(generators))
    return run if is_known else None


class CallRecorder(OperationObserver):
    """Records the calls of a run that return tensors, or write to one."""

    def __init__(self, calls: list[ObservedCall]) -> None:
        super().__init__()
        self.is_over = False
        """Whether the run did what no record shows. The model may catch the exception that ends it."""
        self._calls = calls
        self._storages: set[int] = set()
        self._bytes = 0

    def on_call(self, call: ObservedCall) -> Any:
        """Record a call."""
        if self.is_over or (not call.is_module and (reads_metadata(call.function) or call.function is torch._assert)):  # noqa: SLF001
            return call.value
        tensors = [tensor for _, tensor in named_tensors(call.value)]
        name = getattr(call.function, "__name__", "")
        is_recordable = (tensors or name == "__setitem__") and name not in _CHANGING_METADATA
        if not is_recordable or self._count_bytes(tensors) > MAX_RECORDED_BYTES:
            self.is_over = True
            raise UnrecordableRun
        kwargs = {key: copy_containers(value) for key, value in call.kwargs.items()}
        self._calls.append(call._replace(args=copy_containers(tuple(call.args)), kwargs=kwargs))
        return call.value

    def _count_bytes(self, tensors: list[Tensor]) -> int:
        for tensor in tensors:
            storage = storage_id(tensor)
            if storage is not None and storage not in self._storages:
                self._storages.add(storage)
                self._bytes += tensor.untyped_storage().nbytes()
        return self._bytes


def reads_metadata(function: Any) -> bool:
    """Return whether a call reads only metadata of a tensor, so that its result does not depend on values."""
    name = getattr(function, "__name__", "")
    return name in _METADATA_METHODS or (name == "__get__" and function.__self__.__name__ in _METADATA_PROPERTIES)


def copy_containers(value: Any) -> Any:
    """Return a copy of nested lists, tuples and dicts, with all else as it is."""
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map(copy_containers, value))
    return {key: copy_containers(item) for key, item in value.items()} if kind is dict else value


def _fingerprints(model: nn.Module) -> dict[str, object]:
    """Return what a run does not change, but for the values of buffers."""
    buffers = {name: id(buffer) for name, buffer in model.named_buffers()}
    return {"buffers": buffers, "attributes": fingerprint_attributes(model), "hooks": fingerprint_hooks(model)}


def _has_closed_hooks(model: nn.Module) -> bool:
    """Return whether hooks have values in their closures or defaults, of which a copy of the model has its own."""
    hooks = (hook for _, module in list_modules(model) for each in hook_dicts(module) for hook in each.values())
    return any(
        getattr(hook, "__closure__", None) or getattr(hook, "__defaults__", None) or hasattr(hook, "func")
        for hook in hooks
    )


_METADATA_METHODS = {
    *("dim", "size", "stride", "numel", "nelement", "ndimension", "element_size", "is_floating_point", "is_complex"),
    *("is_contiguous", "is_inference", "storage_offset", "__hash__", "__len__"),
}
_METADATA_PROPERTIES = {
    *("shape", "ndim", "itemsize", "nbytes", "requires_grad", "layout", "dtype", "device"),
    *("is_cuda", "is_cpu", "is_meta", "is_sparse", "is_quantized", "is_nested"),
}
_CHANGING_METADATA = {
    *("resize_", "resize_as_", "set_", "as_strided_", "squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_"),
    *("swapdims_", "requires_grad_", "detach_", "rename_", "retain_grad"),
}
"""In-place methods that change what `reads_metadata` reads, which is read after the run."""

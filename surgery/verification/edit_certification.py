"""What is compared of an edited model: what is upstream of its edits, what they change, and what is made of it."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.eager import SEED, ExternalState
from surgery.editing import MapChange, blend_weights
from surgery.errors import SurgeryError, first_line
from surgery.graph import (
    bitwise_equal,
    clone_inputs,
    copy_isolating_hooks,
    describe_difference,
    find_edges,
    named_tensors,
    operations,
    set_mode,
    trace_info,
)
from surgery.rewriting import find_edits, insert, listening, original_path, remove_edits, remove_extractors
from surgery.verification.certificate import Comparison
from surgery.verification.run_comparison import TRAINING_FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from surgery.eager import ExampleInputs

Values = dict[str, list[list[Tensor]]]
"""Path of an operation -> for each time that it ran, its tensors."""


def compare_edits(edited: nn.Module, inputs: ExampleInputs, modes: Sequence[str]) -> list[Comparison]:
    """Return what was compared of an edited model on its inputs, in each mode.

    ``upstream``: every value that does not depend on an edit is that of the model without edits, bit for bit.
    ``edits``: the elements that an edit does not choose keep their bits. ``saved``, ``compiled`` and ``exported``: what
    a file, `torch.compile` and `torch.export` make of the model gives its output, bit for bit; once, in its own mode.
    """
    comparisons: list[Comparison] = []
    for mode in modes:
        try:
            with_edits = set_mode(copy_isolating_hooks(remove_extractors(edited)), TRAINING_FLAGS[mode])
        except SurgeryError:  # there is no graph for this mode, as another comparison says
            continue
        values = _record(with_edits, inputs)
        expected = _record(remove_edits(with_edits), inputs)
        comparisons.append(_compared("upstream", mode, *_compare_upstream(with_edits, values, expected)))
        comparisons.append(_compared("edits", mode, *_compare_edited(with_edits, values)))
    plain = remove_extractors(edited)
    makers: dict[str, Callable[[nn.Module, ExampleInputs], nn.Module]] = {
        "saved": _save,
        "compiled": _compile,
        "exported": _export,
    }
    return comparisons + [_compare_made(what, make, plain, inputs) for what, make in makers.items()]


def _record(model: nn.Module, inputs: ExampleInputs) -> Values:
    """Run a copy of a model on the inputs, and return all its values."""
    opened = copy_isolating_hooks(insert(model, operations(model)))
    values: Values = {}

    def keep(operation: Any, value: Any) -> None:
        tensors = [tensor.detach().clone() for _, tensor in named_tensors(value)]
        values.setdefault(operation.path, []).append(tensors)

    args, kwargs = inputs.split_for(opened, clone_inputs(inputs.example))
    with torch.random.fork_rng(), torch.no_grad(), ExternalState(opened).restart(), listening(opened, keep):
        torch.manual_seed(SEED)
        opened(*args, **kwargs)
    return values


def _compared(what: str, mode: str, count: int, difference: str) -> Comparison:
    return Comparison(what, mode, "example", not difference if count or difference else None, count, difference)


def _compare_upstream(edited: nn.Module, values: Values, expected: Values) -> tuple[int, str]:
    """Return how many values do not depend on an edit, and the first that differs all the same."""
    edges = find_edges(edited)
    downstream = {edit.operation.path for edit in find_edits(edited)}
    count, difference = 0, ""
    for operation in operations(edited):
        sources = {source.path for source in edges.operands[operation.name] if source.kind == "operation"}
        if operation.path in downstream or sources & downstream:
            downstream.add(operation.path)
            continue
        runs, others = values.get(operation.path, []), expected.get(operation.path, [])
        count += sum(map(len, runs))
        difference = difference or _first_difference(operation.path, runs, others)
    return count, difference


def _first_difference(path: str, runs: list[list[Tensor]], others: list[list[Tensor]]) -> str:
    if [len(run) for run in runs] != [len(run) for run in others]:
        return f"{path} has another number of tensors"
    for run, other in zip(runs, others, strict=True):
        for one, expected in zip(run, other, strict=True):
            if not bitwise_equal(one, expected):
                return f"{path}: {describe_difference(one, expected)}"
    return ""


def _compare_edited(edited: nn.Module, values: Values) -> tuple[int, str]:
    """Return how many tensors were edited, and the first of which an element differs that was not chosen."""
    count = 0
    for edit in find_edits(edited):
        path = edit.operation.path
        before, after = values.get(path.removesuffix("'"), []), values.get(path, [])
        for olds, news in zip(before, after, strict=True):
            for old, new in zip(olds, news, strict=True):
                count += 1
                if (difference := _kept_difference(edit.change, old, new)) is not None:
                    return count, f"{path}: {difference}"
    return count, ""


def _kept_difference(change: Any, old: Tensor, new: Tensor) -> str | None:
    """Return a difference among the elements that an edit does not choose; None if there is none."""
    if not isinstance(change, MapChange):  # which may change everything
        return None
    shape = change.view(old).shape
    weights = blend_weights(change.edit, shape, old.device, old.dtype, original_path(change.path))
    is_kept = (weights == 0).expand(shape)
    kept, expected = old.clone(), new.clone()
    for tensor in (kept, expected):  # the chosen elements are made equal
        maps = change.view(tensor)
        maps.copy_(torch.where(is_kept, maps, torch.zeros_like(maps)))
    return None if bitwise_equal(kept, expected) else describe_difference(expected, kept)


def _compare_made(
    what: str, make: Callable[[nn.Module, ExampleInputs], nn.Module], edited: nn.Module, inputs: ExampleInputs
) -> Comparison:
    if what != "saved" and trace_info(edited).front_end == "observed":
        return Comparison(what, "", "", None, 0, "the model is observed, and has no graph")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = make(copy_isolating_hooks(edited), inputs)
            found, expected = (list(named_tensors(_run_made(module, edited, inputs))) for module in (made, edited))
    except Exception as error:  # noqa: BLE001 - torch may raise anything
        return Comparison(what, "", "", False, 0, first_line(error))
    if [key for key, _ in found] != [key for key, _ in expected]:
        return Comparison(what, "", "", False, 0, "the output has another structure")
    runs = ([tensor for _, tensor in found], [tensor for _, tensor in expected])
    difference = _first_difference("the output", [runs[0]], [runs[1]])
    return Comparison(what, "", "", not difference, len(found), difference)


def _run_made(made: nn.Module, edited: nn.Module, inputs: ExampleInputs) -> Any:
    args, kwargs = inputs.split_for(edited, clone_inputs(inputs.example))
    model = copy_isolating_hooks(edited) if made is edited else made
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(SEED)
        return model(*args, **kwargs)


def _save(edited: nn.Module, _inputs: ExampleInputs) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(edited, buffer)
    buffer.seek(0)
    loaded: nn.Module = torch.load(buffer, weights_only=False)
    return loaded


def _compile(edited: nn.Module, _inputs: ExampleInputs) -> nn.Module:
    # Without the code generator, whose results differ in the last bits.
    compiled: Any = torch.compile(edited, backend="aot_eager", fullgraph=True)
    return compiled  # type: ignore[no-any-return]


def _export(edited: nn.Module, inputs: ExampleInputs) -> nn.Module:
    args, kwargs = inputs.split_for(edited, clone_inputs(inputs.example))
    with torch.no_grad():
        exported: nn.Module = torch.export.export(edited, tuple(args), dict(kwargs)).module()
    return exported

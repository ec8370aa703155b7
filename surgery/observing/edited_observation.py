"""What is known about an observed model in which values are edited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import EditError
from surgery.graph import Edges, Operations, ValueSource
from surgery.observing.observation import NewOperationEdits
from surgery.rewriting import ActivationEdit, edited_operation, original_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.observing.observation import Observation
    from surgery.rewriting import Change, ChangeMaker
    from surgery.types import Operation


def add_edits(observation: Observation, chosen: Sequence[Operation], make_change: ChangeMaker) -> Observation:
    """Return an observation in which the values of chosen operations are edited, after the edits that they have.

    Operations that only other runs have are edited too if the selection that `chosen` comes from matches them.
    """
    edits = dict(observation.edits)
    added: dict[str, Operation] = {}
    by_path = {operation.path: operation for operation in observation.operations}
    for path in dict.fromkeys(original_path(operation.path) for operation in chosen):
        operation = by_path[path]
        change = make_change(operation)
        _check_no_parameters(operation, change)
        before = edits[path][-1].operation.path if path in edits else path
        edit = ActivationEdit(edited_operation(operation, before=before), change)
        edits[path] = (*edits.get(path, ()), edit)
        added[before] = edit.operation
    matches = chosen.matches if isinstance(chosen, Operations) else None
    return replace(
        observation,
        operations=Operations(_insert_after(observation.operations, added)),
        edges=_redirect(observation.edges, added),
        edits=edits,
        new_edits=(*observation.new_edits, *([NewOperationEdits(matches, make_change)] if matches else [])),
    )


def _insert_after(operations: Sequence[Operation], added: Mapping[str, Operation]) -> list[Operation]:
    """Return operations with others after them, which `added` has by the paths of the former."""
    result: list[Operation] = []
    for operation in operations:
        result += [operation, *([added[operation.path]] if operation.path in added else [])]
    return result


def _redirect(edges: Edges, added: Mapping[str, Operation]) -> Edges:
    """Return edges in which the readers of operations read their edited values, which `added` has by former path."""

    def redirect(sources: tuple[ValueSource, ...]) -> tuple[ValueSource, ...]:
        return tuple(
            replace(source, path=added[source.path].path)
            if source.kind == "operation" and source.path in added
            else source
            for source in sources
        )

    operands = {name: redirect(sources) for name, sources in edges.operands.items()}
    edited = {each.name: (ValueSource(path, "operation", each.tensors),) for path, each in added.items()}
    return Edges(edges.inputs, operands | edited, redirect(edges.output))


def _check_no_parameters(operation: Operation, change: Change) -> None:
    if isinstance(change, nn.Module) and any(True for _ in change.parameters()):
        raise EditError(
            f"the edit of {operation.path} has parameters of its own, for which an observed model has no place; "
            "surgery.replace puts a module in the place of another one"
        )

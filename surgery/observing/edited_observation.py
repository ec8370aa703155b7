"""What is known about an observed model in which values are edited, or modules are replaced."""

from __future__ import annotations

from dataclasses import replace
from glob import escape
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import EditError
from surgery.graph import Edges, Operations, ValueSource
from surgery.observing.observation import NewOperationEdits
from surgery.rewriting import (
    EDIT,
    ActivationEdit,
    ActivationExtractor,
    edited_operation,
    is_removed,
    original_path,
    replaced_operation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.graph import InsertedModule
    from surgery.observing.observation import Observation
    from surgery.rewriting import Change, ChangeMaker
    from surgery.types import Operation


def add_edits(
    observation: Observation, chosen: Sequence[Operation], make_change: ChangeMaker, *, training: bool
) -> Observation:
    """Return an observation in which the values of chosen operations are edited, after the edits that they have.

    Modules among the edits are set to the mode `training`. Operations that only other runs have are edited too if the
    selection that `chosen` comes from matches them.
    """
    edits = dict(observation.edits)
    added: dict[str, Operation] = {}
    by_path = {operation.path: operation for operation in observation.operations}
    for path in dict.fromkeys(original_path(operation.path) for operation in chosen):
        operation = by_path[path]
        change = make_change(operation)
        _check_no_parameters(operation, change)
        before = edits[path][-1].operation.path if path in edits else path
        edit = ActivationEdit(edited_operation(operation, before=before), change).train(training)
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


def remove_kind(observation: Observation, kind: type[InsertedModule]) -> Observation:
    """Return an observation without the extractors or the edits, of which `kind` is the class."""
    extractors = {path: each for path, each in observation.extractors.items() if not is_removed(each, kind)}
    if issubclass(ActivationExtractor, kind):
        observation = replace(observation, new_operations=None)
    if issubclass(ActivationEdit, kind):
        kept = [operation for operation in observation.operations if operation.kind != EDIT]
        edited = {operation.path for operation in observation.operations} - {operation.path for operation in kept}
        edges = _map_sources(observation.edges, {path: original_path(path) for path in edited})
        operands = {operation.name: edges.operands[operation.name] for operation in kept}
        observation = replace(
            observation,
            operations=Operations(kept),
            edges=Edges(edges.inputs, operands, edges.output),
            edits={},
            new_edits=(),
        )
    return replace(observation, extractors=extractors)


def replace_kinds(observation: Observation, modules: Mapping[str, nn.Module]) -> Observation:
    """Return an observation in which other modules, by their paths, are in the places of leaves, and leaves too."""
    extractors = {
        path: ActivationExtractor(replaced_operation(each.operation, modules))
        for path, each in observation.extractors.items()
    }
    return replace(
        observation,
        operations=Operations(replaced_operation(each, modules) for each in observation.operations),
        leaves=(*observation.leaves, *map(escape, modules)),
        extractors=extractors,
    )


def _insert_after(operations: Sequence[Operation], added: Mapping[str, Operation]) -> list[Operation]:
    """Return operations with others after them, which `added` has by the paths of the former."""
    result: list[Operation] = []
    for operation in operations:
        result += [operation, *([added[operation.path]] if operation.path in added else [])]
    return result


def _redirect(edges: Edges, added: Mapping[str, Operation]) -> Edges:
    """Return edges in which the readers of operations read their edited values, which `added` has by former path."""
    mapped = _map_sources(edges, {path: operation.path for path, operation in added.items()})
    edited = {each.name: (ValueSource(path, "operation", each.tensors),) for path, each in added.items()}
    return Edges(edges.inputs, {**mapped.operands, **edited}, mapped.output)


def _map_sources(edges: Edges, paths: Mapping[str, str]) -> Edges:
    """Return edges in which operations are read by other paths."""

    def map_paths(sources: tuple[ValueSource, ...]) -> tuple[ValueSource, ...]:
        return tuple(
            replace(source, path=paths.get(source.path, source.path)) if source.kind == "operation" else source
            for source in sources
        )

    operands = {name: map_paths(sources) for name, sources in edges.operands.items()}
    return Edges(edges.inputs, operands, map_paths(edges.output))


def _check_no_parameters(operation: Operation, change: Change) -> None:
    if isinstance(change, nn.Module) and any(True for _ in change.parameters()):
        raise EditError(
            f"the edit of {operation.path} has parameters of its own, for which an observed model has no place; "
            "surgery.replace puts a module in the place of another one"
        )

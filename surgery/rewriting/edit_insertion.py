"""From a traced or rewritten model to a copy in which the values of operations are edited."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from torch import fx, nn

from surgery.errors import EditError
from surgery.graph import (
    InsertedOperation,
    OperationGroup,
    SharedMemory,
    build_traced_module,
    copy_sharing_parameters,
    empty_graph_like,
    explain_input_checks,
    format_location,
    inserted_module,
    map_graphs,
    node_line,
    not_traced,
    operation_groups,
    without_graph,
)
from surgery.rewriting.activation_edit import ActivationEdit, Change, edited_operation, original_path
from surgery.rewriting.insertion import META_OF_CALLS, check_chosen, free_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.types import Operation

ChangeMaker: TypeAlias = Callable[["Operation"], Change]
"""Takes an operation; returns what changes its value."""

_EDITS = "edits"
"""The submodule of a rewritten model that has its edits, with an underscore added if the model has this name."""

T = TypeVar("T", bound=nn.Module)


def insert_edits(traced: T, chosen: Sequence[Operation], make_change: ChangeMaker) -> T:
    """Return a copy of `traced` in which the value of each chosen operation is changed, for all who read it.

    The value before an edit has the path of its operation, and the value after it has that path with a prime:
    ``up3.cat'``. Both are operations of the copy, and can be extracted. An operation that is edited before is edited
    once more, after the edits that it has. What reads the memory of an operation that works in place, by whatever name,
    reads the edited value.

    Parameters are shared as by `insert`. Raises SelectionError for an operation that `traced` does not have, and
    EditError if nothing reads the values, or if an edited value can't be kept apart from others with which it shares
    memory.
    """
    check_chosen(traced, chosen, "edit")
    return edit_operations(traced, chosen, make_change)  # type: ignore[no-any-return]


@singledispatch
def edit_operations(traced: object, chosen: Sequence[Operation], make_change: ChangeMaker) -> Any:  # noqa: ARG001
    """Return a copy of a traced model with edits after operations that it has."""
    raise not_traced(traced)


class _Place(NamedTuple):
    """Where the edit of one operation goes."""

    group: OperationGroup
    value: fx.Node
    """The node that the edit reads: the operation, or the last of the extractors and edits after it."""
    before: str | None
    """The path of the last edited value so far."""
    replaced: set[fx.Node]
    """The nodes whose later readers read the edited value."""


@edit_operations.register(fx.GraphModule)
def _(traced: fx.GraphModule, chosen: Sequence[Operation], make_change: ChangeMaker) -> fx.GraphModule:
    owner = copy_sharing_parameters(without_graph(traced))
    home = free_name(owner, _EDITS)
    edits = nn.Module()
    paths = {original_path(operation.path) for operation in chosen}
    is_read: list[bool] = []

    def add_edits(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        places = _find_places(traced, original, paths)
        copies: dict[fx.Node, fx.Node] = {}
        added: list[fx.Node] = []
        for node in original.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if place := places.get(node):
                operation = place.group.operation
                name = free_name(edits, place.group.node.name)
                edit_node = graph.create_node(
                    "call_module", f"{home}.{name}", (copies[place.value],), name=f"{place.group.node.name}_edit"
                )
                edited = edited_operation(operation, before=place.before, name=edit_node.name)
                edits.add_module(name, ActivationEdit(edited, make_change(operation)))
                edit_node.meta = {
                    key: value for key, value in place.group.node.meta.items() if key not in META_OF_CALLS
                }
                copies.update(dict.fromkeys(place.replaced, edit_node))
                added.append(edit_node)
        is_read.extend(bool(edit_node.users) for edit_node in added)
        return graph

    owner.add_module(home, edits)
    explain_input_checks(owner)
    graphs = map_graphs(traced, add_edits)
    if not any(is_read):
        operation = chosen[0]
        line = f"{operation.source}: " if operation.source else ""
        raise EditError(
            f"{line}nothing reads the value of {operation.path}, so that an edit of it would change nothing"
        )
    edits.train(owner.training)
    return build_traced_module(owner, graphs, type(traced).__name__, traced)


def _find_places(traced: fx.GraphModule, graph: fx.Graph, paths: set[str]) -> dict[fx.Node, _Place]:
    """Return the places of edits in a graph, each by the node after which the edit goes."""
    memory = SharedMemory(traced, graph)
    places: dict[fx.Node, _Place] = {}
    for group in operation_groups(traced, graph):
        if group.operation.path not in paths:
            continue
        if len(group.values) != 1:
            raise EditError(
                f"{group.operation.path} can't be edited: in this exported graph it has {len(group.values)} values"
            )
        value, before = group.node, None
        while follower := _inserted_after(traced, value):
            value = follower
            inserted = inserted_module(traced, follower)
            if isinstance(inserted, InsertedOperation):
                before = inserted.operation.path
        works_in_place = before is None and memory.writes_to_result(group.node)
        if works_in_place and (state := next((n for n in memory.overlapping(value) if n.op == "get_attr"), None)):
            raise writes_to_state(group.operation, str(state.target))
        replaced = memory.same_tensor(value) if works_in_place else {value}
        _check_apart(memory, graph, group.operation, value, replaced)
        places[group.nodes[-1] if value is group.node else value] = _Place(group, value, before, replaced)
    return places


def writes_to_state(operation: Operation, name: str) -> EditError:
    """Return the error for the edit of an operation that writes to a parameter or buffer."""
    line = f"{operation.source}: " if operation.source else ""
    return EditError(
        f"{line}{operation.path} can't be edited: it writes to {name}, which would keep the edited value; edit an "
        "operation that reads it"
    )


def _inserted_after(traced: fx.GraphModule, value: fx.Node) -> fx.Node | None:
    """Return the node of the extractor or edit that reads a value in place of all others; None if there is none."""
    return next((user for user in value.users if inserted_module(traced, user) and user.args == (value,)), None)


def _check_apart(
    memory: SharedMemory, graph: fx.Graph, operation: Operation, value: fx.Node, replaced: set[fx.Node]
) -> None:
    """Raise EditError if the edited value would have to stay in the memory of the value that it is computed from.

    After the edit, what reads one of the `replaced` nodes reads new memory, and all else that has, or may have, memory
    in common with the value reads the former one. So neither may be written to while the other is still read.
    """
    nodes = list(graph.nodes)
    place = nodes.index(value)
    earlier = set(nodes[: place + 1])
    former = (memory.overlapping(value) & earlier) - replaced
    new = set(replaced)
    if not former:
        return
    works_in_place = len(replaced) > 1  # the operation, and what it has written to
    written: dict[str, fx.Node] = {}
    for node in nodes[place + 1 :]:
        inputs = set(node.all_input_nodes)
        if inputs & former and (writer := value if works_in_place else written.get("new")):
            raise _not_apart(operation, writer, inputs & former)
        if inputs & new and (writer := written.get("former")):
            raise _not_apart(operation, writer, inputs & new)
        for target in memory.written_by(node):
            written.update({"new": node} if target in new else {"former": node} if target in former else {})
        parents = memory.parents(node)
        if parents & new:
            new.add(node)
        elif parents & former:
            former.add(node)


def _not_apart(operation: Operation, writer: fx.Node, readers: set[fx.Node]) -> EditError:
    line = format_location(node_line(writer)) or "its graph"
    reader = min(readers, key=str)
    return EditError(
        f"{operation.path} can't be edited: {line} writes to its memory, which is read as {reader} too; write "
        "out of place there, or edit an operation after it"
    )

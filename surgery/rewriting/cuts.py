"""`cut`: a part of a model, from activations to activations, as a module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.errors import SelectionError, SurgeryError
from surgery.graph import (
    build_traced_module,
    copy_sharing_parameters,
    graph_module_of,
    map_graphs,
    operations,
    without_graph,
)
from surgery.rewriting.cut_plans import CutPlan, plan_cut
from surgery.rewriting.held_values import HeldValues, run_reference
from surgery.rewriting.insertion import Chosen, free_name, resolve_chosen
from surgery.rewriting.parts import PartBuilder, find_crossing
from surgery.rewriting.used_state import collect_used

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.graph import TracedModule
    from surgery.rewriting.places import Place

_HELD = "held"
"""The submodule with the values that are held, with an underscore added if the model has this name."""


def cut(
    traced: nn.Module,
    *,
    after: Chosen | None = None,
    until: Chosen | nn.Module | None = None,
    reference: Any = None,
) -> TracedModule:
    """Return a part of a traced model as a module, from activations to activations.

    With `after`, the part begins after the last of the chosen operations, in order of execution. Its inputs are the
    values that cross there: those of the chosen operations come first, and then all others that what remains needs,
    such as the skips of a U-Net, in order of execution. An input is called as its operation is (``down8_conv``), and an
    input of the model keeps its name. With a `reference`, which is an input of the model, a tuple of them, or a mapping
    by name, only the values of the chosen operations are inputs: all others are held at what they are for it, in
    buffers that `state_dict` leaves out.

    With `until`, the part ends after the last of the chosen operations, and returns its value, or a tuple of the values
    of several as they were computed. ``until=tail``, for a part that was cut from the same model, returns a tuple of
    the inputs of that part: ``tail(*cut(traced, until=tail)(image))`` is ``traced(image)``, bit for bit.

    Every operation between the two ends runs, used or not, since it may write in place or to a buffer. A part does not
    write to its inputs. It has the parameters that it uses, under their names, and shares them with `traced` as other
    rewritten models do; buffers are its own. A buffer that both sides use and one writes to is an input too. Operations
    keep their paths and kinds, and are counted from 1.

    Raises SelectionError for an operation that `traced` does not have, or whose value nothing after the cut needs;
    TraceError if something that is no tensor would have to cross, or two values that share memory which is written to
    later, and for an observed model, which has no graph; ModelError for a reference that the model does not take.
    """
    whole = graph_module_of(traced, "be cut")
    if after is None and until is None:
        raise SelectionError("cut takes after=, until= or both: a selection, or operations")
    if after is None and reference is not None:
        raise SelectionError("a reference gives values that cross the cut of after=; there is none without it")
    starts = () if after is None else _chosen_paths(whole, after)
    returned: Sequence[str] | Sequence[Place] | None = None
    if until is not None:
        returned = _crossing_of(until) if isinstance(until, nn.Module) else _chosen_paths(whole, until)
    plans = map_graphs(whole, lambda graph: _plan_or_reason(whole, graph, starts, returned))
    part = _build(whole, plans)
    if reference is None:
        return part
    values = run_reference(cut(whole, until=part), reference)
    chosen = _current_plan(whole, plans).chosen
    named = zip(find_crossing(part), values, strict=True)
    return _build(whole, plans, {place: value for place, value in named if place not in chosen})


def _chosen_paths(traced: fx.GraphModule, chosen: Chosen) -> tuple[str, ...]:
    """Return the paths of chosen operations in order of execution."""
    paths = {operation.path for operation in resolve_chosen(traced, chosen, "cut")}
    return tuple(operation.path for operation in operations(traced) if operation.path in paths)


def _crossing_of(tail: nn.Module) -> tuple[Place, ...]:
    places = find_crossing(tail) if isinstance(tail, fx.GraphModule) else ()
    if not places:
        raise SelectionError("until= takes operations, or what surgery.cut returns for after=")
    return places


def _plan_or_reason(
    traced: fx.GraphModule, graph: fx.Graph, after: Sequence[str], returned: Sequence[str] | Sequence[Place] | None
) -> CutPlan | str:
    """Return the plan for one graph. For a mode that the model is not in, it may be a text: why there is no part."""
    try:
        return plan_cut(traced, graph, after, returned)
    except SurgeryError as error:
        if graph is traced.graph:
            raise
        return str(error)


def _build(
    traced: fx.GraphModule, plans: Mapping[bool | None, CutPlan | str], held: Mapping[Place, Any] | None = None
) -> TracedModule:
    """Return the part that plans describe, one for each mode, with inputs that are `held` at values."""
    current = _current_plan(traced, plans)
    inputs = current.inputs()
    for plan in plans.values():
        for place, name in () if isinstance(plan, str) else plan.inputs().items():
            if current.section.places.node_at(place):
                inputs.setdefault(place, name)
    owner = without_graph(traced)
    home = free_name(owner, _HELD)
    values = HeldValues(held or {}, home)
    owner.add_module(home, values.buffers)
    made: dict[int, fx.Graph | str] = {}
    for plan in plans.values():
        if id(plan) not in made:
            made[id(plan)] = _build_or_reason(traced, plan, inputs, values)
    graphs = {mode: made[id(plan)] for mode, plan in plans.items()}
    used = collect_used(owner, [graph for graph in graphs.values() if isinstance(graph, fx.Graph)])
    part = build_traced_module(copy_sharing_parameters(used), graphs, type(traced).__name__, traced)
    paths = {path for path, _ in part.named_modules(remove_duplicate=False)}
    part.modes = {mode: {p: m for p, m in modes.items() if p in paths} for mode, modes in part.modes.items()}
    return part


def _build_or_reason(
    traced: fx.GraphModule, plan: CutPlan | str, inputs: Mapping[Place, str], held: HeldValues
) -> fx.Graph | str:
    if isinstance(plan, str):
        return plan
    if unknown := [place.path for place in plan.inputs() if place not in inputs]:
        return f"in this mode, this part would need the value of {unknown[0]} too; cut the model in this mode"
    try:
        graph = PartBuilder(traced, plan.section, plan.output, plan.kept).build(inputs)
    except SurgeryError as error:
        if plan.section.places.graph is traced.graph:
            raise
        return str(error)
    held.replace_inputs(graph)
    return graph


def _current_plan(traced: fx.GraphModule, plans: Mapping[bool | None, CutPlan | str]) -> CutPlan:
    plans_of_graphs = (plan for plan in plans.values() if isinstance(plan, CutPlan))
    return next(plan for plan in plans_of_graphs if plan.section.places.graph is traced.graph)

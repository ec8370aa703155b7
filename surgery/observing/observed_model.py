"""A model that runs as it is, and offers the values of its operations to extractors as they are computed."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from surgery.eager import is_observing, observe_modules, observing
from surgery.errors import TraceError
from surgery.graph import (
    DerivedModel,
    Edges,
    LeafRule,
    Operations,
    TraceInfo,
    call_arguments,
    copy_isolating_hooks,
    derive_model,
    find_edges,
    graph_module_of,
    info_of,
    inner_model,
    input_names,
    leaf_rule,
    model_html,
    operations,
    run_model,
    trace_info,
    unshare_parameters,
)
from surgery.observing.edited_observation import add_edits, remove_kind, replace_kinds
from surgery.observing.extraction_observer import ExtractionObserver, StopRun, call_listener
from surgery.observing.observation import leaf_rule_for
from surgery.rewriting import (
    ActivationEdit,
    ActivationExtractor,
    ChangeMaker,
    NewOperationExtractor,
    as_outputs,
    edit_operations,
    insert_extractors,
    own_edits,
    own_receivers,
    put_modules,
    remove_inserted,
    replace_modules,
    stop_after_last_extractor,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surgery.graph import InsertedModule
    from surgery.observing.observation import Observation
    from surgery.types import Operation

_ATTRIBUTE = "_surgery_observation"


class ObservedModel(DerivedModel):
    """A copy of a model whose class is derived from the model's.

    So it runs the model's own Python, in either mode, and has the model's `state_dict` with all that its modules do to
    it. What runs is an instance of the model's own class. It shares the model's parameters until it is moved or
    converted; modules, buffers, modes and hooks are its own.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model. Its extractors receive their values, unless a run of it surrounds this one."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise TraceError(explain_missing_graph(self, "be compiled as one graph or exported"))
        observation = observation_of(self)
        has_receivers = (
            observation.extractors
            or observation.new_operations
            or observation.edits
            or observation.new_edits
            or call_listener(self)
        )
        if observation.edits and (is_observing() or any(isinstance(value, fx.Proxy) for value in args)):
            raise TraceError(
                f"{type(self).__name__} is observed and has edits, which a model that it is a part of would lose; "
                "trace that model, and edit it then"
            )
        if not has_receivers or is_observing():
            return inner_model(self)(*args, **kwargs)
        if "torch._dynamo" in sys.modules:  # which would compile the model's own functions
            return _without_compiler()(self, args, kwargs)
        return _run_with_extractors(self, args, kwargs)

    def _repr_html_(self) -> str:
        """Return what the model's own class shows in a notebook, else a table of the operations."""
        inner: Any = inner_model(self)
        if hasattr(inner, "_repr_html_"):
            return str(inner._repr_html_())
        observation = observation_of(self)
        name = type(inner).__name__
        return model_html(name, observation.operations, observation.extractors.keys(), observation.edits.keys())

    def train(self, mode: bool = True) -> ObservedModel:
        """Set the mode of the model, and of the modules that edit its values."""
        super().train(mode)
        for edit in own_edits(self):
            edit.train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> ObservedModel:
        """Move or convert the model (`to`, `cuda`, `half`) after giving it parameters of its own."""
        unshare_parameters(self)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _run_with_extractors(model: ObservedModel, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    observation = observation_of(model)
    observe_modules(model, leaf_rule_for(observation.leaves))
    observer = ExtractionObserver(model, observation, call_listener(model))
    try:
        with observing(observer):
            output = run_model(inner_model(model), args, kwargs)
        observer.check_output(output)
    except (StopRun, Exception):  # the model may have raised another error when it was stopped
        if not observer.has_stopped:
            raise
    return None if observer.has_stopped else output


@cache
def _without_compiler() -> Callable[..., Any]:
    """Return `_run_with_extractors` as a function that `torch.compile` does not look into."""
    reason = "an observed model has no graph; surgery.trace says in its attribute `reason` why"
    return torch.compiler.disable(_run_with_extractors, reason=reason)  # type: ignore[no-any-return]


def observation_of(model: nn.Module) -> Observation:
    """Return what is known about an observed model."""
    observation: Observation = vars(model)[_ATTRIBUTE]
    return observation


def make_observed(model: nn.Module, observation: Observation) -> ObservedModel:
    """Return `model`, which belongs to nobody else, as an observed model."""
    vars(model)[_ATTRIBUTE] = observation
    return model if isinstance(model, ObservedModel) else derive_model(ObservedModel, model)


def explain_missing_graph(model: nn.Module, wish: str) -> str:
    """Return one line for something that needs a graph: that an observed model has none, why, and what to do."""
    reason = info_of(model).reason or "it was asked for with front_end='observed'"
    return f"{type(model).__name__} can't {wish}, since it is observed and has no graph ({reason})"


@operations.register(ObservedModel)
def _(model: ObservedModel) -> Operations:
    return observation_of(model).operations


@find_edges.register(ObservedModel)
def _(model: ObservedModel) -> Edges:
    return observation_of(model).edges


@graph_module_of.register(ObservedModel)
def _(model: ObservedModel, wish: str) -> fx.GraphModule:
    raise TraceError(explain_missing_graph(model, wish))


@input_names.register(ObservedModel)
def _(model: ObservedModel) -> tuple[str, ...]:
    return observation_of(model).inputs


@call_arguments.register(ObservedModel)
def _(model: ObservedModel, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    observation = observation_of(model)
    keywords = observation.keyword_inputs
    positional = tuple(values[name] for name in observation.inputs if name not in keywords)
    return positional, {name: values[name] for name in observation.inputs if name in keywords}


@leaf_rule.register(ObservedModel)
def _(model: ObservedModel) -> LeafRule:
    return leaf_rule_for(observation_of(model).leaves)


@trace_info.register(ObservedModel)
def _(model: ObservedModel) -> TraceInfo:
    return info_of(model)


@own_receivers.register(ObservedModel)
def _(model: ObservedModel) -> tuple[ActivationExtractor | NewOperationExtractor, ...]:
    observation = observation_of(model)
    new = observation.new_operations
    return (*observation.extractors.values(), *(() if new is None else (new,)))


@insert_extractors.register(ObservedModel)
def _(model: ObservedModel, chosen: Sequence[Operation]) -> ObservedModel:
    observation = observation_of(model)
    extractors = {operation.path: ActivationExtractor(operation) for operation in chosen}
    inserted = {path: ActivationExtractor(each.operation) for path, each in observation.extractors.items()}
    order = [operation.path for operation in observation.operations]
    both = inserted | extractors
    new = observation.new_operations
    matches = [
        each.matches for each in (new, chosen) if isinstance(each, (NewOperationExtractor, Operations)) and each.matches
    ]
    return _copy_with(
        model,
        extractors={path: both[path] for path in order if path in both},
        new_operations=NewOperationExtractor(_AnyOf(matches)) if matches else None,
    )


@own_edits.register(ObservedModel)
def _(model: ObservedModel) -> tuple[ActivationEdit, ...]:
    return tuple(edit for edits in observation_of(model).edits.values() for edit in edits)


@edit_operations.register(ObservedModel)
def _(model: ObservedModel, chosen: Sequence[Operation], make_change: ChangeMaker) -> ObservedModel:
    return make_observed(
        copy_isolating_hooks(model), add_edits(observation_of(model), chosen, make_change, training=model.training)
    )


@remove_inserted.register(ObservedModel)
def _(model: ObservedModel, kind: type[InsertedModule]) -> ObservedModel:
    return make_observed(copy_isolating_hooks(model), remove_kind(observation_of(model), kind))


@replace_modules.register(ObservedModel)
def _(model: ObservedModel, modules: Mapping[str, nn.Module]) -> ObservedModel:
    result = make_observed(copy_isolating_hooks(model), replace_kinds(observation_of(model), modules))
    put_modules(result, modules)
    return result


@stop_after_last_extractor.register(ObservedModel)
def _(model: ObservedModel) -> ObservedModel:
    return _copy_with(model, stops_early=True)


@as_outputs.register(ObservedModel)
def _(model: ObservedModel) -> Any:
    raise TraceError(
        f"{explain_missing_graph(model, 'return its activations as outputs')}; surgery.record returns them"
    )


def _copy_with(model: ObservedModel, **changes: Any) -> ObservedModel:
    """Return a copy of an observed model that shares its parameters, with another observation."""
    observation = replace(observation_of(model), **changes)
    return make_observed(copy_isolating_hooks(model), observation)


class _AnyOf:
    """Whether one of several selections matches."""

    def __init__(self, selections: Sequence[Any]) -> None:
        self._selections = selections

    def __call__(self, operation: Operation) -> bool:
        return any(matches(operation) for matches in self._selections)

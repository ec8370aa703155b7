"""How a traced model was made: which front end made it, why that one, and how much of the model it sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import fx, nn

from surgery.errors import TraceError

if TYPE_CHECKING:
    from surgery.graph.hazard_kinds import Hazard

FrontEnd: TypeAlias = Literal["symbolic", "observed"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many of a model's calls that compute tensors are part of an operation."""

    seen: int
    """The number of calls of torch's operators, in the run of the example, inside of an operation."""
    total: int
    unseen_modules: tuple[str, ...] = ()
    """The paths of the modules that computed something and have no operation, such as one that uses `vmap`."""

    @property
    def share(self) -> float:
        """The share of calls that are part of an operation, from 0 to 1."""
        return self.seen / self.total if self.total else 1.0


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """How a traced model was made."""

    front_end: FrontEnd | None = None
    """``symbolic`` for a graph by torch.fx, ``observed`` for a model that runs its own Python; None for a graph that
    `surgery.trace` did not make."""
    reason: str | None = None
    """Why the model is observed: the line that symbolic tracing can't take. None if it was asked for, or is a graph."""
    is_verified: bool = False
    """Whether the traced model was compared with the model on an example."""
    reach: Reach | None = None
    """None for a graph, and where it can't be measured."""
    hazards: tuple[Hazard, ...] = ()
    """What may be different in the graph, and was allowed or only noted."""


@singledispatch
def trace_info(traced: object) -> TraceInfo:
    """Return how a traced or rewritten model was made. Raises TraceError for anything else."""
    raise not_traced(traced)


@trace_info.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> TraceInfo:
    return info_of(traced)


def info_of(module: nn.Module) -> TraceInfo:
    """Return what `set_info` has stored in a module."""
    info: TraceInfo = vars(module).get(_ATTRIBUTE, TraceInfo())
    return info


def set_info(module: nn.Module, info: TraceInfo) -> None:
    """Store how a module was traced. Its attributes `front_end` and `reason` say so too, unless the model has such."""
    attributes = vars(module)
    known, attributes[_ATTRIBUTE] = _ATTRIBUTE in attributes, info
    for name in ("front_end", "reason"):
        if (known and name in attributes) or not hasattr(module, name):
            attributes[name] = getattr(info, name)


_ATTRIBUTE = "_surgery_trace_info"


def hazards(traced: object) -> tuple[Hazard, ...]:
    """Return the hazards that were found when a model was traced, and that change nothing or were allowed."""
    return trace_info(traced).hazards


def not_traced(value: object) -> TraceError:
    """Return the error for a value that is not a traced model."""
    kind = type(value).__name__
    return TraceError(f"{kind} is not a traced model; surgery.trace gives one, and surgery.insert a rewritten one")

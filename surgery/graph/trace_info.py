"""How a traced model was made: which front end made it, why that one, and how much of the model it sees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Literal, TypeAlias

from torch import fx, nn

from surgery.errors import TraceError
from surgery.text import abbreviate_list

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

    @property
    def percentage(self) -> int:
        """The share in percent, rounded down: 100 if all calls are part of an operation."""
        return 100 * self.seen // self.total if self.total else 100

    def describe(self) -> str:
        """Return the share as text, with the modules of which nothing was seen: ``reach 71%: nothing seen of attn``."""
        outermost = [path for path in self.unseen_modules if not _is_in_any(path, self.unseen_modules)]
        unseen = f": nothing was seen of {abbreviate_list(outermost, 4)}" if outermost else ""
        return f"reach {self.percentage}%{unseen}"


def _is_in_any(path: str, modules: tuple[str, ...]) -> bool:
    return any(path.startswith(f"{module}.") for module in modules)


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

    @property
    def short_reason(self) -> str | None:
        """The reason without remedies: ``models/unet.py:41: a branch that depends on the values of a tensor``."""
        if self.reason is None:
            return None
        shortened = re.sub(r"^\w+ can't be traced( faithfully)?: ", "", self.reason).partition("; ")[0]
        return re.sub(r" \((?:[^()]|\([^()]*\))*\)$", "", shortened)

    def describe(self) -> tuple[str, ...]:
        """Return one or two lines: the front end, whether the result is verified, or why it is observed, and the reach.

        There are none for a graph that `surgery.trace` did not make.
        """
        if self.front_end is None:
            return ()
        if self.front_end == "symbolic":
            allowed = any(hazard.changes_result for hazard in self.hazards)
            unverified = f"unverified: {'a hazard was allowed' if allowed else 'no example has run'}"
            return (f"traced symbolically, {'verified on an example' if self.is_verified else unverified}",)
        first = "observed, as requested" if self.reason is None else f"observed: {self.short_reason}"
        return (first,) if self.reach is None else (first, self.reach.describe())

    @property
    def note(self) -> str:
        """The description as one line, for those who see the results; empty for a graph that was verified."""
        is_plain = self.front_end == "symbolic" and self.is_verified
        return "" if is_plain else "; ".join(self.describe())


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


@singledispatch
def graph_module_of(traced: object, wish: str) -> fx.GraphModule:  # noqa: ARG001
    """Return a traced model as a graph module, for something that needs the graph, such as ``be cut``.

    Raises TraceError for a model that has none: it is observed, or not traced.
    """
    raise not_traced(traced)


@graph_module_of.register(fx.GraphModule)
def _(traced: fx.GraphModule, wish: str) -> fx.GraphModule:  # noqa: ARG001
    return traced


def not_traced(value: object) -> TraceError:
    """Return the error for a value that is not a traced model."""
    kind = type(value).__name__
    return TraceError(f"{kind} is not a traced model; surgery.trace gives one, and surgery.insert a rewritten one")

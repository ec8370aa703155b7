"""What in a model a graph can't hold, found while it is traced.

| kind | is | the graph |
| --- | --- | --- |
| `random` | random numbers that are no operation of torch's | has the numbers that were drawn while tracing |
| `buffer` | a buffer that forward writes or replaces, in a way that can't be recorded | has its value as it was |
| `attribute` | an attribute that forward sets and reads | has its value as it was |
| `swallowed` | a branch on a value, in a ``try`` that hides that it can't be traced | has what the ``except`` does |
| `isinstance` | a test of the type of something that is not known to be a tensor | has one branch |
| `identity` | ``is``, or a look into a table, with something that is not known | has one branch |
| `text` | text made of something that is not known, in what is computed | has the text that was made while tracing |
| `parameter` | a parameter that forward writes to | does not write, or writes to the model's own parameter |
| `state` | state outside the model that changes the next trace | has what was computed while tracing |
| `branch` | a branch that Python takes, as by `is`, for what is not known while tracing | has another than the model |
| `constant` | a value of a parameter, buffer or input that Python computes with | has it as it was while tracing |
| `gradient` | a function with a gradient of its own, called by a name that is not seen | has its parts' |
| `hook` | hooks of a module that is traced into | has the operations in them, and calls them no more |

All but the last may change what the model computes: they are errors unless they are allowed by name. Hooks, unless they
are of the backward pass or remove themselves, and an attribute that is only set, are notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from torch import fx

HazardKind: TypeAlias = Literal[
    "random",
    "buffer",
    "attribute",
    "swallowed",
    "isinstance",
    "identity",
    "text",
    "parameter",
    "state",
    "branch",
    "constant",
    "gradient",
    "hook",
]
HAZARD_KINDS: tuple[HazardKind, ...] = get_args(HazardKind)


@dataclass(frozen=True, slots=True)
class Hazard:
    """Something that a traced model does otherwise than the model, or might."""

    kind: HazardKind
    source: str | None
    """The user's line: ``models/unet.py:41``."""
    description: str
    """What it is and what follows."""
    remedy: str
    changes_result: bool
    """Whether it may change what the model computes; else it is a note."""

    def __str__(self) -> str:
        return f"{self.source}: {self.description}" if self.source else self.description


def hazards(traced: fx.GraphModule) -> tuple[Hazard, ...]:
    """What was noticed while a model was traced and does not change what it computes, or was allowed."""
    return getattr(traced, "hazards", ())

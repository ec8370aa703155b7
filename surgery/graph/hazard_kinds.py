"""The kinds of hazards: what a model does that its graph can't hold, or holds otherwise.

| kind | the model has | the graph has |
| --- | --- | --- |
| `random` | random numbers that no operation of torch draws | the numbers that were drawn during tracing |
| `buffer` | a buffer that forward changes in a way that can't be recorded | its value before the change |
| `attribute` | an attribute that forward sets and reads | its value before the change |
| `swallowed` | a branch on a value inside a ``try`` that hides the error of tracing | the ``except`` branch |
| `isinstance` | a type check of a value that may be something else than a tensor | one of the branches |
| `identity` | ``is``, or a lookup in a table, with a value that is unknown during tracing | one of the branches |
| `text` | a text made from a value that is unknown during tracing, not in an assertion | that of tracing |
| `parameter` | a parameter that forward writes to | no write, or a write to the model's own parameter |
| `state` | state outside of the model that changes the next trace | the values computed during tracing |
| `branch` | a branch that Python takes, as with ``is``, on a value unknown during tracing | another branch |
| `constant` | Python code that computes with a value of a parameter, buffer or input | the value during tracing |
| `state-dict` | methods of its own that save or load its state | no call of them, or the values of tracing |
| `hook` | hooks of a module that is traced into | the operations inside of the hooks, which are not called again |

Every kind except the last may change what the model computes. Such a hazard is an error unless the user allows its kind
by name. Hooks are only noted, unless they are of the backward pass or remove themselves; so are an attribute that
forward sets and does not read, and a method by which the model loads its state: `load_state_dict` of the graph then is
the error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

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
    "state-dict",
    "hook",
]
HAZARD_KINDS: tuple[HazardKind, ...] = get_args(HazardKind)


@dataclass(frozen=True, slots=True)
class Hazard:
    """A place where a traced model does, or may do, something else than the model."""

    kind: HazardKind
    source: str | None
    """File and line in the user's code: ``models/unet.py:41``."""
    description: str
    """What the model does, and what the graph does instead."""
    remedy: str
    changes_result: bool
    """Whether it may change what the model computes; if not, it is only noted."""

    def __str__(self) -> str:
        return f"{self.source}: {self.description}" if self.source else self.description

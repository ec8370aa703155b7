"""What a tracing thread sees of the calls that it makes: errors that the model hides, gradients that it would lose."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from surgery.graph import find_user_line, is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@dataclass(slots=True)
class Seen:
    """What was seen, each with the user's line."""

    errors: list[tuple[tuple[str, int], str]] = field(default_factory=list)
    """Errors that are there because a value is not known while tracing; where tracing ends well, they were hidden."""
    gradients: list[tuple[tuple[str, int] | None, str]] = field(default_factory=list)
    """Names of functions with a gradient of their own into which tracing went."""


@contextmanager
def seen_errors() -> Iterator[Seen]:
    """Within the block, look at each call in this thread."""
    found = Seen()
    before = sys.gettrace()

    def call(frame: FrameType, event: Any, argument: Any) -> Any:
        theirs = before(frame, event, argument) if before is not None else None
        if not is_user_file(frame.f_code.co_filename):
            return theirs
        if name := _own_gradient(frame):
            found.gradients.append((find_user_line(frame.f_back), name))

        def step(frame: FrameType, event: Any, argument: Any) -> Any:
            nonlocal theirs
            if theirs is not None:
                theirs = theirs(frame, event, argument)
            if event == "exception":
                kind, error, _ = argument
                message = str(error)
                if issubclass(kind, fx.proxy.TraceError) or any(word in message for word in _OF_PROXIES):
                    found.errors.append(((frame.f_code.co_filename, frame.f_lineno), message.partition(". ")[0]))
            return step

        frame.f_trace_lines = theirs is not None
        return step

    sys.settrace(call)
    try:
        yield found
    finally:
        sys.settrace(before)


def _own_gradient(frame: FrameType) -> str:
    """The name of a function with a gradient of its own whose code is about to run; empty for any other call."""
    code = frame.f_code
    given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    context = next((type(value) for value in given if isinstance(value, _Context)), None)
    return (
        "" if context is None or context.__name__ == "BackwardCFunction" else context.__name__.removesuffix("Backward")
    )


_Context = torch.autograd.function.FunctionCtx


_OF_PROXIES = (
    "Proxy",
    "ModelAttribute",
    "symbolic tracing",
    "symbolically traced",
    "argument of type: <class",
    "installed as a submodule",
)

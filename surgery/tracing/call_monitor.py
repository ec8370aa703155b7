"""Calls of the user's Python code while a model is traced, observed through `sys.settrace`.

Two faults raise no error, and a proxy can't detect them. A ``try`` in the model may catch the error about code that
can't be traced; the graph then contains the operations of the ``except`` block. And a `torch.autograd.Function` may be
called by another name than `apply`; the graph then contains its operations, whose gradients are not the function's.
"""

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
class CallFindings:
    """Faults that were found in the calls of a trace."""

    proxy_errors: list[tuple[tuple[str, int], str]] = field(default_factory=list)
    """Errors about proxies: the line that raised each, and its message. If the trace succeeds, they were caught."""
    custom_gradients: list[tuple[tuple[str, int] | None, str]] = field(default_factory=list)
    """Autograd functions that were traced into: the line that called each, and its name."""


@contextmanager
def monitor_calls() -> Iterator[CallFindings]:
    """Within the block, examine each call of the user's code in this thread.

    A trace function that is set already, as by a debugger, is called too, and is set again after the block.
    """
    findings = CallFindings()
    previous = sys.gettrace()

    def on_call(frame: FrameType, event: Any, argument: Any) -> Any:
        previous_local = previous(frame, event, argument) if previous is not None else None
        if not is_user_file(frame.f_code.co_filename):
            return previous_local
        if name := _autograd_function_name(frame):
            findings.custom_gradients.append((find_user_line(frame.f_back), name))

        def on_event(frame: FrameType, event: Any, argument: Any) -> Any:
            nonlocal previous_local
            if previous_local is not None:
                previous_local = previous_local(frame, event, argument)
            if event == "exception":
                kind, error, _ = argument
                message = str(error)
                if issubclass(kind, fx.proxy.TraceError) or any(part in message for part in _PROXY_MESSAGES):
                    line = (frame.f_code.co_filename, frame.f_lineno)
                    findings.proxy_errors.append((line, message.partition(". ")[0]))
            return on_event

        frame.f_trace_lines = previous_local is not None  # without events of lines, most of the cost is saved
        return on_event

    sys.settrace(on_call)
    try:
        yield findings
    finally:
        sys.settrace(previous)


def _autograd_function_name(frame: FrameType) -> str:
    """Return the name of the autograd function whose forward is about to run; empty for any other call.

    Its forward receives a context, whose class torch names after the function.
    """
    code = frame.f_code
    arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    context = next((type(value) for value in arguments if isinstance(value, torch.autograd.function.FunctionCtx)), None)
    if context is None or context.__name__ == "BackwardCFunction":
        return ""
    return context.__name__.removesuffix("Backward")


_PROXY_MESSAGES = (
    "Proxy",
    "ModelAttribute",
    "SequenceAttribute",
    "symbolic tracing",
    "symbolically traced",
    "argument of type: <class",
    "installed as a submodule",
)
"""Parts of the messages of errors that an eager run does not raise."""

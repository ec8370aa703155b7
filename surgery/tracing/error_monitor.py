"""Errors about proxies that the user's code raises while a model is traced, observed through `sys.settrace`.

A ``try`` in the model may catch the error about code that can't be traced. The graph then contains the operations of
the ``except`` block.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import fx

from surgery.graph import is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ProxyErrors: TypeAlias = "list[tuple[tuple[str, int], str]]"
"""The line that raised each error, and its message."""


@contextmanager
def monitor_proxy_errors() -> Iterator[ProxyErrors]:
    """Within the block, collect the errors about proxies in the user's code in this thread.

    If the trace succeeds, they were caught. A trace function that is set already, as by a debugger, is called too, and
    is set again after the block.
    """
    errors: ProxyErrors = []
    previous = sys.gettrace()

    def on_call(frame: FrameType, event: Any, argument: Any) -> Any:
        previous_local = previous(frame, event, argument) if previous is not None else None
        if not is_user_file(frame.f_code.co_filename):
            return previous_local

        def on_event(frame: FrameType, event: Any, argument: Any) -> Any:
            nonlocal previous_local
            if previous_local is not None:
                previous_local = previous_local(frame, event, argument)
            if event == "exception":
                kind, error, _ = argument
                message = str(error)
                if issubclass(kind, fx.proxy.TraceError) or any(part in message for part in _PROXY_MESSAGES):
                    errors.append(((frame.f_code.co_filename, frame.f_lineno), message.partition(". ")[0]))
            return on_event

        frame.f_trace_lines = previous_local is not None  # without events of lines, most of the cost is saved
        return on_event

    sys.settrace(on_call)
    try:
        yield errors
    finally:
        sys.settrace(previous)


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

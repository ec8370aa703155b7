"""Errors that are there because a value is not known while tracing, seen even where the model hides them."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import fx

from surgery.sources import is_users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextmanager
def seen_errors() -> Iterator[list[tuple[tuple[str, int], str]]]:
    """Within the block, the errors in the user's code that are there because a value is not known while tracing.

    Where tracing ends well, somebody has hidden them.
    """
    found: list[tuple[tuple[str, int], str]] = []
    before = sys.gettrace()

    def call(frame: FrameType, event: Any, argument: Any) -> Any:
        theirs = before(frame, event, argument) if before is not None else None
        if not is_users(frame.f_code.co_filename):
            return theirs

        def step(frame: FrameType, event: Any, argument: Any) -> Any:
            nonlocal theirs
            if theirs is not None:
                theirs = theirs(frame, event, argument)
            if event == "exception":
                kind, error, _ = argument
                message = str(error)
                if issubclass(kind, fx.proxy.TraceError) or any(word in message for word in _OF_PROXIES):
                    found.append(((frame.f_code.co_filename, frame.f_lineno), message.partition(". ")[0]))
            return step

        frame.f_trace_lines = theirs is not None
        return step

    sys.settrace(call)
    try:
        yield found
    finally:
        sys.settrace(before)


_OF_PROXIES = (
    "Proxy",
    "ModelAttribute",
    "symbolic tracing",
    "symbolically traced",
    "argument of type: <class",
    "installed as a submodule",
)

"""Finds the line of the user's code that changes a state, by a comparison after each line of a run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from surgery.graph import is_user_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType


def find_mutating_line(
    take: Callable[[], object], run: Callable[[], object], *, among: Callable[[CodeType], bool] = lambda _: True
) -> tuple[str, int] | None:
    """Return file and line of the user's code that first changes what `take` returns, while `run` runs.

    Returns None if no line does. Only lines of code for which `among` is true are examined. `take` is called after each
    line: this is slow, and meant for a run that is known to change something.
    """
    before = take()
    mutating: tuple[str, int] | None = None
    last: tuple[str, int] | None = None
    lines: dict[FrameType, tuple[str, int]] = {}

    def on_event(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal mutating, last
        if mutating is None and take() != before:
            mutating = lines.get(frame, last)
        if event == "line":
            last = lines[frame] = (frame.f_code.co_filename, frame.f_lineno)
        return on_event

    def on_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        return on_event if is_user_file(frame.f_code.co_filename) and among(frame.f_code) else None

    previous = sys.gettrace()
    sys.settrace(on_call)
    try:
        run()
    finally:
        sys.settrace(previous)
    return mutating or (last if take() != before else None)

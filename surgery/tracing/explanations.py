"""Why a model can't be traced, in one line: where tracing stopped, what stands there, and what to do."""

from __future__ import annotations

import inspect
from operator import itemgetter
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import first_line
from surgery.graph import format_location, is_user_file, run_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType


def clearest(failures: Sequence[tuple[int, Exception]]) -> Exception:
    """The error that says best why no attempt at tracing a model succeeded.

    `failures` has for each attempt how many operations it recorded, and its error. The attempt that got furthest met
    what really stands in the way; of those that failed in the same line, the last was given the most.
    """
    furthest = max(failures, key=itemgetter(0))[1]
    place = _place(furthest)[0]
    return next(error for _, error in reversed(failures) if _place(error)[0] == place)


def explain(model: nn.Module, error: Exception) -> str:
    """One line: where tracing stopped, why, and what to do."""
    line, caller = _place(error)
    place = format_location(line) or type(model).__name__
    whole = type(caller).__name__
    remedy = (
        f"write it without, or keep a module around it whole: leaves=[{whole!r}], or --leaf {whole} on the command line"
        if caller is not None and caller is not model and whole != type(model).__name__
        else "write it without, or move it into a module of its own that is kept whole with leaves=[...]"
    )
    return f"{type(model).__name__} can't be traced: {place}: {_reason(error)}; {remedy}"


def _place(error: Exception) -> tuple[tuple[str, int] | None, nn.Module | None]:
    """The user's line that an error comes from, and the innermost module whose forward was running."""
    line, running = None, None
    trail = error.__traceback__
    while trail is not None:
        frame = trail.tb_frame
        owner = frame.f_locals.get("self")
        if is_user_file(frame.f_code.co_filename):
            line = (frame.f_code.co_filename, trail.tb_lineno)
            if isinstance(owner, nn.Module) and _is_forward(frame.f_code, owner):
                running = owner
        elif frame.f_code is run_model.__code__:  # the lines before it are not the model's
            line = None
        trail = trail.tb_next
    return line, running


def _is_forward(code: CodeType, module: nn.Module) -> bool:
    """Whether code is that of a module's forward, and not of another of its methods: keeping it whole leaves it out."""
    forward = inspect.unwrap(type(module).forward)
    return getattr(forward, "__code__", None) is code


_REASONS = (
    ("control flow", "a branch or loop that depends on the values of a tensor or on its shape"),
    ("cannot be iterated", "a loop, or an unpacking, over a tensor whose length is not known while tracing"),
    (
        "Proxy object cannot be iterated",
        "a loop, or an unpacking, over a tensor whose length is not known while tracing",
    ),
    ("is not a member of this module", "a module or parameter is used that the model has not registered as its own"),
    ("random generator of the model's own", "a random generator that a graph can't hold"),
    ("'len' is not supported", "len() of a tensor, which is not known while tracing"),
    ("cannot be interpreted as an integer", "a number is needed that is not known while tracing, in range() perhaps"),
    ("Proxy", "a function that takes no tensor whose values are not known yet"),
)


def _reason(error: Exception) -> str:
    message = first_line(error).partition(". ")[0]
    plain = next((reason for sign, reason in _REASONS if sign in message), None)
    return f"{plain} ({message})" if plain else f"{type(error).__name__}: {message}"

"""Why a model can't be traced, in one line: where tracing stopped, why, and what to do."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import first_line
from surgery.graph import format_location, is_user_file, run_model

if TYPE_CHECKING:
    from types import CodeType

KEEP_WHOLE = "keep the enclosing module whole with leaves=[...]"
"""The remedy for all code in a module's forward: the module is recorded as one operation, and is not traced into."""


def explain_failure(model: nn.Module, error: Exception) -> str:
    """Return one line: where tracing stopped, why, and what to do."""
    line, caller = locate_error(error)
    place = format_location(line) or type(model).__name__
    class_name = type(caller).__name__
    remedy = (
        f"rewrite this line, or keep the enclosing module whole: leaves=[{class_name!r}], or --leaf {class_name} on "
        "the command line"
        if caller is not None and caller is not model and class_name != type(model).__name__
        else "rewrite this line, or move it into a module of its own and keep that module whole with leaves=[...]"
    )
    return f"{type(model).__name__} can't be traced: {place}: {_describe_reason(error)}; {remedy}"


def locate_error(error: Exception) -> tuple[tuple[str, int] | None, nn.Module | None]:
    """Return the user's line that an error comes from, and the innermost module whose forward was running."""
    line, running = None, None
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        owner = frame.f_locals.get("self")
        if is_user_file(frame.f_code.co_filename):
            line = (frame.f_code.co_filename, traceback.tb_lineno)
            if isinstance(owner, nn.Module) and _is_forward(frame.f_code, owner):
                running = owner
        elif frame.f_code is run_model.__code__:  # the lines before it are not the model's
            line = None
        traceback = traceback.tb_next
    return line, running


def _is_forward(code: CodeType, module: nn.Module) -> bool:
    """Return whether code is a module's forward: then the error's line is not traced if the module is kept whole."""
    forward = inspect.unwrap(type(module).forward)
    return getattr(forward, "__code__", None) is code


_REASONS = (
    ("control flow", "a branch or loop that depends on the values of a tensor or on its shape"),
    ("cannot be iterated", "a loop, or an unpacking, over a tensor whose length is not known while tracing"),
    ("is not a member of this module", "a module or parameter is used that the model has not registered as its own"),
    ("its own torch.Generator", "a random generator that a graph can't store"),
    ("'len' is not supported", "len() of a tensor, which is not known while tracing"),
    ("cannot be interpreted as an integer", "a number is needed that is not known while tracing, in range() perhaps"),
    ("Proxy", "a function that needs the values of a tensor, which are not known while tracing"),
)
"""Parts of messages of torch.fx and Python about proxies, and what they mean for the model's code."""


def _describe_reason(error: Exception) -> str:
    message = first_line(error).partition(". ")[0]
    reason = next((reason for part, reason in _REASONS if part in message), None)
    return f"{reason} ({message})" if reason else f"{type(error).__name__}: {message}"

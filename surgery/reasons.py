"""Why a model can't be traced, in one line: where tracing stopped, what stands there, and what to do."""

from __future__ import annotations

from torch import nn

from surgery.errors import first_line
from surgery.sources import is_users, shown


def explain(model: nn.Module, error: Exception) -> str:
    """One line: where tracing stopped, why, and what to do."""
    where, caller = None, None
    trail = error.__traceback__
    while trail is not None:
        frame = trail.tb_frame
        if is_users(frame.f_code.co_filename):
            where = (frame.f_code.co_filename, trail.tb_lineno)
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                caller = owner
        trail = trail.tb_next
    place = shown(where) or type(model).__name__
    whole = type(caller if caller is not None else model).__name__
    remedy = (
        f"write it without, or keep a module around it whole: leaves=[{whole!r}], or --leaf {whole} on the command line"
        if caller is not None and caller is not model and whole != type(model).__name__
        else "write it without, or move it into a module of its own that is kept whole with leaves=[...]"
    )
    return f"{type(model).__name__} can't be traced: {place}: {_reason(error)}; {remedy}"


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

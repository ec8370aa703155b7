"""Running a plugin's own code where it can do no harm: what it prints is kept apart, and a failure has its line."""

from __future__ import annotations

import importlib
import inspect
import io
import os
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError, first_line
from surgery.graph import format_location

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BETWEEN = tuple(
    f"{Path(file).parent}{os.sep}"
    for file in (Path(__file__).parent, importlib.__file__, getattr(find_spec("pluggy"), "origin", None))
    if file
)
"""Folders of the code that runs between us and a plugin."""


def call_plugin(action: str, function: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a plugin's function returns, and that it printed, if it did.

    Raises PluginError, ``<action> <class>: <message> (<file>:<line>)``, for whatever it raises.
    """
    with _apart() as printed:
        try:
            value = function()
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{action} {describe_error(error)}") from error
    said = printed.getvalue().strip()
    return value, [f"prints {said.splitlines()[0][:60]!r}, which is kept from standard output"] if said else []


@contextmanager
def _apart() -> Iterator[io.StringIO]:
    """What Python prints to standard output goes to the yielded buffer; what others do, to standard error."""
    printed, saved = io.StringIO(), None
    with suppress(OSError, AttributeError):  # closed
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(printed):
            yield printed
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def describe_error(error: BaseException, elsewhere: str = "") -> str:
    """``<class>: <message> (<file>:<line>)``, the line being one of the plugin's own code, or what is said instead."""
    message = error.msg if isinstance(error, SyntaxError) else first_line(error)
    return f"{type(error).__name__}: {message}{locate_error(error) or elsewhere}"


def locate_error(error: BaseException) -> str:
    """`` (<file>:<line>)``: where in a plugin's code an error comes from; nothing where it was in none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({format_location((error.filename, error.lineno or 1))})"
    lines: list[tuple[str, int]] = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", *_BETWEEN)):
            lines.append((file, trace.tb_lineno))
        trace = trace.tb_next
    # The innermost line of the plugin itself says more than one deep in a library that it uses.
    own = [line for line in lines if Path(line[0]).is_relative_to(Path(lines[0][0]).parent)]
    return f" ({format_location(own[-1])})" if own else ""


def locate_definition(function: object) -> str:
    """`` (<file>:<line>)``: where a function or class is written; nothing where that can't be known."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f" ({format_location((code.co_filename, code.co_firstlineno))})" if code is not None else ""

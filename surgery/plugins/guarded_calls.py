"""Calls of a plugin's code: its prints are captured, and its exceptions become one line with a source location."""

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
from surgery.interrupts import raising_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CALLER_FOLDERS = tuple(
    f"{Path(file).parent}{os.sep}"
    for file in (Path(__file__).parent, importlib.__file__, getattr(find_spec("pluggy"), "origin", None))
    if file
)
"""Folders of the code that calls plugins: this project, importlib, pluggy. Its lines are left out of locations."""


def call_plugin(action: str, function: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Call a plugin's function; return its result, and a remark if it printed something.

    Raises PluginError for any exception: ``<action> <class>: <message> (<file>:<line>)``.
    """
    with _captured_stdout() as captured:
        try:
            with raising_interrupts():
                result = function()
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{action} {describe_error(error)}") from error
    printed = captured.getvalue().strip()
    return result, [f"prints {printed.splitlines()[0][:60]!r}, which is kept from standard output"] if printed else []


@contextmanager
def _captured_stdout() -> Iterator[io.StringIO]:
    """Yield a buffer with what Python prints to standard output; what C code or a subprocess prints goes to stderr."""
    captured, saved = io.StringIO(), None
    with suppress(OSError, AttributeError):  # standard output is closed
        sys.stdout.flush()
        saved = os.dup(1)
        os.dup2(2, 1)
    try:
        with redirect_stdout(captured):
            yield captured
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def describe_error(error: BaseException, location: str = "") -> str:
    """Return ``<class>: <message> (<file>:<line>)``, with the innermost line of the plugin's own code.

    If the exception comes from no line of a plugin, `location` follows the message.
    """
    message = error.msg if isinstance(error, SyntaxError) else first_line(error)
    return f"{type(error).__name__}: {message}{_locate_error(error) or location}"


def _locate_error(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({format_location((error.filename, error.lineno or 1))})"
    lines: list[tuple[str, int]] = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", *_CALLER_FOLDERS)):
            lines.append((file, trace.tb_lineno))
        trace = trace.tb_next
    # A line of the plugin itself tells its author more than one deep in a library that it calls.
    own = [line for line in lines if Path(line[0]).is_relative_to(Path(lines[0][0]).parent)]
    return f" ({format_location(own[-1])})" if own else ""


def locate_definition(function: object) -> str:
    """Return `` (<file>:<line>)`` of the definition of a function, or nothing if it has no Python code."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f" ({format_location((code.co_filename, code.co_firstlineno))})" if code is not None else ""

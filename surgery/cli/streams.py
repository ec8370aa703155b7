"""The standard streams of a command, as they may be: closed, cut off by ``head``, of an encoding that lacks letters."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from surgery.cli.wording import for_command_line
from surgery.errors import OutputError
from surgery.text import escape_unprintable, replace_unencodable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream:
    """A stream that takes any text: what its encoding lacks is written with stand-ins.

    Raises OutputError where it can't be written, BrokenPipeError where nobody reads it any more.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, as far as the encoding has its characters, and else what stands for them."""
        with _told_plainly():
            self._stream.write(replace_unencodable(text, getattr(self._stream, "encoding", None) or "utf-8"))
        return len(text)

    def flush(self) -> None:
        """Have written what was kept back."""
        with _told_plainly():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    """Write a text of any number of lines to standard output, as it is."""
    if sys.stdout is not None:
        Stream(sys.stdout).write(f"{text}\n")


def complain(line: str) -> None:
    """Say on standard error, in one line and in words of the command line, what is wrong."""
    if sys.stderr is not None:
        Stream(sys.stderr).write(escape_unprintable(f"surgery: {for_command_line(line)}") + "\n")
        sys.stderr.flush()


@contextmanager
def ready_streams() -> Iterator[None]:
    """Within the block, writing to a standard stream raises nothing but BrokenPipeError, which ends the process.

    A stream that is closed leads nowhere. A warning is one line without characters that steer a terminal.
    """
    _open_closed()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # a stream of somebody's own
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    showing, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        try:
            yield
        finally:
            Stream(sys.stdout).flush()
    except BrokenPipeError:
        _lead_nowhere()
        sys.exit(1)
    except OutputError as error:
        _lead_nowhere()
        complain(str(error))
        sys.exit(1)
    finally:
        warnings.formatwarning = showing


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"can't write to the terminal or its pipe: {(error.strerror or str(error)).lower()}"
        ) from error


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,  # noqa: ARG001
) -> str:
    return escape_unprintable(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


def _open_closed() -> None:
    """Have the three standard streams open, so that no other file is given the number of one that is closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _lead_nowhere() -> None:
    """Have nothing more written to streams whose reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)

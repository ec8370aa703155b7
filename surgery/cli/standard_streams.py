"""Writing to the standard streams in whatever state they are: closed, cut off by ``head``, of a limited encoding."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from surgery.cli.option_names import with_option_names
from surgery.errors import OutputError
from surgery.text import escape_unprintable, format_count, replace_unencodable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.output import Failure


class SafeStream:
    """A text stream that accepts any character: those that its encoding lacks are replaced by stand-ins.

    Raises OutputError when writing fails, and BrokenPipeError when the reader of a pipe has gone.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, with stand-ins for the characters that the encoding lacks."""
        with _output_errors():
            self._stream.write(replace_unencodable(text, getattr(self._stream, "encoding", None) or "utf-8"))
        return len(text)

    def flush(self) -> None:
        """Write out what is still in the buffer."""
        with _output_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def print_output(text: str) -> None:
    """Write a text of any number of lines to standard output, unchanged."""
    if sys.stdout is not None:
        SafeStream(sys.stdout).write(f"{text}\n")


def print_message(message: str) -> None:
    """Write one line to standard error: an error, a warning or a question, with the names of command-line options."""
    if sys.stderr is not None:
        SafeStream(sys.stderr).write(escape_unprintable(f"surgery: {with_option_names(message)}") + "\n")
        sys.stderr.flush()


def print_note(note: object) -> None:
    """Write one line to standard error about something that the user may want to know, and that is no error."""
    print_message(f"note: {note}")


def print_failures(failed: Sequence[Failure], finished: int) -> None:
    """Write why images failed to standard error, a line each, and how many; `finished` is the number of the others."""
    for failure in failed:
        print_message(failure.reason if failure.path in failure.reason else f"{failure.path}: {failure.reason}")
    if failed:
        print_message(f"{len(failed)} of {format_count(len(failed) + finished, 'image')} failed")


@contextmanager
def safe_standard_streams() -> Iterator[None]:
    """Make the standard streams safe to write to within the block.

    Closed streams are opened on the null device. Warnings are printed in one line without control characters. The
    process ends with exit code 1 when a stream can't be written, silently when its reader has gone.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # a replaced stream may lack `reconfigure`
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    original_format, warnings.formatwarning = warnings.formatwarning, _format_warning
    try:
        try:
            yield
        finally:
            SafeStream(sys.stdout).flush()
    except BrokenPipeError:
        _discard_unwritten_output()
        sys.exit(1)
    except OutputError as error:
        _discard_unwritten_output()
        print_message(str(error))
        sys.exit(1)
    finally:
        warnings.formatwarning = original_format


@contextmanager
def _output_errors() -> Iterator[None]:
    """Raise OutputError in place of OSError, except for BrokenPipeError."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"can't write to the terminal or its pipe: {(error.strerror or str(error)).lower()}"
        ) from error


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,  # noqa: ARG001
) -> str:
    return escape_unprintable(f"{filename}:{lineno}: {category.__name__}: {message}") + "\n"


def _open_closed_streams() -> None:
    """Open each closed standard stream on the null device.

    The next file that the process opens would otherwise get the descriptor of the closed stream.
    """
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


def _discard_unwritten_output() -> None:
    """Redirect the streams that can't be flushed to the null device, so that Python's exit doesn't fail on them."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(null_device, stream.fileno())
    os.close(null_device)

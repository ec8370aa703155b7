"""Files outside of a run that appear only when they are complete."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which is renamed to `path` if the block ends without an error.

    Missing folders are made. Raises OutputError if the file can't be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as error:
        raise OutputError(f"can't write {path}: {describe_os_error(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)

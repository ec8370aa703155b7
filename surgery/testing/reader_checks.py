"""Checks of readers of input files."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.errors import ImageError, SurgeryError
from surgery.testing.sample_files import write_invalid_files, write_valid_files
from surgery.testing.violations import Violation, describe_exception, describe_value, detect_state_changes, is_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.stages import Reader


def reader_violations(reader: Reader, files: Sequence[Path] = ()) -> Iterator[Violation]:
    """Yield a violation for each file that a reader reads wrongly, or rejects with the wrong kind of exception.

    It has to read each of `files`. It may read small files of its suffixes, and must not end a run with an invalid one.
    """
    suffixes: object = getattr(reader, "suffixes", ())
    if not isinstance(suffixes, (tuple, list, set, frozenset)) or not all(
        isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes
    ):
        yield Violation(f"has suffixes {suffixes!r:.60}, not such as ('.npy',) in lower case")
        suffixes = ()
    with TemporaryDirectory() as folder:
        valid_suffixes = [str(suffix) for suffix in suffixes]
        for file in (*files, *write_valid_files(Path(folder), valid_suffixes)):
            yield from _check_valid_file(reader, file, is_required=file in files)
        for name, file in write_invalid_files(Path(folder), valid_suffixes):
            yield from _check_invalid_file(reader, file, name)


def _check_valid_file(reader: Reader, file: Path, *, is_required: bool) -> Iterator[Violation]:
    """Read a file twice. Unless it `is_required`, the reader may reject it with ImageError."""
    content = file.read_bytes() if file.is_file() else b""
    case = str(file) if is_required else f"a small {file.suffix} file"
    try:
        with detect_state_changes(case) as changes:
            first: object = _read_on_thread(reader, file)
            second: object = _read_on_thread(reader, file)
    except ImageError as error:
        if is_required:
            yield Violation(describe_exception(error), case)
        return
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield Violation(describe_exception(error), case)
        return
    yield from changes
    parts, again = _by_name(first), _by_name(second)
    if not parts or not all(_is_model_input(part) for part in (*parts.values(), *again.values())):
        yield Violation(f"gives {describe_value(first)}, not (1, ...) tensors", case)
        return
    if parts.keys() != again.keys() or not all(is_equal(part, again[name]) for name, part in parts.items()):
        yield Violation("gives other values the second time", case)
        return
    before = {name: part.clone() for name, part in parts.items()}
    for part in again.values():
        part.zero_()
    if not all(is_equal(part, before[name]) for name, part in parts.items()):
        yield Violation("gives the same memory each time, and a model may write to it", case)
    if file.is_file() and file.read_bytes() != content:
        yield Violation("writes to the file that it reads", case)


def _check_invalid_file(reader: Reader, file: Path, name: str) -> Iterator[Violation]:
    try:
        _read_on_thread(reader, file)
    except ImageError:
        return
    except (SurgeryError, SystemExit, KeyboardInterrupt) as error:
        yield Violation(f"ends the run, not with surgery.errors.ImageError but {type(error).__name__}", name)
    except Exception:  # noqa: BLE001 - a run leaves such a file out, too
        return


def _read_on_thread(reader: Reader, file: Path) -> object:
    """Return what a reader returns in another thread, as runs call it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(reader, file).result()


def _by_name(values: Any) -> dict[str, Any]:
    """Return what a reader returned by name; a single tensor has the name ``""``."""
    return dict(values) if isinstance(values, Mapping) else {"": values}


def _is_model_input(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == 1 and value.numel() > 0

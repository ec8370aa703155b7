"""What the things that read files promise: readers of inputs, and readers of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from surgery.errors import CheckpointError, ImageError, SurgeryError
from surgery.testing.sample_files import write_invalid_files, write_valid_files
from surgery.testing.violations import Violation, describe_exception, describe_value, detect_state_changes, is_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.stages import CheckpointReader, Reader


def reader_violations(reader: Reader, files: Sequence[Path] = ()) -> Iterator[Violation]:
    """``(1, C, H, W)`` float, the same each time, of memory of its own; no error but ImageError ends a reading."""
    suffixes: object = getattr(reader, "suffixes", ())
    if not isinstance(suffixes, (tuple, list, set, frozenset)) or not all(
        isinstance(suffix, str) and suffix.startswith(".") and suffix == suffix.lower() for suffix in suffixes
    ):
        yield Violation(f"has suffixes {suffixes!r:.60}, not such as ('.npy',) in lower case")
        suffixes = ()
    with TemporaryDirectory() as place:
        named = [str(suffix) for suffix in suffixes]
        for file in (*files, *write_valid_files(Path(place), named)):
            yield from _check_one_read(reader, file, asked=file in files)
        for name, file in write_invalid_files(Path(place), named):
            try:
                _read_on_thread(reader, file)
            except ImageError:
                continue
            except (SurgeryError, SystemExit, KeyboardInterrupt) as error:
                yield Violation(f"ends the run, not with surgery.errors.ImageError but {type(error).__name__}", name)
            except Exception:  # noqa: BLE001, S112 - a run leaves such a file out as well
                continue


def _check_one_read(reader: Reader, file: Path, *, asked: bool) -> Iterator[Violation]:
    """One file that should be readable; where nobody `asked` for it, a reader may refuse it."""
    before = file.read_bytes() if file.is_file() else b""
    given = str(file) if asked else f"a small {file.suffix} file"
    try:
        with detect_state_changes(given) as found:
            read: object = _read_on_thread(reader, file)
            again: object = _read_on_thread(reader, file)
    except ImageError as error:
        if asked:
            yield Violation(describe_exception(error), given)
        return
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
        yield Violation(describe_exception(error), given)
        return
    yield from found
    if not isinstance(read, Tensor) or not isinstance(again, Tensor) or not _is_input(read):
        yield Violation(f"gives {describe_value(read)}, not (1, C, H, W) float", given)
        return
    if not is_equal(read, again):
        yield Violation("gives other values the second time", given)
    kept = read.clone()
    again.zero_()
    if not is_equal(read, kept):
        yield Violation("gives the same memory each time, and a model may write to it", given)
    if file.is_file() and file.read_bytes() != before:
        yield Violation("writes to the file that it reads", given)


def _read_on_thread(reader: Reader, file: Path) -> object:
    """What a reader gives on a thread of its own, as runs call it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(reader, file).result()


def _is_input(read: object) -> bool:
    return (
        isinstance(read, Tensor) and read.ndim == 4 and len(read) == 1 and read.numel() > 0 and read.is_floating_point()
    )


def checkpoint_violations(reader: CheckpointReader, files: Sequence[Path] = ()) -> Iterator[Violation]:
    """A network with its weights, the same each time, or None for a file of another kind; what it is given is kept."""
    with TemporaryDirectory() as place:
        for name, path, state in _generate_unknown_states(Path(place)):
            yield from _check_one_file(reader, path, state, name, asked=False)
    for file in files:
        try:
            yield from _check_one_file(reader, file, _read_state_dict(file), str(file), asked=True)
        except CheckpointError as error:
            yield Violation(describe_exception(error), str(file))


def _check_one_file(
    reader: CheckpointReader, path: Path, state: Mapping[str, Tensor], given: str, *, asked: bool
) -> Iterator[Violation]:
    """One file; where nobody `asked` for it, a reader need not recognise it."""
    before = {name: value.clone() for name, value in state.items()}
    try:
        read: object = reader(path, MappingProxyType(state))
        again: object = reader(path, MappingProxyType(state))
    except CheckpointError as error:
        if asked:
            yield Violation(describe_exception(error), given)
        return
    except Exception as error:  # noqa: BLE001
        yield Violation(f"{describe_exception(error)}; for a file that it does not know it gives None", given)
        return
    if any(not is_equal(state[name], before[name]) for name in before):
        yield Violation("writes to the weights that it is given", given)
    if not isinstance(read, nn.Module) or not isinstance(again, nn.Module):
        if asked or read is not None:
            yield Violation(f"gives {describe_value(read)}, not a torch.nn.Module{'' if asked else ' or None'}", given)
        return
    first, second = read.state_dict(), again.state_dict()
    if odd := [name for name in first if name not in second or not is_equal(first[name], second[name])]:
        yield Violation(f"gives {odd[0]} other values the second time, as if they were not loaded", given)


def _read_state_dict(file: Path) -> Mapping[str, Tensor]:
    """The state_dict that a reader is given of a file."""
    from surgery.models import load_checkpoint

    seen: list[Mapping[str, Tensor]] = []

    def take(_: Path, state: Mapping[str, Tensor]) -> nn.Module:
        seen.append({name: value.clone() for name, value in state.items()})
        return nn.Identity()

    load_checkpoint(file, readers=[take])
    return seen[0]


def _generate_unknown_states(place: Path) -> Iterator[tuple[str, Path, dict[str, Tensor]]]:
    """Weights of no network that anybody knows, each with a file that holds them."""
    random = torch.Generator().manual_seed(0)
    states: dict[str, dict[str, Tensor]] = {
        "no weights": {},
        "one number": {"x": torch.tensor(1.0)},
        "a convolution of nobody's": {"x.weight": torch.randn(4, 3, 3, 3, generator=random), "x.bias": torch.ones(4)},
        "whole numbers": {"step": torch.tensor(3), "table": torch.arange(6).reshape(2, 3)},
        "half precision": {"0.weight": torch.randn(5, 5, generator=random).half()},
        "an empty tensor": {"0.weight": torch.zeros(0, 3)},
    }
    for name, state in states.items():
        path = place / f"{name.replace(' ', '_')}.pth"
        torch.save(state, path)
        yield name, path, state

"""Checks of checkpoint readers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from surgery.errors import CheckpointError
from surgery.stages import LoadedNetwork
from surgery.testing.violations import Violation, describe_exception, describe_value, is_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.stages import CheckpointReader


def checkpoint_violations(reader: CheckpointReader, files: Sequence[Path] = ()) -> Iterator[Violation]:
    """Yield a violation for each weights file that a reader loads wrongly, and for each error it raises.

    It has to return a network for each of `files`, which may be folders, and None for weights that it does not know.
    """
    with TemporaryDirectory() as folder:
        for name, path, state in _write_unknown_weights(Path(folder)):
            yield from _check_file(reader, path, state, name, is_required=False)
    for file in files:
        try:
            yield from _check_file(reader, file, _read_state_dict(file), str(file), is_required=True)
        except CheckpointError as error:
            yield Violation(describe_exception(error), str(file))


def _check_file(
    reader: CheckpointReader, path: Path, state: Mapping[str, Tensor], case: str, *, is_required: bool
) -> Iterator[Violation]:
    """Load a file twice. Unless it `is_required`, the reader may return None or raise CheckpointError."""
    before = {name: value.clone() for name, value in state.items()}
    try:
        first: object = reader(path, MappingProxyType(state))
        second: object = reader(path, MappingProxyType(state))
    except CheckpointError as error:
        if is_required:
            yield Violation(describe_exception(error), case)
        return
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield Violation(f"{describe_exception(error)}; for a file that it does not know it gives None", case)
        return
    if any(not is_equal(state[name], before[name]) for name in before):
        yield Violation("writes to the weights that it is given", case)
    first, second = (each.model if isinstance(each, LoadedNetwork) else each for each in (first, second))
    if not isinstance(first, nn.Module) or not isinstance(second, nn.Module):
        if is_required or first is not None:
            expected = (
                "a torch.nn.Module or a LoadedNetwork" if is_required else "a torch.nn.Module, a LoadedNetwork or None"
            )
            yield Violation(f"gives {describe_value(first)}, not {expected}", case)
        return
    one, other = first.state_dict(), second.state_dict()
    if differing := [name for name in one if name not in other or not is_equal(one[name], other[name])]:
        yield Violation(f"gives {differing[0]} other values the second time, as if they were not loaded", case)


def _read_state_dict(file: Path) -> Mapping[str, Tensor]:
    """Return a copy of the state_dict that checkpoint readers receive for a file; empty for a folder."""
    from surgery.models import load_checkpoint

    if file.is_dir():
        return {}
    received: list[Mapping[str, Tensor]] = []

    def receive(_: Path, state: Mapping[str, Tensor]) -> nn.Module:
        received.append({name: value.clone() for name, value in state.items()})
        return nn.Identity()

    load_checkpoint(file, readers=[receive])
    return received[0]


def _write_unknown_weights(folder: Path) -> Iterator[tuple[str, Path, dict[str, Tensor]]]:
    """Write weights of no known network to files; yield a name, the file and the state_dict of each."""
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
        path = folder / f"{name.replace(' ', '_')}.pth"
        torch.save(state, path)
        yield name, path, state

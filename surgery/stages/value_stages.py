"""The stages that compute with the values of a running model: edits, measures and sinks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from torch import Tensor, nn

    from surgery.output import Loader, OutputFolder
    from surgery.types import Activation, Operation


class Edit(Protocol):
    """Computes what takes the place of an operation's value while the model runs.

    Takes maps ``(B, C, H, W)`` of the dtype and on the device of the model, of any range, with NaN and infinities as
    the model computed them. Returns the replacement, of the same shape, dtype and device, and the same for the same
    maps. It must not write to its input, and nothing is written to the replacement, which may share memory with the
    input. For values that it has no replacement for, such as integers, it raises EditError.

    Optional attributes, usually the fields of a dataclass, say where the replacement takes effect. The edit itself need
    not regard them, since it is mixed with the value as it was by those who call it:

    - ``channels``: numbers and ranges of channels, ``range(16)``, ``("0-15", 20)`` or ``"0-15,20"``; None for all.
    - ``region``: top, left, height and width in shares of the map, from 0 to 1; None for everywhere.
    - ``amount``: the share of the replacement in the result, from 0 to 1.
    - ``mask_shares``: such shares at each position, a tensor ``(H, W)`` that is resized to the map; None for none.
    - ``of_reference(values)``: a method that takes the values ``(N, C, H, W)`` of the operation in a run on N reference
      images, and returns the edit for them.
    - ``is_spatial``: true for an edit to which it matters which positions are neighbors. Then tokens are maps of their
      grid, without those beside it; else all tokens are a map of one row.
    - ``needs_reference``: true for an edit that can't be called, but for the one that ``of_reference`` returns.
    """

    def __call__(self, values: Tensor, /) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class MeasuredOperation:
    """The operation whose maps a measure is going to take, and what the traced model says about it."""

    operation: Operation
    module: nn.Module | None = None
    """The leaf module that it calls; None for a function, an operator or a method."""
    upsampling: int | None = None
    """The factor of the last upsampling in it or before it; None if there is none, or if it is not known."""
    is_upsampling: bool = False


class Measure(Protocol):
    """Computes a number for each channel of an activation.

    Takes maps as a `Transform` does. Returns ``(B, C)`` float64, or ``(B, 1)`` for one number of all channels; those of
    image b depend only on image b. NaN stands for no number. It must not write to its input, memory of the model.

    Its attributes ``unit`` ("share", "ratio") and ``reading`` say in words what the numbers are, and how to read them.
    An optional method ``of_operation(measured)`` returns the measure for a `MeasuredOperation`; None for no measure.
    """

    def __call__(self, maps: Tensor, /) -> Tensor: ...


Write: TypeAlias = "Callable[[Activation], None]"
"""Takes one activation. It is called during the model's forward, so it must copy whatever it keeps of `values`."""


class Sink(Protocol):
    """Writes activations: a ``@contextmanager`` function that opens files, yields a `Write`, and completes the files.

    Optional attributes:

    - ``deferred``: true for a sink that uses only levels, pictures and facts. It is called on another thread, in the
      same order, while the model runs on. The `values` that it receives have a shape and a dtype, but no data.
    - ``alone``: true for a sink whose every file belongs to a single image, or to a single batch if the sink is not
      deferred. Several processes or writers may open it, and a run that was stopped can go on with it. What it needs
      once for the whole run, and knows in advance, it writes by `OutputFolder.common_file`.
    - ``gathers``: for a sink that adds something up over all images, a mapping from the name of each file that holds
      it to a function that takes the path of such a file, and returns what it holds. The sink gives what it has
      gathered of each batch to `OutputFolder.gather`: an object with the methods ``merge(other)``, which returns what
      both hold, in any order, and ``save(path)``. The files are written for it. Several processes or writers may open
      it, and a run that was stopped can go on with it.
    - ``resumes``: true for another sink with which a stopped run can go on. It may get the last batch again.
    - ``decides_on_first_image``: true for a sink that decides something for all images from the first one, and keeps
      it in `OutputFolder.shared`. The first batch of a run is then done before it is divided among processes.
    - ``places``: names that it uses at the top of the output folder, such as ``("video",)``, which no image gets.
    - ``complete(folder)``: a method that gets the path of the finished folder, and may return that of a file to show.
    """

    def __call__(self, folder: OutputFolder, /) -> AbstractContextManager[Write]: ...


def can_be_divided(sink: Sink) -> bool:
    """Return whether several processes may open a sink, in one run after the other too."""
    return bool(getattr(sink, "alone", False) or getattr(sink, "gathers", None))


def find_loaders(sinks: Iterable[Sink]) -> dict[str, Loader]:
    """Return what reads the files of what sinks gather, by the names of the files."""
    return {name: loader for sink in sinks for name, loader in getattr(sink, "gathers", {}).items()}

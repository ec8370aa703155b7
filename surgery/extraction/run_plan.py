"""What a run is asked to do, and what it did."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.errors import SurgeryError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from surgery.extraction.output_parts import Scalar
    from surgery.inputs import InputStream
    from surgery.output import Failure, Notes, OutputFolder, Shard, Tally, Workspace
    from surgery.stages import Limits, Measure, Recipe, Sink


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """Everything that a worker needs to run images. It can be pickled."""

    original: nn.Module
    rewritten: nn.Module
    reference: nn.Module | None
    """The model whose output is compared with the rewritten model's on the first batch; None for no comparison."""
    unedited: nn.Module | None
    """The traced model without the edits, whose output is compared in place of the edited one; None without edits."""
    recipe: Recipe
    value_range: tuple[float, float]
    """The values of black and white in the images that the model takes, and perhaps gives."""
    input_limits: Limits | None
    """Black and white of the main input; None where it may be something other than an image."""
    sinks: tuple[Sink, ...]
    folder: OutputFolder
    workspace: Workspace
    inputs: InputStream
    notes: Notes
    """What was noted while the files were found."""
    numbers: range
    """The images that this run is to do: all, or those of its shard."""
    shard: Shard | None
    """Which part of the run this is; None for all of it."""
    finished: frozenset[int]
    """The numbers of the images that an earlier run has finished."""
    fixed_inputs: Mapping[str, Any]
    """The inputs that are the same for every batch, by name."""
    input_names: frozenset[str] | None
    """The inputs of the example, which every image must have; None without an example."""
    batch_size: int
    device: torch.device
    seed: int
    records_output: bool
    """Whether the model runs to its end and the sinks get its output too."""
    gradients: Scalar | None
    """The number of the output whose gradients the sinks get too; None for a run without gradients."""
    measures: Mapping[str, Measure]
    """What is measured of the values, by name."""
    grad_cam: bool
    """Whether the sinks get Grad-CAMs beside the gradients."""
    reader_threads: int
    """Threads that read inputs in advance; 0 for the model's own."""
    writer_threads: int
    """Threads that draw and write files; 0 for the model's own."""
    force: bool
    """Whether images are run that won't fit on the disk."""

    def unfinished_numbers(self) -> list[int]:
        """Return the numbers of the images that are to be run."""
        return [number for number in self.numbers if number not in self.finished]


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """A worker has begun a task."""


@dataclass(frozen=True, slots=True)
class BatchDone:
    """A worker's model has run a batch of a task."""

    images: int
    """Images of the task that the model has run."""
    failed: int
    """Images of the task that could not be run."""
    image: str
    """The name of the last image."""


@dataclass(slots=True)
class TaskResult:
    """What a worker did with a task."""

    images: int = 0
    """Images whose files are all written."""
    failures: list[Failure] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)
    """What was noted about images that failed."""
    interrupted: bool = False
    """Whether a part of the task is left."""
    error: BaseException | None = None
    run_files: dict[str, str | None] = field(default_factory=dict)
    """Files that belong to no single image, with their checksums."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What sinks have decided for all images."""
    seconds: float = 0.0
    """Wall time."""

    def __reduce__(self) -> tuple[type[TaskResult], tuple[Any, ...]]:
        error = None if self.error is None else picklable_error(self.error)
        return type(self), tuple(error if name == "error" else getattr(self, name) for name in self.__slots__)


def picklable_error(error: BaseException) -> BaseException:
    """Return an error that can be sent to another process: the same, or a SurgeryError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - an error of a plugin or model may raise anything when it is pickled
        return SurgeryError(f"{type(error).__name__}: {first_line(error)}")
    return error


@dataclass(frozen=True, slots=True)
class TotalResult:
    """What all workers of a run did together."""

    tally: Tally
    """What the finished images add up to, those of an earlier run too."""
    failures: tuple[Failure, ...]
    notes: Notes
    interrupted: bool

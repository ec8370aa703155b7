"""What a run is asked to do, and what it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

    from surgery.extraction.output_parts import Scalar
    from surgery.inputs import InputStream, Notes
    from surgery.interrupts import Interrupts
    from surgery.output import Failure, OperationSummary, OutputFolder, WorkerState, Workspace
    from surgery.stages import Limits, Measure, Recipe, Sink


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """Everything that a process needs to run its share of the images."""

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
    interrupts: Interrupts
    """What Ctrl-C does: raised while images run, held while the folder is opened and closed."""


@dataclass(slots=True)
class ShareResult:
    """What one process did with its share of the images."""

    images: int = 0
    """Images whose files are all written."""
    failures: list[Failure] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)
    summaries: dict[str, OperationSummary] = field(default_factory=dict)
    """By the path of the operation."""
    not_reached: Counter[str] = field(default_factory=Counter)
    """How many images did not reach an operation, by its path."""
    overview: str | None = None
    """The first file that shows a whole image, such as a sheet."""
    interrupted: bool = False
    error: BaseException | None = None
    worker_state: WorkerState | None = None
    """What a worker process knows for the manifest; None for a share that ran in the main process."""


@dataclass(frozen=True, slots=True)
class TotalResult:
    """What all processes of a run did together."""

    images: int
    files: int
    failures: tuple[Failure, ...]
    summaries: tuple[OperationSummary, ...]
    not_reached: Mapping[str, int]
    """How many images did not reach an operation, by its path."""
    notes: Notes
    overview: str | None
    """The first file that shows a whole image, such as a sheet."""
    interrupted: bool

"""The result of examining one model of a zoo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.tools import ToolResult
    from surgery.graph.trace_info import Reach


@dataclass(frozen=True, slots=True)
class ModelResult:
    """The comparison of one model with its traced graph, and of what other tools give for it."""

    zoo: str
    name: str
    shape: tuple[int, ...]
    plain: str
    """What `torch.fx.symbolic_trace` does with the model: ``right``, ``wrong`` or ``refuses``."""
    refusal: str = ""
    """Why `surgery.trace` refuses the model; "" if it does not."""
    front_end: str = ""
    """``symbolic`` or ``observed``; "" if the model is refused."""
    reason: str = ""
    """Why the model is observed; "" if it is not."""
    reach: Reach | None = None
    """The calls of torch's operators that are part of an operation; None for a graph."""
    trace_seconds: float = 0.0
    """CPU time of `surgery.trace`."""
    eager_seconds: float = 0.0
    """CPU time of an eager run, the least of three."""
    notes: tuple[str, ...] = ()
    """The accepted hazards that `surgery.trace` reported."""
    operations: int = 0
    values: int = 0
    """Number of tensors that were compared with those of the eager run, in all cases."""
    wrong: int = 0
    """Number of those that differ."""
    batches: int = 0
    """Number of batch sizes for which the output equals the original's, in eval mode."""
    sizes: int = 0
    """Number of image sizes for which the output equals the original's, in eval mode."""
    train: bool = False
    """Whether outputs, values, buffers, random numbers and gradients equal the original's in train mode."""
    differences: tuple[str, ...] = ()
    """A line for each comparison that found a difference."""
    unsure: tuple[str, ...] = ()
    """A line for each comparison in which the original differs from itself."""
    untouched: bool = True
    """Whether the original kept its parameters, buffers, modes, attributes and hooks."""
    tools: dict[str, ToolResult] = field(default_factory=dict)
    """What each tool gave, by its name."""
    seconds: float = 0.0
    """CPU time, with that of the tools."""

    @property
    def is_bad(self) -> bool:
        """Return whether anything is wrong.

        A refusal is wrong only where `torch.fx.symbolic_trace` takes the model and gets it right.
        """
        return bool(self.differences) or not self.untouched or bool(self.refusal and self.plain == "right")

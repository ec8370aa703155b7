"""Checks of the settings of a run, before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from surgery.builtin import Local, Processes
from surgery.errors import ImageError, ModelError
from surgery.extraction.trial import ADVICE, current_trial
from surgery.inputs import Side
from surgery.models import check_seed
from surgery.output import Address
from surgery.stages import can_be_divided
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from surgery.extraction.named_stages import StageResolver
    from surgery.extraction.output_parts import Scalar
    from surgery.extraction.watchers import WatcherList
    from surgery.output import Place, Shard
    from surgery.stages import Engine, Sink

Mode: TypeAlias = Literal["eval", "train", "as-is"]


def check_settings(mode: str, batch_size: int, side: str, device: str | torch.device, seed: int) -> None:
    """Raise ModelError or ImageError for a setting out of its range."""
    check_seed(seed)
    if mode not in get_args(Mode):
        raise ModelError(f"mode is eval, train or as-is, not {mode!r}")
    if not 1 <= batch_size < 2**31:
        raise ModelError(f"a batch has at least 1 image and fewer than 2**31, not {str(batch_size)[:40]}")
    if side not in get_args(Side):
        raise ImageError(f"side is left, right or none, or both, left,right or right,left; not {side!r}")
    if str(device).partition(":")[0] == "meta":
        raise ModelError("the device 'meta' computes no values, so there is nothing to draw; use cpu or cuda")


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The engine of a run, and how the user has asked for it."""

    engine: Engine
    jobs: int = 1
    """The number of processes that was asked for; 1 if an engine was."""

    @classmethod
    def choose(cls, jobs: int, engine: Engine | str | None, stages: StageResolver) -> ChosenEngine:
        """Return what a number of jobs, or an engine or its name, stand for. Raises ModelError."""
        if jobs < 1:
            raise ModelError(f"there is at least 1 job, not {jobs}")
        if engine is None:
            return cls(Local() if jobs == 1 else Processes(workers=jobs), jobs)
        if jobs > 1:
            raise ModelError(f"choose {jobs} jobs or an engine, not both; jobs are processes:workers={jobs}")
        return cls(stages.resolve("engine", engine))

    @property
    def in_process(self) -> bool:
        """Whether it runs the model in this process."""
        return getattr(self.engine, "in_process", False)

    @property
    def workers(self) -> str:
        """Its workers, in words."""
        return f"{self.jobs} jobs" if self.jobs > 1 else f"the workers of {describe_stage(self.engine)}"

    @property
    def remedy(self) -> str:
        """What to write for a run in this process."""
        return "use one job" if self.jobs > 1 else "use the engine local"


def check_shareable(
    engine: ChosenEngine, sinks: Sequence[Sink], watcher_list: WatcherList, shard: Shard | None, place: Place
) -> None:
    """Raise ModelError for what needs all images in this process, if they aren't: sinks, watchers, a place."""
    if engine.in_process and shard is None:
        return
    others, remedy = engine.workers, engine.remedy
    if shard is not None:
        others, remedy = "shards", "leave out --shard (shard=)"
    for sink in sinks:
        if not can_be_divided(sink):
            raise ModelError(
                f"sink {describe_stage(sink)} writes files of several images, which {others} can't share; {remedy}"
            )
    if watcher_list.writes and not engine.in_process:
        raise ModelError(
            f"a plugin watches activations, which {engine.workers} can't share; {engine.remedy}, or block it"
        )
    if isinstance(place, Address) and place.text.startswith("memory:") and not engine.in_process:
        raise ModelError(
            f"{place} is in the memory of one process, to which {engine.workers} can't write; {engine.remedy}"
        )


def check_threads(
    reader_threads: int, writer_threads: int, engine: ChosenEngine, sinks: Sequence[Sink], device: str | torch.device
) -> None:
    """Raise ModelError for a number out of range, and for several writers of several processes, or of such a sink."""
    for name, count in (("reader", reader_threads), ("writer", writer_threads)):
        if count < 0:
            raise ModelError(f"there are 0 {name} threads or more, not {count}")
    if writer_threads > 1 and not engine.in_process and str(device).startswith("cpu"):
        raise ModelError(
            f"{engine.workers} write in their own thread; {engine.remedy} with {writer_threads} writers, or one writer"
        )
    for sink in sinks:
        if writer_threads > 1 and getattr(sink, "deferred", False) and not can_be_divided(sink):
            raise ModelError(
                f"sink {describe_stage(sink)} writes files of several images, which {writer_threads} writers can't "
                "share; use one writer"
            )


def check_gradients(scalar: Scalar | None, *, output: bool, engine: ChosenEngine) -> None:
    """Raise ModelError for a run with gradients that has no output, several processes, or a model that is not run."""
    if scalar is None:
        return
    trial = current_trial()
    if trial is not None and not trial.runs_model:
        raise ModelError(f"gradients need a run of the model; {ADVICE}")
    if not output:
        raise ModelError("gradients are those of the output; leave out --no-output (output=False)")
    if not engine.in_process:
        raise ModelError(f"a run with gradients has one process, not {engine.workers}; {engine.remedy}")


def describe_settings(always: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Return the settings of a run for the manifest: those that are recorded always, and others if they are given."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in others.items()}
    return {**always, **{name: value for name, value in given.items() if value}}

"""Checks of the settings of a run, before anything is read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from surgery.errors import ImageError, ModelError
from surgery.extraction.trial import ADVICE, current_trial
from surgery.inputs import Side
from surgery.models import check_seed
from surgery.output import Address
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from surgery.extraction.output_parts import Scalar
    from surgery.extraction.watchers import WatcherList
    from surgery.output import Place, Shard
    from surgery.stages import Sink

Mode: TypeAlias = Literal["eval", "train", "as-is"]


def check_settings(mode: str, batch_size: int, side: str, jobs: int, device: str | torch.device, seed: int) -> None:
    """Raise ModelError or ImageError for a setting out of its range."""
    check_seed(seed)
    if mode not in get_args(Mode):
        raise ModelError(f"mode is eval, train or as-is, not {mode!r}")
    if not 1 <= batch_size < 2**31:
        raise ModelError(f"a batch has at least 1 image and fewer than 2**31, not {str(batch_size)[:40]}")
    if side not in get_args(Side):
        raise ImageError(f"side is left, right or none, or both, left,right or right,left; not {side!r}")
    if jobs < 1:
        raise ModelError(f"there is at least 1 job, not {jobs}")
    if jobs > 1 and not str(device).startswith("cpu"):
        raise ModelError(f"{jobs} jobs are for the CPU, not for {device}; use one job")
    if str(device).partition(":")[0] == "meta":
        raise ModelError("the device 'meta' computes no values, so there is nothing to draw; use cpu or cuda")


def check_shareable(
    jobs: int, sinks: Sequence[Sink], watcher_list: WatcherList, shard: Shard | None, place: Place
) -> None:
    """Raise ModelError for what needs all images in one process, if there are several: sinks, watchers, a place."""
    if jobs == 1 and shard is None:
        return
    others, remedy = (f"{jobs} jobs", "use one job") if shard is None else ("shards", "leave out --shard (shard=)")
    for sink in sinks:
        if not getattr(sink, "alone", False):
            raise ModelError(
                f"sink {describe_stage(sink)} writes files of several images, which {others} can't share; {remedy}"
            )
    if watcher_list.writes and jobs > 1:
        raise ModelError(f"a plugin watches activations, which {jobs} jobs can't share; use one job, or block it")
    if isinstance(place, Address) and place.text.startswith("memory:") and jobs > 1:
        raise ModelError(f"{place} is in the memory of one process, to which {jobs} jobs can't write; use one job")


def check_threads(reader_threads: int, writer_threads: int, jobs: int, sinks: Sequence[Sink]) -> None:
    """Raise ModelError for a number out of range, and for several writers of several processes, or of such a sink."""
    for name, count in (("reader", reader_threads), ("writer", writer_threads)):
        if count < 0:
            raise ModelError(f"there are 0 {name} threads or more, not {count}")
    if jobs > 1 and writer_threads > 1:
        raise ModelError(
            f"{jobs} jobs write in threads of their own; use one job with {writer_threads} writers, or {jobs} jobs "
            "with one writer"
        )
    for sink in sinks:
        if writer_threads > 1 and getattr(sink, "deferred", False) and not getattr(sink, "alone", False):
            raise ModelError(
                f"sink {describe_stage(sink)} writes files of several images, which {writer_threads} writers can't "
                "share; use one writer"
            )


def check_gradients(scalar: Scalar | None, *, output: bool, jobs: int) -> None:
    """Raise ModelError for a run with gradients that has no output, several processes, or a model that is not run."""
    if scalar is None:
        return
    trial = current_trial()
    if trial is not None and not trial.runs_model:
        raise ModelError(f"gradients need a run of the model; {ADVICE}")
    if not output:
        raise ModelError("gradients are those of the output; leave out --no-output (output=False)")
    if jobs > 1:
        raise ModelError(f"a run with gradients has one process, not {jobs} jobs; use one job")


def count_workers(jobs: int, images: int, batch_size: int) -> int:
    """Return how many processes are useful: at most one a batch, and at most four a core."""
    batches = -(-images // batch_size)
    return max(1, min(jobs, batches, 4 * (os.cpu_count() or 1)))


def describe_settings(always: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """Return the settings of a run for the manifest: those that are recorded always, and others if they are given."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in others.items()}
    return {**always, **{name: value for name, value in given.items() if value}}

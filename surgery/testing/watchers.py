"""What the functions that watch a run promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.output import Failure, OperationSummary, Report, RunStart
from surgery.testing.promises import Fault, left_alone, said, same
from surgery.testing.rehearsals import ABOUT, IMAGES, LOST, activations
from surgery.types import Facts, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.output import Watcher


def watcher_faults(watcher: Watcher) -> Iterator[Fault]:
    """Takes every kind of value, unchanged; raises nothing, also after a run that never came to its end."""
    yield from _a_run(watcher, "a run")
    yield from _told(watcher.started, _start(0), "the start of a run that fails")
    yield from _a_run(watcher, "a run after one that failed")
    yield from _told(watcher.started, _start(0), "the start of a run without an input")
    yield from _told(watcher.finished, _report(0), "the end of a run in which every input failed")


def _a_run(watcher: Watcher, run: str) -> Iterator[Fault]:
    yield from _told(watcher.started, _start(3), f"the start of {run}")
    for batch in IMAGES:
        for name, activation in activations(batch) if watcher.activation else ():
            before = activation.values.clone()
            yield from _told(watcher.activation, activation, f"{name} in {run}")
            if not same(activation.values, before):
                yield Fault("writes to the values that it is shown", name)
    yield from _told(watcher.finished, _report(3), f"the end of {run}")


def _told(function: Callable[..., object] | None, what: object, given: str) -> Iterator[Fault]:
    if function is None:
        return
    try:
        with left_alone(given) as found:
            function(what)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is its fault
        yield Fault(said(error), given)
    else:
        yield from found


OPERATION = Operation("conv", "block.conv", "conv2d", 1, ("block",), "net.py:1", None)


def _start(images: int) -> RunStart:
    return RunStart(Path("activations"), tuple(Path(f"{n}.png") for n in range(images)), (OPERATION,), ABOUT)


def _report(images: int) -> Report:
    facts = Facts(None, None, 0, 0, nan=False, inf=False)
    summaries = (
        OperationSummary(OPERATION, facts),
        OperationSummary(OPERATION, Facts(-1.0, 2.0, 3, 1, nan=True, inf=True)),
    )
    failed = (Failure(f"{LOST}.png", "it can't be read"),)
    return Report(Path("activations"), images, 3 * images, failed, summaries if images else (), 1.5)

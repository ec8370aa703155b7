"""Checks of watchers, the functions that plugins have called during a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from surgery.output import Failure, OperationSummary, Report, RunStart
from surgery.testing.simulated_runs import ABOUT, FAILED_IMAGE, IMAGES, generate_activations
from surgery.testing.violations import Violation, describe_exception, detect_state_changes, is_equal
from surgery.types import Facts, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.output import Watcher

OPERATION = Operation("conv", "block.conv", "conv2d", 1, ("block",), "net.py:1", None)


def watcher_violations(watcher: Watcher) -> Iterator[Violation]:
    """Yield a violation for each call in which a watcher raises, writes to values, or changes torch's settings.

    The runs are: one that ends, one that is started and never ends, one after it, one without inputs.
    """
    yield from _check_run(watcher, "a run")
    yield from _check_call(watcher.started, _make_start(0), "the start of a run that fails")
    yield from _check_run(watcher, "a run after one that failed")
    yield from _check_call(watcher.started, _make_start(0), "the start of a run without an input")
    yield from _check_call(watcher.finished, _make_report(0), "the end of a run in which every input failed")


def _check_run(watcher: Watcher, title: str) -> Iterator[Violation]:
    yield from _check_call(watcher.started, _make_start(3), f"the start of {title}")
    for batch in IMAGES:
        for name, activation in generate_activations(batch) if watcher.activation else ():
            before = activation.values.clone()
            yield from _check_call(watcher.activation, activation, f"{name} in {title}")
            if not is_equal(activation.values, before):
                yield Violation("writes to the values that it is shown", name)
    yield from _check_call(watcher.finished, _make_report(3), f"the end of {title}")


def _check_call(function: Callable[..., object] | None, argument: object, case: str) -> Iterator[Violation]:
    if function is None:
        return
    try:
        with detect_state_changes(case) as changes:
            function(argument)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield Violation(describe_exception(error), case)
    else:
        yield from changes


def _make_start(images: int) -> RunStart:
    return RunStart(Path("activations"), tuple(Path(f"{n}.png") for n in range(images)), (OPERATION,), ABOUT)


def _make_report(images: int) -> Report:
    facts = Facts(None, None, 0, 0, nan=False, inf=False)
    nonfinite = Facts(-1.0, 2.0, 3, 1, nan=True, inf=True)
    summaries = (OperationSummary(OPERATION, facts), OperationSummary(OPERATION, nonfinite))
    failures = (Failure(f"{FAILED_IMAGE}.png", "it can't be read"),)
    return Report(Path("activations"), images, 3 * images, failures, summaries if images else (), 1.5)

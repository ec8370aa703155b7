"""Checks of sinks: what they write in complete, failing and concurrent runs."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial, reduce
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, BrokenBarrierError, Thread
from typing import TYPE_CHECKING

from surgery.errors import first_line
from surgery.stages import find_loaders
from surgery.testing.simulated_runs import (
    FAILED_IMAGE,
    IMAGES,
    ONE_PICTURE_PER_CHANNEL,
    SimulatedRun,
    SinkCallError,
    simulate_run,
)
from surgery.testing.violations import Violation, describe_exception, detect_state_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.stages import Sink

SECOND_RUN_IMAGES = (("four", "five"), ("six",))
"""Names of the images of the second of two concurrent runs, by batch."""
TIMEOUT = 60.0
"""Seconds that one of two concurrent runs waits for the other."""
MAX_FILES, MAX_SECONDS = 600, 4.0
"""If the first run writes more files or takes longer, the runs after it leave out the value of 2,000 channels."""


def sink_violations(sink: Sink, on_progress: Callable[[str], object] = lambda _: None) -> Iterator[Violation]:
    """Yield a violation for each value that a sink rejects or changes, each file it loses, each error it hides.

    `on_progress` is called before each simulated run with a description of it.
    """
    with detect_state_changes("a run") as changes:
        yield from _check_all_runs(sink, on_progress)
    yield from changes


def _check_all_runs(sink: Sink, on_progress: Callable[[str], object]) -> Iterator[Violation]:
    on_progress("a run")
    start = time.perf_counter()
    complete = simulate_run(sink)
    yield from _check_run(complete, "a run")
    if complete.raised is not None:  # every other run would raise it too
        return
    many_channels = len(complete.files) <= MAX_FILES and time.perf_counter() - start <= MAX_SECONDS
    run = partial(simulate_run, sink, many_channels=many_channels)
    if not many_channels:
        complete = run()
    yield from _check_run(run(()), "a run without an activation")
    if getattr(sink, "alone", False):
        yield from _check_files_per_image(complete, getattr(sink, "places", ()))
    yield from _check_gathered(sink, complete)
    on_progress("a second run")
    deterministic = run().files == complete.files
    if deterministic and (name := _find_difference(run(overwrite=False), complete)):
        yield Violation(f"keeps values without copying them: what a later operation writes to them is in {name}")
    on_progress("a run that fails half-way")
    yield from _check_failed_run(run(failure="at the end"), complete)
    resumed = run(failure="in the middle")
    yield from _check_run(resumed, "a run in which an image fails half-way")
    if resumed.raised is None and (name := _find_difference(resumed, complete, compare_content=deterministic)):
        yield Violation(f"lets an image that fails half-way change what is kept of others: {name}")
    on_progress("a second run into the same folder")
    with TemporaryDirectory() as folder:
        run(folder=Path(folder))
        again = run(folder=Path(folder), recipe=ONE_PICTURE_PER_CHANNEL)
    title = "a second run into the same folder, with a picture for each channel"
    yield from _check_run(again, title, check_strays=False)
    on_progress("two runs at once")
    yield from _check_concurrent_runs(run, complete, compare_content=deterministic)


def _check_run(run: SimulatedRun, title: str, *, check_strays: bool = True) -> Iterator[Violation]:
    """Check one run: what the sink raised, which values it wrote to, which files its folder does not know."""
    if isinstance(run.raised, SinkCallError):
        message, _, case = first_line(run.raised).rpartition(", given ")
        yield Violation(message, f"{case} in {title}")
    elif run.raised is not None:
        yield Violation(describe_exception(run.raised), title)
    for name in run.changed_values:
        yield Violation("writes to the values that it is given", name)
    for name in run.stray_files[:3] if check_strays else ():
        yield Violation(f"writes {name} past folder.file() and folder.directory()", title)


def _check_files_per_image(complete: SimulatedRun, places: Sequence[str]) -> Iterator[Violation]:
    """Check a sink with the attribute ``alone``: each of its files is of one image, or of one batch.

    Such files lie in the folder of an image or of a batch, or are written once and in a place of the sink's own.
    """
    folders = [*chain(*IMAGES), "batch"]
    own = tuple(place.partition(".")[0] for place in places)
    often = [name for name, count in Counter(chain(*complete.files_by_batch)).items() if count > 1]
    wrong = {*often, *complete.files_at_end}
    for names in complete.files_by_batch:
        wrong.update(name for name in names if name.partition("/")[0] not in folders and not name.startswith(own))
    for name in sorted(wrong):
        yield Violation(f"says by `alone` that it writes nothing of several images, and writes {name}")


def _check_gathered(sink: Sink, complete: SimulatedRun) -> Iterator[Violation]:
    """Check what a sink gathers: saved and read, and merged in another order, it is that of the whole run."""
    loaders = find_loaders([sink])
    for name in dict(complete.gathered):
        if name not in loaders:
            yield Violation(f"gathers {name}, which its `gathers` does not name")
            continue
        parts = [part for other, part in complete.gathered if other == name]
        with TemporaryDirectory() as folder:
            paths = [Path(folder) / f"{number}" for number in range(len(parts))]
            try:
                for path, part in zip(paths, parts, strict=True):
                    part.save(path, is_part=True)
                whole = reduce(lambda one, other: one.merge(other), [loaders[name](path) for path in reversed(paths)])
                whole.save(Path(folder) / "whole", is_part=False)
            except Exception as error:  # noqa: BLE001 - a plugin may raise anything
                yield Violation(describe_exception(error), f"parts of {name} that are saved, read and merged")
                continue
            if (Path(folder) / "whole").read_bytes() != complete.files.get(name):
                yield Violation(f"merges parts of {name} that were saved and read to something else than the whole")


def _check_failed_run(run: SimulatedRun, complete: SimulatedRun) -> Iterator[Violation]:
    """Check a run that fails in its last image: earlier files stay complete, and no file of that image is left."""
    title = "a run that fails half-way"
    if run.hides_error:
        yield Violation(f"hides the error of {title}")
        return
    yield from _check_run(run, title)
    if run.raised is not None:
        return
    for name, size in run.sizes_before.items():
        if name.startswith(run.directories):  # a store may rewrite its own files
            continue
        if run.sizes_after.get(name, -1) < size:
            verb = "cuts" if name in run.sizes_after else "removes"
            yield Violation(f"{verb} {name}, which was finished before", title)
    for name in sorted(set(run.files) - set(run.sizes_before)):
        if any(part.partition(".")[0] == FAILED_IMAGE for part in name.split("/")):
            yield Violation(f"leaves {name} of the image that failed", title)
    missing = sorted(set(complete.files) - set(run.files))
    if missing := [name for name in missing if not name.startswith(complete.directories)]:
        yield Violation(f"loses {missing[0]}; write it when an image is finished, or in a finally", title)


def _find_difference(run: SimulatedRun, other: SimulatedRun, *, compare_content: bool = True) -> str | None:
    """Return the first file that two runs do not have in common, or that differs between them."""
    names = sorted(run.files.keys() | other.files.keys())
    if compare_content:
        return next((name for name in names if run.files.get(name) != other.files.get(name)), None)
    if len(run.files) == len(other.files):  # names that contain a time differ in every run
        return None
    return next((name for name in names if (name in run.files) != (name in other.files)), None)


def _check_concurrent_runs(
    run: Callable[..., SimulatedRun], complete: SimulatedRun, *, compare_content: bool
) -> Iterator[Violation]:
    """Check two runs that alternate in two threads, each with its own folder: each writes what it writes alone."""
    title = "two runs at once, in two threads"
    second_run = partial(run, SECOND_RUN_IMAGES, seed=1)
    expected = (complete, second_run())
    barrier = Barrier(2)
    results: dict[int, SimulatedRun] = {}

    def wait_for_other_run() -> None:
        try:
            barrier.wait(TIMEOUT)
        except BrokenBarrierError:
            return  # the other run has ended or failed; its own result tells

    def run_in_thread(number: int) -> None:
        try:
            results[number] = (second_run if number else run)(before_each=wait_for_other_run)
        finally:
            barrier.abort()

    threads = [Thread(target=run_in_thread, args=(number,), daemon=True) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * TIMEOUT)
    if len(results) < 2:
        yield Violation("does not come to an end", title)
        return
    for number, result in sorted(results.items()):
        violations = list(_check_run(result, title))
        yield from violations
        if violations:
            continue
        if name := _find_difference(result, expected[number], compare_content=compare_content):
            yield Violation(f"mixes up {title}: {name} is not what it is alone")
            return

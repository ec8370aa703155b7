"""What a sink promises: whole files and nothing else, whatever comes and however a run ends."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier, BrokenBarrierError, Thread
from typing import TYPE_CHECKING

from surgery.errors import first_line
from surgery.testing.promises import Fault, left_alone, said
from surgery.testing.rehearsals import A_PICTURE_EACH, IMAGES, LOST, RefusedError, Rehearsal, rehearse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.stages import Sink

OTHERS = (("four", "five"), ("six",))
"""Images of the second of two runs at once."""
WAIT = 60.0
"""Seconds that one of two runs waits for the other."""


MANY, LONG = 600, 4.0
"""Files, and seconds, of a run from which on the other runs have no value of 2,000 channels."""


def sink_faults(sink: Sink, doing: Callable[[str], object] = lambda _: None) -> Iterator[Fault]:
    """Takes every kind of value, unchanged; writes whole files through the folder; loses nothing and hides no error.

    `doing` is told of each run that it is tried in.
    """
    with left_alone("a run") as found:
        yield from _in_all_runs(sink, doing)
    yield from found


def _in_all_runs(sink: Sink, doing: Callable[[str], object]) -> Iterator[Fault]:
    doing("a run")
    began = time.perf_counter()
    whole = rehearse(sink)
    yield from _faults_of(whole, "a run")
    if whole.raised is not None:  # in every other run as well
        return
    wide = len(whole.files) <= MANY and time.perf_counter() - began <= LONG
    played = partial(rehearse, sink, wide=wide)
    if not wide:
        whole = played()
    yield from _faults_of(played(()), "a run without an activation")
    if getattr(sink, "alone", False):
        places = [*(name for batch in IMAGES for name in batch), "batch"]
        for name in sorted(name for name in whole.files if name.partition("/")[0] not in places):
            yield Fault(f"says by `alone` that it writes nothing of several images, and writes {name}")
    doing("a second run")
    again = played()
    yield from _faults_of(again, "a second run")
    steady = again.files == whole.files
    if steady and (odd := _odd(played(overwrite=False), whole)):
        yield Fault(f"keeps values without copying them: what a later operation writes to them is in {odd}")
    doing("a run that fails half-way")
    yield from _half_way(played(lost="at the end"), whole)
    resumed = played(lost="in the middle")
    yield from _faults_of(resumed, "a run in which an image fails half-way")
    if resumed.raised is None and (odd := _odd(resumed, whole, contents=steady)):
        yield Fault(f"lets an image that fails half-way change what is kept of others: {odd}")
    doing("a second run into the same folder")
    with TemporaryDirectory() as place:
        played(place=Path(place))
        again = played(place=Path(place), recipe=A_PICTURE_EACH)
        yield from _faults_of(again, "a second run into the same folder, with a picture for each channel", strays=False)
    doing("two runs at once")
    yield from _two_at_once(played, whole, steady=steady)


def _faults_of(played: Rehearsal, run: str, *, strays: bool = True) -> Iterator[Fault]:
    if isinstance(played.raised, RefusedError):
        what, _, given = first_line(played.raised).rpartition(", given ")
        yield Fault(what, f"{given} in {run}")
    elif played.raised is not None:
        yield Fault(said(played.raised), run)
    for name in played.written_to:
        yield Fault("writes to the values that it is given", name)
    for name in played.strays[:3] if strays else ():
        yield Fault(f"writes {name} past folder.file() and folder.directory()", run)


def _half_way(played: Rehearsal, whole: Rehearsal) -> Iterator[Fault]:
    """A run that fails in its last image leaves whole what was there before, and nothing of that image."""
    run = "a run that fails half-way"
    if played.hidden:
        yield Fault(f"hides the error of {run}")
        return
    yield from _faults_of(played, run)
    if played.raised is not None:
        return
    for name, size in played.before.items():
        if name.startswith(played.stores):  # a store packs its files as it likes
            continue
        if played.after.get(name, -1) < size:
            yield Fault(f"{'cuts' if name in played.after else 'removes'} {name}, which was finished before", run)
    for name in sorted(set(played.files) - set(played.before)):
        if any(part.partition(".")[0] == LOST for part in name.split("/")):
            yield Fault(f"leaves {name} of the image that failed", run)
    if gone := sorted(name for name in set(whole.files) - set(played.files) if not name.startswith(whole.stores)):
        yield Fault(f"loses {gone[0]}; write it when an image is finished, or in a finally", run)


def _odd(played: Rehearsal, whole: Rehearsal, *, contents: bool = True) -> str | None:
    """A file in which two runs differ, or whose name only one of them has."""
    names = sorted(played.files.keys() | whole.files.keys())
    if contents:
        return next((name for name in names if played.files.get(name) != whole.files.get(name)), None)
    if len(played.files) == len(whole.files):  # names with a time in them differ in every run
        return None
    return next((name for name in names if (name in played.files) != (name in whole.files)), None)


def _two_at_once(played: Callable[..., Rehearsal], whole: Rehearsal, *, steady: bool) -> Iterator[Fault]:
    """Two runs in two threads, step by step, each in a folder of its own: each gives what it gives alone."""
    other = partial(played, OTHERS, seed=1)
    alone = (whole, other())
    barrier = Barrier(2)
    done: dict[int, Rehearsal] = {}

    def step() -> None:
        try:
            barrier.wait(WAIT)
        except BrokenBarrierError:
            return  # the other run has failed, which it says itself

    def run(number: int) -> None:
        try:
            done[number] = other(step=step) if number else played(step=step)
        finally:
            barrier.abort()

    threads = [Thread(target=run, args=(number,), daemon=True) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * WAIT)
    if len(done) < 2:
        yield Fault("does not come to an end", "two runs at once, in two threads")
        return
    for number, done_by in sorted(done.items()):
        faults = list(_faults_of(done_by, "two runs at once, in two threads"))
        yield from faults
        if not faults and (name := _odd(done_by, alone[number], contents=steady)):
            yield Fault(f"mixes up two runs at once, in two threads: {name} is not what it is alone")
            return

"""Runs cases in processes of their own, so that one that hangs or that ends its process is a finding as well."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Case = "Callable[[Random], object]"
"""One case, in a working directory of its own. It may raise SurgeryError, and nothing else."""

LIMIT = 30.0
"""Seconds for one case."""


class Misuse(SurgeryError):  # noqa: N818 - it is what the user did
    """A usage error of the command line, or a TypeError for a value that is of no documented type."""


@dataclass
class Tally:
    """What the cases of one kind ended in."""

    cases: int = 0
    results: int = 0
    errors: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    """Of each fault, the number of the first case."""
    details: dict[str, str] = field(default_factory=dict)

    def fault(self, number: int, said: str, details: str = "") -> None:
        """Count a fault; the first case of each kind of it is kept."""
        self.faults[said] += 1
        self.first.setdefault(said, number)
        self.details.setdefault(said, details)


def run(
    kinds: Mapping[str, Any], seconds: float, seed: int, first: int = 0, most: int | None = None
) -> dict[str, Tally]:
    """Run cases of each kind for its share of the time. Returns what they ended in, by kind."""
    tallies: dict[str, Tally] = {}
    for name, prepare in kinds.items():
        tallies[name] = _run_kind(name, prepare, time.monotonic() + seconds / len(kinds), seed, first, most)
    return tallies


def _run_kind(name: str, prepare: Any, end: float, seed: int, first: int, most: int | None) -> Tally:
    tally = Tally()
    context = multiprocessing.get_context("fork")
    number = first
    while time.monotonic() < end and (most is None or tally.cases < most):
        here, there = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
            process: Any = context.Process(target=_work, args=(name, prepare, seed, number, Path(home), there))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            number = _listen(tally, here, process, number, end, most)
            process.kill()
            process.join()
    return tally


def _listen(tally: Tally, here: Any, process: Any, number: int, end: float, most: int | None) -> int:
    """Count what a worker reports until it stops answering or the time is up. Returns the number of the next case."""
    while time.monotonic() < end and (most is None or tally.cases < most):
        try:
            if not here.poll(LIMIT):
                tally.cases += 1
                tally.fault(number, f"hangs: more than {LIMIT:.0f} s")
                return number + 1
            kind, said, details = here.recv()
        except EOFError:
            process.join()
            tally.cases += 1
            tally.fault(number, f"the process ended with exit code {process.exitcode}")
            return number + 1
        tally.cases += 1
        if kind == "fault":
            tally.fault(number, said, details)
        elif kind == "error":
            tally.errors += 1
        else:
            tally.results += 1
        number += 1
    return number


def _work(name: str, prepare: Any, seed: int, number: int, home: Path, there: Any) -> None:
    """Run one case after the other, and report each."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.environ["HOME"] = str(home)
    case: Callable[[Random], object] = prepare()
    while True:
        there.send(_attempt(case, Random(f"{seed} {name} {number}"), home))  # noqa: S311 - to be the same again
        number += 1


def _attempt(case: Callable[[Random], object], random: Random, home: Path) -> tuple[str, str, str]:
    work = home / "work"
    work.mkdir()
    os.chdir(work)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case(random)
        found = ("result", "", "")
    except SurgeryError as error:
        said = str(error)
        control = [char for char in said if unicodedata.category(char) in ("Cc", "Zl", "Zp")]
        found = ("error", "", "")
        if control or not said:
            found = ("fault", f"an error of {type(error).__name__} with {control[:1]!r} in it", repr(said))
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        place = traceback.extract_tb(error.__traceback__)
        own = next((line for line in reversed(place) if "/surgery/" in line.filename), place[-1])
        where = f"{Path(own.filename).name}:{own.lineno}"
        found = ("fault", f"{type(error).__name__} at {where}", traceback.format_exc())
    finally:
        os.chdir(home)
    beside = [path.name for path in home.iterdir() if path != work]
    if beside:
        found = ("fault", "files outside of its folder", f"{beside}")
    for path in home.iterdir():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    return found


def table(tallies: Mapping[str, Tally], seed: int) -> str:
    """The figures of a campaign, and of each fault how its case is run again."""
    lines = [f"{'kind':12}{'cases':>9}{'results':>9}{'errors':>9}{'faults':>9}"]
    for name, tally in tallies.items():
        faults = sum(tally.faults.values())
        lines.append(f"{name:12}{tally.cases:9}{tally.results:9}{tally.errors:9}{faults:9}")
    for name, tally in tallies.items():
        for said, count in tally.faults.most_common():
            lines.append(
                f"{name}: {count} times {said}: python -m tests.fuzz --kind {name} --seed {seed} "
                f"--case {tally.first[said]}"
            )
    return "\n".join(lines)

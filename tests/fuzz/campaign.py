"""Runs cases in processes of their own, so that a case that hangs or ends its process is found too."""

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
"""A function that runs one case in a working directory of its own. It may raise SurgeryError, and nothing else."""

CASE_TIMEOUT = 30.0
"""Seconds after which a case counts as hanging."""


class Misuse(SurgeryError):  # noqa: N818 - it is what the user did
    """A usage error of the command line, or a TypeError for a value of an undocumented type."""


@dataclass
class Tally:
    """The outcomes of the cases of one kind: results, errors of one line, and faults."""

    cases: int = 0
    results: int = 0
    errors: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    """The number of the first case of each fault."""
    details: dict[str, str] = field(default_factory=dict)

    def fault(self, number: int, said: str, details: str = "") -> None:
        """Count a fault, and keep its first case."""
        self.faults[said] += 1
        self.first.setdefault(said, number)
        self.details.setdefault(said, details)


def run(
    kinds: Mapping[str, Any], seconds: float, seed: int, first: int = 0, max_cases: int | None = None
) -> dict[str, Tally]:
    """Run cases of each kind for its share of the time, and return their outcomes by kind."""
    tallies: dict[str, Tally] = {}
    for name, prepare in kinds.items():
        tallies[name] = _run_kind(name, prepare, time.monotonic() + seconds / len(kinds), seed, first, max_cases)
    return tallies


def _run_kind(name: str, prepare: Any, end: float, seed: int, first: int, max_cases: int | None) -> Tally:
    tally = Tally()
    # Not from this process: its threads may hold what a fork of it then waits for.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz.kinds"])
    number = first
    while time.monotonic() < end and (max_cases is None or tally.cases < max_cases):
        here, there = context.Pipe(duplex=False)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
            process: Any = context.Process(target=_run_cases, args=(name, prepare, seed, number, Path(home), there))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            number = _collect_reports(tally, here, process, number, end, max_cases)
            process.kill()
            process.join()
    return tally


def _collect_reports(tally: Tally, here: Any, process: Any, number: int, end: float, max_cases: int | None) -> int:
    """Count the reports of a worker until it stops or the time is up. Return the number of the next case."""
    while time.monotonic() < end and (max_cases is None or tally.cases < max_cases):
        try:
            if not here.poll(CASE_TIMEOUT):
                tally.cases += 1
                tally.fault(number, f"hangs: more than {CASE_TIMEOUT:.0f} s")
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


def _run_cases(name: str, prepare: Any, seed: int, number: int, home: Path, there: Any) -> None:
    """Run one case after the other in a worker process, and report each outcome."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.environ["HOME"] = str(home)
    case: Callable[[Random], object] = prepare()
    while True:
        there.send(_run_case(case, Random(f"{seed} {name} {number}"), home))  # noqa: S311 - a case can be repeated
        number += 1


def _run_case(case: Callable[[Random], object], random: Random, home: Path) -> tuple[str, str, str]:
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
    except BaseException as error:  # noqa: BLE001 - any other exception is a fault
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
    """Return the counts of a campaign, and for each fault the command that repeats its case."""
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

"""Kills runs at random moments, and compares what they become with runs that nothing has stopped.

``python -m tests.fuzz.kills --kills 200`` kills runs of `surgery.extract` with every built-in sink, and with Zarr if it
is installed, with threads and with worker processes, into a folder and to an address, by SIGKILL (of all processes, of
the first, or of a worker) and by Ctrl-C. A run of which a worker is killed must go on to its end. Each is run again
until it is done, by any engine, and perhaps killed again. Then every file must be, byte for byte, that of a run that
was not stopped.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks import Npz, Png, Safetensors, Sheet, Statistics
from surgery.output import gathering

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = 14
SINKS: dict[str, tuple[Any, ...]] = {
    "png": (Png(),),
    "png and sheet": (Png(), Sheet(size=32)),
    "npz": (Npz(),),
    "safetensors": (Safetensors(),),
    "stats": (Statistics(bins=8),),
    "stats and npz": (Statistics(), Npz()),
    "all": (Png(), Npz(), Safetensors(), Sheet(size=32), Statistics()),
}
if find_spec("surgery_zarr"):
    SINKS["zarr"] = (Npz(), "zarr")
SIGNALS = ("all", "first", "worker", "Ctrl-C")
ENGINES = ("local", "processes:workers=2", "processes:workers=3")


class Noisy(nn.Module):
    """A model whose values are random and depend on the other images of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return torch.cat([y, y.mean((2, 3), keepdim=True).expand_as(y)], 1)


@dataclass(frozen=True)
class Case:
    """What is run."""

    sinks: str
    batch_size: int
    at_address: bool = False
    """Whether the folder is taken for an address."""
    save_interval: float = field(default=0.0, compare=False)
    """Seconds between two states of what is gathered."""

    def run(self, photos: Path, out: Path, engine: str) -> Any:
        """Run it by an engine of this process."""
        torch.manual_seed(0)
        gathering.SAVE_INTERVAL, gathering.SAVE_SHARE = self.save_interval, 1.0
        return surgery.extract(
            Noisy(),
            photos,
            out=f"disk://{out}" if self.at_address else out,
            sinks=SINKS[self.sinks],
            engine=engine,
            batch_size=self.batch_size,
            mode="train",
            seed=3,
        )


@dataclass
class Outcome:
    """What a campaign did."""

    kills: Counter[str] = field(default_factory=Counter)
    """By signal and by what was killed."""
    runs: int = 0
    """Runs that were killed at least once, and ended."""
    resumed: int = 0
    """Those that went on with images of before."""
    faults: list[str] = field(default_factory=list)


def make_photos(folder: Path) -> None:
    """Write images of two sizes, and a file that can't be read."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        height = 12 if number % 5 else 9
        Image.fromarray(random.integers(0, 256, (height, 10, 3), np.uint8)).save(folder / f"{number:02}.png")
    (folder / "05.png").write_bytes(b"no image")


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of each file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def campaign(kills: int, seed: int, home: Path) -> Outcome:
    """Kill runs `kills` times at moments that `seed` decides."""
    torch.set_num_threads(1)  # so that this process can be forked
    random, outcome = Random(seed), Outcome()  # noqa: S311 - not for cryptography
    importlib.import_module("surgery.extraction.run")  # once, before the forks
    importlib.import_module("tests.output.faulty_stores")  # which has the file system disk://
    os.environ["SURGERY_STAGING"] = str(home / "staging")
    photos = home / "photos"
    make_photos(photos)
    references: dict[Case, tuple[dict[str, bytes], float]] = {}
    number = 0
    while sum(outcome.kills.values()) < kills:
        sinks, interval = random.choice(sorted(SINKS)), random.choice((0.0, 0.02, 0.1, 1.0))
        case = Case(sinks, random.choice((1, 3)), random.random() < 0.3, interval)
        if case not in references:
            references[case] = _run_reference(case, photos, home / "reference")
        expected, seconds = references[case]
        number += 1
        out = home / f"{number}"
        _run_killed(case, photos, out, seconds, random, outcome)
        found = tree(out)
        names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if names:
            outcome.faults.append(f"seed {seed}, run {number}, {case}: {len(names)} files differ, such as {names[0]}")
            break  # what is left there tells why
        for name in sorted(found, key=len, reverse=True):
            (out / name).unlink()
    return outcome


def _run_reference(case: Case, photos: Path, home: Path) -> tuple[dict[str, bytes], float]:
    """Return the files of a run that nothing stops, and how many seconds it takes."""
    out = home / f"{case.sinks}-{case.batch_size}-{case.at_address}"
    started = time.monotonic()
    if code := wait_for(_begin(case, photos, out, "local")):
        raise RuntimeError(f"{case} ended with {code}")
    return tree(out), time.monotonic() - started


def _run_killed(case: Case, photos: Path, out: Path, seconds: float, random: Random, outcome: Outcome) -> None:
    """Kill a run, perhaps several times, and let it end."""
    for _ in range(random.choice((1, 1, 2, 3))):
        process = _begin(case, photos, out, random.choice(ENGINES))
        time.sleep(random.uniform(0, seconds))
        killed = _kill(process, random.choice(SIGNALS), random)
        if killed is not None:
            outcome.kills[killed] += 1
        if (code := wait_for(process)) and killed == "worker":
            outcome.faults.append(f"{case} ended with {code} when a worker of it was killed")
        with suppress(FileNotFoundError):
            json.loads((out / "manifest.json").read_bytes())  # whole at any moment
    outcome.resumed += any((out / ".surgery").glob("[ir]*-*")) or (out / "manifest.json").exists()
    outcome.runs += 1
    if code := wait_for(_begin(case, photos, out, random.choice(ENGINES))):
        outcome.faults.append(f"{case} ended with {code} after it was killed")


def _begin(case: Case, photos: Path, out: Path, engine: str) -> int:
    return fork(lambda: case.run(photos, out, engine))


def fork(call: Callable[[], object]) -> int:
    """Call a function in a fork of this process, which leads a group of its own. Return the number of the fork."""
    process = os.fork()
    if process:
        return process
    os.setpgid(0, 0)
    code = 1
    try:
        call()
        code = 0
    except BaseException:  # noqa: BLE001 - this process ends here
        if "KeyboardInterrupt" not in (said := traceback.format_exc()):
            sys.stderr.write(said)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _kill(process: int, how: str, random: Random) -> str | None:
    """Return what was killed; None if the run had ended."""
    with suppress(ProcessLookupError, PermissionError):
        workers = _children(process)
        if how == "Ctrl-C":
            os.kill(process, signal.SIGINT)
        elif how == "worker" and workers:
            os.kill(random.choice(workers), signal.SIGKILL)
            return "worker"
        elif how == "all":
            os.killpg(process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGKILL)
            return "first"
        return how
    return None


def _children(process: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def wait_for(process: int) -> int:
    """Return the exit code of a process, once it has ended."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def main() -> int:
    """Run a campaign in a temporary folder, which stays if there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="surgery-kills-"))
    outcome = campaign(given.kills, given.seed, home)
    counts = ", ".join(f"{count} {how}" for how, count in sorted(outcome.kills.items()))
    print(f"{sum(outcome.kills.values())} kills ({counts}), {outcome.runs} runs, {outcome.resumed} resumed")  # noqa: T201
    for fault in outcome.faults:
        print(f"{fault}; see {home}")  # noqa: T201
    if not outcome.faults:
        import shutil

        shutil.rmtree(home)
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())

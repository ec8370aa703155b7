"""Kills runs of the engine at random moments, and compares what they become with a run that nothing has stopped.

``python plugins/surgery-ray/tests/kills.py --kills 60`` starts Ray once. Each run is a process that joins it; it is
killed, interrupted by Ctrl-C, or one of its workers is killed. Then it is run again, by Ray or in one process, until it
is done, and every file must be, byte for byte, that of a run in one process.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

IMAGES = 16
SINKS = ("png", "npz", "safetensors", "sheet")
WAYS = ("worker", "worker", "first", "Ctrl-C")
NETS = """
import torch
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Dropout(0.5), nn.ReLU(inplace=True))
"""


@dataclass
class Outcome:
    """What a campaign did."""

    kills: Counter[str] = field(default_factory=Counter)
    """By what was killed, and how."""
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def campaign(kills: int, seed: int, home: Path) -> Outcome:
    """Kill runs `kills` times at moments that `seed` decides. Ray is started before, in this process."""
    random, outcome = Random(seed), Outcome()  # noqa: S311 - not for cryptography
    make_files(home)
    finish(begin(home, "whole", "local", 2))
    expected = tree(home / "whole")
    started = time.monotonic()
    finish(begin(home, "timed", "ray:workers=2", 2))
    seconds = time.monotonic() - started
    if tree(home / "timed") != expected:
        outcome.faults.append("a run that was not stopped differs")
    while outcome.kills.total() < kills and not outcome.faults:
        outcome.runs += 1
        name = f"run-{outcome.runs}"
        for _ in range(random.choice((1, 1, 2))):
            process = begin(home, name, "ray:workers=2", 2)
            if random.random() < 0.8:
                wait_for_workers(process)
            time.sleep(random.uniform(0, seconds / 3))
            way = random.choice(WAYS)
            outcome.kills[way] += kill(process, way, random)
            process.communicate(timeout=120)
        code, said = finish(begin(home, name, random.choice(("local", "ray:workers=2")), 2))
        found = tree(home / name)
        differ = sorted(file for file in {*expected, *found} if expected.get(file) != found.get(file))
        if code != 1 or differ:
            outcome.faults.append(f"seed {seed}, {name}: ended with {code}, {len(differ)} differ: {differ[:3]} {said}")
    return outcome


def make_files(home: Path) -> None:
    """Write a model, images of two sizes, and a file that can't be read."""
    (home / "nets.py").write_text(NETS)
    (home / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        height = 40 if number % 5 else 32
        Image.fromarray(random.integers(0, 256, (height, 36, 3), np.uint8)).save(home / "images" / f"{number:02}.png")
    (home / "images" / "05.png").write_bytes(b"no image")


def begin(home: Path, out: str, engine: str, batch: int) -> subprocess.Popen[str]:
    """Start a run."""
    command = [sys.executable, "-m", "surgery", "extract", "nets.py:make", "images", "--out", out, "--engine", engine]
    command += ["--batch-size", str(batch), "--mode", "train", *(word for sink in SINKS for word in ("--sink", sink))]
    return subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a run. Return its exit code, which is 1 for the file that can't be read, and what it printed last."""
    said, _ = process.communicate(timeout=300)
    return process.returncode, said[-300:]


def kill(process: subprocess.Popen[str], way: str, random: Random) -> bool:
    """Return whether there was something to kill."""
    workers = find_workers()
    if process.poll() is not None or (way == "worker" and not workers):
        return False
    with suppress(ProcessLookupError):
        if way == "worker":
            os.kill(random.choice(workers), signal.SIGKILL)
        else:
            process.send_signal(signal.SIGINT if way == "Ctrl-C" else signal.SIGKILL)
        return True
    return False


def wait_for_workers(process: subprocess.Popen[str]) -> None:
    """Wait until a run has workers, or has ended."""
    while process.poll() is None and not find_workers():
        time.sleep(0.02)


def find_workers() -> list[int]:
    """Return the processes of `RemoteWorker` that the Ray of this process has."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_bytes()
    found = []
    for process, name in names.items():
        parent = parents.get(process, 0)
        while parent not in (0, os.getpid()):
            parent = parents.get(parent, 0)
        if parent and name.startswith(b"ray::RemoteWorker"):
            found.append(process)
    return sorted(found)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of each file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    context = ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    os.environ["RAY_ADDRESS"] = context.address_info["address"]
    with tempfile.TemporaryDirectory() as home:
        outcome = campaign(options.kills, options.seed, Path(home))
    sys.stdout.write(f"{outcome.runs} runs; killed: {dict(outcome.kills)}; faults: {outcome.faults or 'none'}\n")
    ray.shutdown()
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()

"""Kills merges of shards at random moments, and compares what they become with a run that was never divided.

``python -m tests.fuzz.merge_kills --kills 200`` merges shards in folders and at addresses, into folders and addresses.
A merge is killed by SIGKILL or by Ctrl-C, and called again until it is done. Then every file must be, byte for byte,
that of one run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import torch

import surgery
from surgery.output import shard_copying
from tests.fuzz.kills import Noisy, fork, make_photos, tree, wait_for

SHARDS = 3
SINKS = ("png", "safetensors", "stats:bins=4")
WAYS = (("folder", "folder"), ("folder", "address"), ("address", "folder"), ("address", "address"))
"""Where the shards are, and where they are merged to."""


def place(way: str, folder: Path) -> str:
    """Return a folder, or an address that names it."""
    return f"disk://{folder}" if way == "address" else str(folder)


def campaign(kills: int, seed: int, home: Path) -> tuple[Counter[str], int, list[str]]:
    """Kill merges `kills` times at moments that `seed` decides. Return the kills, the merges and the faults."""
    torch.set_num_threads(1)  # so that this process can be forked
    shard_copying.BATCH_FILES = 4
    importlib.import_module("tests.output.faulty_stores")  # which has the file system disk://
    os.environ["SURGERY_STAGING"] = str(home / "staging")
    random = Random(seed)  # noqa: S311 - not for cryptography
    make_photos(home / "photos")
    extract(home / "whole", home)
    for number in range(1, SHARDS + 1):
        extract(home / "shards", home, shard=(number, SHARDS))
    expected = tree(home / "whole")
    started = time.monotonic()
    surgery.merge(place("address", home / "shards"), out=place("address", home / "first"))
    seconds = time.monotonic() - started
    counts: Counter[str] = Counter()
    faults: list[str] = []
    merges = 0
    while sum(counts.values()) < kills and not faults:
        shards, to = random.choice(WAYS)
        target = home / f"{merges}"
        for _ in range(random.choice((1, 1, 2, 3))):
            process = begin(place(shards, home / "shards"), place(to, target))
            time.sleep(random.uniform(0, seconds))
            how = random.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT))
            with suppress(ProcessLookupError):
                os.kill(process, how)
            counts[how.name] += wait_for(process) != 0  # the others had ended
        code = wait_for(begin(place(shards, home / "shards"), place(to, target)))
        found = tree(target)
        names = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        if code or names:
            faults.append(
                f"seed {seed}, merge {merges} from {shards} to {to} ended with {code}; different: {names[:3]}"
            )
        else:
            shutil.rmtree(target)
        merges += 1
    return counts, merges, faults


def extract(out: Path, home: Path, **options: Any) -> None:
    """Run the images, or a shard of them."""
    torch.manual_seed(0)
    surgery.extract(Noisy(), home / "photos", out=out, sinks=SINKS, batch_size=1, mode="train", seed=3, **options)


def begin(shards: str, target: str) -> int:
    """Merge shards in a fork of this process. Return its number."""
    is_between_folders = "://" not in shards + target  # it is not done twice without overwrite
    return fork(lambda: surgery.merge(shards, out=target, overwrite=is_between_folders))


def main() -> int:
    """Run a campaign in a temporary folder, which stays if there is a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.merge_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="surgery-merges-"))
    counts, merges, faults = campaign(given.kills, given.seed, home)
    shown = ", ".join(f"{count} {how}" for how, count in sorted(counts.items()))
    print(f"{sum(counts.values())} kills ({shown}), {merges} merges")  # noqa: T201
    for fault in faults:
        print(f"{fault}; see {home}")  # noqa: T201
    if not faults:
        shutil.rmtree(home)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

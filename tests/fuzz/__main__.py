from __future__ import annotations

import argparse
import sys

from tests.fuzz.campaign import run, table
from tests.fuzz.kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="repeatable; all without it")
    parser.add_argument("--case", type=int, help="run this case alone, and show how it fails")
    given = parser.parse_args()
    kinds = {name: KINDS[name] for name in given.kind or KINDS}
    if given.case is None:
        tallies = run(kinds, given.seconds, given.seed)
    else:
        tallies = run(kinds, given.seconds, given.seed, given.case, 1)
    print(table(tallies, given.seed))  # noqa: T201
    for tally in tallies.values():
        for details in tally.details.values() if given.case is not None else ():
            print(details)  # noqa: T201
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())

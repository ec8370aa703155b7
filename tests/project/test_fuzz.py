"""A short campaign of `python -m tests.fuzz`, and that it finds what is wrong."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from surgery.errors import SurgeryError
from tests.fuzz import campaign
from tests.fuzz.campaign import run, table
from tests.fuzz.kinds import KINDS


def test_odd_and_damaged_inputs_end_in_results_and_in_errors_of_one_line() -> None:
    tallies = run({name: kind for name, kind in KINDS.items() if name != "commands"}, 600, seed=0, max_cases=10)
    assert all(tally.cases for tally in tallies.values())  # as many of the ten as there is time for
    assert {name: tally.details for name, tally in tallies.items() if tally.faults} == {}


def failing(random: Random) -> object:
    raise ZeroDivisionError


def unclear(random: Random) -> object:
    raise SurgeryError


def leaving(random: Random) -> object:
    return Path("../elsewhere").write_text("x")


def ending(random: Random) -> object:
    sys.exit(3)


def dying(random: Random) -> object:
    import os

    os._exit(7)


def hanging(random: Random) -> object:
    time.sleep(100)
    return None


def prepared(case: Any) -> Any:
    return case


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (failing, "ZeroDivisionError at test_fuzz.py"),
        (unclear, "an error of SurgeryError"),
        (leaving, "files outside of its folder"),
        (ending, "SystemExit at test_fuzz.py"),
        (dying, "the process ended with exit code 7"),
        (hanging, "hangs: more than 1 s"),
    ],
)
def test_a_fault_is_found_whatever_its_kind(case: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "CASE_TIMEOUT", 15 if case is not hanging else 1)
    tallies = run({"kind": partial(prepared, case)}, 60, seed=4, first=2, max_cases=2)
    assert tallies["kind"].cases == 2
    (found,) = tallies["kind"].faults
    assert found.startswith(said)
    assert "kind: 2 times " in table(tallies, 4)
    assert "python -m tests.fuzz --kind kind --seed 4 --case 2" in table(tallies, 4)

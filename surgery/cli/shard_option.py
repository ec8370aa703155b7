"""The option `--shard`: which part of a run a command does, as the user or the scheduler of a cluster says."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

_NUMBERS = re.compile(r"(\d{1,9})/(\d{1,9})")
_ARRAY = "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"
_TASKS = "SLURM_PROCID", "SLURM_NTASKS"


def parse_shard(text: str | None, environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """Return a shard and how many there are: those of ``2/8``, or those that Slurm has set for ``auto``.

    The tasks of a job array come before those of a job. Raises BadParameter.
    """
    if text is None:
        return None
    if text == "auto":
        return _read_environment(environment)
    found = _NUMBERS.fullmatch(text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise typer.BadParameter(f"--shard is k/n with k from 1 to n, such as 2/8, or auto; not {text!r}")
    return number, count


def _read_environment(environment: Mapping[str, str]) -> tuple[int, int]:
    if _ARRAY[0] in environment:
        place, count, first = (_read_number(environment, name) for name in _ARRAY)
        step = _read_number(environment, "SLURM_ARRAY_TASK_STEP", 1) or 1
        last = _read_number(environment, "SLURM_ARRAY_TASK_MAX", first + (count - 1) * step)
        number, rest = divmod(place - first, step)
        if rest or last - first != (count - 1) * step or not 0 <= number < count:
            raise typer.BadParameter(
                f"--shard auto can't number the tasks of this job array: {count} tasks from {first} to {last}, and "
                f"this is {place}; use an array without gaps, such as --array=1-{count}, or write --shard k/n"
            )
        return number + 1, count
    if all(name in environment for name in _TASKS):
        number, count = (_read_number(environment, name) for name in _TASKS)
        if number < count:
            return number + 1, count
        raise typer.BadParameter(f"--shard auto: SLURM_PROCID is {number}, and SLURM_NTASKS is {count}")
    raise typer.BadParameter(
        f"--shard auto reads {_ARRAY[0]} and {_ARRAY[1]}, or {_TASKS[0]} and {_TASKS[1]}, which are not set; write "
        "--shard k/n"
    )


def _read_number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not re.fullmatch(r"\d{1,9}", text):
        raise typer.BadParameter(f"--shard auto needs a number in {name}, and it is {text!r}; write --shard k/n")
    return int(text)

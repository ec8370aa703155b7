"""The option `--shard`, and the command `merge`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import typer

from surgery.cli.shard_option import parse_shard

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        (None, {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, None),
        ("2/8", {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, (2, 8)),
        ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (1, 4)),
        ("auto", {"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (4, 4)),
        ("auto", {"ID": "7", "COUNT": "8", "MIN": "0"}, (8, 8)),
        ("auto", {"ID": "1", "COUNT": "8", "MIN": "1", "MAX": "8", "STEP": "1"}, (1, 8)),
        ("auto", {"ID": "14", "COUNT": "3", "MIN": "10", "MAX": "18", "STEP": "4"}, (2, 3)),
        ("auto", {"ID": "5", "COUNT": "2", "MIN": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (2, 2)),
    ],
)
def test_a_shard_is_what_is_named_or_what_slurm_has_set(
    text: str | None, environment: dict[str, str], expected: tuple[int, int] | None
) -> None:
    assert parse_shard(text, array(environment)) == expected


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("0/2", {}, "--shard is k/n with k from 1 to n, such as 2/8, or auto; not '0/2'"),
        ("3/2", {}, "not '3/2'"),
        ("half", {}, "not 'half'"),
        ("1/2/3", {}, "not '1/2/3'"),
        ("auto", {}, "which are not set; write --shard k/n"),
        ("auto", {"SLURM_PROCID": "1"}, "which are not set"),
        ("auto", {"SLURM_PROCID": "4", "SLURM_NTASKS": "4"}, "SLURM_PROCID is 4, and SLURM_NTASKS is 4"),
        ("auto", {"SLURM_PROCID": "x", "SLURM_NTASKS": "4"}, "needs a number in SLURM_PROCID, and it is 'x'"),
        ("auto", {"ID": "2", "COUNT": "2"}, "needs a number in SLURM_ARRAY_TASK_MIN, and it is ''"),
        ("auto", {"ID": "3", "COUNT": "3", "MIN": "1", "MAX": "7"}, "3 tasks from 1 to 7, and this is 3; use an array"),
        ("auto", {"ID": "9", "COUNT": "3", "MIN": "1"}, "3 tasks from 1 to 3, and this is 9"),
    ],
)
def test_a_shard_that_says_nothing_is_one_clear_line(text: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_shard(text, array(environment))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def array(environment: dict[str, str]) -> dict[str, str]:
    return {name if name.startswith("SLURM") else f"SLURM_ARRAY_TASK_{name}": environment[name] for name in environment}


def test_the_commands_divide_a_run_and_merge_it(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("extract", "--at", "op:cat", "--sink", "npz")
    assert run(*command, "-o", "whole").code == 0
    result = run("merge", "activations")
    assert (result.code, result.out, result.err) == (1, "", "surgery: there is no folder activations\n")
    result = run(*command, "--shard", "1/2")
    assert (result.code, result.out) == (
        0,
        "no image was finished; activations/shard-1-of-2/ has a manifest that says so\n",
    )
    result = run("merge")
    assert (result.code, result.err) == (
        1,
        "surgery: shard 2 of 2 is missing; run what is missing, or name its folder too\n",
    )
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert run(*command, "--shard", "auto").code == 0
    result = run("merge")
    assert result.code == 0
    assert "activations/  1 image, 2 files, " in result.out
    whole = files_of(tmp_path / "whole")
    assert len(whole) == 2
    assert {name: each for name, each in files_of(tmp_path / "activations").items() if "shard-" not in name} == whole
    result = run("merge")
    assert result.code == 1
    assert result.err.startswith("surgery: activations already holds a run of facades; add --overwrite")
    assert run("merge", "--overwrite").code == 0
    assert run("verify").out.startswith("activations/  1 image, 2 files  matches")
    assert run("merge", "-o", "memory://cli/run").code == 0
    assert run("verify", "memory://cli/run").out.startswith("memory://cli/run/  1 image, 2 files  matches")
    result = run("merge", "memory://cli/none")
    assert (result.code, result.err.partition("holds")[0]) == (1, "surgery: memory://cli/none ")
    result = run("extract", "--shard", "9/8")
    assert result.code == 2

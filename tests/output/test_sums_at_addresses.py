"""What sinks gather over all images of a run at an address is what the finished images give, whatever stops the run."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

import surgery
from surgery.builtin.sinks import Safetensors, Statistics
from surgery.errors import OutputError
from surgery.output import gathering, uploads
from tests.output.faulty_stores import FaultyFileSystem, content, faults
from tests.output.test_addresses import OUT, photos, run, staging, write
from tests.output.test_resumed_runs import Stop, tree

__all__ = ["photos", "staging"]  # the fixtures
SINKS = [Statistics(bins=4), Safetensors()]


@pytest.fixture(autouse=True)
def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save what is gathered after each batch, so that a run of few can be stopped between two states."""
    monkeypatch.setattr(gathering, "SAVE_INTERVAL", 0.0)
    monkeypatch.setattr(gathering, "SAVE_SHARE", 1e9)


@pytest.mark.parametrize("options", [{"jobs": 2}, {"engine": "processes:workers=3"}, {"writer_threads": 2}])
@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_statistics_of_several_processes_are_those_of_one(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], interval: float
) -> None:
    monkeypatch.setattr(gathering, "SAVE_INTERVAL", interval)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=SINKS, batch_size=1)
    run(photos, f"disk://{out}", sinks=SINKS, batch_size=1, **options)
    assert tree(out) == tree(whole)
    assert not (out / ".surgery").exists()


@pytest.fixture
def three(photos: Path) -> Path:
    (photos / "3.png").unlink()
    return photos


@pytest.mark.parametrize(("torn_at", "size"), [(0, uploads.RECORDS_BYTES), (0.5, 1), (0.7, uploads.RECORDS_BYTES)])
def test_a_run_that_is_killed_at_any_step_goes_on_to_the_same_statistics(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn_at: float, size: int
) -> None:
    monkeypatch.setattr(uploads, "RECORDS_BYTES", size)
    monkeypatch.setattr(uploads, "BATCHES_AT_ONCE", 1)  # so that the records of each are written for themselves
    whole = tmp_path / "whole"
    run(three, whole, sinks=[Statistics()], batch_size=1)
    with faults():
        run(three, OUT, sinks=[Statistics()], batch_size=1)
        steps = list(FaultyFileSystem.writes)
    resumed = set()
    for step in (step for step, what in enumerate(steps, 1) if what.startswith("write") or not torn_at):
        FaultyFileSystem.store.clear()
        with faults(dies_at=step, is_torn=torn_at > 0, torn_at=torn_at), suppress(OutputError):
            run(three, OUT, sinks=[Statistics()], batch_size=1)
        resumed.add(run(three, OUT, sinks=[Statistics()], batch_size=1).finished_before)
        assert content(OUT) == tree(whole), f"killed at step {step} of {len(steps)}: {steps[step - 1]}"
    assert resumed == {0, 1, 2, 3}


def test_a_run_that_goes_on_and_is_killed_at_any_step_goes_on_to_the_same_statistics(
    three: Path, tmp_path: Path
) -> None:
    """The run before was stopped by Ctrl-C, which leaves a file of statistics that the next one replaces."""
    whole = tmp_path / "whole"
    run(three, whole, sinks=[Statistics()], batch_size=1)

    def begin() -> None:
        FaultyFileSystem.store.clear()
        assert 0 < run(three, OUT, sinks=[Statistics()], batch_size=1, progress=Stop(1)).images < 3

    begin()
    with faults():
        run(three, OUT, sinks=[Statistics()], batch_size=1)
        steps = list(FaultyFileSystem.writes)
    assert content(OUT) == tree(whole)
    for step in range(1, len(steps) + 1):
        begin()
        with faults(dies_at=step), suppress(OutputError):
            run(three, OUT, sinks=[Statistics()], batch_size=1)
        run(three, OUT, sinks=[Statistics()], batch_size=1)
        assert content(OUT) == tree(whole), f"killed at step {step} of {len(steps)}: {steps[step - 1]}"


def test_a_run_that_overwrites_another_with_statistics_leaves_nothing_of_it(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole", sinks=[Safetensors()], seed=1)
    with faults(dies_at=25), suppress(OutputError):
        run(photos, OUT, sinks=SINKS, batch_size=1)
    assert any("/state-" in name for name in content(OUT))
    run(photos, OUT, sinks=[Safetensors()], seed=1, overwrite=True)
    assert content(OUT) == tree(tmp_path / "whole")


def kill_after_some(photos: Path) -> None:
    """Leave a run at the address that was killed when some images were finished."""
    with faults(dies_at=30), suppress(OutputError):
        run(photos, OUT, sinks=SINKS, batch_size=1)
    assert any("/state-" in name for name in content(OUT))
    assert any("/records-" in name for name in content(OUT))


def test_a_run_that_overwrites_and_finishes_no_image_leaves_the_killed_one_as_it_was(
    photos: Path, tmp_path: Path
) -> None:
    run(photos, tmp_path / "whole", sinks=SINKS, batch_size=1)
    kill_after_some(photos)
    good = {photo: photo.read_bytes() for photo in photos.iterdir()}
    for photo in good:
        photo.write_bytes(b"broken")
    assert run(photos, OUT, sinks=SINKS, batch_size=1, overwrite=True, seed=1).images == 0
    for photo, pixels in good.items():
        photo.write_bytes(pixels)
    assert run(photos, OUT, sinks=SINKS, batch_size=1).finished_before > 0
    assert content(OUT) == tree(tmp_path / "whole")


def test_parts_of_the_statistics_of_a_killed_run_are_kept_until_the_next_merges_them(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole", sinks=SINKS, batch_size=1)
    kill_after_some(photos)

    def fail(*_: Any, **__: Any) -> None:
        raise OutputError("before any image")

    with monkeypatch.context() as patch:
        patch.setattr("surgery.extraction.run.run_images", fail)
        with pytest.raises(OutputError, match="before any image"):
            run(photos, OUT, sinks=SINKS, batch_size=1)
    (part,) = json.loads(content(OUT)["manifest.json"])["files"]
    assert part.startswith("statistics.")
    assert surgery.verify(OUT).sound
    assert run(photos, OUT, sinks=SINKS, batch_size=1).finished_before > 0
    assert content(OUT) == tree(tmp_path / "whole")


@pytest.mark.parametrize("is_first", [False, True])
def test_processes_that_are_killed_leave_what_another_run_goes_on_with(
    photos: Path, tmp_path: Path, is_first: bool
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=SINKS, batch_size=1)
    process = os.fork()
    if not process:
        os.setpgid(0, 0)

        def kill(progress: Any) -> None:
            if progress.done == 2 or is_first:
                os.killpg(0, signal.SIGKILL)

        run(photos, f"disk://{out}", sinks=SINKS, batch_size=1, jobs=2, progress=kill)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    run(photos, f"disk://{out}", sinks=SINKS, batch_size=1)
    assert tree(out) == tree(whole)


def test_images_that_are_repaired_are_added_to_the_statistics_as_in_a_folder(photos: Path, tmp_path: Path) -> None:
    good = (photos / "2.png").read_bytes()
    for out in (tmp_path / "out", OUT):
        (photos / "2.png").write_bytes(b"broken")
        run(photos, out, sinks=SINKS, batch_size=1)
        (photos / "2.png").write_bytes(good)
        assert run(photos, out, sinks=SINKS, batch_size=1).finished_before == 3
    assert content(OUT) == tree(tmp_path / "out")
    assert json.loads(content(OUT)["statistics.json"])["images"] == 4


def test_shards_at_an_address_have_statistics_that_are_merged_to_those_of_one_run(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole", sinks=SINKS)
    for number in (1, 2):
        run(photos, OUT, shard=(number, 2), sinks=SINKS)
    for target in (None, "memory://bucket/merged", tmp_path / "merged"):
        surgery.merge(OUT, out=target, overwrite=True)
    merged = {name: each for name, each in content(OUT).items() if not name.startswith("shard-")}
    assert merged == content("memory://bucket/merged") == tree(tmp_path / "merged") == tree(tmp_path / "whole")
    surgery.merge(OUT)
    assert merged == {name: each for name, each in content(OUT).items() if not name.startswith("shard-")}


@pytest.mark.parametrize("place", ["folder", OUT])
def test_a_missing_part_of_the_statistics_is_one_clear_line(photos: Path, tmp_path: Path, place: str) -> None:
    target: Any = tmp_path / "out" if place == "folder" else place
    run(photos, target, sinks=SINKS, batch_size=1, progress=Stop(2))
    if place == "folder":
        (target / "statistics.json").unlink()
    else:
        FaultyFileSystem().rm_file("/bucket/run/statistics.json")
    with pytest.raises(OutputError) as caught:
        run(photos, target, sinks=SINKS, batch_size=1)
    assert str(caught.value) == (
        f"{target}/statistics.json is missing, which holds what was gathered of the images that are finished; add "
        "--overwrite (overwrite=True) to begin anew"
    )
    run(photos, target, sinks=SINKS, batch_size=1, overwrite=True)
    run(photos, tmp_path / "whole", sinks=SINKS, batch_size=1)
    assert (content(OUT) if place == OUT else tree(target)) == tree(tmp_path / "whole")


def test_statistics_of_no_run_are_named_before_anything_runs(photos: Path) -> None:
    write("statistics.json", "mine")
    with pytest.raises(OutputError, match=f"^can't write {OUT}/statistics.json: a file of that name is there, which"):
        run(photos, OUT, sinks=SINKS)
    assert content(OUT) == {"statistics.json": b"mine"}


def test_lost_connections_change_no_number(photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(photos, whole, sinks=SINKS, batch_size=1)
    with faults(failing=Random(3), share=0.15):  # noqa: S311
        for _ in range(30):
            with suppress(OutputError):
                run(photos, OUT, sinks=SINKS, batch_size=1)
                break
    run(photos, OUT, sinks=SINKS, batch_size=1)
    assert content(OUT) == tree(whole)
    assert json.loads(content(OUT)["manifest.json"])["progress"]["gathered"] == {"statistics.json": ["statistics.json"]}

"""Runs that write to an address: what is there is, byte for byte, what a run writes into a folder."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Thread
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import surgery
from surgery.builtin.sinks import Page, Png, Safetensors, Sheet
from surgery.cli import main
from surgery.errors import ModelError, OutputError
from surgery.output import Address, acquire_output, parse_place, staging_home, uploads
from tests.output.faulty_stores import FaultyFileSystem, content, faults
from tests.output.test_resumed_runs import Noisy, Stop, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = "faulty://bucket/run"
LOCK = ".surgery/lock"


@pytest.fixture(autouse=True)
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    FaultyFileSystem.store.clear()
    FaultyFileSystem.pseudo_dirs[:] = [""]
    monkeypatch.setenv("SURGERY_STAGING", str(tmp_path / "staging"))
    monkeypatch.setattr("surgery.addresses.file_systems.WAITS", (0.0, 0.0, 0.0))
    yield tmp_path / "staging"
    assert not list((tmp_path / "staging").glob("*")), "nothing is left on the local disk"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (9, 10, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


def run(photos: Path, out: Any, **options: Any) -> surgery.Report:
    options = {"sinks": [Safetensors()], "batch_size": 2, "check": False, "at": "op:relu", "mode": "train", **options}
    return surgery.extract(options.pop("model", Noisy()), photos, out=out, **options)


def write(name: str, value: str | bytes) -> None:
    fsspec.filesystem("faulty").pipe_file(f"{OUT}/{name}", value.encode() if isinstance(value, str) else value)


@pytest.mark.parametrize("out", [OUT, "memory://bucket/run"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_at_an_address_is_what_a_run_writes_into_a_folder(
    photos: Path, tmp_path: Path, out: str, batch_size: int
) -> None:
    whole = tmp_path / "whole"
    options: Any = {"sinks": [Png(), Sheet(size=32, channels=2), Safetensors()], "batch_size": batch_size, "at": "*"}
    expected = run(photos, whole, **options)
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/bucket", recursive=True)
    report = run(photos, out, **options)
    assert content(out) == tree(whole)
    assert (str(report.folder), str(report.overview)) == (out, str(expected.overview).replace(str(whole), out))
    assert (report.images, report.files) == (expected.images, expected.files)
    again = run(photos, out, **options)
    assert (again.images, again.finished_before) == (4, 4)
    assert content(out) == tree(whole)


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_run_that_is_killed_at_any_step_goes_on_to_the_same_files(
    photos: Path, tmp_path: Path, is_torn: bool
) -> None:
    whole = tmp_path / "whole"
    run(photos, whole)
    with faults():
        run(photos, OUT)
        steps = len(FaultyFileSystem.writes)
        halves = {step for step, what in enumerate(FaultyFileSystem.writes, 1) if what.startswith("write")}
    resumed = set()
    for step in sorted(halves) if is_torn else range(1, steps + 1):
        FaultyFileSystem.store.clear()
        with faults(dies_at=step, is_torn=is_torn), suppress(OutputError):
            run(photos, OUT)
        resumed.add(run(photos, OUT).finished_before)
        assert content(OUT) == tree(whole), f"killed at step {step} of {steps}"
    assert {0, 4} <= resumed <= {0, 2, 4}


def test_a_run_that_overwrites_another_and_is_killed_at_any_step_leaves_one_of_both_or_a_part_of_its_own(
    photos: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run(photos, one, at="*", sinks=[Png()])
    run(photos, two, seed=1)
    with faults():
        run(photos, OUT, at="*", sinks=[Png()])
        write("notes/mine.txt", "not of a run")
        before = content(OUT)
        FaultyFileSystem.writes.clear()
        run(photos, OUT, seed=1, overwrite=True)
        steps = len(FaultyFileSystem.writes)
    mine = {"notes/mine.txt": b"not of a run"}
    assert content(OUT) == tree(two) | mine
    kept_old = 0
    for step in range(1, steps + 1):
        FaultyFileSystem.store.clear()
        for name, value in before.items():
            write(name, value)
        with faults(dies_at=step), suppress(OutputError):
            run(photos, OUT, seed=1, overwrite=True)
        if step % 2:
            run(photos, OUT, seed=1, overwrite=True)
        else:
            with suppress(OutputError):  # without overwrite, it goes on, or the old run is there, with nothing missing
                run(photos, OUT, seed=1)
            if json.loads(content(OUT)["manifest.json"])["settings"]["seed"] == 0:
                assert run(photos, OUT, at="*", sinks=[Png()]).finished_before == 4
                assert content(OUT) == tree(one) | mine, f"killed at step {step} of {steps}"
                kept_old += 1
                continue
        assert content(OUT) == tree(two) | mine, f"killed at step {step} of {steps}"
    assert 0 < kept_old < steps // 2


def test_lost_connections_and_slow_answers_change_no_byte(photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(photos, whole, batch_size=1)
    with faults(failing=Random(0), share=0.15, delay=0.001):  # noqa: S311
        for _ in range(30):  # four failures of one call in a row end a run
            with suppress(OutputError):
                run(photos, OUT, batch_size=1)
                break
    run(photos, OUT, batch_size=1)
    assert content(OUT) == tree(whole)


def test_a_file_that_cant_be_written_leaves_nothing_of_its_batch(photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(photos, whole)
    with faults(refused="/3/"), pytest.raises(OutputError, match=f"^can't write {OUT}/3/act.*: permission denied$"):
        run(photos, OUT)
    assert set(content(OUT)) == {"manifest.json", "0/activations.safetensors", "1/activations.safetensors"}
    assert run(photos, OUT).finished_before == 2
    assert content(OUT) == tree(whole)
    with faults(refused="/1/"), pytest.raises(OutputError):
        run(photos, f"{OUT}-2")
    assert content(f"{OUT}-2") == {}


def test_an_address_that_fails_for_good_ends_the_run_with_a_line_and_the_next_goes_on(
    photos: Path, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    run(photos, whole)
    with faults(failing=Random(0), share=1.0), pytest.raises(OutputError) as caught:  # noqa: S311
        run(photos, OUT)
    assert str(caught.value) == f"can't write to {OUT}: ConnectionResetError: connection lost"
    with faults(dies_at=13), pytest.raises(OutputError, match=f"^can't write {OUT}/.*: permission denied$"):
        run(photos, OUT)
    assert run(photos, OUT).images == 4
    assert content(OUT) == tree(whole)


def test_ctrl_c_keeps_what_is_finished_and_another_machine_goes_on_with_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    run(photos, whole, batch_size=1)
    stopped = run(photos, OUT, batch_size=1, progress=Stop(2))
    assert stopped.interrupted
    assert 0 < stopped.images < 4
    assert json.loads(content(OUT)["manifest.json"])["interrupted"]
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    report = run(photos, OUT, batch_size=1)
    assert report.finished_before == stopped.images
    assert content(OUT) == tree(whole)


def test_ctrl_c_while_a_thread_is_started_leaves_nothing_that_is_not_recorded(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    start = Thread.start
    pressed: list[str] = []

    def start_and_press(self: Thread) -> None:
        start(self)
        if self.name.startswith("surgery-batch") and not pressed:
            pressed.append("pressed")
            signal.raise_signal(signal.SIGINT)
            pressed.append("and held")

    with monkeypatch.context() as patch, faults(delay=0.01):
        patch.setattr(Thread, "start", start_and_press)
        assert run(photos, OUT, writer_threads=0).interrupted
        assert pressed == ["pressed", "and held"], "otherwise the pool does not know the thread, nor wait for it"
    run(photos, OUT)
    assert content(OUT) == tree(tmp_path / "whole")


def test_another_run_at_the_address_is_an_error_that_names_the_difference(photos: Path) -> None:
    run(photos, OUT)
    before = content(OUT)
    with pytest.raises(OutputError) as caught:
        run(photos, OUT, seed=1)
    assert str(caught.value) == (
        f"{OUT} holds another run: it has the seed 0, and this one 1; add --overwrite (overwrite=True) to replace it, "
        "or write to another folder"
    )
    assert content(OUT) == before


def test_a_run_that_overwrites_and_finishes_no_image_leaves_the_address_as_it_was(photos: Path) -> None:
    run(photos, OUT)
    before = content(OUT)
    for photo in photos.iterdir():
        photo.write_bytes(b"broken")
    report = run(photos, OUT, overwrite=True, seed=1)
    assert (report.images, len(report.failed)) == (0, 4)
    assert content(OUT) == before


def test_a_file_that_is_of_no_run_is_not_overwritten(photos: Path, tmp_path: Path) -> None:
    write("1/activations.safetensors", "mine")
    with pytest.raises(OutputError, match=f"can't write {OUT}/1/activations.safetensors: a file of that name is there"):
        run(photos, OUT)
    assert content(OUT) == {"1/activations.safetensors": b"mine"}


def test_a_second_run_is_told_who_writes_and_how_to_pass_one_that_was_killed(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"host": "node-7", "process": 12, "owner": "other", "token": "other", "time": time.time() - 130}
    write(LOCK, json.dumps(about))
    with pytest.raises(OutputError) as caught:
        run(photos, OUT)
    assert str(caught.value) == (
        f"another run writes to {OUT} (process 12 on node-7, heard from 2 min ago); wait for its end, or write to "
        f"another address; if it was killed, wait until it has been silent for 15 min, or remove {OUT}/{LOCK}"
    )
    for passed in ({**about, "time": time.time() - 901}, {"token": "cut"}):
        write(LOCK, json.dumps(passed))
        assert run(photos, OUT, overwrite=True).images == 4

    def take_over(progress: Any) -> None:
        write(LOCK, json.dumps({**about, "time": time.time()}))

    monkeypatch.setattr("surgery.output.remote_claim.RENEWAL_INTERVAL", 0)
    with pytest.raises(OutputError, match=f"another run has begun to write to {OUT}"):
        run(photos, OUT, seed=1, overwrite=True, batch_size=1, progress=take_over)
    assert json.loads(content(OUT)[LOCK])["host"] == "node-7", "it is not this run's to remove"


def test_two_runs_of_one_machine_are_told_at_once(photos: Path) -> None:
    told = []

    def run_again(progress: Any) -> None:
        with pytest.raises(OutputError) as caught:
            run(photos, OUT)
        told.append(str(caught.value))

    run(photos, OUT, progress=run_again)
    assert told[0].startswith(f"another run writes to {OUT} (process {os.getpid()}); wait")


def test_few_files_wait_on_the_local_disk(photos: Path, staging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PENDING_BATCHES", 1)
    most = 0

    def count(progress: Any) -> None:
        nonlocal most
        most = max(most, len(list(staging.rglob("*.safetensors"))))

    with faults(delay=0.01):
        run(photos, OUT, batch_size=1, progress=count, writer_threads=0)
    assert 1 <= most <= 2


def test_worker_processes_take_their_own_batches_to_the_address(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    sinks = [Png(), Sheet(size=32, channels=2)]
    run(photos, whole, sinks=sinks, batch_size=1)
    run(photos, f"disk://{out}", sinks=sinks, batch_size=1, seed=1)
    run(photos, f"disk://{out}", sinks=sinks, batch_size=1, jobs=2, overwrite=True)
    assert tree(out) == tree(whole)
    assert not (out / ".surgery").exists()
    with pytest.raises(ModelError, match=r"^memory://a/b is in the memory of one process, to which 2 jobs can't write"):
        run(photos, "memory://a/b", jobs=2)


def test_what_a_lost_worker_has_announced_is_removed_before_another_does_it(photos: Path) -> None:
    with acquire_output(parse_place(OUT)) as workspace:
        assert workspace.uploads is not None
        at_address = workspace.uploads.run
        for number in (2, 4):
            at_address.announce(number, [f"{number}/a.png"])
            write(f"{number}/a.png", "not recorded")
        workspace.remove_unfinished_batches([3, 4])
        assert {"2/a.png", ".surgery/unfinished-2"} <= content(OUT).keys()
        assert not {"4/a.png", ".surgery/unfinished-4"} & content(OUT).keys()
    assert content(OUT) == {}


def test_a_shard_has_an_address_of_its_own(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole", shard=(2, 2))
    run(photos, OUT, shard=(2, 2))
    assert content(OUT) == tree(tmp_path / "whole")
    with pytest.raises(OutputError, match=f"^{OUT} holds shard-2-of-2, and this is shard 1 of 3"):
        run(photos, OUT, shard=(1, 3))


def test_a_store_is_taken_to_the_address_whole_when_the_run_ends(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def together(folder: surgery.OutputFolder) -> Iterator[Any]:
        with folder.directory("all.store") as place, folder.file("all.txt") as path:
            place.mkdir()
            yield lambda activation: (place / f"{activation.image}.txt").write_text(activation.path)
            path.write_text("all")

    together.resumes = True  # type: ignore[attr-defined]
    run(photos, tmp_path / "whole", sinks=[together])
    run(photos, OUT, sinks=[together])
    assert content(OUT) == tree(tmp_path / "whole")
    assert run(photos, OUT, sinks=[together]).finished_before == 4
    run(photos, OUT, sinks=[Safetensors()], overwrite=True)
    assert not any("store" in name for name in content(OUT))
    FaultyFileSystem.store.clear()
    with faults(dies_at=14), pytest.raises(OutputError):
        run(photos, OUT, sinks=[together])
    assert any("records" in name for name in content(OUT))
    with pytest.raises(OutputError, match=r"can't be added by the sink .*together.*--overwrite"):
        run(photos, OUT, sinks=[together])


@contextmanager
def batch_store(folder: surgery.OutputFolder) -> Iterator[Any]:
    """A store that describes itself once, and has a file of its own for each part of a batch, as Zarr's has."""
    names: list[str] = []

    def finish(image: str | None) -> None:
        if image is not None:
            names.append(image)
            return
        folder.common_file("all.store/about.json", b"{}")
        place = f"all.store/c.{folder.images.number_of(names[0]) // 2}"
        number = next(each for each in range(9) if not folder.has_file(f"{place}-{each}"))
        with folder.file(f"{place}-{number}", exact=True) as path:
            path.write_text(" ".join(names))
        names.clear()

    folder.when_finished(finish)
    folder.when_dropped(lambda image: names.clear())
    yield lambda activation: None


batch_store.alone = True  # type: ignore[attr-defined]


def test_a_store_with_files_of_batches_is_taken_there_with_them(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "1.png") as photo:
        photo.crop((0, 0, 8, 8)).save(photos / "1.png")  # so that its batch runs in two parts
    whole = tmp_path / "whole"
    run(photos, whole, sinks=[batch_store])
    assert {name for name in tree(whole) if "c.0" in name} == {"all.store/c.0-0", "all.store/c.0-1"}
    with faults():
        run(photos, OUT, sinks=[batch_store])
        steps = len(FaultyFileSystem.writes)
    assert content(OUT) == tree(whole)
    for step in range(4, steps, 2):
        FaultyFileSystem.store.clear()
        with faults(dies_at=step), suppress(OutputError):
            run(photos, OUT, sinks=[batch_store])
        run(photos, OUT, sinks=[batch_store])
        assert content(OUT) == tree(whole), f"killed at step {step} of {steps}"


def test_an_image_that_is_repaired_has_a_file_beside_that_of_its_batch(photos: Path, tmp_path: Path) -> None:
    good = (photos / "3.png").read_bytes()
    for out in (tmp_path / "whole", OUT):
        (photos / "3.png").write_bytes(b"broken")
        run(photos, out, sinks=[batch_store])
        (photos / "3.png").write_bytes(good)
        run(photos, out, sinks=[batch_store])
    assert content(OUT) == tree(tmp_path / "whole")
    assert {name for name in content(OUT) if "c.1" in name} == {"all.store/c.1-0", "all.store/c.1-1"}


def test_records_that_are_not_in_order_become_journals_that_are() -> None:
    from surgery.output.image_records import split_batches

    parts = [b"4\t1\t{}\n5\t1\t{}\n\t{}\n", b"0\t2\t{}\n\t{}\n"]
    assert list(split_batches(b"".join(parts))) == [(4, 4, parts[0]), (0, 0, parts[1])]
    assert list(split_batches(b"".join(parts)[:-2])) == [(4, 4, parts[0])]
    together = b"2\t1\t{}\n\t+{}\n3\t1\t{}\n\t{}\n"
    assert list(split_batches(together + b"9\t1\t{}\n\t+{}\n")) == [(2, 3, together)]


def test_sinks_that_need_the_files_in_a_folder_are_refused(photos: Path) -> None:
    with pytest.raises(OutputError, match=r"^sink Page\(\) needs the files of the run in a folder; leave it out"):
        run(photos, OUT, sinks=[Png(), Page()])
    with pytest.raises(OutputError, match=r"^sink Page\(\) needs the files"):
        surgery.estimate(Noisy(), photos, out=OUT, sinks=[Png(), Page()])
    report = run(photos, OUT)
    with pytest.raises(OutputError, match="a page is written into a folder of this machine; copy faulty://bucket/run"):
        report.page()
    assert "faulty://bucket/run" in report._repr_html_()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("https://host/run?token=abc", "can't write to https://host/run?token=***: a web server is only read"),
        ("nosuch://bucket/run", "can't write to nosuch://bucket/run: fsspec knows no nosuch://"),
        ("faulty://bucket/a*", "an address to write to has no * ? [ ] or :: in it"),
        ("faulty://", "faulty:// names no folder; add one, such as faulty://bucket/run"),
        (Path("faulty://bucket/run"), "faulty://bucket/run is an address where a folder of this machine is asked for"),
    ],
)
def test_an_address_that_cant_be_written_is_one_line(photos: Path, out: Any, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        run(photos, out)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_a_run_at_an_address_is_verified_as_one_in_a_folder(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, OUT, sinks=[Png(), Safetensors()])
    found = surgery.verify(OUT)
    assert (found.sound, found.images, str(found.folder)) == (True, 4, OUT)
    monkeypatch.setattr("sys.argv", ["surgery", "verify", "faulty://bucket"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert capsys.readouterr().out == f"{OUT}/  4 images, 17 files  matches the manifest\n"
    files = content(OUT)
    picture = next(name for name in files if name.startswith("2/") and name.endswith("relu.png"))
    write(picture, "broken")
    write("mine.txt", "mine")
    fsspec.filesystem("faulty").rm_file(f"{OUT}/3/activations.safetensors")
    faults_found = {(fault.kind, fault.file) for fault in surgery.verify(OUT).faults}
    assert faults_found == {("unreadable", picture), ("unlisted", "mine.txt"), ("missing", "3/activations.safetensors")}
    with faults(failing=Random(0), share=1.0), pytest.raises(OutputError, match="connection lost"):  # noqa: S311
        surgery.verify(OUT)
    write(LOCK, "{}")
    assert [fault.kind for fault in surgery.verify(OUT).faults] == ["unfinished"]
    with pytest.raises(OutputError, match=r"^faulty://bucket/none holds no run"):
        surgery.verify("faulty://bucket/none")


def test_what_needs_a_folder_says_so_for_an_address() -> None:
    address = "s3://bucket/run is an address where a folder of this machine is asked for; copy it to a folder first"
    with pytest.raises(OutputError) as caught:
        surgery.write_page("s3://bucket/run")
    assert str(caught.value) == address
    with pytest.raises(OutputError, match=address):
        surgery.ablate(Noisy(), torch.zeros(1, 3, 8, 8), out="s3://bucket/run")


def test_places_are_folders_or_addresses_without_their_secrets(tmp_path: Path) -> None:
    assert parse_place("runs/1") == Path("runs/1")
    assert parse_place(f"file://{tmp_path}/out") == tmp_path / "out"
    address = parse_place("sftp://user:secret@host/runs/") / "1"
    assert isinstance(address, Address)
    assert (str(address), address.name, address.text) == ("sftp://host/runs/1", "1", "sftp://user:secret@host/runs/1")
    assert "secret" not in repr(address)
    assert staging_home(address) == staging_home(Address("sftp://other:word@host/runs/1"))
    assert staging_home(address) != staging_home(Address("sftp://host/runs/2"))


def test_an_estimate_for_an_address_tells_what_waits_on_the_local_disk(photos: Path, staging: Path) -> None:
    estimate = surgery.estimate(Noisy(), photos, out=OUT, sinks=[Safetensors()], at="op:relu")
    assert (str(estimate.folder), estimate.free_bytes, estimate.fits) == (OUT, None, True)
    assert "free there: unknown" in estimate.lines()[0]
    assert f"wait at once in {staging}" in estimate.notes[0]
    assert content(OUT) == {}

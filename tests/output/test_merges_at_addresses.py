"""Shards at addresses, put together in folders and at addresses, are byte for byte the run that was never divided."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Thread, current_thread, main_thread
from typing import Any

import fsspec
import pytest

import surgery
from surgery.builtin.sinks import Page, Png, Safetensors, Sheet
from surgery.errors import OutputError
from surgery.output import shard_copying
from surgery.output.uploads import BatchUpload, Uploads
from tests.output.faulty_stores import FaultyFileSystem, content, faults
from tests.output.test_addresses import OUT, batch_store, photos, run, staging, write
from tests.output.test_resumed_runs import Stop, tree

__all__ = ["photos", "staging"]  # the fixtures


def divide(photos: Path, out: Any, count: int = 2, **options: Any) -> None:
    for number in range(1, count + 1):
        run(photos, out, shard=(number, count), **options)


def merged(address: str = OUT) -> dict[str, bytes]:
    """Return the files at an address that are of no shard."""
    return {name: each for name, each in content(address).items() if not name.startswith("shard-")}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Record every two files, so that a merge of a few can be stopped between them."""
    monkeypatch.setattr(shard_copying, "BATCH_FILES", 2)
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize("shards", ["folder", OUT, "memory://bucket/run", "both"])
@pytest.mark.parametrize("to", ["folder", OUT, "memory://bucket/run"])
def test_shards_anywhere_become_the_run_that_was_never_divided(
    photos: Path, tmp_path: Path, shards: str, to: str
) -> None:
    (photos / "1.png").write_bytes(b"broken")
    options: Any = {"sinks": [Png(), Sheet(size=32, channels=2), Safetensors(), batch_store], "at": "*"}
    whole = run(photos, tmp_path / "whole", **options)
    places: list[Any] = [tmp_path / "out", OUT] if shards == "both" else [shards]
    places = [tmp_path / "out"] if shards == "folder" else places
    for number in (1, 2):
        run(photos, places[number % len(places)], shard=(number, 2), **options)
    before = content(OUT)
    target = tmp_path / "merged" if to == "folder" else to
    report = surgery.merge(*places, out=target)
    assert (tree(tmp_path / "merged") if to == "folder" else merged(to)) == tree(tmp_path / "whole")
    assert before.items() <= content(OUT).items(), "the shards stay"
    assert (str(report.folder), report.images, report.files) == (str(target), whole.images, whole.files)
    assert str(report.overview) == str(whole.overview).replace(str(tmp_path / "whole"), str(target))
    assert [failure.path for failure in report.failed] == [failure.path for failure in whole.failed]
    assert surgery.verify(target).sound
    assert run(photos, target, **options).finished_before == 3, "the whole run goes on with it"


def test_shards_are_merged_where_they_are(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    surgery.merge(f"{OUT}/shard-1-of-2", f"{OUT}/shard-2-of-2")
    assert merged() == tree(tmp_path / "whole")
    before = content(OUT)
    for overwrite in (False, True):
        with faults():
            surgery.merge(OUT, overwrite=overwrite)
            assert any(what.startswith("copy") for what in FaultyFileSystem.writes if "acti" in what) == overwrite
        assert content(OUT) == before
    assert surgery.merge(OUT, out=tmp_path / "there").files == 5


@pytest.mark.parametrize("is_torn", [False, True])
@pytest.mark.parametrize("shards", ["folder", OUT])
def test_a_merge_that_is_killed_at_any_step_goes_on_to_the_same_files(
    photos: Path, tmp_path: Path, shards: str, is_torn: bool
) -> None:
    options: Any = {"sinks": [Safetensors(), batch_store]}
    run(photos, tmp_path / "whole", **options)
    place = tmp_path / "out" if shards == "folder" else shards
    divide(photos, place, **options)
    target = f"{OUT}-merged"
    with faults():
        surgery.merge(place, out=target)
        steps = list(FaultyFileSystem.writes)
    copied = []
    for step in (step for step, what in enumerate(steps, 1) if what.startswith("write") or not is_torn):
        fsspec.filesystem("faulty").rm(target, recursive=True)
        with faults(dies_at=step, is_torn=is_torn), suppress(OutputError):
            surgery.merge(place, out=target)
        with faults():
            surgery.merge(place, out=target)
            brought = [what for what in FaultyFileSystem.writes if what.startswith(("write", "copy"))]
            copied.append(sum(what.endswith("/activations.safetensors") for what in brought))
        assert content(target) == tree(tmp_path / "whole"), f"killed at step {step} of {len(steps)}"
    assert min(copied) == 0, "what was copied is not copied again"
    assert max(copied) == 4


def test_a_merge_into_a_folder_that_is_stopped_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    read = 0
    fetch = FaultyFileSystem.get_file

    def count(self: Any, rpath: str, *args: Any, **kwargs: Any) -> None:
        nonlocal read
        if rpath.endswith("safetensors"):
            read += 1
        if read == 3:
            raise PermissionError("no")
        fetch(self, rpath, *args, **kwargs)

    monkeypatch.setattr(FaultyFileSystem, "get_file", count)
    with pytest.raises(OutputError, match=rf"^can't read {OUT}/shard-2-of-2/[23]/act.*: permission denied$"):
        surgery.merge(OUT, out=tmp_path / "merged")
    assert {path.name for path in (tmp_path / "merged").iterdir()} >= {"0", "1", "manifest.json"}
    with pytest.raises(OutputError) as caught:
        run(photos, tmp_path / "merged")
    assert str(caught.value) == (
        f"{tmp_path}/merged holds another run: `surgery merge` puts it together, and was stopped; add --overwrite "
        "(overwrite=True) to replace it, or write to another folder"
    )
    surgery.merge(OUT, out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == tree(tmp_path / "whole")
    assert read <= 3 + 1 + 2


def test_ctrl_c_keeps_what_is_brought_and_the_same_call_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    submit = Uploads.submit

    def submit_or_stop(self: Uploads, batch: BatchUpload) -> None:
        if batch.number:
            self.drain()
            raise KeyboardInterrupt
        submit(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "submit", submit_or_stop)
        with pytest.raises(KeyboardInterrupt, match=f"^the same command goes on with the run in {OUT}$"):
            surgery.merge(OUT)
    assert {name for name in merged() if "safetensors" in name} == {f"{name}/activations.safetensors" for name in "01"}
    with faults():
        surgery.merge(OUT)
        copied = [what for what in FaultyFileSystem.writes if what.startswith("copy") and "safetensors" in what]
    assert len(copied) == 2
    assert merged() == tree(tmp_path / "whole")


@pytest.mark.parametrize("to", ["folder", "address"])
@pytest.mark.parametrize("name", ["surgery-file", "surgery-batch"])
def test_ctrl_c_while_a_thread_is_started_leaves_no_file_behind(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str, name: str
) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    target: Any = tmp_path / "merged" if to == "folder" else f"{OUT}-merged"
    start = Thread.start
    pressed: list[str] = []

    def start_and_press(self: Thread) -> None:
        start(self)
        if self.name.startswith(name) and current_thread() is main_thread() and not pressed:
            pressed.append("pressed")
            signal.raise_signal(signal.SIGINT)
            pressed.append("and held")

    with monkeypatch.context() as patch, faults(delay=0.005):
        patch.setattr(Thread, "start", start_and_press)
        if (name == "surgery-file") == (to == "folder"):
            with pytest.raises(KeyboardInterrupt):
                surgery.merge(OUT, out=target)
            assert pressed == ["pressed", "and held"], "otherwise the pool does not know the thread, nor wait for it"
        else:
            surgery.merge(OUT, out=target)  # the thread is started by another
    surgery.merge(OUT, out=target)
    assert (tree(target) if to == "folder" else content(target)) == tree(tmp_path / "whole")


def test_a_stopped_merge_goes_on_with_other_shards_if_what_it_brought_is_the_same(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    divide(photos, tmp_path / "three", 3)
    target = f"{OUT}-merged"
    with faults(refused="merged/3/"), pytest.raises(OutputError, match="permission denied"):
        surgery.merge(OUT, out=target)
    surgery.merge(tmp_path / "three", out=target)
    assert content(target) == tree(tmp_path / "whole")
    FaultyFileSystem.store.clear()
    divide(photos, OUT)
    with faults(refused="merged/3/"), pytest.raises(OutputError, match="permission denied"):
        surgery.merge(OUT, out=target)
    (photos / "0.png").write_bytes((photos / "1.png").read_bytes())
    run(photos, OUT, shard=(1, 2), overwrite=True)
    with pytest.raises(OutputError, match=f"^image 0 in {target} is another than in {OUT}/shard-1-of-2, since"):
        surgery.merge(OUT, out=target)
    surgery.merge(OUT, out=target, overwrite=True)
    run(photos, tmp_path / "other")
    assert content(target) == tree(tmp_path / "other")


def test_images_that_were_repaired_in_a_shard_are_added_to_what_was_merged(photos: Path, tmp_path: Path) -> None:
    good = (photos / "3.png").read_bytes()
    (photos / "3.png").write_bytes(b"broken")
    divide(photos, OUT, batch_size=1)
    surgery.merge(OUT)
    (photos / "3.png").write_bytes(good)
    run(photos, OUT, shard=(2, 2), batch_size=1)
    surgery.merge(OUT)
    run(photos, tmp_path / "whole", batch_size=1)
    assert merged() == tree(tmp_path / "whole")


def test_images_that_the_shards_do_not_have_are_not_left_out_of_a_run(photos: Path) -> None:
    run(photos, OUT, batch_size=1)
    (photos / "3.png").write_bytes(b"broken")
    divide(photos, OUT, batch_size=1)
    before = content(OUT)
    with pytest.raises(OutputError, match=f"^{OUT} has images that are in none of the shards; add --overwrite"):
        surgery.merge(OUT)
    assert content(OUT) == before
    assert surgery.merge(OUT, overwrite=True).images == 3


def test_a_run_that_is_not_finished_is_not_taken_for_a_merge(photos: Path) -> None:
    divide(photos, OUT)
    run(photos, OUT, batch_size=1, progress=Stop(1))
    run(photos, f"{OUT}-2", progress=Stop(1))
    for target in (OUT, f"{OUT}-2"):
        with pytest.raises(OutputError, match=f"^{target} already holds a run of Noisy; add --overwrite"):
            surgery.merge(OUT, out=target)


def test_lost_connections_change_no_byte(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, OUT)
    with faults(failing=Random(1), share=0.15):  # noqa: S311
        for _ in range(30):
            with suppress(OutputError):
                surgery.merge(OUT)
                break
    with suppress(OutputError):
        surgery.merge(OUT)
    assert merged() == tree(tmp_path / "whole")


def test_what_cant_be_merged_at_an_address_is_one_clear_line(photos: Path, tmp_path: Path) -> None:
    divide(photos, OUT, 3)
    store = FaultyFileSystem.store
    before = content(OUT)

    def refused(*places: Any, out: Any = None) -> str:
        with pytest.raises(OutputError) as caught:
            surgery.merge(*places, out=out)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "staging") not in str(caught.value)
        return str(caught.value)

    third = f"{OUT}/shard-3-of-3"
    assert refused(f"{OUT}/shard-1-of-3", third) == (
        "shard 2 of 3 is missing; run what is missing, or name its folder too"
    )
    assert refused(OUT, out=third) == f"{third} is a shard itself; merge into another folder (-o FOLDER, out=)"
    nowhere = "faulty://bucket/nowhere"
    assert refused(nowhere).startswith(f"{nowhere} holds no shard of a run, which `surgery extract --shard k/n`")
    write("shard-2-of-3/.surgery/records-1", "")
    assert refused(OUT) == (
        f"shard 2 of 3 in {OUT}/shard-2-of-3 is not finished; the command that began it goes on with it"
    )
    fsspec.filesystem("faulty").rm_file(f"{OUT}/shard-2-of-3/.surgery/records-1")
    run(photos, tmp_path / "twice", shard=(2, 3))
    assert refused(tmp_path / "twice", OUT, out=tmp_path / "m").startswith("shard 2 of 3 is there twice: ")
    run(photos, tmp_path / "other", shard=(3, 3), seed=1)
    assert refused(tmp_path / "other", f"{OUT}/shard-1-of-3", f"{OUT}/shard-2-of-3", out=OUT) == (
        f"{tmp_path}/other/shard-3-of-3 is of another run than {OUT}/shard-1-of-3: it has the seed 1, and "
        f"{OUT}/shard-1-of-3 0"
    )
    run(photos, tmp_path / "same", shard=(3, 3))
    assert refused(tmp_path / "same", f"{OUT}/shard-1-of-3", f"{OUT}/shard-2-of-3").startswith(
        "the shards are in 2 folders, such as"
    )
    path = "/bucket/run/shard-3-of-3/manifest.json"
    entry = store[path].getvalue()
    fsspec.filesystem("faulty").pipe_file(path, entry.replace(b"\n ]\n}", b""))
    assert refused(OUT) == f"{third}/manifest.json is not the manifest of a run"
    for name in (b"../2", b".surgery", b"/etc"):
        fsspec.filesystem("faulty").pipe_file(path, entry.replace(b'"3/', b'"%b/' % name))
        assert refused(OUT).startswith(f"{third}/{name.decode()}/")
    fsspec.filesystem("faulty").pipe_file(path, entry)
    for to in (None, tmp_path / "folder"):
        fsspec.filesystem("faulty").rm_file("/bucket/run/shard-3-of-3/3/activations.safetensors")
        assert refused(OUT, out=to) == (
            f"{third}/3/activations.safetensors is missing, or no file inside its folder; run shard 3 of 3 again with "
            "--overwrite"
        )
        run(photos, OUT, shard=(3, 3), overwrite=True)
        surgery.merge(OUT, out=to)
    assert before.items() <= content(OUT).items()
    write("shard-9-of-9/notes.txt", "mine")
    fsspec.filesystem("faulty").pipe_file(f"{OUT}-2/3/activations.safetensors", b"mine")
    assert refused(OUT, out=f"{OUT}-2").startswith(f"can't write {OUT}-2/3/activations.safetensors: a file of that")
    divide(photos, tmp_path / "paged", sinks=[Png(), Page()])
    assert refused(tmp_path / "paged", out=f"{OUT}-3").startswith(f"{tmp_path}/paged/shard-1-of-2 has a page, which is")


def test_a_shard_whose_workspace_is_empty_is_finished(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    divide(photos, tmp_path / "out")
    work = tmp_path / "out" / "shard-2-of-2" / ".surgery"
    work.mkdir()
    surgery.merge(tmp_path / "out", out=tmp_path / "merged")
    (work / "lock").touch()  # of a run that was killed when it had done everything else
    surgery.merge(tmp_path / "out", out=tmp_path / "again")
    assert tree(tmp_path / "merged") == tree(tmp_path / "again") == tree(tmp_path / "whole")
    (work / "lock").rename(work / "images-0")
    with pytest.raises(OutputError, match=r"^shard 2 of 2 in .* is not finished; the command that began it goes on"):
        surgery.merge(tmp_path / "out", out=tmp_path / "third")
    (work.parent / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"^[^ ]*/shard-2-of-2 is not finished; the command that began it goes on"):
        surgery.merge(tmp_path / "out", out=tmp_path / "third")
    (work / "images-0").unlink()
    with pytest.raises(OutputError, match=r"^shard 2 of 2 is missing"):
        surgery.merge(tmp_path / "out", out=tmp_path / "third")


def test_a_shard_that_a_run_writes_to_is_not_merged(photos: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def merge(_: Any) -> None:
        with pytest.raises(OutputError) as caught:
            surgery.merge(place)
        told.append(str(caught.value))

    for place in (tmp_path / "out", OUT):
        run(photos, place, shard=(1, 2))
        run(photos, place, shard=(2, 2), progress=merge)
    assert told[0].startswith(f"a run writes to {tmp_path}/out/shard-2-of-2 (process ")
    assert told[1].endswith(f"{OUT}/shard-2-of-2 is not finished; the command that began it goes on with it")


def test_the_manifest_of_a_stopped_merge_says_so_and_lists_what_is_there(photos: Path) -> None:
    divide(photos, OUT)
    target = f"{OUT}-merged"
    with faults(refused="merged/3/"), pytest.raises(OutputError):
        surgery.merge(OUT, out=target)
    manifest = json.loads(content(target)["manifest.json"])
    assert (manifest["interrupted"], manifest["merge"]) == (True, True)
    found = surgery.verify(target)
    assert [fault.kind for fault in found.faults] == ["unfinished"]

"""The threads and worker processes of a run lose nothing, and raise their errors where the model runs."""

from __future__ import annotations

import json
import threading
import time
import weakref
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.errors import ModelError, OutputError, RenderError
from surgery.extraction import sink_pipeline
from surgery.extraction.background_writer import BackgroundWriter
from surgery.extraction.prefetcher import Prefetcher
from surgery.extraction.reader_pool import read_ahead
from surgery.extraction.run_plan import picklable_error
from tests.extraction.test_extraction import Net, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_the_prefetcher_reads_at_most_its_depth_in_advance() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    with Prefetcher(source(), 3) as items:
        assert next(items) == 0
        time.sleep(0.05)
        assert len(taken) <= 6
        assert list(items) == list(range(1, 100))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


def test_the_prefetcher_raises_an_error_in_the_place_of_the_item() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with Prefetcher(source(), 5) as items:
        assert next(items) == 1
        with pytest.raises(ZeroDivisionError):
            next(items)


def test_leaving_the_prefetcher_ends_its_thread() -> None:
    with Prefetcher(iter(range(1000)), 2) as items:
        assert next(items) == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


@pytest.mark.parametrize("thread", [True, False])
def test_the_writer_runs_all_tasks_in_order(thread: bool) -> None:
    done: list[int] = []
    with BackgroundWriter(thread=thread, limit=2) as writer:
        for number in range(50):
            writer.submit(partial(done.append, number), 1)
        writer.drain()
        assert done == list(range(50))


def test_submit_waits_while_too_many_bytes_are_pending() -> None:
    release, waiting = threading.Event(), []
    with BackgroundWriter(limit=10) as writer:
        writer.submit(release.wait, 6)
        writer.submit(lambda: None, 4)

        def submit_more() -> None:
            writer.submit(lambda: waiting.append("done"), 6)

        submitter = threading.Thread(target=submit_more)
        submitter.start()
        submitter.join(0.05)
        assert submitter.is_alive()
        release.set()
        submitter.join(5)
        assert not submitter.is_alive()
    assert waiting == ["done"]


def test_after_an_error_the_writer_discards_its_tasks_and_raises() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        started = threading.Event()

        def fail() -> None:
            started.wait()
            raise ZeroDivisionError

        writer.submit(fail)
        writer.submit(lambda: done.append(1))
        started.set()
        with pytest.raises(ZeroDivisionError):
            writer.drain()
        with pytest.raises(ZeroDivisionError):
            writer.submit(lambda: done.append(2))
    assert done == []


class Pointwise(nn.Module):
    """Each value by itself: a convolution may round otherwise in another process, where memory lies otherwise."""

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.dropout(x * 2 + 0.25, 0.5, training=self.training)
        return torch.cat([h.relu_(), x.sign()], 1)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(7):
        Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("jobs", "batch_size", "mode"), [(2, 1, "eval"), (3, 2, "train"), (2, 3, "eval")])
def test_several_jobs_write_what_one_writes(
    photos: Path, tmp_path: Path, jobs: int, batch_size: int, mode: Any
) -> None:
    settings: dict[str, Any] = {"sinks": [Png(), Npz(), Sheet(size=32)], "batch_size": batch_size, "mode": mode}
    seen: list[surgery.Report] = []
    for name, count in (("one", 1), ("several", jobs)):
        seen.append(surgery.extract(Pointwise(), photos, out=tmp_path / name, jobs=count, check=True, **settings))
    assert contents(tmp_path / "one") == contents(tmp_path / "several")
    one, several = (manifest(tmp_path / name) for name in ("one", "several"))
    assert one == several
    assert [image["name"] for image in several["images"]] == [str(number) for number in range(7)]
    assert several["check"]
    assert (seen[0].images, seen[0].files, seen[0].summaries) == (seen[1].images, seen[1].files, seen[1].summaries)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("writers", "readers", "batch_size", "mode"),
    [(2, 2, 1, "eval"), (3, 0, 3, "train"), (0, 3, 2, "eval"), (2, 1, 7, "eval"), (9, 9, 2, "eval")],
)
def test_any_number_of_threads_writes_the_same(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    writers: int,
    readers: int,
    batch_size: int,
    mode: Any,
) -> None:
    monkeypatch.setattr(sink_pipeline, "BUFFER_BYTES", 500)
    (photos / "3.png").write_text("no image")
    seen: list[surgery.Report] = []
    for name, threads in (("one", {}), ("several", {"writer_threads": writers, "reader_threads": readers})):
        settings: dict[str, Any] = {"batch_size": batch_size, "mode": mode, "stats": True}
        settings["sinks"] = [Png(), Npz(), Sheet(size=32)]
        seen.append(surgery.extract(Pointwise(), photos, out=tmp_path / name, **settings, **threads))
    assert contents(tmp_path / "one") == contents(tmp_path / "several")
    one, several = (manifest(tmp_path / name) for name in ("one", "several"))
    assert one == several
    assert [image["name"] for image in several["images"]] == ["0", "1", "2", "4", "5", "6"]
    assert seen[0].summaries == seen[1].summaries
    assert (seen[0].images, seen[0].files, seen[0].failed) == (seen[1].images, seen[1].files, seen[1].failed)
    assert seen[0].overview
    assert seen[1].overview
    assert seen[0].overview.parent.name == seen[1].overview.parent.name
    assert not list(tmp_path.rglob("*.part"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


class WholeBatch(nn.Module):
    """Has a value of the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + x.flatten().sort().values[:3].sum()


def test_values_of_whole_batches_stay_with_their_batch_whoever_writes(photos: Path, tmp_path: Path) -> None:
    for name, writers in (("one", 1), ("several", 3)):
        surgery.extract(WholeBatch(), photos, out=tmp_path / name, sinks=[Png()], batch_size=2, writer_threads=writers)
    assert contents(tmp_path / "one") == contents(tmp_path / "several")
    assert manifest(tmp_path / "one") == manifest(tmp_path / "several")
    assert sorted(path.name for path in (tmp_path / "several" / "batch").iterdir()) == ["0000", "0002", "0004", "0006"]


def test_an_error_on_one_of_several_writers_keeps_what_was_finished(photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def breaks(folder: Any) -> Any:
        def write(activation: Any) -> None:
            if activation.image == "5":
                raise ZeroDivisionError

        yield write

    breaks.deferred = breaks.alone = True  # type: ignore[attr-defined]
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        surgery.extract(Pointwise(), photos, out=out, sinks=[Png(), breaks], batch_size=2, writer_threads=2)
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2", "3", "manifest.json"]
    assert [image["name"] for image in manifest(out)["images"]] == list("0123")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_what_threads_read_ahead_comes_in_order_with_its_error_in_its_place(threads: int) -> None:
    reading: list[int] = []

    def read(number: int) -> list[int]:
        reading.append(number)
        if number == 7:
            raise ZeroDivisionError
        time.sleep(0.002 * (number % 2))
        return [number] * (number % 3)

    with read_ahead(read, range(100), 3, threads) as items:
        assert [next(items) for _ in range(6)] == [1, 2, 2, 4, 5, 5]
        with pytest.raises(ZeroDivisionError):
            next(items)
    assert max(reading) <= 7 + 3 + threads + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


def test_threads_that_can_not_be_are_refused(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def together(folder: Any) -> Any:
        yield lambda activation: None

    together.deferred = True  # type: ignore[attr-defined]
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"writer_threads": -1}, "there are 0 writer threads or more, not -1"),
        ({"reader_threads": -2}, "there are 0 reader threads or more, not -2"),
        ({"writer_threads": 2, "jobs": 2}, "2 jobs write in their own thread; use one job with 2 writers"),
        ({"writer_threads": 2, "sinks": [together]}, "files of several images, which 2 writers can't share"),
    ]
    for settings, message in refusals:
        with pytest.raises(ModelError, match=message):
            surgery.extract(model, photos, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_the_progress_of_several_jobs_is_added_up(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    (photos / "3.png").write_text("no image")
    reported: list[Any] = []
    report = surgery.extract(model, photos, out=tmp_path / "out", jobs=2, sinks=[Png()], progress=reported.append)
    assert (reported[-1].done, reported[-1].failed, reported[-1].total) == (6, 1, 7)
    assert report.images == 6
    assert [failure.path for failure in report.failed] == [str(photos / "3.png")]
    assert manifest(tmp_path / "out")["failed"][0]["number"] == 3


def test_an_error_in_one_job_stops_the_others_and_keeps_the_finished_images(
    model: nn.Module, photos: Path, tmp_path: Path
) -> None:
    @contextmanager
    def breaks(folder: surgery.OutputFolder) -> Iterator[Any]:
        def write(activation: surgery.Activation) -> None:
            if activation.image == "3" and activation.operation.index > 2:
                raise OutputError("the disk is on fire")

        yield write

    breaks.alone = True  # type: ignore[attr-defined]
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="the disk is on fire"):
        surgery.extract(model, photos, out=out, jobs=2, sinks=[Png(), breaks])
    content = manifest(out)
    assert content["interrupted"]
    names = [image["name"] for image in content["images"]]
    assert "1" in names
    assert "3" not in names
    assert not (out / "3").exists()
    assert {path.name for path in out.iterdir() if path.is_dir()} == set(names)


def test_a_sink_or_device_that_jobs_can_not_share_is_refused(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    @contextmanager
    def everything(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: None

    def extract(**settings: Any) -> None:
        surgery.extract(model, photos, out=tmp_path / "out", **settings)

    with pytest.raises(ModelError, match=r"everything writes files of several images, which 2 jobs can't share"):
        extract(sinks=[everything], jobs=2)
    with pytest.raises(ModelError, match="there is at least 1 job, not 0"):
        extract(jobs=0)
    with pytest.raises(ModelError, match="the device 'meta' computes no values"):
        extract(jobs=2, device="meta")


def test_an_error_that_can_not_be_pickled_becomes_its_text() -> None:
    class LocalError(Exception):
        pass

    assert str(picklable_error(LocalError("here"))) == "LocalError: here"
    assert isinstance(picklable_error(ValueError("x")), ValueError)


def test_an_error_of_a_deferred_sink_leaves_nothing_half_written(
    model: nn.Module, photos: Path, tmp_path: Path
) -> None:
    @contextmanager
    def breaks(folder: surgery.OutputFolder) -> Iterator[Any]:
        def write(activation: surgery.Activation) -> None:
            if activation.image == "4" and activation.path == "norm":
                raise ZeroDivisionError

        yield write

    breaks.deferred = True  # type: ignore[attr-defined]
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        surgery.extract(model, photos, out=out, sinks=[Png(), breaks])
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "2", "3", "manifest.json"]
    assert [image["name"] for image in json.loads((out / "manifest.json").read_text())["images"]] == list("0123")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("surgery")]


@pytest.mark.parametrize("gathered", [0, 500, 1 << 40])
def test_the_size_of_the_queue_does_not_change_the_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gathered: int
) -> None:
    def extracted(name: str) -> tuple[dict[str, bytes], Any]:
        report = surgery.extract(Pointwise(), photos, out=tmp_path / name, sinks=[Png()], batch_size=2)
        kept = json.loads((tmp_path / name / "manifest.json").read_text())
        return contents(tmp_path / name), (report.files, kept["operations"], kept["images"])

    expected = extracted("as it is")
    costs: list[int] = []
    submit = BackgroundWriter.submit

    def counting(self: BackgroundWriter, job: Callable[[], object], cost: int = 0) -> None:
        costs.append(cost)
        submit(self, job, cost)

    monkeypatch.setattr(BackgroundWriter, "submit", counting)
    monkeypatch.setattr(sink_pipeline, "BUFFER_BYTES", gathered)
    assert extracted("otherwise") == expected
    pictures = sum(cost > 0 for cost in costs)
    assert pictures == 4 if gathered > 500 else pictures > 4  # of 4 batches
    assert max(costs) <= gathered + 2 * 6 * 8 * 10  # and no more than the largest of them above it


def test_an_immediate_sink_may_draw_some_images_of_a_batch_only(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    seen: dict[tuple[str, str | None], Any] = {}

    def drawing(*images: str) -> Any:
        @contextmanager
        def sink(folder: surgery.OutputFolder) -> Iterator[Any]:
            def write(activation: surgery.Activation) -> None:
                if activation.image in images:
                    seen[activation.path, activation.image] = activation.pictures[0].pixels

            yield write

        return sink

    surgery.extract(model, photos, out=tmp_path / "all", sinks=[drawing(*"0123456")], batch_size=3)
    everything, seen = seen, {}
    surgery.extract(model, photos, out=tmp_path / "some", sinks=[drawing(*"25")], batch_size=3)
    assert seen
    assert all(np.array_equal(pixels, everything[at]) for at, pixels in seen.items())
    assert {image for _, image in seen} == {"2", "5"}


def test_the_values_of_an_image_are_freed_once_they_are_in_a_batch(
    model: nn.Module, photos: Path, tmp_path: Path
) -> None:
    read: list[weakref.ref[Tensor]] = []
    held: list[bool] = []

    def reader(path: Path) -> Tensor:
        values = surgery.load_image(path)
        read.append(weakref.ref(values))
        return values

    @contextmanager
    def sink(folder: surgery.OutputFolder) -> Iterator[Any]:
        def write(activation: surgery.Activation) -> None:
            first = int(str(activation.image)) // 3 * 3
            # The third may still be in the hands of the thread that reads.
            held.extend(each() is not None for each in read[first : first + 2])

        yield write

    paths = sorted(photos.iterdir())[:6]
    surgery.extract(model, paths, out=tmp_path / "out", reader=reader, sinks=[sink], batch_size=3)
    assert held
    assert not any(held)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_model_does_not_write_to_a_tensor_that_a_reader_keeps(
    photos: Path, tmp_path: Path, batch_size: int
) -> None:
    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    kept = torch.rand(1, 3, 8, 8)
    before = kept.clone()
    paths = sorted(photos.iterdir())[:2]
    surgery.extract(Doubling(), paths, out=tmp_path / "out", reader=lambda _: kept, batch_size=batch_size)
    assert torch.equal(kept, before)


def test_a_deferred_sink_sees_shape_and_dtype_and_no_values(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    @contextmanager
    def looks(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: seen.append((activation.path, activation.values.shape, activation.values.device.type))

    looks.deferred = True  # type: ignore[attr-defined]
    surgery.extract(model, photos / "0.png", out=tmp_path / "out", sinks=[looks], at="conv")
    assert ("conv", torch.Size([4, 8, 10]), "meta") in seen


@pytest.mark.parametrize("deferred", [False, True])
def test_an_error_of_a_sink_names_the_activation_and_the_image(
    model: nn.Module, photos: Path, tmp_path: Path, deferred: bool
) -> None:
    def failing(error: Exception) -> Any:
        @contextmanager
        def sink(folder: surgery.OutputFolder) -> Iterator[Any]:
            def write(activation: surgery.Activation) -> None:
                if activation.image == "2" and activation.path == "norm":
                    raise error

            yield write

        sink.deferred = deferred  # type: ignore[attr-defined]
        return sink

    with pytest.raises(OutputError, match=r"^at norm of 2: the disk is on fire$"):
        surgery.extract(model, photos, out=tmp_path / "out", sinks=[failing(OutputError("the disk is on fire"))])
    with pytest.raises(ZeroDivisionError) as caught:
        surgery.extract(model, photos, out=tmp_path / "again", sinks=[failing(ZeroDivisionError())])
    assert caught.value.__notes__ == ["at norm of 2"]


def test_an_error_of_a_stage_names_the_activation(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    def tiler(levels: Tensor) -> Tensor:
        return levels[:, :, :, :, None]

    with pytest.raises(RenderError, match=r"^at conv of 0: tiler .* has to return \(B, N, H, W\)"):
        surgery.extract(model, photos, out=tmp_path / "out", tiler=tiler, sinks=[Png()])

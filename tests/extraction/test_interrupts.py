"""Ctrl-C at any moment of a run: a complete manifest, or the folder as it was, or one line that says what is left."""

from __future__ import annotations

import gc
import json
import random
import signal
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.readers import TensorReader
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.extraction import BackgroundWriter
from surgery.extraction.prefetcher import Prefetcher
from surgery.interrupts import raising_interrupts, watch_interrupts
from surgery.output import Manifest
from surgery.output import manifest as manifests
from surgery.output.image_records import ImageRecords
from surgery.output.workspace import Workspace
from surgery.plugins.registry import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * 2, x.sign()], 1)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Workers of pytest-xdist ignore the signal."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "the handler is not restored"
    signal.signal(signal.SIGINT, usual)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 10, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def pressing_in(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, presses: int = 1, *, after: bool = False
) -> None:
    """Have Ctrl-C pressed in the call of a function of the project."""
    function = getattr(owner, name)

    def press_and_call(*arguments: Any, **options: Any) -> Any:
        for _ in range(0 if after else presses):
            press()
        result = function(*arguments, **options)
        for _ in range(presses if after else 0):
            press()
        return result

    monkeypatch.setattr(owner, name, press_and_call)


def assert_complete(out: Path, images: int) -> None:
    content = json.loads((out / "manifest.json").read_text())
    assert len(content["images"]) == images
    assert surgery.verify(out).sound
    assert not (out / ".surgery").exists()


LAST_MOMENTS: dict[str, tuple[Any, str]] = {
    "while the last files are written": (BackgroundWriter, "drain"),
    "while the writer's thread ends": (BackgroundWriter, "__exit__"),
    "before the manifest": (Manifest, "write"),
    "in the manifest": (manifests, "read_tally"),
    "while the folder is closed": (Workspace, "close"),
    "while the lock is released": (Workspace, "remove_contents"),
}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """End what an interrupt in the first instructions of a block's end has left running, for the tests after these."""
    yield
    for each in [each for each in gc.get_objects() if type(each) in (Prefetcher, BackgroundWriter)]:
        thread = each._thread
        if thread is not None and thread.is_alive():
            with suppress(Exception):
                each.__exit__(None, None, None)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("moment", "jobs"), [*((moment, 1) for moment in LAST_MOMENTS), *((moment, 2) for moment in list(LAST_MOMENTS)[2:])]
)
def test_ctrl_c_after_the_last_image_leaves_a_complete_manifest(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, jobs: int, after: bool
) -> None:
    pressing_in(monkeypatch, *LAST_MOMENTS[moment], after=after)
    out = tmp_path / "out"
    # With force, nothing waits for the files of the first batch, to see whether all will fit on the disk.
    report = surgery.extract(Net(), photos, out=out, jobs=jobs, sinks=[Png(), Npz(), Sheet(size=32)], force=True)
    assert (report.images, report.interrupted) == (3, True)
    assert_complete(out, 3)
    assert not json.loads((out / "manifest.json").read_text())["interrupted"], "nothing is missing"


def test_a_second_ctrl_c_does_not_cut_off_what_the_first_has_begun(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pressing_in(monkeypatch, Manifest, "write")
    out = tmp_path / "out"
    report = surgery.extract(Net(), photos, out=out, sinks=[Png()], progress=lambda _: press())
    assert (report.images, report.interrupted) == (1, True)
    assert_complete(out, 1)


def test_ctrl_c_pressed_again_and_again_ends_the_run_and_says_what_is_left(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        pressing_in(patch, Manifest, "write", presses=5)
        with pytest.raises(KeyboardInterrupt, match=f"the same command goes on with the run in {out}"):
            surgery.extract(Net(), photos, out=out, sinks=[Png()])
    report = surgery.extract(Net(), photos, out=out, sinks=[Png()])
    assert (report.images, report.finished_before, report.interrupted) == (3, 3, False)
    assert_complete(out, 3)
    assert not json.loads((out / "manifest.json").read_text())["interrupted"]


@pytest.mark.parametrize(
    "place",
    [
        (Workspace, "set_previous_run_aside"),
        (Workspace, "open_journal"),
        (surgery.OutputFolder, "reserve_image_names"),
        (ImageRecords, "__init__"),
    ],
    ids=lambda place: place[1],
)
def test_ctrl_c_before_the_first_image_leaves_the_folder_as_it_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    out = tmp_path / "out"
    surgery.extract(Net(), photos, out=out, sinks=[Png()], source="first")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    pressing_in(monkeypatch, *place, after=True)
    pressing_in(monkeypatch, Workspace, "restore_previous_run")
    with suppress(KeyboardInterrupt):
        report = surgery.extract(Net(), photos, out=out, sinks=[Png()], overwrite=True)
        assert (report.images, report.interrupted) == (0, True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_an_interrupt_that_a_sink_turns_into_an_error_ends_the_run_as_an_interrupt(
    photos: Path, tmp_path: Path
) -> None:
    def turning(image: str) -> None:
        if image == "1":
            try:
                press()
            except KeyboardInterrupt:
                raise ValueError("not a complete file") from None

    @contextmanager
    def sink(folder: surgery.OutputFolder) -> Iterator[Any]:
        yield lambda activation: turning(activation.image)

    report = surgery.extract(Net(), photos, out=tmp_path / "sink", sinks=[Png(), sink])
    assert (report.images, report.interrupted) == (1, True)
    assert_complete(tmp_path / "sink", 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ctrl-C in a callback of a weakref
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_at_any_moment_leaves_a_folder_that_its_manifest_describes(
    photos: Path, tmp_path: Path, jobs: int
) -> None:
    draw = random.Random(jobs)  # noqa: S311
    out = tmp_path / "out"
    began = time.perf_counter()
    surgery.extract(Net(), photos, out=out, jobs=jobs, sinks=[Png(), Npz()])
    seconds = time.perf_counter() - began
    usual = signal.signal(signal.SIGALRM, lambda *_: press())
    told = 0
    try:
        for _ in range(25):
            signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.2, 1.1) * seconds)
            try:
                report = surgery.extract(Net(), photos, out=out, jobs=jobs, sinks=[Png(), Npz()], overwrite=True)
                told += report.interrupted
            except KeyboardInterrupt:
                told += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert (out / "manifest.json").exists()
            assert surgery.verify(out).sound
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    assert told


def turned(*_: object, **__: object) -> Any:
    """A library's function that is interrupted, and raises an error of its own."""
    try:
        press()
    except KeyboardInterrupt:
        raise ValueError("damaged") from None


def test_an_interrupt_is_not_blamed_on_the_file_the_model_or_the_plugin_that_was_being_read(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.py").write_text("import tests.extraction.test_interrupts as t\nt.turned()")
    (tmp_path / "make.py").write_text("import tests.extraction.test_interrupts as t\ndef make(): t.turned()")
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 4, 4), np.float32))
    surgery.extract(Net(), photos, out=tmp_path / "out", sinks=[Npz()])
    monkeypatch.setattr("PIL.Image.open", turned)
    monkeypatch.setattr("numpy.load", turned)
    monkeypatch.setattr("zipfile.ZipFile", turned)
    steps: dict[str, Callable[[], object]] = {
        "an image": lambda: surgery.load_image(photos / "0.png"),
        "a tensor": lambda: TensorReader()(tmp_path / "x.npy"),
        "an archive of a run": lambda: surgery.verify(tmp_path / "out"),
        "a module": lambda: surgery.load_model(f"{tmp_path / 'own.py'}:make"),
        "a model": lambda: surgery.load_model(f"{tmp_path / 'make.py'}:make"),
        "a plugin": lambda: Plugins(files=[tmp_path / "own.py"]),
    }
    for what, step in steps.items():
        try:
            step()
        except KeyboardInterrupt:
            continue
        pytest.fail(f"{what}: no interrupt")


@pytest.mark.parametrize("raises", [KeyboardInterrupt, turned])
def test_a_command_that_is_interrupted_says_so_in_one_line(
    run: Any, monkeypatch: pytest.MonkeyPatch, raises: Any
) -> None:
    def stop(*_: object, **__: object) -> None:
        if raises is turned:
            turned()
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.models.load_model", stop)
    for command in ("extract", "inspect", "check"):
        result = run(command)
        assert (result.code, result.out, result.err) == (130, "", "surgery: interrupted\n")


# What watches the key


def test_an_interrupt_that_is_turned_into_another_error_or_forgotten_is_raised() -> None:
    def forgotten() -> None:
        try:
            press()
        except BaseException:  # noqa: BLE001
            return

    for function in (turned, forgotten, press):
        with pytest.raises(KeyboardInterrupt), raising_interrupts():
            function()
    with pytest.raises(ValueError, match="damaged"), raising_interrupts():
        raise ValueError("damaged")


def test_a_handler_of_the_caller_is_called_and_decides(photos: Path, tmp_path: Path) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        report = surgery.extract(Net(), photos, out=tmp_path / "out", sinks=[Png()], progress=lambda _: press())
        with watch_interrupts() as interrupts:
            interrupts.hold()
            press()
            assert len(heard) == 3
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert (report.images, report.interrupted) == (3, False)
    assert len(heard) == 4
    assert not interrupts.received


def test_a_handler_that_the_block_has_set_stays() -> None:
    def own(*_: object) -> None: ...

    with watch_interrupts():
        signal.signal(signal.SIGINT, own)
    assert signal.signal(signal.SIGINT, signal.default_int_handler) is own


def test_another_thread_runs_without_the_handler(photos: Path, tmp_path: Path) -> None:
    from threading import Thread

    failed: list[BaseException] = []

    def run() -> None:
        try:
            surgery.extract(Net(), photos, out=tmp_path / "out", sinks=[Png()])
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    assert not failed
    assert_complete(tmp_path / "out", 3)

"""What sinks gather over all images is what the finished images give, whatever stops a run."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import surgery
from surgery.builtin.sinks import Npz
from surgery.errors import OutputError
from surgery.output import gathering, recovery
from surgery.output.image_records import ImageRecord, ImageRecords, RecordedBatch, read_batches
from surgery.testing import check_sink
from tests.output.test_resumed_runs import Stop, killed_after, manifest, photos, run, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["photos"]  # the fixture


@dataclass(frozen=True)
class Names:
    """The names of images, each as often as it was gathered."""

    names: tuple[str, ...]

    def merge(self, other: Names) -> Names:
        return Names(tuple(sorted(self.names + other.names)))

    def save(self, path: Path, *, is_part: bool) -> None:
        path.write_text(json.dumps(["part" if is_part else "whole", *self.names]))

    @classmethod
    def load(cls, path: Path) -> Names:
        return cls(tuple(json.loads(path.read_text())[1:]))


class Index:
    """A sink that lists the images that it has seen."""

    places = ("names.json",)
    gathers = {"names.json": Names.load}  # noqa: RUF012

    def __repr__(self) -> str:
        return "Index()"

    @contextmanager
    def __call__(self, folder: surgery.OutputFolder) -> Iterator[Any]:
        finished: list[str] = []

        def finish(image: str | None) -> None:
            if image is not None:
                finished.append(image)
            elif finished:
                folder.gather("names.json", Names(tuple(sorted(finished))))
                finished.clear()

        folder.when_finished(finish)
        folder.when_dropped(lambda _: finished.clear())
        yield lambda activation: None


INDEX = Index()
WHOLE = ["whole", *"0123456"]


def names(folder: Path) -> list[str]:
    result: list[str] = json.loads((folder / "names.json").read_text())
    return result


def test_it_keeps_the_contract_of_a_sink() -> None:
    check_sink(INDEX)


@pytest.mark.parametrize("interval", [0.0, 1e9])
@pytest.mark.parametrize("options", [{}, {"jobs": 2}, {"batch_size": 2, "writer_threads": 2}])
def test_a_run_that_was_stopped_has_what_its_images_gave(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], interval: float
) -> None:
    monkeypatch.setattr(gathering, "SAVE_INTERVAL", interval)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=[INDEX], **options)
    assert names(whole) == WHOLE
    assert manifest(whole)["progress"]["gathered"] == {"names.json": ["names.json"]}
    run(photos, out, sinks=[INDEX], progress=Stop(2), **options)
    done = [entry["name"] for entry in manifest(out)["images"] if "name" in entry]
    assert names(out) == ["part", *done]
    run(photos, out, sinks=[INDEX], **options)
    assert tree(out) == tree(whole)


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_killed_run_goes_on_with_what_its_records_name(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    monkeypatch.setattr(gathering, "SAVE_INTERVAL", 0.0)
    whole, out = tmp_path / "whole", tmp_path / "out"
    sinks = [INDEX, Npz()]
    run(photos, whole, sinks=sinks)
    killed_after(
        photos,
        out,
        3,
        "sinks=__import__('tests.output.test_gathering').output.test_gathering.kill_soon()",
    )
    if is_cut:  # what is gathered of an image that is lost can't be taken away: all are run again
        (out / "0" / "activations.npz").write_bytes(b"")  # what the disk did not get
        monkeypatch.setattr("surgery.output.workspace.machine_start", lambda: "another")
    report = run(photos, out, sinks=sinks)
    assert report.finished_before == (0 if is_cut else 3)
    assert names(out) == WHOLE
    assert tree(out) == tree(whole)


def kill_soon() -> list[Any]:
    """Return the sinks of a run that saves after each batch."""
    gathering.SAVE_INTERVAL = 0.0
    gathering.SAVE_SHARE = 1e9
    return [INDEX, Npz()]


def test_a_recovered_run_lists_its_parts_and_is_sound(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed_after(photos, out, 3, "sinks=__import__('tests.output.test_gathering').output.test_gathering.kill_soon()")
    with recovery.acquire_workspace(out, overwrite=True):
        pass  # a run that finishes no image
    (part,) = manifest(out)["files"]
    assert manifest(out)["progress"]["gathered"] == {"names.json": [part]}
    assert json.loads((out / part).read_text()) == ["part", "0", "1", "2"]
    assert surgery.verify(out).sound


@pytest.mark.parametrize("moment", ["gathering.MergedFiles.move", "manifest.write_manifest"])
def test_a_run_that_is_killed_while_it_ends_has_everything_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=[INDEX])
    run(photos, out, sinks=[INDEX], progress=Stop(2))

    class Killed(BaseException):
        pass

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        place = (
            "surgery.output.gathering.MergedFiles.move"
            if moment == "move"
            else "surgery.output.manifest.write_manifest"
        )
        patch.setattr(place, kill)
        patch.setattr(recovery, "_close", lambda workspace: workspace.close(keep=True))
        with pytest.raises(Killed):
            run(photos, out, sinks=[INDEX])
    assert (out / ".surgery").is_dir()
    again = run(photos, out, sinks=[INDEX])
    assert again.finished_before == 7
    assert tree(out) == tree(whole)


def test_shards_are_merged_by_the_sink_that_has_gathered(photos: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(photos, whole, sinks=[INDEX])
    for number in (1, 2):
        run(photos, out, sinks=[INDEX], shard=(number, 2))
    assert names(out / "shard-1-of-2") == ["part", *"012"]
    with pytest.raises(OutputError, match=r"names.json was gathered by a sink that no plugin offers; merge in Python"):
        surgery.merge(out)
    surgery.merge(out, sinks=[INDEX], out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == tree(whole)
    (out / "shard-1-of-2" / "names.json").write_text("no JSON")
    with pytest.raises(OutputError, match=r"can't merge names.json, names.json: it is damaged"):
        surgery.merge(out, sinks=[INDEX], out=tmp_path / "damaged")
    assert not (tmp_path / "damaged").exists()


def test_batches_that_are_recorded_together_are_finished_together(tmp_path: Path) -> None:
    (tmp_path / ".surgery").mkdir()
    records = ImageRecords(tmp_path / ".surgery", "a_1")

    def take(number: int) -> RecordedBatch:
        records.add(ImageRecord(number, 1, b'{"number":%d}' % number))
        return records.take_batch({"finished": [[number, number]]})

    records.commit(take(0))
    records.commit(take(1), take(2), take(3), states={"token": 5})
    file = tmp_path / ".surgery" / "images-a_1"
    content = file.read_bytes()
    counts = []
    for end in range(len(content) + 1):
        file.write_bytes(content[:end])
        counts.append(len([*read_batches(tmp_path / ".surgery")]))
    assert set(counts) == {0, 1, 4}
    assert counts == sorted(counts)
    assert [batch.tally.get("states") for batch in read_batches(tmp_path / ".surgery")] == [None] * 3 + [{"token": 5}]
    records.close()

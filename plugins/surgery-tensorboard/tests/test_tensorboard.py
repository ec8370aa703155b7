from __future__ import annotations

import io
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from surgery_tensorboard.events import EventFile, histogram, image
from surgery_tensorboard.sink import TensorBoard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

import surgery
from surgery.data import inputs
from surgery.errors import OutputError
from surgery.testing import check_sink

HERE = Path(__file__).parent.parent
EVERYTHING = {"images": 0, "scalars": 0, "histograms": 0, "tensors": 0}


def read(folder: Path) -> Any:
    """Return what TensorBoard's reader reads."""
    return EventAccumulator(str(folder / "tensorboard"), EVERYTHING).Reload()


def pixels(event: Any) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(event.encoded_image_string)) as picture:
        assert picture.size == (event.width, event.height)
        return np.asarray(picture.convert("RGB"))


def run(out: Path, sink: TensorBoard = TensorBoard(), **options: Any) -> None:  # noqa: B008
    options = {"images": inputs(), "at": ["up2.*"], **options}
    surgery.extract(surgery.load_model("facades"), out=out, sinks=[sink], **options)


def values(image: str | Path, at: str) -> Tensor:
    """Return the values of an operation, recorded in another way."""
    traced = surgery.trace(surgery.load_model("facades").eval())
    opened = surgery.insert(traced, surgery.select(traced, surgery.path(at)))
    with torch.no_grad():
        return surgery.record(opened, surgery.load_image(image, size=256))[0].values


def test_it_keeps_the_contract() -> None:
    check_sink(TensorBoard())
    check_sink(TensorBoard(images=False, scalars=False))


def test_every_image_is_a_step_and_every_operation_a_picture_pixel_for_pixel(tmp_path: Path) -> None:
    run(tmp_path)
    log = read(tmp_path)
    assert set(log.Tags()["images"]) == {"input", "up2.act", "up2.deconv", "up2.norm", "up2.cat", "output"}
    events = log.Images("up2.norm")
    assert [event.step for event in events] == [0, 1, 2, 3]
    for event, path in zip(events, inputs(), strict=True):
        (truth,) = surgery.draw(values(path, "up2.norm"))
        assert np.array_equal(pixels(event), np.asarray(truth.image().convert("RGB")))


def stacked(codes: Tensor) -> Tensor:
    """Place two channels one below the other."""
    return codes[:, :2].flatten(1, 2)[:, None]


def steps(folder: Path) -> NDArray[np.uint8]:
    """Return a picture of the first two channels of `up2.norm` as TensorBoard reads them, one column per step."""
    run(folder, at="up2.norm", tiler=stacked, colormap="magma")
    columns = [pixels(event) for event in read(folder).Images("up2.norm")]
    return np.concatenate([np.pad(column, ((0, 0), (0, 6), (0, 0)), constant_values=255) for column in columns], 1)


def test_the_picture_of_the_readme_is_what_tensorboard_reads(tmp_path: Path) -> None:
    with Image.open(HERE / "steps.png") as shown:
        assert np.abs(np.asarray(shown.convert("RGB"), float) - steps(tmp_path)).mean() < 1


def test_scalars_are_the_facts(tmp_path: Path) -> None:
    run(tmp_path, stats=True)
    log = read(tmp_path)
    truth = [values(path, "up2.norm") for path in inputs()]
    found = [event.value for event in log.Scalars("up2.norm/max")]
    assert found == [value.max().item() for value in truth]
    found = [event.value for event in log.Scalars("up2.norm/mean")]
    assert found == pytest.approx([value.mean().item() for value in truth], rel=1e-4)
    run(tmp_path / "fast")
    assert "up2.norm/mean" not in read(tmp_path / "fast").Tags()["scalars"]


def test_a_histogram_counts_every_value_where_it_is(tmp_path: Path) -> None:
    run(tmp_path, TensorBoard(images=False, histograms=7))
    log = read(tmp_path)
    assert log.Tags()["images"] == []
    truth = values(inputs()[0], "up2.norm").numpy().ravel()
    found = log.Histograms("up2.norm")[0].histogram_value
    edges, counts = np.array([found.min, *found.bucket_limit]), np.array(found.bucket)
    assert np.allclose(counts, np.histogram(truth, 7)[0], atol=2)  # a value on an edge may fall to either side
    assert counts.sum() == truth.size
    assert np.allclose(edges, np.linspace(truth.min(), truth.max(), 8), atol=1e-5)


def test_a_histogram_leaves_out_what_is_not_finite_and_takes_values_that_are_all_the_same() -> None:
    spoiled = histogram("a", torch.tensor([1.0, torch.nan, 3.0, -torch.inf, 2.0]), 2).histo
    assert (spoiled.num, spoiled.min, spoiled.max, spoiled.sum, spoiled.sum_squares) == (3, 1, 3, 6, 14)
    assert list(spoiled.bucket) == [1, 2]
    same = histogram("a", torch.full((5,), 2.0), 30).histo
    assert (list(same.bucket), list(same.bucket_limit)) == ([5], [2])


def test_steps_have_the_names_of_their_images_and_the_run_says_what_it_is(tmp_path: Path) -> None:
    run(tmp_path, source="facades")
    log = read(tmp_path)
    names = [event.tensor_proto.string_val[0].decode() for event in log.Tensors("surgery/image")]
    assert names == ["facade-1", "facade-2", "facade-3", "facade-4"]
    assert "| model | facades |" in log.Tensors("surgery/run")[0].tensor_proto.string_val[0].decode()


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale.exp()


def test_what_belongs_to_a_whole_batch_stands_at_the_step_of_its_first_image(tmp_path: Path) -> None:
    surgery.extract(Shared(), inputs(), out=tmp_path, sinks=[TensorBoard()], batch_size=2, size=8)
    log = read(tmp_path)
    assert [event.step for event in log.Scalars("exp/max")] == [0, 2]
    assert [event.step for event in log.Scalars("mul/max")] == [0, 1, 2, 3]


def test_a_second_run_takes_the_place_of_the_first(tmp_path: Path) -> None:
    run(tmp_path)
    (tmp_path / "manifest.json").unlink()  # else the run would be refused, or what it lists overwritten
    run(tmp_path, images=inputs()[3], at="up1.*")
    log = read(tmp_path)
    assert [event.step for event in log.Images("input")] == [0]
    assert set(log.Tags()["images"]) >= {"up1.tanh"}
    assert log.Scalars("up2.norm/max") == []
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_file_that_was_cut_short_is_read_up_to_there(tmp_path: Path) -> None:
    run(tmp_path, at="up2.norm")
    (file,) = (tmp_path / "tensorboard").iterdir()
    whole = file.read_bytes()
    seen = set()
    for length in range(0, len(whole), len(whole) // 40):
        file.write_bytes(whole[:length])
        log = read(tmp_path)
        found = [event.step for event in log.Images("up2.norm")] if "up2.norm" in log.Tags()["images"] else []
        assert found == list(range(len(found)))
        seen.add(len(found))
    assert seen == {0, 1, 2, 3}


def test_steps_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "tensorboard")
    (picture,) = surgery.draw(torch.rand(1, 3, 4, 4))
    file.add(0, [image("a", picture)])
    log = read(tmp_path)
    assert len(log.Images("a")) == 1
    file.add(1, [image("a", picture)])
    assert len(log.Reload().Images("a")) == 2
    file.close()


def test_a_directory_that_can_not_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").touch()
    with pytest.raises(OutputError, match=r"can't write .*tensorboard: file exists"):
        run(tmp_path)


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> object:
    """Run the installed command `surgery` in a folder and return its exit code."""
    (surgery_command,) = entry_points(group="console_scripts", name="surgery")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surgery", *arguments])
    with pytest.raises(SystemExit) as ended:
        surgery_command.load()()
    return ended.value.code


def test_its_options_are_set_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = "tensorboard:images=false"
    assert command(monkeypatch, tmp_path, "extract", "--at", "up1.tanh", "--sink", sink) == 0
    tags = read(tmp_path / "activations").Tags()
    assert tags["images"] == []
    assert "up1.tanh/max" in tags["scalars"]
    with pytest.raises(OutputError, match="at least 0 bins"):
        TensorBoard(histograms=-1)

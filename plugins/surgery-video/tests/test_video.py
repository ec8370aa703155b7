from __future__ import annotations

import json
import runpy
import sys
import tracemalloc
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from surgery_video.animation import animate
from surgery_video.sink import Video
from torch import Tensor, nn

import surgery
from surgery.errors import OutputError, RenderError
from surgery.testing import check_sink

HERE = Path(__file__).parent.parent


@pytest.mark.parametrize("sink", [Video(), Video(scale="image"), Video(format="webp", channels=2, at="*maps*")])
def test_it_keeps_the_contract(sink: Video) -> None:
    check_sink(sink)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 5, 3, padding=1)
            self.wide = nn.Conv2d(5, 6, 5)  # takes no image that is smaller than itself
            self.weight = nn.Parameter(torch.randn(4, 7))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images).log()
        return self.wide(maps.exp()).nan_to_num().mean((2, 3)) + self.weight.sigmoid().mean()


def photos(folder: Path, *sizes: tuple[int, int]) -> list[Path]:
    """Write images of which each is brighter than the one before."""
    random = np.random.default_rng(0)
    folder.mkdir()
    files = [folder / f"{number:03}.png" for number in range(len(sizes))]
    for number, (file, size) in enumerate(zip(files, sizes, strict=True), 1):
        Image.fromarray((random.random((*size, 3)) * 255 * number / len(files)).astype(np.uint8)).save(file)
    return files


def run(images: list[Path], out: Path, sink: Video = Video(), **options: Any) -> None:  # noqa: B008
    surgery.extract(Net(), images, out=out, sinks=[sink], **options)


def recorded(image: Path, at: str) -> Tensor:
    """Return the values of an operation, recorded in another way."""
    traced = surgery.trace(Net().eval())
    opened = surgery.insert(traced, surgery.select(traced, surgery.path(at)))
    with torch.no_grad():
        return surgery.record(opened, surgery.load_image(image))[0].values


def frames(path: Path) -> list[NDArray[np.uint8]]:
    with Image.open(path) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(np.asarray(image).copy())
        return found


def note(path: Path) -> Any:
    with Image.open(path) as image:
        return json.loads(image.text["surgery"])  # type: ignore[attr-defined]


def test_an_animation_has_the_pictures_as_frames_pixel_for_pixel(tmp_path: Path) -> None:
    pictures = surgery.draw(torch.randn(3, 5, 9, 7, generator=torch.Generator().manual_seed(0)), colormap="magma")
    animate(pictures, tmp_path / "a.png", fps=2)
    for frame, picture in zip(frames(tmp_path / "a.png"), pictures, strict=True):
        assert np.array_equal(frame, picture.pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode, image.info["duration"], image.info["loop"]) == ("PNG", "P", 500, 0)
        assert image.getpalette() == pictures[0].image().getpalette()
    animate(pictures, tmp_path / "a.webp", fps=2, format="webp")
    with Image.open(tmp_path / "a.webp") as image:
        image.load()
        assert (image.format, image.n_frames, image.info["duration"]) == ("WEBP", 3, 500)  # type: ignore[attr-defined]
    for frame, picture in zip(frames(tmp_path / "a.webp"), pictures, strict=True):
        assert np.array_equal(frame[..., :3], np.asarray(picture.image().convert("RGB")))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "a.webp"]


def test_pictures_of_several_sizes_have_background_beside_them(tmp_path: Path) -> None:
    small, large = surgery.draw(torch.rand(1, 1, 16, 20)), surgery.draw(torch.rand(1, 1, 18, 17))
    animate([*small, *large], tmp_path / "a.png")
    first, second = frames(tmp_path / "a.png")
    assert first.shape == second.shape == (18, 20)
    assert np.array_equal(first[:16], small[0].pixels)
    assert (first[16:] == 255).all()
    assert (second[:, 17:] == 255).all()


def test_pictures_that_are_no_animation_are_refused(tmp_path: Path) -> None:
    one, other = (surgery.draw(torch.rand(1, 1, 4, 4), colormap=name)[0] for name in ("magma", "viridis"))
    with pytest.raises(RenderError, match="at least one picture"):
        animate([], tmp_path / "a.png")
    with pytest.raises(RenderError, match="have the same palette"):
        animate([one, other], tmp_path / "a.png")
    with pytest.raises(OutputError, match=r"fps is 0\.1 to 100, not 0"):
        animate([one], tmp_path / "b.png", fps=0)
    with pytest.raises(OutputError, match="format is apng or webp, not 'gif'"):
        animate([one], tmp_path / "b.png", format="gif")  # type: ignore[arg-type]
    assert not (tmp_path / "b.png").exists()


def test_a_color_is_one_value_in_every_frame(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16), (20, 16), (20, 16))
    run(images, tmp_path / "out")
    path = tmp_path / "out" / "video" / "001-conv.png"
    said = note(path)
    low, high = (np.array(said[name])[:, None, None] for name in ("low", "high"))
    truth = [recorded(image, "conv")[0].numpy() for image in images]
    assert np.allclose(low[:, 0, 0], np.min(truth, (0, 2, 3)))
    assert np.allclose(high[:, 0, 0], np.max(truth, (0, 2, 3)))
    for frame, values in zip(frames(path), truth, strict=True):
        assert np.abs(low + tiles(frame) / 250 * (high - low) - values).max() <= 1.01 * np.max((high - low) / 250)
    assert said["frames"] == ["000", "001", "002"]
    assert (said["operation"], said["mode"]) == ("conv", "eval")


def tiles(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``(5, 20, 16)`` from a grid of three columns."""
    return np.stack([frame[21 * (n // 3) :, 17 * (n % 3) :][:20, :16] for n in range(5)])


def test_with_a_scale_of_the_image_frames_are_the_pictures_of_the_run(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16), (20, 16))
    run(images, tmp_path / "out", Video(scale="image"), tiler=lambda codes: codes[:, :2])
    for number in range(2):
        name = f"001-conv{'~2' if number else ''}.png"
        for frame, image in zip(frames(tmp_path / "out" / "video" / name), images, strict=True):
            assert np.array_equal(frame, surgery.draw(recorded(image, "conv")[:, number : number + 1])[0].pixels)


def test_what_is_no_value_keeps_its_own_color_and_images_theirs(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16), (20, 16))
    run(images, tmp_path / "out")
    for frame, image in zip(frames(tmp_path / "out" / "video" / "002-log.png"), images, strict=True):
        assert np.array_equal(tiles(frame) == 252, recorded(image, "log")[0].isnan().numpy())
    for frame, image in zip(frames(tmp_path / "out" / "video" / "000-input.png"), images, strict=True):
        with Image.open(image) as given:
            assert np.array_equal(frame, np.asarray(given))


def test_vectors_are_folded_as_they_are_in_pictures(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16))
    run(images, tmp_path / "out")
    (frame,) = frames(tmp_path / "out" / "video" / "006-mean.png")
    assert np.array_equal(frame, surgery.draw(recorded(images[0], "mean"))[0].pixels)


def test_an_image_that_the_model_does_not_take_has_no_frame_and_sizes_may_differ(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16), (3, 3), (24, 10))
    run(images, tmp_path / "out")
    path = tmp_path / "out" / "video" / "001-conv.png"
    assert note(path)["frames"] == ["000", "002"]
    assert [frame.shape for frame in frames(path)] == [(49, 50)] * 2


def test_what_belongs_to_a_whole_batch_has_a_frame_for_each_batch(tmp_path: Path) -> None:
    run(photos(tmp_path / "in", *[(20, 16)] * 6), tmp_path / "out", batch_size=3)
    path = next((tmp_path / "out" / "video" / "batch").glob("*-sigmoid.png"))
    assert note(path)["frames"] == ["000, 001, 002", "003, 004, 005"]


def test_a_run_that_fails_half_way_has_the_frames_until_there(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", (20, 16), (20, 16), (20, 16))

    def stop(progress: Any) -> None:
        if progress.done == 2:
            raise ValueError("stop here")

    with pytest.raises(ValueError, match="stop here"):
        run(images, tmp_path / "out", progress=stop)
    assert len(frames(tmp_path / "out" / "video" / "001-conv.png")) == 2


def test_memory_holds_one_frame_at_a_time(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        images = photos(tmp_path / f"{count}", *[(256, 256)] * count)
        tracemalloc.start()
        run(images, tmp_path / f"out {count}", Video(at="conv"), output=False, at="conv")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    frame = 5 * 256 * 256
    few = peak(10)
    assert peak(110) < few + 75 * frame  # a hundred more are written, of which 51 may wait for a slow disk


def test_the_example_makes_the_picture_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(HERE / "examples" / "animate_training.py"), run_name="__main__")
    made, shown = frames(Path("training.png")), frames(HERE / "training.png")
    assert len(made) == 4
    for one, other in zip(made, shown, strict=True):
        assert np.abs(one.astype(float) - other).mean() < 1


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> object:
    """Run the installed command `surgery` in a folder and return its exit code."""
    (surgery_command,) = entry_points(group="console_scripts", name="surgery")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surgery", *arguments])
    with pytest.raises(SystemExit) as ended:
        surgery_command.load()()
    return ended.value.code


def test_its_options_are_set_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = "video:fps=2,format=webp,at=up1.*,channels=1,scale=run"
    assert command(monkeypatch, tmp_path, "extract", "--at", "up1.*", "--at", "up2.cat", "--sink", options) == 0
    made = sorted((tmp_path / "activations" / "video").iterdir())
    assert [file.name for file in made] == ["053-up1.act.webp", "054-up1.deconv.webp", "055-up1.tanh.webp"]
    assert frames(made[0])[0].shape[:2] == (128, 128)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps is 0.1 to 100, not 0"),
        ({"format": "gif"}, "format is apng or webp, not 'gif'"),
        ({"scale": "layer"}, "scale is run or image, not 'layer'"),
        ({"channels": 0}, "channels is at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OutputError, match=message):
        Video(**options)

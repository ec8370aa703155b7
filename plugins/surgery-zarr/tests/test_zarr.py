from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
import zarr
from PIL import Image
from surgery_zarr import store as stores
from surgery_zarr.sink import Zarr
from surgery_zarr.store import Column, chunk_shape
from torch import Tensor, nn

import surgery
from surgery.data import inputs
from surgery.errors import OutputError
from surgery.testing import check_sink

HERE = Path(__file__).parent.parent


class Net(nn.Module):
    """Computes a value of every kind that a store has to keep."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.bias = nn.Parameter(torch.randn(5, 7))

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        half = maps.bfloat16()
        tokens = half.float().flatten(2).transpose(1, 2)
        windows = torch.cat([maps[:, :, :4, :4], maps[:, :, 4:8, 4:8]])
        shared = self.bias * 2
        return windows.mean() + shared.mean() + tokens.mean((1, 2)) + (maps > 0).float().mean((1, 2, 3))


def photos(folder: Path, count: int, size: tuple[int, int] = (12, 10), seed: int = 0) -> list[Path]:
    random = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    files = [folder / f"photo {seed}-{number}.png" for number in range(count)]
    for file in files:
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(file)
    return files


def run(images: list[Path], out: Path, model: nn.Module | None = None, sink: Zarr = Zarr(), **options: Any) -> None:  # noqa: B008
    surgery.extract(model or Net(), images, out=out, sinks=[sink], **options)


def run_again(
    images: list[Path],
    out: Path,
    model: nn.Module | None = None,
    sink: Zarr = Zarr(),  # noqa: B008
    **options: Any,
) -> None:
    """Run again into a folder with a store: after a killed run, and without the manifest of the first run."""
    if (out / ".surgery").exists():
        with pytest.raises(OutputError, match="holds another run"):  # now what it left is in order
            run(images, out, model, sink, **options)
    (out / "manifest.json").unlink(missing_ok=True)
    run(images, out, model, sink, **options)


def expected(images: list[Path], at: str, model: nn.Module | None = None) -> list[Tensor]:
    """Return the values of an operation for each image, recorded in another way."""
    traced = surgery.trace((model or Net()).eval())
    opened = surgery.insert(traced, surgery.select(traced, surgery.path(at)))
    with torch.no_grad():
        return [surgery.record(opened, surgery.load_image(image))[0].values for image in images]


def test_it_keeps_the_contract() -> None:
    check_sink(Zarr())


def test_plain_zarr_reads_every_operation_over_all_images(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 3)
    run(images, tmp_path / "out")
    group = zarr.open_group(tmp_path / "out" / "activations.zarr", mode="r")
    conv: Any = group["conv"]
    assert conv.metadata.zarr_format == 3
    assert conv.shape == (3, 8, 12, 10)
    assert conv.chunks == (1, 8, 12, 10)
    for row, truth in zip(conv, expected(images, "conv"), strict=True):
        assert np.array_equal(row, truth[0].numpy())
    names: Any = group["image"]
    assert list(names[:]) == ["photo 0-0", "photo 0-1", "photo 0-2"]
    assert group.attrs["mode"] == "eval"
    assert conv.attrs.asdict()["kind"] == "conv2d"


def test_xarray_reads_it_with_named_axes_and_the_names_of_the_images(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 2)
    run(images, tmp_path / "out")
    data = xarray.open_zarr(tmp_path / "out" / "activations.zarr")
    assert data["conv"].dims == ("image", "channel_8", "height_12", "width_10")
    assert np.array_equal(data["conv"].sel(image="photo 0-1").values, expected(images, "conv")[1][0].numpy())
    assert data["transpose"].dims == ("image", "token_120", "feature_8")
    assert data["cat"].dims == ("image", "window_2", "channel_8", "height_4", "width_4")
    assert data["gt"].dtype == bool
    assert bool((data["gt"] == (data["conv"] > 0)).all())  # arrays of the same shape share their axes
    assert data.attrs["weights_sha256"]


def test_a_dtype_that_numpy_has_not_is_kept_as_float32_and_says_so(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 1)
    run(images, tmp_path / "out")
    group = zarr.open_group(tmp_path / "out" / "activations.zarr", mode="r")
    half: Any = group["bfloat16"]
    assert (half.dtype, half.attrs["dtype"]) == (np.float32, "bfloat16")
    assert np.array_equal(half[0], expected(images, "conv")[0][0].bfloat16().float().numpy())


def test_what_belongs_to_a_whole_batch_has_a_store_of_its_own(tmp_path: Path) -> None:
    run(photos(tmp_path / "in", 4), tmp_path / "out", batch_size=2)
    data = xarray.open_zarr(tmp_path / "out" / "batches.zarr")
    assert list(data["batch"].values) == ["photo 0-0, photo 0-1", "photo 0-2, photo 0-3"]
    assert data["mul"].dims == ("batch", "token_5", "feature_7")
    assert np.array_equal(data["mul"][1].values, Net().bias.detach().numpy() * 2)


def test_a_second_run_adds_its_images(tmp_path: Path) -> None:
    first, second = photos(tmp_path / "in", 2), photos(tmp_path / "in", 3, seed=1)
    run(first, tmp_path / "out")
    run_again(second, tmp_path / "out", sink=Zarr(level=9))
    data = xarray.open_zarr(tmp_path / "out" / "activations.zarr")
    assert data.sizes["image"] == 5
    assert list(data["image"].values[2:]) == [file.stem for file in second]
    for row, truth in zip(data["conv"].values, expected([*first, *second], "conv"), strict=True):
        assert np.array_equal(row, truth[0].numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Net(seed=1)}, "is of a run with weights_sha256 .* and not .*; write to another folder"),
        ({"mode": "train"}, "is of a run with mode eval and not train"),
        ({"range": (0.0, 1.0)}, r"is of a run with range \[-1.0, 1.0\] and not \[0.0, 1.0\]"),
        ({"at": "conv"}, "has .*, which this run does not have"),
        ({"size": 8}, "has input as 3x12x10 float32, and this run begins with 3x8x8 float32; write to another"),
    ],
)
def test_a_second_run_that_is_another_is_refused_in_a_line(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    run(photos(tmp_path / "in", 1), tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(OutputError, match=message):
        run_again(photos(tmp_path / "in", 1), tmp_path / "out", **options)
    assert contents(tmp_path / "out") == before


def contents(folder: Path) -> dict[Path, bytes]:
    stores = [place for place in folder.iterdir() if place.is_dir()]
    return {file: file.read_bytes() for place in stores for file in place.rglob("*") if file.is_file()}


def test_images_of_other_shapes_have_a_store_of_their_own(tmp_path: Path) -> None:
    small, large = photos(tmp_path / "in", 2), photos(tmp_path / "in", 2, (16, 20), seed=1)
    images = [small[0], large[0], small[1]]
    run(images, tmp_path / "out")
    run_again([large[1]], tmp_path / "out", sink=Zarr(mixed=True))
    one, other = (zarr.open_group(tmp_path / "out" / f"activations{n}.zarr", mode="r") for n in ("", "-2"))
    assert [list(group["image"][:]) for group in (one, other)] == [  # type: ignore[index, arg-type]
        ["photo 0-0", "photo 0-1"],
        ["photo 1-0", "photo 1-1"],
    ]
    rows: Any = other["conv"]
    for row, truth in zip(rows, expected(large, "conv"), strict=True):
        assert np.array_equal(row, truth[0].numpy())


def test_the_python_of_the_readme_makes_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    surgery.extract(surgery.load_model("facades"), inputs(), sinks=[Zarr()])
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], {})  # type: ignore[index]  # noqa: S102
    with Image.open("channel.png") as made, Image.open(HERE / "channel.png") as shown:
        assert np.abs(np.asarray(made, float) - np.asarray(shown, float)).mean() < 1


def test_what_is_no_store_of_activations_is_left_alone(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "out" / "activations.zarr")
    with pytest.raises(OutputError, match="is not a store of activations; write to another folder"):
        run(photos(tmp_path / "in", 1), tmp_path / "out")


def test_large_maps_are_cut_along_their_first_axes() -> None:
    def cut(*shape: int) -> tuple[int, ...]:
        return chunk_shape(Column("", "float32", "float32", shape, ()), 4096)

    assert cut(64, 32, 32) == (1, 32, 32)
    assert cut(64, 8, 8) == (16, 8, 8)
    assert cut(4, 64, 64) == (1, 16, 64)
    assert cut(5000) == (1024,)
    assert cut(5, 0, 6) == (5, 1, 6)
    assert cut() == ()


def test_values_of_several_chunks_come_back(tmp_path: Path) -> None:
    class Wide(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.repeat(1, 40, 1, 1)

    images = photos(tmp_path / "in", 1, (128, 128))
    run(images, tmp_path / "out", Wide(), Zarr(chunk=1))
    group = zarr.open_group(tmp_path / "out" / "activations.zarr", mode="r")
    repeat: Any = group["repeat"]
    assert repeat.chunks == (1, 16, 128, 128)
    assert np.array_equal(repeat[0], surgery.load_image(images[0]).repeat(1, 40, 1, 1)[0].numpy())


class Killed(BaseException):
    """Stands for the death of the process."""


def test_a_run_killed_at_any_write_leaves_whole_images_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photos(tmp_path / "in", 2)
    truth = np.stack([values[0].numpy() for values in expected(images, "conv")])
    writes, last = 0, 0
    put, replace = stores._Chunks.set, stores._replace

    def count() -> None:
        nonlocal writes
        writes += 1
        if writes == last:
            raise Killed

    async def killed_put(store: Any, key: str, value: Any) -> None:
        count()
        await put(store, key, value)

    def killed_replace(path: Path, content: Any) -> None:
        count()
        replace(path, content)

    monkeypatch.setattr(stores._Chunks, "set", killed_put)
    monkeypatch.setattr(stores, "_replace", killed_replace)
    run(images, tmp_path / "whole", at="conv")
    total = writes
    assert total > 20
    seen = set()
    for last in range(1, total + 1):
        out = tmp_path / str(last)
        writes = 0
        with pytest.raises(Killed):
            run(images, out, at="conv")
        length = check_whole(out / "activations.zarr", truth)
        seen.add(length)
        writes = -total
        run_again(images[length:], out, at="conv")
        assert check_whole(out / "activations.zarr", truth) == 2
    assert seen == {0, 1}


def check_whole(path: Path, truth: Any) -> int:
    """Check that a store has the first images with their exact values, and return how many."""
    if not path.exists():
        return 0
    group = zarr.open_group(path, mode="r")
    conv: Any = group["conv"]
    length: int = conv.shape[0]
    assert np.array_equal(conv[:], truth[:length])
    alone: Any = zarr.open_array(path / "conv", mode="r")  # past the store's own metadata
    assert np.array_equal(alone[:], truth[: alone.shape[0]])
    data = xarray.open_zarr(path)
    assert data.sizes["image"] == length
    assert set(data["image"].values) <= {f"photo 0-{number}" for number in range(400)}
    return length


def test_a_killed_process_leaves_whole_images(tmp_path: Path) -> None:
    images = sorted(photos(tmp_path / "in", 400))
    program = [sys.executable, __file__, *map(str, (tmp_path / "in", tmp_path / "out"))]
    place = tmp_path / "out" / "activations.zarr"
    deadline = time.monotonic() + 60
    with subprocess.Popen(program, stderr=subprocess.PIPE) as process:
        try:
            while time.monotonic() < deadline and process.poll() is None:
                if (place / "zarr.json").exists() and xarray.open_zarr(place).sizes["image"] >= 3:
                    break
                time.sleep(0.01)
        finally:
            process.send_signal(signal.SIGKILL)
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    length = xarray.open_zarr(place).sizes["image"]
    assert 3 <= length < 400
    truth = np.stack([values[0].numpy() for values in expected(images[: length + 1], "conv")])
    assert check_whole(place, truth) == length


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> object:
    """Run the installed command `surgery` in a folder and return its exit code."""
    (surgery_command,) = entry_points(group="console_scripts", name="surgery")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surgery", *arguments])
    with pytest.raises(SystemExit) as ended:
        surgery_command.load()()
    return ended.value.code


def test_its_options_are_set_from_the_command_line_and_the_store_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command(monkeypatch, tmp_path, "extract", "--at", "up1.tanh", "--sink", "zarr:level=0,chunk=1") == 0
    array = json.loads((tmp_path / "activations" / "activations.zarr" / "up1.tanh" / "zarr.json").read_text())
    assert [codec["name"] for codec in array["codecs"]] == ["bytes"]
    assert array["shape"] == [1, 3, 256, 256]
    assert json.loads(Path("activations/manifest.json").read_text())["files"] == ["activations.zarr"]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OutputError, match="level is 0 to 9, not 10"):
        Zarr(level=10)
    with pytest.raises(OutputError, match="chunk is at least 1"):
        Zarr(chunk=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2]))

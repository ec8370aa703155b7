from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
import zarr
from PIL import Image
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
    assert conv.shards == (1, 8, 12, 10)
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
    assert list(data["batch"].values) == [0, 2]
    assert data["mul"].dims == ("batch", "token_5", "feature_7")
    assert np.array_equal(data["mul"][1].values, Net().bias.detach().numpy() * 2)


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def stores(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir() if place.is_dir() and place.name.startswith("activations"))


def mixed_photos(folder: Path) -> list[Path]:
    """Write 8 images: one that can't be read, and two of another size."""
    images = photos(folder, 8)
    images[2].write_bytes(b"no image")
    for number, image in zip((4, 6), photos(folder.parent / "large", 2, (16, 20)), strict=True):
        image.replace(images[number])
    return images


class Stop:
    """Presses Ctrl-C after so many images."""

    def __init__(self, images: int) -> None:
        self.images = images

    def __call__(self, progress: Any) -> None:
        if progress.done >= self.images:
            raise KeyboardInterrupt


@pytest.mark.parametrize("size", [1, 3])
def test_workers_writers_shards_and_stopped_runs_give_the_bytes_of_one_run(tmp_path: Path, size: int) -> None:
    images = mixed_photos(tmp_path / "in")
    run(images, tmp_path / "whole", batch_size=size)
    whole = tree(tmp_path / "whole")
    run(images, tmp_path / "jobs", batch_size=size, jobs=2)
    assert tree(tmp_path / "jobs") == whole
    run(images, tmp_path / "writers", batch_size=size, writer_threads=2)
    assert tree(tmp_path / "writers") == whole
    for number in (3, 1, 2):
        run(images, tmp_path / "shards", batch_size=size, shard=(number, 3))
    surgery.merge(tmp_path / "shards", out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == whole
    for stop in (1, 4):
        out = tmp_path / f"stopped-{stop}"
        run(images, out, batch_size=size, progress=Stop(stop))
        before = tree(out)
        assert not surgery.verify(out).faults
        run(images, out, batch_size=size, jobs=2)
        assert tree(out) == whole
        done = {name for name in before if name.rpartition("/")[2].startswith("c.")}
        assert done
        assert all(before[name] == whole[name] for name in done), "shards never change"


def test_a_row_has_the_values_of_its_image_whatever_is_in_its_batch(tmp_path: Path) -> None:
    images = mixed_photos(tmp_path / "in")
    out = tmp_path / "out"
    report = surgery.extract(Net(), images, out=out, sinks=["zarr"], batch_size=4)
    assert len(report.failed) == 1
    # The batches are 0, 1, 3, then 4, then 5, then 6, then 7: other sizes and the broken image divide them.
    found: dict[Any, Any] = {}
    for name in stores(out):
        data = xarray.open_zarr(out / name)
        assert list(data["image"].values) == [image.stem for image in images]
        assert list(data["path"].values) == [str(image) for image in images]
        for number in np.flatnonzero(data["done"].values).tolist():
            if "conv" in data:
                assert number not in found
                found[number] = data["conv"][number].values
        for number in np.flatnonzero(~data["done"].values).tolist():
            assert all(np.isnan(values[number]).all() for values in data.values() if values.dtype.kind == "f")
    assert sorted(found) == [0, 1, 3, 4, 5, 6, 7]
    for number, values in found.items():
        assert np.allclose(values, expected([images[number]], "conv")[0][0].numpy(), atol=1e-6)  # of another batch
    first = xarray.open_zarr(out / "activations.zarr")
    assert first["done"].values.tolist() == [True, True, False, True, False, True, False, False]
    assert sum("activations-16x20-" in name for name in stores(out)) == 2, "two batches of these share a shard"


def test_an_image_that_is_repaired_is_added_later(tmp_path: Path) -> None:
    images = mixed_photos(tmp_path / "in")[:3]
    run(images, tmp_path / "out", batch_size=3)
    before = tree(tmp_path / "out")
    photos(tmp_path / "in", 3)
    assert surgery.extract(Net(), images, out=tmp_path / "out", sinks=["zarr"], batch_size=3).images == 3
    after = tree(tmp_path / "out")
    assert {name for name in before if before[name] != after.get(name)} == {"manifest.json"}
    data = xarray.open_zarr(tmp_path / "out" / "activations-2.zarr")
    assert data["done"].values.tolist() == [False, False, True]
    assert np.array_equal(data["conv"][2].values, expected([images[2]], "conv")[0][0].numpy())
    assert not surgery.verify(tmp_path / "out").faults


def test_what_the_first_image_lacks_is_beside_its_store(tmp_path: Path) -> None:
    """In a batch of one image, what is computed of no image can be read as its own: it doesn't move the others."""
    images = photos(tmp_path / "in", 3)
    run(images, tmp_path / "out", batch_size=2)
    data = xarray.open_zarr(tmp_path / "out" / "activations.zarr")
    assert data["done"].values.all()
    assert "mul" not in data
    (other,) = set(stores(tmp_path / "out")) - {"activations.zarr"}
    data = xarray.open_zarr(tmp_path / "out" / other)
    assert list(data) == ["mul"]
    assert data["done"].values.tolist() == [False, False, True]
    assert np.array_equal(data["mul"][2].values, Net().bias.detach().numpy() * 2)


def test_a_store_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 5)
    truth = np.stack([values[0].numpy() for values in expected(images, "conv")])
    seen: list[int] = []

    def read(progress: Any) -> None:
        data = xarray.open_zarr(tmp_path / "out" / "activations.zarr")
        done = data["done"].values
        seen.append(int(done.sum()))
        assert seen[-1] >= progress.done
        assert np.allclose(data["conv"].values[done], truth[done], atol=1e-6)
        assert np.isnan(data["conv"].values[~done]).all()
        assert list(data["image"].values) == [image.stem for image in images]

    run(images, tmp_path / "out", batch_size=2, progress=read)
    assert seen == [2, 4, 5]


def test_another_run_is_refused_and_replaced_only_if_asked(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 2)
    run(images, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(OutputError, match="holds another run: it has the mode eval, and this one train"):
        run(images, tmp_path / "out", mode="train")
    with pytest.raises(OutputError, match="holds another run"):
        run(images, tmp_path / "out", sink=Zarr(level=9))
    assert tree(tmp_path / "out") == before
    run(images[:1], tmp_path / "out", mode="train", overwrite=True)
    assert xarray.open_zarr(tmp_path / "out" / "activations.zarr").attrs["mode"] == "train"
    assert not surgery.verify(tmp_path / "out").faults


def test_names_of_operations_and_images_need_not_be_names_of_files(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.done, self.image, self.Image, self.con = (nn.ReLU() for _ in range(4))

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.con(self.Image(self.image(self.done(images))))
            return result

    image = photos(tmp_path / "in", 1)[0]
    odd = image.rename(tmp_path / "in" / "activations.zarr.png")
    run([odd], tmp_path / "out", Odd())
    data = xarray.open_zarr(tmp_path / "out" / "activations.zarr")
    assert {"done~2", "image~2", "Image~3", "_con"} <= set(data)
    assert [data[name].attrs["path"] for name in ("done~2", "image~2", "Image~3")] == ["done", "image", "Image"]
    assert np.array_equal(data["_con"][0].values, surgery.load_image(odd)[0].relu().numpy())


def test_the_python_of_the_readme_makes_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    surgery.extract(surgery.load_model("facades"), inputs(), sinks=[Zarr()])
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], {})  # type: ignore[index]  # noqa: S102
    with Image.open("channel.png") as made, Image.open(HERE / "channel.png") as shown:
        assert np.abs(np.asarray(made, float) - np.asarray(shown, float)).mean() < 1


def test_what_is_of_no_run_is_left_alone(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "out" / "activations.zarr")
    before = tree(tmp_path / "out")
    with pytest.raises(
        OutputError, match=r"activations.zarr/zarr.json: a file of that name is there, which is of no run"
    ):
        run(photos(tmp_path / "in", 1), tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_a_folder_that_is_of_no_run_of_images_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="needs to know all images in advance"),
        Zarr()(surgery.OutputFolder(tmp_path)),
    ):
        pass


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
    assert repeat.shards == (1, 128, 128, 128), "whole chunks"
    assert np.array_equal(repeat[0], surgery.load_image(images[0]).repeat(1, 40, 1, 1)[0].numpy())


def test_a_killed_run_goes_on_to_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    images = sorted(photos(tmp_path / "in", 12))
    run(images, tmp_path / "whole", batch_size=2, jobs=2)
    program = [sys.executable, __file__, *map(str, (tmp_path / "in", tmp_path / "out"))]
    with subprocess.Popen([*program, "120"], stderr=subprocess.PIPE) as process:
        _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    left = tree(tmp_path / "out")
    assert any("/done/c." in name for name in left)
    run(images, tmp_path / "out", batch_size=2, jobs=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


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
    (sharding,) = array["codecs"]
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes"]
    assert array["shape"] == [1, 3, 256, 256]
    manifest = json.loads(Path("activations/manifest.json").read_text())
    assert "activations.zarr/zarr.json" in manifest["files"]
    assert "activations.zarr/up1.tanh/c.0.0.0.0" in manifest["images"][-1]["files"]


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(OutputError, match="level is 0 to 9, not 10"):
        Zarr(level=10)
    with pytest.raises(OutputError, match="chunk is at least 1"):
        Zarr(chunk=0)


class KillsItself:
    """In place of `Path.write_bytes`: writes so many files, then kills the process."""

    def __init__(self, files: int) -> None:
        self.left = files
        self.write = Path.write_bytes

    def __get__(self, path: Path, _: object) -> Any:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return partial(self.write, path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    Path.write_bytes = KillsItself(int(sys.argv[3]))  # type: ignore[method-assign, assignment]
    run(sorted(Path(sys.argv[1]).iterdir()), Path(sys.argv[2]), batch_size=2)

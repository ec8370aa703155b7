"""Inputs that are no images: token ids and masks, sound, several inputs in one file, values without a file, lists."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import surgery
from surgery.builtin.readers import ArrayReader, TensorReader, default_reader
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.builtin.waveforms import WaveformReader
from surgery.errors import ImageError, ModelError, TraceError
from surgery.inputs import ImageReader
from surgery.layouts import ChannelsFirst


class Text(nn.Module):
    """A language model in miniature: token ids and a mask, which the branch keeps from having a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 4)
        self.head = nn.Linear(4, 4)

    def forward(
        self, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, *, scale: float = 1.0
    ) -> dict[str, Any]:
        if input_ids is None:
            raise ValueError("give input_ids")
        hidden = self.embedding(input_ids)
        if attention_mask is not None and not bool(attention_mask.all()):
            hidden = hidden * attention_mask[..., None].to(hidden.dtype)
        return {"hidden": self.head(hidden) * scale, "counts": torch.bincount(input_ids.flatten())}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(name: str, path: str) -> Any:
    return np.load(Path("out") / name / "activations.npz")[path]


def extract(model: nn.Module, *files: Any, **arguments: Any) -> Any:
    return surgery.extract(model.eval(), files, out="out", overwrite=True, **{"sinks": [Npz(), Png()], **arguments})


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "pt", "pth", "json"])
@pytest.mark.parametrize(("shape", "read"), [((3,), (1, 3)), ((1, 3), (1, 3)), ((2, 3), (1, 2, 3)), ((), (1,))])
def test_an_array_is_read_as_it_is_from_every_kind_of_file(suffix: str, shape: tuple[int, ...], read: Any) -> None:
    values = torch.arange(max(1, int(np.prod(shape))), dtype=torch.int32).reshape(shape) - 2
    file = Path(f"x.{suffix}")
    if suffix == "npy":
        np.save(file, values.numpy())
    elif suffix == "npz":
        np.savez(file, ids=values.numpy())
    elif suffix == "safetensors":
        save_file({"ids": values}, file)
    elif suffix == "json":
        file.write_text(json.dumps(values.tolist()))
    else:
        torch.save(values if suffix == "pt" else {"ids": values}, file)
    result = ArrayReader()(file)
    array = result["ids"] if isinstance(result, dict) else result
    assert isinstance(array, Tensor)
    assert (array.dtype, array.tolist()) == (torch.int64, values.reshape(read).tolist())


def test_arrays_keep_booleans_and_floats_and_have_names() -> None:
    np.savez("x.npz", mask=np.array([True, False]), small=np.ones(2, np.float16), ids=np.ones(2, np.uint16))
    arrays = ArrayReader()(Path("x.npz"))
    assert {name: array.dtype for name, array in arrays.items()} == {  # type: ignore[union-attr]
        "mask": torch.bool,
        "small": torch.float16,
        "ids": torch.int64,
    }
    assert torch.equal(ArrayReader("mask")(Path("x.npz")), torch.tensor([[True, False]]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, [2]]", "can't read x.json: TypeError"),
        ("no", "can't read x.json: JSONDecodeError"),
        ("[]", r"x.json holds an empty array \(0,\)"),
        ("{}", "x.json holds nothing"),
        ('["a"]', "can't read x.json: "),
    ],
)
def test_a_file_without_numbers_is_one_clear_line(text: str, message: str) -> None:
    Path("x.json").write_text(text)
    with pytest.raises(ImageError, match=message) as caught:
        ArrayReader()(Path("x.json"))
    assert "\n" not in str(caught.value)


def write_sound(path: str, samples: Any, width: int = 2, channels: int = 1) -> None:
    with wave.open(path, "wb") as file:
        file.setparams((channels, width, 8000, 0, "NONE", ""))
        file.writeframes(samples)


def test_sound_is_read_from_minus_1_to_1_in_every_width() -> None:
    for width, raw in ((1, bytes([0, 128, 192])), (2, np.array([-(2**15), 0, 2**14], "<i2").tobytes())):
        write_sound("x.wav", raw, width)
        assert WaveformReader()(Path("x.wav")).tolist() == [[-1.0, 0.0, 0.5]]
    write_sound("x.wav", bytes([0, 0, 0x80, 0, 0, 0, 0, 0, 0x40]), 3)
    assert WaveformReader()(Path("x.wav")).tolist() == [[-1.0, 0.0, 0.5]]
    write_sound("x.wav", np.array([-(2**31), 0, 2**30], "<i4").tobytes(), 4)
    assert WaveformReader()(Path("x.wav")).tolist() == [[-1.0, 0.0, 0.5]]


def test_sound_of_two_channels_is_averaged_or_kept() -> None:
    write_sound("x.wav", np.array([[0, 2**14], [2**14, 2**14]], "<i2").tobytes(), channels=2)
    assert WaveformReader()(Path("x.wav")).tolist() == [[0.25, 0.5]]
    assert WaveformReader(channels=True)(Path("x.wav")).tolist() == [[[0.0, 0.5], [0.5, 0.5]]]
    assert WaveformReader(rate=8000)(Path("x.wav")).shape == (1, 2)
    with pytest.raises(ImageError, match=r"x.wav has 8000 samples a second, not 16000; convert it first"):
        WaveformReader(rate=16000)(Path("x.wav"))
    write_sound("x.wav", b"")
    with pytest.raises(ImageError, match=r"x.wav has no samples"):
        WaveformReader()(Path("x.wav"))


def test_the_suffix_of_the_first_file_chooses_the_reader() -> None:
    assert default_reader("ids/*.npz") == default_reader([Path("a.JSON"), "b.png"]) == ArrayReader()
    assert default_reader(["x.wav"]) == WaveformReader()
    assert default_reader("x.png") == default_reader("folder") == default_reader(()) == ImageReader()


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_gives_several_inputs_by_name_and_integers_stay_integers(batch_size: int, dtype: torch.dtype) -> None:
    for number, length in enumerate((3, 3, 5)):
        np.savez(f"t{number}.npz", attention_mask=np.arange(length) > 0, input_ids=np.arange(length))
    report = extract(Text().to(dtype), "t*.npz", batch_size=batch_size)
    assert (report.images, report.failed) == (3, ())
    assert given("t1", "input").tolist() == [0, 1, 2]
    assert given("t2", "input.attention_mask").tolist() == [False, True, True, True, True]
    assert given("t1", "output[hidden]").shape == (3, 4)
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["check"].endswith("bit for bit")


def test_files_of_inputs_by_name_need_no_images() -> None:
    for number in range(2):
        np.save(f"ids{number}.npy", np.arange(3))
        np.savez(f"mask{number}.npz", attention_mask=np.array([1, 1, number]), more=np.ones(3))
    report = extract(Text(), inputs={"input_ids": "ids*.npy", "attention_mask": "mask*.npz"})
    assert report.images == 2
    assert given("ids0", "input.attention_mask").tolist() == [1, 1, 0]
    assert given("ids1", "output[counts]").tolist() == [1, 1, 1]


def test_values_without_a_file_are_given_to_every_batch() -> None:
    for number in range(3):
        np.save(f"ids{number}.npy", np.arange(3))
    model = Text()
    extract(model, "ids*.npy", inputs={"attention_mask": [[1, 0, 1]], "scale": 2.5}, batch_size=2)
    expected = model(torch.arange(3)[None], torch.tensor([[1, 0, 1]]), scale=2.5)["hidden"][0]
    assert np.array_equal(given("ids2", "output[hidden]"), expected.detach().numpy())
    assert json.loads(Path("out/manifest.json").read_text())["settings"]["inputs"] == {
        "attention_mask": [[1, 0, 1]],
        "scale": 2.5,
    }


class Steps(nn.Module):
    def forward(self, sample: Tensor, timestep: Tensor | int, *, more: bool) -> Tensor:
        time = timestep if isinstance(timestep, Tensor) else torch.tensor([timestep])
        return sample.mul(time.view(-1, 1, 1, 1)).add(1 if more else 0)


@pytest.mark.parametrize("timestep", [10, [10], "t.json"])
def test_a_timestep_is_a_number_or_an_array(timestep: Any) -> None:
    Path("t.json").write_text("10")
    for number in range(2):
        np.save(f"x{number}.npy", np.full((4, 2, 2), number))
    extract(Steps(), "x*.npy", reader="tensor", inputs={"timestep": timestep, "more": True}, batch_size=2)
    assert (given("x1", "output") == 11).all()


@pytest.mark.parametrize(
    ("files", "inputs", "error", "message"),
    [
        (["t.npz"], {"input_idz": "ids.npy"}, ModelError, "has no input 'input_idz'; .*; did you mean 'input_ids'"),
        (["both.npz"], {}, ImageError, "both.npz holds input_ids, tokens, and forward of Text has no input 'tokens'"),
        (["ids.npy"], {"attention_mask": "both.npz"}, ImageError, "name the one that is attention_mask: key=NAME"),
        (["ids.npy"], {"attention_mask": ["a", 3]}, ModelError, "attention_mask is neither files nor numbers: "),
        (["floats.npy"], {}, TraceError, r"does not run: .*; the model was given input_ids \(1, 3\)$"),
        ([], {"input_ids": "none.npy"}, ImageError, "there is no file none.npy"),
        ([], {}, ImageError, "no images were given"),
    ],
)
def test_inputs_that_do_not_fit_are_one_clear_line(
    files: Any, inputs: Any, error: type[Exception], message: str
) -> None:
    np.save("ids.npy", np.arange(3))
    np.save("floats.npy", np.ones(3))
    np.savez("t.npz", input_ids=np.arange(3))
    np.savez("both.npz", input_ids=np.arange(3), tokens=np.arange(3))
    with pytest.raises(error, match=message) as caught:
        extract(Text(), *files, inputs=inputs)
    assert "\n" not in str(caught.value)


class Options(nn.Module):
    def forward(self, **options: Tensor) -> Tensor:
        return options["a"].add(options["b"])


def test_a_model_of_any_names_takes_them_by_name() -> None:
    np.savez("x.npz", a=np.ones(3), b=np.ones(3))
    np.save("a.npy", np.ones(3))
    extract(Options(), "x.npz")
    assert given("x", "output").tolist() == [2, 2, 2]
    with pytest.raises(ModelError, match=r"^Options takes inputs of any name: give them by name, --input NAME=FILES"):
        extract(Options(), "a.npy")


def test_a_folder_of_other_files_says_what_reads_them() -> None:
    Path("in").mkdir()
    np.save("in/x.npy", np.arange(3))
    with pytest.raises(ImageError, match=r"folder in has no image in it; it holds x.npy; --reader NAME reads other"):
        extract(Text(), "in")
    assert extract(Text(), "in", reader="array").images == 1


def test_a_file_that_lacks_an_input_of_the_first_is_one_failure_among_others() -> None:
    np.savez("t.npz", input_ids=np.arange(3), attention_mask=np.ones(3))
    np.save("ids.npy", np.arange(3))
    report = extract(Text(), "t.npz", "ids.npy")
    assert report.images == 1
    (failure,) = report.failed
    assert failure.reason == "it gives input_ids, and the first file gave attention_mask, input_ids"


class Detector(nn.Module):
    """Takes a list of images of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> list[dict[str, Tensor]]:
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        batch = images[0].new_zeros(len(images), 3, height, width)
        for place, image in zip(batch, images, strict=True):
            place[:, : image.shape[1], : image.shape[2]].copy_(image)
        return [{"scores": each.flatten()[each.flatten() > 0]} for each in self.conv(batch)]


def test_a_list_of_images_of_different_sizes_is_one_batch() -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (4 + number, 6, 3), np.uint8)
        Image.fromarray(pixels).save(f"{number}.png")
    report = extract(Detector(), "*.png", batch_size=3)
    assert (report.images, report.failed) == (3, ())
    assert [given(str(number), "input").shape for number in range(3)] == [(3, 4 + number, 6) for number in range(3)]
    assert given("2", "conv").shape == (2, 6, 6)
    with Image.open("out/0/000-input.png") as image:
        assert image.mode == "RGB"


class Wide(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, None].transpose(1, 2)[..., None]


def test_a_sheet_shows_other_channels_where_an_image_has_too_few() -> None:
    np.save("a.npy", np.random.default_rng(0).normal(size=(3, 8, 8)))
    np.save("b.npy", np.random.default_rng(0).normal(size=(3, 2, 2)))
    report = extract(Wide(), "a.npy", "b.npy", reader=TensorReader(), layout=ChannelsFirst(), sinks=[Sheet()])
    assert report.images == 2


class Configured(nn.Module):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, pixel_values: Tensor) -> Tensor:
        return pixel_values.mul(2)


@pytest.mark.parametrize(
    ("config", "size"),
    [({"image_size": 6}, (6, 6)), ({"sample_size": [4, 6]}, (4, 6)), ({"image_size": None}, (8, 8))],
)
def test_images_have_the_size_of_the_models_configuration(config: Any, size: tuple[int, int]) -> None:
    Image.new("RGB", (8, 8)).save("x.png")
    extract(Configured(type("Config", (), config)()), "x.png")
    assert given("x", "input").shape == (3, *size)


class Captioned(nn.Module):
    def forward(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        return pixel_values.mul(input_ids.sum())


def test_size_is_for_the_images_among_the_inputs() -> None:
    Image.new("RGB", (8, 8), "white").save("x.png")
    np.save("ids.npy", np.arange(3))
    extract(Captioned(), "ids.npy", inputs={"pixel_values": "x.png"}, size=4)
    assert given("ids", "output").tolist() == np.full((3, 4, 4), 3.0).tolist()
    extract(Captioned(), "x.png", inputs={"input_ids": "ids.npy"}, size=4)
    assert given("x", "input").shape == (3, 4, 4)
    with pytest.raises(ImageError, match="size and side are options of the image reader"):
        extract(Text(), "ids.npy", size=4)


def test_the_command_line_takes_arrays_values_and_inputs_alone(run: Any) -> None:
    sys.modules["nets_of_kinds"] = type(sys)("nets_of_kinds")
    sys.modules["nets_of_kinds"].Text = Text  # type: ignore[attr-defined]
    np.savez("t.npz", input_ids=np.arange(3), attention_mask=np.ones(3, bool))
    np.save("ids.npy", np.arange(3))
    common = ("extract", "nets_of_kinds:Text", "--sink", "npz", "-o", "out", "--overwrite")
    assert run(*common, "t.npz").code == 0
    assert given("t", "input.attention_mask").all()
    for jobs in (1, 2):
        result = run(*common, "--input", "input_ids=ids.npy", "--input", "attention_mask=[[1,0,1]]", "--jobs", jobs)
        assert result.code == 0, result.err
        assert given("ids", "input.attention_mask" if jobs == 1 else "input").tolist()
    assert run(*common, "ids.npy", "--input", "scale=0.5").code == 0
    assert run(*common, "ids.npy", "--input", "scale=0.5", "--input", "scale=1").code == 2
    assert "the model was given input_ids (1, 3, 256, 256)" in run(*common).err

"""Image files of practice: more than 8 bits, palettes, AB pairs, and folders with other files in them."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.errors import ImageError
from surgery.inputs.image_loading import load_image
from surgery.inputs.image_reader import ImageReader
from surgery.inputs.image_search import find_images
from surgery.inputs.notes import collect_notes
from surgery.models.pix2pix.patchgan import PatchGAN
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from surgery.output import Notes, format_notes
from surgery.plugins.registry import Plugins

if TYPE_CHECKING:
    from numpy.typing import NDArray

IDS = np.arange(16).reshape(4, 4)


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(1)


def noted(*arguments: Any, **options: Any) -> tuple[Tensor, list[str]]:
    """Return an image, and the notes on it."""
    notes: Notes = {}
    with collect_notes(notes):
        return load_image(*arguments, **options), list(notes)


def write_png16(path: Path, values: NDArray[np.uint16]) -> Path:
    """Write a PNG with 16 bits per channel and 1 to 4 channels, as Pillow can't."""
    height, width, channels = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    return path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x.png", IDS.astype(np.uint16)),
        ("x.tiff", IDS.astype(np.uint16)),
        ("x.tiff", IDS.astype(np.int32)),
        ("x.tiff", (IDS / 255).astype(np.float32)),
        ("x.pgm", IDS.astype(np.uint8)),
    ],
)
def test_label_ids_are_the_same_in_8_bits_and_in_more(tmp_path: Path, name: str, values: Any) -> None:
    Image.fromarray(values).save(tmp_path / name)
    Image.fromarray(IDS.astype(np.uint8)).save(tmp_path / "8.png")
    deep, notes = noted(tmp_path / name)
    assert torch.allclose(deep, load_image(tmp_path / "8.png"), atol=1e-6)
    assert len(deep.unique()) == 16
    assert bool(notes) == (values.dtype in (np.uint16, np.int32))


@pytest.mark.parametrize(("most", "white"), [(255, 255), (900, 1023), (4032, 4095), (9000, 16383), (30000, 65535)])
def test_the_bit_depth_of_16_bit_images_is_detected_and_noted(tmp_path: Path, most: int, white: int) -> None:
    Image.fromarray(np.array([[0, most // 2, most]], np.uint16)).save(tmp_path / "x.png")
    read, notes = noted(tmp_path / "x.png", range=(0, 1))
    assert torch.allclose(read[0, 0, 0] * white, torch.tensor([0.0, most // 2, most]), atol=1e-2)
    assert [f"above {white}, so that is white" in note for note in notes] == ([True] if white < 65535 else [])
    exact, notes = noted(tmp_path / "x.png", range=(0, 1), white=65535)
    assert torch.allclose(exact[0, 0, 0] * 65535, torch.tensor([0.0, most // 2, most]), atol=1e-2)
    assert not notes


def test_a_guess_is_a_warning_in_python(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "x.png")
    with pytest.warns(UserWarning, match=r"x.png: no 16-bit value is above 255, so that is white"):
        load_image(tmp_path / "x.png")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("most", [15, 4000, 65535])
def test_all_16_bits_of_colors_are_read(tmp_path: Path, channels: int, most: int) -> None:
    values = np.random.default_rng(0).integers(0, most, (5, 7, channels), np.uint16)
    values[0, 0] = most
    if channels == 4:
        values[..., 3] = 65535
    write_png16(tmp_path / "x.png", values)
    read, _ = noted(tmp_path / "x.png", range=(0, 1), white=65535)
    expected = np.broadcast_to(values[..., :3], (5, 7, 3)) / 65535
    assert np.allclose(read[0].permute(1, 2, 0), expected, atol=1e-6)
    gray, _ = noted(tmp_path / "x.png", range=(0, 1), white=65535, channels=1)
    assert np.allclose(gray[0, 0], expected @ [0.299, 0.587, 0.114], atol=1e-6)


def test_transparent_colors_of_16_bits_are_composited_over_white(tmp_path: Path) -> None:
    write_png16(tmp_path / "x.png", np.array([[[0, 300, 65535, 0], [0, 300, 65535, 65535]]], np.uint16))
    read, notes = noted(tmp_path / "x.png", range=(0, 65535), white=65535)
    assert read[0, :, 0, 0].tolist() == [65535] * 3
    assert torch.allclose(read[0, :, 0, 1], torch.tensor([0.0, 300.0, 65535.0]), atol=0.01)
    assert notes == ["transparent pixels are laid over white"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_colors_of_16_bits_are_rotated_like_those_of_8(tmp_path: Path, orientation: int) -> None:
    from surgery.inputs.deep_color import apply_orientation

    image = Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "x.png", exif=exif)
    read, notes = noted(tmp_path / "x.png", range=(0, 255))
    with Image.open(tmp_path / "x.png") as again:
        turned = apply_orientation(again, np.asarray(again))
    assert np.allclose(read[0].permute(1, 2, 0), turned, atol=1e-4)
    assert notes == (["rotated as its EXIF orientation says"] if orientation > 1 else [])


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-1000, 3071]], np.int32),
        np.array([[0, 100_000]], np.int32),
        np.array([[-1, 1]], np.float32),
        np.array([[0, 9000]], np.float32),
    ],
)
def test_values_of_unknown_black_and_white_are_refused(tmp_path: Path, values: Any) -> None:
    low, high = values.min(), values.max()
    Image.fromarray(values).save(tmp_path / "x.tiff")
    with pytest.raises(ImageError, match=rf"--reader image:black={low:g},white={high:g} \(black="):
        load_image(tmp_path / "x.tiff")
    read = load_image(tmp_path / "x.tiff", black=float(low), white=float(high))
    assert read[0, 0, 0].tolist() == [-1, 1]


def test_floats_are_read_and_values_that_are_not_finite_are_noted(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 51, 255]], np.float32)).save(tmp_path / "a.tiff")
    read, notes = noted(tmp_path / "a.tiff", range=(0, 1))
    assert torch.allclose(read[0, 0, 0], torch.tensor([0, 0.2, 1]))
    assert ["there are floats above 1, so 255 is white" in note for note in notes] == [True]
    Image.fromarray(np.array([[np.nan, 0.5, np.inf, -np.inf]], np.float32)).save(tmp_path / "b.tiff")
    read, notes = noted(tmp_path / "b.tiff", range=(0, 1))
    assert read[0, 0, 0].tolist() == [0, 0.5, 1, 0]
    assert ["NaN is read as black" in note for note in notes] == [True]


def test_values_beyond_black_and_white_are_clipped_and_noted(tmp_path: Path) -> None:
    Image.fromarray(np.array([[5, 100, 200]], np.uint8)).save(tmp_path / "x.png")
    read, notes = noted(tmp_path / "x.png", black=50, white=150)
    assert read[0, 0, 0].tolist() == [-1, 0, 1]
    assert notes == ["values below 50 are black, and values above 150 white"]
    with pytest.raises(ImageError, match="black is less than white, not 5 and 5"):
        load_image(tmp_path / "x.png", black=5, white=5)
    with pytest.raises(ImageError, match="black is less than white"):
        Plugins().resolve("reader", "image:black=9,white=1")


def test_the_indices_of_a_palette_are_read_on_request(tmp_path: Path) -> None:
    image = Image.fromarray(IDS.astype(np.uint8)).convert("P")
    image.putdata(list(range(16)))
    image.putpalette(bytes(np.random.default_rng(0).integers(0, 256, 768, np.uint8)))
    image.save(tmp_path / "x.png")
    indices, notes = noted(tmp_path / "x.png", channels=1, range=(0, 255), indices=True)
    assert np.allclose(indices[0, 0], IDS)
    assert not notes
    colors, notes = noted(tmp_path / "x.png", channels=1)
    with Image.open(tmp_path / "x.png") as again:
        assert np.allclose(colors[0, 0], np.asarray(again.convert("L")) / 127.5 - 1, atol=1e-6)
    assert ["--reader image:indices=yes" in note for note in notes] == [True]
    assert noted(tmp_path / "x.png")[1] == []  # colors are what a network of 3 channels takes
    assert Plugins().resolve("reader", "image:indices=yes") == ImageReader(indices=True)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_an_ordinary_image_needs_no_note(tmp_path: Path, mode: str) -> None:
    Image.fromarray((IDS * 17).astype(np.uint8)).convert(mode).save(tmp_path / "x.png")
    assert noted(tmp_path / "x.png")[1] == []
    assert noted(tmp_path / "x.png", channels=1)[1] == []


@pytest.mark.parametrize(
    ("name", "image", "said"),
    [
        ("x.png", Image.new("RGBA", (2, 2), (0, 0, 0, 1)), "transparent pixels are laid over white"),
        ("x.tiff", Image.new("CMYK", (2, 2)), "CMYK colors are converted to RGB"),
        ("x.tiff", Image.new("LAB", (2, 2), (255, 128, 128)), "LAB colors are converted to RGB"),
    ],
)
def test_each_conversion_is_noted(tmp_path: Path, name: str, image: Image.Image, said: str) -> None:
    image.save(tmp_path / name)
    read, notes = noted(tmp_path / name)
    assert read.min() > 0.95  # all of them are white
    assert [said in note for note in notes] == [True]


def test_the_first_of_several_images_in_a_file_is_read_and_noted(tmp_path: Path) -> None:
    frames = [Image.new("L", (2, 2), color) for color in (0, 255)]
    for name in ("x.tiff", "x.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        read, notes = noted(tmp_path / name)
        assert read.max() == -1
        assert notes == ["the file holds several images; the first is read"]


def test_an_opaque_image_with_an_alpha_channel_needs_no_note(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (1, 2, 3, 255)).save(tmp_path / "x.png")
    assert noted(tmp_path / "x.png")[1] == []


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """An AB pair of 8x8 halves: black on the left, white on the right."""
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (8, 0, 16, 8))
    image.save(tmp_path / "pair.png")
    return tmp_path / "pair.png"


def test_a_pair_resized_to_a_square_is_noted_and_other_images_are_not(pair: Path, tmp_path: Path) -> None:
    _, notes = noted(pair, size=8)
    assert ["resized to 8x8: it looks like an AB pair; --side left or --side right" in n for n in notes] == [True]
    for options in (
        {},
        {"size": "native"},
        {"size": (8, 16)},
        {"size": 8, "side": "left"},
        {"size": 8, "side": "both"},
    ):
        assert noted(pair, channels=6 if options.get("side") == "both" else 3, **options)[1] == []
    Image.new("RGB", (12, 8)).save(tmp_path / "wide.png")
    assert noted(tmp_path / "wide.png", size=8)[1] == []
    with pytest.warns(UserWarning, match="looks like an AB pair"):
        load_image(pair, size=8)


@pytest.mark.parametrize(("side", "halves"), [("both", (-1, 1)), ("left,right", (-1, 1)), ("right,left", (1, -1))])
@pytest.mark.parametrize("channels", [6, 2])
def test_both_halves_are_channels_in_the_requested_order(
    pair: Path, side: Any, halves: tuple[int, int], channels: int
) -> None:
    values = load_image(pair, side=side, channels=channels, size=(4, 6))
    assert values.shape == (1, channels, 4, 6)
    assert values[0, : channels // 2].unique().tolist() == [halves[0]]
    assert values[0, channels // 2 :].unique().tolist() == [halves[1]]


def test_impossible_halves_are_one_clear_line(pair: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ImageError, match=r"--side both \(side='both'\) gives 6 channels, or 2 in gray, and the model takes 4"
    ):
        load_image(pair, side="both", channels=4)
    with pytest.raises(
        ImageError, match=r"the model takes 6; --side both \(side='both'\) gives it both halves of an AB pair"
    ):
        load_image(pair, channels=6)
    with pytest.raises(ImageError, match="side is left, right or none, or both, left,right or right,left; not 'top'"):
        load_image(pair, side="top")  # type: ignore[arg-type]
    Image.new("L", (1, 3)).save(tmp_path / "thin.png")
    with pytest.raises(ImageError, match="is 1 pixel wide and has no left and no right half"):
        load_image(tmp_path / "thin.png", side="both", channels=6)


def test_a_discriminator_gets_both_halves_in_the_order_of_the_public_code(run: Any, tmp_path: Path) -> None:
    network = PatchGAN(in_channels=6, width=4)
    torch.save(to_public(network), "net_D.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    Image.fromarray(pixels).save("pair.png")
    a, b = (torch.from_numpy(half.copy()).permute(2, 0, 1) / 127.5 - 1 for half in (pixels[:, :64], pixels[:, 64:]))
    for side, expected in {"both": (a, b), "right,left": (b, a)}.items():
        options = ("--at", "score", "--sink", "npz", "--sink", "png", "--size", "64", "--overwrite")[:-1]
        result = run("extract", "net_D.pth", "pair.png", "--side", side, *options, "-o", side)
        assert (result.code, result.err) == (0, "")
        given = np.load(f"{side}/pair/activations.npz")["input"]
        assert np.allclose(given, torch.cat(expected), atol=1e-5)
        with Image.open(f"{side}/pair/000-input.png") as shown:  # both halves, side by side
            halves = [pixels[:, :64], pixels[:, 64:]]
            assert np.array_equal(np.asarray(shown), np.concatenate(halves if side == "both" else halves[::-1], 1))
        assert json.loads(Path(side, "manifest.json").read_text())["settings"]["side"] == side
    refused = run("extract", "net_D.pth", "pair.png", "--at", "score", "--size", "64")
    assert "the model takes 6; --side both gives it both halves of an AB pair" in refused.err


def test_a_run_and_its_manifest_report_each_note_once(run: Any, tmp_path: Path) -> None:
    torch.save(to_public(UNet(5, width=2)), "g.pth")
    for number in range(3):
        Image.new("RGB", (128, 64)).save(f"{number}.png")
    for jobs in (1, 2):
        result = run(
            "extract", "g.pth", "0.png", "1.png", "2.png", "--at", "op:cat", "--size", "64", "--jobs", jobs, "-o", jobs
        )
        text = "0.png and 2 more: twice as wide as high, and resized to 64x64: it looks like an AB pair; "
        text += "--side left or --side right takes one half"
        assert (result.code, result.err) == (0, f"surgery: note: {text}\n")
        assert json.loads(Path(str(jobs), "manifest.json").read_text())["notes"] == [f"{text} (side= in Python)"]
        assert (
            run("extract", "g.pth", "0.png", "--side", "left", "--at", "op:cat", "--size", "64", "-o", f"{jobs}l").err
            == ""
        )


def test_a_reader_of_images_takes_its_options_in_a_run(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 9], [12, 15]], np.uint16)).save(tmp_path / "x.png")
    report = surgery.extract(
        Same(), tmp_path / "x.png", out=tmp_path / "out", sinks=[Npz()], reader=ImageReader(white=15), range=(0, 15)
    )
    assert np.allclose(np.load(tmp_path / "out/x/activations.npz")["input"][0], [[0, 9], [12, 15]])
    assert report.notes == ()
    settings = json.loads((tmp_path / "out/manifest.json").read_text())["settings"]
    assert settings["reader"] == repr(ImageReader(white=15))


SIDECARS = ("._a.png", ".DS_Store", ".hidden.jpg", "Thumbs.db", "a.pdf", "b.h5", "c.grib", "d.eps", "notes.txt", "none")


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A folder with one image, and with other files as they are found beside images."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    for name in SIDECARS:
        (folder / name).write_bytes(b"no image")
    (folder / "more").mkdir()
    return folder


def test_files_that_are_not_images_are_skipped_in_a_folder_and_counted(crowded: Path) -> None:
    for given in (crowded, f"{crowded}/*", f"{crowded}/*.*"):
        notes: Notes = {}
        with collect_notes(notes):
            assert [path.name for path in find_images(given)] == ["a.png"]
        (line,) = format_notes(notes)
        assert "other files are left out: " in line
        assert f"{len(SIDECARS)} other" in line or given != crowded  # patterns pass hidden files by
    assert [path.name for path in find_images(f"{crowded}/*.pdf")] == ["a.pdf"]  # asked for by name
    assert [path.name for path in find_images(crowded / "._a.png")] == ["._a.png"]


def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path) -> None:
    for name in ("a" * 300, f"{tmp_path}/{'a' * 300}.png", "b/" * 3000, "a" * 300 + "*"):
        with pytest.raises(ImageError) as caught:
            find_images(name)
        assert "\n" not in str(caught.value)


def test_a_run_over_a_folder_does_not_fail_because_of_other_files(run: Any, crowded: Path) -> None:
    result = run("extract", "torchvision/squeezenet1_1", crowded, "--at", "features.0", "--size", "64", "--sink", "png")
    assert result.code == 0, result.err
    note = f"note: {crowded}: {len(SIDECARS)} other files are left out: .DS_Store, ._a.png, .hidden.jpg and"
    assert result.err.count(note) == 1
    named = run(
        "extract", "facades", crowded / "a.png", crowded / "a.pdf", "--at", "op:cat", "-o", "x", "--sink", "png"
    )
    assert named.code == 1
    assert "a.pdf is not an image that can be read" in named.err


def test_the_error_for_a_folder_without_images_lists_its_files(crowded: Path) -> None:
    (crowded / "a.png").unlink()
    with pytest.raises(
        ImageError, match=r"images has no image in it; it holds .DS_Store, ._a.png, .hidden.jpg and 7 more"
    ):
        find_images(crowded)
    with pytest.raises(
        ImageError, match=r"no file matches .*; it matches Thumbs.db, a.pdf, b.h5 and \d more, and no image"
    ):
        find_images(f"{crowded}/*")


def test_hidden_files_are_not_read_as_tensors(crowded: Path) -> None:
    np.save(crowded / "x.npy", np.ones((3, 4, 4)))
    (crowded / "._x.npy").write_bytes(b"no")
    report = surgery.extract(
        Same(), crowded, out=crowded / "out", sinks=[Png()], reader=Plugins().resolve("reader", "tensor")
    )
    assert (report.images, report.failed) == (1, ())
    assert [f"{len(SIDECARS) + 2} other files are left out" in note for note in report.notes] == [True]

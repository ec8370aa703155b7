"""How models are named, and where their weights come from."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.errors import CheckpointError, ModelError
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from surgery.models.provenance import get_provenance
from surgery.models.random_weights import track_random_weights
from surgery.plugins.registry import Plugins

NET = """
from pathlib import Path
import torch
from torch import nn
from neighbor import WIDTH

def make():
    return nn.Sequential(nn.Conv2d(3, WIDTH, 1))

def half():
    return make().half()

def loaded():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1))
    model[0].load_state_dict({"weight": torch.arange(6.0).reshape(2, 3, 1, 1), "bias": torch.zeros(2)})
    return model

def needy(argument):
    return make()

instance = make()
text = "text"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("own_net", "neighbor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "neighbor.py").write_text("WIDTH = 4")
    (tmp_path / "exp").mkdir()
    torch.save(to_public(UNet(5, width=1)), tmp_path / "exp" / "latest_net_G.pth")
    Image.new("RGB", (32, 32)).save(tmp_path / "p.png")
    return tmp_path


@pytest.mark.parametrize("source", ["own_net.py:make", "./own_net.py:make", "own_net:make", "own_net.py:instance"])
def test_a_callable_in_a_file_makes_the_model(source: str, folder: Path) -> None:
    model: Any = surgery.load_model(source)
    assert model[0].out_channels == 4
    assert type(surgery.load_model(folder / "own_net.py:make")) is type(model)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "the name of the model is empty; is a variable of the shell not set?"),
        ("  ", "the name of the model is empty"),
        ("exp", "exp is a folder; name one of the weights files in it, such as exp/latest_net_G.pth"),
        ("exp/latest_net_G", "there is no file exp/latest_net_G; did you mean exp/latest_net_G.pth?"),
        ("exp\\latest_net_G.pth", "did you mean exp/latest_net_G.pth?"),
        ("exp/latst_net_G.pth", "did you mean 'latest_net_G.pth'?"),
        ("nowhere/net.pth", "there is no folder nowhere"),
        ("~/surely/not/here.pth", "there is no file ~/surely/not/here.pth"),
        ("own_net.py", "name the callable in it that returns the model: own_net.py:NAME; it has make, half, loaded"),
        ("gone.py", "there is no file gone.py"),
        ("gone.py:make", "there is no file gone.py"),
        ("own_net.py:mkae", "has no 'mkae'; did you mean 'make'?"),
        *(
            (
                f"{place}:make{options}",
                f"{place.removeprefix('./')}:make is called without arguments, and takes no options; write a function",
            )
            for place in ("own_net.py", "./own_net.py", "own_net")
            for options in (":width=1", ":weights=b.npz", "(width=1)", ",width=1")
        ),
        ("own_net.py:make:weights=a/b.pth", "own_net.py:make is called without arguments"),
        *((f"own_net.py{end}", "write own_net.py:make, which is called") for end in ("::make", ":make:", ":make()")),
        *((f"own_net.py{end}", "names no callable; write own_net.py:make") for end in (":", "::", ":width=1")),
        ("own_net.py:half make", "'half make' is not the name of a callable; write own_net.py:make"),
        ("own_net:", "names no callable; write own_net:NAME"),
        (":make", "names no module; write package"),
        ("own_net.py:needy", "can't be built: TypeError"),
        ("own_net.py:text", "returned str, and a model is a torch.nn.Module"),
        ("p.png", "p.png is an image, and the model comes first: facades p.png"),
        ("gone.JPG", "gone.JPG is an image, and the model comes first"),
        ("https://x.org/net.pth", "is an address; nothing is downloaded"),
        ("resnet18", "did you mean 'torchvision/resnet18'?"),
        ("ResNet18", "did you mean 'torchvision/resnet18'?"),
        ("Facades", "did you mean 'facades'?"),
        ("TorchVision/resnet18", "did you mean 'torchvision/resnet18'?"),
        ("unet256", "did you mean 'unet_256'?"),
        ("x" * 5000, "no model is called"),
        ("a\0b", "no model is called"),
    ],
)
def test_a_source_that_is_not_a_model_is_explained_in_one_line(source: str, said: str, folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        surgery.load_model(source, plugins=Plugins(bare=True))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_home_folder_is_known_and_an_empty_image_is_not_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    assert isinstance(surgery.load_model("~/exp/latest_net_G.pth"), UNet)
    with pytest.raises(surgery.SurgeryError, match="the name of an image is empty"):
        surgery.extract(surgery.load_model("own_net.py:make"), [""])
    for odd in (None, 5, nn.ReLU()):
        with pytest.raises(ModelError):
            surgery.load_model(odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["torchvision/resnet18", "unet_128", "own_net.py:make", "own_net:make"])
def test_random_weights_are_the_same_every_time_and_leave_the_generators_alone(source: str, folder: Path) -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    one, two, other = (surgery.load_model(source, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002
    pairs = list(zip(one.parameters(), two.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_an_untrained_model_says_so_everywhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from surgery.builtin.sinks.page_canvas import PageCanvas
    from surgery.builtin.sinks.sheet_page import SheetPage
    from surgery.cli import app as cli

    titles: list[list[str]] = []
    draw = SheetPage.draw

    def record_and_draw(page: SheetPage) -> PageCanvas:
        titles.append(page.title)
        return draw(page)

    monkeypatch.setattr(SheetPage, "draw", record_and_draw)
    monkeypatch.setattr(sys, "argv", ["surgery", "extract", "own_net.py:make", "p.png", "-o", "out"])
    with pytest.raises(SystemExit):
        cli.main()
    assert (
        "note: own_net.py:make is untrained: its weights are random (seed 0), none were loaded"
        in capsys.readouterr().err
    )
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["model"]["weights"] == "random, seed 0"
    assert all("random weights" in title[0] for title in titles)
    assert titles
    with Image.open(next(Path("out/p").glob("001*.png"))) as picture:
        picture.load()
        assert "random, seed 0" in str(picture.info)


def test_a_model_that_is_loaded_in_part_names_what_is_random(folder: Path) -> None:
    model = surgery.load_model("own_net.py:loaded")
    assert get_provenance(model).notes(model, "own") == [
        "2 of 4 parameters of own are random (seed 0), and were not loaded: 1.weight, 1.bias"
    ]
    report = surgery.extract(model, "p.png", out="out", sinks=[], source="own")
    assert "2 of 4 parameters of own are random" in report.notes[0]
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert get_provenance(model).notes(model, "own") == []


def test_weights_that_were_loaded_are_not_random(folder: Path) -> None:
    model = surgery.load_model("exp/latest_net_G.pth")
    assert get_provenance(model).describe_weights(model) == "latest_net_G.pth"
    assert get_provenance(model).notes(model, "x") == []
    model = surgery.load_model("own_net.py:make").half()
    assert get_provenance(model).describe_weights(model) == "random, seed 0"
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    assert get_provenance(model).describe_weights(model) is None


def pieces() -> nn.Module:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        for row in layer.weight:
            row.copy_(torch.ones(4))
        layer.bias.zero_()
    return layer


def assigned() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.load_state_dict({"weight": torch.eye(4), "bias": torch.ones(4)}, assign=True)
    return layer.double()


def computed() -> nn.Module:
    model = nn.Module()
    model.a = nn.Parameter(torch.randn(3, 3) * 2 + 1)
    model.b = nn.Parameter(torch.nn.init.orthogonal_(torch.empty(3, 3)))
    model.c = nn.Parameter(torch.ones(3, 3))
    model.d = nn.Parameter(torch.nn.init.trunc_normal_(torch.empty(3, 3)).half())
    return model


@pytest.mark.parametrize(("factory", "random_ones"), [(pieces, set()), (assigned, set()), (computed, {"a", "b", "d"})])
def test_the_last_write_decides_whether_a_parameter_is_random(factory: Any, random_ones: set[str]) -> None:
    with track_random_weights(0) as tracker:
        model = factory()
    assert set(tracker.sample_random_parameters(model)) == random_ones


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


def test_trained_weights_of_torchvision_are_read_from_the_disk_only(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"not on this disk, and nothing is downloaded; put https://.*squeezenet1_1-b8"
    ):
        surgery.load_model("torchvision/squeezenet1_1:weights=DEFAULT")
    untrained = surgery.load_model("torchvision/squeezenet1_1", seed=3)
    assert ":weights=DEFAULT has trained ones, once https://" in get_provenance(untrained).notes(untrained, "x")[0]
    file = cache / "squeezenet1_1-b8a52dc0.pth"
    torch.save(untrained.state_dict(), file)
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(file.read_bytes())
    for source in (
        "torchvision/squeezenet1_1:weights=default",
        f"torchvision/squeezenet1_1:weights={copy}",
        copy,
        file,
    ):
        model = surgery.load_model(source)
        pairs = zip(model.parameters(), untrained.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        assert get_provenance(model).notes(model, "x") == []
        assert model.preprocessing is not None
    again = surgery.load_model("torchvision/squeezenet1_1")
    assert (
        "weights=IMAGENET1K_V1 has trained ones, which are on this disk" in get_provenance(again).notes(again, "x")[0]
    )


def test_a_file_of_torchvision_that_is_a_program_is_not_run(cache: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"features.0.weight": Trap()}, cache / "squeezenet1_1-b8a52dc0.pth")
    with pytest.raises(CheckpointError, match="is a pickled program object"):
        surgery.load_model("torchvision/squeezenet1_1:weights=DEFAULT")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("weights=IMAGENET", "has no weights 'IMAGENET'; there are IMAGENET1K_V1, DEFAULT, or name a file"),
        ("weight=DEFAULT", "takes one option, weights=NAME or weights=FILE"),
        ("weights=gone.pth", "there is no file gone.pth"),
        ("weights=", "takes one option"),
    ],
)
def test_wrong_options_of_torchvision_are_one_clear_line(option: str, said: str, cache: Path) -> None:
    with pytest.raises(ModelError) as caught:
        surgery.load_model(f"torchvision/squeezenet1_1:{option}")
    assert said in str(caught.value)


def test_weights_that_do_not_fit_a_model_of_torchvision_are_one_clear_line(cache: Path, tmp_path: Path) -> None:
    state = surgery.load_model("torchvision/squeezenet1_1").state_dict()
    state["extra"] = state.pop("features.0.weight")
    state["features.0.bias"] = state["features.0.bias"][:9]
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(ModelError) as caught:
        surgery.load_model(f"torchvision/squeezenet1_1:weights={tmp_path / 'net.pth'}")
    assert str(caught.value).endswith(
        "net.pth does not fit torchvision/squeezenet1_1: 50 of 52 keys fit; missing features.0.weight; "
        "unexpected extra; features.0.bias is (9,), not (64,)"
    )


@pytest.mark.parametrize("name", ["mnasnet0_5", "lraspp_mobilenet_v3_large", "googlenet", "densenet121"])
@pytest.mark.parametrize("classes", [None, 7])
def test_weights_under_the_keys_of_torchvision_are_recognized(
    name: str, classes: int | None, cache: Path, tmp_path: Path
) -> None:
    from surgery.builtin.torchvision.builders import construct_model

    torch.manual_seed(0)
    built = construct_model(name, **({"num_classes": classes} if classes else {}))
    state = built.state_dict()
    if name == "densenet121":
        state = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "best.pth")
    model = surgery.load_model(tmp_path / "best.pth")
    assert type(model) is type(built)
    found = model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in built.state_dict().items() if key in found)
    assert get_provenance(model).describe_weights(model) == f"network state_dict of best.pth, as torchvision/{name}"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_gets_input_of_that_precision(dtype: torch.dtype, folder: Path) -> None:
    pictures = []
    for kind in (torch.float32, dtype):
        model = surgery.load_model("exp/latest_net_G.pth").to(kind)
        report = surgery.extract(model, "p.png", at="down1.conv", out=f"out-{kind}", check=True)
        assert not report.failed
        recorded = json.loads((report.folder / "manifest.json").read_text())["images"][0]["activations"]
        assert {each["dtype"] for each in recorded} == {str(kind).removeprefix("torch.")}
        with Image.open(next(report.folder.glob("p/001*.png"))) as picture:
            pictures.append(np.asarray(picture.convert("RGB"), float))
    assert np.abs(pictures[0] - pictures[1]).mean() < 3


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 2**64},
        {"seed": -(2**63) - 1},
        {"seed": 1.5},
        {"device": "meta"},
        {"device": "nonsense"},
        {"device": ""},
    ],
)
def test_settings_that_torch_refuses_are_one_line(settings: dict[str, Any], folder: Path) -> None:
    with pytest.raises(ModelError) as caught:
        surgery.extract(surgery.load_model("own_net.py:make"), "p.png", out="out", **settings)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("settings", [{"seed": -5}, {"seed": 2**64 - 1}, {"batch_size": 2**31 - 1}, {"jobs": 10**9}])
def test_large_settings_are_accepted(settings: dict[str, Any], folder: Path) -> None:
    from surgery.builtin.sinks.png import Png

    report = surgery.extract(surgery.load_model("own_net.py:make"), "p.png", out="out", sinks=[Png()], **settings)
    assert report.images == 1

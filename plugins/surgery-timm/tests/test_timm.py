from __future__ import annotations

import json
import re
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from surgery_timm import models, surgery_models
from surgery_timm.models import build, names, parse
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor

import surgery
from surgery.data import inputs
from surgery.errors import ModelError
from surgery.testing import check_model

HERE = Path(__file__).parent.parent
PHOTO = inputs()[0]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make sure that no test downloads anything."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 220, 3), np.uint8)).save(file)
    return file


def test_it_keeps_the_contract() -> None:
    check_model(surgery_models()["timm"])


def test_every_model_of_timm_has_a_name() -> None:
    assert set(timm.list_models()) < set(names())
    assert names()[0] == "resnet18:pretrained=false"


def test_what_stands_behind_a_colon_goes_to_timm() -> None:
    assert parse("resnet18") == ("resnet18", {})
    assert parse("hf-hub:timm/resnet18.a1_in1k") == ("hf-hub:timm/resnet18.a1_in1k", {})
    assert parse("hf-hub:a/b:pretrained=false") == ("hf-hub:a/b", {"pretrained": False})
    assert parse("a: x=1, y=2.5,z=gelu,w=none") == ("a", {"x": 1, "y": 2.5, "z": "gelu", "w": None})
    with pytest.raises(ModelError, match="options of timm/a are written name=value, not 'y'"):
        parse("a:x=1,y")
    model: Any = build("test_resnet:pretrained=false,num_classes=7")
    assert model.fc.out_features == 7


def test_weights_that_can_not_be_had_are_one_line_that_says_what_to_do() -> None:
    with pytest.raises(ModelError) as raised:
        surgery.load_model("timm/test_resnet")
    assert str(raised.value) == (
        "the weights of timm/test_resnet can't be loaded: the hub can't be reached, and they are not in its cache on "
        "this disk; timm/test_resnet:pretrained=false has random ones"
    )
    with pytest.raises(ModelError, match=r"No pretrained weights exist.*; timm/resnet51q:pretrained=false|resnet51q"):
        surgery.load_model("timm/resnet51q")


def test_weights_in_the_cache_are_used_without_a_network(tmp_path: Path) -> None:
    trained = timm.create_model("test_resnet")
    place = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    save_file(trained.state_dict(), place / "snapshots" / "abc" / "model.safetensors")
    for name in ("timm/test_resnet", "timm/test_resnet.r160_in1k"):
        model = surgery.load_model(name)
        assert model.weights_from == "timm, test_resnet.r160_in1k"
        assert surgery.extract(model, PHOTO, at="conv1*", out=tmp_path / f"out-{name[-4:]}", sinks=[]).notes == ()
        loaded = model.state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())


def test_a_model_without_its_trained_weights_says_so(tmp_path: Path) -> None:
    for name, said in (
        ("test_resnet:pretrained=false", "test_resnet:pretrained=false is untrained: its weights are random (seed 0)"),
        (
            "test_efficientnet:pretrained=false,num_classes=3",
            "timm/test_efficientnet without pretrained=false has trained ones",
        ),
    ):
        model = surgery.load_model(f"timm/{name}")
        report = surgery.extract(model, PHOTO, at="*", out=tmp_path / name[:9], sinks=[], source=f"timm/{name}")
        assert said in report.notes[0]
        assert json.loads((report.folder / "manifest.json").read_text())["model"]["weights"] == "random, seed 0"


def test_a_new_head_on_trained_weights_is_said_to_be_random(tmp_path: Path) -> None:
    place = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    save_file(timm.create_model("test_resnet").state_dict(), place / "snapshots" / "abc" / "model.safetensors")
    report = surgery.extract(surgery.load_model("timm/test_resnet:num_classes=3"), PHOTO, out=tmp_path / "o", sinks=[])
    assert len(report.notes) == 1
    assert "were not loaded: fc.weight" in report.notes[0]


@pytest.mark.xdist_group("timing")
def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setattr(models, "getproxies", dict)
    started = time.monotonic()
    with pytest.raises(ModelError, match="the hub can't be reached"):
        build("test_resnet")
    assert time.monotonic() - started < 2 * models.TIMEOUT
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(models, "getproxies", lambda: {"https": "proxy"})
    assert models.is_reachable("https://127.0.0.1:9")


def test_names_that_timm_has_not_are_refused() -> None:
    with pytest.raises(ModelError, match=r"timm has no model 'resnt18'; did you mean 'resnet18'"):
        build("resnt18")
    with pytest.raises(ModelError, match=r"timm has no weights 'test_vit.in1k'; there are test_vit.r160_in1k"):
        build("test_vit.in1k")
    with pytest.raises(ModelError, match=r"can't be built: TypeError: .*'colour'"):
        surgery.load_model("timm/resnet18:pretrained=false,colour=1")


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_100", "test_vit", "test_vit:img_size=96"])
def test_an_image_is_prepared_as_timm_prepares_it(name: str, photo: Path) -> None:
    _, options = parse(name)
    model: Any = build(f"{name}{',' if options else ':'}pretrained=false")
    given = surgery.load_image(photo, preprocessing=model.preprocessing)[0]
    config = resolve_model_data_config(model, options)
    with Image.open(photo) as image:
        wanted: Any = create_transform(**config, is_training=False)(image)
    assert given.shape == wanted.shape
    assert torch.allclose(given, wanted, atol=1e-5)


def test_a_model_of_one_channel_is_given_gray_and_one_of_five_no_image() -> None:
    one: Any = build("resnet18:pretrained=false,in_chans=1")
    assert one.preprocessing.mean == pytest.approx((0.449,))
    assert len(one.preprocessing.std) == 1
    assert not hasattr(build("test_resnet:pretrained=false,in_chans=5"), "preprocessing")


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet"])
def test_what_is_extracted_is_what_timm_computes(name: str, photo: Path) -> None:
    model: Any = surgery.load_model(f"timm/{name}:pretrained=false").eval()
    example = torch.randn(1, 3, *model.preprocessing.size, generator=torch.Generator().manual_seed(0))
    opened = surgery.insert(traced := surgery.trace(model, example), surgery.operations(traced))
    values: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, value, path=path: values.update({path: value.clone()}))
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    ]
    with torch.no_grad():
        truth = model(example)
        for hook in hooks:
            hook.remove()
        seen = {activation.path: activation.values for activation in surgery.record(opened, example)}
        assert torch.equal(opened(example), truth)
    assert len(values) > 3
    for path, value in values.items():
        assert torch.equal(seen[path], value), path


def test_the_python_of_the_readme_makes_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], {})  # type: ignore[index]  # noqa: S102
    with Image.open("timm/facade-1/005-layer1.0.conv1.png") as made, Image.open(HERE / "layer1.png") as shown:
        assert np.abs(np.asarray(made, float) - np.asarray(shown, float)).mean() < 1
    manifest = json.loads(Path("timm/manifest.json").read_text())
    assert manifest["settings"]["preprocessing"]["crop"] == 0.95
    assert manifest["images"][0]["size"] == [224, 224]


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> object:
    """Run the installed command `surgery` in a folder and return its exit code."""
    (surgery_command,) = entry_points(group="console_scripts", name="surgery")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surgery", *arguments])
    with pytest.raises(SystemExit) as ended:
        surgery_command.load()()
    return ended.value.code


def test_a_command_without_a_network_fails_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, tmp_path, "extract", "timm/resnet18") == 1
    said = capfd.readouterr().err
    assert said.startswith("surgery: the weights of timm/resnet18 can't be loaded: ")
    assert said.count("\n") == 1

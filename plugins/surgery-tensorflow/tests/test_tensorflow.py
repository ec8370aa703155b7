"""The networks of TensorFlow's files compute what TensorFlow computed for the same input."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from surgery_tensorflow import surgery_checkpoints
from surgery_tensorflow.networks import Block, UNet
from torch import Tensor, nn

import surgery
from surgery.errors import CheckpointError
from surgery.stages import LoadedNetwork
from surgery.testing import check_checkpoint

HERE = Path(__file__).parent
FILES = HERE / "files"
READER: Any = surgery_checkpoints()["tensorflow"]
GENERATORS = {
    "Keras 2, HDF5": "k2/g.h5",
    "Keras 2, weights": "k2/weights/g.index",
    "Keras 2, checkpoint": "k2/training_checkpoints/ckpt-1.index",
    "Keras 2, folder of checkpoints": "k2/training_checkpoints",
    "Keras 2, data of a checkpoint": "k2/training_checkpoints/ckpt-1.data-00000-of-00001",
    "Keras 2, SavedModel": "k2/saved_model",
    "Keras 3, archive": "k3/g.keras",
    "Keras 3, checkpoint": "k3/training_checkpoints",
    "Keras 3, export": "k3/export",
    "Keras 3, program of an export": "k3/export/saved_model.pb",
}
DISCRIMINATORS = {
    "Keras 2, HDF5": ("k2/d.h5", None),
    "Keras 2, checkpoint": ("k2/training_checkpoints", "discriminator"),
    "Keras 3, archive": ("k3/d.keras", None),
    "Keras 3, checkpoint": ("k3/training_checkpoints/ckpt-1.index", "Discriminator"),
}
AFFINELAYER = ["plain", "first", "lab_separable"]


def loaded(name: str, part: str | None = None) -> Any:
    """The network of a file, in eval mode."""
    found = READER(FILES / name, {}, part=part)
    assert isinstance(found, LoadedNetwork)
    return found.model.eval()


def reference(name: str) -> dict[str, Tensor]:
    """Values that TensorFlow computed, as ``(B, C, H, W)``."""
    with np.load(FILES / name) as file:
        return {key: torch.from_numpy(file[key]).permute(0, 3, 1, 2).float() for key in file.files}


def values(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Every value of a network, by the path of its operation."""
    opened = surgery.insert(traced := surgery.trace(network, x), surgery.operations(traced))
    return {activation.path: activation.values.clone() for activation in surgery.record(opened, x)}


def check_equal(found: Tensor, expected: Tensor, most: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max() / expected.abs().max()) < most


@pytest.mark.parametrize("name", GENERATORS.values(), ids=list(GENERATORS))
def test_the_tutorials_generator_computes_what_keras_computed(name: str) -> None:
    known = reference(f"{name[:2]}/ref.npz")
    with torch.no_grad():
        check_equal(loaded(name)(known["x"]), known["generator"])


@pytest.mark.parametrize(("name", "part"), DISCRIMINATORS.values(), ids=list(DISCRIMINATORS))
def test_the_tutorials_discriminator_computes_what_keras_computed(name: str, part: str | None) -> None:
    known = reference(f"{name[:2]}/ref.npz")
    with torch.no_grad():
        check_equal(loaded(name, part)(torch.cat([known["x"], known["t"]], 1)), known["discriminator"])


def test_the_variant_with_instance_norm_computes_what_keras_computed() -> None:
    network = loaded("k3/instance.weights.h5")
    with torch.no_grad():
        check_equal(network(reference("k3/ref.npz")["x"]), reference("k3/instance.npz")["generator"])


@pytest.mark.parametrize("name", AFFINELAYER)
def test_affinelayers_networks_compute_what_tensorflow_computed(name: str) -> None:
    known = reference(f"tf1/{name}/ref.npz")
    generator, discriminator = (loaded(f"tf1/{name}/model-200.index", part) for part in (None, "discriminator"))
    with torch.no_grad():
        check_equal(generator(known["x"]), known["generator"])
        # TensorFlow's own rounding where a channel of the first form has one value: it subtracts after multiplying.
        check_equal(generator(known["x"][:1]), known["alone"], 2e-4 if name == "first" else 1e-5)
        check_equal(discriminator(torch.cat([known["x"], known["t"]], 1)), known["discriminator"])


@pytest.mark.parametrize("name", AFFINELAYER)
def test_each_level_of_affinelayers_generator_has_the_values_of_tensorflow(name: str) -> None:
    known = reference(f"tf1/{name}/ref.npz")
    found = values(loaded(f"tf1/{name}/model-200.index"), known["x"])
    conv = "conv.pointwise" if "separable" in name else "conv"
    last = {"down1": f"down1.{conv}", "up1": "up1.tanh"}
    levels = [level for level in known if re.fullmatch(r"(down|up)\d", level)]
    assert len(levels) == 10
    for level in levels:
        check_equal(found[last.get(level, f"{level}.norm")], known[level])


def test_modules_have_the_names_of_pix2pix() -> None:
    tutorial, affinelayer = (
        [operation.path for operation in surgery.operations(surgery.trace(loaded(name)))]
        for name in ("k2/g.h5", "tf1/plain/model-200.index")
    )
    assert tutorial[:5] == ["down1.conv", "down1.act", "down2.conv", "down2.norm", "down2.act"]
    assert tutorial[14:19] == ["up5.deconv", "up5.norm", "up5.dropout", "up5.act", "up5.cat"]
    assert tutorial[-3:] == ["up2.cat", "up1.deconv", "up1.tanh"]
    assert affinelayer[:4] == ["down1.conv", "down2.act", "down2.conv", "down2.norm"]
    assert affinelayer[13:17] == ["up5.act", "up5.deconv", "up5.norm", "up5.dropout"]
    paths = [operation.path for operation in surgery.operations(surgery.trace(loaded("k2/d.h5")))]
    assert [paths[0], *paths[-4:]] == ["layer1.conv", "layer4.conv", "layer4.norm", "layer4.act", "score"]
    separable = [path for path, _ in loaded("tf1/lab_separable/model-200.index").named_modules()]
    assert {"down1.conv.depthwise", "up1.upsample", "up1.conv.pad", "up1.conv.pointwise"} <= set(separable)


def test_the_generator_is_preferred_and_the_part_names_the_other() -> None:
    found = READER(FILES / "k3/training_checkpoints", {})
    assert (found.part, found.others) == ("generator", ("discriminator",))
    found = READER(FILES / "tf1/plain/model-200.index", {}, part="discriminator")
    assert (found.part, found.others) == ("discriminator", ("generator",))
    with pytest.raises(CheckpointError, match=r"no network 'generater'; there is .*; did you mean 'generator'"):
        READER(FILES / "k2/training_checkpoints", {}, part="generater")
    with pytest.raises(CheckpointError, match=r"g.h5 holds a single network, which has no name; leave out part 'gen'"):
        READER(FILES / "k2/g.h5", {}, part="gen")


def test_affinelayers_statistics_are_those_of_the_batch_and_a_run_says_so(tmp_path: Path) -> None:
    network = loaded("tf1/plain/model-200.index")
    x = reference("tf1/plain/ref.npz")["x"]
    with torch.no_grad():
        together, alone = network(x)[:1], network(x[:1])
        assert not torch.allclose(together, alone, atol=1e-3)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    model = surgery.load_model(FILES / "tf1/plain/model-200.index", plugins=plugins())
    report = surgery.extract(model, tmp_path / "x.png", out=tmp_path / "out", size=32, sinks=[])
    assert any("its norms use the statistics of each batch, in eval mode too" in note for note in report.notes)


def plugins() -> Any:
    return import_module("surgery.plugins").Plugins([HERE.parent / "surgery_tensorflow"])


@pytest.mark.parametrize("name", ["k2/g.h5", "k3/instance.weights.h5", "tf1/plain/model-200.index"])
def test_one_value_in_a_channel_is_normalized_to_the_bias(name: str) -> None:
    network = loaded(name).train()
    with torch.no_grad():
        found = values(network, torch.zeros(1, 3, 32, 32))["down5.norm"]
    assert found.shape == (1, 16, 1, 1)
    assert torch.equal(found[0, :, 0, 0], network.down5.norm.bias)
    with torch.no_grad():
        assert network.down5.norm(torch.full((1, 16, 1, 1), torch.nan)).isnan().all()


def test_settings_come_from_the_description_of_the_model() -> None:
    g = loaded("k3/g.keras")
    assert (g.down1.act.negative_slope, g.down2.norm.eps, g.up4.dropout.p, hasattr(g.up2, "dropout")) == (
        pytest.approx(0.3),
        1e-3,
        0.5,
        False,
    )
    assert g.down2.norm.momentum == 0.01  # Keras' 0.99


def test_sizes_are_those_for_which_the_padding_is_tensorflows() -> None:
    g, d, affinelayer = loaded("k2/g.h5"), loaded("k2/d.h5"), loaded("tf1/plain/model-200.index", "discriminator")
    assert (g.multiple, g.size) == (32, 256)
    assert (d.multiple, affinelayer.multiple) == (8, 1)  # affinelayer's code pads by 1 itself, whatever the size
    deep = UNet([Block({})] * 9, [Block({})] * 9, 3)
    assert (deep.multiple, deep.size) == (512, 512)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({'"negative_slope": 0.3': '"negative_slope": 0.1'}, None),
        ({'"epsilon": 0.001': '"epsilon": 0.01'}, None),
        ({'"class_name": "ReLU"': '"class_name": "ELU"'}, "it has a layer ELU"),
        ({'"activation": "tanh"': '"activation": "sigmoid"'}, "it has an activation sigmoid"),
        ({'"strides": [2, 2]': '"strides": [1, 1]'}, "its layers are connected in another way"),
        ({'"keras_history": ["sequential_3"': '"keras_history": ["sequential_2"'}, "connected in another way"),
    ],
)
def test_a_described_model_is_what_its_description_says(
    changes: dict[str, str], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # which opens other networks
    with zipfile.ZipFile(FILES / "k3/g.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = members["config.json"].decode()
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    with zipfile.ZipFile(tmp_path / "g.keras", "w") as archive:
        for name, content in {**members, "config.json": config.encode()}.items():
            archive.writestr(name, content)
    if said is not None:
        with pytest.raises(CheckpointError, match=f"is not a pix2pix network of .*: .*{said}"):
            READER(tmp_path / "g.keras", {})
        return
    network = READER(tmp_path / "g.keras", {}).model
    assert (round(network.down3.act.negative_slope, 3), network.down3.norm.eps) in [(0.1, 1e-3), (0.3, 0.01)]


def test_the_latest_checkpoint_of_a_folder_is_opened(tmp_path: Path) -> None:
    for path in (FILES / "k3/training_checkpoints").glob("ckpt-1.*"):
        for number in (1, 9, 10):
            shutil.copy(path, tmp_path / path.name.replace("ckpt-1", f"ckpt-{number}"))
    with pytest.raises(CheckpointError, match=r"3 checkpoints, .* name one: ckpt-1.index, ckpt-9.index, ckpt-10.index"):
        READER(tmp_path, {})
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/ckpt-9"\n')
    (tmp_path / "ckpt-10.index").write_bytes(b"")
    assert READER(tmp_path, {}).part == "generator"
    assert READER.recognizes_folder(tmp_path)
    assert not READER.recognizes_folder(HERE)
    assert READER(HERE / "test_tensorflow.py", {}) is None


def test_images_are_given_as_the_tutorial_gives_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pair.png")
    g, d, lab = (loaded(name) for name in ("k2/g.h5", "k2/d.h5", "tf1/lab_separable/model-200.index"))
    x = surgery.load_image(tmp_path / "pair.png", preprocessing=g.preprocessing)
    at = ((np.arange(256) + 0.5) * 100 / 256).astype(int)
    assert np.allclose(x[0].permute(1, 2, 0), pixels[:, 100:][at][:, at] / 127.5 - 1, atol=1e-6)
    both = surgery.load_image(tmp_path / "pair.png", preprocessing=d.preprocessing)
    assert torch.equal(both[:, :3], x)
    assert both.shape == (1, 6, 256, 256)
    assert lab.preprocessing.lightness
    assert lab.preprocessing.pair_side == "none"


def test_it_keeps_the_contract() -> None:
    check_checkpoint(
        READER, FILES / "k2/g.h5", FILES / "k3/g.keras", FILES / "tf1/first/model-200.index", FILES / "k3/export"
    )


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    shutil.copytree(FILES / "k3/training_checkpoints", tmp_path / "training_checkpoints")
    monkeypatch.chdir(tmp_path)
    exec(block[1].replace("load_model(", "load_model(plugins=plugins, source="), {"plugins": plugins()})  # noqa: S102
    manifest = json.loads(Path("activations/manifest.json").read_text())
    assert manifest["settings"]["preprocessing"]["interpolation"] == "nearest"

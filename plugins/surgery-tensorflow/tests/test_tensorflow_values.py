"""With Keras installed: layers of the networks have the values that Keras computes, and other models of Keras open."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from surgery_tensorflow import surgery_checkpoints
from torch import Tensor

import surgery
from surgery.data import inputs

if importlib.util.find_spec("keras") is None:
    pytest.skip("Keras 3 is not installed, which computes the values to compare with", allow_module_level=True)
os.environ.setdefault("KERAS_BACKEND", "torch")

FILES = Path(__file__).parent / "files"
READER: Any = surgery_checkpoints()["tensorflow"]


def values(network: Any, x: Tensor) -> dict[str, Tensor]:
    """Every value of a network, by the path of its operation."""
    opened = surgery.insert(traced := surgery.trace(network, x), surgery.operations(traced))
    with torch.no_grad():
        return {activation.path: activation.values.clone() for activation in surgery.record(opened, x)}


def keras_values(model: Any, given_inputs: list[Tensor]) -> dict[str, Tensor]:
    """What each layer of Keras' own model computes in eval mode, by its name, as ``(B, C, H, W)``."""
    found: dict[str, Tensor] = {}

    def run(layers: list[Any], values: dict[str, Tensor]) -> None:
        for layer in layers:
            for node in layer._inbound_nodes[-1:]:
                sources = [tensor._keras_history.operation.name for tensor in node.input_tensors]
                given = [values[source] for source in sources] or [given_inputs.pop(0).permute(0, 2, 3, 1)]
                if not sources:
                    values[layer.name] = given[0]
                    continue
                output = given[0]
                if hasattr(layer, "layers"):
                    for inner in layer.layers:
                        output = inner(output, training=False) if takes_training(inner) else inner(output)
                        found[inner.name] = output.permute(0, 3, 1, 2)
                else:
                    output = layer(given if len(given) > 1 else given[0])
                    found[layer.name] = output.permute(0, 3, 1, 2)
                values[layer.name] = output

    with torch.no_grad():
        run(model.layers, {})
    return found


def takes_training(layer: Any) -> bool:
    return type(layer).__name__ in ("BatchNormalization", "Dropout")


@pytest.mark.parametrize(("name", "count"), [("g", 27), ("d", 12)])
def test_each_layer_has_the_values_that_keras_computes(name: str, count: int) -> None:
    import keras

    model = keras.saving.load_model(FILES / f"k3/{name}.keras", compile=False)
    with np.load(FILES / "k3/ref.npz") as file:
        x, target = (torch.from_numpy(file[key]).float().permute(0, 3, 1, 2) for key in ("x", "t"))
    own = values(READER(FILES / f"k3/{name}.keras", {}).model.eval(), x if name == "g" else torch.cat([x, target], 1))
    known = keras_values(model, [x] if name == "g" else [x, target])
    kinds = {"conv": r"conv2d(_\d+)?", "deconv": r"conv2d_transpose(_\d+)?", "norm": r"batch_normalization(_\d+)?"}
    compared = 0
    for kind, pattern in kinds.items():
        theirs = [value for layer, value in known.items() if re.fullmatch(pattern, layer)]
        ours = [value for path, value in own.items() if path.split(".")[-1].replace("score", "conv") == kind]
        if kind == "deconv":  # the last one's activation is a part of it in Keras
            ours[-1:] = [own["up1.tanh"]] if ours else []
        assert len(theirs) == len(ours)
        for one, other in zip(ours, theirs, strict=True):
            assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())
            compared += 1
    acts = [value for path, value in own.items() if path.endswith(".act")]
    others = [value for layer, value in known.items() if re.fullmatch(r"(leaky_)?re_lu(_\d+)?", layer)]
    for one, other in zip(acts, others, strict=True):
        assert float((one - other).abs().max()) <= 1e-5 * float(other.abs().max())
    assert compared + len(acts) == count


def test_another_model_of_keras_opens_under_the_names_of_its_layers(tmp_path: Path) -> None:
    with np.load(FILES / "k3/other.npz") as file:
        x, y = torch.from_numpy(file["x"]).float().permute(0, 3, 1, 2), torch.from_numpy(file["y"])
    network = READER(FILES / "k3/other.keras", {}).model.eval()
    own = values(network, x)
    assert list(own) == [
        *("stem", "inner", "sum", "multiply", "block.conv", "block.norm", "block.act", "drop", "pool", "classes"),
    ]
    assert own["stem"].shape == (1, 4, 32, 32)
    assert torch.allclose(own["classes"], y, rtol=1e-5, atol=1e-6)
    traced = surgery.trace(network, x)
    assert {each.path: each.kind for each in surgery.operations(traced)}["block.norm"] == "batchnormalization"
    report = surgery.extract(network, inputs()[0], out=tmp_path / "out", at="stem", size=32)
    assert report.images == 1
    with torch.no_grad():
        assert not torch.equal(network.train()(x), network(x))  # dropout
        assert torch.equal(network.eval()(x), own["classes"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
def test_an_hdf5_file_of_another_model_opens(tmp_path: Path) -> None:
    import keras

    layers = [keras.layers.Conv2D(4, 3, name="stem"), keras.layers.BatchNormalization(name="norm")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    model.save(tmp_path / "other.h5")
    x = torch.rand(1, 3, 8, 8)
    network = READER(tmp_path / "other.h5", {}).model.eval()
    assert list(values(network, x)) == ["stem", "norm"]
    with torch.no_grad():
        assert torch.allclose(network(x), model(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), rtol=1e-5, atol=1e-6)

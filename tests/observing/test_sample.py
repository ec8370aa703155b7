"""The certificate passes on observed models in the styles of the libraries that symbolic tracing can't take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import surgery
from tests.observing.sample_nets import Decoder, Detector, DiffusionUNet, Encoder

torch.manual_seed(0)
TEXT = {
    "input_ids": torch.randint(0, 20, (2, 6)),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]),
    "output_hidden_states": True,
}
NOISE = {
    "sample": torch.randn(2, 4, 8, 8),
    "timestep": torch.tensor([3, 500]),
    "encoder_hidden_states": torch.randn(2, 5, 16),
}
SAMPLE: dict[str, tuple[type[nn.Module], tuple[Any, ...], set[str]]] = {
    "encoder with a mask": (Encoder, (TEXT,), {"batch 4"}),
    "decoder with a cache": (Decoder, (torch.randint(0, 20, (2, 4)),), {"batch 4"}),
    "detector": (Detector, ([torch.randn(3, 12, 12), torch.randn(3, 10, 14)],), set()),
    "diffusion": (DiffusionUNet, (NOISE,), {"batch 4", "8x16"}),
    "diffusion of another size, at one step": (
        DiffusionUNet,
        ({"sample": torch.randn(1, 4, 10, 6), "timestep": 7, "return_dict": False},),
        {"batch 2", "10x12"},
    ),
}


@pytest.mark.parametrize(("make", "inputs", "others"), SAMPLE.values(), ids=SAMPLE)
def test_an_observed_model_is_certified(make: type[nn.Module], inputs: tuple[Any, ...], others: set[str]) -> None:
    torch.manual_seed(1)
    model = make().eval()
    traced = surgery.trace(model, inputs[0] if isinstance(inputs[0], dict) else inputs)
    assert traced.front_end == "observed", traced.reason
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    certificate = surgery.certify(model, opened, *inputs)
    assert certificate.same, certificate.difference
    assert not [c for c in certificate.comparisons if c.same is None and c.difference]
    assert {c.case for c in certificate.comparisons if c.mode} == {"example", "again", *others}
    values = [c.count for c in certificate.comparisons if c.what == "values" and c.case == "example"]
    assert min(values) > 30


def test_a_detector_of_torchvision_is_certified() -> None:
    torch.manual_seed(1)
    make = torchvision.models.detection.ssdlite320_mobilenet_v3_large
    model = make(weights=None, weights_backbone=None, num_classes=3, detections_per_img=5).eval()
    images = [torch.rand(3, 40, 50)]
    traced = surgery.trace(model, (images,))
    certificate = surgery.certify(model, traced, images, modes=["eval"], others=False)
    assert certificate.same, certificate.difference
    (values,) = [c.count for c in certificate.comparisons if c.what == "values"]
    assert values > 300

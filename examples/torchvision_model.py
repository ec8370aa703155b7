"""Any model that torch.fx can trace: what the additions of a ResNet give (here with random weights)."""

import torch

import surgery
from surgery.builtin import Percentile
from surgery.data import inputs

torch.manual_seed(0)
report = surgery.extract(
    surgery.load_model("torchvision/resnet18"),
    inputs()[:1],
    at="op:add | maxpool",
    out="torchvision_model",
    normalizer=Percentile(1, 99),
    colormap="magma",
    size=224,
)
print(f"{report.files} files in {report.folder}/, among them facade-1/sheet.png")

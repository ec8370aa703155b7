from __future__ import annotations

from pathlib import Path

import pytest
import torch

from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Of a U-Net as small as one can be, in the public layout."""
    file = tmp_path / "latest_net_G.pth"
    torch.manual_seed(0)
    torch.save(to_public(UNet(5, width=2)), file)
    return file

"""The networks of pix2pix, with weights under our own keys and under those of the public checkpoints.

Options come in and a network with random weights goes out; a state_dict comes in and its architecture goes out.
"""

from __future__ import annotations

from surgery.models.pix2pix.patchgan import PatchGAN, PixelGAN
from surgery.models.pix2pix.resnet import ResNet
from surgery.models.pix2pix.state_dicts import Network, from_public, read_architecture, to_public
from surgery.models.pix2pix.unet import UNet

__all__ = ["Network", "PatchGAN", "PixelGAN", "ResNet", "UNet", "from_public", "read_architecture", "to_public"]

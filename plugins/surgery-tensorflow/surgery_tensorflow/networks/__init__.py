"""The networks of TensorFlow's pix2pix codes, with the module names that surgery gives to pix2pix's.

Shapes and options come in, and a network without values goes out, on the device that torch uses at the moment. What
differs from the public PyTorch code is in the blocks: the order of activation, convolution and norm, and the order of
the values that are concatenated.
"""

from __future__ import annotations

from surgery_tensorflow.networks.blocks import Block
from surgery_tensorflow.networks.norms import BatchNorm2d, InstanceNorm2d
from surgery_tensorflow.networks.patchgan import PatchGAN
from surgery_tensorflow.networks.preprocessing import build_preprocessing
from surgery_tensorflow.networks.unet import UNet

__all__ = ["BatchNorm2d", "Block", "InstanceNorm2d", "PatchGAN", "UNet", "build_preprocessing"]

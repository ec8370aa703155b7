"""Networks typed anew, small, in the styles that people write for restoration, generation and motion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.zoo.inputs import Drawn, floats, images, integers
from benchmarks.zoo.retyped import attention, enhancement, generation, motion, restoration, translation
from benchmarks.zoo.zoo_model import ZooModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Generator, Tensor, nn


def list_models() -> Iterator[ZooModel]:
    """Yield each network."""
    for kind, takes in NETWORKS.items():
        packages = ("einops",) if kind in {enhancement.Restormer, enhancement.Uformer} else ()
        yield ZooModel("retyped", kind.__name__, kind, (), packages, takes)


def _fill_holes(shape: tuple[int, ...], generator: Generator) -> Tensor:
    import torch

    return (torch.rand(shape, generator=generator) > 0.3).float()


def _fill_coordinates(shape: tuple[int, ...], generator: Generator) -> Tensor:
    import torch

    return torch.rand(shape, generator=generator) * 2 - 1


_IMAGE = images(32, 48)
_MASK = Drawn((1, 32, 32), (1, 48, 48), _fill_holes)

NETWORKS: dict[type[nn.Module], tuple[Any, ...] | dict[str, Any]] = {
    restoration.EDSR: (_IMAGE,),
    restoration.RRDBNet: (_IMAGE,),
    restoration.SwinIR: (images(16, 22),),
    restoration.NAFNet: (images(30, 42),),
    enhancement.Restormer: (_IMAGE,),
    enhancement.Uformer: (_IMAGE,),
    enhancement.MWCNN: (_IMAGE,),
    enhancement.FourierConvolution: (_IMAGE,),
    enhancement.ZeroDCE: (_IMAGE,),
    enhancement.KernelPrediction: (_IMAGE,),
    enhancement.PartialConvolution: (_IMAGE, _MASK),
    generation.StyleGAN2: (floats(16),),
    generation.StyleGAN2Discriminator: (_IMAGE,),
    generation.SPADE: {"input": _IMAGE},
    generation.MultiscaleDiscriminator: (_IMAGE,),
    translation.ResnetGenerator: (_IMAGE,),
    translation.PatchSampler: (_IMAGE,),
    translation.FirstWeightFilter: (_IMAGE,),
    translation.InstanceFeatures: {
        "input": _IMAGE,
        "inst": integers(1, 32, 32, below=4, other=(1, 48, 48)),
    },
    translation.AdaIN: {"content": _IMAGE, "style": images(24, 40)},
    translation.StarGAN: (_IMAGE, floats(4)),
    translation.HookedFeatures: (_IMAGE,),
    translation.PerceptualDistance: (_IMAGE, _IMAGE),
    motion.RIFE: (images(32, 48, channels=6),),
    motion.PWCNet: (_IMAGE, _IMAGE),
    motion.RAFT: {"image1": _IMAGE, "image2": _IMAGE},
    motion.BasicVSR: (floats(3, 3, 16, 16, other=(4, 3, 24, 24)),),
    motion.LIIF: {
        "inp": images(12, 16),
        "coord": Drawn((20, 2), (30, 2), _fill_coordinates),
        "cell": Drawn((20, 2), (30, 2), _fill_coordinates),
    },
    attention.VQGAN: (_IMAGE,),
    attention.BigGAN: {"z": floats(12), "y": integers(below=5)},
    attention.IMDN: (_IMAGE,),
    attention.U2Net: (_IMAGE,),
    attention.HandSpectralNorm: (_IMAGE,),
}
